package reactor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/internal/porttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// written is the one event of the tests.
type written struct {
	Text string `json:"text"`
}

func (written) EventType() string { return "note.written" }

// read is another, of which nothing is published.
type read struct{}

func (read) EventType() string { return "note.read" }

// patience bounds every wait of the tests.
const patience = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// fixture is a database, an event node and a broker.
type fixture struct {
	t        testing.TB
	pool     *pgxpool.Pool
	registry *codec.Registry
	log      *eventlog.ESDB
	store    *eventlog.Store
	next     map[int]domain.Expected // of each note's stream
	written  []string                // ids of the events written, in order
}

func setUp(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, next: map[int]domain.Expected{}}
	var err error
	if f.pool, err = pgxpool.New(t.Context(), pgtest.Database(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.Close)
	for _, name := range []string{"003_reactor.sql", "005_reactor_mark.sql"} {
		migration, err := os.ReadFile("../../readmodels/migrations/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.pool.Exec(t.Context(), string(migration)); err != nil {
			t.Fatal(err)
		}
	}
	if f.registry, err = codec.New(domain.Definition{
		Name: "note", Plural: "notes", Doc: "A note.",
		Events: []domain.EventSpec{{Example: written{"a"}, Doc: "Somebody wrote something."}, {Example: read{}, Doc: "Somebody read it."}},
	}); err != nil {
		t.Fatal(err)
	}
	node := nodetest.Open(t, esnode.Options{Dir: t.TempDir(), Logger: quiet})
	if f.log, err = eventlog.Dial(t.Context(), node.ConnectionString(), eventlog.WithLogger(quiet)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.log.Close() })
	f.store = eventlog.NewStore(f.log, f.registry)
	return f
}

var recorded = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// append writes one event to the stream of a note.
func (f *fixture) append(note int, e domain.Event, change ...func(*domain.Pending)) {
	f.t.Helper()
	p := domain.Pending{ID: uuid.NewString(), Event: e, Metadata: domain.Metadata{
		Tenant: "main", Actor: domain.Actor{ID: "ann", Kind: domain.ActorHuman}, CorrelationID: "conversation", CausationID: "cause",
		CommandID: "command", OccurredAt: recorded.Add(-time.Hour), RecordedAt: recorded,
	}}
	for _, c := range change {
		c(&p)
	}
	stream := domain.StreamID{Tenant: "main", Aggregate: "note", ID: domain.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", note))}
	var committed domain.Committed
	for done := false; !done; {
		switch outcome := f.store.Append(f.t.Context(), stream, f.next[note], []domain.Pending{p}).(type) {
		case domain.Committed:
			committed, done = outcome, true
		case domain.Unknown: // the node was busy: repeated under the same id
			if f.t.Context().Err() != nil {
				f.t.Fatal(outcome.Err)
			}
		default:
			f.t.Fatalf("append: %#v", outcome)
		}
	}
	f.next[note] = domain.AtRevision(committed.Revision)
	f.written = append(f.written, p.ID)
}

// write appends n events to the streams of some notes, by turns.
func (f *fixture) write(n int) {
	for i := range n {
		f.append(i%5, written{strconv.Itoa(i)})
	}
}

// broker is a NATS server with JetStream that can be stopped and started again.
type broker struct {
	t      testing.TB
	opts   server.Options
	server *server.Server
}

// subject is the one that events are published below.
const subject = "rapport.events"

func startBroker(t testing.TB) *broker {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp", porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, opts: server.Options{Host: at.IP.String(), Port: at.Port, JetStream: true,
		StoreDir: filepath.Join(t.TempDir(), "nats"), NoSigs: true, NoLog: true}}
	b.start()
	t.Cleanup(b.stop)
	_, err = b.stream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{subject + ".>"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *broker) start() {
	b.t.Helper()
	opts := b.opts // the server changes them
	var err error
	if b.server, err = server.NewServer(&opts); err != nil {
		b.t.Fatal(err)
	}
	b.server.Start()
	if !b.server.ReadyForConnections(patience) {
		b.t.Fatal("the broker does not start")
	}
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// stream connects for the rest of the test.
func (b *broker) stream() jetstream.JetStream {
	b.t.Helper()
	conn, err := nats.Connect(b.server.ClientURL(), nats.Timeout(patience))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		b.t.Fatal(err)
	}
	return js
}

// address is what a reactor is given.
func (b *broker) address() string {
	return fmt.Sprintf("nats://127.0.0.1:%d?subject=%s", b.opts.Port, subject)
}

