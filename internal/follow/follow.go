// Package follow is the one loop of whoever follows the event log: projectors, reactors and processes.
//
// What they have in common is Loop: of several processes one works, chosen by an advisory lock, and what fails is begun anew
// after a pause. A Follower is the loop of those that take one event after the other and keep a checkpoint of their own. It is
// declared with a name, a start and a handler:
//
//	f, err := follow.New(pool, log, registry, follow.Options{
//		Kind: follow.Kind{Name: "process", Plural: "processes", Lock: 1}, Name: "convert-leads",
//		Start: follow.AtEnd, Handle: convert,
//	})
//	err = f.Run(ctx)
//
// What a Follower promises:
//
//  1. It begins where Options.Start says when it is run for the first time, and its checkpoint never goes back. A rebuild of
//     projections, or any number of new followers, makes nobody handle again what has happened before.
//  2. Every event behind that is handled at least once, in the order of the log. A crash between the handler and the checkpoint
//     repeats events: a handler whose effect must not happen twice derives an id from the event's.
//  3. What cannot be handled is tried for ever, with growing pauses, and nothing overtakes it. That it is so is said by
//     Err, Status, the metrics and the log, and somebody may decide that the event is passed over: see Skip.
//  4. A process that was taken for dead and goes on may repeat events, and moves no checkpoint: its epoch is not the one that
//     stands there.
//  5. A follower does not go on in another log, or in a log that lacks the event at its checkpoint.
//
// The runner of projections uses Loop and not Follower: its rows and their checkpoints change in one transaction, and many
// checkpoints share one subscription. See package projections/runner.
package follow

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
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
)

// Defaults of Options.
const (
	DefaultMaxEvents = 64 // that a crash may repeat
	DefaultHeartbeat = 2 * time.Second
	DefaultLockRetry = time.Second
	DefaultRetry     = 200 * time.Millisecond

	sqlBudget = 10 * time.Second // for each statement of a follower
)

// Log is what a follower needs of the event log.
type Log interface {
	Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error]
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error]
	Head(ctx context.Context) (domain.Mark, error)
	Check(ctx context.Context, m domain.Mark) error
	ID(ctx context.Context) (string, error)
}

// Kind is a sort of followers, such as reactors. All followers of a kind keep their checkpoints together.
type Kind struct {
	Name   string // of one of them, in messages, logs and metrics, and of the schema of PostgreSQL that holds the tables checkpoint and decision
	Plural string // of the verbs of the command line: `rapport reactors begin`
	Lock   int32  // first number of the advisory locks; any that no other kind has
}

// Start says where a follower begins that has no checkpoint yet.
type Start int

// The starts. There is no default: whether a follower handles what has happened before it existed is to be decided.
const (
	AtBeginning Start = iota + 1 // of the log
	AtEnd                        // of the log, as it is when the follower is run for the first time
)

// Handler handles one event; log is the identity of the log that it stands in. The message that it returns goes to Options.To;
// it is nil when there is none. After an error the event comes again.
type Handler func(ctx context.Context, log string, event *bus.Item) (*bus.Outgoing, error)

