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
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// receipt is what a client keeps of an answer to a command.
type receipt struct {
	ID       domain.ID       `json:"id"`
	Stream   string          `json:"stream"`
	Position domain.Position `json:"position"`
	EventIDs []string        `json:"eventIds"`
}

// command submits a command with an idempotency key.
func command(ctx context.Context, server, path, key, body string) (receipt, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server+path, strings.NewReader(body))
	if err != nil {
		return receipt{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return receipt{}, err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return receipt{}, err
	}
	if response.StatusCode >= 300 {
		return receipt{}, fmt.Errorf("POST %s: %s: %s", path, response.Status, text)
	}
	var r receipt
	return r, json.Unmarshal(text, &r)
}

// D12: TestServerEndToEnd goes from a command to every answer about it.
func TestServerEndToEnd(t *testing.T) {
	t.Parallel()
	s, ctx := serve(t), t.Context()
	registered, err := command(ctx, s.url, "/v1/customers", "signup-1", `{"kind":"company","name":"Anvil Works","email":"info@anvil.example","owner":"ann"}`)
	if err != nil {
		t.Fatal(err)
	}
	id := string(registered.ID)
	again, err := command(ctx, s.url, "/v1/customers", "signup-1", `{"kind":"company","name":"Anvil Works","email":"info@anvil.example","owner":"ann"}`)
	if err != nil || again.ID != registered.ID || again.Position != registered.Position {
		t.Errorf("repeated: %+v, %v; first %+v", again, err, registered)
	}
	if _, err := command(ctx, s.url, "/v1/customers", "signup-2", `{"kind":"company","name":"Copycat","email":"INFO@anvil.example"}`); err == nil || !strings.Contains(err.Error(), id) {
		t.Errorf("a second customer with the e-mail: %v; the winner's id belongs into the answer", err)
	}
	moved, err := command(ctx, s.url, "/v1/customers/"+id+"/transfer-ownership", "transfer-1", `{"to":"bob","reason":"holiday"}`)
	if err != nil {
		t.Fatal(err)
	}

	at := []string{"minPosition", moved.Position.String()}
	profile := get[party.Customer](s, "/v1/customers/"+id, at...)
	equal(t, "name", profile.Name, "Anvil Works")
	equal(t, "owner", profile.Owner, "bob")
	view := get[party.Customer360](s, "/v1/customers/"+id+"/360", at...)
	equal(t, "owners so far", len(view.Owners), 2)
	history := get[list[query.HistoryEntry]](s, "/v1/customers/"+id+"/history", at...).Items
	last := history[len(history)-1]
	equal(t, "last event", last.EventType, "customer.ownership_transferred")
	change := query.Change{}
	for _, c := range last.Changes {
		if c.Record == "customer" && c.Field == "owner" {
			change = c
		}
	}
	equal(t, "owner from → to", string(change.From)+" → "+string(change.To), `"ann" → "bob"`)
	if text := get[json.RawMessage](s, "/v1/events", "limit", "1"); !bytes.Contains(text, []byte(`"items"`)) {
		t.Errorf("the feed answers %s", text)
	}
}

// spawned is `rapport serve` in a process of its own.
type spawned struct {
	cmd *exec.Cmd
	url string
	out *buffer
	err *buffer
}

// spawn starts a server on a data directory and waits for its address.
func spawn(t *testing.T, data, postgres string) *spawned {
	t.Helper()
	p := &spawned{out: newBuffer(), err: newBuffer()}
	p.cmd = exec.Command("rapport", "serve", "--data", data, "--listen", "127.0.0.1:0", "--postgres", postgres)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); p.cmd.Wait() }()
	t.Cleanup(func() { p.cmd.Process.Kill(); <-ended })
	var ok bool
	if p.url, ok = p.out.find(apiLine, ended); !ok {
		t.Fatalf("serve has ended:\n%s", p.err)
	}
	return p
}

