package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/nodetest"
)

// These tests state what every node behind the adapter must do. They run against the embedded node, and against a real
// EventStoreDB when RAPPORT_TEST_EVENTSTORE names one.

func TestAppendedEventsReadBack(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	events := newEvents(3)
	got := commit(t, log, stream, domain.NoStream, events...)
	if got.Revision != 2 || got.Position.IsZero() {
		t.Errorf("committed %+v", got)
	}
	read := all(t, log.ReadStream(t.Context(), stream, 0))
	if len(read) != 3 {
		t.Fatalf("read %d events, want 3", len(read))
	}
	for i, raw := range read {
		want := events[i]
		if raw.ID != want.ID || raw.Type != want.Type || raw.Stream != stream || raw.Revision != uint64(i) ||
			!bytes.Equal(raw.Data, want.Data) || !bytes.Equal(raw.Metadata, want.Metadata) {
			t.Errorf("event %d is %+v, want %+v", i, raw, want)
		}
	}
	if from1 := all(t, log.ReadStream(t.Context(), stream, 1)); len(from1) != 2 || from1[0].Revision != 1 {
		t.Errorf("from revision 1: %+v", from1)
	}
	if beyond := all(t, log.ReadStream(t.Context(), stream, 3)); len(beyond) != 0 {
		t.Errorf("beyond the end: %+v", beyond)
	}
}

func TestMissingStreamIsEmpty(t *testing.T) {
	log := dial(t, address(t))
	if got := all(t, log.ReadStream(t.Context(), newStream(), 0)); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestConflictNamesWhereTheStreamStands(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	if got := settle(t, log, stream, domain.AtRevision(4), newEvents(1)); got != (domain.Conflict{Actual: domain.NoStream}) {
		t.Errorf("no stream: %+v", got)
	}
	commit(t, log, stream, domain.NoStream, newEvents(2)...)
	for _, expected := range []domain.Expected{domain.NoStream, domain.AtRevision(0), domain.AtRevision(7)} {
		if got := settle(t, log, stream, expected, newEvents(1)); got != (domain.Conflict{Actual: domain.AtRevision(1)}) {
			t.Errorf("expected %s: %+v", expected, got)
		}
	}
	if got := all(t, log.ReadStream(t.Context(), stream, 0)); len(got) != 2 {
		t.Errorf("a conflict wrote: %d events", len(got))
	}
}

// S8: of many writers at one revision one wins, and the others are told where the stream stands.
func TestOneOfManyWritersWins(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	commit(t, log, stream, domain.NoStream, newEvents(1)...)
	outcomes := make([]domain.Outcome, 16)
	var writers sync.WaitGroup
	for i := range outcomes {
		writers.Go(func() { outcomes[i] = settle(t, log, stream, domain.AtRevision(0), newEvents(1)) })
	}
	writers.Wait()
	won := 0
	for _, o := range outcomes {
		switch o := o.(type) {
		case domain.Committed:
			won++
		case domain.Conflict:
			if o.Actual != domain.AtRevision(1) && !(nodetest.Strict() && o.Actual == domain.AtRevision(0)) { // a strict node may show the winner late
				t.Errorf("loser told %s", o.Actual)
			}
		default:
			t.Errorf("%T %+v", o, o)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won", won)
	}
}

// S9, S17: the answer of an append, the first time and when it is repeated after others, names the position at which $all has
// its last event.
func TestRepeatedAppendGivesTheSameAnswer(t *testing.T) {
	log := dial(t, address(t))
	for _, size := range []int{1, 2, 500} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			stream := newStream()
			commit(t, log, stream, domain.NoStream, newEvents(1)...)
			events := newEvents(size)
			first := commit(t, log, stream, domain.AtRevision(0), events...)
			commit(t, log, stream, domain.AtRevision(uint64(size)), newEvents(1)...)
			again := commit(t, log, stream, domain.AtRevision(0), events...)
			if again != first {
				t.Errorf("first %+v, again %+v", first, again)
			}
			if got := all(t, log.ReadStream(t.Context(), stream, 0)); len(got) != size+2 {
				t.Errorf("%d events stored, want %d", len(got), size+2)
			}
			// Waiting for the receipt's position must include the whole append.
			before := domain.Position{}
			for raw, err := range log.ReadAll(t.Context(), domain.Position{}) {
				if err != nil {
					t.Fatal(err)
				}
				if !before.Before(raw.Position) {
					t.Fatalf("position %s after %s", raw.Position, before)
				}
				before = raw.Position
				if raw.ID == events[size-1].ID && raw.Position != first.Position {
					t.Errorf("the last event stands at %s, the receipt said %s", raw.Position, first.Position)
				}
			}
		})
	}
}

