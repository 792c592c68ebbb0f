package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// standing answers for projections that stand as given.
type standing struct {
	api.Projections
	list []api.ProjectionStatus
}

func (s standing) Status(context.Context) ([]api.ProjectionStatus, error) { return s.list, nil }

// P18 of docs/faults.md.
func TestReadinessTellsDegradedFromUnready(t *testing.T) {
	s := start(t)
	well := api.ProjectionStatus{Name: "customer", State: "running", Readable: true}
	parked, late, halted, lost := well, well, well, well
	parked.ParkedStreams, parked.ParkedEvents = 1, 2
	late.LagSeconds = 2 * api.MaxReadyLag.Seconds()
	halted.State = "halted"
	lost.State, lost.Remedy = "halted", "rapport projections rebuild --all"
	stuck, rolledBack := well, well
	stuck.Builds = []api.ProjectionBuild{{Stage: "serving"}, {Stage: "building", Problem: "an event cannot be applied"}}
	rolledBack.Builds = []api.ProjectionBuild{{Stage: "serving"}, {Stage: "standby", Problem: "what served before"}}
	fails := errors.New("this is for the log, not for the caller")
	for _, c := range []struct {
		name   string
		list   []api.ProjectionStatus
		probe  error
		status int
		want   string
	}{
		{"all is well", []api.ProjectionStatus{well}, nil, http.StatusOK, `{"status":"ready"`},
		{"parked events", []api.ProjectionStatus{parked}, nil, http.StatusOK, `{"status":"degraded"`},
		{"a rebuild that cannot go on", []api.ProjectionStatus{well, stuck}, nil, http.StatusOK, `customer is not built anew`},
		{"an old table that cannot be kept up to date", []api.ProjectionStatus{rolledBack}, nil, http.StatusOK, `{"status":"ready"`},
		{"a reactor that fails", []api.ProjectionStatus{well}, api.Degraded(fails), http.StatusOK, `{"status":"degraded"`},
		{"far behind", []api.ProjectionStatus{well, late}, nil, http.StatusServiceUnavailable, `more than 1m0s behind`},
		{"parked and far behind", []api.ProjectionStatus{parked, late}, nil, http.StatusServiceUnavailable, `{"status":"unready"`},
		{"halted", []api.ProjectionStatus{halted}, nil, http.StatusServiceUnavailable, `customer is halted`},
		{"rows of another history", []api.ProjectionStatus{lost}, nil, http.StatusServiceUnavailable, "run `rapport projections rebuild --all`"},
		{"a projector that fails", []api.ProjectionStatus{well}, fails, http.StatusServiceUnavailable, `{"status":"unready"`},
		{"both", []api.ProjectionStatus{parked}, fails, http.StatusServiceUnavailable, `{"status":"unready"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			only, err := api.New(api.Options{
				Reads: s.reads, Log: s.store, Projections: standing{list: c.list}, HealthOnly: true,
				Probes: []api.Probe{{Name: "loop", Check: func(context.Context) error { return c.probe }}},
			})
			if err != nil {
				t.Fatal(err)
			}
			s.of(t, only, func(s *stack) {
				a := s.do(http.MethodGet, "/readyz", nil)
				for slowStores.Match(a.body) && s.t.Context().Err() == nil { // which is not what this is about
					a = s.do(http.MethodGet, "/readyz", nil)
				}
				if a.StatusCode != c.status || !strings.Contains(string(a.body), c.want) || strings.Contains(string(a.body), "for the log") {
					t.Errorf("%d: %s", a.StatusCode, a.body)
				}
				if a := s.do(http.MethodGet, "/v1/customers", nil); a.StatusCode != http.StatusNotFound {
					t.Errorf("a server for health alone answers %d", a.StatusCode)
				}
			})
		})
	}
}

// rude is a check that hangs, whatever its context says, until it is released.
type rude struct {
	released chan struct{}
	calls    atomic.Int32
}

func (r *rude) check(context.Context) error {
	r.calls.Add(1)
	<-r.released
	return nil
}

// hangingProjections have a status that hangs.
type hangingProjections struct {
	api.Projections
	rude *rude
}

func (h hangingProjections) Status(ctx context.Context) ([]api.ProjectionStatus, error) {
	return nil, h.rude.check(ctx)
}

// hangingLog has a head that hangs.
type hangingLog struct {
	*eventlog.Store
	rude *rude
}

func (h hangingLog) Head(ctx context.Context) (domain.Mark, error) {
	return domain.Mark{}, h.rude.check(ctx)
}

// healthPatience bounds an answer about health. Nothing that hangs here ends within it.
const healthPatience = 30 * time.Second

// health asks for one of the answers about health.
func (s *stack) health(path string) (answer, api.Health) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), healthPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	var h api.Health
	if err := json.Unmarshal(body, &h); err != nil {
		s.t.Fatalf("%s: %v: %s", path, err, body)
	}
	return answer{res, body}, h
}

// A13 of docs/faults.md.
func TestHealthIsAnsweredWhateverHangs(t *testing.T) {
	s := start(t)
	nodeWire := newWire(t, s.node.Addr())
	through, err := eventlog.Dial(t.Context(), "esdb://"+nodeWire.listener.Addr().String()+"?tls=false", eventlog.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := through.Close(); err != nil {
			t.Error(err)
		}
	})
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		hang func(t *testing.T, o *api.Options) (release func())
		want string // fails
	}{
		{"a log that never answers", func(_ *testing.T, o *api.Options) func() {
			r := &rude{released: make(chan struct{})}
			o.Log = hangingLog{s.store, r}
			return func() { close(r.released) }
		}, "event log"},
		{"a frozen node", func(*testing.T, *api.Options) func() {
			nodeWire.freeze()
			return nodeWire.thaw
		}, "event log"},
		{"a frozen database", func(*testing.T, *api.Options) func() {
			s.postgres.freeze()
			return s.postgres.thaw
		}, "read models"},
		{"projections that do not say how they are", func(_ *testing.T, o *api.Options) func() {
			r := &rude{released: make(chan struct{})}
			o.Projections = hangingProjections{rude: r}
			return func() { close(r.released) }
		}, "projection lag"},
		{"a disk that never answers", func(t *testing.T, o *api.Options) func() {
			r := &rude{released: make(chan struct{})}
			o.Probes = []api.Probe{{Name: "disk", Check: r.check}}
			return func() {
				if n := r.calls.Load(); n != 1 {
					t.Errorf("%d checks hang: each question began one", n)
				}
				close(r.released)
			}
		}, "disk"},
		{"everything", func(_ *testing.T, o *api.Options) func() {
			r := &rude{released: make(chan struct{})}
			o.Log, o.Projections, o.Probes = hangingLog{s.store, r}, hangingProjections{rude: r}, []api.Probe{{Name: "disk", Check: r.check}}
			s.postgres.freeze()
			return func() { close(r.released); s.postgres.thaw() }
		}, "event log, read models, projection lag, disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := api.Options{Reads: s.reads, Log: eventlog.NewStore(through, registry), Projections: standing{}, HealthOnly: true}
			release := sync.OnceFunc(c.hang(t, &o))
			t.Cleanup(release) // before the server stops, also when something fails
			only, err := api.New(o)
			if err != nil {
				t.Fatal(err)
			}
			s.of(t, only, func(s *stack) {
				t.Cleanup(release)
				var asking sync.WaitGroup
				for range 5 {
					asking.Go(func() {
						a, health := s.health("/readyz")
						if a.StatusCode != http.StatusServiceUnavailable || health.Status != "unready" || a.Header.Get("Retry-After") == "" {
							t.Errorf("%d: %s", a.StatusCode, a.body)
						}
						for _, check := range health.Checks {
							if strings.Contains(c.want, check.Name) && (check.Status != "failing" || check.Detail == "") {
								t.Errorf("%s is not named: %s", check.Name, a.body)
							}
						}
					})
				}
				asking.Wait()
				for _, path := range []string{"/livez", "/healthz"} {
					if a, health := s.health(path); a.StatusCode != http.StatusOK || health.Status != "ok" {
						t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
					}
				}
				release()
				for s.t.Context().Err() == nil {
					if a, _ := s.health("/readyz"); a.StatusCode == http.StatusOK {
						break
					}
				}
			})
		})
	}
}

// slowStores is in an answer when a store took too long.
var slowStores = regexp.MustCompile(`"(event log|read models)","status":"failing"`)

// of serves another server for as long as f runs.
func (s *stack) of(t testing.TB, server *api.Server, f func(*stack)) {
	other := *s
	other.t, other.server = t, server
	other.serve()
	f(&other)
}
