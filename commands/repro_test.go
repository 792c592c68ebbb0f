package commands_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// A8: TestReproTwoProcessesAtOneMoment: one key reaches two processes whose clocks show the same moment, and one of them does not
// know yet what has changed elsewhere. Their decisions differ, so their events must: were the ids the same, the log would
// take the second for a repetition of the first, and the second process would believe in events that are not there.
func TestReproTwoProcessesAtOneMoment(t *testing.T) {
	w := newWorld()
	bus := func() *commands.Bus {
		b := commands.NewBus(w.store, commands.Options{Clock: func() time.Time { return noon }, Secret: []byte("test")})
		b.Register([]domain.Definition{members.Definition()}, commands.Prepare(prepareSponsor))
		return b
	}
	here, there := bus(), bus()
	ann := submit(t, here, request("k1", "", join{Handle: "ann"})).ID
	bob := submit(t, here, request("k2", "", join{Handle: "bob"})).ID
	submit(t, there, request("k3", bob, rename{Handle: "bobby"}))
	first := submit(t, there, request("k4", ann, sponsor{SponsorID: bob}))
	second := submit(t, here, request("k4", ann, sponsor{SponsorID: bob}))
	if first.Replayed || !second.Replayed || second.EventIDs[0] != first.EventIDs[0] {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	stored := w.store.stream(streamOf(ann))
	if got := stored[len(stored)-1].Event.(backed).Handle; len(stored) != 2 || got != "bobby" {
		t.Errorf("%d events, the last says %q", len(stored), got)
	}
}

// TestReproRetriedCreationWhoseValueIsTaken: a creation is asked for again, in another process, after its aggregate has
// given its unique value up and another has taken it. The key finds the receipt; it used to find the value taken.
func TestReproRetriedCreationWhoseValueIsTaken(t *testing.T) {
	w := newWorld()
	first := submit(t, w.bus(), request("k1", "", join{Handle: "ann", Badge: "7"}))
	submit(t, w.bus(), request("k2", first.ID, rename{Handle: "anna"}))
	submit(t, w.bus(), request("k3", "", join{Handle: "ann"}))
	again := submit(t, w.bus(), request("k1", "", join{Handle: "ann", Badge: "7"}))
	if !again.Replayed || again.ID != first.ID || again.Position != first.Position {
		t.Errorf("first %+v\nagain %+v", first, again)
	}
	var reused *domain.IdempotencyError
	if _, err := w.bus().Submit(t.Context(), request("k1", "", join{Handle: "ann"})); !errors.As(err, &reused) {
		t.Errorf("with another body: %v", err)
	}
}

// TestReproReplayLeavesNoClaim: the same, when nobody has taken the value yet. The attempt claims it before it meets what was
// executed, and must give it back: somebody else asks for it at once.
func TestReproReplayLeavesNoClaim(t *testing.T) {
	w := newWorld()
	first := submit(t, w.bus(), request("k1", "", join{Handle: "ann"}))
	submit(t, w.bus(), request("k2", first.ID, rename{Handle: "anna"}))
	if again := submit(t, w.bus(), request("k1", "", join{Handle: "ann"})); !again.Replayed {
		t.Errorf("%+v", again)
	}
	submit(t, w.bus(), request("k3", "", join{Handle: "ann"}))
}
