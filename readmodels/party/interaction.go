package party

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// The states of an interaction.
const (
	InteractionLogged    = "logged"
	InteractionRetracted = "retracted" // there was none; it counts nowhere
)

// Interaction is one dealing with a customer, with its corrections applied.
type Interaction struct {
	Tenant             domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID                 domain.ID     `db:"id,key" json:"id" element:"key" doc:"The interaction."`
	CustomerID         *domain.ID    `db:"customer_id" json:"customerId,omitempty" doc:"The customer whom we dealt with."`
	Channel            string        `db:"channel" json:"channel" doc:"The way it took: phone, e-mail, visit and others."`
	Direction          string        `db:"direction" json:"direction" doc:"inbound, outbound or internal."`
	Participants       []Participant `db:"participants" json:"participants" personal:"true" of:"customer_id" doc:"Who took part: a JSON array of kind, id, name."`
	Subject            string        `db:"subject" json:"subject,omitempty" personal:"true" of:"customer_id" doc:"What it was about."`
	Body               string        `db:"body" json:"body,omitempty" sort:"-" personal:"true" of:"customer_id" doc:"What was said or written."`
	Outcome            string        `db:"outcome" json:"outcome,omitempty" doc:"Short code of what came of it."`
	DurationSeconds    int64         `db:"duration_seconds" json:"durationSeconds,omitempty" doc:"How long it took, in seconds; 0 when unknown."`
	StartedAt          time.Time     `db:"started_at" json:"startedAt" doc:"When it began."`
	Campaign           string        `db:"campaign" json:"campaign,omitempty" doc:"The campaign that it belongs to."`
	RelatesToAggregate string        `db:"relates_to_aggregate" json:"relatesToAggregate,omitempty" member:"relatesTo.aggregate" doc:"Kind of what else it belongs to, such as opportunity."`
	RelatesToID        *domain.ID    `db:"relates_to_id" json:"relatesToId,omitempty" member:"relatesTo.id" doc:"Id of what else it belongs to."`
	FollowUpAt         *time.Time    `db:"follow_up_at" json:"followUpAt,omitempty" doc:"When to come back to it; null when it needs no follow-up."`
	RemindedAt         *time.Time    `db:"reminded_at" json:"remindedAt,omitempty" doc:"The last moment of a follow-up that had come; null when none has."`
	Notes              []Note        `db:"notes" json:"notes" personal:"true" of:"customer_id" doc:"Remarks in order: a JSON array of text, by, at."`
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

// Interactions lists dealings with customers, retracted ones included.
var Interactions = &query.Resource[Interaction]{
	Name: "interactions", Path: "/v1/interactions", About: "interaction", View: "interaction",
	Doc:  "Lists dealings with customers, retracted ones included.",
	Sort: "-startedAt",
	Indexes: []query.Index{
		{Name: "customer", Columns: "tenant, customer_id, started_at desc, id"},
		{Name: "started", Columns: "tenant, started_at desc, id desc"},
		{Name: "relates_to", Columns: "tenant, relates_to_id", Where: "relates_to_id is not null"},
	},
	Example: query.Example{Filter: `channel == "phone" && status == "logged"`, Sort: "-startedAt"},
}

// InteractionRecord is one dealing with a customer.
var InteractionRecord = &query.Record[Interaction]{
	Name: "interaction", Path: "/v1/interactions/{id}", Aggregate: "interaction",
	Doc:   "Returns one dealing with a customer.",
	Words: "a dealing with a customer", Explains: "/subject",
	Row: query.Itself(Interactions),
}
