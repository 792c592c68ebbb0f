package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/domain"
)

// term is the time during which this process owns the projections: it holds the advisory lock, so that others do not try,
// and its epoch stands in the checkpoints, so that others could not.
type term struct {
	runner  *Runner
	logID   string
	members []*member // in the order of their names

	mu      sync.Mutex
	cancel  context.CancelCauseFunc // of the round
	running []*lane                 // lanes of the round
}

// ownerLock is the advisory lock of the process that works; the number is arbitrary.
const ownerLock = 0x7261_7070_6f72_7402

// term works until ctx ends, the lock or the fence is lost, or something is wrong that time does not heal.
func (r *Runner) term(ctx context.Context) error {
	lock, err := r.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release(lock)
	if err := r.await(ctx, lock.Conn()); err != nil {
		return err
	}
	t := r.newTerm()
	if err := t.take(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	generations, epochs := map[string]int64{}, map[string]int64{}
	for _, m := range t.members {
		generations[m.Name], epochs[m.Name] = m.generation, m.epoch
	}
	watch.Go(func() { t.beat(ctx, lock.Conn(), cancel, generations, epochs) })
	watch.Go(func() { t.probe(ctx) })
	return t.rounds(ctx)
}

func (r *Runner) newTerm() *term {
	t := &term{runner: r}
	for _, c := range r.projections {
		t.members = append(t.members, &member{Compiled: c, engine: c.NewEngine(r.opts.CacheRows)})
	}
	slices.SortFunc(t.members, func(a, b *member) int { return cmp.Compare(a.Name, b.Name) })
	return t
}

// rounds runs rounds until one ends for good.
func (t *term) rounds(ctx context.Context) error {
	pause := t.runner.opts.Retry
	for {
		err := t.round(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errRegroup):
			pause = t.runner.opts.Retry
			continue
		case errors.Is(err, errFenced), refused(err):
			return err
		}
		_, class := classify(err)
		t.runner.metrics.retry(class)
		t.runner.health(roundHealth, err)
		t.runner.log.WarnContext(ctx, "projections interrupted", "err", err, "wait", pause)
		if !sleep(ctx, jitter(pause)) {
			return context.Cause(ctx)
		}
		pause = min(2*pause, maxRetry)
	}
}

// await waits for the advisory lock on a connection.
func (r *Runner) await(ctx context.Context, conn *pgx.Conn) error {
	for waiting := false; ; waiting = true {
		var mine bool
		if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(ownerLock)).Scan(&mine); err != nil {
			return err
		}
		if mine {
			return nil
		}
		if !waiting {
			r.log.InfoContext(ctx, "projections are run by another process; waiting")
		}
		if !sleep(ctx, r.opts.LockRetry) {
			return context.Cause(ctx)
		}
	}
}

// release gives the lock back, or drops the connection that holds it.
func release(lock *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if _, err := lock.Exec(ctx, "select pg_advisory_unlock_all()"); err != nil {
		lock.Conn().Close(ctx) // the server gives up the locks of a connection that is gone
	}
	lock.Release()
}