// S16: what no stream could hold is refused before it is sent.
func TestRefusedAppendsWriteNothing(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	one := func(change func(*NewEvent)) []NewEvent {
		e := newEvents(1)
		change(&e[0])
		return e
	}
	before := head(t, log)
	for name, c := range map[string]struct {
		stream string
		events []NewEvent
	}{
		"no events":           {stream, nil},
		"no UUID":             {stream, one(func(e *NewEvent) { e.ID = "1" })},
		"no type":             {stream, one(func(e *NewEvent) { e.Type = "" })},
		"system type":         {stream, one(func(e *NewEvent) { e.Type = "$metadata" })},
		"long type":           {stream, one(func(e *NewEvent) { e.Type = strings.Repeat("x", MaxEventTypeBytes+1) })},
		"bad type":            {stream, one(func(e *NewEvent) { e.Type = "\xff" })},
		"too large":           {stream, one(func(e *NewEvent) { e.Data = make([]byte, MaxAppendBytes) })},
		"too large together":  {stream, append(one(func(e *NewEvent) { e.Data = make([]byte, MaxAppendBytes/2) }), one(func(e *NewEvent) { e.Data = make([]byte, MaxAppendBytes/2) })...)},
		"no stream":           {"", newEvents(1)},
		"system stream":       {"$$" + stream, newEvents(1)},
		"long stream":         {strings.Repeat("s", MaxStreamNameBytes+1), newEvents(1)},
		"NUL in stream":       {"a\x00b", newEvents(1)},
		"bad UTF-8 in stream": {"a\xffb", newEvents(1)},
	} {
		outcome := log.Append(t.Context(), c.stream, domain.NoStream, c.events)
		if refused, ok := outcome.(domain.Refused); !ok || refused.Err == nil {
			t.Errorf("%s: %T %+v", name, outcome, outcome)
		}
	}
	if after := head(t, log); after != before {
		t.Errorf("head moved from %+v to %+v", before, after)
	}
}

func TestLargestAppendIsAccepted(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	e := newEvents(1)
	room := MaxAppendBytes - len(e[0].Metadata) - 2*len(e[0].Type) - 2
	e[0].Data = []byte(`"` + strings.Repeat("x", room) + `"`)
	commit(t, log, stream, domain.NoStream, e...)
	if got := all(t, log.ReadStream(t.Context(), stream, 0)); len(got) != 1 || !bytes.Equal(got[0].Data, e[0].Data) {
		t.Errorf("read %d events", len(got))
	}
}

func TestReadsOfManyPagesAreWholeAndInOrder(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	start := head(t, log)
	const n = 2*pageEvents + 100
	var want []NewEvent
	for expected := domain.NoStream; len(want) < n; {
		events := newEvents(min(pageEvents, n-len(want)))
		expected = domain.AtRevision(commit(t, log, stream, expected, events...).Revision)
		want = append(want, events...)
	}
	check := func(what string, got []codec.Raw) {
		t.Helper()
		if len(got) != n {
			t.Fatalf("%s: %d events, want %d", what, len(got), n)
		}
		for i, raw := range got {
			if raw.ID != want[i].ID || raw.Revision != uint64(i) || !bytes.Equal(raw.Data, want[i].Data) {
				t.Fatalf("%s: event %d is %+v", what, i, raw)
			}
			if i > 0 && !got[i-1].Position.Before(raw.Position) {
				t.Fatalf("%s: position %s after %s", what, raw.Position, got[i-1].Position)
			}
		}
	}
	check("stream", all(t, log.ReadStream(t.Context(), stream, 0)))
	var mine []codec.Raw
	for _, raw := range all(t, log.ReadAll(t.Context(), start.Position)) {
		if raw.Stream == stream {
			mine = append(mine, raw)
		}
	}
	check("all", mine)
	// From any event on, exclusive.
	for _, i := range []int{0, 1, pageEvents - 1, pageEvents, n - 1} {
		rest := all(t, log.ReadAll(t.Context(), mine[i].Position))
		if len(rest) < n-1-i || n-1-i > 0 && rest[0].ID != want[i+1].ID {
			t.Errorf("after event %d: %d events", i, len(rest))
		}
	}
	// A consumer may stop at once.
	for range log.ReadAll(t.Context(), start.Position) {
		break
	}
	for range log.ReadStream(t.Context(), stream, 0) {
		break
	}
}

