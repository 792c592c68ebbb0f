package projections_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/history"
	"github.com/rapport-crm/rapport/projections/view"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Read implements history.Log.
func (l *eventLog) Read(_ context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range l.events {
			if e.Stream == stream && e.Revision >= from && !yield(e, nil) {
				return
			}
		}
	}
}

// ReadAll implements history.Log.
func (l *eventLog) ReadAll(_ context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range l.events {
			if after.Before(e.Position) && !yield(e, nil) {
				return
			}
		}
	}
}

// storyOf tells the whole story of a record; nil for one that never was.
func storyOf(t rapid.TB, log *eventLog, aggregate string, id domain.ID) *history.Story {
	t.Helper()
	reader, err := history.New(log, nil, projections.All())
	if err != nil {
		t.Fatal(err)
	}
	scan, err := reader.Scan(context.Background(), log, domain.Caller{Tenant: domain.DefaultTenant}, aggregate, id)
	var none *domain.NotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	story, err := scan.Story(query.AsOf{})
	if err != nil {
		t.Fatal(err)
	}
	return story
}

// valueOf evaluates a field over some events and nothing else.
func valueOf(t rapid.TB, story *history.Story, events []domain.Recorded, field string, now time.Time) json.RawMessage {
	t.Helper()
	shape, err := view.New(projections.All())
	if err != nil {
		t.Fatal(err)
	}
	kind, id, path := story.Kind, story.ID, view.Path(field)
	part, _ := kind.Part(path[0])
	if own, known := view.Of(part.Of); known && len(path) > 2 { // a field of another record
		kind, id, path = own, domain.ID(path[1]), path[2:]
		part, _ = kind.Part(path[0])
		events = slices.DeleteFunc(slices.Clone(events), func(e domain.Recorded) bool { return e.Stream.ID != id })
	}
	f := shape.Fold(part.Needs...)
	for _, e := range events {
		if err := f.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	document, err := kind.Explained(f, id, path[0], now)
	if err != nil {
		t.Fatal(err)
	}
	if value := view.Lookup(document, path); value != nil {
		return value
	}
	return json.RawMessage("null")
}

// fields lists the pointers that can be explained of a record, with the elements that its lists have.
func fields(t rapid.TB, story *history.Story, now time.Time) (list []string) {
	t.Helper()
	f, err := story.Fold(story.Events)
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range story.Kind.Fields() {
		path := view.Path(pattern)
		document, err := story.Kind.Explained(f, story.ID, path[0], now)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, expand(document, nil, path)...)
	}
	return list
}

func expand(document json.RawMessage, done, rest []string) (list []string) {
	i := slices.Index(rest, "*")
	if i < 0 {
		return []string{view.Pointer(slices.Concat(done, rest))}
	}
	at := slices.Concat(done, rest[:i])
	value := view.Lookup(document, at)
	elements, ok := view.Elements(at[len(at)-1], value)
	if !ok {
		_ = json.Unmarshal(value, &elements) // a map, or nothing
	}
	for name := range elements {
		list = append(list, expand(document, append(slices.Clone(at), name), rest[i+1:])...)
	}
	slices.Sort(list)
	return list
}

// TestAnExplanationIsMinimal explains random values of random histories: the events given yield the value, and without any
// one of them it is another.
func TestAnExplanationIsMinimal(t *testing.T) {
	now := day("12-31")
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		aggregate := rapid.SampledFrom([]string{"customer", "customer", "opportunity", "order", "contact"}).Draw(t, "explained")
		kinds := map[string]int{"customer": 0xc, "opportunity": 0xd, "order": 0xf, "contact": 0xb}
		story := storyOf(t, w.log, aggregate, number(rapid.IntRange(0, 2).Draw(t, "record"), kinds[aggregate]))
		if story == nil {
			return
		}
		all := fields(t, story, now)
		for range 5 {
			field := rapid.SampledFrom(all).Draw(t, "field")
			answer, err := story.Explain(context.Background(), field, now)
			if err != nil {
				t.Fatalf("%s: %v", field, err)
			}
			checkMinimal(t, story, answer, now)
		}
	})
}

