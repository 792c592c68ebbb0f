package commands_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

func duplicateOf(t testing.TB, err error, key string, id domain.ID) {
	t.Helper()
	duplicateAt(t, err, key, "/"+key, id)
}

func duplicateAt(t testing.TB, err error, key, pointer string, id domain.ID) {
	t.Helper()
	var d *domain.DuplicateError
	if !errors.As(err, &d) || d.Existing != id || d.Key != key || d.Pointer != pointer {
		t.Errorf("got %v, want a duplicate %s of %s at %s", err, key, id, pointer)
	}
}

// checkUnique checks the invariant of reservation.go on what stands in the store.
func checkUnique(t testing.TB, w *world) {
	t.Helper()
	holder := map[string]domain.ID{}
	held := map[domain.ID]int{}
	for id, events := range w.store.of("member") {
		var m member
		for _, e := range events {
			m = members.Decider.Evolve(m, e.Event)
		}
		for _, k := range members.Keys(m) {
			held[id.ID]++
			if other, taken := holder[k.Kind+k.Value]; taken {
				t.Errorf("%s %s belongs to %s and %s", k.Kind, k.Value, other, id.ID)
			}
			holder[k.Kind+k.Value] = id.ID
		}
	}
	claimed := map[domain.ID]int{}
	for _, events := range w.store.of("reservation") {
		if c, ok := events[len(events)-1].Event.(domain.ReservationClaimed); ok {
			claimed[c.ID]++
		}
	}
	for id, n := range held {
		if claimed[id] < n {
			t.Errorf("%s holds %d values and %d reservations", id, n, claimed[id])
		}
	}
}

func TestOneWinnerAmongManyClaimants(t *testing.T) {
	w := newWorld()
	buses := []*commands.Bus{w.bus(), w.bus(), w.bus()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var winner domain.ID
	var lost []error
	for i := range 60 {
		wg.Go(func() {
			r, err := buses[i%3].Submit(t.Context(), request(fmt.Sprint("k", i), "", join{Handle: "Ann", Badge: "7"}))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				lost = append(lost, err)
			case winner != "":
				t.Errorf("%s and %s won", winner, r.ID)
			default:
				winner = r.ID
			}
		})
	}
	wg.Wait()
	if winner == "" {
		t.Fatal("nobody won")
	}
	for _, err := range lost {
		var d *domain.DuplicateError
		if !errors.As(err, &d) || d.Existing != winner {
			t.Fatalf("loser got %v, want the winner %s", err, winner)
		}
	}
	checkUnique(t, w)
}

func TestValuesFollowTheState(t *testing.T) {
	w := newWorld()
	b := w.bus()
	ann := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
	_, err := b.Submit(t.Context(), request("k2", "", join{Handle: "ANN"}))
	duplicateOf(t, err, "handle", ann)

	submit(t, b, request("k3", ann, rename{Handle: "anna"}))
	bob := submit(t, b, request("k4", "", join{Handle: "ann"})).ID
	_, err = b.Submit(t.Context(), request("k5", ann, rename{Handle: "ann"}))
	duplicateOf(t, err, "handle", bob)

	allowed := request("k6", "", join{Handle: "ann"})
	allowed.AllowDuplicates = true
	submit(t, b, allowed)

	elsewhere := request("k7", "", join{Handle: "ann"})
	elsewhere.Tenant = "other"
	submit(t, b, elsewhere)
	for id := range w.store.of("reservation") {
		if strings.Contains(id.String(), "ann") {
			t.Errorf("%s tells the value", id)
		}
	}
}

func TestFailedCommandGivesItsClaimsBack(t *testing.T) {
	w := newWorld()
	b := w.bus()
	for i := range 8 { // whatever the order in which the two values are claimed
		holder := submit(t, b, request(fmt.Sprint("h", i), "", join{Handle: fmt.Sprint("ann", i), Badge: fmt.Sprint(i)})).ID
		_, err := b.Submit(t.Context(), request(fmt.Sprint("l", i), "", join{Handle: fmt.Sprint("bob", i), Badge: fmt.Sprint(i)}))
		duplicateOf(t, err, "badge", holder)
		submit(t, b, request(fmt.Sprint("m", i), "", join{Handle: fmt.Sprint("bob", i)}))
	}
	checkUnique(t, w)
}

