package query

import (
	"encoding/json"

	"github.com/rapport-crm/rapport/domain"
)

// ReplayEntry is one event as an auditor reads it, and how the record stood after it. It is computed from the log, not
// stored.
type ReplayEntry[S any] struct {
	HistoryEntry
	State S `json:"state" doc:"How the record stood after the event."`
}

// HistoryTooLong refuses to replay or to explain a record that more events concern than a request may fold.
func HistoryTooLong(limit int) *domain.Rejection {
	return domain.Reject("history-too-long", "more than {limit} events concern the record", limit)
}

// TooMuchToExplain refuses an explanation that takes too long to make small.
func TooMuchToExplain(events int) *domain.Rejection {
	return domain.Reject("explanation-too-long", "the value rests on too many of {limit} events", events).At("field")
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
