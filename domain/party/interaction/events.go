package interaction

import "time"

// Logged says that an interaction took place.
type Logged struct {
	Details
}

// Corrected says that one field of the record was wrong. There is one event per field; From and To are details in which
// only that field stands (absent: it was, or is now, empty), so that every value keeps its type and readers find it as
// from[field] and to[field]. Details.Take folds them all alike.
type Corrected struct {
	Field  string  `json:"field" doc:"The field's name in from and to."`
	From   Details `json:"from" doc:"The field as recorded before; an empty object when it was empty."`
	To     Details `json:"to" doc:"The field as it should have been; an empty object when it should be empty."`
	Reason string  `json:"reason" doc:"Why it was corrected."`
}

// NoteAdded says that someone added a remark.
type NoteAdded struct {
	Text string `json:"text" personal:"true" doc:"The remark."`
}

// Retracted says that there was no such interaction. It repeats the record as it stood, so that sums over interactions
// can take it out again.
type Retracted struct {
	Details Details `json:"details" doc:"The record as it stood."`
	Reason  string  `json:"reason" doc:"Why it was retracted."`
}

// FollowUpDue says that the moment to come back to the interaction has come. It occurred at that moment; when it was recorded tells
// how late that was noticed.
type FollowUpDue struct {
	FollowUpAt time.Time `json:"followUpAt" doc:"The moment."`
}

// EventType implements domain.Event; so do those that follow.
func (Logged) EventType() string      { return "interaction.logged" }
func (Corrected) EventType() string   { return "interaction.corrected" }
func (NoteAdded) EventType() string   { return "interaction.note_added" }
func (Retracted) EventType() string   { return "interaction.retracted" }
func (FollowUpDue) EventType() string { return "interaction.follow_up_due" }
