package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/internal/porttest"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/asof"
	"github.com/rapport-crm/rapport/projections/history"
	"github.com/rapport-crm/rapport/projections/runner"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience bounds waits; nothing is learned from how long they take.
const patience = 2 * time.Minute

// stack is the whole product behind a real listener.
type stack struct {
	t        testing.TB
	node     *esnode.Node
	log      *eventlog.ESDB
	store    *eventlog.Store
	bus      *commands.Bus
	reads    *query.Store
	past     *asof.Evaluator
	runner   *runner.Runner
	built    func() // waits for the read models, the first time
	server   *api.Server
	url      string
	logged   *buffer
	dir      string       // of the installation
	database string       // connection string, past the wire
	postgres *wire        // between the product and the database
	stop     func() error // stops the HTTP server; called at the end of the test when the test has not
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start runs the whole stack; change may alter the options of the server.
func start(t testing.TB, change ...func(*api.Options)) *stack {
	t.Helper()
	return startAt(t, time.Now, change...)
}

// startAt is start with a clock for everything that is recorded and asked.
func startAt(t testing.TB, clock func() time.Time, change ...func(*api.Options)) *stack {
	t.Helper()
	s := &stack{t: t, logged: &buffer{}, dir: t.TempDir()}
	logger := slog.New(slog.NewJSONHandler(s.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.database = pgtest.Database(t)
	database := s.wirePostgres(s.database)
	s.startLog()
	var err error
	if s.reads, err = query.Open(t.Context(), patient(t, database)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.reads.Close)
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		t.Fatal(err)
	}
	s.store = eventlog.NewStore(s.log, registry)
	s.bus = commands.NewBus(s.store, commands.Options{Secret: []byte("secret of the tests"), Logger: logger, Clock: clock})
	areas.Register(s.bus)

	pool, err := pgxpool.New(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	run, err := runner.New(pool, s.log, registry, projections.All(), runner.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	s.runner, s.built = run, sync.OnceFunc(s.awaitViews)
	s.background(run.Run)

	words, err := aggregates.Phrasebook()
	if err != nil {
		t.Fatal(err)
	}
	reader, err := history.New(s.store, party.Timelines{Store: s.reads}, projections.All())
	if err != nil {
		t.Fatal(err)
	}
	if s.past, err = asof.Open(t.Context(), database, s.store, s.reads, projections.All(), asof.Options{Logger: logger, Clock: clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.past.Close)
	opts := api.Options{
		Bus: s.bus, Reads: s.reads, Past: s.past, Log: s.store,
		History: func(reads *query.Store) api.Historian { return reader.At(party.Timelines{Store: reads}) }, Words: words, Projections: runnerAdmin{run}, Logger: logger, Version: "test", Clock: clock,
		Probes: []api.Probe{{Name: "projections", Check: func(context.Context) error { return run.Err() }}},
	}
	for _, c := range change {
		c(&opts)
	}
	if s.server, err = api.New(opts); err != nil {
		t.Fatal(err)
	}
	s.serve()
	return s
}

// startLog starts an embedded node, whose address it can have again, and connects to it.
func (s *stack) startLog() {
	s.t.Helper()
	s.node = nodetest.Open(s.t, esnode.Options{Dir: filepath.Join(s.dir, "events"), Listen: porttest.Address(s.t)})
	var err error
	if s.log, err = eventlog.Dial(s.t.Context(), s.node.ConnectionString(), eventlog.WithLogger(slog.New(slog.DiscardHandler))); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := s.log.Close(); err != nil {
			s.t.Errorf("close log: %v", err)
		}
	})
}

// wirePostgres returns a connection string of the same database through a wire.
func (s *stack) wirePostgres(connection string) string {
	s.t.Helper()
	u, err := url.Parse(connection)
	if err != nil {
		s.t.Fatal(err)
	}
	s.postgres = newWire(s.t, u.Host)
	u.Host = s.postgres.listener.Addr().String()
	return u.String()
}

// patient returns a connection string with more time for a query than the product gives, which is none too much for a slow machine.
func patient(t testing.TB, connection string) string {
	t.Helper()
	u, err := url.Parse(connection)
	if err != nil {
		t.Fatal(err)
	}
	parameters := u.Query()
	parameters.Set("statement_timeout", fmt.Sprint(patience.Milliseconds()))
	u.RawQuery = parameters.Encode()
	return u.String()
}

// background runs f until the test ends.
func (s *stack) background(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("background: %v", err)
		}
	})
}

// serve answers on a random port.
func (s *stack) serve() {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(ctx, l) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-done })
	s.t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.stop(); err != nil {
			s.t.Errorf("stop: %v", err)
		}
	})
}

// runnerAdmin offers a runner to the API.
type runnerAdmin struct{ *runner.Runner }

