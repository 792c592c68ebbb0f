package history_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/history"
	partyprojections "github.com/rapport-crm/rapport/projections/party"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func stream(n int) domain.StreamID {
	return domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: "customer", ID: domain.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", n))}
}

// world is a log with its timeline.
type world struct {
	events  []domain.Recorded
	entries []party.TimelineEntry
}

// add appends an event to the log, and its entry to the timeline of each customer that it concerns.
func (w *world) add(s domain.StreamID, e domain.Event, concerns ...domain.StreamID) {
	n := len(w.events) + 1
	r := domain.Recorded{
		ID: fmt.Sprintf("00000000-0000-5000-8000-%012d", n), Stream: s, Position: domain.Position{Commit: uint64(n), Prepare: uint64(n)},
		Metadata: domain.Metadata{
			Schema: 1, Tenant: s.Tenant, Actor: domain.Actor{ID: "ann", Kind: domain.ActorHuman, OnBehalfOf: "bob"},
			OccurredAt: noon.Add(-time.Hour), RecordedAt: noon.Add(time.Duration(n) * time.Minute),
			CommandID: fmt.Sprint("command ", n), CorrelationID: "conversation", CausationID: "cause",
		},
		Event: e,
	}
	for _, before := range w.events {
		if before.Stream == s {
			r.Revision++
		}
	}
	for _, c := range append([]domain.StreamID{s}, concerns...) {
		r.Subjects = append(r.Subjects, c.ID)
	}
	w.events = append(w.events, r)
	for _, c := range append([]domain.StreamID{s}, concerns...) {
		w.entries = append(w.entries, party.TimelineEntry{
			CustomerID: c.ID, Position: int64(n), EventID: domain.ID(r.ID), Aggregate: s.Aggregate, AggregateID: s.ID, Revision: int64(r.Revision),
		})
	}
}

// Read implements history.Log.
func (w *world) Read(_ context.Context, s domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range w.events {
			if e.Stream == s && e.Revision >= from && !yield(e, nil) {
				return
			}
		}
	}
}

// CustomerTimeline implements history.Timeline; it takes every customer of the world for one family.
func (w *world) CustomerTimeline(_ context.Context, _ domain.ID, q query.Query) (query.List[party.TimelineEntry], error) {
	var after int64
	if _, err := fmt.Sscanf(q.Filter, "position > %d", &after); err != nil || q.Sort != "position" {
		return query.List[party.TimelineEntry]{}, fmt.Errorf("unexpected query %+v", q)
	}
	page := query.List[party.TimelineEntry]{Position: domain.Position{Commit: uint64(len(w.events)), Prepare: uint64(len(w.events))}}
	for _, e := range w.entries {
		if e.Position > after {
			page.Items = append(page.Items, e)
		}
	}
	if len(page.Items) > q.Limit {
		page.Items, page.Next = page.Items[:q.Limit], "more"
	}
	return page, nil
}

// CustomerStreams implements history.Timeline.
func (w *world) CustomerStreams(ctx context.Context, _ domain.ID) ([]domain.StreamID, domain.Position, error) {
	var streams []domain.StreamID
	for _, e := range w.events {
		if !slices.Contains(streams, e.Stream) {
			streams = append(streams, e.Stream)
		}
	}
	at, err := w.Position(ctx)
	return streams, at, err
}

// TimelineEvent implements history.Timeline.
func (w *world) TimelineEvent(_ context.Context, event domain.ID) (domain.StreamID, uint64, error) {
	for _, e := range w.entries {
		if e.EventID == event {
			return domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: e.Aggregate, ID: e.AggregateID}, uint64(e.Revision), nil
		}
	}
	return domain.StreamID{}, 0, &domain.NotFoundError{Kind: "event", ID: string(event)}
}

// Position implements history.Timeline.
func (w *world) Position(context.Context, ...string) (domain.Position, error) {
	return domain.Position{Commit: uint64(len(w.events)), Prepare: uint64(len(w.events))}, nil
}

// ReadAll implements history.Log.
func (w *world) ReadAll(_ context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range w.events {
			if after.Before(e.Position) && !yield(e, nil) {
				return
			}
		}
	}
}

func (w *world) reader(t *testing.T) *history.Reader {
	t.Helper()
	r, err := history.New(w, w, projections.All())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// changes renders the changes of a record's field as from → to.
func changes(e query.HistoryEntry, field string) string {
	for _, c := range e.Changes {
		if c.Record == "customer" && c.Field == field {
			return string(c.From) + " → " + string(c.To)
		}
	}
	return ""
}

func registered(name, owner string) customer.Registered {
	return customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: name}, Owner: owner}
}

