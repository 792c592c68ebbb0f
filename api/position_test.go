package api_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// strangers returns a function that writes events of another installation into the store, between and behind which ours stand.
func (s *stack) strangers() (write func(events int)) {
	s.t.Helper()
	other, err := eventlog.Dial(s.t.Context(), s.node.ConnectionString(), eventlog.WithNamespace("other"), eventlog.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := other.Close(); err != nil {
			s.t.Errorf("close the other log: %v", err)
		}
	})
	return func(events int) {
		s.t.Helper()
		batch := make([]eventlog.NewEvent, events)
		for i := range batch {
			batch[i] = eventlog.NewEvent{ID: uuid.NewString(), Type: "customer.registered", Data: []byte("{"), Metadata: []byte("{}")}
		}
		if events == 0 {
			return
		}
		stream := "main.customer-" + uuid.NewString()
		for { // a busy node is asked again, with the same ids
			switch o := other.Append(s.t.Context(), stream, domain.NoStream, batch).(type) {
			case domain.Committed:
				return
			case domain.Unknown:
				if s.t.Context().Err() != nil {
					s.t.Fatalf("the other application cannot write: %v", o.Err)
				}
			default:
				s.t.Fatalf("the other application cannot write: %+v", o)
			}
		}
	}
}

// number is a position as an opaque number.
func number(n uint64) domain.Position { return domain.Position{Commit: n, Prepare: n} }

// TestAnyNumberUpToTheHeadIsAPosition asks with random numbers, at, between and around the events of a log that others write to
// as well: everything goes on behind the number, one beyond the last event is refused, and none is answered by 503.
func TestAnyNumberUpToTheHeadIsAPosition(t *testing.T) {
	s := start(t)
	write := s.strangers()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	customer := s.command("/v1/customers", "c0", person("Person 0"))
	for n := 1; n < 8; n++ {
		write(random.IntN(6))
		s.command("/v1/customers", fmt.Sprint("c", n), person(fmt.Sprint("Person ", n)))
		write(random.IntN(6))
		s.command("/v1/customers/"+string(customer.ID)+"/tag", fmt.Sprint("t", n), object{"tag": fmt.Sprint("tag", n)})
	}
	head := s.caughtUp()
	write(5)
	all := s.page("limit=1000").Items
	behind := func(p domain.Position) (positions []string) {
		for _, e := range all {
			if p.Before(e.Position) {
				positions = append(positions, e.Position.String())
			}
		}
		return positions
	}
	var numbers []uint64
	for _, e := range all {
		numbers = append(numbers, e.Position.Commit-1, e.Position.Commit, e.Position.Commit+1)
	}
	for range 30 {
		numbers = append(numbers, random.Uint64N(head.Commit+8))
	}
	record := "/v1/customers/" + string(customer.ID)
	for _, n := range numbers {
		p := number(n)
		beyond := head.Before(p)
		for _, path := range []string{
			"/v1/events?limit=1000&after=", "/v1/events?stream=" + customer.Stream + "&after=", "/v1/customers?limit=100&asOf=",
			record + "/360?asOf=", record + "/replay?after=", record + "/history?after=",
		} {
			a := s.answered(path + p.String())
			switch {
			case beyond:
				if a.StatusCode != 400 || !strings.Contains(string(a.body), "the log ends at position "+head.String()) {
					t.Errorf("seed %d: %s%s beyond %s: %d %s", seed, path, p, head, a.StatusCode, a.body)
				}
			case p.Before(customer.Position) && strings.Contains(path, "360"):
				if a.StatusCode != 404 {
					t.Errorf("seed %d: %s%s before the record: %d %s", seed, path, p, a.StatusCode, a.body)
				}
			case a.StatusCode != 200:
				t.Errorf("seed %d: %s%s: %d %s", seed, path, p, a.StatusCode, a.body)
			}
		}
		if beyond {
			continue
		}
		var got []string
		for _, e := range s.page("limit=1000&after=" + p.String()).Items {
			got = append(got, e.Position.String())
		}
		if !slices.Equal(got, behind(p)) {
			t.Errorf("seed %d: after %s come %v, want %v", seed, p, got, behind(p))
		}
		lines := s.do("GET", "/v1/events?after="+p.String(), nil, "Accept", "application/x-ndjson")
		if n := strings.Count(string(lines.body), "\n"); lines.StatusCode != 200 || n != len(got) {
			t.Errorf("seed %d: %d lines after %s, want %d: status %d", seed, n, p, len(got), lines.StatusCode)
		}
		var known listed
		s.get("/v1/customers?limit=100&asOf="+p.String(), &known)
		want := 0
		for _, e := range all {
			if e.Type == "customer.registered" && !p.Before(e.Position) {
				want++
			}
		}
		if len(known.Items) != want {
			t.Errorf("seed %d: as of %s there are %d customers, want %d", seed, p, len(known.Items), want)
		}
		want = 0
		for _, e := range all {
			if e.Stream == customer.Stream && p.Before(e.Position) {
				want++
			}
		}
		for _, path := range []string{record + "/replay?limit=50&after=", record + "/history?limit=50&after="} {
			var part listed
			if s.get(path+p.String(), &part); len(part.Items) != want {
				t.Errorf("seed %d: %s%s: %d entries, want %d", seed, path, p, len(part.Items), want)
			}
		}
		if a := s.do("GET", record+"?minPosition="+p.String(), nil); a.StatusCode != 200 {
			t.Errorf("seed %d: minPosition=%s: %d %s", seed, p, a.StatusCode, a.body)
		}
	}
}

// A store in which others write much more, behind everything of ours, is a quiet log: nothing is behind, and reads need not wait.
func TestWhatOthersWriteIsNoLag(t *testing.T) {
	s := start(t)
	write := s.strangers()
	made := s.command("/v1/customers", "c", person("Ann"))
	head := s.caughtUp()
	for range 50 {
		write(1000)
	}
	if a := s.do("GET", "/v1/customers/"+string(made.ID)+"?minPosition="+made.Position.String(), nil); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	all, err := s.runner.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.LagEvents != 0 || p.Lag != 0 || p.Head == nil || *p.Head != head || p.Position != head {
			t.Errorf("%s is %d events, %s behind at %s of %v", p.Name, p.LagEvents, p.Lag, p.Position, p.Head)
		}
	}
}
