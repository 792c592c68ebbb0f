package reactor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/internal/follow/followtest"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/internal/porttest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const patience = followtest.Patience

// fixture is a database and an event node, with reactors.
type fixture struct {
	*followtest.Fixture
	t testing.TB
}

func setUp(t testing.TB) *fixture {
	t.Helper()
	return &fixture{followtest.SetUp(t), t}
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
		Name: "crm", To: to, Logger: followtest.Quiet, Types: []string{"note.written"}, Tenants: []domain.Tenant{"main"},
		Bus:       bus.Options{Linger: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond},
		Heartbeat: 10 * time.Millisecond, LockRetry: 5 * time.Millisecond, Retry: time.Millisecond,
	}
}

// reactor makes a reactor whose progress can be waited for by progress.
func (f *fixture) reactor(opts Options) (r *follow.Follower, progress chan struct{}) {
	f.t.Helper()
	progress = make(chan struct{}, 1)
	if opts.Step == nil {
		opts.Step = func(point string) error {
			if point == follow.StepSettled {
				select {
				case progress <- struct{}{}:
				default:
				}
			}
			return nil
		}
	}
	r, err := New(f.Pool, f.Log, f.Registry, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	return r, progress
}

// begun runs a reactor until it has a checkpoint, and stops it.
func (f *fixture) begun(opts Options) {
	f.t.Helper()
	r, _ := f.reactor(opts)
	stop := f.Start(r.Run)
	f.await(r)
	if err := stop(); err != nil {
		f.t.Fatal(err)
	}
}

// settled waits until the checkpoint has reached the end of the log.
func (f *fixture) settled(r *follow.Follower, progress <-chan struct{}) {
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
