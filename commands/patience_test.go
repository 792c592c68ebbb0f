package commands_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// lateStore is a store whose readers see what was written only after a while, as those of a real engine may. It is for use in
// a synctest bubble.
type lateStore struct {
	*memoryStore
	late time.Duration                                         // until readers see an append
	told func(expected, actual domain.Expected) domain.Outcome // what losers are told

	mu    sync.Mutex
	shown map[domain.StreamID][]time.Time // by revision
	back  time.Time                       // the log is away until then
}

func (s *lateStore) Append(ctx context.Context, id domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	s.mu.Lock()
	if time.Now().Before(s.back) {
		s.mu.Unlock()
		return domain.Unknown{Err: errLost}
	}
	outcome := s.memoryStore.Append(ctx, id, expected, events)
	switch o := outcome.(type) {
	case domain.Committed:
		for range int(o.Revision) + 1 - len(s.shown[id]) {
			s.shown[id] = append(s.shown[id], time.Now().Add(s.late))
		}
	case domain.Conflict:
		outcome = s.told(expected, o.Actual)
	}
	s.mu.Unlock()
	if _, won := outcome.(domain.Committed); won && s.late > 0 {
		<-time.After(s.late) // the writer is told when the readers can see
	}
	return outcome
}

func (s *lateStore) Read(ctx context.Context, id domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		s.mu.Lock()
		away := time.Now().Before(s.back)
		s.mu.Unlock()
		if away {
			yield(domain.Recorded{}, &domain.UnavailableError{What: "event log", Err: errLost})
			return
		}
		for e, err := range s.memoryStore.Read(ctx, id, from) {
			s.mu.Lock()
			hidden := time.Now().Before(s.shown[id][e.Revision])
			s.mu.Unlock()
			if hidden || !yield(e, err) {
				return
			}
		}
	}
}

// lateWorld is a world over a lateStore.
type lateWorld struct {
	*world
	log *lateStore
}

func (w lateWorld) bus() *commands.Bus {
	b := commands.NewBus(w.log, commands.Options{Clock: w.clock.Now, Secret: []byte("test")})
	b.Register([]domain.Definition{members.Definition()}, commands.Prepare(prepareSponsor))
	return b
}

// answers are the ways in which an engine may tell a writer that another was faster.
var answers = map[string]func(expected, actual domain.Expected) domain.Outcome{
	"the true revision":   func(_, actual domain.Expected) domain.Outcome { return domain.Conflict{Actual: actual} },
	"the one it expected": func(expected, _ domain.Expected) domain.Outcome { return domain.Conflict{Actual: expected} },
	"no stream":           func(_, _ domain.Expected) domain.Outcome { return domain.Conflict{} },
	"one far ahead":       func(_, _ domain.Expected) domain.Outcome { return domain.Conflict{Actual: domain.AtRevision(9999)} },
	"other content":       func(_, actual domain.Expected) domain.Outcome { return domain.Conflict{Actual: actual, Mismatch: true} },
}

// forEachManner runs f in a bubble for every answer that losers may get, with winners that show at once, soon and late.
func forEachManner(t *testing.T, f func(t *testing.T, w lateWorld)) {
	t.Helper()
	for answer, told := range answers {
		for _, late := range []time.Duration{0, 3 * time.Millisecond, 600 * time.Millisecond} {
			t.Run(fmt.Sprint(answer, " ", late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					f(t, lateWorld{w, &lateStore{memoryStore: w.store, late: late, told: told, shown: map[domain.StreamID][]time.Time{}}})
				})
			})
		}
	}
}

// A9 of docs/faults.md.
func TestWritersOfOneRecordDoNotHearOfEachOther(t *testing.T) {
	forEachManner(t, func(t *testing.T, w lateWorld) {
		const processes, each = 3, 2
		id := submit(t, w.bus(), request("k", "", join{Handle: "ann"})).ID
		var group sync.WaitGroup
		for p := range processes {
			b := w.bus()
			for i := range each {
				group.Go(func() {
					key := fmt.Sprint(p, "-", i)
					if r, err := b.Submit(t.Context(), request("c"+key, id, credit{Amount: 1})); err != nil || r.Replayed {
						t.Errorf("credit %s: %+v, %v", key, r, err)
					}
					if _, err := b.Submit(t.Context(), request("n"+key, id, rename{Handle: "ann " + key})); err != nil {
						t.Errorf("rename %s: %v", key, err)
					}
				})
			}
		}
		group.Wait()
		s, revision, err := w.bus().State(t.Context(), domain.DefaultTenant, "member", id)
		if err != nil || s.(member).Credits != processes*each || revision != 2*processes*each {
			t.Errorf("%+v at %d: %v", s, revision, err)
		}
		checkUnique(t, w.world)
	})
}

