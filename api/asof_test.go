package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
)

var seed = flag.Uint64("asof.seed", 0, "seed of the random histories; 0 means another each time")

// longVar makes the random history as long as it is meant to be.
const longVar = "RAPPORT_SIM_LONG"

// hands is a clock that moves when told.
type hands struct {
	mu  sync.Mutex
	now time.Time
}

func newHands() *hands { return &hands{now: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)} }

func (h *hands) time() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hands) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// writer sends random commands that follow from the examples of the API.
type writer struct {
	*stack
	t       *testing.T
	random  *rand.Rand
	clock   *hands
	types   []writable
	records map[string][]domain.ID // by aggregate
	last    domain.Position
	sent    int
	prompt  bool // whether everything is recorded when it happens
}

// writable is a type of command.
type writable struct {
	aggregate, path string
	creates         bool
	example         object
}

func newWriter(t *testing.T, s *stack, clock *hands) *writer {
	number := *seed
	if number == 0 {
		number = rand.Uint64()
	}
	t.Logf("seed %d", number)
	w := &writer{stack: s, t: t, random: rand.New(rand.NewPCG(number, 0)), clock: clock, records: map[string][]domain.ID{}}
	var m api.Metadata
	s.do("GET", "/v1/metadata", nil).into(t, &m)
	for _, a := range m.Aggregates {
		for _, c := range a.Commands {
			w.types = append(w.types, writable{a.Name, c.Path, c.Creates, c.Example.(object)})
		}
	}
	w.records["pipeline"] = []domain.ID{pipeline.DefaultID}
	return w
}

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// step sends random commands until one is accepted.
func (w *writer) step() {
	for {
		c := oneOf(w.random, w.types...)
		known := w.records[c.aggregate]
		if c.creates && (len(known) > 10+w.sent/50 || c.aggregate == "pipeline" && len(known) > 3) || !c.creates && len(known) == 0 {
			continue
		}
		w.clock.move(time.Duration(w.random.IntN(3_600_000_000)) * time.Microsecond)
		path := c.path
		if !c.creates {
			path = strings.ReplaceAll(path, "{id}", string(known[w.random.IntN(len(known))]))
		}
		body := w.fill("", c.example).(object)
		delete(body, "occurredAt")
		if w.random.IntN(5) == 0 && !w.prompt {
			body["occurredAt"] = w.clock.time().Add(-time.Duration(w.random.IntN(100)) * time.Hour).Format(time.RFC3339)
		}
		w.sent++
		a := w.do("POST", path, body, "Idempotency-Key", fmt.Sprint("random-", w.sent), "X-Duplicate-Policy", "allow", "X-Actor", oneOf(w.random, "ann", "bob"))
		if a.StatusCode/100 == 5 {
			w.t.Fatalf("POST %s: %d %s", path, a.StatusCode, a.body)
		}
		if a.StatusCode/100 != 2 {
			continue
		}
		var r api.Receipt
		a.into(w.t, &r)
		if c.creates {
			w.records[c.aggregate] = append(known, r.ID)
		}
		if w.last.Before(r.Position) {
			w.last = r.Position
			return
		}
	}
}

// namedFor says which aggregate a member's id is of.
var namedFor = map[string]string{
	"customerId": "customer", "parentId": "customer", "memberId": "customer", "duplicateId": "customer", "survivorId": "customer",
	"contactId": "contact", "productId": "product", "pipelineId": "pipeline", "opportunityId": "opportunity", "orderId": "order",
}