// interrupted runs a command whose process dies after its claim, before its append.
func interrupted(t *testing.T, w *world, req commands.Request) {
	t.Helper()
	w.store.before = func(id domain.StreamID, _ []domain.Pending) domain.Outcome {
		if id.Aggregate == "member" {
			return domain.Unknown{Err: errLost}
		}
		return nil
	}
	_, err := w.bus().Submit(t.Context(), req)
	var away *domain.UnavailableError
	if !errors.As(err, &away) {
		t.Fatalf("got %v", err)
	}
	w.store.before = nil
}

func TestRetryAdoptsTheClaimOfItsFirstRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		interrupted(t, w, request("k1", "", join{Handle: "ann"}))
		id := w.bus().ID(domain.DefaultTenant, ada, "k1", "member")
		_, err := w.bus().Submit(t.Context(), request("k2", "", join{Handle: "ann"}))
		duplicateOf(t, err, "handle", id) // in flight
		if r := submit(t, w.bus(), request("k1", "", join{Handle: "ann"})); r.ID != id {
			t.Errorf("%+v", r)
		}
		w.clock.advance(time.Hour)
		_, err = w.bus().Submit(t.Context(), request("k3", "", join{Handle: "ann"}))
		duplicateOf(t, err, "handle", id) // a held value never lapses
		checkUnique(t, w)
	})
}

func TestDeadClaimIsTakenOverAndItsCommandFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		interrupted(t, w, request("k1", "", join{Handle: "ann"}))
		first := w.bus().ID(domain.DefaultTenant, ada, "k1", "member")
		w.clock.advance(commands.ClaimTimeout)
		dry := request("k2", "", join{Handle: "ann"})
		dry.DryRun = true
		submit(t, w.bus(), dry)
		second := submit(t, w.bus(), request("k2", "", join{Handle: "ann"})).ID

		fence := w.store.stream(streamOf(first))
		if len(fence) != 1 || fence[0].Type() != "reservation.lapsed" {
			t.Fatalf("the stream of the first command holds %v", fence)
		}
		_, err := w.bus().Submit(t.Context(), request("k1", "", join{Handle: "ann"}))
		duplicateOf(t, err, "handle", second)
		if r := submit(t, w.bus(), request("k1", "", join{Handle: "anna"})); r.ID != first || r.Revision != 1 {
			t.Errorf("the first key with a free handle: %+v", r)
		}
		checkUnique(t, w)
	})
}

func TestPausedCommandCannotCompleteAfterTakeover(t *testing.T) {
	w := newWorld()
	paused, other := w.bus(), w.bus()
	ann := submit(t, paused, request("k0", "", join{Handle: "ann"})).ID
	for name, req := range map[string]commands.Request{
		"create": request("k1", "", join{Handle: "zoe"}),
		"change": request("k1", ann, rename{Handle: "yan"}),
	} {
		t.Run(name, func(t *testing.T) {
			var thief domain.ID
			handle := map[string]string{"create": "zoe", "change": "yan"}[name]
			w.store.before = func(id domain.StreamID, p []domain.Pending) domain.Outcome {
				if id.Aggregate == "member" && thief == "" && p[0].Event.EventType() != "reservation.lapsed" {
					thief = "pending" // the process is suspended right before its append; the others go on
					w.clock.advance(time.Hour)
					thief = submit(t, other, request("thief "+name, "", join{Handle: handle})).ID
				}
				return nil
			}
			_, err := paused.Submit(t.Context(), req)
			w.store.before = nil
			duplicateOf(t, err, "handle", thief)
			checkUnique(t, w)
		})
	}
	if s, revision, err := paused.State(t.Context(), domain.DefaultTenant, "member", ann); err != nil || revision != 0 || s.(member).Handle != "ann" {
		t.Errorf("the fence shows: %+v at %d, %v", s, revision, err)
	}
	zero := uint64(0)
	req := request("k9", ann, credit{Amount: 1})
	req.IfMatch = &zero
	submit(t, paused, req) // nor does it disturb who decided before it
}

