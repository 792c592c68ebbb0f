package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// lived is a customer with a relative, a duplicate, a contact, a deal, orders and dealings, beside a product and a pipeline.
func (s *stack) lived() (customer, deal string, last api.Receipt) {
	s.t.Helper()
	n := 0
	do := func(path string, body object) string {
		n++
		last = s.command(path, fmt.Sprint("lived-", n), body)
		return string(last.ID)
	}
	parent := do("/v1/customers", object{"kind": "company", "name": "Holding"})
	customer = do("/v1/customers", object{"kind": "company", "name": "Anvil Works", "owner": "ann", "parentId": parent})
	do("/v1/contacts", object{"givenName": "Mara", "familyName": "Keller", "links": []object{{"customerId": customer, "role": "buyer"}}})
	deal = do("/v1/opportunities", object{"name": "Forge", "customerId": customer, "owner": "ann", "amount": object{"amount": "1000", "currency": "EUR"}})
	do("/v1/opportunities/"+deal+"/move-stage", object{"stage": "proposal"})
	do("/v1/opportunities/"+deal+"/re-estimate", object{"amount": object{"amount": "800", "currency": "EUR"}})
	lines := []object{{"productCode": "A", "quantity": "2", "unitPrice": "500"}}
	do("/v1/orders", object{"number": "SO-1", "customerId": customer, "currency": "EUR", "lines": lines})
	cancelled := do("/v1/orders", object{"number": "SO-2", "customerId": customer, "currency": "EUR", "lines": lines})
	do("/v1/orders/"+cancelled+"/cancel", object{"reason": "twice"})
	do("/v1/products", object{"code": "A", "name": "Anvil", "listPrice": object{"amount": "500", "currency": "EUR"}})
	do("/v1/pipelines", object{"name": "Partners", "stages": []object{{"key": "met", "name": "Met", "probability": 10}, {"key": "agreed", "name": "Agreed", "probability": 80}}})
	do("/v1/interactions", object{"customerId": customer, "channel": "phone", "direction": "inbound", "startedAt": "2026-01-03T10:00:00Z", "occurredAt": "2026-01-03T10:10:00Z"})
	do("/v1/customers/"+customer+"/transfer-ownership", object{"to": "bob", "reason": "holiday"})
	double := do("/v1/customers", object{"kind": "company", "name": "Anvil Wroks"})
	do("/v1/orders", object{"number": "SO-3", "customerId": double, "currency": "USD", "lines": lines})
	do("/v1/customers/"+customer+"/merge", object{"duplicateId": double, "reason": "same"})
	do("/v1/customers/"+parent+"/update-profile", object{"name": "Holding Ltd"}) // says nothing of the customer but its parent's name
	return customer, deal, last
}

// replayed reads a whole replay, page by page.
func (s *stack) replayed(path string) (entries []object) {
	s.t.Helper()
	for next := path; next != ""; {
		var part listed
		a := s.get(next, &part)
		entries = append(entries, part.Items...)
		next, _, _ = strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
		if (part.Next == "") != (next == "") || len(part.Items) == 0 {
			s.t.Fatalf("page of %d with next %q and link %q", len(part.Items), part.Next, next)
		}
	}
	return entries
}

// TestAReplayIsTheAnswerOfEachMoment compares the state after each event with what the record's own query answers as of it.
func TestAReplayIsTheAnswerOfEachMoment(t *testing.T) {
	s := start(t)
	customer, deal, last := s.lived()
	for path, want := range map[string][]string{
		"/v1/customers/" + customer: {
			"customer.registered", "contact.created", "contact.customer_linked", "opportunity.opened", "opportunity.stage_moved", "opportunity.re_estimated",
			"order.placed", "order.placed", "order.cancelled", "interaction.logged", "customer.ownership_transferred",
			"customer.registered", "order.placed", "customer.merged", "customer.merged_into",
		},
		"/v1/opportunities/" + deal: {"opportunity.opened", "opportunity.stage_moved", "opportunity.re_estimated"},
	} {
		answer := path
		if strings.HasPrefix(path, "/v1/customers/") {
			answer += "/360"
		}
		entries := s.replayed(path + "/replay?limit=4&" + at(last.Position))
		var types []string
		for _, e := range entries {
			types = append(types, e["eventType"].(string))
			var then object
			s.get(answer+"?asOf="+e["position"].(string), &then)
			if diff := cmp.Diff(any(then), e["state"]); diff != "" {
				t.Errorf("after %s at %s (-as of +replay):\n%s", e["eventType"], e["position"], diff)
			}
		}
		if diff := cmp.Diff(want, types); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	for _, path := range []string{"/v1/contacts", "/v1/orders", "/v1/interactions", "/v1/products", "/v1/pipelines"} {
		var all listed
		s.get(path, &all)
		if len(all.Items) == 0 {
			t.Errorf("there are no %s", path)
		}
		for _, record := range all.Items {
			var now object
			one := path + "/" + record["id"].(string)
			s.get(one, &now)
			entries := s.replayed(one + "/replay")
			if diff := cmp.Diff(any(now), entries[len(entries)-1]["state"]); diff != "" {
				t.Errorf("%s (-now +replay):\n%s", one, diff)
			}
		}
	}
	var past, begun, restated listed
	s.get("/v1/customers/"+customer+"/replay?limit=2&asOf="+last.Position.String(), &past)
	if len(past.Items) != 2 || past.Next == "" {
		t.Errorf("as of a position: %v", past)
	}
	first := s.replayed("/v1/customers/" + customer + "/replay")[0]
	s.get("/v1/customers/"+customer+"/replay?asOf="+first["position"].(string), &begun)
	if len(begun.Items) != 1 || begun.Next != "" || begun.Position != first["position"] {
		t.Errorf("as of its first event: %v", begun)
	}
	// The dealing was entered last and had happened before anything else.
	a := s.get("/v1/customers/"+customer+"/replay?axis=occurred&asOf="+first["occurredAt"].(string), &restated)
	if a.Header.Get("X-As-Of-Axis") != "occurred" || len(restated.Items) != 2 || restated.Items[0]["eventType"] != "interaction.logged" {
		t.Errorf("restated: %v, headers %v", restated, a.Header)
	}
}

func TestReplaysThatCannotBe(t *testing.T) {
	s := start(t)
	customer, _, last := s.lived()
	for query, pointer := range map[string]string{"after=9223372036854775807": "after", "after=x": "after", "limit=51": "limit", "asOf=soon": "asOf"} {
		p := s.answered("/v1/customers/" + customer + "/replay?" + query + "&" + at(last.Position)).problem(t)
		if p.Status != 400 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", query, p)
		}
	}
	for _, verb := range []string{"/replay?", "/explain?field=/profile/name&", "/360?", "/history?"} { // nothing is known before everything
		if p := s.answered("/v1/customers/" + customer + verb + "asOf=0").problem(t); p.Status != 404 || p.Code != "not-found" {
			t.Errorf("%sasOf=0: %+v", verb, p)
		}
	}
	for _, path := range []string{"/v1/customers", "/v1/opportunities", "/v1/products"} {
		for _, verb := range []string{"/replay", "/explain?field=/name"} {
			if p := s.do("GET", path+"/01900000-0000-7000-8000-0000000000ff"+verb, nil).problem(t); p.Status != 404 || p.Code != "not-found" {
				t.Errorf("%s%s: %+v", path, verb, p)
			}
		}
	}
}

