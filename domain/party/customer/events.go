package customer

import "github.com/rapport-crm/rapport/domain"

// Registered says that a new customer is known. It carries everything that was known then, so that a registration is one
// event; the events below carry what changed since.
type Registered struct {
	Kind Kind `json:"kind" doc:"What the customer is."`
	Profile
	Classification
	ParentID   domain.ID   `json:"parentId,omitempty" doc:"The company that this company belongs to."`
	Tags       []string    `json:"tags,omitempty" doc:"Free labels in lower case, in order."`
	Owner      string      `json:"owner,omitempty" doc:"User name of the person who looks after the customer."`
	Source     string      `json:"source,omitempty" doc:"Where the customer came from."`
	ExternalID *ExternalID `json:"externalId,omitempty" doc:"The customer's identifier in the system it came from."`
}

// ProfileChanged says that one field of the profile has another value. There is one event per field, because history is
// read and undone field by field. From and To are profiles in which only that field stands (absent: it was, or is now,
// empty): so each value keeps its type and its schema, readers find it as from[field] and to[field], and folding is
// Profile.Take for every field alike.
type ProfileChanged struct {
	Field string  `json:"field" doc:"The field's name in from and to."`
	From  Profile `json:"from" doc:"The field before; an empty object when it was empty."`
	To    Profile `json:"to" doc:"The field after; an empty object when it is empty now."`
}

// Classified says that the customer stands elsewhere on one axis of classification.
type Classified struct {
	Field string         `json:"field" doc:"industry, occupation, ageBand or region."`
	From  Classification `json:"from" doc:"The field before; an empty object when it was empty."`
	To    Classification `json:"to" doc:"The field after; an empty object when it is empty now."`
}

// Tagged says that the customer bears a label.
type Tagged struct {
	Tag string `json:"tag" doc:"The label, in lower case."`
}

// Untagged says that the customer no longer bears a label.
type Untagged struct {
	Tag string `json:"tag" doc:"The label, in lower case."`
}

// PreferenceSet says what the customer prefers, and which events show it.
type PreferenceSet struct {
	Name     string      `json:"name" doc:"What the preference is about."`
	From     string      `json:"from,omitempty" personal:"true" doc:"What was preferred before; absent when nothing was known."`
	To       string      `json:"to" personal:"true" doc:"What is preferred."`
	Evidence []domain.ID `json:"evidence,omitempty" doc:"Ids of all events that show it."`
}

// PreferenceDropped says that a preference no longer holds.
type PreferenceDropped struct {
	Name   string `json:"name" doc:"What the preference was about."`
	From   string `json:"from" personal:"true" doc:"What was preferred."`
	Reason string `json:"reason,omitempty" doc:"Why it no longer holds."`
}

// OwnerAssigned says who looks after a customer that nobody looked after.
type OwnerAssigned struct {
	Owner string `json:"owner" doc:"User name of the owner."`
}

// OwnershipTransferred says that another looks after the customer now.
type OwnershipTransferred struct {
	From   string `json:"from" doc:"User name of the owner before."`
	To     string `json:"to" doc:"User name of the owner now."`
	Reason string `json:"reason,omitempty" doc:"Why it changed hands."`
}

// ParentSet says which company this company belongs to.
type ParentSet struct {
	From domain.ID `json:"from,omitempty" doc:"The parent before; absent when there was none."`
	To   domain.ID `json:"to" doc:"The parent now."`
}

// ParentCleared says that this company belongs to no other.
type ParentCleared struct {
	From domain.ID `json:"from" doc:"The parent before."`
}

// CommitmentRecorded says what was promised to the customer.
type CommitmentRecorded struct {
	CommitmentID string      `json:"commitmentId" doc:"Identifier within the customer."`
	Text         string      `json:"text" personal:"true" doc:"What was promised."`
	Due          domain.Date `json:"due" doc:"The day by which it was promised."`
	By           string      `json:"by" doc:"User name of the person who promised."`
}

// CommitmentKept says that a promise was kept.
type CommitmentKept struct {
	CommitmentID string      `json:"commitmentId" doc:"Identifier within the customer."`
	Due          domain.Date `json:"due" doc:"The day by which it was promised."`
	By           string      `json:"by" doc:"User name of the person who promised."`
	Note         string      `json:"note,omitempty" personal:"true" doc:"How it was kept."`
}

