package commands_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/commands/party"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// begun returns the event of the merge that the world's log holds.
func (w *world) begun(t *testing.T) domain.Recorded {
	t.Helper()
	for _, events := range w.store.of("customer") {
		for _, e := range events {
			if _, ok := e.Event.(customer.Merged); ok {
				return e
			}
		}
	}
	t.Fatal("no merge was begun")
	return domain.Recorded{}
}

// closings returns the events that closed a customer as a duplicate.
func (w *world) closings(id domain.ID) (list []domain.Recorded) {
	for stream, events := range w.store.of("customer") {
		for _, e := range events {
			if _, ok := e.Event.(customer.MergedInto); ok && stream.ID == id {
				list = append(list, e)
			}
		}
	}
	return list
}

// TestTheProcessCompletesAMergeThatWasCutOff: the program ends between the halves of a merge, and nobody asks again.
func TestTheProcessCompletesAMergeThatWasCutOff(t *testing.T) {
	for name, when := range map[string]time.Time{"of now": {}, "of yesterday": noon.Add(-24 * time.Hour)} {
		w := newWorld()
		here, there, ids := twoProcesses(t, w, 2)
		merge := request("m1", ids[0], customer.Merge{DuplicateID: ids[1], When: domain.When{OccurredAt: when}})
		w.store.before = func(id domain.StreamID, _ []domain.Pending) domain.Outcome {
			if id.ID == ids[1] {
				return domain.Refused{Err: errors.New("the process has ended")}
			}
			return nil
		}
		if _, err := here.Submit(t.Context(), merge); err == nil {
			t.Errorf("%s: half a merge is answered as a success", name)
		}
		w.store.before = nil
		first := w.begun(t)
		for range 2 { // a crash repeats it
			if refused, err := party.CompleteMerges.Do(t.Context(), there, first); err != nil || refused != nil {
				t.Errorf("%s: %v, %v", name, refused, err)
			}
		}
		closed := w.closings(ids[1])
		if len(closed) != 1 || !closed[0].OccurredAt.Equal(first.OccurredAt) || closed[0].Actor != first.Actor || closed[0].CausationID != first.CommandID || closed[0].CorrelationID != first.CorrelationID {
			t.Fatalf("%s: closed by %+v", name, closed)
		}
		// Whoever asks again is answered as if nothing had been.
		if r := submit(t, w.crm(), merge); !r.Replayed || r.EventIDs[0] != first.ID {
			t.Errorf("%s: %+v", name, r)
		}
		if n := len(w.closings(ids[1])); n != 1 {
			t.Errorf("%s: closed %d times", name, n)
		}
	}
}

// TestTheProcessAndTheMergeCloseADuplicateOnce: the process runs elsewhere behind each write of the merge that it would complete.
func TestTheProcessAndTheMergeCloseADuplicateOnce(t *testing.T) {
	for write, over := 1, false; !over; write++ {
		w := newWorld()
		here, there, ids := twoProcesses(t, w, 2)
		n := 0
		w.store.after = func(domain.StreamID, []domain.Pending, domain.Outcome) domain.Outcome {
			if n++; n == write && w.hasBegun() {
				if refused, err := party.CompleteMerges.Do(context.WithoutCancel(t.Context()), there, w.begun(t)); err != nil || refused != nil {
					t.Errorf("write %d: %v, %v", write, refused, err)
				}
			}
			return nil
		}
		submit(t, here, request("m1", ids[0], customer.Merge{DuplicateID: ids[1]}))
		over = n < write
		w.store.after = nil
		if closed := w.closings(ids[1]); len(closed) != 1 {
			t.Errorf("write %d: closed %d times", write, len(closed))
		}
		if write > 20 {
			t.Fatal("a merge writes no end")
		}
	}
}

func (w *world) hasBegun() bool {
	for _, events := range w.store.of("customer") {
		for _, e := range events {
			if _, ok := e.Event.(customer.Merged); ok {
				return true
			}
		}
	}
	return false
}

// TestMergesOfBeforeTheProcessAreLeftAsTheyAre: the halves of old merges have other keys. The process and a client that repeats
// such a merge write nothing.
func TestMergesOfBeforeTheProcessAreLeftAsTheyAre(t *testing.T) {
	w := newWorld()
	here, there, ids := twoProcesses(t, w, 2)
	merge := request("m1", ids[0], customer.Merge{DuplicateID: ids[1]})
	old := request("merge-into "+merge.CommandID(), ids[1], customer.MergeInto{SurvivorID: ids[0]})
	w.store.before = func(id domain.StreamID, _ []domain.Pending) domain.Outcome {
		if id.ID == ids[1] {
			return domain.Refused{Err: errors.New("the process has ended")}
		}
		return nil
	}
	if _, err := here.Submit(t.Context(), merge); err == nil {
		t.Error("half a merge is answered as a success")
	}
	w.store.before = nil
	submit(t, there, old)
	if refused, err := party.CompleteMerges.Do(t.Context(), there, w.begun(t)); err != nil || refused != nil {
		t.Errorf("%v, %v", refused, err)
	}
	submit(t, w.crm(), merge)
	if n := len(w.closings(ids[1])); n != 1 {
		t.Errorf("closed %d times", n)
	}
}