// TestFailureDoesNotReleaseWhatAnotherCommandNeeds has two processes change one member: the first is suspended before its
// append, the second claims the same handle, fails on the badge, and must not give the handle back.
func TestFailureDoesNotReleaseWhatAnotherCommandNeeds(t *testing.T) {
	w := newWorld()
	first, second := w.bus(), w.bus()
	ann := submit(t, first, request("k1", "", join{Handle: "ann"})).ID
	holder := submit(t, first, request("k2", "", join{Handle: "bob", Badge: "7"})).ID
	for i := range 8 { // whatever the order in which the two values are claimed
		handle := fmt.Sprint("zoe", i)
		interfered := false
		w.store.before = func(id domain.StreamID, _ []domain.Pending) domain.Outcome {
			if id == streamOf(ann) && !interfered {
				interfered = true
				_, err := second.Submit(t.Context(), request(fmt.Sprint("s", i), ann, rename{Handle: handle, Badge: "7"}))
				duplicateOf(t, err, "badge", holder)
			}
			return nil
		}
		submit(t, first, request(fmt.Sprint("f", i), ann, rename{Handle: handle}))
		w.store.before = nil
		_, err := second.Submit(t.Context(), request(fmt.Sprint("t", i), "", join{Handle: handle}))
		duplicateOf(t, err, "handle", ann)
		checkUnique(t, w)
	}
}

// D11: TestUniquenessUnderFaults lets several processes rename members to few handles, with lost answers, appends that never
// arrive and clocks that make claims look dead, and checks the invariant at the end.
func TestUniquenessUnderFaults(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			var mu sync.Mutex
			rng := rand.New(rand.NewPCG(seed, 1))
			draw := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
			setup := w.bus()
			var ids []domain.ID
			for i := range 4 {
				ids = append(ids, submit(t, setup, request(fmt.Sprint("j", i), "", join{Handle: fmt.Sprint("own", i)})).ID)
			}
			w.store.before = func(domain.StreamID, []domain.Pending) domain.Outcome {
				<-time.After(time.Duration(draw(5)) * time.Millisecond) // of the bubble: interleaves the processes
				switch draw(10) {
				case 0:
					return domain.Unknown{Err: errLost}
				case 1:
					w.clock.advance(commands.ClaimTimeout)
				}
				return nil
			}
			w.store.after = func(domain.StreamID, []domain.Pending, domain.Outcome) domain.Outcome {
				if draw(8) == 0 {
					return domain.Unknown{Err: errLost}
				}
				return nil
			}
			var wg sync.WaitGroup
			for p := range 4 {
				wg.Go(func() {
					b := w.bus()
					for i := range 25 {
						req := request(fmt.Sprint("r", p, i%20), ids[draw(4)], rename{Handle: fmt.Sprint("h", draw(3)), Badge: []string{"", "0", "1"}[draw(3)]})
						if draw(3) == 0 {
							req = request(fmt.Sprint("c", p, i%20), "", join{Handle: fmt.Sprint("h", draw(3)), Badge: fmt.Sprint(draw(2))})
						}
						if _, err := b.Submit(t.Context(), req); err != nil && !expectedRefusal(err) {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
				})
			}
			wg.Wait()
			checkUnique(t, w)
		})
	}
}

func expectedRefusal(err error) bool {
	var duplicate *domain.DuplicateError
	var conflict *domain.ConflictError
	var reused *domain.IdempotencyError
	var away *domain.UnavailableError
	return errors.As(err, &duplicate) || errors.As(err, &conflict) || errors.As(err, &reused) || errors.As(err, &away)
}
