package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// MaxReadyLag is how far, in time, projections may be behind while the server counts as ready.
const MaxReadyLag = time.Minute

// Health answers the question whether the server is ready.
type Health struct {
	Status string        `json:"status"` // ready; degraded: ready, and something needs attention; or unready
	Checks []HealthCheck `json:"checks"`
}

// HealthCheck is one thing that must be well.
type HealthCheck struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, degraded or failing
	Detail string `json:"detail,omitempty"`
}

// healthRoutes offers what operators and their tools ask; it is no part of the documented API.
func (s *Server) healthRoutes() error {
	alive := func(c echo.Context) error { return writeJSON(c, http.StatusOK, map[string]string{"status": "ok"}) }
	s.echo.GET("/healthz", alive)
	s.echo.GET("/livez", alive)
	s.echo.GET("/readyz", s.ready(s.watches()))
	s.echo.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(s.opts.Metrics, promhttp.HandlerOpts{})))
	return nil
}

// watches returns what must be well for the server to be ready.
func (s *Server) watches() []*watch {
	probes := append([]Probe{
		{"event log", func(ctx context.Context) error { _, err := s.opts.Log.Head(ctx); return err }},
		{"read models", s.opts.Reads.Ping},
		{"server", func(context.Context) error {
			if s.draining.Load() {
				return errors.New("stopping")
			}
			return nil
		}},
	}, s.opts.Probes...)
	if s.opts.Projections != nil {
		probes = append(probes, Probe{"projection lag", s.projectionsReady})
	}
	watches := make([]*watch, len(probes))
	for i, p := range probes {
		watches[i] = &watch{Probe: p, running: &s.probing}
	}
	return watches
}

// ready answers within ReadyTimeout, whatever hangs.
func (s *Server) ready(watches []*watch) echo.HandlerFunc {
	return func(c echo.Context) error {
		ctx, cancel := context.WithTimeout(c.Request().Context(), ReadyTimeout)
		defer cancel()
		checks := make([]HealthCheck, len(watches))
		var asking sync.WaitGroup
		for i, w := range watches {
			asking.Go(func() { checks[i] = s.check(ctx, w) })
		}
		asking.Wait()
		return answerHealth(c, checks)
	}
}

// check asks one probe.
func (s *Server) check(ctx context.Context, w *watch) HealthCheck {
	err := w.ask(ctx)
	if err == nil {
		return HealthCheck{Name: w.Name, Status: "ok"}
	}
	state := "failing"
	var degraded *degradedError
	if errors.As(err, &degraded) {
		state = "degraded"
	}
	return HealthCheck{Name: w.Name, Status: state, Detail: s.healthDetail(ctx, w.Name, err)}
}

// answerHealth sums the checks up.
func answerHealth(c echo.Context, checks []HealthCheck) error {
	health := Health{Status: "ready", Checks: checks}
	status := http.StatusOK
	for _, check := range health.Checks {
		switch {
		case check.Status == "failing":
			health.Status, status = "unready", http.StatusServiceUnavailable
			c.Response().Header().Set(headerRetryAfter, "2")
		case check.Status == "degraded" && health.Status == "ready":
			health.Status = "degraded"
		}
	}
	return writeJSON(c, status, health)
}

// healthDetail tells the caller the kind of a failure and the log the rest.
func (s *Server) healthDetail(ctx context.Context, name string, err error) string {
	s.logger.WarnContext(ctx, "not well", "check", name, "err", err)
	var lag *lagError
	if errors.As(err, &lag) {
		return lag.Error()
	}
	var silent *silentError
	if errors.As(err, &silent) {
		return silent.Error()
	}
	if p := problemOf(err); p.Status != http.StatusInternalServerError {
		return p.Detail
	}
	return "failing; the server's log says why"
}

// degradedError is what Degraded returns.
type degradedError struct{ err error }

func (e *degradedError) Error() string { return e.err.Error() }
func (e *degradedError) Unwrap() error { return e.err }

// lagError says which projection is not where it should be.
type lagError struct{ name, state string }

func (e *lagError) Error() string { return fmt.Sprintf("projection %s is %s", e.name, e.state) }

// halted says what heals a projection that cannot go on, where one command does.
func halted(p ProjectionStatus) string {
	if p.Remedy == "" {
		return "halted"
	}
	return "halted: its rows are not of this log; run `" + p.Remedy + "`"
}

// building says how far the table is that queries wait for.
func building(p ProjectionStatus) string {
	for _, b := range p.Builds {
		if b.Stage == "building" && b.Percent >= 0 && b.SecondsLeft >= 0 {
			return fmt.Sprintf("being built: %.0f %%, %s left", b.Percent, time.Duration(b.SecondsLeft)*time.Second)
		}
	}
	return "being built"
}

// stuck reports whether a table that is to take the place of the one that serves cannot be built.
func stuck(p ProjectionStatus) bool {
	return slices.ContainsFunc(p.Builds, func(b ProjectionBuild) bool {
		return b.Problem != "" && b.Stage != "serving" && b.Stage != "standby" && b.Stage != "retired"
	})
}

func (s *Server) projectionsReady(ctx context.Context) error {
	all, err := s.opts.Projections.Status(ctx)
	if err != nil {
		return err
	}
	var degraded error
	for _, p := range all {
		switch {
		case degraded != nil:
		case p.ParkedStreams > 0:
			degraded = Degraded(&lagError{p.Name, fmt.Sprintf("without %d events that are parked", p.ParkedEvents)})
		case stuck(p):
			degraded = Degraded(&lagError{p.Name, "not built anew: the build cannot go on"})
		}
		switch {
		case p.State == "halted":
			return &lagError{p.Name, halted(p)}
		case !p.Readable:
			return &lagError{p.Name, building(p)}
		case p.State != "rebuilding" && p.LagSeconds > MaxReadyLag.Seconds():
			return &lagError{p.Name, fmt.Sprintf("more than %s behind", MaxReadyLag)}
		}
	}
	return degraded
}