// Options declares a follower. Kind, Name, Start and Handle are required; other zero values mean the defaults.
type Options struct {
	Kind   Kind
	Name   string // of the checkpoint: another name is another follower, which begins where Start says
	Start  Start
	Handle Handler

	Wants      func(eventType string) bool // which events come to Handle; nil means all
	To         bus.Publisher               // of what Handle returns; the follower does not close it
	Bus        bus.Options                 // how the log is cut, how long a failed event waits, and the tracer
	Heartbeat  time.Duration               // how often an owner says that it works
	LockRetry  time.Duration               // how often a process that waits asks for the lock
	Retry      time.Duration               // first pause after a failure outside of the handler; it doubles up to MaxRetry
	Logger     *slog.Logger                // nil means slog.Default
	Registerer prometheus.Registerer       // nil means no metrics

	// Step is called at the points that Steps returns; an error makes what is done there fail. It is for tests. nil means nothing.
	Step func(point string) error
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
	if o.Wants == nil {
		o.Wants = func(string) bool { return true }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Bus.Logger == nil {
		o.Bus.Logger = o.Logger
	}
	if o.Step == nil {
		o.Step = func(string) error { return nil }
	}
	return o
}

// Points at which a test can make a follower fail, in the order in which it passes them.
const (
	StepTaken   = "taken"   // the epoch is raised, nothing is read
	StepHandled = "handled" // events are handled, and the checkpoint does not say so yet
	StepSettled = "settled" // it does
)

// Steps returns the points at which Options.Step is called.
func Steps() []string { return []string{StepTaken, StepHandled, StepSettled} }

// Follower handles the events of a log, one after the other. Its methods are safe for concurrent use.
type Follower struct {
	pool    *pgxpool.Pool
	log     Log
	decode  bus.Decoder
	opts    Options
	logger  *slog.Logger
	metrics *metrics

	mu      sync.Mutex
	problem error       // what is being retried
	failing domain.Mark // the event that cannot be handled; zero when there is none
}

const (
	maxName     = 60
	kindLetters = "abcdefghijklmnopqrstuvwxyz"
	nameLetters = kindLetters + "0123456789-"
)

// errName says what a name of a follower is.
var errName = fmt.Errorf("a name has 1 to %d lower-case letters, digits and -", maxName)

// New checks the options. The tables of migrations.Apply must be there before anything else is called.
func New(pool *pgxpool.Pool, log Log, decode bus.Decoder, opts Options) (*Follower, error) {
	kind := opts.Kind.Name
	switch {
	case kind == "" || strings.Trim(kind, kindLetters) != "":
		return nil, fmt.Errorf("follower %.80q is of kind %.80q: a kind has lower-case letters alone", opts.Name, kind)
	case opts.Name == "" || len(opts.Name) > maxName || strings.Trim(opts.Name, nameLetters) != "":
		return nil, fmt.Errorf("%s %.80q: %w", kind, opts.Name, errName)
	case opts.Start != AtBeginning && opts.Start != AtEnd:
		return nil, fmt.Errorf("%s %s does not say where it begins", kind, opts.Name)
	case opts.Handle == nil:
		return nil, fmt.Errorf("%s %s has no handler", kind, opts.Name)
	}
	f := &Follower{pool: pool, log: log, decode: decode, opts: opts.withDefaults()}
	f.logger = f.opts.Logger.With(kind, opts.Name)
	var err error
	if f.metrics, err = newMetrics(f.opts.Registerer, kind, opts.Name, f.Status); err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", f, err)
	}
	return f, nil
}

// String names the follower with its kind.
func (f *Follower) String() string { return f.opts.Kind.Name + " " + f.opts.Name }

// Name returns the name of the follower.
func (f *Follower) Name() string { return f.opts.Name }

// Run works until ctx ends, and then returns nil. While another process works it waits. It returns an error only when to
// go on would be wrong: *LogMismatchError, *OtherHistoryError or bus.ErrOrder.
func (f *Follower) Run(ctx context.Context) error {
	loop := Loop{
		Pool: f.pool, LockRetry: f.opts.LockRetry, Retry: f.opts.Retry,
		Acquire: f.acquire, Wait: f.wait, Work: f.work, Refused: refused, Failed: f.failed,
	}
	return loop.Run(ctx)
}

// Err returns what Run is retrying, or nil when nothing is wrong.
func (f *Follower) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.problem == nil:
		return nil
	case !f.failing.Position.IsZero():
		return fmt.Errorf("%s: event at %s: %w", f, f.failing.Position, f.problem)
	}
	return fmt.Errorf("%s: %w", f, f.problem)
}

// report notes what is wrong, and with which event if it is about one; nil means that nothing is wrong any more.
func (f *Follower) report(event domain.Mark, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problem, f.failing = err, event
}

// failingAt returns the event that cannot be handled, zero when there is none.
func (f *Follower) failingAt() domain.Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failing
}