func TestSystemEventsAreLeftOut(t *testing.T) {
	log := dial(t, address(t))
	if _, err := log.ID(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, log, newStream(), domain.NoStream, newEvents(1)...)
	for _, raw := range all(t, log.ReadAll(t.Context(), domain.Position{})) {
		if strings.HasPrefix(raw.Type, "$") {
			t.Errorf("read %s of %s", raw.Type, raw.Stream)
		}
	}
}

func TestHeadIsTheLastEvent(t *testing.T) {
	log := dial(t, address(t))
	for range 3 {
		c := commit(t, log, newStream(), domain.NoStream, newEvents(2)...)
		if got := head(t, log).Position; got.Before(c.Position) {
			t.Errorf("head %s, appended at %s", got, c.Position)
		}
	}
}

// A subscription comes past the events of others, and its checkpoints are places in the log all the same.
func TestCheckpointsMayLieBehindTheHead(t *testing.T) {
	at := address(t)
	log := dial(t, at)
	mine := commit(t, log, newStream(), domain.NoStream, newEvents(1)...)
	other(t, at, "other-"+uuid.NewString(), happenings(searchWindow*(checkpointInterval+1))...)
	last := domain.Position{}
	for m, err := range log.Subscribe(t.Context(), domain.Mark{}) {
		if err != nil {
			t.Fatal(err)
		}
		if m.CaughtUp {
			break
		}
		if !m.Checkpoint.IsZero() {
			last = m.Checkpoint
		}
	}
	if h := head(t, log); h.Position != mine.Position || !h.Position.Before(last) {
		t.Errorf("checkpoint %s, head %s, appended at %s", last, h.Position, mine.Position)
	}
}