// TestKilledServerKeepsEveryAcknowledgedCommand kills the whole server under load. Every command that was acknowledged
// must be in the log afterwards, and every one that was not must be accepted, once, when it is repeated.
func TestKilledServerKeepsEveryAcknowledgedCommand(t *testing.T) {
	t.Parallel()
	const (
		clients   = 8
		killAfter = 200 // acknowledged commands
	)
	data, postgres, ctx := t.TempDir(), pgtest.Database(t), t.Context()
	p := spawn(t, data, postgres)

	var acknowledged sync.Map // key → receipt
	var count atomic.Int64
	var load sync.WaitGroup
	unanswered := make([]string, clients) // the key with which each client was cut off
	for client := range clients {
		load.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("client-%d-%d", client, n)
				r, err := command(ctx, p.url, "/v1/customers", key, registration(key))
				if err != nil {
					unanswered[client] = key
					return
				}
				acknowledged.Store(key, r)
				if count.Add(1) == killAfter {
					if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	load.Wait()
	if count.Load() < killAfter {
		t.Fatalf("only %d commands were acknowledged before the server ended:\n%s", count.Load(), p.err)
	}

	p = spawn(t, data, postgres)
	var last domain.Position
	for _, key := range unanswered {
		r, err := command(ctx, p.url, "/v1/customers", key, registration(key))
		if err != nil {
			t.Fatalf("repeat %s: %v", key, err)
		}
		acknowledged.Store(key, r)
		if last.Before(r.Position) {
			last = r.Position
		}
	}
	logged := map[string]int{} // event id → how often
	of := map[string]int{}     // stream → registrations
	for _, e := range readLog(t, data) {
		logged[e.ID]++
		if e.Type() == "customer.registered" {
			of[e.Stream.String()]++
		}
	}
	keys := 0
	acknowledged.Range(func(key, value any) bool {
		keys++
		r := value.(receipt)
		for _, id := range r.EventIDs {
			equal(t, fmt.Sprintf("event %s of %s in the log", id, key), logged[id], 1)
		}
		equal(t, fmt.Sprintf("registrations of %s", key), of[r.Stream], 1)
		return true
	})
	if len(logged) == 0 || len(of) != keys {
		t.Errorf("%d events with %d registrations in the log, for %d commands that were acknowledged", len(logged), len(of), keys)
	}
	page := answered[list[party.Customer]](t, p.url, "/v1/customers", "minPosition", last.String(), "count", "exact", "limit", "1")
	equal(t, "customers in the read model", page.Count, int64(keys))
}

// registration is a customer whose e-mail has to be reserved, too.
func registration(key string) string {
	return `{"kind":"person","name":` + strconv.Quote("Client "+key) + `,"email":` + strconv.Quote(key+"@load.example") + `}`
}

// readLog reads the real log of the server that runs on a data directory.
func readLog(t *testing.T, data string) (events []domain.Recorded) {
	t.Helper()
	var closing closers
	defer func() { equal(t, "closing the log", closing.Close(), nil) }()
	l, err := stores{Data: data, Namespace: eventlog.DefaultNamespace}.openLog(t.Context(), slog.New(slog.DiscardHandler), &closing)
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range l.Store.ReadAll(t.Context(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// P4: TestServerRevivesItsPostgres shows that a server whose private PostgreSQL has died takes commands meanwhile, starts it again
// at its old place, and answers queries as before.
func TestServerRevivesItsPostgres(t *testing.T) {
	t.Parallel()
	requirePostgres(t)
	data, err := os.MkdirTemp("", "rapport-serve-") // another user must reach it when the tests run as root
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { equal(t, "removing the data", os.RemoveAll(data), nil) })
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	out, diagnostics := newBuffer(), newBuffer()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var code int
	go func() {
		defer close(ended)
		code = run(ctx, []string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, out, diagnostics)
	}()
	defer func() { stop(); <-ended }()
	api, ok := out.find(apiLine, ended)
	if !ok {
		t.Fatalf("serve has ended:\n%s", diagnostics)
	}
	first, _, _ := strings.Cut(readFile(t, postgresPIDFile(data)), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	made, err := command(t.Context(), api, "/v1/customers", "k1", `{"kind":"company","name":"Acme"}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := diagnostics.find(regexp.MustCompile(`(?s)started again.*"msg":"(postgres started)"`), ended); !ok {
		t.Fatalf("serve has ended:\n%s", diagnostics)
	}
	profile := answered[party.Customer](t, api, "/v1/customers/"+string(made.ID), "minPosition", made.Position.String())
	equal(t, "name", profile.Name, "Acme")
	stop()
	<-ended
	equal(t, "exit code", code, exitDone)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// postgresPIDFile is where PostgreSQL keeps the number of its process.
func postgresPIDFile(data string) string { return data + "/postgres/cluster/data/postmaster.pid" }