func TestEntriesSayWhoWhenAndFromWhatToWhat(t *testing.T) {
	var w world
	w.add(stream(1), registered("Anvil Works", "ann"))
	w.add(stream(1), customer.OwnershipTransferred{From: "ann", To: "bob", Reason: "holiday"})
	w.add(stream(1), customer.Tagged{Tag: "key account"})
	part, err := w.reader(t).Customer(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, stream(1).ID, domain.Position{}, 50)
	entries := part.Items
	if err != nil || len(entries) != 3 || part.Position.Commit != 3 {
		t.Fatalf("%d entries at %s: %v", len(entries), part.Position, err)
	}
	second := entries[1]
	changed := changes(second, "owner")
	second.Changes = nil
	want := query.HistoryEntry{
		Position: domain.Position{Commit: 2, Prepare: 2}, EventID: "00000000-0000-5000-8000-000000000002", EventType: "customer.ownership_transferred",
		Stream: stream(1).String(), Revision: 1, OccurredAt: noon.Add(-time.Hour), RecordedAt: noon.Add(2 * time.Minute),
		Actor:     domain.Actor{ID: "ann", Kind: domain.ActorHuman, OnBehalfOf: "bob"},
		CommandID: "command 2", CorrelationID: "conversation", CausationID: "cause",
		Data: customer.OwnershipTransferred{From: "ann", To: "bob", Reason: "holiday"},
	}
	if diff := cmp.Diff(want, second); diff != "" {
		t.Error(diff)
	}
	words, err := aggregates.Phrasebook()
	if err != nil {
		t.Fatal(err)
	}
	if second.Tell(words, domain.Reader{Language: domain.Chinese}); second.Summary != "由ann移交给bob：“holiday”" {
		t.Errorf("told as %s", second.Summary)
	}
	for what, got := range map[string][2]string{
		"a change":             {changed, `"ann" → "bob"`},
		"a first value":        {changes(entries[0], "name"), ` → "Anvil Works"`},
		"an untouched field":   {changes(entries[2], "owner"), ""},
		"a changed list":       {changes(entries[2], "tags"), `null → ["key account"]`},
		"bookkeeping of a row": {changes(entries[2], "position") + changes(entries[2], "revision"), ""},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: got %q, want %q", what, got[0], got[1])
		}
	}
	if _, err := json.Marshal(entries); err != nil {
		t.Error(err)
	}
}

func TestHistoryGoesOnAfterAPosition(t *testing.T) {
	var w world
	w.add(stream(1), registered("Anvil Works", "ann"))
	w.add(stream(1), customer.OwnershipTransferred{From: "ann", To: "bob"})
	w.add(stream(1), customer.OwnershipTransferred{From: "bob", To: "cem"})
	r := w.reader(t)
	part, err := r.Customer(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, stream(1).ID, domain.Position{Commit: 1, Prepare: 1}, 1)
	if err != nil || len(part.Items) != 1 || changes(part.Items[0], "owner") != `"ann" → "bob"` || part.Next != "2" {
		t.Errorf("what lies before the part still counts: %+v, %v", part, err)
	}
	if part, err = r.Customer(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, stream(1).ID, domain.Position{Commit: 2, Prepare: 2}, 1); err != nil || len(part.Items) != 1 || part.Next != "" {
		t.Errorf("a full part that is the last: %+v, %v", part, err)
	}
	if part, err = r.Customer(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, stream(1).ID, domain.Position{Commit: 3, Prepare: 3}, 1); err != nil || len(part.Items) != 0 {
		t.Errorf("after the end: %+v, %v", part, err)
	}
}

func TestEventOfTwoMergedCustomersStandsOnce(t *testing.T) {
	var w world
	w.add(stream(1), registered("Anvil Works", "ann"))
	w.add(stream(2), registered("Anvil Wroks", ""))
	w.add(stream(1), customer.Merged{DuplicateID: stream(2).ID}, stream(2))
	w.add(stream(2), customer.MergedInto{SurvivorID: stream(1).ID}, stream(1))
	part, err := w.reader(t).Customer(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, stream(1).ID, domain.Position{}, 50)
	if err != nil || len(part.Items) != 4 {
		t.Fatalf("%d entries, want 4: %v", len(part.Items), err)
	}
	if got := changes(part.Items[3], "status"); got != `"active" → "merged"` {
		t.Errorf("the duplicate's status: %s", got)
	}
}

