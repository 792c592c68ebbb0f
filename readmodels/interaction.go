package readmodels

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// The states of an interaction.
const (
	InteractionLogged    = "logged"
	InteractionRetracted = "retracted" // there was none; it counts nowhere
)

// Interaction is one dealing with a customer, with its corrections applied.
type Interaction struct {
	Tenant             domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID                 domain.ID     `db:"id,key" json:"id" doc:"The interaction."`
	CustomerID         *domain.ID    `db:"customer_id" json:"customerId,omitempty" doc:"The customer whom we dealt with."`
	Channel            string        `db:"channel" json:"channel" doc:"The way it took: phone, e-mail, visit and others."`
	Direction          string        `db:"direction" json:"direction" doc:"inbound, outbound or internal."`
	Participants       []Participant `db:"participants" json:"participants" doc:"Who took part: a JSON array of kind, id, name."`
	Subject            string        `db:"subject" json:"subject,omitempty" doc:"What it was about."`
	Body               string        `db:"body" json:"body,omitempty" sort:"-" doc:"What was said or written."`
	Outcome            string        `db:"outcome" json:"outcome,omitempty" doc:"Short code of what came of it."`
	DurationSeconds    int64         `db:"duration_seconds" json:"durationSeconds,omitempty" doc:"How long it took, in seconds; 0 when unknown."`
	StartedAt          time.Time     `db:"started_at" json:"startedAt" doc:"When it began."`
	Campaign           string        `db:"campaign" json:"campaign,omitempty" doc:"The campaign that it belongs to."`
	RelatesToAggregate string        `db:"relates_to_aggregate" json:"relatesToAggregate,omitempty" doc:"Kind of what else it belongs to, such as opportunity."`
	RelatesToID        *domain.ID    `db:"relates_to_id" json:"relatesToId,omitempty" doc:"Id of what else it belongs to."`
	Notes              []Note        `db:"notes" json:"notes" doc:"Remarks in order: a JSON array of text, by, at."`
	Actor              string        `db:"actor" json:"actor" doc:"Who logged it."`
	Status             string        `db:"status" json:"status" doc:"logged, or retracted when there was no such interaction."`
	Corrections        int64         `db:"corrections" json:"corrections,omitempty" doc:"Number of fields corrected since."`
	RecordedAt         time.Time     `db:"recorded_at" json:"recordedAt" doc:"When we learned of it."`
	Revision           int64         `db:"revision" json:"revision" doc:"Revision of the interaction's own stream."`
	Position           int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// Participant is someone who took part in an interaction.
type Participant struct {
	Kind string `json:"kind" doc:"contact, user or customer."`
	ID   string `json:"id" doc:"Id of the contact or customer, or name of the user."`
	Name string `json:"name,omitempty" doc:"Name as it was then."`
}

// Note is a remark on an interaction.
type Note struct {
	Text string    `json:"text" doc:"The remark."`
	By   string    `json:"by" doc:"Who made it."`
	At   time.Time `json:"at" doc:"When."`
}

var interactions = newResource[Interaction]("interaction", "-startedAt")

// Interactions lists interactions, retracted ones included.
func (s *Store) Interactions(ctx context.Context, tenant domain.Tenant, q Query) (Page[Interaction], error) {
	return list(ctx, s, interactions, tenant, q)
}

// Interaction returns one interaction, or a *domain.NotFoundError.
func (s *Store) Interaction(ctx context.Context, tenant domain.Tenant, id domain.ID) (Interaction, domain.Position, error) {
	return one(ctx, s, interactions, tenant, recordOf(tenant, "interaction", id, "interaction"), "interaction", string(id), "tenant = $1 and id = $2", string(tenant), string(id))
}
