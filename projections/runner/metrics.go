package runner

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/apply"
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

	mu      sync.Mutex
	classes map[string]int64 // retries
}

const metricPrefix = "rapport_projection_"

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, labels)
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
		classes: map[string]int64{},
	}
	if registerer == nil {
		return m, nil
	}
	var failed error
	for _, c := range []prometheus.Collector{m.events, m.parked, m.skipped, m.ignored, m.retries, m.batchSize, m.apply} {
		failed = errors.Join(failed, registerer.Register(c))
	}
	return m, failed
}

// retryClasses are the classes of classify that are retried.
var retryClasses = []string{"checkpoint", "connection", "database", "lock", "log", "other", "privilege", "resources", "serialization", "timeout"}

// begin makes the counters of projections exist, so that the first count is a change.
func (m *metrics) begin(projections []*projection.Compiled) {
	for _, c := range projections {
		for _, v := range []*prometheus.CounterVec{m.events, m.parked, m.skipped, m.ignored} {
			v.WithLabelValues(c.Name)
		}
	}
	for _, class := range retryClasses {
		m.retries.WithLabelValues(class)
	}
}

// applied counts what one transaction has done for a projection.
func (m *metrics) applied(c apply.Counts) {
	m.events.WithLabelValues(c.Projection).Add(float64(c.Applied))
	m.parked.WithLabelValues(c.Projection).Add(float64(c.Parked))
	m.skipped.WithLabelValues(c.Projection).Add(float64(c.Skipped))
	m.ignored.WithLabelValues(c.Projection).Add(float64(c.Ignored))
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

// gauges reports how the projections stand whenever somebody asks, from any process that has a runner: a loop that hangs
// cannot go on reporting that all is well.
type gauges struct {
	ask func(context.Context) ([]Status, error)
}

// scrapeTimeout bounds the questions of one scrape to PostgreSQL and the log.
const scrapeTimeout = 5 * time.Second

// gauge describes a gauge of each projection.
func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(metricPrefix+name, help, append([]string{"projection"}, labels...), nil)
}

var (
	answered      = prometheus.NewDesc(metricPrefix+"status_up", "1 when the state of the projections could be read; without it the other gauges are absent.", nil, nil)
	headPosition  = prometheus.NewDesc(metricPrefix+"head_position", "Commit position of the last event, asked of the log independently; absent when it does not answer.", nil, nil)
	lagEvents     = gauge("lag_events", "Events not applied yet, counted up to a bound; -1 when not known.")
	lagSeconds    = gauge("lag_seconds", "Age of the first event not applied yet.")
	heartbeatAge  = gauge("heartbeat_age_seconds", "Time since the owner was seen working; -1 when there never was one.")
	parkedStreams = gauge("parked_sequences", "Streams parked.")
	oldestParked  = gauge("oldest_parked_seconds", "Time since the first stream still parked was parked.")
	failedBuilds  = gauge("failed_builds", "Tables being built that cannot go on; what serves is not touched by that.")
	position      = gauge("position", "Commit position of the checkpoint.")
	version       = gauge("version", "Version of the table, by the state that it is in.", "state")
	state         = gauge("state", "1 for the state that the projection is in.", "state")
)

// Describe implements prometheus.Collector.
func (g gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{answered, headPosition, lagEvents, lagSeconds, heartbeatAge, parkedStreams, oldestParked, failedBuilds, position, version, state} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	list, err := g.ask(ctx)
	if err != nil {
		set(answered, 0)
		return
	}
	set(answered, 1)
	if len(list) > 0 && list[0].Head != nil {
		set(headPosition, float64(list[0].Head.Commit))
	}
	for _, s := range list {
		set(lagEvents, float64(s.LagEvents), s.Name)
		set(lagSeconds, s.Lag.Seconds(), s.Name)
		age := s.HeartbeatAge.Seconds()
		if s.HeartbeatAge < 0 {
			age = -1
		}
		set(heartbeatAge, age, s.Name)
		set(parkedStreams, float64(s.ParkedStreams), s.Name)
		set(oldestParked, s.OldestParked.Seconds(), s.Name)
		failed := 0.0
		for _, b := range s.Builds {
			if b.Problem != "" && b.Unfinished() {
				failed++
			}
		}
		set(failedBuilds, failed, s.Name)
		set(position, float64(s.Position.Commit), s.Name)
		set(version, float64(s.Version), s.Name, string(s.State))
		for _, each := range []State{Running, Rebuilding, Halted, Waiting} {
			value := 0.0
			if s.State == each {
				value = 1
			}
			set(state, value, s.Name, string(each))
		}
	}
}
