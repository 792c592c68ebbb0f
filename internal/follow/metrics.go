package follow

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a follower reports. Those of all followers of a kind have the same names, and the kind as a label:
// rapport_reactor_failures_total{reactor="nats"}.
type metrics struct{ failures, skipped *prometheus.CounterVec }

// scrapeTimeout bounds the questions of one scrape.
const scrapeTimeout = 5 * time.Second

func newMetrics(registerer prometheus.Registerer, kind, name string, ask func(context.Context) (Status, error)) (*metrics, error) {
	counter := func(metric, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: metricNamespace, Subsystem: kind, Name: metric, Help: help}, []string{kind})
	}
	m := &metrics{
		failures: counter("failures_total", "Attempts that failed and are repeated."),
		skipped:  counter("skipped_total", "Events that somebody decided to leave out."),
	}
	for _, c := range []**prometheus.CounterVec{&m.failures, &m.skipped} {
		if err := Count(registerer, c, name); err != nil {
			return nil, err
		}
	}
	if registerer == nil {
		return m, nil
	}
	return m, registerer.Register(newGauges(kind, name, ask))
}

// metricNamespace is what the names of all metrics begin with.
const metricNamespace = "rapport"

// Count registers counters that the followers of a kind share, and makes that of one of them exist, so that the first count is
// a change. Counters that another follower of this process has registered already take the place of c. Without a registerer
// the counters count all the same.
func Count(registerer prometheus.Registerer, c **prometheus.CounterVec, name string) error {
	if registerer != nil {
		var taken prometheus.AlreadyRegisteredError
		switch err := registerer.Register(*c); {
		case errors.As(err, &taken):
			*c = taken.ExistingCollector.(*prometheus.CounterVec)
		case err != nil:
			return err
		}
	}
	(*c).WithLabelValues(name)
	return nil
}

// gauges reports how a follower stands whenever somebody asks, also while another process works.
type gauges struct {
	ask                                           func(context.Context) (Status, error)
	lag, position, heartbeat, failing, failingFor *prometheus.Desc
}

func newGauges(kind, name string, ask func(context.Context) (Status, error)) *gauges {
	gauge := func(metric, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(metricNamespace, kind, metric), help, nil, prometheus.Labels{kind: name})
	}
	return &gauges{
		ask:        ask,
		lag:        gauge("lag_seconds", "Age of the first event that is not handled yet."),
		position:   gauge("position", "Commit position of the checkpoint."),
		heartbeat:  gauge("heartbeat_age_seconds", "Time since the owner was seen working; -1 when there never was one."),
		failing:    gauge("failing", "1 while an event cannot be handled; the others wait behind it."),
		failingFor: gauge("failing_seconds", "Time since the event that cannot be handled failed first."),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.lag, g.position, g.heartbeat, g.failing, g.failingFor} {
		out <- d
	}
}

// Collect implements prometheus.Collector. The gauges are absent while nobody can tell.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s, err := g.ask(ctx)
	if err != nil {
		return
	}
	heartbeat := s.HeartbeatAge.Seconds()
	if s.HeartbeatAge < 0 {
		heartbeat = -1
	}
	failing := 0.0
	if s.Failing != nil {
		failing = 1
	}
	for d, value := range map[*prometheus.Desc]float64{
		g.lag: s.Lag.Seconds(), g.position: float64(s.Position.Commit), g.heartbeat: heartbeat,
		g.failing: failing, g.failingFor: s.FailingFor.Seconds(),
	} {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
}
