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
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/history"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

func at(n int) domain.Position { return domain.Position{Commit: uint64(n), Prepare: uint64(n)} }

func orderStream(n int) domain.StreamID {
	return domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: "order", ID: domain.ID(fmt.Sprintf("00000000-0000-7000-9000-%012d", n))}
}

func placed(of domain.StreamID, total string) order.Placed {
	return order.Placed{
		Subject: order.Subject{Number: "SO", Kind: order.KindSale, CustomerID: of.ID}, Currency: "EUR",
		Total: domain.MustMoney(total, "EUR").Amount,
	}
}

// bought is a customer that buys twice and changes hands in between.
func bought() *world {
	w := &world{}
	w.add(stream(1), registered("Anvil Works", "ann"))
	w.add(orderStream(1), placed(stream(1), "100"), stream(1))
	w.add(stream(2), registered("Other", "ann"))
	w.add(stream(1), customer.OwnershipTransferred{From: "ann", To: "bob", Reason: "holiday"})
	w.add(orderStream(2), placed(stream(1), "20.50"), stream(1))
	return w
}

// told renders a replay: type, owner and lifetime value after each event.
func told(t *testing.T, list []query.ReplayEntry[any]) (lines []string) {
	t.Helper()
	for _, e := range list {
		state := e.State.(party.Customer360)
		line := fmt.Sprintf("%s %s: owner %s", e.Position, e.EventType, state.Profile.Owner)
		for _, v := range state.LifetimeValue {
			line += fmt.Sprintf(", %d orders, %s %s", v.Orders, v.Net, v.Currency)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestAReplayShowsTheStateAfterEachEvent(t *testing.T) {
	w := bought()
	story, err := w.reader(t).Story(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(1).ID, query.AsOf{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := story.Replay(domain.Position{}, 50)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"1 customer.registered: owner ann",
		"2 order.placed: owner ann, 1 orders, 100 EUR",
		"4 customer.ownership_transferred: owner bob, 1 orders, 100 EUR",
		"5 order.placed: owner bob, 2 orders, 120.5 EUR",
	}
	if diff := cmp.Diff(want, told(t, whole)); diff != "" {
		t.Error(diff)
	}
	if changes(whole[2].HistoryEntry, "owner") != `"ann" → "bob"` {
		t.Errorf("the event does not say what it changed: %+v", whole[2].HistoryEntry)
	}
	var pages []string
	for after := (domain.Position{}); ; {
		page, err := story.Replay(after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		pages, after = append(pages, told(t, page)...), page[len(page)-1].Position
	}
	if diff := cmp.Diff(want, pages); diff != "" {
		t.Errorf("page by page: %s", diff)
	}
	page, err := story.Replay(at(3), 3) // another customer's event
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[2:], told(t, page)); diff != "" {
		t.Errorf("behind the event of another: %s", diff)
	}
}

func TestAStoryEndsAtItsMoment(t *testing.T) {
	w := bought()
	w.events[4].OccurredAt = noon.Add(-48 * time.Hour) // the second order was entered late
	late := query.AsOf{Axis: query.AxisOccurred, Position: at(5), Time: noon.Add(-24 * time.Hour)}
	for _, c := range []struct {
		name string
		m    query.AsOf
		scan bool // a log alone knows when what was recorded
		want []string
	}{
		{"now", query.AsOf{}, true, []string{"1", "2", "4", "5"}},
		{"a position", query.AsOf{Position: at(3)}, true, []string{"1", "2"}},
		{"a position of its own", query.AsOf{Position: at(4)}, true, []string{"1", "2", "4"}},
		{"a time", query.AsOf{Time: noon.Add(4 * time.Minute)}, false, []string{"1", "2", "4"}},
	} {
		scan, err := w.reader(t).Scan(t.Context(), w, domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(1).ID)
		if err != nil {
			t.Fatal(err)
		}
		stories := []func() (*history.Story, error){func() (*history.Story, error) { return scan.Story(c.m) }}
		if c.scan {
			stories = append(stories, func() (*history.Story, error) {
				return w.reader(t).Story(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(1).ID, c.m)
			})
		}
		for i, tell := range stories {
			story, err := tell()
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if diff := cmp.Diff(c.want, positions(t, story)); diff != "" {
				t.Errorf("%s, way %d: %s", c.name, i, diff)
			}
		}
	}
	// Restated, the order that was entered late is there before the customer: its stream begins with it.
	story, err := w.reader(t).Story(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(1).ID, query.AsOf{Axis: query.AxisOccurred, Position: at(5), Time: noon})
	if err != nil {
		t.Fatal(err)
	}
	if got := positions(t, story); !slices.Equal(got, []string{"5", "1", "2", "4"}) {
		t.Errorf("restated order of events: %v", got)
	}
	var none *domain.NotFoundError
	if _, err := w.reader(t).Story(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(1).ID, late); !errors.As(err, &none) {
		t.Errorf("a customer before it happened: %v", err)
	}
	if _, err := w.reader(t).Story(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(1).ID, query.AsOf{Axis: query.AxisRecorded}); !errors.As(err, &none) {
		t.Errorf("a customer before everything: %v", err)
	}
	if _, err := w.reader(t).Scan(t.Context(), w, domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(9).ID); !errors.As(err, &none) {
		t.Errorf("a customer that never was: %v", err)
	}
}

func positions(t *testing.T, s *history.Story) (list []string) {
	t.Helper()
	entries, err := s.Entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Position.String())
	}
	return list
}

func TestAMergedCustomerIsReplayedWithWhatWasMergedIntoIt(t *testing.T) {
	var w world
	w.add(stream(1), registered("Anvil Works", "ann"))
	w.add(stream(2), registered("Anvil Wroks", ""))
	w.add(orderStream(1), placed(stream(2), "7"), stream(2))
	w.add(stream(1), customer.Merged{DuplicateID: stream(2).ID})
	w.add(stream(2), customer.MergedInto{SurvivorID: stream(1).ID}, stream(1))
	scan, err := w.reader(t).Scan(t.Context(), &w, domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(2).ID)
	if err != nil {
		t.Fatal(err)
	}
	for until, want := range map[int][]string{
		4: {"2 customer.registered: owner ", "3 order.placed: owner , 1 orders, 7 EUR"},
		5: {
			"1 customer.registered: owner ", "2 customer.registered: owner ", "3 order.placed: owner , 1 orders, 7 EUR",
			"4 customer.merged: owner , 1 orders, 7 EUR", "5 customer.merged_into: owner ann, 1 orders, 7 EUR",
		},
	} {
		story, err := scan.Story(query.AsOf{Position: at(until)})
		if err != nil {
			t.Fatal(err)
		}
		list, err := story.Replay(domain.Position{}, 50)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, told(t, list)); diff != "" {
			t.Errorf("up to %d: %s", until, diff)
		}
	}
}

// endless is a log with streams that never end.
type endless struct{ *world }

func (e endless) Read(_ context.Context, s domain.StreamID, _ uint64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for yield(domain.Recorded{Stream: s, Metadata: domain.Metadata{Tenant: s.Tenant}, Event: customer.Tagged{Tag: "new"}}, nil) {
		}
	}
}

