package commands_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// twoProcesses returns two buses over one store, and companies that both know.
func twoProcesses(t *testing.T, w *world, companies int) (here, there *commands.Bus, ids []domain.ID) {
	t.Helper()
	here, there = w.crm(), w.crm()
	for i := range companies {
		c := customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Acme"}}
		id := submit(t, here, request(string(rune('a'+i)), "", c)).ID
		submit(t, there, request("tag "+string(id), id, customer.Tag{Tag: "known"}))
		ids = append(ids, id)
	}
	return here, there, ids
}

// survivors holds that whoever is said to be absorbed was merged into the customer that says so, and returns whom each was
// merged into.
func (w *world) survivors(t *testing.T) map[domain.ID]domain.ID {
	t.Helper()
	absorbed, into := map[domain.ID]domain.ID{}, map[domain.ID]domain.ID{}
	for id, events := range w.store.of("customer") {
		for _, e := range events {
			switch e := e.Event.(type) {
			case customer.Merged:
				absorbed[e.DuplicateID] = id.ID
			case customer.MergedInto:
				into[id.ID] = e.SurvivorID
			}
		}
	}
	for duplicate, by := range absorbed {
		if into[duplicate] != by {
			t.Errorf("%s absorbed %s, which was merged into %q", by, duplicate, into[duplicate])
		}
	}
	return into
}

// D3: TestReproMergesOfAPairBothWays: two people merge a pair at once, one each way, through two processes. Both sides used to
// begin, and one of the two was refused with merge-cycle after its Merged event had been written. The second merge is begun
// before each write of the first.
func TestReproMergesOfAPairBothWays(t *testing.T) {
	for _, allow := range []bool{false, true} {
		for write, over := 1, false; !over; write++ {
			w := newWorld()
			here, there, ids := twoProcesses(t, w, 2)
			merge := func(key string, survivor, duplicate domain.ID) commands.Request {
				r := request(key, survivor, customer.Merge{DuplicateID: duplicate})
				r.AllowDuplicates = allow
				return r
			}
			var crossed error
			n := 0
			w.store.before = func(domain.StreamID, []domain.Pending) domain.Outcome {
				if n++; n == write {
					_, crossed = there.Submit(t.Context(), merge("m2", ids[1], ids[0]))
				}
				return nil
			}
			_, err := here.Submit(t.Context(), merge("m1", ids[0], ids[1]))
			over = n < write
			w.store.before = nil
			refused := 0
			for _, err := range []error{err, crossed} {
				var no *domain.Rejection
				switch {
				case errors.As(err, &no) && (no.Rule == "customer-merging" || no.Rule == "customer-merged"):
					refused++
				case err != nil:
					t.Errorf("write %d: %v", write, err)
				}
			}
			if into := w.survivors(t); !over && len(into) != 2-refused {
				t.Errorf("write %d: %d merges were refused, and there are these: %v", write, refused, into)
			}
			if write > 20 {
				t.Fatal("a merge writes no end")
			}
		}
	}
}

// D3: TestReproSurvivorThatIsMergedItself: a merge is cut off between its two streams, and its survivor becomes a duplicate
// before it is repeated. The repetition used to be refused with customer-merged although its Merged event was written.
func TestReproSurvivorThatIsMergedItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		here, there, ids := twoProcesses(t, w, 4)
		first, duplicate, last, fourth := ids[0], ids[1], ids[2], ids[3]
		merge := request("m1", first, customer.Merge{DuplicateID: duplicate})
		w.store.before = func(id domain.StreamID, _ []domain.Pending) domain.Outcome {
			if id.ID == duplicate {
				return domain.Conflict{Actual: domain.AtRevision(7)}
			}
			return nil
		}
		var away *domain.UnavailableError
		if _, err := here.Submit(t.Context(), merge); !errors.As(err, &away) {
			t.Errorf("the second stream keeps moving: %v", err)
		}
		w.store.before = nil
		var no *domain.Rejection
		_, err := there.Submit(t.Context(), request("m2", duplicate, customer.Merge{DuplicateID: fourth}))
		if !errors.As(err, &no) || no.Rule != "customer-merging" {
			t.Errorf("a customer that is being merged absorbs another: %v", err)
		}
		dry := request("", duplicate, customer.Merge{DuplicateID: fourth})
		dry.DryRun = true
		if _, err := there.Submit(t.Context(), dry); !errors.As(err, &no) || no.Rule != "customer-merging" {
			t.Errorf("the dry run of it: %v", err)
		}
		submit(t, there, request("m3", last, customer.Merge{DuplicateID: first}))
		var taken *domain.DuplicateError
		if _, err := there.Submit(t.Context(), request("m4", last, customer.Merge{DuplicateID: duplicate})); !errors.As(err, &taken) {
			t.Errorf("the duplicate of a duplicate finds another survivor: %v", err)
		}
		if r := submit(t, w.crm(), merge); !r.Replayed {
			t.Errorf("%+v", r)
		}
		if into := w.survivors(t); into[duplicate] != first || into[first] != last {
			t.Errorf("%v", into)
		}
	})
}

// TestADeadClaimDoesNotKeepACustomerFromMerging: a merge claims its duplicate and dies before it writes. After a while the
// customer may absorb others, and the dead merge, should it wake up, is refused.
func TestADeadClaimDoesNotKeepACustomerFromMerging(t *testing.T) {
	w := newWorld()
	here, there, ids := twoProcesses(t, w, 2)
	asleep := false
	var second commands.Receipt
	w.store.before = func(id domain.StreamID, events []domain.Pending) domain.Outcome {
		if id.ID == ids[0] && !asleep { // here wakes up after there has given it up
			asleep = true
			w.clock.advance(2 * commands.ClaimTimeout)
			second = submit(t, there, request("m2", ids[1], customer.Merge{DuplicateID: ids[0]}))
		}
		return nil
	}
	_, err := here.Submit(t.Context(), request("m1", ids[0], customer.Merge{DuplicateID: ids[1]}))
	var no *domain.Rejection
	if !errors.As(err, &no) || len(second.EventIDs) != 1 {
		t.Errorf("got %v and %+v", err, second)
	}
	if into := w.survivors(t); len(into) != 1 || into[ids[0]] != ids[1] {
		t.Errorf("%v", into)
	}
}
