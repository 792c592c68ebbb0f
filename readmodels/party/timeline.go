package party

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// TimelineEntry is one event of a customer's history. Its row holds facts; Tell puts them into words.
type TimelineEntry struct {
	Tenant        domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	CustomerID    domain.ID     `db:"customer_id,key" json:"customerId" doc:"The customer that the event concerns."`
	OccurredAt    time.Time     `db:"occurred_at,key" json:"occurredAt" doc:"When it happened in the business."`
	Position      int64         `db:"position,key" json:"position" doc:"Place of the event in the log."`
	RecordedAt    time.Time     `db:"recorded_at" json:"recordedAt" doc:"When we learned it."`
	Actor         string        `db:"actor" json:"actor" doc:"Who caused it."`
	ActorKind     string        `db:"actor_kind" json:"actorKind" doc:"human, automation or integration."`
	OnBehalfOf    string        `db:"on_behalf_of" json:"onBehalfOf,omitempty" doc:"Who delegated to the actor; empty when nobody did."`
	EventType     string        `db:"event_type" json:"eventType" doc:"Permanent name of the event."`
	EventID       domain.ID     `db:"event_id" json:"eventId" doc:"The event."`
	Aggregate     string        `db:"aggregate" json:"aggregate" doc:"Kind of what changed: customer, opportunity, order and others."`
	AggregateID   domain.ID     `db:"aggregate_id" json:"aggregateId" doc:"What changed."`
	Revision      int64         `db:"revision" json:"revision" doc:"Revision of the stream of what changed."`
	CorrelationID string        `db:"correlation_id" json:"correlationId,omitempty" doc:"The conversation that the event belongs to."`

	// Members are no sentence, so that words follow the reader's language and rights, and erasure reaches each value.
	Members map[string]string `db:"members" json:"members" personal:"true" of:"customer_id" doc:"Members of the event that its words name, by their path in the event, as text; long texts cut as in the words, of a list its length."`
	Summary string            `db:"-" json:"summary" personal:"true" doc:"The event in words, in the language asked for."`
}

// Tell puts the event into words for a reader.
func (e *TimelineEntry) Tell(words *domain.Phrasebook, r domain.Reader) {
	e.Summary = words.Say(r, e.EventType, e.Members)
}

// Timeline lists what happened to a customer, in words, newest first.
var Timeline = &query.Resource[TimelineEntry]{
	Name: "customerTimeline", Path: "/v1/customers/{id}/timeline", About: "customer", View: "customer_timeline",
	Doc:     "Lists what happened to a customer, in words, newest first.",
	Sort:    "-occurredAt",
	Example: query.Example{Filter: `aggregate == "opportunity"`, Sort: "-position"},
}

// Timelines finds what happened to customers in the read models.
type Timelines struct{ *query.Store }

// CustomerTimeline lists the events of a customer and of all that were merged into it, newest first unless the query sorts
// otherwise: "-occurredAt" by the business, "-position" by when we learned. It is empty for a customer that nothing is
// known of.
func (t Timelines) CustomerTimeline(ctx context.Context, customer domain.ID, q query.Query) (query.List[TimelineEntry], error) {
	reach, err := t.StreamsOf(ctx, query.Views("customer_timeline", "customer"), relatedStreamsSQL, string(t.Tenant()), string(customer))
	if err != nil {
		return query.List[TimelineEntry]{}, err
	}
	var answer query.List[TimelineEntry]
	err = t.Within(ctx, reach, func(from query.Querier) error {
		ids, err := family(ctx, from, t.Tenant(), customer)
		if err != nil {
			return err
		}
		of := query.Scope{SQL: ofFamilySQL, Args: []any{ids}, Type: "uuid[]"}
		if len(ids) == 1 {
			of = query.Scope{SQL: "customer_id = %s", Args: []any{ids[0]}, Type: "uuid"}
		}
		answer, err = Timeline.Page(ctx, t.Store, from, q, of)
		return err
	})
	return answer, err
}

// TimelineEvent returns where an event stands that is in the timeline of a customer, or *domain.NotFoundError.
func (t Timelines) TimelineEvent(ctx context.Context, event domain.ID) (domain.StreamID, uint64, error) {
	entry, _, err := Timeline.One(ctx, t.Store, query.Views(Timeline.View), "event", string(event),
		"tenant = $1 and event_id = $2 limit 1", string(t.Tenant()), string(event))
	return domain.StreamID{Tenant: t.Tenant(), Aggregate: entry.Aggregate, ID: entry.AggregateID}, uint64(entry.Revision), err
}

// ofFamilySQL keeps one row of an event that concerns several customers of a family.
const ofFamilySQL = `customer_id = any(%[1]s) and not exists (
	select from customer_timeline other
	where other.tenant = customer_timeline.tenant and other.occurred_at = customer_timeline.occurred_at
		and other.position = customer_timeline.position and other.customer_id = any(%[1]s) and other.customer_id < customer_timeline.customer_id)`
