package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// The benchmarks show what one command costs from its request to its answer, the log left out: what is appended is encoded,
// as on its way into the log, and kept in memory. They are for one goroutine; what net/http and the connection cost is not
// in them.

func BenchmarkCommand(b *testing.B) {
	b.Run("create", func(b *testing.B) {
		r := newCommandRig(b)
		b.ReportAllocs()
		for b.Loop() {
			r.create(b)
		}
	})
	b.Run("change", func(b *testing.B) {
		r := newCommandRig(b)
		paths := make([]string, 500)
		for i := range paths {
			paths[i] = r.create(b) + "/update-profile"
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r.post(b, paths[i%len(paths)], fmt.Appendf(nil, `{"website":"https://example.org/%d"}`, i))
		}
	})
}

// BenchmarkRequest shows what the API alone adds to a command: the bus behind it knows its answer.
func BenchmarkRequest(b *testing.B) {
	bus := commands.NewBus(nil, commands.Options{Secret: []byte("secret of the tests")})
	areas.Register(bus)
	id := domain.ID("01900000-0000-7000-8000-000000000001")
	r := newRig(b, answeringBus{bus, commands.Receipt{
		Stream: "main.customer-" + string(id), ID: id, Revision: 7, Position: domain.Position{Commit: 81724, Prepare: 81724},
		EventIDs: []string{"5f0c9d3e-6b1a-5c2f-8e47-1a2b3c4d5e6f"}, EventTypes: []string{"customer.profile_changed"}, CorrelationID: string(id),
	}}, &memoryLog{})
	path, body := "/v1/customers/"+string(id)+"/update-profile", []byte(`{"website":"https://example.org/1"}`)
	b.ReportAllocs()
	for b.Loop() {
		r.post(b, path, body)
	}
}

// answeringBus executes nothing.
type answeringBus struct {
	*commands.Bus
	receipt commands.Receipt
}

func (b answeringBus) Submit(context.Context, commands.Request) (commands.Receipt, error) {
	return b.receipt, nil
}

// commandRig posts commands to a server without a listener.
type commandRig struct {
	server  http.Handler
	request *http.Request
	answer  discarded
}

func newCommandRig(b *testing.B) *commandRig {
	b.Helper()
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		b.Fatal(err)
	}
	log := &memoryLog{codec: registry, streams: map[domain.StreamID][]codec.Raw{}}
	bus := commands.NewBus(log, commands.Options{Secret: []byte("secret of the tests")})
	areas.Register(bus)
	return newRig(b, bus, log)
}

// newRig posts to a bus of the caller's.
func newRig(b *testing.B, bus api.Bus, log api.EventLog) *commandRig {
	b.Helper()
	server, err := api.New(api.Options{Bus: bus, Reads: new(query.Store), Log: log})
	if err != nil {
		b.Fatal(err)
	}
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://bench", nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	return &commandRig{server: server, request: request}
}

func (r *commandRig) create(b *testing.B) (path string) {
	r.post(b, "/v1/customers", []byte(`{"kind":"company","name":"Customer 1","legalName":"Customer Limited","industry":"retail","owner":"ann","source":"bench","tags":["key account"]}`))
	return r.answer.header.Get("Location")
}

func (r *commandRig) post(b *testing.B, path string, body []byte) {
	r.request.URL.Path = path
	r.request.Body, r.request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.request.Header["Idempotency-Key"] = []string{uuid.NewString()}
	r.answer.header = http.Header{} // as net/http does
	r.server.ServeHTTP(&r.answer, r.request)
	if r.answer.status/100 != 2 {
		b.Fatalf("POST %s: status %d", path, r.answer.status)
	}
}

// discarded is an answer of which the status and the headers stay.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) WriteHeader(status int)      { d.status = status }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }

// memoryLog keeps streams as the log does, encoded, for one goroutine at a time.
type memoryLog struct {
	api.EventLog // nil: commands read streams only
	codec        *codec.Registry
	streams      map[domain.StreamID][]codec.Raw
	head         uint64
}

func (l *memoryLog) Append(_ context.Context, id domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	s := l.streams[id]
	if last, ok := expected.Revision(); ok && last+1 != uint64(len(s)) || !ok && len(s) > 0 {
		return domain.Conflict{Actual: domain.AtRevision(uint64(len(s)) - 1)}
	}
	for _, e := range events {
		data, metadata, err := l.codec.Encode(e)
		if err != nil {
			return domain.Refused{Err: err}
		}
		l.head += uint64(len(data) + len(metadata))
		s = append(s, codec.Raw{
			ID: e.ID, Type: e.Event.EventType(), Stream: id.String(), Revision: uint64(len(s)),
			Position: domain.Position{Commit: l.head, Prepare: l.head}, Data: data, Metadata: metadata,
		})
	}
	l.streams[id] = s
	last := s[len(s)-1]
	return domain.Committed{Revision: last.Revision, Position: last.Position}
}

func (l *memoryLog) Read(_ context.Context, id domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for i := from; i < uint64(len(l.streams[id])); i++ {
			if r, err := l.codec.Decode(l.streams[id][i]); !yield(r, err) || err != nil {
				return
			}
		}
	}
}