func checkMinimal(t rapid.TB, story *history.Story, answer query.Explanation, now time.Time) {
	t.Helper()
	whole := valueOf(t, story, story.Events, answer.Field, now)
	var chosen []domain.Recorded
	for _, e := range answer.Events {
		i := slices.IndexFunc(story.Events, func(r domain.Recorded) bool { return r.ID == e.EventID })
		chosen = append(chosen, story.Events[i])
	}
	if alone := valueOf(t, story, chosen, answer.Field, now); !bytes.Equal(alone, whole) || !bytes.Equal(answer.Value, whole) || !bytes.Equal(answer.Recomputed, whole) {
		t.Fatalf("%s is %s, explained as %s, its %d events give %s", answer.Field, whole, answer.Value, len(chosen), alone)
	}
	for i, e := range chosen {
		without := slices.Delete(slices.Clone(chosen), i, i+1)
		if got := valueOf(t, story, without, answer.Field, now); bytes.Equal(got, whole) {
			t.Fatalf("%s is %s without %s too", answer.Field, whole, e.Type())
		}
	}
}

// sold is a customer with orders, an opportunity and dealings.
func sold() *eventLog {
	l := newLog()
	c, deal := number(1, 0xc), number(1, 0xd)
	l.add("customer", c, day("01-01"), customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Anvil Works"}}, c)
	standing := opportunity.Standing{CustomerID: c, Owner: "ann", PipelineID: goldenPipeline, PipelineVersion: 1}
	worth := domain.MustMoney("1000", "EUR")
	l.add("opportunity", deal, day("01-02"), opportunity.Opened{Name: "Forge", Standing: standing, Stage: "q", Visit: 1, Probability: 10, Amount: &worth}, c)
	l.add("opportunity", deal, day("01-03"), opportunity.StageMoved{From: "q", To: "p", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: standing, Amount: &worth}, c)
	l.add("opportunity", deal, day("01-04"), opportunity.ReEstimated{From: &worth, To: domain.MustMoney("800", "EUR"), Standing: standing}, c)
	for n := range 3 {
		placed := order.Placed{Subject: order.Subject{Number: fmt.Sprint(n), Kind: order.KindSale, CustomerID: c}, Currency: "EUR", Total: amount("10")}
		l.add("order", number(n, 0xf), day("02-01"), placed, c)
	}
	l.add("order", number(1, 0xf), day("02-02"), order.Cancelled{Subject: order.Subject{Number: "1", Kind: order.KindSale, CustomerID: c}, Currency: "EUR", Total: amount("10"), Reason: "twice"}, c)
	for n := range 3 {
		l.add("interaction", number(n, 0xa), day("03-01").AddDate(0, 0, n), interaction.Logged{Details: interaction.Details{
			CustomerID: c, Channel: "phone", Direction: "inbound", StartedAt: day("03-01").AddDate(0, 0, n)}}, c)
	}
	return l
}

// TestExplanationsOfTheViews names the events behind the values that people ask about most.
func TestExplanationsOfTheViews(t *testing.T) {
	log := sold()
	deal := string(number(1, 0xd))
	orders := func(n int) string { return fmt.Sprintf("order.placed@%d", n) }
	for _, c := range []struct {
		aggregate, field, value string
		events                  []string // type@position/100
		contribution            string   // of the last
	}{
		{"customer", "/lifetimeValue/EUR/net", `"20"`, []string{orders(5), orders(6), orders(7), "order.cancelled@8"}, `"30" → "20"`},
		{"customer", "lifetimeValue.EUR.orders", `3`, []string{orders(5), orders(6), orders(7)}, `2 → 3`},
		{"customer", "/lifetimeValue/0/cancelled", `1`, []string{"order.cancelled@8"}, `null → 1`},
		{"customer", "/lastContact", `"2026-03-03T00:00:00Z"`, []string{"interaction.logged@11"}, `null → "2026-03-03T00:00:00Z"`},
		{"customer", "/interactionCount", `3`, []string{"interaction.logged@9", "interaction.logged@10", "interaction.logged@11"}, `2 → 3`},
		{"customer", "/openValue/EUR/weighted", `"400"`, []string{"opportunity.stage_moved@3", "opportunity.re_estimated@4"}, `null → "400"`},
		{"customer", "/openOpportunities/" + deal + "/stage", `"p"`, []string{"opportunity.stage_moved@3"}, `null → "p"`},
		{"customer", "/lostOpportunities", `0`, []string{}, ""},
		{"customer", "/profile/name", `"Anvil Works"`, []string{"customer.registered@1"}, `"" → "Anvil Works"`},
		{"opportunity", "/weighted", `"400"`, []string{"opportunity.stage_moved@3", "opportunity.re_estimated@4"}, `null → "400"`},
		{"opportunity", "/name", `"Forge"`, []string{"opportunity.opened@2"}, `null → "Forge"`},
		{"order", "/paid", `"0"`, []string{orders(6)}, `null → "0"`},
		{"opportunity", "/visits/2/probability", `50`, []string{"opportunity.stage_moved@3"}, `null → 50`},
	} {
		id := number(1, map[string]int{"customer": 0xc, "opportunity": 0xd, "order": 0xf}[c.aggregate])
		story := storyOf(t, log, c.aggregate, id)
		answer, err := story.Explain(t.Context(), c.field, day("12-31"))
		if err != nil {
			t.Errorf("%s: %v", c.field, err)
			continue
		}
		events := []string{}
		last := ""
		for _, e := range answer.Events {
			events = append(events, fmt.Sprintf("%s@%d", e.EventType, e.Position.Commit/100))
			last = string(e.Before) + " → " + string(e.After)
			if e.Actor.ID != "ann" || e.OccurredAt.IsZero() || e.Data == nil {
				t.Errorf("%s: %s does not say who and when: %+v", c.field, e.EventType, e)
			}
		}
		if string(answer.Value) != c.value || last != c.contribution || answer.Formula == "" {
			t.Errorf("%s: %s by %s, want %s by %s", c.field, answer.Value, last, c.value, c.contribution)
		}
		if diff := cmp.Diff(c.events, events); diff != "" {
			t.Errorf("%s: %s", c.field, diff)
		}
		checkMinimal(t, story, answer, day("12-31"))
	}
}

// TestAFigureRestsOnEveryAmount explains the money of orders over random worlds, through the order and through its customer:
// every event that brought an amount is named, and nothing else.
func TestAFigureRestsOnEveryAmount(t *testing.T) {
	now := day("12-31")
	amounts := map[string]func(domain.Event) bool{
		"/outstanding": func(e domain.Event) bool {
			switch e := e.(type) {
			case order.Placed:
				return !e.Total.IsZero()
			case order.Cancelled:
				return !e.Total.IsZero()
			case order.GoodsReturned, order.PaymentReceived, order.PaymentRefunded:
				return true
			}
			return false
		},
		"/paid":     func(e domain.Event) bool { _, is := e.(order.PaymentReceived); return is },
		"/refunded": func(e domain.Event) bool { _, is := e.(order.PaymentRefunded); return is },
		"/returned": func(e domain.Event) bool { _, is := e.(order.GoodsReturned); return is },
	}
	seen := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		paid := &machine[order.Order]{aggregate: order.Aggregate, id: number(3, 0xf)}
		w.orders = append(w.orders, paid)
		paid.do(w.log, day("09-01"), order.Place{
			Number: "SO", Kind: order.KindSale, Currency: "EUR", Lines: []order.NewLine{{ProductCode: "A", Quantity: amount("2"), UnitPrice: amount("10")}},
		})
		for _, id := range []string{"1", "2"} {
			paid.do(w.log, day("09-02"), order.ReceivePayment{PaymentID: id, Amount: domain.MustMoney("4.5", "EUR")})
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps of orders") {
			w.orders[rapid.IntRange(0, 3).Draw(t, "of")].do(w.log, day("10-01"), orderCommand(t))
		}
		for n := range w.orders {
			story := storyOf(t, w.log, "order", number(n, 0xf))
			if story == nil {
				continue
			}
			for _, field := range sortedNames(amounts) {
				answer, err := story.Explain(context.Background(), field, now)
				if err != nil {
					t.Fatal(err)
				}
				var want []string
				for _, e := range story.Events {
					if amounts[field](e.Event) {
						want = append(want, e.ID)
					}
				}
				if len(want) == 0 { // 0 since the order was placed
					want = append(want, story.Events[0].ID)
				}
				if diff := cmp.Diff(want, named(answer)); diff != "" {
					t.Fatalf("%s of %s rests on other events: %s", field, story.ID, diff)
				}
				checkMinimal(t, story, answer, now)
				seen[fmt.Sprintf("%s by %d", field, min(len(want), 3))] = true
			}
		}
	})
	if !seen["/outstanding by 3"] || !seen["/paid by 2"] {
		t.Errorf("no order had several payments: %v", seen)
	}
}

