package projections

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels"
)

// CustomerTimeline keeps every event of every customer in words: one row for each customer that an event concerns.
var CustomerTimeline = projection.Append[readmodels.TimelineEntry]{
	Name: "customer_timeline", Version: 2,
	Doc:    "Every event that concerns a customer, in words: the customer's own, and those of its contacts, interactions, opportunities and orders.",
	Events: []string{"customer.", "contact.", "interaction.", "opportunity.", "order."},
	Rows: func(e domain.Recorded) []readmodels.TimelineEntry {
		if len(e.Subjects) == 0 {
			return nil
		}
		summary := Words(e.Event)
		rows := make([]readmodels.TimelineEntry, len(e.Subjects))
		for i, customer := range e.Subjects {
			rows[i] = readmodels.TimelineEntry{
				Tenant: e.Tenant, CustomerID: customer, Position: e.Position.Order(), OccurredAt: e.OccurredAt,
				RecordedAt: e.RecordedAt, Actor: e.Actor.ID, ActorKind: string(e.Actor.Kind), OnBehalfOf: e.Actor.OnBehalfOf,
				EventType: e.Type(), EventID: domain.ID(e.ID), Aggregate: e.Stream.Aggregate, AggregateID: e.Stream.ID,
				Revision: int64(e.Revision), CorrelationID: e.CorrelationID, Summary: summary,
			}
		}
		return rows
	},
}
