package eventlog

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/porttest"
)

// cutter is a TCP proxy that cuts each connection after a random number of bytes in either direction.
type cutter struct {
	listener net.Listener
	target   string
	copies   sync.WaitGroup

	mu     sync.Mutex
	random *rand.Rand
	open   map[net.Conn]bool
	cuts   int
	calm   bool // no more cuts
}

const (
	leastBytes = 1 << 10
	mostBytes  = 24 << 10
)

func startCutter(t *testing.T, target string, seed uint64) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener, target: target, random: rand.New(rand.NewPCG(seed, seed)), open: map[net.Conn]bool{}}
	c.copies.Go(c.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		c.mu.Lock()
		for conn := range c.open {
			_ = conn.Close()
		}
		c.mu.Unlock()
		c.copies.Wait()
	})
	return c
}

func (c *cutter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		c.mu.Lock()
		budget := leastBytes + c.random.Int64N(mostBytes-leastBytes)
		if c.calm {
			budget = 1 << 62
		}
		c.open[client], c.open[server] = true, true
		c.mu.Unlock()
		c.copies.Go(func() { c.copy(server, client, budget) })
		c.copies.Go(func() { c.copy(client, server, budget) })
	}
}

// copy copies until either side ends or the budget of this direction is used up.
func (c *cutter) copy(to, from net.Conn, budget int64) {
	n, _ := io.CopyN(to, from, budget)
	c.mu.Lock()
	if n == budget {
		c.cuts++
	}
	delete(c.open, to)
	delete(c.open, from)
	c.mu.Unlock()
	_ = to.Close()
	_ = from.Close()
}

// settle lets every later connection live.
func (c *cutter) settle() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calm = true
	return c.cuts
}

// S9: TestCutConnectionsLoseAndRepeatNothing appends and subscribes over connections that break at random moments: each event
// is stored once, although appends are repeated, and reaches the consumer once and in order.
func TestCutConnectionsLoseAndRepeatNothing(t *testing.T) {
	direct := address(t)
	target, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	if target.Scheme != "esdb" || target.Query().Get("tls") != "false" {
		t.Skip("the node under test speaks TLS or is a cluster: nothing can be put between")
	}
	seed := testSeed(t)
	proxy := startCutter(t, target.Host, seed)
	target.Host = proxy.listener.Addr().String()
	brisk := timing{append: 5 * time.Second, read: 5 * time.Second, patience: 5 * time.Second, watchdog: 50 * time.Millisecond, firstBackoff: time.Millisecond, lastBackoff: 20 * time.Millisecond}

	const writers, appends, batch = 4, 100, 3
	steady := dial(t, direct)
	start := head(t, steady)
	streams := map[string]uint64{} // the next revision to come
	var writing sync.WaitGroup
	for range writers {
		stream := "main.test-" + uuid.NewString()
		streams[stream] = 0
		log := dial(t, target.String(), withTiming(brisk))
		writing.Go(func() {
			expected := domain.NoStream
			for range appends {
				events := newEvents(batch)
				for {
					outcome := log.Append(t.Context(), stream, expected, events)
					if committed, ok := outcome.(domain.Committed); ok {
						expected = domain.AtRevision(committed.Revision)
						break
					}
					if _, ok := outcome.(domain.Unknown); !ok {
						t.Errorf("%T %+v", outcome, outcome)
						return
					}
				}
			}
		})
	}
	reader := dial(t, target.String(), withTiming(brisk))
	left, last := writers*appends*batch, start.Position
	for m, err := range reader.Subscribe(t.Context(), start) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Raw == nil {
			continue
		}
		if !last.Before(m.Raw.Position) {
			t.Fatalf("position %s after %s", m.Raw.Position, last)
		}
		last = m.Raw.Position
		next, ours := streams[m.Raw.Stream]
		if !ours {
			continue
		}
		if m.Raw.Revision != next {
			t.Fatalf("%s: revision %d, want %d", m.Raw.Stream, m.Raw.Revision, next)
		}
		streams[m.Raw.Stream]++
		if left--; left == 0 {
			break
		}
	}
	writing.Wait()
	if cuts := proxy.settle(); cuts == 0 {
		t.Error("no connection was cut: the test shows nothing")
	} else {
		t.Logf("%d connections cut", cuts)
	}
	for stream := range streams {
		if got := len(all(t, steady.ReadStream(t.Context(), stream, 0))); got != appends*batch {
			t.Errorf("%s holds %d events, want %d", stream, got, appends*batch)
		}
	}
}

