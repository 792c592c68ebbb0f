package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/nodetest"
)

// A8 of docs/faults.md.
func TestOneKeyHasOneEffect(t *testing.T) {
	s := start(t)
	const clients = 100
	bodies := make([]string, clients)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			a := s.do("POST", "/v1/customers", person("Ann"), "Idempotency-Key", "one")
			bodies[i] = fmt.Sprint(a.StatusCode, string(a.body))
		})
	}
	group.Wait()
	for i := range bodies {
		if bodies[i] != bodies[0] {
			t.Errorf("answers differ: %s and %s", bodies[i], bodies[0])
		}
	}
	if !strings.HasPrefix(bodies[0], "201") || s.events() != 1 {
		t.Errorf("%d events, first answer %s", s.events(), bodies[0])
	}
	other := s.do("POST", "/v1/customers", person("Ann"), "Idempotency-Key", "one", "X-Actor", "somebody")
	if other.StatusCode != 201 || other.Header.Get("Idempotency-Replayed") != "" || s.events() != 2 {
		t.Errorf("the key of another actor: %d %s", other.StatusCode, other.body)
	}
	if p := s.do("POST", "/v1/customers", person("Ben"), "Idempotency-Key", "one").problem(t); p.Status != 422 || p.Code != "idempotency-key-reused" {
		t.Errorf("another body: %+v", p)
	}
}

