package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/internal/retry"
)

// lane is a set of builds that share one subscription, one decode and one transaction for each batch. Its handler runs one
// batch at a time, so its fields need no lock.
type lane struct {
	term     *term
	name     string // for logs
	members  []*member
	building bool               // they are all being built: their batches are large
	stale    bool               // the last attempt failed: the members are to be loaded before the next
	since    time.Time          // when the last batch was stored, or the subscription began
	events   []domain.Recorded  // room for those of a batch
	end      context.CancelFunc // ends the subscription, when there is something else to do

	caughtUp atomic.Bool
	event    atomic.Pointer[domain.Position] // the last that all members have, for the watchdog
	handling atomic.Bool                     // a batch or a stage is in hand
}

// lanes puts members behind the same event together, and those that have caught up with each other, wherever they stand:
// each drops what it has already. What is being built stays apart from what serves.
func (t *term) lanes() []*lane {
	type place struct {
		event    domain.Position
		building bool
	}
	var list []*lane
	at := map[place]*lane{}
	var live *lane
	for _, m := range t.members {
		if m.problem != "" {
			continue
		}
		where := place{m.event.Position, m.state == stateBuilding}
		l := at[where]
		if m.caughtUp {
			l = live
		}
		if l == nil {
			l = &lane{term: t, building: where.building, end: func() {}}
			list = append(list, l)
			if m.caughtUp {
				live = l
				l.caughtUp.Store(true)
			} else {
				at[where] = l
			}
		}
		if l.members != nil {
			l.name += "+"
		}
		l.name += m.Table.Name
		l.members = append(l.members, m)
	}
	for _, l := range list {
		l.stand() // a look of the watchdog before the lane reads finds it where it stood
	}
	return list
}

// stand notes and returns the last event that all members have. What was searched behind it is searched again: a log that was
// restored meanwhile may have other events there.
func (l *lane) stand() domain.Mark {
	last := slices.MinFunc(l.members, func(a, b *member) int {
		return cmp.Or(a.event.Position.Compare(b.event.Position), cmp.Compare(b.event.ID, a.event.ID)) // one with an id first
	}).event
	l.event.Store(&last.Position)
	return last
}

// run does what the stages of the members ask for, and reads the log, in turns, until ctx ends or the lane cannot go on.
func (l *lane) run(ctx context.Context) error {
	r := l.term.runner
	pauses := retry.Backoff{First: r.opts.Retry, Most: follow.MaxRetry}
	for ctx.Err() == nil {
		if err := l.stages(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // it is not tried again
			}
			if kind, class := classify(err); kind == transient && !errors.Is(err, errFenced) && !errors.Is(err, errRegroup) {
				r.metrics.retry(class)
				r.health(l.name, err)
				pause := pauses.Next()
				r.log.WarnContext(ctx, "a stage of a build is tried again", "projections", l.name, "err", err, "wait", pause)
				retry.Sleep(ctx, retry.Spread(pause))
				continue
			}
			return err
		}
		r.health(l.name, nil)
		pauses.Reset()
		if len(l.members) == 0 {
			return errRegroup
		}
		if err := l.read(ctx); err != nil {
			return err
		}
	}
	return nil
}

// read reads the log from where the last of the members stands, until ctx ends, a stage is over or the log cannot go on.
func (l *lane) read(ctx context.Context) error {
	r := l.term.runner
	after := l.stand()
	opts := r.opts.Bus
	if l.building {
		opts.MaxEvents, opts.MaxBytes, opts.Linger = buildEvents, r.opts.BuildBytes, buildLinger
	}
	r.log.InfoContext(ctx, "projections start", "projections", l.name, "position", after.Position)
	ctx, l.end = context.WithCancel(ctx)
	defer l.end()
	l.since = time.Now()
	subscriber := bus.NewSubscriber(l.receive, after, r.decode, opts)
	err := bus.Run(ctx, l.name, subscriber, l.handle, r.metrics.batch)
	if errors.Is(err, bus.ErrOrder) {
		err = errors.Join(err, l.distrust(ctx, err))
	}
	return err
}

// distrust halts the members for good: what came before the log's fault was noticed may have moved them past an event that
// never came, and whoever reads on from there would not miss it.
func (l *lane) distrust(ctx context.Context, fault error) (failed error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	for _, m := range l.members {
		m.distrusted = true
		problem := fmt.Sprintf("%s; the rows may lack events: run `rapport projections rebuild %s`", fault, m.Name)
		failed = errors.Join(failed, l.term.halt(ctx, l.term.runner.pool, m, problem))
	}
	return failed
}

