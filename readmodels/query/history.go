package query

import (
	"encoding/json"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// HistoryEntry is one event as an auditor reads it: who, when, and what changed from what to what. It is computed from the
// log, not stored. Its words come last: Tell puts them in for the reader who asks.
type HistoryEntry struct {
	Position      domain.Position `json:"position" doc:"Place of the event in the log."`
	EventID       string          `json:"eventId" doc:"The event."`
	EventType     string          `json:"eventType" doc:"Permanent name of the event."`
	Stream        string          `json:"stream" doc:"Stream that the event stands in."`
	Revision      uint64          `json:"revision" doc:"Number of the event in its stream, from 0."`
	OccurredAt    time.Time       `json:"occurredAt" doc:"When it happened in the business."`
	RecordedAt    time.Time       `json:"recordedAt" doc:"When we learned it."`
	Actor         domain.Actor    `json:"actor" doc:"Who caused it."`
	CommandID     string          `json:"commandId" doc:"The command that made it."`
	CorrelationID string          `json:"correlationId" doc:"The conversation that it belongs to."`
	CausationID   string          `json:"causationId" doc:"What caused it: a command or an event."`
	Summary       string          `json:"summary" personal:"true" doc:"The event in words, in the language asked for."`
	Changes       []Change        `json:"changes" doc:"What the event changed in the record of its aggregate."`
	Data          any             `json:"data" doc:"The event's own members."`
}

// Tell puts the event into words for a reader.
func (e *HistoryEntry) Tell(words *domain.Phrasebook, r domain.Reader) {
	if event, ok := e.Data.(domain.Event); ok {
		e.Summary = words.Tell(r, event)
	}
}

// Change is one field of a record before and after an event.
type Change struct {
	Record string          `json:"record" doc:"The read model whose row changed."`
	Key    string          `json:"key,omitempty" doc:"Which row of the aggregate, where it can have several: the columns of the row's key, without the aggregate's id."`
	Field  string          `json:"field" doc:"The field."`
	From   json.RawMessage `json:"from,omitempty" doc:"The value before; absent when there was none."`
	To     json.RawMessage `json:"to,omitempty" doc:"The value after; absent when there is none."`
}
