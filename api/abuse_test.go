package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// restart puts another server with a bus of its own over the same log, as after a crash: nothing is remembered but the log.
func (s *stack) restart(t *testing.T) {
	t.Helper()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.bus = commands.NewBus(s.store, commands.Options{Secret: []byte("secret of the tests")})
	areas.Register(s.bus)
	var err error
	if s.server, err = api.New(api.Options{Bus: s.bus, Reads: s.reads, Log: s.store}); err != nil {
		t.Fatal(err)
	}
	s.serve()
}

// A8: TestAKeyOutlivesACrash repeats commands whose answers were never seen, to a process that remembers nothing: the receipt is
// the first one's, and the key still refuses another body.
func TestAKeyOutlivesACrash(t *testing.T) {
	s := start(t)
	first := s.command("/v1/customers", "c", object{"kind": "company", "name": "Acme", "email": "info@acme.example"})
	path := "/v1/customers/" + string(first.ID) + "/tag"
	tagged := s.command(path, "t", object{"tag": "vip"})
	s.command("/v1/customers/"+string(first.ID)+"/update-profile", "u", object{"email": "new@acme.example"})
	s.command("/v1/customers", "other", object{"kind": "company", "name": "Globex", "email": "info@acme.example"})
	events := s.events()
	s.restart(t)
	for _, again := range []struct {
		path, key string
		body      any
		status    int
		want      api.Receipt
	}{
		{"/v1/customers", "c", object{"kind": "company", "name": "Acme", "email": "info@acme.example"}, 201, first},
		{path, "t", object{"tag": "vip"}, 200, tagged},
	} {
		a := s.do("POST", again.path, again.body, "Idempotency-Key", again.key)
		var got api.Receipt
		a.into(t, &got)
		if a.StatusCode != again.status || a.Header.Get("Idempotency-Replayed") != "true" || fmt.Sprint(got) != fmt.Sprint(again.want) {
			t.Errorf("%s again: %d %s, want %+v", again.key, a.StatusCode, a.body, again.want)
		}
	}
	if p := s.do("POST", path, object{"tag": "other"}, "Idempotency-Key", "t").problem(t); p.Status != 422 || p.Code != "idempotency-key-reused" {
		t.Errorf("another body: %+v", p)
	}
	if n := s.events(); n != events {
		t.Errorf("%d events before, %d after", events, n)
	}
}

// A9: TestLosersAreToldWhereTheRecordStands: writers at one revision, through routes of their own. One wins; the others are told
// the revision at which the record stands, and nothing of theirs is written.
func TestLosersAreToldWhereTheRecordStands(t *testing.T) {
	s := start(t)
	id := string(s.command("/v1/customers", "c", person("Ann")).ID)
	writes := []struct {
		route string
		body  object
	}{
		{"tag", object{"tag": "a"}}, {"classify", object{"region": "West"}}, {"assign-owner", object{"owner": "ann"}},
		{"set-preference", object{"name": "colour", "value": "red"}}, {"update-profile", object{"name": "Anna"}},
	}
	var group sync.WaitGroup
	answers := make([]answer, 4*len(writes))
	for i := range answers {
		w := writes[i%len(writes)]
		group.Go(func() {
			answers[i] = s.do("POST", "/v1/customers/"+id+"/"+w.route, w.body, "Idempotency-Key", fmt.Sprint("k", i), "If-Match", `"0"`)
		})
	}
	group.Wait()
	won := 0
	for _, a := range answers {
		if a.StatusCode == 200 {
			won++
			continue
		}
		if p := a.problem(t); p.Status != 412 || p.ActualRevision == nil || *p.ActualRevision != 1 {
			t.Errorf("a loser was told %s", a.body)
		}
	}
	if n := s.events(); won != 1 || n != 2 {
		t.Errorf("%d won, %d events", won, n)
	}
}