func named(answer query.Explanation) (events []string) {
	for _, e := range answer.Events {
		events = append(events, e.EventID)
	}
	return events
}

// TestAmountsThatCancelAreNamed: an order is placed, paid in two parts, paid back in part, and part of it comes back. What is
// outstanding is the same as with the total alone.
func TestAmountsThatCancelAreNamed(t *testing.T) {
	l := newLog()
	c, o := number(1, 0xc), number(1, 0xf)
	of := order.Subject{Number: "1", Kind: order.KindSale, CustomerID: c}
	euros := func(s string) domain.Money { return domain.MustMoney(s, "EUR") }
	l.add("customer", c, day("01-01"), customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Anvil Works"}}, c)
	l.add("order", o, day("01-02"), order.Placed{Subject: of, Currency: "EUR", Total: amount("100")}, c)
	l.add("order", o, day("01-03"), order.Confirmed{Subject: of}, c)
	l.add("order", o, day("01-04"), order.PaymentReceived{Subject: of, PaymentID: "1", Amount: euros("30")}, c)
	l.add("order", o, day("01-05"), order.PaymentReceived{Subject: of, PaymentID: "2", Amount: euros("30")}, c)
	l.add("order", o, day("01-06"), order.PaymentRefunded{Subject: of, PaymentID: "1", RefundID: "1", Amount: euros("30")}, c)
	l.add("order", o, day("01-07"), order.Shipped{Subject: of}, c)
	l.add("order", o, day("01-08"), order.GoodsReturned{Subject: of, Currency: "EUR", Value: amount("70")}, c)
	for _, ask := range []struct {
		aggregate string
		id        domain.ID
		field     string
	}{{"order", o, "/outstanding"}, {"customer", c, "/orders/" + string(o) + "/outstanding"}, {"customer", c, "orders.0.outstanding"}} {
		story := storyOf(t, l, ask.aggregate, ask.id)
		answer, err := story.Explain(t.Context(), ask.field, day("12-31"))
		if err != nil {
			t.Fatal(err)
		}
		var steps []string
		for _, e := range answer.Events {
			steps = append(steps, fmt.Sprintf("%s %s → %s", e.EventType, e.Before, e.After))
		}
		if diff := cmp.Diff([]string{
			`order.placed null → "100"`, `order.payment_received "100" → "70"`, `order.payment_received "70" → "40"`,
			`order.payment_refunded "40" → "70"`, `order.goods_returned "70" → "0"`,
		}, steps); diff != "" || string(answer.Value) != `"0"` {
			t.Errorf("%s is %s: %s", ask.field, answer.Value, diff)
		}
	}
}

// TestExplanationsAgreeThroughTheCustomer explains every field of the records that a customer's view lists: the customer's
// view and the record name the same events.
func TestExplanationsAgreeThroughTheCustomer(t *testing.T) {
	now := day("12-31")
	compared := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		story := storyOf(t, w.log, "customer", number(0, 0xc))
		if story == nil {
			return
		}
		for _, field := range fields(t, story, now) {
			path := view.Path(field)
			part, _ := story.Kind.Part(path[0])
			if part.Of == "" || len(path) <= 2 {
				continue
			}
			compared[part.Of] = true
			through, err := story.Explain(context.Background(), field, now)
			if err != nil {
				t.Fatalf("%s: %v", field, err)
			}
			record := storyOf(t, w.log, part.Of, domain.ID(path[1]))
			direct, err := record.Explain(context.Background(), view.Pointer(path[2:]), now)
			if err != nil {
				t.Fatalf("%s: %v", field, err)
			}
			if diff := cmp.Diff(named(direct), named(through)); diff != "" || !bytes.Equal(direct.Value, through.Value) {
				t.Fatalf("%s is %s, and %s through the customer: %s", field, direct.Value, through.Value, diff)
			}
		}
	})
	if !compared["order"] || !compared["opportunity"] {
		t.Errorf("no world had both orders and opportunities of the customer: %v", compared)
	}
}