// fill varies an example: ids name records, and texts that matter come from few values, so that commands meet.
func (w *writer) fill(name string, v any) any {
	if aggregate := namedFor[name]; aggregate != "" {
		if known := w.records[aggregate]; len(known) > 0 {
			return oneOf(w.random, known...)
		}
		return v
	}
	switch name {
	case "name", "givenName", "familyName", "subject", "text":
		return oneOf(w.random, "Acme", "Globex", "Initech", "Umbra", "Zeta") + fmt.Sprint(" ", w.random.IntN(5))
	case "owner", "by":
		return oneOf(w.random, "ann", "bob", "eve")
	case "email":
		return fmt.Sprintf("m%d@example.com", w.random.IntN(200))
	case "phone":
		return fmt.Sprintf("+49301234%03d", w.random.IntN(200))
	case "taxId":
		return fmt.Sprintf("DE %09d", w.random.IntN(500))
	case "region":
		if _, text := v.(string); text {
			return oneOf(w.random, "West", "East")
		}
	case "commitmentId", "paymentId":
		return fmt.Sprint(w.random.IntN(3))
	case "stage":
		return oneOf(w.random, "prospecting", "engaging", "qualifying")
	}
	switch v := v.(type) {
	case object:
		out := object{}
		for _, member := range slices.Sorted(maps.Keys(v)) { // one order, so that a seed says all
			if w.random.IntN(8) > 0 {
				out[member] = w.fill(member, v[member])
			}
		}
		if of, ok := v["kind"].(string); ok && v["id"] != nil && len(w.records[of]) > 0 {
			out["kind"], out["id"] = of, oneOf(w.random, w.records[of]...)
		}
		if of, ok := v["aggregate"].(string); ok && v["id"] != nil && len(w.records[of]) > 0 {
			out["aggregate"], out["id"] = of, oneOf(w.random, w.records[of]...)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = w.fill("", v[i])
		}
		return out
	}
	return v
}

// atRoute are the routes of queries that have no asOf, and why.
var atRoute = map[string]string{
	"/v1/events":                          "the log itself, which after and limit cut",
	"/v1/metadata":                        "what this binary knows",
	"/v1/admin/projections":               "how the projectors stand",
	"/v1/admin/projections/{name}/parked": "how the projectors stand",
}

// queries returns queries for every route that takes asOf, of the records that there are: one kind of each route, and more
// of those with an id.
func (w *writer) queries() []string {
	var list []string
	for path, item := range w.document().Paths {
		op, ok := item["get"]
		if !ok || !strings.HasPrefix(path, "/v1/") || atRoute[path] != "" {
			continue
		}
		if !slices.ContainsFunc(op.Parameters, func(p parameter) bool { return p.Name == "asOf" }) {
			w.t.Errorf("GET %s is not answered as of the past, and no exception says why", path)
			continue
		}
		values := url.Values{}
		paged := false
		for _, p := range op.Parameters {
			switch {
			case p.Name == "cursor":
				paged = true
			case p.Name == "owner" || p.Name == "name" && p.In == "query":
				values.Set(p.Name, map[string]string{"owner": "ann", "name": "acme"}[p.Name])
			case p.Name == "phone" && p.Required:
				values.Set(p.Name, "+49301234007")
			case p.Required && p.In == "query":
				values.Set(p.Name, fmt.Sprint(p.Example))
			}
		}
		if paged && !strings.Contains(path, "{id}") {
			for _, p := range op.Parameters {
				if p.Name == "sort" && p.Example != nil {
					values.Set("sort", fmt.Sprint(p.Example))
				}
			}
			values.Set("count", "exact")
			values.Set("limit", "60")
		}
		path = strings.NewReplacer("{system}", "webshop", "{externalId}", "17850").Replace(path)
		add := func(path string) { list = append(list, strings.TrimSuffix(path+"?"+values.Encode(), "?")+"&") }
		if !strings.Contains(path, "{id}") {
			add(path)
			continue
		}
		aggregate := strings.TrimSuffix(strings.Split(path, "/")[2], "s")
		aggregate = strings.Replace(aggregate, "opportunitie", "opportunity", 1)
		known := w.records[aggregate]
		for range 2 {
			if len(known) > 0 {
				add(strings.ReplaceAll(path, "{id}", string(known[w.random.IntN(len(known))])))
			}
		}
	}
	list = append(list,
		"/v1/funnel?mode=reached&groupBy=month,owner,region,product&basis=closed&", "/v1/funnel?mode=any&filter="+url.QueryEscape(`owner == "ann"`)+"&",
		"/v1/opportunities?filter="+url.QueryEscape(`status == "open" && amount >= 10`)+"&sort=-amount&",
		"/v1/customers?filter="+url.QueryEscape(`"key account" in tags || owner == "bob"`)+"&sort=name,-changedAt&limit=7&",
		"/v1/opportunities/board?filter="+url.QueryEscape(`owner == "bob"`)+"&", "/v1/orders/totals?filter="+url.QueryEscape(`kind == "sale"`)+"&",
	)
	slices.Sort(list)
	for i, q := range list {
		if !strings.Contains(q, "?") {
			list[i] = strings.TrimSuffix(q, "&") + "?"
		}
	}
	return list
}

