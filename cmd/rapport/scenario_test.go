package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// A scenario test shows a row of docs/capabilities.md as a client of the HTTP API sees it: its name begins with the id of the
// row, and each of its subtests has the words of a clause. It knows JSON only, no Go type of the product.
//
// All scenarios use one server, which runs the whole program. Each makes records of its own and looks at nothing else.

// object is a JSON object.
type object = map[string]any

// scenarios is the server of all scenarios. A test cannot hand a server to the next one, which is why it stands here.
var scenarios scenarioServer

// scenarioServer is the server and what keeps it running. It is started by the first scenario and stopped behind the last test.
type scenarioServer struct {
	mu     sync.Mutex
	server *server
	life   *lifetime
}

// lifetime is a testing.TB for what outlives the test that starts it: it cleans up when it is ended.
type lifetime struct {
	testing.TB
	cleanups []func()
	faults   []error
}

func (l *lifetime) Context() context.Context { return context.Background() }
func (l *lifetime) Cleanup(f func())         { l.cleanups = append(l.cleanups, f) }
func (l *lifetime) Error(args ...any)        { l.faults = append(l.faults, errors.New(fmt.Sprint(args...))) }
func (l *lifetime) Errorf(format string, args ...any) {
	l.faults = append(l.faults, fmt.Errorf(format, args...))
}

func (l *lifetime) TempDir() string {
	dir, err := os.MkdirTemp("", "rapport-scenarios-")
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			l.Error(err)
		}
	})
	return dir
}

// start returns the server for a test. A test that cannot start it fails, or is skipped where there is no PostgreSQL; the next
// one tries again.
func (s *scenarioServer) start(t *testing.T) *server {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		s.life = &lifetime{TB: t}
		s.server = serve(s.life)
	}
	return &server{t: t, url: s.server.url, data: s.server.data, out: s.server.out}
}

// stop ends what start began.
func (s *scenarioServer) stop() error {
	if s.life == nil {
		return nil
	}
	for i := range s.life.cleanups {
		s.life.cleanups[len(s.life.cleanups)-1-i]()
	}
	return errors.Join(s.life.faults...)
}

// scene is a client of the server in one scenario, or in one clause of it.
type scene struct {
	*server
	*script
	actor string
}

// script is what the clauses of a scenario have in common.
type script struct {
	name string // of the scenario
	keys atomic.Int64

	mu   sync.Mutex
	seen domain.Position // of the last command
	ids  []string        // of the records that commands addressed
}

// scenario begins a scenario, which runs beside the others.
func scenario(t *testing.T) *scene {
	t.Helper()
	t.Parallel()
	return &scene{server: scenarios.start(t), script: &script{name: t.Name()}, actor: "ann"}
}

// clause shows one clause of the row, by its very words.
func (s *scene) clause(words string, show func(s *scene)) {
	s.t.Helper()
	s.t.(*testing.T).Run(words, func(t *testing.T) { show(s.in(t)) })
}

// notYet declares a clause of the row that does not work yet, with what is missing; internal/capability reads the words that
// are put before that. A test that shows the clause may be given: it must fail, or else the declaration is out of date.
func (s *scene) notYet(words, missing string, show ...func(s *scene)) {
	s.t.(*testing.T).Run(words, func(t *testing.T) {
		for _, show := range show {
			a := &attempt{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				show(s.in(a))
			}()
			<-done
			if !a.failed {
				t.Fatal("the clause works: show it")
			}
		}
		t.Skip("not yet: " + missing)
	})
}

// attempt is a test that may fail, in a goroutine of its own.
type attempt struct {
	testing.TB
	failed bool
}

func (a *attempt) Error(args ...any)                 { a.failed = true; a.Log(args...) }
func (a *attempt) Errorf(format string, args ...any) { a.failed = true; a.Logf(format, args...) }
func (a *attempt) Fatal(args ...any)                 { a.Error(args...); runtime.Goexit() }
func (a *attempt) Fatalf(format string, args ...any) { a.Errorf(format, args...); runtime.Goexit() }

// in returns the client for another test.
func (s *scene) in(t testing.TB) *scene {
	at := *s.server
	at.t = t
	return &scene{server: &at, script: s.script, actor: s.actor}
}

// as returns the client of somebody else.
func (s *scene) as(actor string) *scene {
	return &scene{server: s.server, script: s.script, actor: actor}
}

// made is what a client keeps of the answer to a command.
type made struct {
	ID       string          `json:"id"`
	Revision int             `json:"revision"`
	Position domain.Position `json:"position"`
	EventIDs []string        `json:"eventIds"`
	Events   []struct {
		Type string `json:"type"`
	} `json:"events"`
}

// types returns the types of the events that the command wrote.
func (m made) types() (types []string) {
	for _, e := range m.Events {
		types = append(types, e.Type)
	}
	return types
}