// receive is the log as the lane sees it.
func (l *lane) receive(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	r := l.term.runner
	return func(yield func(eventlog.Message, error) bool) {
		for m, err := range r.source.Subscribe(ctx, after) {
			if err == nil && m.Raw != nil {
				err = r.step(stepReceive)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// handle stores one batch or returns an error, after which the batch comes again or the lane is stopped.
func (l *lane) handle(ctx context.Context, batch *bus.Batch) error {
	l.handling.Store(true)
	defer l.handling.Store(false)
	err := l.term.runner.step(stepDecoded)
	if err == nil {
		err = l.settle(ctx)
	}
	if err == nil {
		err = l.follows(batch)
	}
	if err == nil {
		err = l.apply(ctx, batch)
	}
	if err == nil {
		err = l.term.runner.step(stepAck)
	}
	var mismatch *LogMismatchError
	switch {
	case err == nil:
		l.term.runner.health(l.name, nil)
		l.advance(batch)
		return nil
	case errors.Is(err, errFenced), errors.Is(err, errRegroup), errors.As(err, &mismatch), errors.Is(err, bus.ErrOrder), errors.Is(err, eventlog.ErrOtherLog):
		l.term.interrupt(err)
	case ctx.Err() != nil: // it is not tried again
	default:
		_, class := classify(err)
		l.term.runner.metrics.retry(class)
		l.term.runner.health(l.name, err)
	}
	l.stale = true
	return err
}

// follows returns an error when events are missing between the members' rows and a batch, or the batch goes past the last event
// of a member's rows and holds another one in its place.
func (l *lane) follows(batch *bus.Batch) error {
	for _, m := range l.members {
		if m.at.Before(batch.After) {
			return fmt.Errorf("%w: a batch begins behind %s, and %s stands at %s", bus.ErrOrder, batch.After, m.key(), m.at)
		}
		if m.event.ID == "" || !batch.After.Before(m.event.Position) || batch.End.Before(m.event.Position) {
			continue
		}
		at, found := slices.BinarySearchFunc(batch.Items, m.event.Position, func(i bus.Item, p domain.Position) int { return i.Raw.Position.Compare(p) })
		if !found || batch.Items[at].Mark() != m.event {
			return fmt.Errorf("%w: event %s, the last of %s, did not come at %s", eventlog.ErrOtherLog, m.event.ID, m.key(), m.event.Position)
		}
	}
	return nil
}

// settle loads the members' state when the last attempt may have left another.
func (l *lane) settle(ctx context.Context) error {
	if !l.stale {
		return nil
	}
	names, versions, builds := identity(l.members)
	rows, err := l.term.runner.pool.Query(ctx, readSQL, names, versions, builds)
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return err
	}
	found := map[buildKey]checkpoint{}
	for _, c := range stored {
		found[c.buildKey] = c
	}
	for _, m := range l.members {
		c, ok := found[m.buildKey]
		switch {
		case ok && c.epoch != m.epoch:
			return errFenced
		case !ok || c.generation != m.generation:
			return errRegroup
		case c.at.Before(m.at), c.event != m.event && !m.event.Position.Before(c.event.Position): // a database that has lost commits: what lies between has to be read again
			return errRegroup
		}
	}
	parked, err := l.term.parkedStreams(ctx)
	if err != nil {
		return err
	}
	for _, m := range l.members {
		m.load(found[m.buildKey], parked[m.buildKey])
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
	m.engine.Reset(c.event.Position.IsZero())
	m.sync()
}

// advance is called after each batch that is stored: members that are halted leave, those that have come to the end of a
// stage go on with the next, and lanes that have caught up are joined.
func (l *lane) advance(batch *bus.Batch) {
	if last := batch.Last().Position; !last.IsZero() {
		l.event.Store(&last)
	}
	l.leave()
	if len(l.members) == 0 || slices.ContainsFunc(l.members, func(m *member) bool { return m.state == stateIndexing || m.state == stateVerifying }) {
		l.end()
		return
	}
	if batch.CaughtUp {
		for _, m := range l.members {
			m.caughtUp = true
		}
		l.caughtUp.Store(true)
		l.term.join()
	}
}

// leave lets go of members that are halted.
func (l *lane) leave() {
	if slices.ContainsFunc(l.members, func(m *member) bool { return m.problem != "" }) {
		l.members = slices.DeleteFunc(slices.Clone(l.members), func(m *member) bool { return m.problem != "" })
	}
}