// cursors stand in answers, and are bound to the moment that a page was asked for.
var cursors = regexp.MustCompile(`"next":"[^"]*"`)

// positions of answers tell what else the log holds by now.
var positions = regexp.MustCompile(`,"position":"[0-9]+"`)

func (w *writer) ask(query string) (int, []byte) {
	a := w.answered(query)
	if a.StatusCode != http.StatusOK && a.StatusCode != http.StatusNotFound {
		w.t.Fatalf("GET %s: %d %s", query, a.StatusCode, a.body)
	}
	if a.StatusCode == http.StatusNotFound { // a problem names the request
		return a.StatusCode, nil
	}
	return a.StatusCode, cursors.ReplaceAll(a.body, []byte(`"next":""`))
}

// caughtUp waits until the read models are there and reflect everything written, and returns where the log ends.
func (s *stack) caughtUp() domain.Position {
	s.t.Helper()
	poll := time.NewTicker(10 * time.Millisecond) // nobody notifies of tables that are there
	defer poll.Stop()
	for s.do("GET", "/readyz", nil).StatusCode != http.StatusOK {
		select {
		case <-poll.C:
		case <-s.t.Context().Done():
			s.t.Fatal("the server does not get ready")
		}
	}
	head, err := s.log.Head(s.t.Context()) // a command may have others follow
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		err := s.reads.WaitFor(s.t.Context(), head.Position)
		var late *domain.UnavailableError
		if err == nil {
			return head.Position
		}
		if !errors.As(err, &late) || s.t.Context().Err() != nil {
			s.t.Fatal(err)
		}
	}
}

// D7: TestEveryAnswerIsTheOneGivenThen stores what every kind of query answered while random commands were executed; afterwards
// the answers as of these positions are the same, byte for byte.
func TestEveryAnswerIsTheOneGivenThen(t *testing.T) {
	commands, every := 600, 150
	if os.Getenv(longVar) != "" {
		commands, every = 10_000, 500
	}
	clock := newHands()
	w := newWriter(t, startAt(t, clock.time), clock)
	type asked struct {
		query  string
		at     domain.Position
		now    time.Time
		status int
		body   []byte
	}
	var before []asked
	for n := 1; n <= commands; n++ {
		w.step()
		if n%every > 0 {
			continue
		}
		w.last = w.caughtUp()
		for _, q := range w.queries() {
			status, body := w.ask(q)
			before = append(before, asked{q, w.last, clock.time(), status, body})
		}
	}
	clock.move(time.Hour)
	w.caughtUp()
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(before), func(i, j int) { before[i], before[j] = before[j], before[i] })
	slices.SortStableFunc(before, func(a, b asked) int { return a.at.Compare(b.at) }) // the snapshots of one moment are used together
	failed := 0
	for i, b := range before {
		moment := "asOf=" + b.at.String()
		if i%2 == 1 {
			moment = "asOf=" + b.now.Format(time.RFC3339Nano)
		}
		status, body := w.ask(b.query + moment)
		if status != b.status || !bytes.Equal(body, b.body) {
			if failed++; failed > 5 {
				t.Fatal("and more")
			}
			t.Errorf("GET %s%s: status %d, then %d: %s", b.query, moment, status, b.status, difference(b.body, body))
		}
	}
	t.Logf("%d commands sent, %d accepted, %d answers compared", w.sent, commands, len(before))
}

func difference(was, is []byte) string {
	var a, b any
	if json.Unmarshal(was, &a) != nil || json.Unmarshal(is, &b) != nil {
		return fmt.Sprintf("-%s +%s", was, is)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		return diff
	}
	return "the same members in another form"
}
