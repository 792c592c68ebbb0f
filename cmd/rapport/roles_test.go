package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/pgtest"
)

// served is one `rapport serve` inside the test.
type served struct {
	t    testing.TB
	url  string // of its health, and of its API if it has one
	stop func() error
}

var healthLine = regexp.MustCompile(`(?m)^health +(http://[^/]+)/readyz\n`)

// startProcess starts serve with options, and spans for its traces; nil means none.
func startProcess(t testing.TB, s serveCommand, spans sdktrace.SpanExporter) *served {
	t.Helper()
	if s.Listen = "127.0.0.1:0"; s.Tenants == nil {
		s.Tenants = []tenantName{tenantName(domain.DefaultTenant)}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	out, diagnostics := newBuffer(), newBuffer()
	ended := make(chan struct{})
	var failed error
	go func() {
		defer close(ended)
		failed = s.Run(ctx, &console{out: out, err: diagnostics, log: slog.New(slog.NewJSONHandler(diagnostics, nil)), spans: spans})
	}()
	p := &served{t: t, stop: sync.OnceValue(func() error {
		cancel()
		<-ended
		return failed
	})}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("serve ended with %v:\n%s", err, diagnostics)
		}
	})
	var ok bool
	if p.url, ok = out.find(healthLine, ended); !ok {
		t.Fatalf("serve has ended with %v:\n%s", failed, diagnostics)
	}
	return p
}

// post sends a request with a body and returns the answer.
func (p *served) post(path, body string, headers ...string) []byte {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		p.t.Fatalf("POST %s: %s: %s, %v", path, response.Status, text, err)
	}
	return text
}

// text returns the answer to a GET, whatever its status.
func (p *served) text(path string, headers ...string) (string, int) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text), response.StatusCode
}

// register creates a customer.
func (p *served) register(key string, headers ...string) api.Receipt {
	p.t.Helper()
	var receipt api.Receipt
	body := p.post("/v1/customers", `{"kind": "person", "name": "Ann Example"}`, append([]string{"Idempotency-Key", strings.ReplaceAll(key, " ", "-")}, headers...)...)
	if err := json.Unmarshal(body, &receipt); err != nil {
		p.t.Fatal(err)
	}
	return receipt
}

// startNATS runs a broker whose stream EVENTS takes what is published below rapport.
func startNATS(t testing.TB) (address string, stream jetstream.Stream) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the broker does not start")
	}
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"rapport.>"}})
	if err != nil {
		t.Fatal(err)
	}
	return "nats://" + s.Addr().(*net.TCPAddr).String() + "?subject=rapport", stream
}

// published waits until the stream has n messages, and returns the id of the last.
func published(t testing.TB, stream jetstream.Stream, n int) string {
	t.Helper()
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	id := ""
	for range n {
		msg, err := consumer.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		id = msg.Headers().Get(nats.MsgIdHdr)
	}
	info, err := stream.Info(t.Context())
	if err != nil || int(info.State.Msgs) != n {
		t.Errorf("%d messages, want %d; %v", info.State.Msgs, n, err)
	}
	return id
}

