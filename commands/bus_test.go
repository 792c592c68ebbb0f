package commands_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

func TestReceiptAndEnvelope(t *testing.T) {
	w := newWorld()
	b := w.bus()
	when := noon.Add(-48 * time.Hour)
	req := request("k1", "", join{Handle: "ann", When: domain.When{OccurredAt: when}})
	req.TraceParent, req.CorrelationID = "00-aa-bb-01", "conversation"
	r := submit(t, b, req)
	if want := b.ID(domain.DefaultTenant, ada, "k1", "member"); r.ID != want {
		t.Errorf("id %s, want %s as announced", r.ID, want)
	}
	events := w.store.stream(streamOf(r.ID))
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0]
	want := commands.Receipt{
		Stream: "main.member-" + string(r.ID), ID: r.ID, Position: e.Position, EventIDs: []string{e.ID},
		EventTypes: []string{"member.joined"}, CorrelationID: "conversation", OccurredAt: when,
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if e.Schema != 1 || e.Tenant != "main" || e.Actor != ada || e.CorrelationID != "conversation" || e.CausationID != e.CommandID ||
		!e.OccurredAt.Equal(when) || e.RecordedAt.Before(noon) || e.TraceParent != "00-aa-bb-01" || len(e.Fingerprint) != 32 {
		t.Errorf("metadata %+v", e.Metadata)
	}

	sponsorID := submit(t, b, request("k2", "", join{Handle: "bob"})).ID
	submit(t, b, request("k3", r.ID, sponsor{SponsorID: sponsorID}))
	last := w.store.stream(streamOf(r.ID))[1]
	if last.Schema != 2 || !reflect.DeepEqual(last.Subjects, []domain.ID{r.ID, sponsorID}) {
		t.Errorf("schema %d, subjects %v: those before and after belong to the event", last.Schema, last.Subjects)
	}
	if got := last.Event.(backed).Handle; got != "bob" {
		t.Errorf("the foreign fact came in as %q", got)
	}
}

func TestCommandOnCachedStreamCostsOneAppend(t *testing.T) {
	w := newWorld()
	b := w.bus()
	id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
	if appends, reads := w.store.calls(); appends != 2 || reads != 0 {
		t.Errorf("creating cost %d appends and %d reads, want the claim, the event and no read", appends, reads)
	}
	submit(t, b, request("k2", id, credit{Amount: 5}))
	if appends, reads := w.store.calls(); appends != 1 || reads != 0 {
		t.Errorf("a change cost %d appends and %d reads, want one append", appends, reads)
	}
}

// A8 of docs/faults.md.
func TestSameKeyIsExecutedOnce(t *testing.T) {
	w := newWorld()
	b := w.bus()
	id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
	var wg sync.WaitGroup
	receipts := make([]commands.Receipt, 100)
	for i := range receipts {
		wg.Go(func() {
			receipts[i] = submit(t, b, request("k2", id, credit{Amount: 5}))
		})
	}
	wg.Wait()
	first := 0
	for _, r := range receipts {
		if !r.Replayed {
			first++
		}
		r.Replayed = false
		r0 := receipts[0]
		r0.Replayed = false
		if diff := cmp.Diff(r0, r); diff != "" {
			t.Fatal(diff)
		}
	}
	if n := len(w.store.stream(streamOf(id))); first != 1 || n != 2 {
		t.Errorf("%d executions, %d events; want 1 and 2", first, n)
	}
	for name, again := range map[string]*commands.Bus{"same process": b, "after a restart": w.bus()} {
		_, err := again.Submit(t.Context(), request("k2", id, credit{Amount: 6}))
		var reused *domain.IdempotencyError
		if !errors.As(err, &reused) {
			t.Errorf("%s: same key, other body: %v", name, err)
		}
	}
	other := request("k2", id, credit{Amount: 6})
	other.Actor.ID = "eve"
	if r := submit(t, b, other); r.Replayed {
		t.Error("the key of another actor was replayed")
	}
}

// S10b of docs/faults.md.
func TestAnswerLostInACrashIsFoundByTheKey(t *testing.T) {
	for name, cmd := range map[string]domain.Command{"create": join{Handle: "ann"}, "change": spend{Amount: 5}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			var id domain.ID
			if name == "change" {
				id = submit(t, w.bus(), request("k0", "", join{Handle: "bob"})).ID
				submit(t, w.bus(), request("k01", id, credit{Amount: 5}))
			}
			before := len(w.store.of("member"))
			first := submit(t, w.bus(), request("k1", id, cmd)) // the answer never leaves the process
			if name == "change" {
				submit(t, w.bus(), request("k2", id, credit{Amount: 1})) // others go on meanwhile
			}
			w.clock.advance(time.Hour)
			second := submit(t, w.bus(), request("k1", id, cmd))
			first.Replayed = true
			if diff := cmp.Diff(first, second); diff != "" {
				t.Error(diff)
			}
			if n := len(w.store.of("member")); name == "create" && n != before+1 {
				t.Errorf("%d streams", n)
			}
		})
	}
}