// TestFiguresAreNumbers knows the figures of a view by the types of its fields.
func TestFiguresAreNumbers(t *testing.T) {
	for aggregate, want := range map[string]map[string]bool{
		"customer": {
			"/lifetimeValue/*/net": true, "/interactionCount": true, "/profile/revenue": true, "/age": true, "/profile/name": false,
			"/orders": false, "/orders/*/outstanding": true, "/orders/*/placedAt": false, "/openValue/*/weighted": true, "/lastContact": false,
		},
		"order":       {"/outstanding": true, "/lines/*/quantity": true, "/lines": false, "/lineCount": true, "/currency": false},
		"opportunity": {"/weighted": true, "/probability": true, "/score": true, "/stage": false},
	} {
		kind, _ := view.Of(aggregate)
		for field, figure := range want {
			if !view.Known(kind, view.Path(field)) || kind.Figure(view.Path(field)) != figure {
				t.Errorf("%s of %s is a figure: %t, want %t", field, aggregate, !figure, figure)
			}
		}
	}
}

func TestAnUnknownFieldNamesTheKnownOnes(t *testing.T) {
	story := storyOf(t, sold(), "customer", number(1, 0xc))
	for field, words := range map[string]string{
		"/profile/nickname": "/lifetimeValue/*/net", "": "/lastContact", "/": "/lastContact", "lifetimeValue.net": "there is no net in /lifetimeValue",
		"/lifetimeValue/USD/net": "there is no USD in /lifetimeValue", "/lifetimeValue/7/net": "there is no 7 in /lifetimeValue",
		"/tenant": "/profile/name",
	} {
		_, err := story.Explain(t.Context(), field, day("12-31"))
		var invalid *domain.InvalidError
		if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != "field" || !strings.Contains(domain.Shown(err), words) {
			t.Errorf("%q: %v", field, err)
		}
	}
}