// TestAbandonedRequestsEndWithTheLog: the client's discovery cannot be cancelled; the request that waits for it can.
func TestAbandonedRequestsEndWithTheLog(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	log := dial(t, "esdb://"+listener.Addr().String()+"?tls=false&gossipTimeout=1", withTiming(impatient))
	var unavailable *domain.UnavailableError
	if _, err := log.Head(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("got %v", err)
	}
}

// P6: TestSubscriptionOutlivesTheNode stops a node under a subscription and starts it again with the same log.
func TestSubscriptionOutlivesTheNode(t *testing.T) {
	dir, where := t.TempDir(), porttest.Address(t)
	open := func() *esnode.Node {
		t.Helper()
		return nodetest.Open(t, esnode.Options{Dir: dir, Listen: where})
	}
	node := open()
	log := dial(t, node.ConnectionString(), withTiming(timing{
		append: 5 * time.Second, read: 5 * time.Second, patience: 5 * time.Second, watchdog: time.Second, firstBackoff: time.Millisecond, lastBackoff: 20 * time.Millisecond,
	}))
	stream := newStream()
	const restarts = 3
	expected, seen := domain.NoStream, uint64(0)
	for m, err := range log.Subscribe(t.Context(), domain.Mark{}) {
		if err != nil {
			t.Fatal(err)
		}
		if m.CaughtUp && seen == 0 {
			expected = domain.AtRevision(commit(t, log, stream, expected, newEvents(2)...).Revision)
		}
		if m.Raw == nil {
			continue
		}
		if m.Raw.Revision != seen {
			t.Fatalf("revision %d, want %d", m.Raw.Revision, seen)
		}
		if seen++; seen == 2*(restarts+1) {
			break
		}
		if seen%2 == 0 {
			if err := node.Close(); err != nil {
				t.Fatal(err)
			}
			node = open()
			direct := dial(t, node.ConnectionString())
			expected = domain.AtRevision(commit(t, direct, stream, expected, newEvents(2)...).Revision)
		}
	}
}

// S13: TestReproOlderCopyUnderASubscription puts an older copy of the log in the place of the one that a subscription reads,
// where other events then take the positions of those it has seen. It says so, and delivers none of them.
func TestReproOlderCopyUnderASubscription(t *testing.T) {
	where, dir, older := porttest.Address(t), t.TempDir(), filepath.Join(t.TempDir(), "older")
	open := func(dir string) *esnode.Node {
		t.Helper()
		return nodetest.Open(t, esnode.Options{Dir: dir, Listen: where})
	}
	node := open(dir)
	first := dial(t, node.ConnectionString())
	commit(t, first, newStream(), domain.NoStream, newEvents(1)...)
	if _, err := esnode.Backup(t.Context(), dir, older); err != nil {
		t.Fatal(err)
	}
	lost := commit(t, first, newStream(), domain.NoStream, newEvents(2)...)

	log := dial(t, node.ConnectionString(), withTiming(timing{
		append: 5 * time.Second, read: 5 * time.Second, patience: 5 * time.Second, watchdog: time.Second, firstBackoff: time.Millisecond, lastBackoff: 20 * time.Millisecond,
	}))
	for m, err := range log.Subscribe(t.Context(), domain.Mark{}) {
		switch {
		case err != nil && !errors.Is(err, ErrOtherLog):
			t.Fatal(err)
		case m.Raw != nil && lost.Position.Before(m.Raw.Position):
			t.Fatalf("read an event of the copy, at %s", m.Raw.Position)
		case m.Raw != nil && m.Raw.Position == lost.Position:
			if err := node.Close(); err != nil {
				t.Fatal(err)
			}
			node = open(older)
			commit(t, dial(t, node.ConnectionString()), newStream(), domain.NoStream, newEvents(5)...)
		}
	}
}
