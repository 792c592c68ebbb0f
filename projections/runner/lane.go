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
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// lane is a set of builds that share one subscription, one decode and one transaction for each batch. Its handler runs one
// batch at a time, so its fields need no lock.
type lane struct {
	apply.Group
	term  *term
	stale bool               // the last attempt failed: the members are to be loaded before the next
	end   context.CancelFunc // ends the subscription, when there is something else to do

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
		if m.Problem != "" {
			continue
		}
		where := place{m.Event.Position, m.State == build.Building}
		l := at[where]
		if m.CaughtUp {
			l = live
		}
		if l == nil {
			l = t.newLane(where.building)
			list = append(list, l)
			if m.CaughtUp {
				live = l
				l.caughtUp.Store(true)
			} else {
				at[where] = l
			}
		}
		if l.Members != nil {
			l.Name += "+"
		}
		l.Name += m.Table.Name
		l.Members = append(l.Members, m)
	}
	for _, l := range list {
		l.stand() // a look of the watchdog before the lane reads finds it where it stood
	}
	return list
}

// newLane makes a lane of nobody.
func (t *term) newLane(building bool) *lane {
	r := t.runner
	group := apply.Group{Pool: r.pool, LogID: t.logID, Building: building, Logger: r.log, Count: r.metrics.applied, Step: r.at}
	return &lane{Group: group, term: t, end: func() {}}
}

// stand notes and returns the last event that all members have. What was searched behind it is searched again: a log that was
// restored meanwhile may have other events there.
func (l *lane) stand() domain.Mark {
	last := slices.MinFunc(l.Members, func(a, b *apply.Member) int {
		return cmp.Or(a.Event.Position.Compare(b.Event.Position), cmp.Compare(b.Event.ID, a.Event.ID)) // one with an id first
	}).Event
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
			if kind, class := fault.Classify(err); kind == fault.Transient && !errors.Is(err, fault.ErrFenced) && !errors.Is(err, fault.ErrRegroup) {
				r.metrics.retry(class)
				r.health(l.Name, err)
				pause := pauses.Next()
				r.log.WarnContext(ctx, "a stage of a build is tried again", "projections", l.Name, "err", err, "wait", pause)
				retry.Sleep(ctx, retry.Spread(pause))
				continue
			}
			return err
		}
		r.health(l.Name, nil)
		pauses.Reset()
		if len(l.Members) == 0 {
			return fault.ErrRegroup
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
	if l.Building {
		opts.MaxEvents, opts.MaxBytes, opts.Linger = buildEvents, r.opts.BuildBytes, buildLinger
	}
	r.log.InfoContext(ctx, "projections start", "projections", l.Name, "position", after.Position)
	ctx, l.end = context.WithCancel(ctx)
	defer l.end()
	l.Begin()
	subscriber := bus.NewSubscriber(l.receive, after, r.decode, opts)
	err := bus.Run(ctx, l.Name, subscriber, l.handle, r.metrics.batch)
	if errors.Is(err, bus.ErrOrder) {
		err = errors.Join(err, l.distrust(ctx, err))
	}
	return err
}

// haltTimeout bounds the noting that members are not to be trusted, also when the process stops.
const haltTimeout = 5 * time.Second

// distrust halts the members for good: what came before the log's fault was noticed may have moved them past an event that
// never came, and whoever reads on from there would not miss it.
func (l *lane) distrust(ctx context.Context, fault error) (failed error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), haltTimeout)
	defer cancel()
	for _, m := range l.Members {
		m.Distrusted = true
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
		err = l.Apply(ctx, batch)
	}
	if err == nil {
		err = l.term.runner.step(stepAck)
	}
	var mismatch *build.LogMismatchError
	switch {
	case err == nil:
		l.term.runner.health(l.Name, nil)
		l.advance(batch)
		return nil
	case errors.Is(err, fault.ErrFenced), errors.Is(err, fault.ErrRegroup), errors.As(err, &mismatch), errors.Is(err, bus.ErrOrder), errors.Is(err, eventlog.ErrOtherLog):
		l.term.interrupt(err)
	case ctx.Err() != nil: // it is not tried again
	default:
		_, class := fault.Classify(err)
		l.term.runner.metrics.retry(class)
		l.term.runner.health(l.Name, err)
	}
	l.stale = true
	return err
}

// follows returns an error when events are missing between the members' rows and a batch, or the batch goes past the last event
// of a member's rows and holds another one in its place.
func (l *lane) follows(batch *bus.Batch) error {
	for _, m := range l.Members {
		if m.At.Before(batch.After) {
			return fmt.Errorf("%w: a batch begins behind %s, and %s stands at %s", bus.ErrOrder, batch.After, m.Label(), m.At)
		}
		if m.Event.ID == "" || !batch.After.Before(m.Event.Position) || batch.End.Before(m.Event.Position) {
			continue
		}
		at, found := slices.BinarySearchFunc(batch.Items, m.Event.Position, func(i bus.Item, p domain.Position) int { return i.Raw.Position.Compare(p) })
		if !found || batch.Items[at].Mark() != m.Event {
			return fmt.Errorf("%w: event %s, the last of %s, did not come at %s", eventlog.ErrOtherLog, m.Event.ID, m.Label(), m.Event.Position)
		}
	}
	return nil
}

// settle loads the members' state when the last attempt may have left another.
func (l *lane) settle(ctx context.Context) error {
	if !l.stale {
		return nil
	}
	names, versions, builds := apply.Identity(l.Members)
	rows, err := l.term.runner.pool.Query(ctx, build.ReadSQL, names, versions, builds)
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, build.Scan)
	if err != nil {
		return err
	}
	found := map[build.Key]build.Checkpoint{}
	for _, c := range stored {
		found[c.Key] = c
	}
	for _, m := range l.Members {
		c, ok := found[m.Key]
		switch {
		case ok && c.Epoch != m.Epoch:
			return fault.ErrFenced
		case !ok || c.Generation != m.Generation:
			return fault.ErrRegroup
		case c.At.Before(m.At), c.Event != m.Event && !m.Event.Position.Before(c.Event.Position): // a database that has lost commits: what lies between has to be read again
			return fault.ErrRegroup
		}
	}
	parked, err := l.term.parkedStreams(ctx)
	if err != nil {
		return err
	}
	for _, m := range l.Members {
		m.Load(found[m.Key], parked[m.Key])
	}
	l.stale = false
	return nil
}

// advance is called after each batch that is stored: members that are halted leave, those that have come to the end of a
// stage go on with the next, and lanes that have caught up are joined.
func (l *lane) advance(batch *bus.Batch) {
	if last := batch.Last().Position; !last.IsZero() {
		l.event.Store(&last)
	}
	l.leave()
	if len(l.Members) == 0 || slices.ContainsFunc(l.Members, func(m *apply.Member) bool { return m.State == build.Indexing || m.State == build.Verifying }) {
		l.end()
		return
	}
	if batch.CaughtUp {
		for _, m := range l.Members {
			m.CaughtUp = true
		}
		l.caughtUp.Store(true)
		l.term.join()
	}
}

// leave lets go of members that are halted.
func (l *lane) leave() {
	if slices.ContainsFunc(l.Members, func(m *apply.Member) bool { return m.Problem != "" }) {
		l.Members = slices.DeleteFunc(slices.Clone(l.Members), func(m *apply.Member) bool { return m.Problem != "" })
	}
}
