package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/due"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/asof"
	"github.com/rapport-crm/rapport/projections/history"
	"github.com/rapport-crm/rapport/projections/runner"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/whatif"
	"github.com/rapport-crm/rapport/readmodels/audit"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/reader"
)

type serveCommand struct {
	stores
	writer
	Listen     address      `help:"Address of the API. There is no authentication yet, so that anything but loopback needs --insecure. ${default} when left out." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	Tenants    []tenantName `name:"tenant" help:"The companies whose records are served, each by itself: a request names one in the header X-Tenant, and means the first when it names none. May be repeated; ${default} when left out." default:"main" placeholder:"NAME"`
	Insecure   bool         `help:"Listen on other addresses than loopback, although nobody is asked who they are."`
	Roles      []string     `help:"What this process does, any of api, projector, reactor, process, timer; all of it when left out. Several processes share the work on the same stores." default:"api,projector,reactor,process,timer" enum:"api,projector,reactor,process,timer" placeholder:"ROLE"`
	Publish    []string     `help:"Publish every new event to a broker, as CloudEvents: nats://HOST:4222?subject=SUBJECT or kafka://HOST:9092,HOST:9092/TOPIC, with types=customer.,order. for some events only, tenants=shop,works for those of some tenants and name=NAME for the checkpoint. May be repeated." sep:" " placeholder:"URL"`
	PastMemory int64        `help:"Memory, in MiB, that one answer as of the past may take while it is computed; more is answered 422. ${default} when left out." default:"512" placeholder:"MIB"`
	PastDisk   int64        `help:"Room, in MiB, that lists and funnels as of the past take in PostgreSQL, to be given again. ${default} when left out." default:"2048" placeholder:"MIB"`
	Memory     int64        `help:"Memory, in MiB, within which the process tries to stay: nearer to it, it collects garbage more often. It is no hard limit; 0 means none. GOMEMLIMIT goes before it. ${default} when left out." default:"1024" placeholder:"MIB"`
	BuildStep  int          `help:"Events, in MiB, of one step in which read models are built; two steps are in memory. ${default} when left out." default:"4" placeholder:"MIB"`
	Sample     bool         `help:"Import a small invented sample when the log is empty, and print a first answer."`
}

// Help shows an example.
func (serveCommand) Help() string {
	return "Example: rapport serve --data data --listen 127.0.0.1:8080\n\n" +
		"Without --eventstore and --postgres both run here, below the data directory. Ctrl-C stops everything; what was acknowledged is kept. A second Ctrl-C kills."
}

// tenants are those that are served, the first for requests that name none.
func (s serveCommand) tenants() []domain.Tenant { return tenantsOf(s.Tenants) }

// tenantsOf reads the names of tenants that a flag gave.
func tenantsOf(names []tenantName) []domain.Tenant {
	list := make([]domain.Tenant, len(names))
	for i, t := range names {
		list[i] = domain.Tenant(t)
	}
	return list
}

// Validate refuses values that cannot be right.
func (s serveCommand) Validate() error {
	for _, t := range s.Tenants {
		if err := t.Validate(); err != nil {
			return fmt.Errorf("--tenant: %w", err)
		}
	}
	switch {
	case s.Memory < 0:
		return fmt.Errorf("--memory %d is below 0", s.Memory)
	case s.PastMemory < 1 || s.PastDisk < 1:
		return fmt.Errorf("--past-memory %d and --past-disk %d must be 1 or more", s.PastMemory, s.PastDisk)
	case s.BuildStep < 1:
		return fmt.Errorf("--build-step %d must be 1 or more", s.BuildStep)
	case len(s.Tenants) == 0:
		return errors.New("--tenant is empty: leave it out for main")
	case len(s.Roles) == 0:
		return errors.New("--roles is empty: leave it out for all of them")
	}
	return nil
}

// Run serves until ctx ends, which is no error, or until something that it needs has failed.
func (s serveCommand) Run(ctx context.Context, c *console) error {
	err := s.serve(ctx, c)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s serveCommand) serve(ctx context.Context, c *console) (err error) {
	tuneGC(s.Memory << 20)
	if err := api.CheckListen(string(s.Listen), s.Insecure); err != nil {
		return err
	}
	host := 0 // the process whose stores are used; 0: none
	if !s.external() {
		if host, err = s.join(); err != nil {
			return err
		}
	}
	destinations, err := openDestinations(s.Publish, s.tenants(), c.log)
	if err != nil {
		return err
	}
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	listener, err := net.Listen("tcp", string(s.Listen))
	if err != nil {
		return err
	}
	closing.add(func() error { listener.Close(); return nil }) // the server has closed it already when all went well

	var secret []byte // of who writes
	var options []eventlog.Option
	if s.commands() {
		if secret, err = s.secret(s.Secret); err != nil {
			return err
		}
		options = append(options, eventlog.WithSecret(secret))
	}
	var places landmarks
	l, err := s.openLog(ctx, c.log, &closing, append(options, eventlog.WithLandmark(places.find))...)
	if err != nil {
		return err
	}
	postgres, err := s.openPostgres(ctx, c.log, &closing)
	if err != nil {
		return err
	}
	parts, err := s.assemble(ctx, c, l, postgres.URL, secret, destinations, &closing)
	if err != nil {
		return err
	}
	places.in(parts.reads.For(domain.Caller{Tenant: s.tenants()[0]})) // where some events of the log stand is all that it asks
	if host == 0 && s.alone() {
		forget, err := s.announce(running{PID: os.Getpid(), EventStore: l.URL, Postgres: postgres.URL, API: "http://" + listener.Addr().String(), Roles: s.Roles})
		if err != nil {
			return err
		}
		closing.add(forget)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return postgres.watch(ctx) })
	if host != 0 {
		group.Go(func() error { return s.watchHost(ctx, host) })
	}
	for _, work := range parts.work {
		group.Go(func() error { return work(ctx) })
	}
	group.Go(func() error { return parts.server.Serve(ctx, listener) })
	group.Go(func() error { s.welcome(ctx, c, l, parts.reads, listener.Addr().String()); return nil })
	return group.Wait()
}

// alone reports whether this server is the one that the other verbs find by the data directory. Of servers on stores that
// lie elsewhere, any number of which may name one data directory, it is the first; none of them makes the directory.
func (s serveCommand) alone() bool {
	if !s.external() {
		return true
	}
	if _, err := os.Stat(s.Data); err != nil {
		return false
	}
	_, err := s.running()
	return errors.Is(err, errNotRunning)
}

// landmarks finds places in the log in the read models, as soon as they are open.
type landmarks struct {
	reads atomic.Pointer[query.Store]
}

func (l *landmarks) in(reads *query.Store) { l.reads.Store(reads) }

func (l *landmarks) find(ctx context.Context, p domain.Position) (domain.Position, error) {
	reads := l.reads.Load()
	if reads == nil {
		return domain.Position{}, nil
	}
	second, err := audit.LogTimeBefore(ctx, reads, p)
	if err != nil || second == nil {
		return domain.Position{}, err
	}
	return second.First(), nil
}

// parts are what serve runs beside the stores.
type parts struct {
	reads  *query.Store
	server *api.Server
	work   []func(context.Context) error // of the roles, until the context ends
}

func (s serveCommand) assemble(ctx context.Context, c *console, l *log, postgres string, secret []byte, destinations []destination, closing *closers) (*parts, error) {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	tracer, err := openTracer(ctx, c.log, c.spans, closing)
	if err != nil {
		return nil, err
	}
	var ofLog []query.Option
	if s.does(roleAPI) { // which hands cursors out
		identity, err := l.Log.ID(ctx)
		if err != nil {
			return nil, err
		}
		ofLog = append(ofLog, query.OfLog(identity))
	}
	reads, err := query.Open(ctx, postgres, ofLog...)
	if err != nil {
		return nil, err
	}
	closing.add(func() error { reads.Close(); return nil })
	const others = 2 // the projector and the timer
	pool, err := openPool(ctx, postgres, others+len(destinations)+len(areas.Processes()), closing)
	if err != nil {
		return nil, err
	}
	if err := reader.Begin(ctx, pool, s.tenants()[0]); err != nil {
		return nil, err
	}
	projector, err := runner.New(pool, l.Log, l.Registry, projections.All(), runner.Options{
		Logger: c.log, Registerer: metrics, Bus: bus.Options{Tracer: tracer}, BuildBytes: s.BuildStep << 20,
	})
	if err != nil {
		return nil, err
	}
	p := &parts{reads: reads}
	var ofRequests, ofLoops *commands.Bus // of what requests bring, and of what processes and deadlines cause in any tenant
	if s.commands() {
		ofRequests = newBus(l, secret, commands.Options{Logger: c.log, Authorise: s.authorise})
		ofLoops = newBus(l, secret, commands.Options{Logger: c.log})
	}
	options := api.Options{
		Reads: reads, Log: l.Store, Projections: admin{projector}, Metrics: metrics, Logger: c.log, Version: versionText(), Tracer: tracer,
		HealthOnly: !s.does(roleAPI),
	}
	probe := func(name string, check func() error) {
		options.Probes = append(options.Probes, api.Probe{Name: name, Check: func(context.Context) error { return check() }})
	}
	follows := func(list []*follow.Follower) {
		for _, f := range list {
			p.work = append(p.work, f.Run)
			probe(f.String(), func() error { return api.Degraded(f.Err()) })
		}
	}
	if s.does(roleProjector) {
		p.work = append(p.work, projector.Run)
		probe("projections", projector.Err)
	}
	if s.does(roleReactor) {
		reactors, err := newReactors(destinations, pool, l, c.log, metrics, tracer, closing)
		if err != nil {
			return nil, err
		}
		follows(reactors)
	}
	if s.does(roleProcess) {
		processes, err := newProcesses(areas.Processes(), ofLoops, pool, l, c.log, metrics, tracer)
		if err != nil {
			return nil, err
		}
		follows(processes)
	}
	if s.does(roleTimer) {
		deadlines, err := deadlineJob(ofLoops, reads, c.log)
		if err != nil {
			return nil, err
		}
		loop, err := due.New(pool, append(dueJobs(pool), deadlines), due.Options{Logger: c.log, Registerer: metrics})
		if err != nil {
			return nil, err
		}
		p.work = append(p.work, loop.Run)
		probe("due jobs", func() error { return api.Degraded(loop.Err()) })
	}
	if s.does(roleAPI) {
		if err := s.offer(ctx, c, l, postgres, ofRequests, reads, &options, closing); err != nil {
			return nil, err
		}
	}
	p.server, err = api.New(options)
	return p, err
}

// authorise is the rule of commands that requests bring, the same as that of queries. Processes and deadlines have a bus without it: they
// work for all tenants in the log, whichever this server serves.
func (s serveCommand) authorise(r commands.Request) error {
	return domain.Caller{Tenant: r.Tenant, Actor: r.Actor}.Admit(s.tenants())
}

// offer adds what the API needs beside health.
func (s serveCommand) offer(ctx context.Context, c *console, l *log, postgres string, bus *commands.Bus, reads *query.Store, options *api.Options, closing *closers) error {
	if s.Sample {
		if err := importSample(ctx, c, l, bus, s.tenants()[0]); err != nil {
			return err
		}
	}
	options.Tenants = s.tenants()
	for _, t := range options.Tenants {
		if err := bus.Prime(ctx, t); err != nil {
			return err
		}
	}
	words, err := aggregates.Phrasebook()
	if err != nil {
		return err
	}
	historian, err := history.New(l.Store, party.Timelines{Store: reads}, projections.All())
	if err != nil {
		return err
	}
	past, err := asof.Open(ctx, postgres, l.Store, reads, projections.All(), asof.Options{MaxMemory: s.PastMemory << 20, MaxStored: s.PastDisk << 20, Logger: c.log})
	if err != nil {
		return err
	}
	closing.add(func() error { past.Close(); return nil })
	options.Bus, options.Past, options.Words = bus, past, words
	options.History = func(reads *query.Store) api.Historian { return historian.At(party.Timelines{Store: reads}) }
	return nil
}

// leftoverInterval is how often what ended processes have left behind is cleared away.
const leftoverInterval = 10 * time.Minute

// dueJobs are what the timer does.
func dueJobs(pool *pgxpool.Pool) []due.Job {
	return []due.Job{
		{Name: "snapshots of ended processes", Every: leftoverInterval, Do: func(ctx context.Context) error { return asof.DropLeftovers(ctx, pool) }},
		{Name: "what-if tables of ended processes", Every: leftoverInterval, Do: func(ctx context.Context) error {
			return pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return whatif.DropLeftovers(ctx, c.Conn()) })
		}},
	}
}

// admin offers the runner to the API, in the API's words.
type admin struct{ *runner.Runner }

func (a admin) Status(ctx context.Context) ([]api.ProjectionStatus, error) {
	statuses, err := a.Runner.Status(ctx)
	out := make([]api.ProjectionStatus, len(statuses))
	for i, s := range statuses {
		out[i] = api.ProjectionStatus{
			Name: s.Name, Version: s.Version, State: string(s.State), Healthy: s.Healthy(), Problem: cmp.Or(s.Problem, s.Retrying), Remedy: s.Remedy,
			Position: s.Position, Head: s.Head, LagEvents: s.LagEvents, LagSeconds: s.Lag.Seconds(),
			HeartbeatSeconds: s.HeartbeatAge.Seconds(), ParkedStreams: s.ParkedStreams, ParkedEvents: s.ParkedEvents,
			Readable: s.Readable, Builds: make([]api.ProjectionBuild, len(s.Builds)),
		}
		for j, b := range s.Builds {
			out[i].Builds[j] = api.ProjectionBuild{
				Version: b.Version, Build: b.Build, Stage: b.Stage, Problem: b.Problem, Hold: b.Hold, Position: b.Position,
				EventsPerSecond: b.Rate, Percent: b.Percent, SecondsLeft: b.Left.Seconds(), DropAt: b.DropAt,
			}
			if b.Left < 0 {
				out[i].Builds[j].SecondsLeft = -1
			}
		}
		if s.HeartbeatAge < 0 {
			out[i].HeartbeatSeconds = -1
		}
	}
	return out, err
}

func (a admin) Rebuild(ctx context.Context, name, actor string, req api.RebuildRequest) error {
	return a.Runner.Rebuild(ctx, build.Ask{Projections: append([]string{name}, req.With...), Actor: actor, Hold: req.Hold, Park: req.Park})
}

func (a admin) Abandon(ctx context.Context, name, actor string) ([]api.AbandonedBuild, error) {
	builds, err := a.Runner.Abandon(ctx, name, actor)
	out := make([]api.AbandonedBuild, len(builds))
	for i, b := range builds {
		out[i] = api.AbandonedBuild(b)
	}
	return out, err
}

func (a admin) Parked(ctx context.Context, name string) ([]api.ParkedStream, error) {
	streams, err := a.Runner.Parked(ctx, name)
	out := make([]api.ParkedStream, len(streams))
	for i, s := range streams {
		out[i] = api.ParkedStream{Version: s.Version, Build: s.Build, Stream: s.Stream, Error: s.Error, ParkedAt: s.ParkedAt}
		for _, e := range s.Events {
			out[i].Events = append(out[i].Events, api.ParkedEvent{ID: e.ID, Type: e.Type, Revision: e.Revision, Position: e.Position})
		}
	}
	return out, err
}

// welcome prints where everything is and, with the sample, a first answer; it fails nothing.
func (s serveCommand) welcome(ctx context.Context, c *console, l *log, reads *query.Store, address string) {
	if s.does(roleAPI) {
		fmt.Fprintf(c.out, "API        http://%s/v1\nreference  http://%s/docs\n", address, address)
	}
	fmt.Fprintf(c.out, "health     http://%s/readyz\n", address)
	if !s.Sample || !s.does(roleAPI) {
		return
	}
	var answer bytes.Buffer
	head, err := l.Head(ctx)
	if err == nil {
		err = waitFor(ctx, reads, head.Position)
	}
	if err == nil { // some read models have come so far, and others may still be built
		err = patiently(ctx, func() error {
			answer.Reset()
			return firstAnswer(ctx, &answer, reads.For(domain.Caller{Tenant: s.tenants()[0]}), time.Now(), address)
		})
	}
	if err == nil {
		_, err = answer.WriteTo(c.out)
	}
	if err != nil && ctx.Err() == nil { // the server goes on
		c.log.WarnContext(ctx, "no first answer", "err", err)
	}
}

// waitFor waits until the read models have reached p, however long a first catch-up takes.
func waitFor(ctx context.Context, reads *query.Store, p domain.Position) error {
	return patiently(ctx, func() error { return reads.WaitFor(ctx, p) })
}

// askPause is how long patiently waits before it asks again.
const askPause = 100 * time.Millisecond

// patiently asks again and again while the read models cannot answer now, until ctx ends.
func patiently(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		var late *domain.UnavailableError
		if err == nil || !errors.As(err, &late) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(askPause):
		}
	}
}
