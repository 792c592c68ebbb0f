package readmodels

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
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
	Members map[string]string `db:"members" json:"members" personal:"true" doc:"Members of the event that its words name, by their path in the event, as text; long texts cut as in the words, of a list its length."`
	Summary string            `db:"-" json:"summary" personal:"true" doc:"The event in words, in the language asked for."`
}

// Tell puts the event into words for a reader.
func (e *TimelineEntry) Tell(words *domain.Phrasebook, r domain.Reader) {
	e.Summary = words.Say(r, e.EventType, e.Members)
}

var timeline = newResource[TimelineEntry]("customer_timeline", "-occurredAt")

// CustomerTimeline lists the events of a customer and of all that were merged into it, newest first unless the query sorts
// otherwise: "-occurredAt" by the business, "-position" by when we learned. It is empty for a customer that nothing is
// known of.
func (s *Store) CustomerTimeline(ctx context.Context, tenant domain.Tenant, customer domain.ID, q Query) (Page[TimelineEntry], error) {
	reach, err := s.streamsOf(ctx, views("customer_timeline", "customer"), tenant, relatedStreamsSQL, string(tenant), string(customer))
	if err != nil {
		return Page[TimelineEntry]{}, err
	}
	var answer Page[TimelineEntry]
	err = s.within(ctx, tenant, reach, func(from Querier) error {
		ids, err := family(ctx, from, tenant, customer)
		if err != nil {
			return err
		}
		of := scope{sql: ofFamilySQL, args: []any{ids}, typ: "uuid[]"}
		if len(ids) == 1 {
			of = scope{sql: "customer_id = %s", args: []any{ids[0]}, typ: "uuid"}
		}
		answer, err = page(ctx, s, from, timeline, tenant, q, of)
		return err
	})
	return answer, err
}

const timelineEventSQL = `select aggregate, aggregate_id::text, revision from customer_timeline where tenant = $1 and event_id = $2 limit 1`

// TimelineEvent returns where an event stands that is in the timeline of a customer, or *domain.NotFoundError.
func (s *Store) TimelineEvent(ctx context.Context, tenant domain.Tenant, event domain.ID) (stream domain.StreamID, revision uint64, err error) {
	stream.Tenant = tenant
	var at int64
	err = s.whenBuilt(ctx, func() error {
		return s.pool.QueryRow(ctx, timelineEventSQL, string(tenant), string(event)).Scan(&stream.Aggregate, (*string)(&stream.ID), &at)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return stream, 0, &domain.NotFoundError{Kind: "event", ID: string(event)}
	}
	return stream, uint64(at), unavailable(err)
}

// ofFamilySQL keeps one row of an event that concerns several customers of a family.
const ofFamilySQL = `customer_id = any(%[1]s) and not exists (
	select from customer_timeline other
	where other.tenant = customer_timeline.tenant and other.occurred_at = customer_timeline.occurred_at
		and other.position = customer_timeline.position and other.customer_id = any(%[1]s) and other.customer_id < customer_timeline.customer_id)`