// begun waits until a number of reactors have begun: only what comes behind is published.
func begun(t testing.TB, postgres string, reactors int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	database, err := pgx.Connect(ctx, postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close(ctx)
	for n := 0; n < reactors; {
		if err := database.QueryRow(ctx, "select count(*) from reactor.checkpoint").Scan(&n); err != nil {
			t.Fatalf("%d of %d reactors have begun: %v", n, reactors, err)
		}
	}
}

// leftWhatIf is the name of a what-if's tables.
const leftWhatIf = "whatif_abcdefghijklmnop"

func TestServersShareTheRoles(t *testing.T) {
	t.Parallel()
	address, stream := startNATS(t)
	of := stores{Data: t.TempDir(), Namespace: eventlog.DefaultNamespace, Postgres: pgtest.Database(t)}
	front := startProcess(t, serveCommand{stores: of, Roles: []string{roleAPI}}, nil)
	first := front.register("before anybody publishes")
	database, err := pgx.Connect(t.Context(), of.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { database.Close(context.Background()) })
	// As processes that were killed leave them.
	if _, err := database.Exec(t.Context(), "create schema asof_00000001_1; create schema "+leftWhatIf); err != nil {
		t.Fatal(err)
	}
	back := startProcess(t, serveCommand{stores: of, Roles: []string{roleProjector, roleReactor, roleTimer}, Publish: []string{address + "&types=customer."}}, nil)
	begun(t, of.Postgres, 1)
	s := &shown{front}
	s.visible(first)
	second := front.register("afterwards")
	s.visible(second)
	if id := published(t, stream, 1); id != second.EventIDs[0] {
		t.Errorf("published %s, want only %s", id, second.EventIDs[0])
	}

	for left, ctx := true, t.Context(); left; { // until the timer has cleared it away
		const sql = "select to_regnamespace('asof_00000001_1') is not null or to_regnamespace('" + leftWhatIf + "') is not null"
		if err := database.QueryRow(ctx, sql).Scan(&left); err != nil {
			t.Fatal(err)
		}
	}

	// A rebuild of every read model has no effect outside.
	front.post("/v1/admin/projections/customer/rebuild", "")
	third := front.register("after a rebuild began")
	s.visible(third)
	if id := published(t, stream, 2); id != third.EventIDs[0] {
		t.Errorf("published %s, want %s", id, third.EventIDs[0])
	}

	for _, p := range []*served{front, back} {
		p.ready()
		if text, status := p.text("/healthz"); status != http.StatusOK {
			t.Errorf("%s/healthz: %d %s", p.url, status, text)
		}
	}
	if _, status := back.text("/v1/customers"); status != http.StatusNotFound {
		t.Errorf("a process without the role answers the API: %d", status)
	}
	dashboardHasMetrics(t, front, back)
	var checks bytes.Buffer
	if code := run(t.Context(), []string{"doctor", "--data", of.Data, "--postgres", of.Postgres, "--publish", address}, &checks, io.Discard); code != exitDone || !strings.Contains(checks.String(), "[nats] can be reached") {
		t.Errorf("doctor ended with %d:\n%s", code, checks.String())
	}
	checks.Reset()
	if code := run(t.Context(), []string{"doctor", "--data", of.Data, "--postgres", of.Postgres, "--publish", "nats://127.0.0.1:1?subject=a"}, &checks, io.Discard); code != exitPartly || !strings.Contains(checks.String(), "LACKS  brokers") {
		t.Errorf("doctor ended with %d:\n%s", code, checks.String())
	}
	reactors := func(want int, args ...string) string {
		t.Helper()
		var out, diagnostics bytes.Buffer
		args = append(append([]string{"reactors"}, args...), "--data", of.Data, "--postgres", of.Postgres)
		if code := run(t.Context(), args, &out, &diagnostics); code != want {
			t.Errorf("%v ended with %d: %s", args, code, diagnostics.String())
		}
		return out.String()
	}
	settled := regexp.MustCompile(`(?m)^nats +[0-9]+ +0s +- *$`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	text := ""
	if err := until(ctx, func() bool { text = reactors(exitDone, "status"); return settled.MatchString(text) }); err != nil { // the checkpoint follows the effect
		t.Errorf("status: %s", text)
	}
	reactors(exitFailed, "skip", "nats", third.Position.String(), "--reason", "nothing fails")
	reactors(exitFailed, "begin", "unknown", "--reason", "there is none")
	if text := reactors(exitDone, "begin", "nats", "--reason", "to see that it goes on"); !strings.HasPrefix(text, "nats begins at ") {
		t.Errorf("begin: %s", text)
	}
	fourth := front.register("after a new beginning")
	s.visible(fourth)
	if id := published(t, stream, 3); id != fourth.EventIDs[0] {
		t.Errorf("published %s, want %s", id, fourth.EventIDs[0])
	}

	// Who is not needed is refused, and so is a role that there is not.
	overlapping := serveCommand{stores: of, Roles: []string{roleProjector, roleAPI}, Listen: "127.0.0.1:0"}
	if err := overlapping.Run(t.Context(), &console{out: io.Discard, err: io.Discard, log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "with the roles api") {
		t.Errorf("a second API on one data directory: %v", err)
	}
	var diagnostics bytes.Buffer
	if code := run(t.Context(), []string{"serve", "--roles", "api,cook"}, io.Discard, &diagnostics); code != exitUsage || !strings.Contains(diagnostics.String(), "cook") {
		t.Errorf("ended with %d: %s", code, diagnostics.String())
	}
	if err := back.stop(); err != nil {
		t.Error(err)
	}
}

func TestReproConnectionStringsAreShownWithoutSecrets(t *testing.T) {
	for address, want := range map[string]string{
		"esdb://admin:hidden@127.0.0.1:2113?tls=false": "esdb://127.0.0.1:2113",
		"esdb://admin:hidden@%":                        "the log",
	} {
		if got := withoutSecrets(address); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}

// A server that has taken the place of the one whose stores a process uses has other stores: the process must not go on.
func TestReproProcessEndsWithItsHostAlsoWhenAnotherFollows(t *testing.T) {
	s := serveCommand{stores: stores{Data: t.TempDir()}, Roles: []string{roleTimer}}
	announce := func(pid int) func() error {
		forget, err := s.announce(running{PID: pid, Roles: []string{roleAPI}})
		if err != nil {
			t.Fatal(err)
		}
		return forget
	}
	forget := announce(1001)
	host, err := s.join()
	if err != nil || host != 1001 {
		t.Fatalf("joined %d, %v", host, err)
	}
	forget()
	forget = announce(1002)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.watchHost(ctx, host); !errors.Is(err, errHostEnded) {
		t.Errorf("got %v", err)
	}
	if err := forget(); err != nil {
		t.Error(err)
	}
}

// Every loop of a process holds a connection for its lock: with as many loops as the pool had connections, none was left to
// work with.
func TestReproManyDestinationsLeaveConnectionsToWorkWith(t *testing.T) {
	t.Parallel()
	address, _ := startNATS(t)
	var publish []string
	for _, name := range []string{"one", "two", "three", "four", "five", "six"} {
		publish = append(publish, address+"&name="+name)
	}
	of := stores{Data: t.TempDir(), Namespace: eventlog.DefaultNamespace, Postgres: pgtest.Database(t)}
	p := startProcess(t, serveCommand{stores: of, Publish: publish, Roles: []string{roleAPI, roleProjector, roleReactor, roleTimer}}, nil)
	receipt := p.register("with many destinations")
	(&shown{p}).visible(receipt)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	database, err := pgx.Connect(ctx, of.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { database.Close(context.Background()) })
	for reached := 0; reached < len(publish); {
		const sql = "select count(*) from reactor.checkpoint where commit_position >= $1"
		if err := database.QueryRow(ctx, sql, int64(receipt.Position.Commit)).Scan(&reached); err != nil {
			t.Fatalf("%d of %d reactors have come so far: %v", reached, len(publish), err)
		}
	}
}

// ready waits until the process says that it is: a read model that nobody has asked for yet may still be on its way.
func (p *served) ready() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		text, status := p.text("/readyz")
		if status == http.StatusOK {
			return
		}
		if ctx.Err() != nil {
			p.t.Fatalf("not ready: %d %s", status, text)
		}
	}
}

// shown waits on a process's API.
type shown struct{ *served }

// visible waits until a query shows what a receipt tells.
func (s *shown) visible(r api.Receipt) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for {
		text, status := s.text("/v1/customers/" + string(r.ID) + "?minPosition=" + r.Position.String())
		if status == http.StatusOK {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("not visible: %d %s", status, text)
		}
	}
}

func TestDestinationsAreChecked(t *testing.T) {
	const good = "nats://127.0.0.1:4222?subject=a"
	served := []domain.Tenant{"main", "shop"}
	twice := []string{good + "&types=customer.&types=order."}
	for _, addresses := range [][]string{{"nats://127.0.0.1"}, {good, good}, {"file:///tmp"}, {"%"}, twice, {good + "&name=a&name=b"}, {good + "&tenants=main&tenants=shop"}, {good + ";types=order."}} {
		if _, err := openDestinations(addresses, served, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%v were accepted", addresses)
		}
	}
	if _, err := openDestinations([]string{"nats://token@127.0.0.1:4222?subject=a&password=hidden"}, served, slog.New(slog.DiscardHandler)); err == nil || strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %v, want an error that keeps the secrets", err)
	}
	for _, unknown := range []string{"custmer.", "customer", "order.shiped"} {
		if _, err := openDestinations([]string{good + "&types=customer.," + unknown}, served, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), unknown) {
			t.Errorf("got %v, want an error that names %s", err, unknown)
		}
	}
	for _, unknown := range []string{"other", "", "shop,other", "shop,", "MAIN"} {
		if _, err := openDestinations([]string{good + "&tenants=" + unknown}, served, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "tenants="+unknown) {
			t.Errorf("got %v, want an error that names the tenants %q", err, unknown)
		}
	}
	list, err := openDestinations([]string{good + "&types=customer.,order.placed", good + "&name=other&tenants=shop"}, served, slog.New(slog.DiscardHandler))
	if err != nil || len(list) != 2 || list[0].name != "nats" || !slices.Equal(list[0].types, []string{"customer.", "order.placed"}) || list[1].name != "other" ||
		!slices.Equal(list[0].tenants, served) || !slices.Equal(list[1].tenants, served[1:]) {
		t.Errorf("got %+v, %v", list, err)
	}
}

