package codec

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/rapport-crm/rapport/domain"
)

// metadata is the stored form of domain.Metadata, as it is read; encodeMetadata writes it. The names with a dollar sign are those that EventStoreDB's own tools
// know.
type metadata struct {
	Schema        int            `json:"schema"`
	Tenant        domain.Tenant  `json:"tenant"`
	Actor         domain.Actor   `json:"actor"`
	CorrelationID string         `json:"$correlationId,omitempty"`
	CausationID   string         `json:"$causationId,omitempty"`
	CommandID     string         `json:"commandId,omitempty"`
	Fingerprint   string         `json:"fingerprint,omitempty"`
	OccurredAt    time.Time      `json:"occurredAt"`
	RecordedAt    time.Time      `json:"recordedAt"`
	Subjects      []domain.ID    `json:"subjects,omitempty"`
	TraceParent   string         `json:"traceparent,omitempty"`
	Sealed        jsontext.Value `json:"sealed,omitempty"` // reserved for encrypted personal fields
}

// encoding makes the same bytes for the same event: map members sorted, times in UTC. The option omitempty means what it
// means in encoding/json: it leaves out 0 and false, and keeps a pointer to an empty string.
var encoding = json.JoinOptions(
	json.Deterministic(true),
	jsonv1.OmitEmptyWithLegacySemantics(true),
	json.WithMarshalers(json.MarshalFunc(func(t time.Time) ([]byte, error) {
		return appendTime(make([]byte, 0, len(time.RFC3339Nano)+2), t)
	})),
)

func encodeMetadata(m domain.Metadata) ([]byte, error) {
	if err := checkMetadata(m); err != nil {
		return nil, err
	}
	w := writer{buf: make([]byte, 0, usualMetadata)}
	w.raw(`{"schema":`)
	w.buf = strconv.AppendInt(w.buf, int64(m.Schema), 10)
	w.text(`,"tenant":`, string(m.Tenant))
	w.text(`,"actor":{"id":`, m.Actor.ID)
	w.text(`,"kind":`, string(m.Actor.Kind))
	w.optional(`,"onBehalfOf":`, m.Actor.OnBehalfOf)
	w.raw(`}`)
	w.optional(`,"$correlationId":`, m.CorrelationID)
	w.optional(`,"$causationId":`, m.CausationID)
	w.optional(`,"commandId":`, m.CommandID)
	w.optional(`,"fingerprint":`, m.Fingerprint)
	w.time(`,"occurredAt":`, m.OccurredAt)
	w.time(`,"recordedAt":`, m.RecordedAt)
	for i, id := range m.Subjects {
		before := `,`
		if i == 0 {
			before = `,"subjects":[`
		}
		w.text(before, string(id))
	}
	if len(m.Subjects) > 0 {
		w.raw(`]`)
	}
	w.optional(`,"traceparent":`, m.TraceParent)
	w.raw(`}`)
	return w.buf, w.err
}

// usualMetadata is the size in bytes for which encodeMetadata makes room.
const usualMetadata = 640

// writer writes a known object member by member, in half the time of the JSON package: every event has its metadata.
type writer struct {
	buf []byte
	err error // the first
}

func (w *writer) raw(s string) { w.buf = append(w.buf, s...) }

func (w *writer) text(before, value string) {
	w.raw(before)
	var err error
	if w.buf, err = jsontext.AppendQuote(w.buf, value); w.err == nil {
		w.err = err
	}
}

// optional leaves an empty text out.
func (w *writer) optional(before, value string) {
	if value != "" {
		w.text(before, value)
	}
}

func (w *writer) time(before string, t time.Time) {
	w.raw(before)
	var err error
	if w.buf, err = appendTime(w.buf, t); w.err == nil {
		w.err = err
	}
}

// appendTime appends a time in UTC as JSON. It returns an error for a year that RFC 3339 does not have.
func appendTime(b []byte, t time.Time) ([]byte, error) {
	b, err := t.UTC().AppendText(append(b, '"'))
	return append(b, '"'), err
}

func decodeMetadata(b []byte) (domain.Metadata, error) {
	var m metadata
	if err := json.Unmarshal(b, &m); err != nil {
		return domain.Metadata{}, err
	}
	switch string(m.Sealed) {
	case "", "null", "{}", "[]":
	default:
		return domain.Metadata{}, errors.New("personal fields are sealed and this version has no keys to open them")
	}
	out := domain.Metadata{
		Schema:        m.Schema,
		Tenant:        m.Tenant,
		Actor:         m.Actor,
		CorrelationID: m.CorrelationID,
		CausationID:   m.CausationID,
		CommandID:     m.CommandID,
		Fingerprint:   m.Fingerprint,
		OccurredAt:    m.OccurredAt.UTC(),
		RecordedAt:    m.RecordedAt.UTC(),
		Subjects:      m.Subjects,
		TraceParent:   m.TraceParent,
	}
	return out, checkMetadata(out)
}

// checkMetadata holds for every event, on its way in and on its way out.
func checkMetadata(m domain.Metadata) error {
	switch {
	case m.Schema < 1:
		return fmt.Errorf("schema %d is not a schema", m.Schema)
	case m.Tenant == "":
		return errors.New("no tenant")
	case m.Actor.ID == "":
		return errors.New("no actor")
	case m.OccurredAt.IsZero():
		return errors.New("no time of occurrence")
	case m.RecordedAt.IsZero():
		return errors.New("no time of recording")
	}
	switch m.Actor.Kind {
	case domain.ActorHuman, domain.ActorAutomation, domain.ActorIntegration:
		return nil
	}
	return fmt.Errorf("actor kind %q is not a kind", m.Actor.Kind)
}