func TestARecordWithTooManyEventsIsRefused(t *testing.T) {
	w := bought()
	reader, err := history.New(endless{w}, w, projections.All())
	if err != nil {
		t.Fatal(err)
	}
	var refused *domain.Rejection
	_, err = reader.Story(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "order", orderStream(1).ID, query.AsOf{})
	if !errors.As(err, &refused) || refused.Rule != "history-too-long" {
		t.Errorf("a stream without end: %v", err)
	}
}

func TestOtherRecordsAreReplayedFromTheirStream(t *testing.T) {
	w := bought()
	w.add(orderStream(1), order.Confirmed{Subject: order.Subject{Number: "SO", Kind: order.KindSale, CustomerID: stream(1).ID}}, stream(1))
	story, err := w.reader(t).Story(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "order", orderStream(1).ID, query.AsOf{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := story.Replay(domain.Position{}, 50)
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, e := range list {
		states = append(states, e.State.(sales.OrderDetail).Status)
	}
	if !slices.Equal(states, []string{"placed", "confirmed"}) {
		t.Errorf("states of the order: %v", states)
	}
	if _, err := w.reader(t).Story(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "reservation", orderStream(1).ID, query.AsOf{}); err == nil {
		t.Error("a reservation was replayed")
	}
}

func TestTheDifferenceOfTwoMomentsNamesMembersElementsAndFields(t *testing.T) {
	w := bought()
	scan, err := w.reader(t).Scan(t.Context(), w, domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(1).ID)
	if err != nil {
		t.Fatal(err)
	}
	state := func(position int) json.RawMessage {
		story, err := scan.Story(query.AsOf{Position: at(position)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := story.State()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	list, err := history.Difference(state(1), state(2))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, c := range list {
		found[c.Record+"["+c.Key+"]."+c.Field] = string(c.From) + " → " + string(c.To)
	}
	if found["lifetimeValue[EUR].net"] != ` → "100"` || found["orders["+string(orderStream(1).ID)+"].number"] != ` → "SO"` {
		t.Errorf("differences: %v", found)
	}
	if list, err = history.Difference(state(4), state(4)); err != nil || len(list) != 0 {
		t.Errorf("a moment differs from itself: %v, %v", list, err)
	}
	if list, err = history.Difference(state(2), state(4)); err != nil {
		t.Fatal(err)
	}
	var handed []string
	for _, c := range list {
		handed = append(handed, fmt.Sprintf("%s[%s].%s %s → %s", c.Record, c.Key, c.Field, c.From, c.To))
	}
	want := []string{
		`owners[0].until  → "2026-03-01T11:00:00Z"`,
		`owners[1].actor  → "ann"`, `owners[1].customerId  → "` + string(stream(1).ID) + `"`, `owners[1].owner  → "bob"`,
		`owners[1].reason  → "holiday"`, `owners[1].since  → "2026-03-01T11:00:00Z"`,
		`profile[].owner "ann" → "bob"`,
	}
	if diff := cmp.Diff(want, handed); diff != "" {
		t.Errorf("a change of hands: %s", diff)
	}
}

// TestWhatWasLinkedLaterIsNotConsidered: a customer that became a relative later has no part in what is explained as of
// before, though its events are older.
func TestWhatWasLinkedLaterIsNotConsidered(t *testing.T) {
	var w world
	w.add(stream(1), registered("Holding", "ann"))
	w.add(stream(2), registered("Daughter", "bob"))
	w.add(stream(2), customer.ParentSet{To: stream(1).ID}, stream(1))
	r := w.reader(t)
	for position, want := range map[uint64]int{2: 1, 3: 3} {
		m := query.AsOf{Axis: query.AxisRecorded, Position: domain.Position{Commit: position, Prepare: position}, Time: noon}
		explained, err := r.Explain(t.Context(), domain.Caller{Tenant: domain.DefaultTenant}, "customer", stream(1).ID, m, "/profile/owner", noon)
		if err != nil || explained.Considered != want || string(explained.Value) != `"ann"` {
			t.Errorf("as of %d: %s of %d events, %v; want %d", position, explained.Value, explained.Considered, err, want)
		}
	}
}
