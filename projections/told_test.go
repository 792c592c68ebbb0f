package projections_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/history"
)

const toldFile = "testdata/history.golden"

// life is a stream of one record: names of events, which stand for their examples, and events.
type life struct {
	name  string // the aggregate and a number
	steps []any
}

// lives are streams in which every event of the aggregates happens, told by its example, to a record that it changes. An
// event stands in place of a name where the example would change nothing. What is new comes behind: an event at the end of a
// life, a life at the end of the list, so that the files of before stay right.
func lives() []life {
	return []life{
		{"customer 1", []any{
			"customer.registered", "customer.profile_changed", "customer.classified", "customer.tagged", "customer.untagged",
			customer.PreferenceSet{Name: "colour", To: "green"}, "customer.preference_set", "customer.preference_dropped",
			"customer.ownership_transferred", "customer.parent_set", "customer.parent_cleared", "customer.commitment_recorded",
			"customer.commitment_kept", "customer.feedback_recorded", "customer.merged", "customer.deactivated", "customer.reactivated",
			"customer.merged_into",
		}},
		{"customer 2", []any{
			customer.Registered{Kind: customer.Group, Profile: customer.Profile{Name: "The Kellers"}}, "customer.owner_assigned",
			"customer.member_added", "customer.member_removed", "customer.commitment_recorded", "customer.commitment_broken",
		}},
		{"contact 1", []any{
			"contact.created", "contact.detail_changed", "contact.customer_linked", "contact.role_changed", "contact.customer_unlinked",
			"contact.related", "contact.unrelated", "contact.deactivated", "contact.reactivated",
		}},
		{"interaction 1", []any{"interaction.logged", "interaction.corrected", "interaction.note_added", "interaction.retracted"}},
		{"product 1", []any{"product.added", "product.updated", "product.price_changed", "product.discontinued", "product.relisted"}},
		{"pipeline 1", []any{"pipeline.defined", "pipeline.revised", "pipeline.retired"}},
		{"opportunity 1", []any{
			"opportunity.opened", "opportunity.updated", "opportunity.qualified", "opportunity.stage_moved", "opportunity.re_estimated",
			"opportunity.rescheduled", "opportunity.line_removed", "opportunity.line_added", "opportunity.line_changed",
			opportunity.StakeholderAdded{ContactID: "0198c0de-0000-7000-8000-000000000004", Role: "influencer"},
			"opportunity.stakeholder_added", "opportunity.stakeholder_removed", "opportunity.assigned",
			opportunity.CustomerLinked{To: number(9, 0xc), Standing: opportunity.Standing{CustomerID: number(9, 0xc)}},
			"opportunity.customer_linked", "opportunity.won", "opportunity.reopened", "opportunity.lost",
		}},
		{"order 1", []any{
			"order.placed", "order.confirmed", "order.delivery_scheduled", "order.production_started", "order.shipped", "order.delivered",
			"order.accepted", "order.payment_received", "order.goods_returned", "order.payment_refunded",
		}},
		{"order 2", []any{"order.placed", "order.cancelled"}},
		{"customer 3", []any{customer.Registered{
			Kind: customer.Person, Profile: customer.Profile{Name: "Mara Keller", BirthDate: "1990-02-28", Gender: "female"},
			Classification: customer.Classification{Occupation: "teacher", AgeBand: "30-39"},
		}}},
		{"order 3", []any{order.Placed{
			Subject: order.Subject{Number: "CN-1", Kind: order.KindCredit, CustomerID: number(9, 0xc)}, Currency: "EUR", Total: amount("-10.50"),
		}}},
		{"order 4", []any{order.Placed{
			Subject: order.Subject{Number: "ADJ-1", Kind: order.KindAdjustment, CustomerID: number(9, 0xc)}, Currency: "EUR", Total: amount("-0.01"),
		}}},
		{"customer 4", []any{"customer.registered", "customer.commitment_recorded", "customer.commitment_overdue"}},
		{"interaction 2", []any{"interaction.logged", "interaction.follow_up_due"}},
	}
}

// TestEveryEventTellsFromWhatToWhat folds those streams and compares what each event changed with a file; -update writes it.
func TestEveryEventTellsFromWhatToWhat(t *testing.T) {
	examples, untold := map[string]domain.Event{}, map[string]bool{}
	for _, d := range definitions() {
		for _, spec := range d.Events {
			examples[spec.Type()], untold[spec.Type()] = spec.Example, true
		}
	}
	var told strings.Builder
	streams := lives()
	slices.SortFunc(streams, func(a, b life) int { return strings.Compare(a.name, b.name) })
	for _, l := range streams {
		name := l.name
		aggregate, _, _ := strings.Cut(name, " ")
		log := newLog()
		for _, step := range l.steps {
			event, own := step.(domain.Event)
			if !own {
				event = examples[step.(string)]
			}
			log.add(aggregate, number(1, 0xa), day("01-01"), event)
		}
		reader, err := history.New(log, nil, projections.All())
		if err != nil {
			t.Fatal(err)
		}
		for entry, err := range reader.Stream(t.Context(), log.events[0].Stream) {
			if err != nil {
				t.Fatal(err)
			}
			if len(entry.Changes) == 0 {
				t.Errorf("%s does not say from what to what", entry.EventType)
			}
			delete(untold, entry.EventType)
			fmt.Fprintf(&told, "%s of %s\n", entry.EventType, name)
			for _, c := range entry.Changes {
				fmt.Fprintf(&told, "\t%s[%s].%s %s → %s\n", c.Record, c.Key, c.Field, c.From, c.To)
			}
		}
	}
	if len(untold) > 0 {
		t.Errorf("no stream of the test has %v", sortedNames(untold))
	}
	if *update {
		if err := os.WriteFile(toldFile, []byte(told.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(toldFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), told.String()); diff != "" {
		t.Errorf("what events change is told otherwise: go test ./projections -run TestEveryEventTells -update\n%s", diff)
	}
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestRowsThatHistoriesTellAreMadeByStreamsAlone: a history folds one stream. A projection whose rows need more than one must
// say that histories do not tell them.
func TestRowsThatHistoriesTellAreMadeByStreamsAlone(t *testing.T) {
	list := compiled(t)
	rapid.Check(t, func(rt *rapid.T) {
		log := randomWorld(rt).log
		streams := map[domain.StreamID][]domain.Recorded{}
		for _, e := range log.events {
			streams[e.Stream] = append(streams[e.Stream], e)
		}
		for _, c := range list {
			if c.Untold {
				continue
			}
			rowsOf := func(events []domain.Recorded) (rows []string) {
				m := c.NewMemory()
				for _, e := range events {
					if err := m.Apply(e); err != nil {
						rt.Fatalf("%s: %v", c, err)
					}
				}
				for _, row := range m.All() {
					text, err := json.Marshal(row)
					if err != nil {
						rt.Fatal(err)
					}
					rows = append(rows, string(text))
				}
				return rows
			}
			var apart []string
			for _, events := range streams {
				apart = append(apart, rowsOf(events)...)
			}
			whole := rowsOf(log.events)
			slices.Sort(apart)
			slices.Sort(whole)
			if diff := cmp.Diff(whole, apart); diff != "" {
				rt.Fatalf("%s: one stream alone does not make its rows; declare it Untold\n%s", c, diff)
			}
		}
	})
}
