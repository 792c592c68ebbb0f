package reactor

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a reactor reports.
type metrics struct{ published, failures, skipped *prometheus.CounterVec }

const metricPrefix = "rapport_reactor_"

// scrapeTimeout bounds the questions of one scrape.
const scrapeTimeout = 5 * time.Second

func newMetrics(registerer prometheus.Registerer, name string, ask func(context.Context) (Status, error)) (*metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, []string{"reactor"})
	}
	m := &metrics{
		published: counter("published_total", "Events that the broker has taken, repetitions included."),
		failures:  counter("failures_total", "Attempts that failed and are repeated."),
		skipped:   counter("skipped_total", "Events that somebody decided to leave out."),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []**prometheus.CounterVec{&m.published, &m.failures, &m.skipped} {
		var taken prometheus.AlreadyRegisteredError
		switch err := registerer.Register(*c); {
		case errors.As(err, &taken): // by another reactor of this process
			*c = taken.ExistingCollector.(*prometheus.CounterVec)
		case err != nil:
			return nil, err
		}
	}
	return m, registerer.Register(newGauges(name, ask))
}

// gauges reports how a reactor stands whenever somebody asks, also while another process works.
type gauges struct {
	ask                                           func(context.Context) (Status, error)
	lag, position, heartbeat, failing, failingFor *prometheus.Desc
}

// begin makes the counters of a reactor exist, so that the first count is a change.
func (m *metrics) begin(name string) {
	for _, v := range []*prometheus.CounterVec{m.published, m.failures, m.skipped} {
		v.WithLabelValues(name)
	}
}

func newGauges(name string, ask func(context.Context) (Status, error)) *gauges {
	gauge := func(metric, help string) *prometheus.Desc {
		return prometheus.NewDesc(metricPrefix+metric, help, nil, prometheus.Labels{"reactor": name})
	}
	return &gauges{
		ask:        ask,
		lag:        gauge("lag_seconds", "Age of the first event that has not had its effect."),
		position:   gauge("position", "Commit position of the checkpoint."),
		heartbeat:  gauge("heartbeat_age_seconds", "Time since the owner was seen working; -1 when there never was one."),
		failing:    gauge("failing", "1 while an event cannot be published; the others wait behind it."),
		failingFor: gauge("failing_seconds", "Time since the event that cannot be published failed first."),
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
