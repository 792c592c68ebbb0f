package readmodels

import (
	"context"
	"encoding/json"

	"github.com/rapport-crm/rapport/domain"
)

// Bounds of the lists in a 360° view, for whoever assembles one from rows in memory.
const (
	Related360      = maxRelated
	Interactions360 = recentInteractions
)

// ReplayEntry is one event as an auditor reads it, and how the record stood after it. It is computed from the log, not
// stored.
type ReplayEntry[S any] struct {
	HistoryEntry
	State S `json:"state" doc:"How the record stood after the event."`
}

// OpenValue sums the open opportunities of a customer in one currency.
type OpenValue struct {
	Currency      string        `json:"currency" doc:"ISO 4217 code; empty for opportunities that nobody estimated."`
	Opportunities int64         `json:"opportunities" doc:"Number of open opportunities."`
	Amount        domain.Amount `json:"amount" doc:"Sum of their estimated values."`
	Weighted      domain.Amount `json:"weighted" doc:"Sum of amount times probability."`
}

// Weighted returns the amount times the probability; nil for an opportunity that nobody estimated.
func (o Opportunity) Weighted() *domain.Amount {
	if o.Amount == nil {
		return nil
	}
	weighted := domain.NewAmount(o.Amount.Mul(percent(o.Probability)))
	return &weighted
}

// HistoryTooLong refuses to replay or to explain a record that more events concern than a request may fold.
func HistoryTooLong(limit int) *domain.Rejection {
	return domain.Reject("history-too-long", "more than %d events concern the record", limit)
}

// TooMuchToExplain refuses an explanation that takes too long to make small.
func TooMuchToExplain(events int) *domain.Rejection {
	return domain.Reject("explanation-too-long", "the value rests on too many of %d events", events).At("field")
}

// Explanation says which events gave a value, and computes it again from these alone: without any one of them it would be
// another. It is computed from the log, not stored.
type Explanation struct {
	Field      string           `json:"field" doc:"JSON pointer of the value; elements of lists are named by what identifies them."`
	Value      json.RawMessage  `json:"value" doc:"The value; null when there is none."`
	Recomputed json.RawMessage  `json:"recomputed" doc:"The value computed from the events below alone: the same."`
	Formula    string           `json:"formula" doc:"How the value follows from the events."`
	Considered int              `json:"considered" doc:"Number of events that could have mattered."`
	Events     []ExplainedEvent `json:"events" doc:"The events that gave the value, in order; without any one of them it would be another. Empty for a value that is so without any event."`
	Position   domain.Position  `json:"position" doc:"Place in the log that the answer reflects."`
}

// ExplainedEvent is an event that a value rests on.
type ExplainedEvent struct {
	HistoryEntry
	Before json.RawMessage `json:"before" doc:"The value computed from the events listed before this one; null for none."`
	After  json.RawMessage `json:"after" doc:"The value with this event; null for none."`
}

// CustomerStreams returns every stream that ever said something of a customer, of those that were merged into it or that it
// was merged into, or of their relatives, and a position up to which none is missing; as of the past that is at least the
// store's moment.
func (s *Store) CustomerStreams(ctx context.Context, tenant domain.Tenant, customer domain.ID) ([]domain.StreamID, domain.Position, error) {
	if s.moment != nil {
		if err := s.WaitFor(ctx, s.moment.Position); err != nil {
			return nil, domain.Position{}, err
		}
	}
	at, err := s.Position(ctx)
	if err != nil {
		return nil, at, err
	}
	streams, err := s.streams(ctx, tenant, relatedStreamsSQL, string(tenant), string(customer))
	return streams, at, err
}
