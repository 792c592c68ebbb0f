// Package runner is the one loop that does the I/O of projections: it carries batches of the log into tables.
//
// What it promises:
//
//  1. Rows of a projection change only in a transaction that moves its checkpoint, holds its checkpoint row locked and has
//     found its own epoch there. So every event takes effect exactly once, however often it is delivered and whoever
//     else believes to be the owner.
//  2. Nothing is skipped silently. An event that cannot be applied is parked with its stream; an event of a newer kind than
//     this binary knows halts the projections that it may concern; everything else is tried for ever.
//  3. Rows of another log, or of events that the log has lost, are never built upon: whenever a build is gone on with, the
//     last event in its rows must stand in the log where it stood.
//
// Projections at the same position form a lane: one subscription, one decode, one transaction for each batch. A new or
// rebuilt projection is a build beside the one that serves, if there is one: a table of its own that is loaded in large
// batches, in one lane with all others that begin together, and then gets its indexes, catches up with what came meanwhile,
// is verified and switched to. What it replaces is kept up to date for a while, so that it can be returned to.
//
// The runner decides when something is done. How a batch is applied package apply knows, what is done with builds package build,
// and what errors mean package fault; each of them imports those behind it in this sentence and nothing of the runner.
package runner

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// Defaults of Options.
const (
	DefaultCacheRows  = 20_000
	DefaultHeartbeat  = 2 * time.Second
	DefaultProbe      = 5 * time.Second
	DefaultLockRetry  = time.Second
	DefaultUnseal     = 30 * time.Second
	DefaultTakeover   = time.Minute
	DefaultStall      = 30 * time.Second
	DefaultRetry      = 200 * time.Millisecond
	DefaultBuildBytes = 4 << 20 // larger batches take more CPU for each event, see docs/architecture.md, and more memory
	DefaultVerifyKeys = 200
	DefaultGrace      = 24 * time.Hour
	DefaultSweep      = time.Minute

	buildEvents = 500_000          // of a batch of a build, however small they are
	buildLinger = 10 * time.Second // how long such a batch may wait to be filled
)

// Log is what the runner needs of the event log.
type Log interface {
	Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error]
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error]
	Head(ctx context.Context) (domain.Mark, error)
	Check(ctx context.Context, m domain.Mark) error
	ID(ctx context.Context) (string, error)
}

// Decoder is what the runner needs of the codec. Its errors are those of codec.Registry.
type Decoder interface {
	Decode(codec.Raw) (domain.Recorded, error)
}

// Options tunes a Runner. Zero values mean the defaults.
type Options struct {
	Bus        bus.Options           // how the log is cut into batches, and how long a failed one waits
	CacheRows  int                   // rows of each projection kept in memory between batches
	Heartbeat  time.Duration         // how often an owner says that it works, and looks for requests of others
	Probe      time.Duration         // how often the end of the log is looked up
	LockRetry  time.Duration         // how often a process that waits asks for the lock
	Unseal     time.Duration         // how often it is tried again to open an event at which projections are halted
	Stall      time.Duration         // how long a subscription may be silent while the log moves on
	Retry      time.Duration         // first pause after a failure outside of batches; it doubles up to 30 s
	Logger     *slog.Logger          // nil means slog.Default
	Registerer prometheus.Registerer // nil means no metrics

	Takeover   time.Duration // how long an owner may be silent before a process that waits takes its locks from it
	BuildBytes int           // payloads and metadata in one batch of a build; two batches are in memory, decoded and folded
	VerifyKeys int           // keys of each build whose rows are compared with the fold of their events
	Grace      time.Duration // how long the build that was switched away from is kept up to date; negative means not at all
	Sweep      time.Duration // how often builds that may go are looked for

	// Step is called at the points that Steps lists; an error makes what is done there fail. It is for tests. nil means nothing.
	Step func(point string) error
}