// A10: TestAClientMayGoAwayAtAnyMoment cuts connections off at random moments, from the first byte sent to the answer. Each
// command was executed or not, as a whole; its key finds out.
func TestAClientMayGoAwayAtAnyMoment(t *testing.T) {
	s := start(t)
	address := strings.TrimPrefix(s.url, "http://")
	const clients = 40
	var group sync.WaitGroup
	for i := range clients {
		body := fmt.Sprintf(`{"kind":"person","name":"Ann","email":"ann%d@example.org"}`, i)
		request := fmt.Sprintf("POST /v1/customers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: k%d\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
		cut, listen := rand.IntN(2*len(request)), rand.IntN(3)
		group.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, request[:min(cut, len(request))]); err != nil {
				t.Error(err)
			}
			if cut >= len(request) && listen == 0 {
				_, _ = bufio.NewReader(conn).ReadByte() // the answer has begun
			}
		})
	}
	group.Wait()
	for i := range clients {
		r := s.command("/v1/customers", fmt.Sprint("k", i), object{"kind": "person", "name": "Ann", "email": fmt.Sprintf("ann%d@example.org", i)})
		if r.Revision != 0 || len(r.EventIDs) != 1 {
			t.Errorf("command %d: %+v", i, r)
		}
	}
	registered := map[domain.ID]int{}
	for e, err := range s.store.ReadAll(t.Context(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type() == "customer.registered" {
			registered[e.Stream.ID]++
		}
	}
	if len(registered) != clients {
		t.Errorf("%d customers of %d commands", len(registered), clients)
	}
}

// A13: TestAnExhaustedPoolIsToldAtOnce: every connection to the database hangs. Further queries are refused with a time to come
// back instead of standing in line; commands go on; when the database answers again those that hung are answered, and
// nothing is left behind.
func TestAnExhaustedPoolIsToldAtOnce(t *testing.T) {
	s := start(t)
	r := s.command("/v1/customers", "c", person("Ann"))
	path := "/v1/customers/" + string(r.ID)
	if a := s.answered(path + "?" + at(r.Position)); a.StatusCode != 200 {
		t.Fatalf("status %d: %s", a.StatusCode, a.body)
	}
	s.exhaust(t, path)
	http.DefaultClient.CloseIdleConnections()
	once := runtime.NumGoroutine()
	s.exhaust(t, path)
	http.DefaultClient.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for runtime.NumGoroutine() > once+slackGoroutines { // what is about to end takes some time to end
		if ctx.Err() != nil {
			t.Fatalf("%d goroutines after the database hung once, %d after it did so twice", once, runtime.NumGoroutine())
		}
		s.do("GET", "/healthz", nil)
	}
}

// slackGoroutines are fewer than one goroutine for each request that was refused.
const slackGoroutines = 15

// exhaust has every connection to the database hang, and more queries ask than there are connections.
func (s *stack) exhaust(t *testing.T, path string) {
	t.Helper()
	unlock := s.lock(t, "customer")
	var hang atomic.Bool // whether every connection does
	hanging := make(chan answer, query.MaxConnections)
	for range cap(hanging) {
		go func() {
			a := s.do("GET", path, nil)
			for a.StatusCode == http.StatusServiceUnavailable && !hang.Load() { // its connection was long in the making
				a = s.do("GET", path, nil)
			}
			hanging <- a
		}()
	}
	s.awaitHanging(t)
	hang.Store(true)
	const beyond = 2 * slackGoroutines
	refused := make(chan answer, beyond)
	for range beyond {
		go func() { refused <- s.do("GET", path, nil) }()
	}
	for range beyond { // those that hang are not answered before the lock is gone
		a := <-refused
		if p := a.problem(t); p.Status != 503 || p.Code != "unavailable" || a.Header.Get("Retry-After") == "" {
			t.Errorf("without a connection: %d %s", a.StatusCode, a.body)
		}
	}
	if a := s.do("POST", "/v1/customers", person("Ben"), "Idempotency-Key", "b"); a.StatusCode != 201 {
		t.Errorf("a command while the database hangs: %d %s", a.StatusCode, a.body)
	}
	unlock()
	for range cap(hanging) {
		if a := <-hanging; a.StatusCode != 200 {
			t.Errorf("a query that hung: %d %s", a.StatusCode, a.body)
		}
	}
}