// S10b of docs/faults.md.
func TestUnknownOutcomeIsRepeatedAtTheSameRevision(t *testing.T) {
	for name, arrived := range map[string]bool{"arrived": true, "never arrived": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				b := w.bus()
				id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
				lose := 3
				fail := func(domain.StreamID, []domain.Pending) domain.Outcome {
					if lose--; lose >= 0 {
						return domain.Unknown{Err: errLost}
					}
					return nil
				}
				if arrived {
					w.store.after = func(id domain.StreamID, p []domain.Pending, _ domain.Outcome) domain.Outcome { return fail(id, p) }
				} else {
					w.store.before = fail
				}
				r := submit(t, b, request("k2", id, credit{Amount: 5}))
				events := w.store.stream(streamOf(id))
				if len(events) != 2 || r.Position != events[1].Position || r.Revision != 1 || r.Replayed {
					t.Errorf("%d events, receipt %+v", len(events), r)
				}
			})
		})
	}
}

func TestLogThatStaysAwayIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		b := w.bus()
		id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
		w.store.after = func(domain.StreamID, []domain.Pending, domain.Outcome) domain.Outcome {
			return domain.Unknown{Err: errLost}
		}
		_, err := b.Submit(t.Context(), request("k2", id, credit{Amount: 5}))
		var away *domain.UnavailableError
		if !errors.As(err, &away) || !errors.Is(err, errLost) {
			t.Fatalf("got %v", err)
		}
		w.store.after = nil
		if r := submit(t, b, request("k2", id, credit{Amount: 5})); !r.Replayed || len(w.store.stream(streamOf(id))) != 2 {
			t.Errorf("the key did not find what was executed: %+v", r)
		}
	})
}

// A9 of docs/faults.md.
func TestConflictIsDecidedAgainOnTheTail(t *testing.T) {
	w := newWorld()
	here, there := w.bus(), w.bus()
	id := submit(t, here, request("k1", "", join{Handle: "ann"})).ID
	submit(t, here, request("k2", id, credit{Amount: 5}))
	submit(t, there, request("k3", id, spend{Amount: 3}))
	w.store.calls()
	if r := submit(t, here, request("k4", id, credit{Amount: 1})); r.Revision != 3 {
		t.Errorf("revision %d", r.Revision)
	}
	if appends, reads := w.store.calls(); appends != 2 || reads != 1 {
		t.Errorf("%d appends, %d reads; want two attempts and one read of the tail", appends, reads)
	}
	submit(t, there, request("k5", id, spend{Amount: 3}))
	var no *domain.Rejection
	if _, err := here.Submit(t.Context(), request("k6", id, spend{Amount: 3})); !errors.As(err, &no) || no.Rule != "not-enough-credit" {
		t.Errorf("decided on stale state: %v", err)
	}
	submit(t, there, request("k7", id, credit{Amount: 9}))
	submit(t, here, request("k8", id, spend{Amount: 9})) // refused by the cache, allowed by the log
}

