package runner

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/internal/bus"
)

// metrics are what the loop reports. Without a registerer they are counted all the same, for Status.
type metrics struct {
	events    *prometheus.CounterVec   // applied, by projection
	parked    *prometheus.CounterVec   // parked, by projection
	skipped   *prometheus.CounterVec   // delivered again and dropped, by projection
	ignored   *prometheus.CounterVec   // of types nobody here knows, by projection
	retries   *prometheus.CounterVec   // by class
	batchSize prometheus.Histogram     // events
	apply     *prometheus.HistogramVec // seconds, by outcome

	lagEvents, lagSeconds, heartbeatAge, parkedStreams, oldestParked, position *prometheus.GaugeVec // by projection
	state                                                                      *prometheus.GaugeVec // 1 for the state that a projection is in
	head                                                                       prometheus.Gauge

	mu      sync.Mutex
	classes map[string]int64 // retries
}

const metricPrefix = "rapport_projection_"

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: metricPrefix + name, Help: help}, append([]string{"projection"}, labels...))
	}
	m := &metrics{
		events:  counter("events_total", "Events applied.", "projection"),
		parked:  counter("parked_events_total", "Events parked.", "projection"),
		skipped: counter("skipped_duplicates_total", "Events delivered again and dropped.", "projection"),
		ignored: counter("ignored_events_total", "Events of unknown types that do not concern the projection.", "projection"),
		retries: counter("retries_total", "Attempts that failed and are repeated.", "class"),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{Name: metricPrefix + "batch_size", Help: "Events in a batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7)}),
		apply: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: metricPrefix + "apply_seconds", Help: "Time to store a batch.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"outcome"}),
		lagEvents:     gauge("lag_events", "Events not applied yet, counted up to a bound."),
		lagSeconds:    gauge("lag_seconds", "Age of the first event not applied yet."),
		heartbeatAge:  gauge("heartbeat_age_seconds", "Time since the owner was seen working."),
		parkedStreams: gauge("parked_sequences", "Streams parked."),
		oldestParked:  gauge("oldest_parked_seconds", "Time since the first stream still parked was parked."),
		position:      gauge("position", "Commit position of the checkpoint."),
		state:         gauge("state", "1 for the state that the projection is in.", "state"),
		head:          prometheus.NewGauge(prometheus.GaugeOpts{Name: metricPrefix + "head_position", Help: "Commit position of the last event, probed independently."}),
		classes:       map[string]int64{},
	}
	if registerer == nil {
		return m, nil
	}
	var failed error
	for _, c := range []prometheus.Collector{m.events, m.parked, m.skipped, m.ignored, m.retries, m.batchSize, m.apply,
		m.lagEvents, m.lagSeconds, m.heartbeatAge, m.parkedStreams, m.oldestParked, m.position, m.state, m.head} {
		failed = errors.Join(failed, registerer.Register(c))
	}
	return m, failed
}

// applied counts what one transaction has done for a projection.
func (m *metrics) applied(p *plan) {
	name := p.member.Name
	m.events.WithLabelValues(name).Add(float64(len(p.events)))
	m.parked.WithLabelValues(name).Add(float64(len(p.park)))
	m.skipped.WithLabelValues(name).Add(float64(p.skipped))
	m.ignored.WithLabelValues(name).Add(float64(p.ignored))
}

// batch observes one attempt at a batch.
func (m *metrics) batch(_ string, b *bus.Batch, took time.Duration, err error) {
	outcome := "stored"
	if err != nil {
		outcome = "failed"
	} else {
		m.batchSize.Observe(float64(len(b.Items)))
	}
	m.apply.WithLabelValues(outcome).Observe(took.Seconds())
}

func (m *metrics) retry(class string) {
	m.retries.WithLabelValues(class).Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.classes[class]++
}

// status sets the gauges.
func (m *metrics) status(list []Status) {
	for _, s := range list {
		m.lagEvents.WithLabelValues(s.Name).Set(float64(s.LagEvents))
		m.lagSeconds.WithLabelValues(s.Name).Set(s.Lag.Seconds())
		m.heartbeatAge.WithLabelValues(s.Name).Set(s.HeartbeatAge.Seconds())
		m.parkedStreams.WithLabelValues(s.Name).Set(float64(s.ParkedStreams))
		m.oldestParked.WithLabelValues(s.Name).Set(s.OldestParked.Seconds())
		m.position.WithLabelValues(s.Name).Set(float64(s.Position.Commit))
		for _, state := range []State{Running, Rebuilding, Halted, Waiting} {
			value := 0.0
			if s.State == state {
				value = 1
			}
			m.state.WithLabelValues(s.Name, string(state)).Set(value)
		}
		if s.Head != nil {
			m.head.Set(float64(s.Head.Commit))
		}
	}
}