// CommitmentBroken says that a promise was not kept.
type CommitmentBroken struct {
	CommitmentID string      `json:"commitmentId" doc:"Identifier within the customer."`
	Due          domain.Date `json:"due" doc:"The day by which it was promised."`
	By           string      `json:"by" doc:"User name of the person who promised."`
	Reason       string      `json:"reason,omitempty" personal:"true" doc:"Why it was not kept."`
}

// CommitmentOverdue says that the day by which something was promised was over while the promise was open. It occurred at the end of
// that day, in UTC; when it was recorded tells how late that was noticed.
type CommitmentOverdue struct {
	CommitmentID string      `json:"commitmentId" doc:"Identifier within the customer."`
	Due          domain.Date `json:"due" doc:"The day by which it was promised."`
	By           string      `json:"by" doc:"User name of the person who promised."`
}

// FeedbackRecorded says what the customer said of us.
type FeedbackRecorded struct {
	Polarity Polarity `json:"polarity" doc:"Praise, complaint or suggestion."`
	Topic    string   `json:"topic" doc:"What it is about."`
	Text     string   `json:"text,omitempty" personal:"true" doc:"What was said."`
}

// MemberAdded says that a customer belongs to this group.
type MemberAdded struct {
	MemberID domain.ID   `json:"memberId" doc:"The member."`
	Since    domain.Date `json:"since" doc:"First day of membership."`
}

// MemberRemoved says that a customer no longer belongs to this group.
type MemberRemoved struct {
	MemberID domain.ID   `json:"memberId" doc:"The former member."`
	Since    domain.Date `json:"since" doc:"First day of membership."`
	Until    domain.Date `json:"until" doc:"Day from which the membership no longer holds."`
}

// Merged says that this customer has absorbed a duplicate of it.
type Merged struct {
	DuplicateID domain.ID `json:"duplicateId" doc:"The customer that turned out to be the same."`
	Reason      string    `json:"reason,omitempty" doc:"How that is known."`
}

// MergedInto says that this customer was a duplicate; the survivor stands for it. Its unique values are free again.
type MergedInto struct {
	SurvivorID domain.ID `json:"survivorId" doc:"The customer that stands for this one."`
}

// Deactivated says that no more business is done with the customer.
type Deactivated struct {
	Reason string `json:"reason" doc:"Why."`
}

// Reactivated says that business is done with the customer again.
type Reactivated struct {
	Reason string `json:"reason,omitempty" doc:"Why."`
}

// EventType implements domain.Event; so do those that follow.
func (Registered) EventType() string           { return "customer.registered" }
func (ProfileChanged) EventType() string       { return "customer.profile_changed" }
func (Classified) EventType() string           { return "customer.classified" }
func (Tagged) EventType() string               { return "customer.tagged" }
func (Untagged) EventType() string             { return "customer.untagged" }
func (PreferenceSet) EventType() string        { return "customer.preference_set" }
func (PreferenceDropped) EventType() string    { return "customer.preference_dropped" }
func (OwnerAssigned) EventType() string        { return "customer.owner_assigned" }
func (OwnershipTransferred) EventType() string { return "customer.ownership_transferred" }
func (ParentSet) EventType() string            { return "customer.parent_set" }
func (ParentCleared) EventType() string        { return "customer.parent_cleared" }
func (CommitmentRecorded) EventType() string   { return "customer.commitment_recorded" }
func (CommitmentKept) EventType() string       { return "customer.commitment_kept" }
func (CommitmentBroken) EventType() string     { return "customer.commitment_broken" }
func (CommitmentOverdue) EventType() string    { return "customer.commitment_overdue" }
func (FeedbackRecorded) EventType() string     { return "customer.feedback_recorded" }
func (MemberAdded) EventType() string          { return "customer.member_added" }
func (MemberRemoved) EventType() string        { return "customer.member_removed" }
func (Merged) EventType() string               { return "customer.merged" }
func (MergedInto) EventType() string           { return "customer.merged_into" }
func (Deactivated) EventType() string          { return "customer.deactivated" }
func (Reactivated) EventType() string          { return "customer.reactivated" }