// TestWhyIsThisValue asks for the events behind values of the 360° and opportunity views, and compares the value with that
// of the view.
func TestWhyIsThisValue(t *testing.T) {
	s := start(t)
	customer, deal, last := s.lived()
	var view, opportunity object
	s.get("/v1/customers/"+customer+"/360?"+at(last.Position), &view)
	s.get("/v1/opportunities/"+deal, &opportunity)
	euro := view["lifetimeValue"].([]any)[0].(object)
	for _, c := range []struct {
		path, field string
		value       any
		types       []string
	}{
		{"/v1/customers/" + customer, "/lifetimeValue/EUR/net", euro["net"], []string{"order.placed", "order.placed", "order.cancelled"}},
		{"/v1/customers/" + customer, "lifetimeValue.EUR.orders", euro["orders"], []string{"order.placed", "order.placed"}},
		{"/v1/customers/" + customer, "/lifetimeValue/USD/net", "1000", []string{"order.placed", "customer.merged_into"}},
		{"/v1/customers/" + customer, "/lastContact", view["lastContact"], []string{"interaction.logged"}},
		{"/v1/customers/" + customer, "/openValue/EUR/amount", "800", []string{"opportunity.opened", "opportunity.re_estimated"}},
		{"/v1/customers/" + customer, "/profile/owner", "bob", []string{"customer.ownership_transferred"}},
		{"/v1/customers/" + customer, "/owners/0/owner", "ann", []string{"customer.registered"}},
		{"/v1/customers/" + customer, "/owners/1/reason", "holiday", []string{"customer.registered", "customer.ownership_transferred"}},
		{"/v1/customers/" + customer, "/parent/name", "Holding Ltd", []string{"customer.registered", "customer.profile_changed"}},
		{"/v1/opportunities/" + deal, "/weighted", "400", []string{"opportunity.stage_moved", "opportunity.re_estimated"}},
		{"/v1/opportunities/" + deal, "/probability", opportunity["probability"], []string{"opportunity.stage_moved"}},
		{"/v1/opportunities/" + deal, "/visits/1/nextStage", "proposal", []string{"opportunity.stage_moved"}}, // the first visit
		{"/v1/opportunities/" + deal, "/amount", opportunity["amount"], []string{"opportunity.re_estimated"}},
	} {
		var answer query.Explanation
		s.get(c.path+"/explain?field="+url.QueryEscape(c.field), &answer)
		want, err := json.Marshal(c.value)
		if err != nil {
			t.Fatal(err)
		}
		var types []string
		for _, e := range answer.Events {
			types = append(types, e.EventType)
			if e.Actor.ID == "" || e.OccurredAt.IsZero() || e.Summary == "" || string(e.Before) == string(e.After) && len(answer.Events) == 1 {
				t.Errorf("%s: an event does not say who, when and what: %+v", c.field, e)
			}
		}
		if string(answer.Value) != string(want) || string(answer.Recomputed) != string(want) || !slices.Equal(types, c.types) || answer.Formula == "" {
			t.Errorf("%s: %s from %v, want %s from %v", c.field, answer.Value, types, want, c.types)
		}
	}
	p := s.do("GET", "/v1/customers/"+customer+"/explain?field=/profile/nickname", nil).problem(t)
	listed := slices.ContainsFunc(p.Errors, func(e domain.FieldError) bool { return e.Message == "could be /lifetimeValue/*/net" })
	if p.Status != 400 || p.Errors[0].Pointer != "field" || !listed {
		t.Errorf("unknown field: %+v", p)
	}
	var then query.Explanation
	first := s.replayed("/v1/customers/" + customer + "/replay")[0]
	s.get("/v1/customers/"+customer+"/explain?field=/profile/owner&asOf="+first["position"].(string), &then)
	if string(then.Value) != `"ann"` || len(then.Events) != 1 || then.Events[0].EventType != "customer.registered" {
		t.Errorf("as of the beginning: %+v", then)
	}
}
