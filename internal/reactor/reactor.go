// Package reactor turns events into effects outside: it publishes them to a broker. It is the loop beside the one of the
// projections, and differs from it in one thing: an effect cannot be undone or made again.
//
// What it promises:
//
//  1. A reactor begins at the end of the log when it is run for the first time, and its checkpoint never goes back. A
//     rebuild of projections, or any number of new reactors, has no effect for what has happened before.
//  2. Every event behind that has its effect at least once, in the order of the log. A repetition, which a crash between an
//     effect and its checkpoint makes, carries the id of the event: receivers drop it by that.
//  3. What cannot be published is tried for ever, with growing pauses, and nothing overtakes it. That it is so is said by
//     Err, Status, the metrics and the log, and somebody may decide that the event has no effect: see Skip.
//
// One process at a time works for a reactor: an advisory lock chooses it. One that was taken for dead and goes on may repeat
// effects, and moves no checkpoint: its epoch is not the one that stands there.
package reactor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/retry"
)

// Defaults of Options.
const (
	DefaultMaxEvents = 64 // effects that a crash may repeat
	DefaultHeartbeat = 2 * time.Second
	DefaultLockRetry = time.Second
	DefaultRetry     = 200 * time.Millisecond

	maxRetry  = 30 * time.Second
	sqlBudget = 10 * time.Second // for each statement of the loop
)

// Log is what a reactor needs of the event log.
type Log interface {
	Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error]
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error]
	Head(ctx context.Context) (domain.Mark, error)
	Check(ctx context.Context, m domain.Mark) error
	ID(ctx context.Context) (string, error)
}

// Options says what a reactor does and how. Name and To are required; other zero values mean the defaults.
type Options struct {
	Name       string        // of the checkpoint: another name is another reactor, which begins at the end of the log
	To         bus.Publisher // where events go; the reactor does not close it
	Types      []string      // names of event types, or beginnings of them that end in a dot; all but reservations when empty
	Bus        bus.Options   // how the log is cut, how long a failed effect waits, and the tracer
	Heartbeat  time.Duration // how often an owner says that it works
	LockRetry  time.Duration // how often a process that waits asks for the lock
	Retry      time.Duration // first pause after a failure outside of effects; it doubles up to 30 s
	Logger     *slog.Logger  // nil means slog.Default
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&o.Heartbeat, DefaultHeartbeat}, {&o.LockRetry, DefaultLockRetry}, {&o.Retry, DefaultRetry}} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	if o.Bus.MaxEvents <= 0 {
		o.Bus.MaxEvents = DefaultMaxEvents
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Bus.Logger == nil {
		o.Bus.Logger = o.Logger
	}
	return o
}

// Reactor publishes the events of a log. Its methods are safe for concurrent use.
type Reactor struct {
	pool    *pgxpool.Pool
	log     Log
	decode  bus.Decoder
	opts    Options
	logger  *slog.Logger
	metrics *metrics
	step    func(point string) error // where tests make it fail

	mu      sync.Mutex
	problem error       // what is being retried
	failing domain.Mark // the event that cannot be published; zero when there is none
}

// errName says what a name of a reactor is.
var errName = errors.New("the name of a reactor has 1 to 60 lower-case letters, digits and -")

// New checks the options. The tables of readmodels.Migrate must be there before anything else is called.
func New(pool *pgxpool.Pool, log Log, decode bus.Decoder, opts Options) (*Reactor, error) {
	if !validName(opts.Name) {
		return nil, fmt.Errorf("reactor %.80q: %w", opts.Name, errName)
	}
	if opts.To == nil {
		return nil, fmt.Errorf("reactor %s has nowhere to publish to", opts.Name)
	}
	r := &Reactor{pool: pool, log: log, decode: decode, opts: opts.withDefaults(), step: func(string) error { return nil }}
	r.logger = r.opts.Logger
	var err error
	if r.metrics, err = newMetrics(r.opts.Registerer, opts.Name, r.Status); err != nil {
		return nil, fmt.Errorf("metrics of reactor %s: %w", opts.Name, err)
	}
	r.metrics.begin(opts.Name)
	return r, nil
}

func validName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
	return name != "" && len(name) <= 60 && strings.Trim(name, letters) == ""
}

// Name returns the name of the reactor.
func (r *Reactor) Name() string { return r.opts.Name }

// Chooses reports whether one of Options.Types, a name or a beginning that ends in a dot, stands for an event type.
func Chooses(t, eventType string) bool {
	return t == eventType || strings.HasSuffix(t, ".") && strings.HasPrefix(eventType, t)
}

// wants reports whether events of a type are published.
func (r *Reactor) wants(eventType string) bool {
	if slices.ContainsFunc(r.opts.Types, func(t string) bool { return Chooses(t, eventType) }) {
		return true
	}
	return len(r.opts.Types) == 0 && !strings.HasPrefix(eventType, domain.ReservationName+".")
}

// Run works until ctx ends, and then returns nil. While another process works it waits. It returns an error only when to
// go on would be wrong: *LogMismatchError, *OtherHistoryError or bus.ErrOrder.
func (r *Reactor) Run(ctx context.Context) error {
	pauses := retry.Backoff{First: r.opts.Retry, Most: maxRetry}
	for {
		start := time.Now()
		err := r.term(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.report(domain.Mark{}, err)
		if refused(err) {
			return err
		}
		if time.Since(start) > maxRetry {
			pauses.Reset()
		}
		pause := pauses.Next()
		r.logger.WarnContext(ctx, "reactor stopped; trying again", "reactor", r.opts.Name, "err", err, "wait", pause)
		if !retry.Sleep(ctx, retry.Spread(pause)) {
			return nil
		}
	}
}

// Err returns what Run is retrying, or nil when nothing is wrong.
func (r *Reactor) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problem != nil && !r.failing.Position.IsZero() {
		return fmt.Errorf("reactor %s: event at %s: %w", r.opts.Name, r.failing.Position, r.problem)
	}
	if r.problem != nil {
		return fmt.Errorf("reactor %s: %w", r.opts.Name, r.problem)
	}
	return nil
}