// A9 of docs/faults.md.
func TestOneOfManyWritersAtARevisionWins(t *testing.T) {
	s := start(t)
	id := s.command("/v1/customers", "c", person("Ann")).ID
	const writers = 20
	var won, lost atomic.Int32
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			a := s.do("POST", "/v1/customers/"+string(id)+"/tag", object{"tag": fmt.Sprint("tag", i)}, "Idempotency-Key", fmt.Sprint("t", i), "If-Match", `"0"`)
			switch a.StatusCode {
			case 200:
				won.Add(1)
			case 412:
				lost.Add(1)
			default:
				t.Errorf("status %d: %s", a.StatusCode, a.body)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || lost.Load() != writers-1 || s.events() != 2 {
		t.Errorf("%d won, %d lost, %d events", won.Load(), lost.Load(), s.events())
	}
}

// A14 of docs/faults.md.
func TestAStopLosesNoAcknowledgedWrite(t *testing.T) {
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var acknowledged sync.Map
	begun := make(chan struct{}, 1000)
	var group sync.WaitGroup
	for w := range 16 {
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				req, err := http.NewRequest("POST", s.url+"/v1/customers", strings.NewReader(`{"kind":"person","name":"Ann"}`))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Idempotency-Key", fmt.Sprint(w, "-", i))
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					return // the server is gone
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				switch {
				case err != nil:
					t.Errorf("an answer broke off: %v", err)
				case res.StatusCode == 201:
					acknowledged.Store(strings.TrimPrefix(res.Header.Get("Location"), "/v1/customers/"), true)
				case res.StatusCode != 503:
					t.Errorf("status %d: %s", res.StatusCode, body)
				}
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 50 {
		<-begun
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	cancel()
	group.Wait()
	stored := map[string]bool{}
	for e, err := range s.store.ReadAll(t.Context(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		stored[string(e.Stream.ID)] = true
	}
	n := 0
	acknowledged.Range(func(id, _ any) bool {
		n++
		if !stored[id.(string)] {
			t.Errorf("acknowledged customer %s is not in the log", id)
		}
		return true
	})
	if n < 50 {
		t.Errorf("only %d writes were acknowledged", n)
	}
}

// brokenBus does what a test says instead of executing commands.
type brokenBus struct {
	*commands.Bus
	submit func() (commands.Receipt, error)
}

func (b brokenBus) Submit(context.Context, commands.Request) (commands.Receipt, error) {
	return b.submit()
}

func TestAPanicTellsNothing(t *testing.T) {
	s := start(t, func(o *api.Options) {
		o.Bus = brokenBus{o.Bus.(*commands.Bus), func() (commands.Receipt, error) { panic("the secret of the house") }}
	})
	a := s.do("POST", "/v1/customers", person("Ann"), "Idempotency-Key", "k")
	p := a.problem(t)
	if p.Status != 500 || p.Type != "about:blank" || strings.Contains(string(a.body), "secret") {
		t.Errorf("answer: %s", a.body)
	}
	if log := s.logged.String(); !strings.Contains(log, "secret of the house") || !strings.Contains(log, p.CorrelationID) {
		t.Errorf("the log does not tell: %s", log)
	}
	// The slot of the command is free again, or the server would be full soon.
	for range api.MaxConcurrentCommands + 1 {
		if a = s.do("POST", "/v1/customers", person("Ann"), "Idempotency-Key", "k"); a.StatusCode != 500 {
			t.Fatalf("status %d: %s", a.StatusCode, a.body)
		}
	}
	batch := s.do("POST", "/v1/commands", object{"items": []object{{"command": "customer.register", "idempotencyKey": "a", "data": person("A")}}})
	var result api.BatchResult
	if batch.into(t, &result); batch.StatusCode != 200 || result.Items[0].Status != 500 || strings.Contains(string(batch.body), "secret") {
		t.Errorf("batch: %s", batch.body)
	}
}

// A13 of docs/faults.md.
func TestTooManyCommandsAreRefusedAtOnce(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, func(o *api.Options) {
		o.MaxConcurrentCommands = 1
		o.Bus = brokenBus{o.Bus.(*commands.Bus), func() (commands.Receipt, error) {
			close(entered)
			<-release
			return commands.Receipt{}, errors.New("released")
		}}
	})
	var first sync.WaitGroup
	first.Go(func() { s.do("POST", "/v1/customers", person("Ann"), "Idempotency-Key", "a") })
	<-entered
	a := s.do("POST", "/v1/customers", person("Ben"), "Idempotency-Key", "b")
	if p := a.problem(t); p.Status != 503 || p.Code != "overloaded" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%+v, headers %v", p, a.Header)
	}
	close(release)
	first.Wait()
}

// impatient has commands wait for the log no longer than a test wants to.
func impatient(o *api.Options) {
	bus := commands.NewBus(o.Log.(*eventlog.Store), commands.Options{Secret: []byte("secret of the tests"), Deadline: time.Second})
	areas.Register(bus)
	o.Bus = bus
}

// A13 of docs/faults.md.
func TestTheServerOutlivesItsEventLog(t *testing.T) {
	s := start(t, impatient)
	receipt := s.command("/v1/customers", "c1", person("Ann"))
	if a := s.answered("/v1/customers/" + string(receipt.ID) + "?" + at(receipt.Position)); a.StatusCode != 200 {
		t.Fatalf("status %d: %s", a.StatusCode, a.body)
	}
	address := s.node.Addr()
	if err := s.node.Close(); err != nil {
		t.Fatal(err)
	}
	a := s.do("POST", "/v1/customers", person("Ben"), "Idempotency-Key", "c2")
	if p := a.problem(t); p.Status != 503 || p.Code != "unavailable" || a.Header.Get("Retry-After") == "" {
		t.Errorf("without a log: %d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", "/readyz", nil); a.StatusCode != 503 || !strings.Contains(string(a.body), `"event log","status":"failing"`) {
		t.Errorf("ready without a log: %s", a.body)
	}
	if a := s.do("GET", "/healthz", nil); a.StatusCode != 200 {
		t.Errorf("not alive without a log: %d", a.StatusCode)
	}
	if a := s.do("GET", "/v1/customers/"+string(receipt.ID), nil); a.StatusCode != 200 {
		t.Errorf("reads stop with the log: %d %s", a.StatusCode, a.body)
	}
	s.node = nodetest.Open(t, esnode.Options{Dir: filepath.Join(s.dir, "events"), Listen: address})
	r := s.eventually("c2", person("Ben"))
	// The subscription comes back in its own time, which is longer the longer the log was away.
	if a := s.answered("/v1/customers/" + string(r.ID) + "?" + at(r.Position)); a.StatusCode != 200 {
		t.Errorf("after recovery: %d %s", a.StatusCode, a.body)
	}
}

// eventually repeats a command with one key, as clients do, until it is not answered 503 any more.
func (s *stack) eventually(key string, body any) (r api.Receipt) {
	s.t.Helper()
	for s.t.Context().Err() == nil {
		a := s.do("POST", "/v1/customers", body, "Idempotency-Key", key)
		if a.StatusCode == 503 {
			continue
		}
		if a.StatusCode != 201 {
			s.t.Fatalf("status %d: %s", a.StatusCode, a.body)
		}
		a.into(s.t, &r)
		return r
	}
	s.t.Fatal("the log did not come back")
	return r
}

// P4, A13 of docs/faults.md.
func TestTheServerOutlivesItsDatabase(t *testing.T) {
	s := start(t)
	receipt := s.command("/v1/customers", "c1", person("Ann"))
	path := "/v1/customers/" + string(receipt.ID) + "?" + at(receipt.Position)
	if a := s.answered(path); a.StatusCode != 200 {
		t.Fatalf("status %d: %s", a.StatusCode, a.body)
	}
	s.postgres.cut()
	a := s.do("GET", path, nil)
	if p := a.problem(t); p.Status != 503 || p.Code != "unavailable" || a.Header.Get("Retry-After") == "" {
		t.Errorf("without a database: %d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", "/readyz", nil); a.StatusCode != 503 || !strings.Contains(string(a.body), `"read models","status":"failing"`) {
		t.Errorf("ready without a database: %s", a.body)
	}
	second := s.command("/v1/customers", "c2", person("Ben")) // commands need no database
	s.postgres.mend()
	if a := s.answered("/v1/customers/" + string(second.ID) + "?" + at(second.Position)); a.StatusCode != 200 {
		t.Errorf("after recovery: %d %s", a.StatusCode, a.body)
	}
}

// wire is a TCP connection to a server that can be cut and mended, and frozen and thawed: a frozen one takes connections and
// what is said on them, and says nothing.
type wire struct {
	target   string
	listener net.Listener
	group    sync.WaitGroup

	mu   sync.Mutex
	down bool
	ice  chan struct{} // closed when nothing is frozen
	open map[net.Conn]bool
}

func newWire(t testing.TB, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{target: target, listener: l, ice: make(chan struct{}), open: map[net.Conn]bool{}}
	close(w.ice)
	w.group.Go(w.accept)
	t.Cleanup(func() {
		l.Close()
		w.cut()
		w.thaw()
		w.group.Wait()
	})
	return w
}

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.target)
		if err != nil || !w.add(client, server) {
			client.Close()
			if err == nil {
				server.Close()
			}
			continue
		}
		w.group.Go(func() { io.Copy(slow{server, w}, client); server.Close() })
		w.group.Go(func() { io.Copy(slow{client, w}, server); client.Close() })
	}
}

func (w *wire) add(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return false
	}
	for _, c := range conns {
		w.open[c] = true
	}
	return true
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for c := range w.open {
		c.Close()
	}
	clear(w.open)
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ice = make(chan struct{})
}