// A9 of docs/faults.md.
func TestIfMatch(t *testing.T) {
	w := newWorld()
	here, there := w.bus(), w.bus()
	id := submit(t, here, request("k1", "", join{Handle: "ann"})).ID
	at := func(key string, revision uint64) commands.Request {
		r := request(key, id, credit{Amount: 1})
		r.IfMatch = &revision
		return r
	}
	submit(t, there, at("k2", 0))
	var conflict *domain.ConflictError
	if _, err := here.Submit(t.Context(), at("k3", 0)); !errors.As(err, &conflict) || conflict.Actual != domain.AtRevision(1) {
		t.Errorf("stale revision: %v", err)
	}
	if r := submit(t, w.bus(), at("k2", 0)); !r.Replayed || r.Revision != 1 {
		t.Errorf("a replay does not mind the revision: %+v", r)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 20 {
		wg.Go(func() {
			_, err := w.bus().Submit(t.Context(), at("c"+string(rune('a'+i)), 1))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.As(err, &conflict) {
				t.Errorf("loser: %v", err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d winners", won)
	}
}

func TestDryRunEqualsTheRealRun(t *testing.T) {
	w := newWorld()
	b := w.bus()
	id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
	submit(t, b, request("k2", id, credit{Amount: 5}))
	for key, cmd := range map[string]domain.Command{"d1": join{Handle: "bob"}, "d2": spend{Amount: 5}} {
		req := request(key, id, cmd)
		if key == "d1" {
			req.Target = ""
		}
		req.DryRun = true
		w.store.calls()
		dry := submit(t, b, req)
		if appends, _ := w.store.calls(); appends != 0 {
			t.Errorf("%s: a dry run wrote", key)
		}
		req.DryRun = false
		real := submit(t, b, req)
		var written []domain.Event
		for _, e := range w.store.stream(streamOf(real.ID)) {
			if e.CommandID == w.store.stream(streamOf(real.ID))[real.Revision].CommandID {
				written = append(written, e.Event)
			}
		}
		if diff := cmp.Diff(written, dry.Events); diff != "" || !dry.DryRun || dry.Revision != real.Revision || dry.ID != real.ID {
			t.Errorf("%s: dry %+v, real %+v\n%s", key, dry, real, diff)
		}
	}
	noKey := request("", "", join{Handle: "ann"})
	noKey.DryRun = true
	var duplicate *domain.DuplicateError
	if _, err := b.Submit(t.Context(), noKey); !errors.As(err, &duplicate) || duplicate.Existing != id {
		t.Errorf("a dry run finds duplicates: %v", err)
	}
}

func TestUnchangedAndRefusals(t *testing.T) {
	w := newWorld()
	b := w.bus()
	id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
	if r := submit(t, b, request("k2", id, rename{Handle: "ann"})); !r.Unchanged || r.Revision != 0 || len(r.EventIDs) != 0 {
		t.Errorf("%+v", r)
	}
	if r := submit(t, b, request("k2", id, rename{Handle: "ann"})); !r.Unchanged || !r.Replayed {
		t.Errorf("%+v", r)
	}
	var missing *domain.NotFoundError
	if _, err := b.Submit(t.Context(), request("k3", "0197a3f0-5c1e-7d3a-9b7e-2f6a1c4d8e90", credit{Amount: 1})); !errors.As(err, &missing) || missing.Kind != "member" {
		t.Errorf("unknown id: %v", err)
	}
	var no *domain.Rejection
	_, err := b.Submit(t.Context(), request("k4", id, sponsor{SponsorID: "0197a3f0-5c1e-7d3a-9b7e-2f6a1c4d8e90"}))
	if !errors.As(err, &no) || no.Rule != "unknown-member" || no.Pointer != "/sponsorId" {
		t.Errorf("unknown sponsor: %v", err)
	}
	if _, err := b.Submit(t.Context(), request("k5", "", join{Handle: "forbidden"})); !errors.As(err, &no) {
		t.Errorf("forbidden: %v", err)
	}
	if n := len(w.store.of("reservation")) + len(w.store.of("member")); n != 2 {
		t.Errorf("%d streams: a refusal left a trace", n)
	}
	submit(t, b, request("k5", "", join{Handle: "allowed"})) // a refused key is free
}

func TestEnvelopeFaults(t *testing.T) {
	b := newWorld().bus()
	good := request("k", "", join{Handle: "ann"})
	id := domain.ID("0197a3f0-5c1e-7d3a-9b7e-2f6a1c4d8e90")
	zero := uint64(0)
	for name, spoil := range map[string]func(*commands.Request){
		"no command":     func(r *commands.Request) { r.Command = nil },
		"tenant":         func(r *commands.Request) { r.Tenant = "No/Tenant" },
		"no actor":       func(r *commands.Request) { r.Actor.ID = "" },
		"actor kind":     func(r *commands.Request) { r.Actor.Kind = "robot" },
		"no key":         func(r *commands.Request) { r.Key = "" },
		"NUL in key":     func(r *commands.Request) { r.Key = "a\x00b" },
		"target":         func(r *commands.Request) { r.Target = id },
		"revision":       func(r *commands.Request) { r.IfMatch = &zero },
		"bad target":     func(r *commands.Request) { r.Command, r.Target = credit{}, "x" },
		"invalid fields": func(r *commands.Request) { r.Command = join{Handle: "a\x00"} },
	} {
		r := good
		spoil(&r)
		_, err := b.Submit(t.Context(), r)
		var invalid *domain.InvalidError
		if !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A10 of docs/faults.md.
func TestDisconnectedClientFindsTheCommandExecuted(t *testing.T) {
	w := newWorld()
	b := w.bus()
	ctx, cancel := context.WithCancel(t.Context())
	w.store.before = func(domain.StreamID, []domain.Pending) domain.Outcome {
		cancel()
		return nil
	}
	r, err := b.Submit(ctx, request("k1", "", join{Handle: "ann"}))
	if err != nil {
		t.Fatal(err)
	}
	if again := submit(t, w.bus(), request("k1", "", join{Handle: "ann"})); !again.Replayed || again.ID != r.ID {
		t.Errorf("%+v", again)
	}
}

func TestState(t *testing.T) {
	w := newWorld()
	b := w.bus()
	id := submit(t, b, request("k1", "", join{Handle: "ann"})).ID
	submit(t, w.bus(), request("k2", id, credit{Amount: 4}))
	s, revision, err := b.State(t.Context(), domain.DefaultTenant, "member", id)
	if err != nil || revision != 1 || s.(member).Credits != 4 {
		t.Errorf("state %+v at %d: %v", s, revision, err)
	}
	var missing *domain.NotFoundError
	if _, _, err := b.State(t.Context(), "other", "member", id); !errors.As(err, &missing) {
		t.Errorf("another tenant's: %v", err)
	}
}
