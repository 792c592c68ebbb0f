package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/importer"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// TestMain lets scripts and tests start the test binary as rapport.
func TestMain(m *testing.M) {
	openNode = nodetest.OpenWithout
	testscript.Main(withPostgres{m}, map[string]func(){"rapport": main})
}

// withPostgres stops what tests share behind the last of them: the scenarios' server, and PostgreSQL.
type withPostgres struct{ *testing.M }

func (m withPostgres) Run() int {
	code := m.M.Run()
	if err := errors.Join(scenarios.stop(), pgtest.Stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// buffer collects output that is read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // has an element when something was written since the last look
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// find waits until the output matches, and returns the first group. It returns false when ended is closed before.
func (b *buffer) find(pattern *regexp.Regexp, ended <-chan struct{}) (string, bool) {
	for {
		if found := pattern.FindStringSubmatch(b.String()); found != nil {
			return found[1], true
		}
		select {
		case <-b.more:
		case <-ended:
			return "", false
		}
	}
}

var apiLine = regexp.MustCompile(`(?m)^API +(http://[^/]+)/v1\n`)

// server is `rapport serve`, running inside the test, on a data directory and a database of its own.
type server struct {
	t    testing.TB
	url  string // of the API
	data string
	out  *buffer // what it prints
}

// serve starts a server with further arguments; it ends with the test, and must then report success.
func serve(t testing.TB, more ...string) *server {
	t.Helper()
	return serveOn(t, t.TempDir(), more...)
}

// serveOn is serve on a data directory that may hold something.
func serveOn(t testing.TB, data string, more ...string) *server {
	t.Helper()
	nodetest.Tell(t)
	s := &server{t: t, data: data}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	out, diagnostics := newBuffer(), newBuffer()
	s.out = out
	args := append([]string{"serve", "--data", s.data, "--listen", "127.0.0.1:0", "--postgres", pgtest.Database(t)}, more...)
	ended := make(chan struct{})
	code := exitDone
	go func() {
		defer close(ended)
		code = run(ctx, args, out, diagnostics)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if code != exitDone {
			t.Errorf("serve ended with %d:\n%s", code, diagnostics)
		}
	})
	var ok bool
	if s.url, ok = out.find(apiLine, ended); !ok {
		t.Fatalf("serve has ended:\n%s", diagnostics)
	}
	return s
}

// importFiles runs `rapport import` on the server's data directory and returns the counts and the exit code.
func (s *server) importFiles(mapping string, files ...string) (importer.Result, int) {
	s.t.Helper()
	var out, diagnostics bytes.Buffer
	args := append([]string{"import", "--json", "--data", s.data, "--mapping", mapping}, files...)
	code := run(s.t.Context(), args, &out, &diagnostics)
	var result importer.Result
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		s.t.Fatalf("rapport %s ended with %d and printed %q:\n%s", strings.Join(args, " "), code, out.String(), diagnostics.String())
	}
	return result, code
}

// catchUp waits until the read models reflect everything in the log.
func (s *server) catchUp() {
	s.t.Helper()
	var closing closers
	defer func() {
		if err := closing.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	l, err := stores{Data: s.data, Namespace: eventlog.DefaultNamespace}.openLog(s.t.Context(), slog.New(slog.DiscardHandler), &closing)
	if err != nil {
		s.t.Fatal(err)
	}
	head, err := l.Head(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := stores{Data: s.data}.running()
	if err != nil {
		s.t.Fatal(err)
	}
	reads, err := query.Open(s.t.Context(), r.Postgres)
	if err != nil {
		s.t.Fatal(err)
	}
	defer reads.Close()
	if err := waitFor(s.t.Context(), reads, head.Position); err != nil {
		s.t.Fatal(err)
	}
}

// get answers a query.
func get[T any](s *server, path string, parameters ...string) T {
	s.t.Helper()
	return answered[T](s.t, s.url, path, parameters...)
}

// answered asks a server again while it says to come again, as clients do: its read models have not come so far yet, or its
// database is slow.
func answered[T any](t testing.TB, server, path string, parameters ...string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		answer, err := fetch[T](ctx, server, path, parameters...)
		if err == nil {
			return answer
		}
		if !errors.Is(err, errComeAgain) {
			t.Fatal(err)
		}
	}
}

// errComeAgain is in the error of a query that was answered 503 with a time to come again.
var errComeAgain = errors.New("come again")

// fetch asks a server; parameters are names and values by turns.
func fetch[T any](ctx context.Context, server, path string, parameters ...string) (answer T, err error) {
	values := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		values.Set(parameters[i], parameters[i+1])
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+path+"?"+values.Encode(), nil)
	if err != nil {
		return answer, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer, err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return answer, err
	}
	if response.StatusCode != http.StatusOK {
		err := fmt.Errorf("GET %s: %s: %s", request.URL, response.Status, text)
		if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != "" {
			err = fmt.Errorf("%w: %w", errComeAgain, err)
		}
		return answer, err
	}
	return answer, json.Unmarshal(text, &answer)
}