func (w *wire) thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.ice:
	default:
		close(w.ice)
	}
}

// slow is one direction of a connection over a wire.
type slow struct {
	io.Writer
	wire *wire
}

func (s slow) Write(p []byte) (int, error) {
	s.wire.mu.Lock()
	ice := s.wire.ice
	s.wire.mu.Unlock()
	<-ice
	return s.Writer.Write(p)
}

// A10 of docs/faults.md.
func TestAClientThatGoesAwayFindsItsCommandByItsKey(t *testing.T) {
	s := start(t)
	const clients = 30
	for i := range clients {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		const body = `{"kind":"person","name":"Ann"}`
		fmt.Fprintf(conn, "POST /v1/customers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: k%d\r\nContent-Length: %d\r\n\r\n", i, len(body))
		io.WriteString(conn, body[:len(body)-i%3]) // some go away before all is said
		conn.Close()
	}
	for i := range clients {
		s.command("/v1/customers", fmt.Sprint("k", i), person("Ann"))
	}
	if n := s.events(); n != clients {
		t.Errorf("%d events of %d commands", n, clients)
	}
}

// FuzzQueriesNeverFail asks the whole stack whatever comes to mind: the answer may be no, but never a fault of the server.
func FuzzQueriesNeverFail(f *testing.F) {
	s := start(f)
	r := s.command("/v1/customers", "c", person("Ann"))
	if a := s.answered("/v1/customers?" + at(r.Position)); a.StatusCode != 200 {
		f.Fatalf("status %d: %s", a.StatusCode, a.body)
	}
	paths := []string{
		"/v1/customers?filter=", "/v1/customers?sort=", "/v1/customers?cursor=", "/v1/customers?limit=", "/v1/customers?count=", "/v1/customers?phone=",
		"/v1/customers/search?name=", "/v1/customers/by-phone?phone=", "/v1/customers/", "/v1/customers/by/shop/", "/v1/opportunities?filter=",
		"/v1/orders?filter=", "/v1/orders/totals?filter=", "/v1/handover?owner=", "/v1/events?types=", "/v1/events?stream=", "/v1/events?after=",
		"/v1/funnel?pipelineId=01900000-0000-7000-8000-000000000001&filter=", "/v1/admin/projections/", "/",
	}
	for _, text := range []string{
		"'; drop table projection.customer_v1; --", `name == "a'b"`, `name == "\u0000"`, "1/0 == 1", "name", `"x" in tags`, `has(externalIds.shop)`, "name,-name", "tenant", "-position",
		"%", "\x00", "\xff\xfe", strings.Repeat("(", 2000), strings.Repeat("a", 5000), "a\nb", "../..", "=cmd|' /C calc'!A0", `revenue > 1e400`, `employees > 99999999999999999999`,
		`registeredAt > timestamp("9999-12-31T23:59:59Z")`, `registeredAt > timestamp("bad")`, `birthDate > "x"`, `id == "x"`, "\u202e", "nan", "-9223372036854775808",
	} {
		for p := range paths {
			f.Add(uint(p), text)
		}
	}
	f.Fuzz(func(t *testing.T, which uint, text string) {
		path := paths[which%uint(len(paths))]
		if strings.Contains(path, "?") {
			path += url.QueryEscape(text)
		} else {
			path += url.PathEscape(text)
		}
		req := httptest.NewRequest("GET", path, nil)
		rec := httptest.NewRecorder()
		s.server.ServeHTTP(rec, req)
		if rec.Code >= 500 {
			t.Errorf("GET %s: status %d: %s", path, rec.Code, rec.Body)
		}
		if rec.Code >= 400 && (rec.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(rec.Body.String(), "SQLSTATE")) {
			t.Errorf("GET %s: %s", path, rec.Body)
		}
	})
	if a := s.do("GET", "/v1/customers", nil); a.StatusCode != 200 {
		f.Errorf("afterwards: %d %s", a.StatusCode, a.body)
	}
}
