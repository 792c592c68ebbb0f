package api_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/api"
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
	parked, late, halted := well, well, well
	parked.ParkedStreams, parked.ParkedEvents = 1, 2
	late.LagSeconds = 2 * api.MaxReadyLag.Seconds()
	halted.State = "halted"
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

// slowStores is in an answer when a store took too long.
var slowStores = regexp.MustCompile(`"(event log|read models)","status":"failing"`)

// of serves another server for as long as f runs.
func (s *stack) of(t testing.TB, server *api.Server, f func(*stack)) {
	other := *s
	other.t, other.server = t, server
	other.serve()
	f(&other)
}
