package runner

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
)

// lane is a set of projections that share one subscription, one decode and one transaction for each batch. Its handler
// runs one batch at a time, so its fields need no lock.
type lane struct {
	term    *term
	name    string // for logs
	members []*member
	stale   bool // the last attempt failed: the members are to be loaded before the next

	caughtUp atomic.Bool
	at       atomic.Pointer[domain.Position] // for the watchdog
	handling atomic.Bool                     // a batch is in hand
}

// lanes puts members at the same position together, and those that have caught up with each other, wherever they stand:
// each drops what it has already.
func (t *term) lanes() []*lane {
	var list []*lane
	at := map[domain.Position]*lane{}
	var live *lane
	for _, m := range t.members {
		if m.state == stateHalted {
			continue
		}
		l := at[m.at]
		if m.caughtUp {
			l = live
		}
		if l == nil {
			l = &lane{term: t}
			list = append(list, l)
			if m.caughtUp {
				live = l
				l.caughtUp.Store(true)
			} else {
				at[m.at] = l
			}
		}
		if l.members != nil {
			l.name += "+"
		}
		l.name += m.Name
		l.members = append(l.members, m)
	}
	return list
}

// run reads the log from where the last of the members stands, until ctx ends or the log cannot go on.
func (l *lane) run(ctx context.Context) error {
	r := l.term.runner
	last := slices.MinFunc(l.members, func(a, b *member) int { return a.at.Compare(b.at) })
	at := last.at
	l.at.Store(&at)
	r.log.InfoContext(ctx, "projections start", "projections", l.name, "position", at)
	subscriber := bus.NewSubscriber(r.source.Subscribe, at, r.decode, r.opts.Bus)
	return bus.Run(ctx, l.name, subscriber, l.handle, r.metrics.batch)
}

// handle stores one batch or returns an error, after which the batch comes again or the lane is stopped.
func (l *lane) handle(ctx context.Context, batch *bus.Batch) error {
	l.handling.Store(true)
	defer l.handling.Store(false)
	err := l.settle(ctx)
	if err == nil && batch.CaughtUp {
		err = l.index(ctx)
	}
	if err == nil {
		err = l.apply(ctx, batch)
	}
	var mismatch *LogMismatchError
	switch {
	case err == nil:
		l.term.runner.health(l.name, nil)
		l.advance(batch)
		return nil
	case errors.Is(err, errFenced), errors.Is(err, errRegroup), errors.As(err, &mismatch):
		l.term.interrupt(err)
	default:
		_, class := classify(err)
		l.term.runner.metrics.retry(class)
		l.term.runner.health(l.name, err)
	}
	l.stale = true
	return err
}

// index makes the indexes of tables that are about to be complete: rows are loaded faster without. One that cannot be
// made halts its projection. The planner's statistics come last.
func (l *lane) index(ctx context.Context) error {
	for _, m := range l.members {
		if m.state != stateRebuilding {
			continue
		}
		for _, sql := range append(m.Table.IndexSQL(), m.Table.AnalyzeSQL()) {
			_, err := l.term.runner.pool.Exec(ctx, sql)
			switch kind, _ := classify(err); {
			case err == nil:
			case kind == transient:
				return err
			default:
				return errors.Join(errRegroup, l.term.halt(ctx, l.term.runner.pool, m, driftProblem(m.Name, "an index cannot be made: "+err.Error())))
			}
		}
	}
	return nil
}

// settle loads the members' state when the last attempt may have left another.
func (l *lane) settle(ctx context.Context) error {
	if !l.stale {
		return nil
	}
	names, versions := identity(l.members)
	rows, err := l.term.runner.pool.Query(ctx, readSQL, names, versions)
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return err
	}
	byName := map[string]checkpoint{}
	for _, c := range stored {
		byName[c.name] = c
	}
	for _, m := range l.members {
		c, ok := byName[m.Name]
		switch {
		case !ok || c.epoch != m.epoch:
			return errFenced
		case c.generation != m.generation:
			return errRegroup
		case c.at.Before(m.at): // a database that has lost commits: what lies between has to be read again
			return errRegroup
		}
	}
	parked, err := l.term.parkedStreams(ctx)
	if err != nil {
		return err
	}
	for _, m := range l.members {
		m.load(byName[m.Name], parked[m.Name])
	}
	l.stale = false
	return nil
}

// load takes the stored state of a member and forgets rows.
func (m *member) load(c checkpoint, parked map[string]bool) {
	m.checkpoint = c
	m.parked = parked
	if m.parked == nil {
		m.parked = map[string]bool{}
	}
	m.engine.Reset(c.at.IsZero())
}

// advance is called after each batch that is stored: halted members leave, and lanes that have caught up are joined.
func (l *lane) advance(batch *bus.Batch) {
	if !batch.End.IsZero() {
		l.at.Store(&batch.End)
	}
	if slices.ContainsFunc(l.members, func(m *member) bool { return m.state == stateHalted }) {
		l.members = slices.DeleteFunc(slices.Clone(l.members), func(m *member) bool { return m.state == stateHalted })
		if len(l.members) == 0 {
			l.term.interrupt(errRegroup)
			return
		}
	}
	if batch.CaughtUp {
		for _, m := range l.members {
			m.caughtUp = true
		}
		l.caughtUp.Store(true)
		l.term.join()
	}
}