func TestUnknownCustomerIsNotFound(t *testing.T) {
	var w world
	_, err := w.reader(t).Customer(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, stream(1).ID, domain.Position{}, 50)
	var missing *domain.NotFoundError
	if !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

func TestTimelineOfAnotherLogIsCorrupt(t *testing.T) {
	var w world
	w.add(stream(1), registered("Anvil Works", "ann"))
	w.entries[0].EventID = "00000000-0000-5000-8000-00000000ffff"
	_, err := w.reader(t).Customer(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, stream(1).ID, domain.Position{}, 50)
	if !errors.Is(err, domain.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// poisoned returns a projection that cannot digest one event.
func poisoned[K comparable, R any](f projection.Fold[K, R], id string) projection.Fold[K, R] {
	evolve := f.Evolve
	f.Evolve = func(r R, k K, e domain.Recorded) R {
		if e.ID == id {
			panic("an event that nobody expected")
		}
		return evolve(r, k, e)
	}
	return f
}

// TestWhatCannotBeDigestedIsToldWithoutChanges: an event that a projection parks stands in the history all the same, and
// changes nothing from there on, as in the read models.
func TestWhatCannotBeDigestedIsToldWithoutChanges(t *testing.T) {
	var w world
	w.add(stream(1), registered("Acme", "ann"))
	w.add(stream(1), customer.OwnershipTransferred{From: "ann", To: "bob"})
	w.add(stream(1), customer.OwnershipTransferred{From: "bob", To: "eve"})
	declared := projections.All()
	for i, p := range declared {
		if c, err := p.Compile(); err != nil {
			t.Fatal(err)
		} else if c.Name == partyprojections.Customer.Name {
			declared[i] = poisoned(partyprojections.Customer, w.events[1].ID)
		}
	}
	r, err := history.New(&w, &w, declared)
	if err != nil {
		t.Fatal(err)
	}
	id := stream(1).ID
	part, err := r.Customer(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, id, domain.Position{}, 10)
	entries := part.Items
	if err != nil || len(entries) != 3 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for i, want := range []string{` → "ann"`, "", ""} {
		if got := changes(entries[i], "owner"); got != want {
			t.Errorf("entry %d: %q, want %q", i, got, want)
		}
	}
	replayed, _, err := r.Replay(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "customer", id, query.AsOf{}, domain.Position{}, 10)
	if err != nil || len(replayed) != 3 {
		t.Fatalf("%d entries, %v", len(replayed), err)
	}
	if owner := replayed[2].State.(party.Customer360).Profile.Owner; owner != "ann" {
		t.Errorf("the state is that of %q", owner)
	}
	explained, err := r.Explain(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "customer", id, query.AsOf{}, "/profile/owner", noon)
	if err != nil || string(explained.Value) != `"ann"` || len(explained.Events) != 1 {
		t.Errorf("%s by %d events, %v", explained.Value, len(explained.Events), err)
	}
}

func TestAnEventIsFoundByItsID(t *testing.T) {
	w := &world{}
	for n := range 3 {
		w.add(stream(n), customer.Registered{Kind: customer.Person, Profile: customer.Profile{Name: fmt.Sprint(n)}})
	}
	w.events[1].Position = domain.Position{Commit: 777, Prepare: 777}
	w.events[2].Position = domain.Position{Commit: 99_999, Prepare: 99_999}
	event := domain.ID(w.events[1].ID)
	for name, entries := range map[string][]party.TimelineEntry{
		"the timeline knows them":             w.entries,
		"no timeline knows them":              nil,
		"the timeline is of another history":  {{EventID: event, Aggregate: "customer", AggregateID: stream(2).ID}},
		"the timeline says more than the log": {{EventID: event, Aggregate: "customer", AggregateID: stream(1).ID, Revision: 9}},
	} {
		w.entries = entries
		for _, e := range w.events {
			if p, err := w.reader(t).Place(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, domain.ID(e.ID)); err != nil || p != e.Position {
				t.Errorf("%s: event %s is found at %s, want %s: %v", name, e.ID, p, e.Position, err)
			}
		}
		var none *domain.NotFoundError
		for tenant, id := range map[domain.Tenant]domain.ID{domain.DefaultTenant: stream(1).ID, "other": domain.ID(w.events[2].ID)} {
			if p, err := w.reader(t).Place(t.Context(), domain.Caller{Tenant: tenant}, id); !errors.As(err, &none) {
				t.Errorf("%s: %s of tenant %s is found at %s, %v", name, id, tenant, p, err)
			}
		}
	}
}