// list is a page of a list.
type list[R any] struct {
	Items []R   `json:"items"`
	Count int64 `json:"count"`
}

// count returns how many items of a list match a filter.
func (s *server) count(path, filter string) int64 {
	s.t.Helper()
	return get[list[json.RawMessage]](s, path, "filter", filter, "count", "exact", "limit", "1").Count
}

// first returns the first item of a list in an order.
func first[R any](s *server, path, filter, sort string) R {
	s.t.Helper()
	items := get[list[R]](s, path, "filter", filter, "sort", sort, "limit", "1").Items
	if len(items) == 0 {
		s.t.Fatalf("%s has no item that matches %s", path, filter)
	}
	return items[0]
}

// equal checks one named number.
func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// sums adds the order totals of one kind; all kinds when it is empty.
func sums(totals []sales.OrderTotal, kind string) (orders int64, total, withCustomer domain.Decimal) {
	for _, o := range totals {
		if kind == "" || o.Kind == kind {
			orders += o.Orders
			total = total.Add(o.Total.Decimal)
			withCustomer = withCustomer.Add(o.WithCustomer.Decimal)
		}
	}
	return orders, total, withCustomer
}

// logPosition stands in the first answer. It is another when the clock has told of an overdue promise of the sample meanwhile.
var logPosition = regexp.MustCompile(`at log position \d+`)

// TestReadmeShowsWhatIsPrinted holds that the README's first answer is the real one.
func TestReadmeShowsWhatIsPrinted(t *testing.T) {
	t.Parallel()
	s := serve(t, "--sample")
	if _, ok := s.out.find(regexp.MustCompile(`(?m)^history +(\S+)\n`), t.Context().Done()); !ok {
		t.Fatal("no first answer")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := logPosition.ReplaceAllString(strings.ReplaceAll(string(readme), "\n    ", "\n"), "at log position N")
	want := logPosition.ReplaceAllString(strings.ReplaceAll(s.out.String(), s.url, "http://127.0.0.1:8080"), "at log position N")
	if !strings.Contains(shown, want) {
		t.Errorf("the README does not show what was printed:\n%s", want)
	}
}

// TestEveryVerbExplainsItself holds that no verb is without an example, and no flag without a variable.
func TestEveryVerbExplainsItself(t *testing.T) {
	parser, err := kong.New(&cli{}, kong.DefaultEnvars("RAPPORT"))
	if err != nil {
		t.Fatal(err)
	}
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		n, ok := node.(*kong.Node)
		if !ok || n.Type != kong.CommandNode {
			return next(nil)
		}
		verb := strings.Fields(n.FullPath())[1:]
		var out, diagnostics bytes.Buffer
		if code := run(t.Context(), append(verb, "--help"), &out, &diagnostics); code != exitDone || diagnostics.Len() > 0 || !strings.Contains(out.String(), "Example: rapport "+verb[0]) {
			t.Errorf("%v --help ended with %d and has no example:\n%s%s", verb, code, out.String(), diagnostics.String())
		}
		for _, flag := range n.Flags {
			if flag.Name != "help" && len(flag.Envs) == 0 {
				t.Errorf("%v: --%s has no variable", verb, flag.Name)
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A server gave up the first answer of the sample when a read model that it needs took longer than a query may wait for it.
func TestReproTheFirstAnswerIsAskedForAgain(t *testing.T) {
	asked := 0
	err := patiently(t.Context(), func() error {
		if asked++; asked < 3 {
			return fmt.Errorf("funnel: %w", &domain.UnavailableError{What: "read models"})
		}
		return nil
	})
	if err != nil || asked != 3 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, end := range []error{&domain.UnavailableError{What: "read models"}, errors.New("a fault")} {
		if err := patiently(ended, func() error { return end }); !errors.Is(err, end) {
			t.Errorf("got %v, want %v", err, end)
		}
	}
}