// send sends a command with a key of its own and returns the status and the body of its answer. Headers are names and values
// by turns; an empty value leaves one out. While it is told to come
// again, it sends the same again, as clients do.
func (s *scene) send(path string, body object, headers ...string) (int, []byte) {
	s.t.Helper()
	key := s.name + "-" + strconv.FormatInt(s.keys.Add(1), 10)
	content, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(content))
		if err != nil {
			s.t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", key)
		request.Header.Set("X-Actor", s.actor)
		for i := 0; i+1 < len(headers); i += 2 {
			request.Header.Set(headers[i], headers[i+1])
			if headers[i+1] == "" {
				request.Header.Del(headers[i])
			}
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			s.t.Fatal(err)
		}
		if response.StatusCode != http.StatusServiceUnavailable {
			return response.StatusCode, text
		}
	}
}

// do sends a command that must be accepted.
func (s *scene) do(path string, body object, headers ...string) made {
	s.t.Helper()
	status, text := s.send(path, body, headers...)
	if status/100 != 2 {
		s.t.Fatalf("POST %s: status %d: %s", path, status, text)
	}
	return s.keep(text)
}

// keep reads a receipt and remembers its position for queries.
func (s *scene) keep(text []byte) (m made) {
	s.t.Helper()
	if err := json.Unmarshal(text, &m); err != nil {
		s.t.Fatalf("%v in %s", err, text)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, m.ID)
	if s.seen.Before(m.Position) {
		s.seen = m.Position
	}
	return m
}

// refused sends a command that must be refused with a code, and returns the problem.
func (s *scene) refused(path, code string, body object, headers ...string) object {
	s.t.Helper()
	status, text := s.send(path, body, headers...)
	var problem object
	if err := json.Unmarshal(text, &problem); err != nil || status < 400 || problem["code"] != code {
		s.t.Errorf("POST %s: status %d instead of problem %s: %s", path, status, code, text)
	}
	return problem
}

// header returns a header with a revision in quotes. With If-Match a command is accepted only while its record stands at that
// revision, which shows that what was refused before has written nothing.
func header(name string, revision int) []string {
	return []string{name, strconv.Quote(strconv.Itoa(revision))}
}

// get asks a query that reflects every command of the scenario; parameters are names and values by turns.
func (s *scene) get(path string, parameters ...string) object {
	s.t.Helper()
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	return get[object](s.server, path, append(parameters, "minPosition", seen.String())...)
}

// items asks for a list, which must fit on one page, and returns its items.
func (s *scene) items(path string, parameters ...string) []any {
	s.t.Helper()
	answer := s.get(path, parameters...)
	if answer["next"] != nil {
		s.t.Fatalf("GET %s: more than one page", path)
	}
	return answer["items"].([]any)
}

// history returns what happened to a customer.
func (s *scene) history(id string) []any {
	s.t.Helper()
	return s.items("/v1/customers/" + id + "/history")
}

// want compares a member of a JSON value, named by a path such as profile.tags.0, by how it prints. An absent member prints
// as nothing.
func (s *scene) want(value any, path string, want any) {
	s.t.Helper()
	if got := said(value, path); got != fmt.Sprint(want) {
		text, _ := json.Marshal(value)
		s.t.Errorf("%s is %q, want %q in %s", path, got, fmt.Sprint(want), text)
	}
}

// said prints a member of a JSON value.
func said(value any, path string) string {
	if v := dig(value, path); v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// dig returns a member of a JSON value; nil when it is absent.
func dig(value any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		if name == "" {
			continue
		}
		switch v := value.(type) {
		case object:
			value = v[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// column prints a member of every element of a list, in order.
func column(list any, path string) string {
	var out []string
	elements, _ := list.([]any)
	for _, element := range elements {
		out = append(out, said(element, path))
	}
	return strings.Join(out, " ")
}

// where returns the elements of a list of which a member prints as wanted.
func where(list any, path string, want any) (found []any) {
	elements, _ := list.([]any)
	for _, element := range elements {
		if said(element, path) == fmt.Sprint(want) {
			found = append(found, element)
		}
	}
	return found
}

// only returns the one element of which a member prints as wanted; nil when there is none or more than one.
func only(list any, path string, want any) any {
	if found := where(list, path, want); len(found) == 1 {
		return found[0]
	}
	return nil
}

// atOnce sends the same kind of thing from several clients at the same moment.
func atOnce(clients int, send func(client int)) {
	var ready, done sync.WaitGroup
	ready.Add(clients)
	for client := range clients {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			send(client)
		})
	}
	done.Wait()
}

// customer registers a customer and returns its id.
func (s *scene) customer(body object) string {
	s.t.Helper()
	return s.do("/v1/customers", body).ID
}

// money is an amount of a currency.
func money(amount, currency string) object { return object{"amount": amount, "currency": currency} }

// today is the day of now in UTC.
func today() string { return time.Now().UTC().Format(time.DateOnly) }
