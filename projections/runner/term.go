package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/internal/retry"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// term is the time during which this process owns projections: it holds their advisory locks, so that others do not try, and
// its epoch stands in the checkpoints, so that others could not.
//
// A term is what follow.Follower is for one checkpoint, and differs from it in three things. Rows and checkpoint move in one
// transaction, and the fence is looked at there. Many checkpoints, one for each build, share a subscription. And what is owned
// may grow, when the lock of a projection becomes free.
type term struct {
	runner      *Runner
	projections []*projection.Compiled // owned
	epoch       int64
	logID       string
	members     []*apply.Member // the builds of these, in order
	due         chan struct{}   // holds a token when the keeper should look

	mu      sync.Mutex
	cancel  context.CancelCauseFunc // of the round; nil between rounds
	running []*lane                 // lanes of the round
	halting []*apply.Member         // members of the round, also those that have left their lane
}

// work works until ctx ends, the locks or the fence is lost, or something is wrong that time does not heal.
func (t *term) work(ctx context.Context, lock *pgx.Conn) error {
	if err := t.sign(ctx); err != nil {
		return err
	}
	if err := t.take(ctx); err != nil {
		return err
	}
	return follow.Beside(ctx, t.rounds, t.beats(lock), t.probe, t.keep, t.unseal)
}

func (r *Runner) newTerm(owned []*projection.Compiled) *term {
	return &term{runner: r, projections: owned, due: make(chan struct{}, 1)}
}

// rounds runs rounds until one ends for good.
func (t *term) rounds(ctx context.Context) error {
	pauses := retry.Backoff{First: t.runner.opts.Retry, Most: follow.MaxRetry}
	for {
		err := t.round(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fault.ErrRegroup):
			pauses.Reset()
			continue
		case errors.Is(err, fault.ErrFenced), build.Refused(err):
			return err
		}
		_, class := fault.Classify(err)
		t.runner.metrics.retry(class)
		t.runner.health(roundHealth, err)
		pause := pauses.Next()
		t.runner.log.WarnContext(ctx, "projections interrupted", "err", err, "wait", pause)
		if !retry.Sleep(ctx, retry.Spread(pause)) {
			return context.Cause(ctx)
		}
	}
}

// round adopts new builds, loads all members, checks that they and the log belong together, and runs lanes until something interrupts them.
func (t *term) round(ctx context.Context) error {
	if err := t.adopt(ctx); err != nil {
		return err
	}
	if err := t.load(ctx); err != nil {
		return err
	}
	if err := t.verify(ctx); err != nil {
		return err
	}
	t.runner.recovered()
	lanes := t.lanes()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.start(cancel, lanes)
	defer t.start(nil, lanes) // which stand where they stood, for the watchdog
	var g errgroup.Group
	for _, l := range lanes {
		g.Go(func() error {
			err := l.run(ctx)
			cancel(err) // the first cause stays
			return nil
		})
	}
	if len(lanes) == 0 {
		<-ctx.Done() // everything is halted: a rebuild or a retry ends the round
	}
	_ = g.Wait() // lanes tell by cancelling
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return fault.ErrRegroup
}

// unseal looks from time to time whether the events at which members are halted can be opened by now, and begins a round with those
// of which that is true.
func (t *term) unseal(ctx context.Context) error {
	const sql = "update projection.checkpoint set problem = '', updated_at = now() where name = $1 and version = $2 and build = $3 and epoch = $4 and not distrusted"
	for retry.Sleep(ctx, t.runner.opts.Unseal) {
		opened := false
		for _, m := range t.sealed() {
			if _, err := t.runner.decode.Decode(*m.Sealed.Load()); errors.Is(err, codec.ErrSealed) {
				continue
			}
			if _, err := t.runner.pool.Exec(ctx, sql, m.Name, m.Version, m.Number, t.epoch); err != nil {
				t.runner.log.WarnContext(ctx, "a projection that can go on is still halted", "projection", m.Name, "err", err)
				continue
			}
			m.Sealed.Store(nil)
			opened = true
		}
		if opened {
			t.interrupt(fault.ErrRegroup)
		}
	}
	return context.Cause(ctx)
}

// sealed returns the members that are halted at an event that could not be opened.
func (t *term) sealed() (list []*apply.Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.halting {
		if m.Sealed.Load() != nil {
			list = append(list, m)
		}
	}
	return list
}

// start notes what the round runs.
func (t *term) start(cancel context.CancelCauseFunc, lanes []*lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel, t.running = cancel, lanes
	t.halting = slices.Clone(t.members)
}

// interrupt ends the round, and reports whether there was one.
func (t *term) interrupt(cause error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancel != nil {
		t.cancel(cause)
	}
	return t.cancel != nil
}

// join ends the round when two lanes can go on as one.
func (t *term) join() {
	t.mu.Lock()
	defer t.mu.Unlock()
	caughtUp := 0
	for _, l := range t.running {
		if l.caughtUp.Load() {
			caughtUp++
		}
	}
	if caughtUp > 1 && t.cancel != nil {
		t.cancel(fault.ErrRegroup)
	}
}

