package interaction

import (
	"fmt"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// Details is what an interaction was. Empty fields are unknown or do not apply.
type Details struct {
	CustomerID      domain.ID     `json:"customerId,omitempty" required:"true" format:"uuid" zh:"客户" doc:"The customer whom we dealt with." example:"01900000-0000-7000-8000-000000000002"`
	Channel         Channel       `json:"channel,omitempty" required:"true" enum:"phone,fax,e-mail,web,voip,video,im,sms,visit,letter,social,other" zh:"渠道" doc:"The way it took." example:"phone"`
	Direction       Direction     `json:"direction,omitempty" required:"true" enum:"inbound,outbound,internal" zh:"方向" doc:"Whether it came from the customer, went to the customer, or stayed among us." example:"outbound"`
	Participants    []Participant `json:"participants,omitempty" maxItems:"100" zh:"参与者" doc:"Who took part."`
	Subject         string        `json:"subject,omitempty" maxLength:"500" personal:"true" zh:"主题" doc:"What it was about." example:"Offer for the spring order"`
	Body            string        `json:"body,omitempty" maxLength:"65536" personal:"true" zh:"内容" doc:"What was said or written." example:"Wants a discount of five per cent."`
	Outcome         string        `json:"outcome,omitempty" maxLength:"50" zh:"结果" doc:"Short code of what came of it." example:"reached"`
	DurationSeconds int           `json:"durationSeconds,omitempty" minimum:"0" maximum:"2678400" zh:"时长（秒）" doc:"How long it took, in seconds." example:"240"`
	StartedAt       time.Time     `json:"startedAt,omitzero" format:"date-time" zh:"开始时间" doc:"When it began; occurredAt when left out." example:"2026-03-02T09:15:00Z"`
	Campaign        string        `json:"campaign,omitempty" maxLength:"200" zh:"营销活动" doc:"The campaign that it belongs to." example:"spring 2026"`
	RelatesTo       *Reference    `json:"relatesTo,omitempty" zh:"关联对象" doc:"What else it belongs to, such as an opportunity."`
	FollowUpAt      time.Time     `json:"followUpAt,omitzero" format:"date-time" zh:"跟进时间" doc:"When to come back to it, after it began; a reminder follows then." example:"2026-03-02T16:00:00Z"`
}

// Channel is the way that an interaction took.
type Channel string

// Labels implements domain.Labelled.
func (Channel) Labels() domain.Labels { return domain.ChannelLabels }

// Direction says from whom an interaction came.
type Direction string

// The directions of an interaction.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
	Internal Direction = "internal"
)

// Labels implements domain.Labelled.
func (Direction) Labels() domain.Labels { return directionLabels }

var directionLabels = domain.Labels{
	string(Inbound):  {En: "inbound", Zh: "客户发来"},
	string(Outbound): {En: "outbound", Zh: "我方发出"},
	string(Internal): {En: "internal", Zh: "内部"},
}

// Participant is someone who took part.
type Participant struct {
	Kind ParticipantKind `json:"kind" enum:"contact,user,customer" doc:"What the participant is." example:"contact"`
	ID   string          `json:"id" minLength:"1" maxLength:"200" doc:"Id of the contact or customer, or name of the user." example:"01900000-0000-7000-8000-000000000005"`
	Name string          `json:"name,omitempty" maxLength:"200" personal:"true" doc:"Name as it was then." example:"Mara Keller"`
}

// ParticipantKind says what a participant is.
type ParticipantKind string

// The kinds of participant.
const (
	ByContact  ParticipantKind = "contact"
	ByUser     ParticipantKind = "user"
	ByCustomer ParticipantKind = "customer"
)

// Labels implements domain.Labelled.
func (ParticipantKind) Labels() domain.Labels { return participantLabels }

var participantLabels = domain.Labels{
	string(ByContact):  {En: "contact", Zh: "联系人"},
	string(ByUser):     {En: "user", Zh: "用户"},
	string(ByCustomer): {En: "customer", Zh: "客户"},
}

// Reference names another aggregate.
type Reference struct {
	Aggregate string    `json:"aggregate" minLength:"1" maxLength:"32" pattern:"^[a-z][a-z_]*$" doc:"Kind of the aggregate." example:"opportunity"`
	ID        domain.ID `json:"id" format:"uuid" doc:"Its id." example:"01900000-0000-7000-8000-000000000006"`
}

// CustomerFacts is what a decision must know of a customer. The zero value says that there is no such customer.
type CustomerFacts struct {
	Exists     bool
	MergedInto domain.ID // the survivor when the customer was a duplicate
}

// Take copies one field, given by its JSON name, from other details. It reports whether there is such a field.
func (d *Details) Take(field string, from Details) bool { return domain.CopyField(d, field, from) }

// normal gives equal details equal values: times in UTC without a monotonic reading, and no participants as nil. The moment of
// the follow-up has whole microseconds, as domain.DeadlineMove wants.
func (d Details) normal() Details {
	if !d.StartedAt.IsZero() {
		d.StartedAt = d.StartedAt.UTC().Round(0)
	}
	if !d.FollowUpAt.IsZero() {
		d.FollowUpAt = d.FollowUpAt.UTC().Truncate(time.Microsecond)
	}
	if len(d.Participants) == 0 {
		d.Participants = nil
	}
	return d
}

// apply returns the details as the command puts them right.
func (cmd Correct) apply(d Details) (Details, error) {
	if err := domain.Revise(&d, cmd); err != nil {
		return Details{}, err
	}
	return d.normal(), nil
}

// check refuses details that can never be right.
func check(d Details, f domain.Facts) error {
	var faults []domain.FieldError
	fault := func(wrong bool, pointer, template string, values ...any) {
		if wrong {
			faults = append(faults, domain.Fault(pointer, template, values...))
		}
	}
	fault(d.CustomerID == "", "/customerId", "is missing")
	fault(d.Channel == "", "/channel", "is missing")
	fault(d.Direction == "", "/direction", "is missing")
	for i, p := range d.Participants {
		at := fmt.Sprintf("/participants/%d/id", i)
		if p.Kind == ByUser {
			fault(domain.IsBlank(p.ID), at, "is blank")
			continue
		}
		id, err := domain.ParseID(p.ID)
		fault(err != nil || string(id) != p.ID, at, "is not the id of a {kind}", p.Kind)
	}
	fault(d.DurationSeconds < 0, "/durationSeconds", "is negative")
	fault(d.StartedAt.IsZero(), "/startedAt", "is missing")
	fault(d.StartedAt.After(f.Now.Add(ClockSkew)), "/startedAt", "lies in the future")
	fault(!d.FollowUpAt.IsZero() && !d.FollowUpAt.After(d.StartedAt), "/followUpAt", "is not after the interaction began")
	if len(faults) > 0 {
		return &domain.InvalidError{Fields: faults}
	}
	return nil
}
