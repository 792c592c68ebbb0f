package bus_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

func TestBatchJoinsTheTraceOfItsEventsOrLinksToSeveral(t *testing.T) {
	parent := func(of int, sampled int) string { return fmt.Sprintf("00-%032x-%016x-%02x", of, 7, sampled) }
	for _, c := range []struct {
		name   string
		events []string // trace parents
		want   string   // trace id of the span's parent, and how many links it has; "" for no span
	}{
		{"one trace", []string{parent(1, 1), "", parent(1, 1)}, fmt.Sprintf("%032x 0", 1)},
		{"two traces", []string{parent(1, 1), parent(2, 1), parent(2, 1), parent(3, 0)}, fmt.Sprintf("%032x 2", 0)},
		{"not sampled", []string{parent(1, 0), "", "nonsense"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // whose clock stands while the batch fills
				recorded := tracetest.NewInMemoryExporter()
				provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(recorded))
				var messages []eventlog.Message
				for n := range c.events {
					messages = append(messages, event(n+1))
				}
				opts := options(len(c.events))
				opts.Tracer = provider.Tracer("test")
				traced := decoder(func(raw codec.Raw) (domain.Recorded, error) {
					return domain.Recorded{Position: raw.Position, Metadata: domain.Metadata{TraceParent: c.events[raw.Position.Commit-1]}}, nil
				})
				err := run(t, bus.NewSubscriber(script(nil, messages...), domain.Mark{}, traced, opts),
					func(*bus.Batch) (bool, error) { return false, nil })
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				for _, span := range recorded.GetSpans() {
					got += fmt.Sprintf("%s %d", span.Parent.TraceID(), len(span.Links))
				}
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}