// awaitHanging waits until as many queries wait for a lock as there are connections for them.
func (s *stack) awaitHanging(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for waiting := 0; waiting < query.MaxConnections; {
		const sql = `select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'rapport-readmodels' and wait_event_type = 'Lock'`
		if err := conn.QueryRow(ctx, sql).Scan(&waiting); err != nil {
			t.Fatalf("%d queries hang: %v", waiting, err)
		}
	}
}

// lock has every query of a read model hang until the returned function is called.
func (s *stack) lock(t *testing.T, view string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.database)
	if err != nil {
		t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(unlock)
	if _, err := conn.Exec(t.Context(), "begin; lock table rapport."+view+" in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	return unlock
}

// A14: TestAStopFinishesWhatIsInFlight stops the server while commands are in execution: each is answered, executed or with 503,
// and what was answered with success is in the log. The server ends within its bound although clients go on asking.
func TestAStopFinishesWhatIsInFlight(t *testing.T) {
	const inFlight = 8
	entered, release := make(chan struct{}, inFlight), make(chan struct{})
	s := start(t, func(o *api.Options) {
		o.Bus = slowBus{o.Bus.(*commands.Bus), entered, release}
	})
	answers := make(chan answer, inFlight)
	for i := range inFlight {
		go func() { answers <- s.do("POST", "/v1/customers", person("Ann"), "Idempotency-Key", fmt.Sprint("k", i)) }()
	}
	for range inFlight {
		<-entered
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	for { // until nobody new is let in
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case err := <-stopped:
		t.Errorf("the server ended with commands in flight: %v", err)
	default:
	}
	close(release)
	for range inFlight {
		if a := <-answers; a.StatusCode != 201 {
			t.Errorf("in flight: %d %s", a.StatusCode, a.body)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if n := s.events(); n != inFlight {
		t.Errorf("%d of %d commands are in the log", n, inFlight)
	}
}

// slowBus holds every command up before it is executed.
type slowBus struct {
	*commands.Bus
	entered chan<- struct{}
	release <-chan struct{}
}

func (b slowBus) Submit(ctx context.Context, req commands.Request) (commands.Receipt, error) {
	b.entered <- struct{}{}
	<-b.release
	return b.Bus.Submit(ctx, req)
}

// A15: TestMinPositionIsBounded: a position that the log has not reached is waited for within a bound; what is no position is
// refused at once.
func TestMinPositionIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t)
	r := s.command("/v1/customers", "c", person("Ann"))
	path := "/v1/customers/" + string(r.ID) + "?minPosition="
	var group sync.WaitGroup
	for _, far := range []string{"9223372036854775807", "99999999999"} {
		group.Go(func() {
			a := s.do("GET", path+far, nil)
			if p := a.problem(t); p.Status != 400 || p.Code != "invalid" || !strings.Contains(string(a.body), "the log ends at position ") {
				t.Errorf("%s: %d %s", far, a.StatusCode, a.body)
			}
		})
	}
	for _, wrong := range []string{"-1", "x", "1-2", "+1", "9223372036854775808", "1.5", "0x1", "%20", "1%00"} {
		if p := s.do("GET", path+wrong, nil).problem(t); p.Status != 400 {
			t.Errorf("minPosition=%s: status %d", wrong, p.Status)
		}
	}
	for _, good := range []string{r.Position.String(), "0", ""} { // the first one waits for the row, on a slow machine more than once
		if a := s.answered(path + good); a.StatusCode != 200 {
			t.Errorf("minPosition=%s: %d %s", good, a.StatusCode, a.body)
		}
	}
	group.Wait()
}
