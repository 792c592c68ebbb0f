package codec

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/rapport-crm/rapport/domain"
)

// metadata is the stored form of domain.Metadata. The names with a dollar sign are those that EventStoreDB's own tools
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

// legacyEmpty has the option omitempty mean what it means in encoding/json: it leaves out 0 and false, and keeps a pointer to
// an empty string. It is also the cheaper meaning: whether a field is left out is known before it is encoded.
var legacyEmpty = jsonv1.OmitEmptyWithLegacySemantics(true)

// encoding makes the same bytes for the same event: map members sorted, times in UTC.
var encoding = json.JoinOptions(
	json.Deterministic(true),
	legacyEmpty,
	json.WithMarshalers(json.MarshalFunc(func(t time.Time) ([]byte, error) {
		b := make([]byte, 0, len(time.RFC3339Nano)+2)
		b = append(b, '"')
		b, err := t.UTC().AppendText(b)
		return append(b, '"'), err
	})),
)

func encodeMetadata(m domain.Metadata) ([]byte, error) {
	if err := checkMetadata(m); err != nil {
		return nil, err
	}
	return json.Marshal(&metadata{ // a pointer: Marshal copies what is none
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
	}, legacyEmpty)
}

func decodeMetadata(b []byte) (domain.Metadata, error) {
	var m metadata
	if err := json.Unmarshal(b, &m); err != nil {
		return domain.Metadata{}, err
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
	if err := checkMetadata(out); err != nil {
		return domain.Metadata{}, err
	}
	switch string(m.Sealed) {
	case "", "null", "{}", "[]":
		return out, nil
	}
	return out, ErrSealed
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
