package interaction

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// Log records an interaction.
type Log struct {
	domain.When
	Details

	Customer CustomerFacts `json:"-"` // the customer that CustomerID names
}

// Correct puts right what was recorded wrongly. Fields left out stay as they are; an empty text, list or a 0 empties the
// field.
type Correct struct {
	domain.When
	CustomerID      *domain.ID     `json:"customerId,omitempty" format:"uuid" doc:"The customer whom we dealt with." example:"01900000-0000-7000-8000-000000000002"`
	Channel         *Channel       `json:"channel,omitempty" enum:"phone,fax,e-mail,web,voip,video,im,sms,visit,letter,social,other" doc:"The way it took." example:"visit"`
	Direction       *Direction     `json:"direction,omitempty" enum:"inbound,outbound,internal" doc:"Whether it came from the customer, went to the customer, or stayed among us." example:"inbound"`
	Participants    *[]Participant `json:"participants,omitempty" maxItems:"100" doc:"Who took part, as a whole."`
	Subject         *string        `json:"subject,omitempty" maxLength:"500" personal:"true" doc:"What it was about." example:"Offer for the summer order"`
	Body            *string        `json:"body,omitempty" maxLength:"65536" personal:"true" doc:"What was said or written." example:"Wants a discount of three per cent."`
	Outcome         *string        `json:"outcome,omitempty" maxLength:"50" doc:"Short code of what came of it." example:"yes"`
	DurationSeconds *int           `json:"durationSeconds,omitempty" minimum:"0" maximum:"2678400" doc:"How long it took, in seconds." example:"300"`
	StartedAt       *time.Time     `json:"startedAt,omitempty" format:"date-time" doc:"When it began." example:"2026-03-02T09:10:00Z"`
	Campaign        *string        `json:"campaign,omitempty" maxLength:"200" doc:"The campaign that it belongs to." example:"summer 2026"`
	RelatesTo       *Reference     `json:"relatesTo,omitempty" doc:"What else it belongs to, such as an opportunity. Emptied through clear."`
	FollowUpAt      *time.Time     `json:"followUpAt,omitempty" format:"date-time" doc:"When to come back to it. A moment later than the last reminder brings another one." example:"2026-03-10T09:00:00Z"`
	Clear           []string       `json:"clear,omitempty" maxItems:"12" doc:"Names of fields to empty." example:"[\"relatesTo\"]"`
	Reason          string         `json:"reason" minLength:"1" maxLength:"1000" doc:"Why it is corrected." example:"mixed up two calls"`

	Customer CustomerFacts `json:"-"` // the customer that CustomerID names; not read when CustomerID is nil
}

// AddNote adds a remark.
type AddNote struct {
	domain.When
	Text string `json:"text" minLength:"1" maxLength:"10000" personal:"true" doc:"The remark." example:"Call again on Friday."`
}

// Retract says that the record is wrong as a whole: there was no such interaction.
type Retract struct {
	domain.When
	Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why it is retracted." example:"entered twice"`
}

// MarkFollowUpDue says that the moment to come back to the interaction has come. The clock gives it.
type MarkFollowUpDue struct {
	domain.When
	FollowUpAt time.Time `json:"followUpAt" format:"date-time" doc:"The moment, as the interaction has it." example:"2026-03-02T16:00:00Z"`
}

// CommandType implements domain.Command; so do those that follow.
func (Log) CommandType() string             { return "interaction.log" }
func (Correct) CommandType() string         { return "interaction.correct" }
func (AddNote) CommandType() string         { return "interaction.add_note" }
func (Retract) CommandType() string         { return "interaction.retract" }
func (MarkFollowUpDue) CommandType() string { return "interaction.mark_follow_up_due" }