// TestAnExplanationIsBounded explains a sum over more events than can be tried one by one.
func TestAnExplanationIsBounded(t *testing.T) {
	l := newLog()
	c := number(1, 0xc)
	l.add("customer", c, day("01-01"), customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Anvil Works"}}, c)
	for n := range 1500 {
		placed := order.Placed{Subject: order.Subject{Number: fmt.Sprint(n), Kind: order.KindSale, CustomerID: c}, Currency: "EUR", Total: amount("10")}
		l.add("order", number(n, 0xf), day("02-01").Add(time.Duration(n)*time.Minute), placed, c)
	}
	story := storyOf(t, l, "customer", c)
	var refused *domain.Rejection
	if _, err := story.Explain(t.Context(), "/lifetimeValue/EUR/net", day("12-31")); !errors.As(err, &refused) || refused.Rule != "explanation-too-long" {
		t.Errorf("a sum of 1,500 orders: %v", err)
	}
	answer, err := story.Explain(t.Context(), "/lifetimeValue/EUR/lastOrderAt", day("12-31"))
	if err != nil || len(answer.Events) != 1 {
		t.Errorf("the last of 1,500 orders rests on %d events: %v", len(answer.Events), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := story.Explain(ctx, "/lifetimeValue/EUR/net", day("12-31")); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}
