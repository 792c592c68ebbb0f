package party

import (
	"fmt"
	"slices"
	"sync"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/party"
)

// timelineOf are the aggregates whose events concern customers.
var timelineOf = slices.DeleteFunc(aggregates.All(), func(d domain.Definition) bool { return !d.Concerns })

// timelineWords compiles the words of their events once. A declaration that does not fit its event is a mistake of the
// program, which every test of the declarations finds.
var timelineWords = sync.OnceValue(func() *domain.Phrasebook {
	words, err := domain.NewPhrasebook(timelineOf...)
	if err != nil {
		panic(fmt.Sprintf("projections: the words of events: %v", err))
	}
	return words
})

// CustomerTimeline keeps every event of every customer: one row for each customer that an event concerns. A row holds the
// members that the event's words name, not the words: who reads has a language and rights, and may lose the right to a
// personal member, or the member may be erased, while a sentence could only be kept or dropped as a whole.
var CustomerTimeline = projection.Append[party.TimelineEntry]{
	Name: "customer_timeline", Version: 3,
	Doc:    "Every event that concerns a customer: the customer's own, and those of its contacts, interactions, opportunities and orders.",
	Events: prefixes(timelineOf),
	Untold: true,
	Rows: func(e domain.Recorded) []party.TimelineEntry {
		if len(e.Subjects) == 0 {
			return nil
		}
		members := timelineWords().Members(e.Event)
		rows := make([]party.TimelineEntry, len(e.Subjects))
		for i, customer := range e.Subjects {
			rows[i] = party.TimelineEntry{
				Tenant: e.Tenant, CustomerID: customer, Position: e.Position.Order(), OccurredAt: e.OccurredAt,
				RecordedAt: e.RecordedAt, Actor: e.Actor.ID, ActorKind: string(e.Actor.Kind), OnBehalfOf: e.Actor.OnBehalfOf,
				EventType: e.Type(), EventID: domain.ID(e.ID), Aggregate: e.Stream.Aggregate, AggregateID: e.Stream.ID,
				Revision: int64(e.Revision), CorrelationID: e.CorrelationID, Members: members,
			}
		}
		return rows
	},
}

// prefixes returns what the names of the aggregates' events begin with.
func prefixes(definitions []domain.Definition) []string {
	list := make([]string, len(definitions))
	for i, d := range definitions {
		list[i] = d.Name + "."
	}
	return list
}