// acquire asks for the lock of the follower.
func (f *Follower) acquire(ctx context.Context, lock *pgx.Conn) (mine bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	err = lock.QueryRow(ctx, "select pg_try_advisory_lock($1, hashtext($2))", f.opts.Kind.Lock, f.opts.Name).Scan(&mine)
	return mine, err
}

// wait is called before each pause while another process has the lock.
func (f *Follower) wait(ctx context.Context, _ *pgx.Conn, first bool) error {
	if first {
		f.report(domain.Mark{}, nil) // whoever works says what is wrong
		f.logger.InfoContext(ctx, "follower is run by another process; waiting")
	}
	return nil
}

// failed says that the work has ended, and when it begins anew.
func (f *Follower) failed(ctx context.Context, err error, pause time.Duration) {
	f.report(domain.Mark{}, err)
	if pause > 0 {
		f.logger.WarnContext(ctx, "follower stopped; trying again", "err", err, "wait", pause)
	}
}

// work follows the log as the one owner until ctx ends, the lock or the fence is lost, or the log or PostgreSQL fails.
func (f *Follower) work(ctx context.Context, lock *pgx.Conn) error {
	t, err := f.take(ctx)
	if err != nil {
		return err
	}
	if err := f.opts.Step(StepTaken); err != nil {
		return err
	}
	f.report(domain.Mark{}, nil)
	f.logger.InfoContext(ctx, "follower starts", "position", t.after.Position)
	return Beside(ctx, func(ctx context.Context) error { return f.read(ctx, t) },
		func(ctx context.Context) error {
			return Beat(ctx, f.opts.Heartbeat, func(ctx context.Context) error { return f.beat(ctx, lock, t.epoch) })
		})
}

// read carries everything behind the checkpoint to the handler.
func (f *Follower) read(ctx context.Context, t term) error {
	settle := func(ctx context.Context, event domain.Mark, searched domain.Position) error {
		return f.settle(ctx, t.epoch, event, searched)
	}
	subscriber := bus.NewEventSubscriber(f.log.Subscribe, t.after, f.decode, f.opts.Bus, f.opts.Wants, settle)
	return bus.React(ctx, f.opts.Name, subscriber, f.opts.To,
		func(ctx context.Context, item *bus.Item) (*bus.Outgoing, error) { return f.handle(ctx, t.logID, item) },
		bus.ReactOptions{Kind: f.opts.Kind.Name, Registerer: f.opts.Registerer, Observe: func(item *bus.Item, err error) { f.observe(t.epoch, item, err) }})
}

// handle hands an event over. One that failed before is passed over when somebody has decided so meanwhile.
func (f *Follower) handle(ctx context.Context, logID string, item *bus.Item) (*bus.Outgoing, error) {
	if f.failingAt() == item.Mark() {
		skipped, err := f.skipped(ctx, item.Mark())
		if err != nil {
			return nil, err
		}
		if skipped {
			f.metrics.skipped.WithLabelValues(f.opts.Name).Inc()
			f.logger.WarnContext(ctx, "event skipped as decided", "position", item.Raw.Position)
			return nil, nil
		}
	}
	if item.Err != nil {
		return nil, item.Err
	}
	return f.opts.Handle(ctx, logID, item)
}

// observe says when an event fails, also to other processes: each time, for the reason may be another.
func (f *Follower) observe(epoch int64, item *bus.Item, err error) {
	switch {
	case err == nil:
		f.report(domain.Mark{}, nil)
	case errors.Is(err, context.Canceled):
	default:
		f.metrics.failures.WithLabelValues(f.opts.Name).Inc()
		f.report(item.Mark(), err)
		f.fails(epoch, item.Mark(), err)
	}
}

// beat says that this process works, and notices when it should not. A checkpoint that cannot be written is left to settle.
func (f *Follower) beat(ctx context.Context, lock *pgx.Conn, epoch int64) error {
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	if err := Held(ctx, lock); err != nil {
		return err
	}
	beaten, err := f.pool.Exec(ctx, f.opts.Kind.sql(beatSQL), f.opts.Name, epoch)
	if err == nil && beaten.RowsAffected() == 0 {
		return errFenced
	}
	return nil
}