// dashboardHasMetrics checks that every expression of the dashboard asks for metrics that the processes have.
func dashboardHasMetrics(t testing.TB, processes ...*served) {
	t.Helper()
	exists := map[string]bool{}
	for _, p := range processes {
		text, _ := p.text("/metrics")
		lines := bufio.NewScanner(strings.NewReader(text))
		for lines.Scan() {
			if name, _, ok := strings.Cut(strings.ReplaceAll(lines.Text(), "{", " "), " "); ok && name != "#" {
				exists[name] = true
			}
		}
	}
	file, err := os.ReadFile(filepath.FromSlash("../../deploy/grafana/dashboards/rapport.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(file, &dashboard); err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\b(rapport|process|go)_[a-z0-9_]+\b`)
	asked := map[string]bool{}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			found := names.FindAllString(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("panel %q asks for no metric: %s", p.Title, target.Expr)
			}
			for _, name := range found {
				asked[name] = true
				if !exists[name] {
					t.Errorf("panel %q asks for %s, which does not exist", p.Title, name)
				}
			}
		}
	}
	for name := range exists {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "rapport_") && !asked[name] && !asked[base+"_bucket"] && !asked[base+"_sum"] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// spans receives what is traced.
type spans struct {
	mu   sync.Mutex
	list []sdktrace.ReadOnlySpan
	more chan struct{}
}

func (s *spans) ExportSpans(_ context.Context, list []sdktrace.ReadOnlySpan) error {
	s.mu.Lock()
	s.list = append(s.list, list...)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

func (s *spans) Shutdown(context.Context) error { return nil }

// find waits for the span of a name in a trace.
func (s *spans) find(t testing.TB, of trace.TraceID, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		s.mu.Lock()
		var names []string
		for _, span := range s.list {
			if span.SpanContext().TraceID() == of {
				if names = append(names, span.Name()); span.Name() == name {
					s.mu.Unlock()
					return span
				}
			}
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-ctx.Done():
			t.Fatalf("no span %q among %q", name, names)
		}
	}
}

func TestOneCommandIsOneTrace(t *testing.T) {
	t.Parallel()
	address, stream := startNATS(t)
	recorded := &spans{more: make(chan struct{}, 1)}
	of := stores{Data: t.TempDir(), Namespace: eventlog.DefaultNamespace, Postgres: pgtest.Database(t)}
	p := startProcess(t, serveCommand{stores: of, Publish: []string{address}, Roles: []string{roleAPI, roleProjector, roleReactor, roleTimer}}, recorded)
	begun(t, of.Postgres, 1)
	s := &shown{p}
	s.visible(p.register("so that everything runs"))

	const caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	traced, err := trace.TraceIDFromHex(caller[3:35])
	if err != nil {
		t.Fatal(err)
	}
	receipt := p.register("traced", "Traceparent", caller)
	request := recorded.find(t, traced, "POST /v1/customers")
	command := recorded.find(t, traced, "command customer.register")
	appended := recorded.find(t, traced, "append")
	applied := recorded.find(t, traced, "apply")
	sent := recorded.find(t, traced, "publish customer.registered")
	for _, c := range []struct {
		of     sdktrace.ReadOnlySpan
		parent string
	}{
		{request, caller[36:52]},
		{command, request.SpanContext().SpanID().String()},
		{appended, command.SpanContext().SpanID().String()},
		{applied, command.SpanContext().SpanID().String()},
		{sent, command.SpanContext().SpanID().String()},
	} {
		if got := c.of.Parent().SpanID().String(); got != c.parent {
			t.Errorf("%s has the parent %s, want %s", c.of.Name(), got, c.parent)
		}
	}
	// The event says so too, also outside.
	message, err := stream.GetLastMsgForSubject(t.Context(), "rapport.main.customer.registered")
	if err != nil {
		t.Fatal(err)
	}
	if want := "00-" + traced.String() + "-" + command.SpanContext().SpanID().String() + "-01"; !strings.Contains(string(message.Data), want) ||
		message.Header.Get(nats.MsgIdHdr) != receipt.EventIDs[0] {
		t.Errorf("the event does not name %s: %s", want, message.Data)
	}

	// Without a caller's trace a request begins one, and an unsampled one is respected.
	const unsampled = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	p.register("not sampled", "Traceparent", unsampled)
	last := p.register("traced by itself")
	s.visible(last)
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	for _, span := range recorded.list {
		if span.SpanContext().TraceID().String() == unsampled[3:35] {
			t.Errorf("%s was recorded although the caller samples nothing", span.Name())
		}
	}
}