// load reads the checkpoints and parked streams of all members.
func (t *term) load(ctx context.Context) error {
	stored, err := t.stored(ctx, t.runner.pool)
	if err != nil {
		return err
	}
	parked, err := t.parkedStreams(ctx)
	if err != nil {
		return err
	}
	found := map[build.Key]build.Checkpoint{}
	for _, c := range stored {
		switch c.Epoch {
		case t.epoch:
			found[c.Key] = c
		case 0: // asked for since, maybe under the number of one that was dropped: the next round adopts it
		default:
			return fault.ErrFenced
		}
	}
	t.members = slices.DeleteFunc(t.members, func(m *apply.Member) bool { _, ok := found[m.Key]; return !ok }) // dropped
	for _, m := range t.members {
		c := found[m.Key]
		if c.At.Before(m.At) || c.Event.Position.Before(m.Event.Position) {
			m.CaughtUp = false
		}
		m.Load(c, parked[m.Key])
		if c.State == build.Ready {
			t.wake() // the round that made it ready may have ended before it could say so
		}
	}
	return nil
}

// execer is a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// halt stores that a member cannot go on. One that was abandoned or taken over meanwhile only leaves its lane.
func (t *term) halt(ctx context.Context, db execer, m *apply.Member, problem string) error {
	const sql = `with halted as (
	update projection.checkpoint set problem = $5, distrusted = distrusted or $6, updated_at = now() where name = $1 and version = $2 and build = $3 and epoch = $4 returning commit_position)
select pg_notify('rapport_checkpoint', commit_position::text) from halted`
	tag, err := db.Exec(ctx, sql, m.Name, m.Version, m.Number, t.epoch, problem, m.Distrusted)
	m.Problem = problem
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	t.runner.log.ErrorContext(ctx, "projection halted", "projection", m.Name, "version", m.Version, "build", m.Number, "problem", problem)
	return nil
}

// verify checks that the rows come from the log connected, and that the log has the last event in them. A build of which
// that is not true is halted, and refused unless another is on its way to replace it.
func (t *term) verify(ctx context.Context) error {
	look, err := build.NewLook(ctx, t.runner.source)
	if err != nil {
		return err
	}
	t.logID = look.ID
	refusals := map[string]error{}
	replaced := map[string]bool{}
	for _, m := range t.members {
		refusal := look.Refuse(ctx, m.Label(), m.LogID, m.Event)
		switch {
		case refusal == nil:
			replaced[m.Name] = true
			continue
		case !build.Refused(refusal):
			return refusal // the log does not answer
		}
		refusals[m.Name] = refusal
		if m.Problem == refusal.Error() {
			continue
		}
		if err := t.halt(ctx, t.runner.pool, m, refusal.Error()); err != nil {
			return errors.Join(refusal, err)
		}
	}
	for name, refusal := range refusals {
		if !replaced[name] {
			return refusal
		}
	}
	return nil
}

// parkedStreams returns the parked streams by build.
func (t *term) parkedStreams(ctx context.Context) (map[build.Key]map[string]bool, error) {
	const sql = `select name, version, build, stream from projection.parked_stream where ` + build.OfVersions
	names, versions := t.owned()
	rows, err := t.runner.pool.Query(ctx, sql, names, versions)
	if err != nil {
		return nil, err
	}
	parked := map[build.Key]map[string]bool{}
	var key build.Key
	var stream string
	_, err = pgx.ForEachRow(rows, []any{&key.Name, &key.Version, &key.Number, &stream}, func() error {
		if parked[key] == nil {
			parked[key] = map[string]bool{}
		}
		parked[key][stream] = true
		return nil
	})
	return parked, err
}

// probe compares the lanes regularly with the end of the log, which it asks for itself. A lane that has stood still for
// Options.Stall with events before it is frozen: that is said until it moves, and every Stall it subscribes anew.
func (t *term) probe(ctx context.Context) error {
	r := t.runner
	r.freeze(nil)
	var w watchdog
	for retry.Sleep(ctx, r.opts.Probe) {
		head, err := r.source.Head(ctx)
		if err != nil {
			continue // the subscriptions try again by themselves, and Status tells
		}
		at, busy, some := t.slowest()
		if !some {
			at = head.Position // nobody reads, so nobody stands still
		}
		switch w.look(at, head.Position, busy, r.now(), r.opts.Stall) {
		case moving:
			r.freeze(nil)
		case stalled:
			r.freeze(fmt.Errorf("%w: at %s, the log ends at %s", ErrFrozen, at, head.Position))
			r.log.WarnContext(ctx, "subscription stands still; subscribing anew", "position", at, "head", head.Position)
			t.interrupt(fault.ErrRegroup)
		}
	}
	return nil
}

// slowest returns the last event of the lane that is farthest behind, and whether it is handling a batch.
func (t *term) slowest() (at domain.Position, busy, some bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.running {
		if p := l.event.Load(); p != nil && (!some || p.Before(at)) {
			at, busy, some = *p, l.handling.Load(), true
		}
	}
	return at, busy, some
}

// What a watchdog sees.
type sight int

const (
	moving  sight = iota // the position has moved, or is at the end of the log
	waiting              // it has not, for less than the limit
	stalled              // it has not for too long
)

// watchdog judges one position that should follow the head of the log. The zero value has seen nothing.
type watchdog struct {
	at    domain.Position
	since time.Time // when it was first seen there, with events before it; zero when there were none
}

func (w *watchdog) look(at, head domain.Position, busy bool, now time.Time, limit time.Duration) sight {
	switch {
	case !at.Before(head):
		w.since = time.Time{}
		return moving
	case w.since.IsZero() || at != w.at:
		first := w.since.IsZero()
		w.at, w.since = at, now
		if first {
			return waiting
		}
		return moving
	case busy || now.Sub(w.since) < limit: // a batch in hand has its own deadline
		return waiting
	}
	w.since = now // until the next attempt
	return stalled
}