func (o Options) withDefaults() Options {
	if o.CacheRows <= 0 {
		o.CacheRows = DefaultCacheRows
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&o.Heartbeat, DefaultHeartbeat}, {&o.Probe, DefaultProbe}, {&o.LockRetry, DefaultLockRetry}, {&o.Unseal, DefaultUnseal},
		{&o.Stall, DefaultStall}, {&o.Retry, DefaultRetry}, {&o.Takeover, DefaultTakeover}, {&o.Sweep, DefaultSweep},
	} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	if o.BuildBytes <= 0 {
		o.BuildBytes = DefaultBuildBytes
	}
	if o.VerifyKeys <= 0 {
		o.VerifyKeys = DefaultVerifyKeys
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	o.Grace = max(o.Grace, 0)
	if o.Step == nil {
		o.Step = func(string) error { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Bus.Logger == nil {
		o.Bus.Logger = o.Logger
	}
	return o
}

// ErrFrozen says that the log delivers nothing to the projections although it has grown. The runner subscribes anew and
// goes on saying so until events arrive.
var ErrFrozen = errors.New("the projections stand still although the log has moved on")

// Runner builds the tables of projections from a log and keeps them up to date. Its methods are safe for concurrent use,
// and those beside Run work from any process, whether or not Run works in this one.
type Runner struct {
	pool        *pgxpool.Pool
	source      Log
	decode      Decoder
	projections []*projection.Compiled
	opts        Options
	log         *slog.Logger
	metrics     *metrics
	step        func(point string) error // where tests make a batch fail
	now         func() time.Time         // of the watchdog

	mu       sync.Mutex
	problems map[string]error // what is being retried, by lane; see health
	frozen   error            // a lane that stands still although the log moves on; only its moving on heals that
}

// New checks the declarations. The fixed tables of migrations.Apply must be there before anything else is called.
func New(pool *pgxpool.Pool, source Log, decode Decoder, declared []projection.Projection, opts Options) (*Runner, error) {
	compiled, err := projection.Compile(declared...)
	if err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("metrics of the projections: %w", err)
	}
	m.begin(compiled)
	r := &Runner{
		pool: pool, source: source, decode: decode, projections: compiled, opts: opts, log: opts.Logger, metrics: m,
		step:     opts.Step,
		now:      time.Now,
		problems: map[string]error{},
	}
	if opts.Registerer != nil {
		if err := opts.Registerer.Register(gauges{r.Status}); err != nil {
			return nil, fmt.Errorf("metrics of the projections: %w", err)
		}
	}
	return r, nil
}

// Run keeps the projections up to date until ctx ends, and then returns nil. While another process does so it waits.
// It returns an error only when to go on would be wrong: *build.LogMismatchError, *build.OtherHistoryError or bus.ErrOrder. Databases and
// logs that do not answer are waited for.
//
// Of the loop of all followers Run takes all but what is about one checkpoint: see term.
func (r *Runner) Run(ctx context.Context) error {
	var owned []*projection.Compiled // as acquire has left it
	loop := follow.Loop{
		Pool: r.pool, LockRetry: r.opts.LockRetry, Retry: r.opts.Retry, Refused: build.Refused, Failed: r.failed, Wait: r.wait,
		Acquire: func(ctx context.Context, lock *pgx.Conn) (mine bool, err error) {
			owned, err = acquire(ctx, lock, r.projections)
			return len(owned) > 0 || len(r.projections) == 0, err
		},
		Work: func(ctx context.Context, lock *pgx.Conn) error { return r.newTerm(owned).work(ctx, lock) },
	}
	return loop.Run(ctx)
}

// failed says that the work has ended, and when it begins anew.
func (r *Runner) failed(ctx context.Context, err error, pause time.Duration) {
	if pause == 0 {
		r.health(roundHealth, err)
		return
	}
	if !errors.Is(err, fault.ErrFenced) {
		_, class := fault.Classify(err)
		r.metrics.retry(class)
		r.health(roundHealth, err)
	}
	r.log.WarnContext(ctx, "projections stopped; trying again", "err", err, "wait", pause)
}

// roundHealth is the name under which trouble outside of lanes is reported.
const roundHealth = "projections"

// health notes what a lane is retrying; nil means that it works again.
func (r *Runner) health(lane string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.problems, lane)
	} else {
		r.problems[lane] = err
	}
}

// recovered forgets all trouble but that the log stands still: a new round begins.
func (r *Runner) recovered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.problems)
}

// freeze notes that a lane stands still, or with nil that it does not.
func (r *Runner) freeze(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = err
}

// Err returns what Run is waiting for to heal, or nil when nothing is wrong: an error that it retries, or a log that
// delivers nothing although it has grown, which errors.Is(err, ErrFrozen) tells. Parked streams and halted projections are
// not errors of the runner: see Status.
func (r *Runner) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []error{r.frozen}
	for _, err := range r.problems {
		list = append(list, err)
	}
	return errors.Join(list...)
}

// Names returns the names of the projections, in the order of declaration.
func (r *Runner) Names() []string {
	names := make([]string, len(r.projections))
	for i, c := range r.projections {
		names[i] = c.Name
	}
	return names
}

// at is Options.Step for those who do the work.
func (r *Runner) at(point string) error { return r.step(point) }

// builds is what can be done with the builds of the projections.
func (r *Runner) builds() *build.Keeper {
	return &build.Keeper{
		Pool: r.pool, Log: r.source, Projections: r.projections, Grace: r.opts.Grace, Alive: r.alive(), Retry: r.opts.Retry, Logger: r.log, Step: r.at,
	}
}

// park is what can be done with parked streams.
func (r *Runner) park() *apply.Park { return &apply.Park{Builds: r.builds(), Decode: r.decode} }

// Rebuild is that of build.Keeper, as are Abandon, Switch and Rollback: whoever has a runner has them at hand.
func (r *Runner) Rebuild(ctx context.Context, ask build.Ask) error {
	return r.builds().Rebuild(ctx, ask)
}

// Abandon is that of build.Keeper.
func (r *Runner) Abandon(ctx context.Context, name, actor string) ([]build.Abandoned, error) {
	return r.builds().Abandon(ctx, name, actor)
}

// Switch is that of build.Keeper.
func (r *Runner) Switch(ctx context.Context, name, actor string) error {
	return r.builds().Switch(ctx, name, actor)
}

// Rollback is that of build.Keeper.
func (r *Runner) Rollback(ctx context.Context, name, actor string) error {
	return r.builds().Rollback(ctx, name, actor)
}

// Parked is that of apply.Park, as are Retry and Discard.
func (r *Runner) Parked(ctx context.Context, name string) ([]apply.ParkedStream, error) {
	return r.park().Parked(ctx, name)
}

// Retry is that of apply.Park.
func (r *Runner) Retry(ctx context.Context, name, stream, actor string) (applied int, err error) {
	return r.park().Retry(ctx, name, stream, actor)
}

// Discard is that of apply.Park.
func (r *Runner) Discard(ctx context.Context, name, stream, actor, reason string) (dropped int, err error) {
	return r.park().Discard(ctx, name, stream, actor, reason)
}