// A9 of docs/faults.md.
func TestLosersAtARevisionAreToldANewerOne(t *testing.T) {
	forEachManner(t, func(t *testing.T, w lateWorld) {
		first := w.bus()
		id := submit(t, first, request("k", "", join{Handle: "ann"})).ID
		var group sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for p := range 4 {
			b := w.bus()
			if _, _, err := b.State(t.Context(), domain.DefaultTenant, "member", id); err != nil { // all know revision 0
				t.Fatal(err)
			}
			group.Go(func() {
				req := request(fmt.Sprint("c", p), id, credit{Amount: 1})
				req.IfMatch = new(uint64(0))
				_, err := b.Submit(t.Context(), req)
				mu.Lock()
				defer mu.Unlock()
				var conflict *domain.ConflictError
				switch {
				case err == nil:
					won++
				case !errors.As(err, &conflict) || conflict.Actual != domain.AtRevision(1):
					t.Errorf("loser: %v", err)
				}
			})
		}
		group.Wait()
		if won != 1 {
			t.Errorf("%d won", won)
		}
	})
}

// A8 of docs/faults.md.
func TestOneKeyInSeveralProcessesHasOneOutcome(t *testing.T) {
	for name, cmd := range map[string]domain.Command{"create": join{Handle: "bob", Badge: "7"}, "change": credit{Amount: 5}, "rename": rename{Handle: "zoe"}} {
		t.Run(name, func(t *testing.T) {
			forEachManner(t, func(t *testing.T, w lateWorld) {
				id := submit(t, w.bus(), request("k", "", join{Handle: "ann"})).ID
				if name == "create" {
					id = ""
				}
				before := len(w.store.of("member"))
				var group sync.WaitGroup
				receipts := make([]commands.Receipt, 3)
				for p := range receipts {
					b := w.bus()
					group.Go(func() {
						var err error
						if receipts[p], err = b.Submit(t.Context(), request("same", id, cmd)); err != nil {
							t.Errorf("process %d: %v", p, err)
						}
					})
				}
				group.Wait()
				executed := 0
				for _, r := range receipts {
					if !r.Replayed {
						executed++
					}
					if diff := cmp.Diff(receipts[0], r, cmpopts.IgnoreFields(commands.Receipt{}, "Replayed")); diff != "" {
						t.Error(diff)
					}
				}
				if n := len(w.store.of("member")) - before; executed != 1 || name == "create" && n != 1 {
					t.Errorf("executed %d times, %d new streams", executed, n)
				}
				checkUnique(t, w.world)
			})
		})
	}
}

func TestOneHolderOfAValueInEveryManner(t *testing.T) {
	forEachManner(t, func(t *testing.T, w lateWorld) {
		var group sync.WaitGroup
		receipts, errs := make([]commands.Receipt, 4), make([]error, 4)
		for p := range receipts {
			b := w.bus()
			group.Go(func() {
				receipts[p], errs[p] = b.Submit(t.Context(), request(fmt.Sprint("k", p), "", join{Handle: "ann", Badge: "7"}))
			})
		}
		group.Wait()
		var winner domain.ID
		for p, err := range errs {
			if err == nil && winner != "" {
				t.Errorf("%s and %s won", winner, receipts[p].ID)
			}
			if err == nil {
				winner = receipts[p].ID
			}
		}
		for _, err := range errs {
			var taken *domain.DuplicateError
			if err != nil && (!errors.As(err, &taken) || taken.Existing != winner) {
				t.Errorf("loser got %v, want the winner %s", err, winner)
			}
		}
		checkUnique(t, w.world)
	})
}

// A winner may be lost with its leader: then nothing stands where a loser was told that it does.
func TestConflictThatNothingExplainsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		b := w.bus()
		id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
		sent := map[string]bool{}
		w.store.before = func(_ domain.StreamID, events []domain.Pending) domain.Outcome {
			sent[events[0].ID] = true
			if w.clock.Now().After(noon.Add(time.Hour)) {
				return nil
			}
			w.clock.advance(20 * time.Minute)
			return domain.Conflict{Actual: domain.AtRevision(0)}
		}
		if r := submit(t, b, request("k2", id, credit{Amount: 5})); r.Revision != 1 || len(sent) != 1 {
			t.Errorf("%+v, events sent under %d ids: what may stand there is not written under another id", r, len(sent))
		}
	})
}