func TestIdentityIsCreatedOnceAndStays(t *testing.T) {
	at := address(t)
	ids := make([]string, 12)
	var askers sync.WaitGroup
	for i := range ids {
		log := dial(t, at)
		askers.Go(func() {
			id, err := log.ID(t.Context())
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	askers.Wait()
	for _, id := range ids {
		if _, err := uuid.Parse(id); err != nil || id != ids[0] {
			t.Errorf("identities %v", ids)
		}
	}
	if got := len(all(t, dial(t, at).ReadStream(t.Context(), identityName, 0))); got != 1 {
		t.Errorf("%d identities stored", got)
	}
}

// S10: the ids of an append stand there with other content. The node takes it for a repetition and answers success; the
// adapter compares, also when another process wrote them, and nothing is stored.
func TestSameIDsWithOtherContentAreAMismatch(t *testing.T) {
	at := address(t)
	for name, change := range map[string]func(*NewEvent){
		"data":     func(e *NewEvent) { e.Data = []byte(`{"other":true}`) },
		"metadata": func(e *NewEvent) { e.Metadata = []byte(`{"other":true}`) },
		"type":     func(e *NewEvent) { e.Type = "test.other" },
	} {
		for _, expected := range []domain.Expected{domain.NoStream, domain.AtRevision(0)} {
			t.Run(fmt.Sprintf("%s at %s", name, expected), func(t *testing.T) {
				log, stream := dial(t, at), newStream()
				if expected != domain.NoStream {
					commit(t, log, stream, domain.NoStream, newEvents(1)...)
				}
				events := newEvents(3)
				first := commit(t, log, stream, expected, events...)
				changed := slices.Clone(events)
				change(&changed[2])
				atOnce := domain.Conflict{Actual: domain.AtRevision(first.Revision), Mismatch: true}
				if got := settle(t, log, stream, expected, changed); got != atOnce {
					t.Errorf("at once: %T %+v, want %+v", got, got, atOnce)
				}
				later := commit(t, log, stream, domain.AtRevision(first.Revision), newEvents(1)...)
				before := head(t, log)
				for _, l := range []*ESDB{log, dial(t, at)} { // the second has seen nothing of the log yet
					want := domain.Conflict{Actual: domain.AtRevision(later.Revision), Mismatch: true}
					if got := settle(t, l, stream, expected, changed); got != want {
						t.Errorf("%T %+v, want %+v", got, got, want)
					}
					if again := commit(t, l, stream, expected, events...); again != first {
						t.Errorf("the true repetition got %+v, want %+v", again, first)
					}
				}
				if after := head(t, log); after != before {
					t.Errorf("head moved from %+v to %+v", before, after)
				}
			})
		}
	}
}

// S11: subscriptions that start at random moments after random events, while writers append: each brings every event after
// its start exactly once, in the order of the log, across the change from history to live.
func TestHandOverAtRandomPoints(t *testing.T) {
	at, seed := address(t), testSeed(t)
	const writers, appends, subscribers = 3, 60, 8
	steady := dial(t, at)
	start := head(t, steady)
	var writing, following sync.WaitGroup
	written := make(chan domain.Mark, writers*appends)
	for i := range writers {
		log, random := dial(t, at), rand.New(rand.NewPCG(seed, uint64(i)))
		writing.Go(func() {
			stream, expected := newStream(), domain.NoStream
			for range appends {
				events := newEvents(1 + random.IntN(8))
				c := commit(t, log, stream, expected, events...)
				expected = domain.AtRevision(c.Revision)
				written <- domain.Mark{Position: c.Position, ID: events[len(events)-1].ID}
			}
		})
	}
	type subscription struct {
		after domain.Mark
		got   []string
	}
	subscriptions := make([]subscription, subscribers)
	final := newEvents(1)
	random := rand.New(rand.NewPCG(seed, writers))
	known := []domain.Mark{start}
	for i := range subscriptions {
		for range 1 + random.IntN(writers*appends/subscribers-1) { // a random moment
			known = append(known, <-written)
		}
		s := &subscriptions[i]
		s.after = known[random.IntN(len(known))]
		log := dial(t, at)
		following.Go(func() {
			for m, err := range log.Subscribe(t.Context(), s.after) {
				if err != nil {
					t.Error(err)
					return
				}
				if m.Raw == nil {
					continue
				}
				if s.got = append(s.got, m.Raw.ID); m.Raw.ID == final[0].ID {
					return
				}
			}
		})
	}
	writing.Wait()
	commit(t, steady, newStream(), domain.NoStream, final...)
	following.Wait()
	for i, s := range subscriptions {
		var want []string
		for _, raw := range all(t, steady.ReadAll(t.Context(), s.after.Position)) {
			want = append(want, raw.ID)
			if raw.ID == final[0].ID {
				break
			}
		}
		if !slices.Equal(s.got, want) {
			t.Errorf("subscription %d after %s brought %d events, want %d, or others", i, s.after.Position, len(s.got), len(want))
		}
	}
}

func TestSubscriptionCatchesUpAndGoesOnLive(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	const n, batch = 1500, 100
	start := head(t, log)
	var written sync.WaitGroup
	written.Go(func() { // while the subscriber crosses from history to live
		for expected, i := domain.NoStream, 0; i < n/batch; i++ {
			expected = domain.AtRevision(commit(t, log, stream, expected, newEvents(batch)...).Revision)
		}
	})
	defer written.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next, last := uint64(0), start.Position
	for m, err := range log.Subscribe(ctx, start) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Raw == nil {
			continue
		}
		if !last.Before(m.Raw.Position) {
			t.Fatalf("position %s after %s", m.Raw.Position, last)
		}
		last = m.Raw.Position
		if m.Raw.Stream != stream {
			continue
		}
		if m.Raw.Revision != next {
			t.Fatalf("revision %d, want %d", m.Raw.Revision, next)
		}
		if next++; next == n {
			break
		}
	}
}

func TestSubscriptionFromZeroSeesHistoryAndSaysCaughtUp(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	commit(t, log, stream, domain.NoStream, newEvents(3)...)
	seen := 0
	for m, err := range log.Subscribe(t.Context(), domain.Mark{}) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Raw != nil && m.Raw.Stream == stream {
			seen++
		}
		if m.CaughtUp {
			break
		}
	}
	if seen != 3 {
		t.Errorf("saw %d events before catching up, want 3", seen)
	}
}

func TestSubscriptionEndsWithItsContext(t *testing.T) {
	log := dial(t, address(t))
	ctx, cancel := context.WithCancel(t.Context())
	var last error
	for m, err := range log.Subscribe(ctx, head(t, log)) {
		last = err
		if m.CaughtUp {
			cancel()
		}
	}
	cancel()
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
}
