package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/localpg"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner"
	"github.com/rapport-crm/rapport/readmodels/migrations"
)

const (
	catchUpGoal  = 15  // times the baseline
	fillWriters  = 128 // that write the generated log
	catchUpLimit = 5 * time.Minute
	bulkRows     = 100 // as the runner has it
)

// replica is what serve runs, in this process: an embedded node and a private PostgreSQL.
type replica struct {
	node     *esnode.Node
	log      eventlog.Log
	registry *codec.Registry
	postgres *localpg.Server
	dir      string
}

func (b *bench) newReplica(ctx context.Context, name string) (r *replica, err error) {
	r = &replica{}
	if r.dir, err = b.folder(name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.registry, err = codec.New(aggregates.All()...); err != nil {
		return r, err
	}
	if r.node, err = esnode.Open(ctx, esnode.Options{Dir: filepath.Join(r.dir, "events"), Logger: quiet}); err != nil {
		return r, err
	}
	if r.log, err = eventlog.Dial(ctx, r.node.ConnectionString(), eventlog.WithLogger(quiet)); err != nil {
		return r, err
	}
	r.postgres, err = localpg.Start(ctx, localpg.Options{Dir: filepath.Join(r.dir, "postgres"), Logger: quiet})
	return r, err
}

func (r *replica) Close() error {
	var errs []error
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	if r.node != nil {
		errs = append(errs, r.node.Close())
	}
	if r.postgres != nil {
		errs = append(errs, r.postgres.Close())
	}
	return errors.Join(append(errs, discard(r.dir))...)
}

// fill writes a generated log through a store, with many writers, each of which has lanes of its own. note, if there is
// one, is told of each entry.
func fill(ctx context.Context, store *eventlog.Store, seed uint64, events int, note func(entry)) error {
	bus := commands.NewBus(store, commands.Options{Secret: []byte("a generated business has no secrets")})
	areas.Register(bus)
	if err := bus.Prime(ctx, domain.DefaultTenant); err != nil {
		return err
	}
	write := func(ctx context.Context, e entry) error {
		if outcome, ok := store.Append(ctx, e.stream, e.expected, e.events).(domain.Committed); !ok {
			return fmt.Errorf("fill the log: append to %s: %T", e.stream, outcome)
		}
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	lanes := make([]chan entry, fillWriters)
	for i := range lanes {
		lanes[i] = make(chan entry, 16)
		group.Go(func() error {
			for e := range lanes[i] {
				if err := write(ctx, e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer func() {
			for _, lane := range lanes {
				close(lane)
			}
		}()
		return generate(seed, events, func(e entry) error {
			if note != nil {
				note(e)
			}
			if e.lane == 0 {
				return write(ctx, e)
			}
			select {
			case lanes[e.lane%fillWriters] <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	return group.Wait()
}

// database makes an empty database with the fixed tables of the read models.
func (r *replica) database(ctx context.Context, name string) (*pgxpool.Pool, error) {
	conn, err := pgx.Connect(ctx, r.postgres.URL())
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return nil, err
	}
	address, err := url.Parse(r.postgres.URL())
	if err != nil {
		return nil, err
	}
	address.Path = "/" + name
	pool, err := pgxpool.New(ctx, address.String())
	if err != nil {
		return nil, err
	}
	if err := migrations.Apply(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// catchUp runs the runner on an empty database until all projections have reached a position.
func (r *replica) catchUp(ctx context.Context, database string, target domain.Position, o runner.Options) (time.Duration, error) {
	pool, err := r.database(ctx, database)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	o.Logger = quiet
	work, err := runner.New(pool, r.log, r.registry, projections.All(), o)
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithTimeout(ctx, catchUpLimit)
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	group.Go(func() error { return work.Run(ctx) })
	err = reached(ctx, pool, target)
	took := time.Since(start)
	stop()
	return took, errors.Join(err, group.Wait())
}

// reached waits until the checkpoints of all projections are at a position.
func reached(ctx context.Context, pool *pgxpool.Pool, target domain.Position) error {
	const sql = `select coalesce(min(commit_position), 0) from projection.checkpoint`
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		var at int64
		if err := pool.QueryRow(ctx, sql).Scan(&at); err != nil {
			return err
		}
		if at >= int64(target.Commit) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stages is how much CPU time the steps of a catch-up take, each measured alone.
type stages struct{ read, decode, fold time.Duration }

// measureStages reads, decodes and folds everything in the log, one step after the other. It returns the positions as well.
func (r *replica) measureStages(ctx context.Context) (s stages, positions []domain.Position, err error) {
	self := os.Getpid()
	var raws []codec.Raw
	start := cpuOf(self)
	for raw, err := range r.log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return s, nil, err
		}
		raws = append(raws, raw)
	}
	s.read = cpuOf(self) - start

	events := make([]domain.Recorded, len(raws))
	start = cpuOf(self)
	for i, raw := range raws {
		if events[i], err = r.registry.Decode(raw); err != nil {
			return s, nil, err
		}
	}
	s.decode = cpuOf(self) - start

	compiled, err := projection.Compile(projections.All()...)
	if err != nil {
		return s, nil, err
	}
	start = cpuOf(self)
	for _, c := range compiled {
		if err := foldAll(c, events); err != nil {
			return s, nil, err
		}
	}
	s.fold = cpuOf(self) - start
	for _, raw := range raws {
		positions = append(positions, raw.Position)
	}
	return s, positions, nil
}

// foldAll evaluates a projection up to the parameters of its statements, and sends none.
func foldAll(c *projection.Compiled, events []domain.Recorded) error {
	engine := c.NewEngine(len(events))
	engine.Reset(true)
	for len(events) > 0 {
		n := min(len(events), bus.DefaultMaxEvents)
		step, err := engine.Begin(events[:n])
		if err != nil {
			return err
		}
		if _, err := step.Evaluate(bulkRows); err != nil {
			return err
		}
		step.Committed()
		events = events[n:]
	}
	return nil
}

func (b *bench) catchUp(ctx context.Context) (err error) {
	r, err := b.newReplica(ctx, "catchup")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b.say("generating %s events", grouped(int64(b.events)))
	if err := fill(ctx, eventlog.NewStore(r.log, r.registry), b.seed, b.events, nil); err != nil {
		return err
	}
	s, positions, err := r.measureStages(ctx)
	if err != nil {
		return err
	}
	runtime.GC() // of what the preparations left
	n := min(b.baseline, len(positions))
	b.say("baseline: %d events, each in a transaction of its own", n)
	slow, err := r.catchUp(ctx, "baseline", positions[n-1], runner.Options{BuildBytes: 1})
	if err != nil {
		return err
	}
	b.slow = float64(n) / slow.Seconds()
	b.say("catching up with %s events", grouped(int64(len(positions))))
	stopProfile, err := b.startProfile("catchup.cpu.prof")
	if err != nil {
		return err
	}
	before, pgBefore := cpuOf(os.Getpid()), r.postgresCPU()
	fast, err := r.catchUp(ctx, "batches", positions[len(positions)-1], runner.Options{})
	own, pg := cpuOf(os.Getpid())-before, r.postgresCPU()-pgBefore
	if err := errors.Join(err, stopProfile()); err != nil {
		return err
	}
	b.reportCatchUp(s, len(positions), n, slow, fast, own, pg)
	return nil
}

func (b *bench) reportCatchUp(s stages, events, baseline int, slow, fast, own, pg time.Duration) {
	per := func(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }
	slowRate, fastRate := per(baseline, slow), per(events, fast)
	ratio := fastRate / slowRate
	t := table{head: []string{fmt.Sprintf("%d read models together", len(projections.All())), "events", "took", "events per second", "ratio", fmt.Sprintf("goal %d", catchUpGoal)}}
	t.add("one transaction for each event", grouped(int64(baseline)), secs(slow), rate(slowRate), "1", "")
	t.add(fmt.Sprintf("steps of a build, of up to %s", megabytes(runner.DefaultBuildBytes)), grouped(int64(events)), secs(fast), rate(fastRate), fmt.Sprintf("%.1f", ratio), verdict(ratio, catchUpGoal))
	t.print(b.out)

	fmt.Fprintln(b.out)
	shares := table{head: []string{"step, by itself", "CPU time", "events per second of CPU", "share"}}
	postgres := pg + max(own-s.read-s.decode-s.fold, 0)
	all := s.read + s.decode + s.fold + postgres
	for _, line := range []struct {
		name string
		took time.Duration
	}{{"read from the node", s.read}, {"decode", s.decode}, {"fold, and render as parameters", s.fold}, {"PostgreSQL and talking to it", postgres}} {
		shares.add(line.name, secs(line.took), rate(per(events, line.took)), percent(line.took.Seconds()/all.Seconds()))
	}
	shares.print(b.out)
	fmt.Fprintf(b.out, "\nThe first three are measured alone. The whole catch-up took %s of CPU in this process and %s in PostgreSQL's during %s; "+
		"the last line is what the first three do not explain of it. Reading includes the client and the node, which shares the process.\n", secs(own), secs(pg), secs(fast))
}

// startProfile begins a CPU profile when one is asked for.
func (b *bench) startProfile(name string) (stop func() error, err error) {
	if b.profile == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(b.profile, name))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}