func TestContentionIsWaitedForUntilTheDeadline(t *testing.T) {
	for name, answer := range map[string]domain.Expected{"the true revision": domain.AtRevision(7), "the one it expected": domain.AtRevision(0), "no stream": domain.NoStream} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				b := w.bus()
				id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
				tries := 0
				w.store.before = func(domain.StreamID, []domain.Pending) domain.Outcome {
					if tries++; tries > 100 {
						t.Fatal("the command does not pause")
					}
					return domain.Conflict{Actual: answer}
				}
				begun := time.Now()
				var away *domain.UnavailableError
				if _, err := b.Submit(t.Context(), request("k2", id, credit{Amount: 5})); !errors.As(err, &away) {
					t.Fatalf("got %v", err)
				}
				if took := time.Since(begun); took != commands.CommandDeadline {
					t.Errorf("given up after %s of the bubble's clock", took)
				}
				w.store.before = nil
				if r := submit(t, b, request("k2", id, credit{Amount: 5})); r.Revision != 1 {
					t.Errorf("the same key afterwards: %+v", r)
				}
			})
		})
	}
}

// A13 of docs/faults.md: a cluster whose leader froze had a new one after 13.7 s.
func TestCommandsWaitForALogThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		log := &lateStore{memoryStore: w.store, shown: map[domain.StreamID][]time.Time{}, told: answers["the true revision"]}
		late := lateWorld{w, log}
		here, there := late.bus(), late.bus()
		ann := submit(t, here, request("k1", "", join{Handle: "ann"})).ID
		bob := submit(t, there, request("k2", "", join{Handle: "bob"})).ID
		log.back = time.Now().Add(13_700 * time.Millisecond)
		var group sync.WaitGroup
		for name, send := range map[string]func() error{
			"cached stream": func() error {
				_, err := here.Submit(t.Context(), request("a", ann, credit{Amount: 1}))
				return err
			},
			"the next in its queue": func() error {
				_, err := here.Submit(t.Context(), request("b", ann, credit{Amount: 1}))
				return err
			},
			"stream to be read": func() error {
				_, err := here.Submit(t.Context(), request("c", bob, rename{Handle: "bobby"}))
				return err
			},
			"foreign facts": func() error {
				_, err := there.Submit(t.Context(), request("d", bob, sponsor{SponsorID: ann}))
				return err
			},
			"new stream": func() error {
				_, err := there.Submit(t.Context(), request("e", "", join{Handle: "eve"}))
				return err
			},
			"value that is taken": func() error {
				_, err := there.Submit(t.Context(), request("f", "", join{Handle: "ann"}))
				var taken *domain.DuplicateError
				if errors.As(err, &taken) {
					return nil
				}
				return fmt.Errorf("not told of the duplicate: %w", err)
			},
			"dry run": func() error {
				req := request("g", bob, credit{Amount: 1})
				req.DryRun = true
				_, err := here.Submit(t.Context(), req)
				return err
			},
			"state": func() error {
				_, _, err := here.State(t.Context(), domain.DefaultTenant, "member", bob)
				return err
			},
		} {
			group.Go(func() {
				if err := send(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		group.Wait()
		checkUnique(t, w)
	})
}

func TestAllWhoWaitForALogThatStaysAwayAreAnsweredInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		log := &lateStore{memoryStore: w.store, shown: map[domain.StreamID][]time.Time{}}
		b := lateWorld{w, log}.bus()
		id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
		log.back = time.Now().Add(time.Hour)
		begun := time.Now()
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() {
				var away *domain.UnavailableError
				if _, err := b.Submit(t.Context(), request(fmt.Sprint("c", i), id, credit{Amount: 1})); !errors.As(err, &away) {
					t.Errorf("got %v", err)
				}
			})
		}
		group.Go(func() {
			if _, _, err := b.State(t.Context(), domain.DefaultTenant, "member", id); !errors.As(err, new(*domain.UnavailableError)) {
				t.Errorf("state: %v", err)
			}
		})
		group.Wait()
		if took := time.Since(begun); took != commands.CommandDeadline {
			t.Errorf("the last was answered after %s of the bubble's clock: its time in the queue counts", took)
		}
	})
}

// A9 of docs/faults.md.
func TestManyWritersOfOneRecordOnTheEmbeddedNode(t *testing.T) {
	store := nodeStore(t)
	const processes, clients, each = 3, 4, 25
	id := submit(t, nodeBus(store), request("k", "", customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Acme"}})).ID
	var group sync.WaitGroup
	for p := range processes {
		b := nodeBus(store)
		for c := range clients {
			group.Go(func() {
				for i := range each {
					key := fmt.Sprint(p, "-", c, "-", i)
					if _, err := b.Submit(t.Context(), request(key, id, customer.UpdateProfile{Name: &key})); err != nil {
						t.Errorf("%s: %v", key, err)
					}
				}
			})
		}
	}
	group.Wait()
	if _, revision, err := nodeBus(store).State(t.Context(), domain.DefaultTenant, "customer", id); err != nil || revision != processes*clients*each {
		t.Errorf("revision %d: %v", revision, err)
	}
}
