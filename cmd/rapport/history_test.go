package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/readmodels/query"
)

// TestHistoryOfMergedCustomers tells what happened to two customers that turned out to be one, and to all that is linked
// to them: who, what, and what changed from what to what.
func TestHistoryOfMergedCustomers(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var last receipt
	do := func(path, key, body string) string {
		t.Helper()
		r, err := command(t.Context(), s.url, path, key, body)
		if err != nil {
			t.Fatal(err)
		}
		last = r
		return string(r.ID)
	}
	anvil := do("/v1/customers", "1", `{"kind":"company","name":"Anvil Works","owner":"ann"}`)
	double := do("/v1/customers", "2", `{"kind":"company","name":"Anvil Wroks"}`)
	contact := do("/v1/contacts", "3", `{"givenName":"Mara","familyName":"Keller","links":[{"customerId":"`+double+`","role":"buyer"}]}`)
	deal := do("/v1/opportunities", "4", `{"name":"Forge","customerId":"`+anvil+`","owner":"ann","amount":{"amount":"900.50","currency":"EUR"}}`)
	do("/v1/opportunities/"+deal+"/move-stage", "5", `{"stage":"engaging"}`)
	do("/v1/opportunities/"+deal+"/win", "6", `{"amount":{"amount":"1000","currency":"EUR"}}`)
	order := do("/v1/orders", "7", `{"number":"SO-1","customerId":"`+double+`","currency":"EUR","lines":[{"productCode":"A","quantity":"2","unitPrice":"500"}]}`)
	do("/v1/customers/"+anvil+"/transfer-ownership", "8", `{"to":"bob","reason":"holiday"}`)
	do("/v1/customers/"+anvil+"/merge", "9", `{"duplicateId":"`+double+`","reason":"same company"}`)

	// What becomes of a few fields, in the order of the log.
	told := []string{"customer.name", "customer.owner", "customer.mergedInto", "contact.familyName", "opportunity.stage", "opportunity.status", "opportunity.amount", "sales_order.total", "sales_order.status"}
	names := strings.NewReplacer(anvil, "anvil", double, "double", contact, "contact", deal, "deal", order, "order")
	history := func(id string) (lines []string) {
		t.Helper()
		for _, e := range get[list[query.HistoryEntry]](s, "/v1/customers/"+id+"/history", "minPosition", last.Position.String(), "limit", "200").Items {
			if e.Actor.ID == "" || e.OccurredAt.IsZero() || e.RecordedAt.Before(e.OccurredAt) || e.Summary == "" || e.CommandID == "" {
				t.Errorf("an entry does not say who and when: %+v", e)
			}
			line := e.EventType + " of " + names.Replace(strings.SplitN(e.Stream, "-", 2)[1])
			for _, c := range e.Changes {
				if slices.Contains(told, c.Record+"."+c.Field) {
					line += ", " + c.Field + " " + string(c.From) + "→" + string(c.To)
				}
			}
			lines = append(lines, names.Replace(line))
		}
		return lines
	}
	want := []string{
		`customer.registered of anvil, name →"Anvil Works", owner →"ann"`,
		`customer.registered of double, name →"Anvil Wroks"`,
		`contact.created of contact, familyName →"Keller"`,
		`contact.customer_linked of contact`,
		`opportunity.opened of deal, amount →"900.5", stage →"prospecting", status →"open"`,
		`opportunity.stage_moved of deal, stage "prospecting"→"engaging"`,
		`opportunity.won of deal, amount "900.5"→"1000", status "open"→"won"`,
		`order.placed of order, status →"placed", total →"1000"`,
		`customer.ownership_transferred of anvil, owner "ann"→"bob"`,
		`customer.merged of anvil`,
		`customer.merged_into of double, mergedInto →"anvil"`,
	}
	if diff := cmp.Diff(want, history(anvil)); diff != "" {
		t.Errorf("history of the customer that stayed: %s", diff)
	}
}
