package deadline_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/deadline"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// rows are deadlines in memory. What was woken is due no more once they have seen it.
type rows struct {
	mu   sync.Mutex
	due  []deadline.Due
	gone map[deadline.Due]bool
	err  error
}

func (r *rows) Due(_ context.Context, now time.Time, after deadline.Due, limit int) (list []deadline.Due, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.due {
		if !r.gone[d] && !d.At.After(now) && compare(d, after) > 0 && len(list) < limit {
			list = append(list, d)
		}
	}
	return list, r.err
}

func compare(a, b deadline.Due) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Key, b.Key))
}

func (r *rows) CountDue(_ context.Context, now time.Time) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.due {
		if !r.gone[d] && !d.At.After(now) {
			n++
		}
	}
	return n, r.err
}

// bus counts what it is asked, and how many at a time.
type bus struct {
	mu         sync.Mutex
	keys       map[string]int
	busy, most int
	answer     func(commands.Request) error
}

func (b *bus) Submit(_ context.Context, r commands.Request) (commands.Receipt, error) {
	b.mu.Lock()
	b.keys[r.Key]++
	b.busy++
	b.most = max(b.most, b.busy)
	answer := b.answer
	b.mu.Unlock()
	<-time.After(time.Millisecond) // a command takes its time, of the bubble
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy--
	if answer != nil {
		return commands.Receipt{}, answer(r)
	}
	return commands.Receipt{}, nil
}

func promises(n int, at time.Time) (list []deadline.Due) {
	for i := range n {
		list = append(list, deadline.Due{
			Tenant: "main", Aggregate: "customer", ID: domain.ID(fmt.Sprintf("01900000-0000-7000-8000-%012d", i)), What: "commitment", Key: "1", At: at,
		})
	}
	return list
}

func waker(t testing.TB, r deadline.Rows, b deadline.Bus, logger *slog.Logger) *deadline.Waker {
	t.Helper()
	w, err := deadline.New(aggregates.All(), r, b, time.Now, logger)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// 100,000 that are due at once are each woken once, at the stated rate, a few at a time, and the log tells how it goes. The rows
// do not change meanwhile, as those of a projection that is halted.
func TestManyThatAreDueAtOnceAreWokenAtTheStatedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 100_000
		var told strings.Builder
		r := &rows{due: promises(many, time.Now().Add(-time.Hour))}
		b := &bus{keys: map[string]int{}}
		w := waker(t, r, b, slog.New(slog.NewTextHandler(&told, nil)))
		begun := time.Now()
		turns := 0
		for len(b.keys) < many {
			turn := time.Now()
			if err := w.Wake(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(turn); took > deadline.Turn+2*time.Second {
				t.Errorf("a turn took %s", took)
			}
			turns++
		}
		took := time.Since(begun)
		if least := time.Second * many / deadline.Rate; took < least-time.Second || took > least+10*time.Second {
			t.Errorf("%d took %s, want %s", many, took, least)
		}
		if b.most > deadline.Workers || turns < 3 {
			t.Errorf("%d at a time, %d turns", b.most, turns)
		}
		for key, n := range b.keys {
			if n != 1 {
				t.Fatalf("%s was submitted %d times", key, n)
			}
		}
		if !strings.Contains(told.String(), "per_second=") || !strings.Contains(told.String(), "eta=") {
			t.Errorf("the log tells %s", told.String())
		}
	})
}

func TestOnlyWhatIsDueIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over, ahead := promises(2, time.Now()), promises(2, time.Now().Add(time.Microsecond))
		unknown := deadline.Due{Tenant: "main", Aggregate: "customer", ID: over[0].ID, What: "birthday", At: time.Now().Add(-time.Second)}
		r := &rows{due: slices.Concat([]deadline.Due{unknown}, over, ahead)}
		b := &bus{keys: map[string]int{}}
		w := waker(t, r, b, slog.New(slog.DiscardHandler))
		if err := w.Wake(t.Context()); err != nil || len(b.keys) != 2 {
			t.Errorf("%v, %v", b.keys, err)
		}
		r.due = nil
		if err := w.Wake(t.Context()); err != nil || len(b.keys) != 2 {
			t.Errorf("%v, %v", b.keys, err)
		}
	})
}

// What a decider refuses holds nobody up, nor does a command that is wrong, which is told; a log that is away ends the turn.
func TestOneThatFailsHoldsNobodyUp(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		told bool
	}{
		"refused": {domain.Reject("commitment-not-due", "not yet"), false},
		"wrong":   {domain.Invalid("/commitmentId", "is blank"), true},
		"nobody":  {&domain.NotFoundError{Kind: "customer"}, true},
		"away":    {&domain.UnavailableError{What: "event log"}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &rows{due: promises(3, time.Now())}
			b := &bus{keys: map[string]int{}, answer: func(req commands.Request) error {
				if req.Target == r.due[0].ID {
					return tc.err
				}
				return nil
			}}
			err := waker(t, r, b, slog.New(slog.DiscardHandler)).Wake(t.Context())
			if (err != nil) != tc.told || tc.told && !errors.Is(err, tc.err) || len(b.keys) != 3 {
				t.Errorf("%s: %v, %d commands", name, err, len(b.keys))
			}
		})
	}
}

// No two moments share a key, and each has the same key whenever it is asked.
func TestKeysNameStreamMatterAndMoment(t *testing.T) {
	w := waker(t, &rows{}, &bus{}, slog.New(slog.DiscardHandler))
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	for _, d := range promises(2, noon) {
		for _, d.Key = range []string{"1", "2"} {
			for _, d.At = range []time.Time{noon, noon.Add(time.Microsecond), noon.AddDate(1, 0, 0)} {
				req, ok := w.Request(d)
				if !ok || seen[req.Key] || len(req.Key) > commands.MaxKeyLength {
					t.Errorf("%+v: key %q, %t", d, req.Key, ok)
				}
				seen[req.Key] = true
				elsewhere := d
				elsewhere.At = d.At.In(time.FixedZone("", 3600))
				if again, _ := w.Request(elsewhere); again.Key != req.Key || again.Command != req.Command {
					t.Errorf("%+v has another command elsewhere", d)
				}
				if c := req.Command.(customer.MarkCommitmentOverdue); req.Actor != commands.System || c.CommitmentID != d.Key || !c.OccurredAt.Equal(d.At) {
					t.Errorf("%+v: %+v", d, req)
				}
			}
		}
	}
}

func TestDeadlinesAreChecked(t *testing.T) {
	good := domain.Deadline{
		What: "w", Doc: "d", Events: []string{"customer.merged"}, Moves: func(domain.Recorded) (domain.DeadlineMove, bool) { return domain.DeadlineMove{}, false },
		Wake: func(string, time.Time) domain.Command { return nil },
	}
	foreign, half := good, good
	foreign.Events, half.Wake = []string{"order.placed"}, nil
	for want, list := range map[string][]domain.Deadline{
		"": {good}, "declared twice": {good, good}, "in part": {half}, "no event of it": {foreign},
	} {
		def := customer.Aggregate.Definition()
		def.Deadlines = list
		_, err := deadline.New([]domain.Definition{def}, &rows{}, &bus{}, time.Now, nil)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