// report notes what is wrong, and with which event if it is about one; nil means that nothing is wrong any more.
func (r *Reactor) report(event domain.Mark, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problem, r.failing = err, event
}

// failingAt returns the event that cannot be published, zero when there is none.
func (r *Reactor) failingAt() domain.Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failing
}

// term works as the one owner until ctx ends, the lock or the fence is lost, or the log or PostgreSQL fails.
func (r *Reactor) term(ctx context.Context) error {
	lock, err := r.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release(lock)
	if err := r.await(ctx, lock.Conn()); err != nil {
		return err
	}
	after, logID, epoch, err := r.take(ctx)
	if err != nil {
		return err
	}
	r.report(domain.Mark{}, nil)
	r.logger.InfoContext(ctx, "reactor starts", "reactor", r.opts.Name, "position", after.Position)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var beating sync.WaitGroup
	defer beating.Wait()
	defer cancel(nil)
	beating.Go(func() { r.beat(ctx, lock.Conn(), epoch, cancel) })
	subscriber := bus.NewEventSubscriber(r.log.Subscribe, after, r.decode, r.opts.Bus, r.wants, func(ctx context.Context, event domain.Mark, searched domain.Position) error {
		return r.settle(ctx, epoch, event, searched)
	})
	react := func(ctx context.Context, item *bus.Item) (*bus.Outgoing, error) { return r.react(ctx, logID, item) }
	observe := func(item *bus.Item, published bool, err error) { r.observe(epoch, item, published, err) }
	err = bus.React(ctx, r.opts.Name, subscriber, r.opts.To, react, bus.ReactOptions{Registerer: r.opts.Registerer, Observe: observe})
	if cause := context.Cause(ctx); err == nil && cause != nil {
		return cause
	}
	return err
}

// react makes the message of an event. One that failed before is passed over when somebody has decided so meanwhile.
func (r *Reactor) react(ctx context.Context, logID string, item *bus.Item) (*bus.Outgoing, error) {
	if r.failingAt() == item.Mark() {
		skipped, err := r.skipped(ctx, item.Mark())
		if err != nil {
			return nil, err
		}
		if skipped {
			r.metrics.skipped.WithLabelValues(r.opts.Name).Inc()
			r.logger.WarnContext(ctx, "event skipped as decided", "reactor", r.opts.Name, "position", item.Raw.Position)
			return nil, nil
		}
	}
	if item.Err != nil {
		return nil, item.Err
	}
	return cloudEvent(logID, item)
}

// observe counts an attempt, and says when an event fails, also to other processes: each time, for the reason may be another.
func (r *Reactor) observe(epoch int64, item *bus.Item, published bool, err error) {
	switch {
	case err == nil:
		r.report(domain.Mark{}, nil)
		if published {
			r.metrics.published.WithLabelValues(r.opts.Name).Inc()
		}
		return
	case errors.Is(err, context.Canceled):
		return
	}
	r.metrics.failures.WithLabelValues(r.opts.Name).Inc()
	r.report(item.Mark(), err)
	r.fails(epoch, item.Mark(), err)
}

// await waits for the advisory lock of the reactor.
func (r *Reactor) await(ctx context.Context, conn *pgx.Conn) error {
	for waiting := false; ; waiting = true {
		mine, err := r.try(ctx, conn)
		if err != nil {
			return err
		}
		if mine {
			return nil
		}
		if !waiting {
			r.report(domain.Mark{}, nil) // whoever works says what is wrong
			r.logger.InfoContext(ctx, "reactor is run by another process; waiting", "reactor", r.opts.Name)
		}
		if !retry.Sleep(ctx, r.opts.LockRetry) {
			return context.Cause(ctx)
		}
	}
}

// try asks for the lock.
func (r *Reactor) try(ctx context.Context, conn *pgx.Conn) (mine bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	err = conn.QueryRow(ctx, "select pg_try_advisory_lock($1, hashtext($2))", lockClass, r.opts.Name).Scan(&mine)
	return mine, err
}

// beat says regularly that this process works, and notices when it should not.
func (r *Reactor) beat(ctx context.Context, lock *pgx.Conn, epoch int64, end context.CancelCauseFunc) {
	for retry.Sleep(ctx, r.opts.Heartbeat) {
		if err := r.pulse(ctx, lock, epoch); err != nil && ctx.Err() == nil {
			end(err)
			return
		}
	}
}

// pulse is one beat. A checkpoint that cannot be written is left to settle.
func (r *Reactor) pulse(ctx context.Context, lock *pgx.Conn, epoch int64) error {
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	if err := lock.Ping(ctx); err != nil {
		return fmt.Errorf("the lock of the reactor is lost: %w", err)
	}
	beaten, err := r.pool.Exec(ctx, "update reactor.checkpoint set heartbeat_at = clock_timestamp() where name = $1 and epoch = $2", r.opts.Name, epoch)
	if err == nil && beaten.RowsAffected() == 0 {
		return errFenced
	}
	return nil
}

// release gives the lock back, or drops the connection that holds it.
func release(lock *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), sqlBudget)
	defer cancel()
	if _, err := lock.Exec(ctx, "select pg_advisory_unlock_all()"); err != nil {
		lock.Conn().Close(ctx) // the server gives up the locks of a connection that is gone
	}
	lock.Release()
}