// received waits for n messages and returns their ids in the order of the stream, which holds no others.
func (b *broker) received(n int) (ids []string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	stream, err := b.stream().Stream(ctx, "EVENTS")
	if err != nil {
		b.t.Fatal(err)
	}
	if n > 0 {
		consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
		if err != nil {
			b.t.Fatal(err)
		}
		for len(ids) < n {
			msg, err := consumer.Next(jetstream.FetchMaxWait(patience))
			if err != nil {
				b.t.Fatalf("after %d of %d messages: %v", len(ids), n, err)
			}
			var envelope struct {
				ID   string `json:"id"`
				Type string `json:"type"`
			}
			if err := json.Unmarshal(msg.Data(), &envelope); err != nil {
				b.t.Fatal(err)
			}
			if msg.Headers().Get(nats.MsgIdHdr) != envelope.ID || msg.Subject() != subject+".main."+envelope.Type {
				b.t.Errorf("message %s on %s carries event %s", msg.Headers().Get(nats.MsgIdHdr), msg.Subject(), envelope.ID)
			}
			ids = append(ids, envelope.ID)
		}
	}
	info, err := stream.Info(ctx)
	if err != nil || int(info.State.Msgs) != n {
		b.t.Errorf("the stream holds %d messages, want %d; %v", info.State.Msgs, n, err)
	}
	return ids
}

// observer is a publisher that tells of each attempt, and can be made to fail.
type observer struct {
	bus.Publisher
	attempts chan struct{} // receives each attempt that somebody waits for

	mu     sync.Mutex
	count  map[string]int // attempts by id
	refuse func(*bus.Outgoing) error
}

func observe(to bus.Publisher) *observer {
	return &observer{Publisher: to, attempts: make(chan struct{}), count: map[string]int{}, refuse: func(*bus.Outgoing) error { return nil }}
}

func (o *observer) Publish(out *bus.Outgoing) error {
	o.mu.Lock()
	o.count[out.ID]++
	err := o.refuse(out)
	o.mu.Unlock()
	if err == nil {
		err = o.Publisher.Publish(out)
	}
	select {
	case o.attempts <- struct{}{}:
	default:
	}
	return err
}

// times returns how often an event was tried.
func (o *observer) times(id string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count[id]
}

// memory is a broker that takes everything.
type memory struct {
	mu   sync.Mutex
	took []bus.Outgoing
}

func (m *memory) Publish(out *bus.Outgoing) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.took = append(m.took, *out)
	return nil
}

func (m *memory) Close() error { return nil }

func (m *memory) ids() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.took {
		ids = append(ids, o.ID)
	}
	return ids
}

func options(to bus.Publisher) Options {
	return Options{
		Name: "crm", To: to, Logger: quiet, Types: []string{"note.written"},
		Bus:       bus.Options{Linger: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond},
		Heartbeat: 10 * time.Millisecond, LockRetry: 5 * time.Millisecond, Retry: time.Millisecond,
	}
}

// reactor makes a reactor whose progress can be waited for by progress.
func (f *fixture) reactor(opts Options) (r *Reactor, progress chan struct{}) {
	f.t.Helper()
	r, err := New(f.pool, f.log, f.registry, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	progress = make(chan struct{}, 1)
	r.step = func(point string) error {
		if point == stepSettled {
			select {
			case progress <- struct{}{}:
			default:
			}
		}
		return nil
	}
	return r, progress
}

// start runs r until the returned function is called, which returns Run's error.
func (f *fixture) start(r *Reactor) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	f.t.Cleanup(func() { stop() })
	return stop
}

// begun runs r until it has a checkpoint, and stops it.
func (f *fixture) begun(opts Options) {
	f.t.Helper()
	r, _ := f.reactor(opts)
	if _, _, _, err := r.take(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// settled waits until the checkpoint has reached the end of the log.
func (f *fixture) settled(r *Reactor, progress <-chan struct{}) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for {
		s, err := r.Status(ctx)
		var missing *domain.NotFoundError
		if err != nil && !errors.As(err, &missing) {
			f.t.Fatal(err)
		}
		if err == nil && s.Head != nil && !s.Position.Before(*s.Head) {
			return
		}
		select {
		case <-progress:
		case <-ctx.Done():
			f.t.Fatalf("waiting for the end of the log: %+v, %v", s, r.Err())
		}
	}
}