// take makes missing tables, raises the epochs and retires what is no longer declared.
func (t *term) take(ctx context.Context) error {
	names, versions := identity(t.members)
	return pgx.BeginFunc(ctx, t.runner.pool, func(tx pgx.Tx) error {
		problems := map[string]string{}
		for _, m := range t.members {
			problem, err := prepareTable(ctx, tx, m.Compiled)
			if err != nil {
				return fmt.Errorf("table of %s: %w", m, err)
			}
			problems[m.Name] = problem
		}
		if _, err := tx.Exec(ctx, retireSQL, names, versions); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, takeSQL, names, versions)
		if err != nil {
			return err
		}
		stored, err := pgx.CollectRows(rows, scanCheckpoint)
		if err != nil {
			return err
		}
		for _, m := range t.members {
			m.checkpoint = stored[slices.IndexFunc(stored, func(c checkpoint) bool { return c.name == m.Name })]
			if problem := problems[m.Name]; problem != "" {
				if err := t.halt(ctx, tx, m, problem); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// round loads all members, checks that they and the log belong together, and runs lanes until something interrupts them.
func (t *term) round(ctx context.Context) error {
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
	t.mu.Lock()
	t.cancel, t.running = cancel, lanes
	t.mu.Unlock()
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
	return errRegroup
}

// interrupt ends the round.
func (t *term) interrupt(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancel != nil {
		t.cancel(cause)
	}
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
	if caughtUp > 1 {
		t.cancel(errRegroup)
	}
}

// load reads the checkpoints and parked streams of all members.
func (t *term) load(ctx context.Context) error {
	names, versions := identity(t.members)
	rows, err := t.runner.pool.Query(ctx, readSQL, names, versions)
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return err
	}
	parked, err := t.parkedStreams(ctx)
	if err != nil {
		return err
	}
	if len(stored) != len(t.members) {
		return errFenced
	}
	for i, m := range t.members { // both in the order of names
		c := stored[i]
		if c.epoch != m.epoch {
			return errFenced
		}
		if c.at.Before(m.at) {
			m.caughtUp = false
		}
		if c.state != stateHalted && c.definition != m.Table.Definition() { // another binary has rebuilt it
			c.state, c.problem = stateHalted, driftProblem(m.Name, declarationChanged)
			if err := t.halt(ctx, t.runner.pool, m, c.problem); err != nil {
				return err
			}
		}
		m.load(c, parked[m.Name])
	}
	return nil
}

// execer is a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// halt stores that a member cannot go on.
func (t *term) halt(ctx context.Context, db execer, m *member, problem string) error {
	const sql = `update projection.checkpoint set state = 'halted', problem = $4 where name = $1 and version = $2 and epoch = $3`
	_, err := db.Exec(ctx, sql, m.Name, m.Version, m.epoch, problem)
	t.runner.log.ErrorContext(ctx, "projection halted", "projection", m.Name, "problem", problem)
	return err
}

// verify checks that the rows come from the log connected, and that the log has not lost what they contain.
func (t *term) verify(ctx context.Context) error {
	id, err := t.runner.source.ID(ctx)
	if err != nil {
		return fmt.Errorf("identity of the log: %w", err)
	}
	head, err := t.runner.source.Head(ctx)
	if err != nil {
		return fmt.Errorf("head of the log: %w", err)
	}
	t.logID = id
	for _, m := range t.members {
		var refusal error
		switch {
		case m.logID != "" && m.logID != id:
			refusal = &LogMismatchError{Projection: m.String(), Stored: m.logID, Actual: id}
		case head.Before(m.event):
			refusal = &BeyondHeadError{Projection: m.String(), Position: m.event, Head: head}
		default:
			continue
		}
		return errors.Join(refusal, t.halt(ctx, t.runner.pool, m, refusal.Error()))
	}
	return nil
}

// parkedStreams returns the parked streams by projection.
func (t *term) parkedStreams(ctx context.Context) (map[string]map[string]bool, error) {
	const sql = `select name, stream from projection.parked_stream where (name, version) in (select * from unnest($1::text[], $2::integer[]))`
	names, versions := identity(t.members)
	rows, err := t.runner.pool.Query(ctx, sql, names, versions)
	if err != nil {
		return nil, err
	}
	parked := map[string]map[string]bool{}
	var name, stream string
	_, err = pgx.ForEachRow(rows, []any{&name, &stream}, func() error {
		if parked[name] == nil {
			parked[name] = map[string]bool{}
		}
		parked[name][stream] = true
		return nil
	})
	return parked, err
}

// beat tells regularly that this process works, and notices when another has taken over, the lock is lost, or somebody
// has changed rows beside us.
func (t *term) beat(ctx context.Context, lock *pgx.Conn, end context.CancelCauseFunc, generations, epochs map[string]int64) {
	names, versions := identity(t.members)
	for sleep(ctx, t.runner.opts.Heartbeat) {
		if err := lock.Ping(ctx); err != nil && ctx.Err() == nil {
			end(fmt.Errorf("the lock of the projections is lost: %w", err))
			return
		}
		rows, err := t.runner.pool.Query(ctx, heartbeatSQL, names, versions)
		if err != nil {
			continue // the lanes report the same
		}
		beats, err := pgx.CollectRows(rows, scanHeartbeat)
		if err != nil {
			continue
		}
		for _, b := range beats {
			if b.epoch != epochs[b.name] {
				t.interrupt(errFenced)
				return
			}
			if b.generation != generations[b.name] {
				generations[b.name] = b.generation
				t.interrupt(errRegroup)
			}
		}
	}
}

// probe compares the lanes regularly with the end of the log, which it asks for itself. A lane that has stood still for
// Options.Stall with events before it is frozen: that is said until it moves, and every Stall it subscribes anew.
func (t *term) probe(ctx context.Context) {
	r := t.runner
	r.freeze(nil)
	var w watchdog
	for sleep(ctx, r.opts.Probe) {
		head, err := r.source.Head(ctx)
		if err != nil {
			continue // the lanes report the same
		}
		at, busy, some := t.slowest()
		if !some {
			at = head // nobody reads, so nobody stands still
		}
		switch w.look(at, head, busy, r.now(), r.opts.Stall) {
		case moving:
			r.freeze(nil)
		case stalled:
			r.freeze(fmt.Errorf("%w: at %s, the log ends at %s", ErrFrozen, at, head))
			r.log.WarnContext(ctx, "subscription stands still; subscribing anew", "position", at, "head", head)
			t.interrupt(errRegroup)
		}
	}
}

// slowest returns the position of the lane that is farthest behind, and whether it is handling a batch.
func (t *term) slowest() (at domain.Position, busy, some bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.running {
		if p := l.at.Load(); p != nil && (!some || p.Before(at)) {
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
