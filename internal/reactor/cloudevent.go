package reactor

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/rapport-crm/rapport/internal/bus"
)

// Forms of what stands in published events.
const (
	sourcePrefix  = "urn:uuid:" // and the identity of the log
	schemaPrefix  = "https://github.com/rapport-crm/rapport/blob/main/docs/events/schemas/"
	contentHeader = "content-type"
	traceHeader   = "traceparent"
)

// cloudEvent makes the message of an event: CloudEvents 1.0 in structured JSON. The payload is the one stored, in the
// schema that dataschema names.
func cloudEvent(logID string, item *bus.Item) (*bus.Outgoing, error) {
	raw, e := &item.Raw, &item.Event
	ce := event.New(event.CloudEventsVersionV1)
	ce.SetID(raw.ID)
	ce.SetSource(sourcePrefix + logID)
	ce.SetType(raw.Type)
	ce.SetSubject(raw.Stream)
	ce.SetTime(e.OccurredAt)
	ce.SetDataSchema(schemaPrefix + raw.Type + "." + strconv.Itoa(e.Schema) + ".json")
	for _, x := range []struct{ name, value string }{
		{"position", raw.Position.String()},
		{"revision", strconv.FormatUint(raw.Revision, 10)},
		{"recordedtime", e.RecordedAt.UTC().Format(timeFormat)},
		{"correlationid", e.CorrelationID},
		{"causationid", e.CausationID},
		{"tenant", string(e.Tenant)},
		{"actor", e.Actor.ID},
		{"actorkind", string(e.Actor.Kind)},
		{"onbehalfof", e.Actor.OnBehalfOf},
		{traceHeader, e.TraceParent},
	} {
		if x.value != "" { // an empty attribute is none
			ce.SetExtension(x.name, x.value)
		}
	}
	if err := ce.SetData(event.ApplicationJSON, json.RawMessage(raw.Data)); err != nil {
		return nil, fmt.Errorf("event %s: %w", raw.ID, err)
	}
	if err := ce.Validate(); err != nil {
		return nil, fmt.Errorf("event %s is no CloudEvent: %w", raw.ID, err)
	}
	body, err := json.Marshal(ce)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", raw.ID, err)
	}
	headers := map[string]string{contentHeader: event.ApplicationCloudEventsJSON}
	if e.TraceParent != "" {
		headers[traceHeader] = e.TraceParent
	}
	return &bus.Outgoing{ID: raw.ID, Topic: string(e.Tenant) + "." + raw.Type, Key: raw.Stream, Headers: headers, Body: body}, nil
}

// timeFormat is RFC 3339 as precise as needed.
const timeFormat = "2006-01-02T15:04:05.999999999Z07:00"