func (r runnerAdmin) Status(ctx context.Context) ([]api.ProjectionStatus, error) {
	all, err := r.Runner.Status(ctx)
	out := make([]api.ProjectionStatus, len(all))
	for i, st := range all {
		out[i] = api.ProjectionStatus{
			Name: st.Name, Version: st.Version, State: string(st.State), Healthy: st.Healthy(), Problem: st.Problem,
			Position: st.Position, Head: st.Head, LagEvents: st.LagEvents, LagSeconds: st.Lag.Seconds(),
			HeartbeatSeconds: st.HeartbeatAge.Seconds(), ParkedStreams: st.ParkedStreams, ParkedEvents: st.ParkedEvents,
			Readable: st.Readable, Builds: []api.ProjectionBuild{},
		}
		for _, b := range st.Builds {
			out[i].Builds = append(out[i].Builds, api.ProjectionBuild{Version: b.Version, Build: b.Build, Stage: b.Stage, Position: b.Position})
		}
	}
	return out, err
}

func (r runnerAdmin) Rebuild(ctx context.Context, name, actor string, req api.RebuildRequest) error {
	return r.Runner.Rebuild(ctx, build.Ask{Projections: append([]string{name}, req.With...), Actor: actor, Hold: req.Hold, Park: req.Park})
}

func (r runnerAdmin) Abandon(ctx context.Context, name, actor string) (out []api.AbandonedBuild, err error) {
	builds, err := r.Runner.Abandon(ctx, name, actor)
	for _, b := range builds {
		out = append(out, api.AbandonedBuild(b))
	}
	return out, err
}

func (r runnerAdmin) Parked(ctx context.Context, name string) ([]api.ParkedStream, error) {
	all, err := r.Runner.Parked(ctx, name)
	out := make([]api.ParkedStream, len(all))
	for i, p := range all {
		out[i] = api.ParkedStream{Version: p.Version, Build: p.Build, Stream: p.Stream, Error: p.Error, ParkedAt: p.ParkedAt}
		for _, e := range p.Events {
			out[i].Events = append(out[i].Events, api.ParkedEvent{ID: e.ID, Type: e.Type, Revision: e.Revision, Position: e.Position})
		}
	}
	return out, err
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body []byte
}

func (a answer) problem(t testing.TB) api.Problem {
	t.Helper()
	var p api.Problem
	a.into(t, &p)
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s %s: content type %q, body %s", a.Request.Method, a.Request.URL, got, a.body)
	}
	if p.Status != a.StatusCode || p.Code == "" || p.Type == "" || p.Title == "" || p.Detail == "" || p.CorrelationID == "" || p.Instance == "" {
		t.Errorf("%s %s: status %d with incomplete problem %s", a.Request.Method, a.Request.URL, a.StatusCode, a.body)
	}
	return p
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s %s: status %d: %v in %s", a.Request.Method, a.Request.URL, a.StatusCode, err, a.body)
	}
}

// do sends a request; headers come in pairs. A body that is no string or []byte goes as JSON.
func (s *stack) do(method, path string, body any, headers ...string) answer {
	s.t.Helper()
	if strings.Contains(path, "minPosition=") {
		s.built()
	}
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = bytes.NewReader([]byte(b))
	case []byte:
		reader = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(s.t.Context()), method, s.url+path, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header[http.CanonicalHeaderKey(headers[i])] = []string{headers[i+1]}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{res, text}
}

// answered asks a query again while it is told to come again, as clients do: the read models have not come so far yet, or the
// database is slow.
func (s *stack) answered(path string, headers ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), patience)
	defer cancel()
	for {
		a := s.do(http.MethodGet, path, nil, headers...)
		if a.StatusCode != http.StatusServiceUnavailable || ctx.Err() != nil {
			return a
		}
	}
}

// awaitViews waits until every read model of the fresh database can be read, which a query that comes earlier is told to wait
// for by 503. It gives up when the database does not answer.
func (s *stack) awaitViews() {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for range look.C {
		all, err := s.runner.Status(s.t.Context())
		if err != nil || !slices.ContainsFunc(all, func(st runner.Status) bool { return !st.Readable }) {
			return
		}
	}
}

// command posts a command that must succeed.
func (s *stack) command(path, key string, body any, headers ...string) api.Receipt {
	s.t.Helper()
	a := s.do(http.MethodPost, path, body, append([]string{"Idempotency-Key", key}, headers...)...)
	if a.StatusCode/100 != 2 {
		s.t.Fatalf("POST %s: status %d: %s", path, a.StatusCode, a.body)
	}
	var r api.Receipt
	a.into(s.t, &r)
	return r
}

// events returns how many events the log holds.
func (s *stack) events() (n int) {
	s.t.Helper()
	for _, err := range s.store.ReadAll(s.t.Context(), domain.Position{}) {
		if err != nil {
			s.t.Fatal(err)
		}
		n++
	}
	return n
}
