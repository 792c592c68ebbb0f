package customer

import "github.com/rapport-crm/rapport/domain"

// Register makes a new customer.
type Register struct {
	domain.When
	Kind Kind `json:"kind" enum:"company,person,group" doc:"What the customer is; it never changes." example:"company"`
	Profile
	Classification
	ParentID   domain.ID   `json:"parentId,omitempty" format:"uuid" doc:"The company that this company belongs to." example:"01900000-0000-7000-8000-000000000002"`
	Tags       []string    `json:"tags,omitempty" maxItems:"100" doc:"Free labels, stored in lower case." example:"[\"key account\"]"`
	Owner      string      `json:"owner,omitempty" maxLength:"200" doc:"User name of the person who looks after the customer." example:"ann"`
	Source     string      `json:"source,omitempty" maxLength:"100" doc:"Where the customer came from." example:"trade fair"`
	ExternalID *ExternalID `json:"externalId,omitempty" doc:"The customer's identifier in the system it came from."`

	Parent Customer `json:"-"` // the customer that ParentID names; the zero value when there is none
}

// UpdateProfile changes basic information. Fields left out stay as they are; an empty text or a 0 empties the field.
type UpdateProfile struct {
	domain.When
	Name        *string       `json:"name,omitempty" minLength:"1" maxLength:"200" personal:"true" doc:"Name by which people know the customer; cannot be emptied; of companies unique within their sales region." example:"Acme Ltd"`
	LegalName   *string       `json:"legalName,omitempty" maxLength:"300" personal:"true" doc:"Registered name." example:"Acme Limited"`
	TaxID       *string       `json:"taxId,omitempty" maxLength:"40" personal:"true" doc:"Tax or registration number; unique among customers, spacing and case aside." example:"DE 123456789"`
	Email       *string       `json:"email,omitempty" maxLength:"254" personal:"true" doc:"E-mail address, stored in lower case; unique among customers." example:"info@acme.example"`
	Phone       *string       `json:"phone,omitempty" maxLength:"50" personal:"true" doc:"Telephone number, stored as E.164; unique among customers." example:"+493012345678"`
	Website     *string       `json:"website,omitempty" maxLength:"500" doc:"Address of the web site, http or https." example:"https://acme.example"`
	Address     *Address      `json:"address,omitempty" personal:"true" doc:"Postal address, as a whole; an empty object empties it."`
	BirthDate   *domain.Date  `json:"birthDate,omitempty" format:"date" personal:"true" doc:"Day of birth; persons only. Emptied through clear." example:"1984-05-17"`
	Gender      *Gender       `json:"gender,omitempty" enum:"female,male,other,undisclosed" personal:"true" doc:"Gender; persons only. Emptied through clear." example:"female"`
	Employees   *int          `json:"employees,omitempty" minimum:"0" maximum:"10000000" doc:"Number of people employed; companies only." example:"120"`
	Revenue     *domain.Money `json:"revenue,omitempty" doc:"Revenue of a year; companies only."`
	FoundedYear *int          `json:"foundedYear,omitempty" minimum:"0" maximum:"9999" doc:"Year of foundation; companies only." example:"1999"`
	Clear       []string      `json:"clear,omitempty" maxItems:"12" doc:"Names of fields to empty." example:"[\"website\"]"`
}

// Classify places the customer among others. Fields left out stay as they are; an empty text empties the field.
type Classify struct {
	domain.When
	Industry   *string `json:"industry,omitempty" maxLength:"100" doc:"Line of business; companies only." example:"retail"`
	Occupation *string `json:"occupation,omitempty" maxLength:"100" personal:"true" doc:"Occupation; persons only." example:"teacher"`
	AgeBand    *string `json:"ageBand,omitempty" maxLength:"7" doc:"Band of ages, \"18-29\" or \"70+\"; persons only." example:"30-39"`
	Region     *string `json:"region,omitempty" maxLength:"100" doc:"Sales region." example:"West"`
}

// Tag labels the customer.
type Tag struct {
	domain.When
	Tag string `json:"tag" minLength:"1" maxLength:"64" doc:"Free label, stored in lower case." example:"key account"`
}

// Untag removes a label.
type Untag struct {
	domain.When
	Tag string `json:"tag" minLength:"1" maxLength:"64" doc:"The label to remove." example:"key account"`
}

// SetPreference states what the customer prefers.
type SetPreference struct {
	domain.When
	Name     string      `json:"name" minLength:"1" maxLength:"100" doc:"What the preference is about." example:"colour"`
	Value    string      `json:"value" minLength:"1" maxLength:"2000" personal:"true" doc:"What is preferred." example:"blue"`
	Evidence []domain.ID `json:"evidence,omitempty" maxItems:"100" doc:"Ids of the events that show the preference." example:"[\"01900000-0000-7000-8000-00000000000e\"]"`
}

// DropPreference takes a preference back.
type DropPreference struct {
	domain.When
	Name   string `json:"name" minLength:"1" maxLength:"100" doc:"The preference to drop." example:"colour"`
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why it no longer holds." example:"changed their mind"`
}

// AssignOwner gives a customer without an owner to someone.
type AssignOwner struct {
	domain.When
	Owner string `json:"owner" minLength:"1" maxLength:"200" doc:"User name of the person who looks after the customer." example:"ann"`
}

// TransferOwnership hands the customer from its owner to another.
type TransferOwnership struct {
	domain.When
	From   string `json:"from,omitempty" maxLength:"200" doc:"The owner that the caller believes it has; the command is rejected when it has another." example:"ann"`
	To     string `json:"to" minLength:"1" maxLength:"200" doc:"User name of the new owner." example:"bob"`
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why it changes hands." example:"Ann left the company"`
}

// SetParent puts a company under another in the hierarchy.
type SetParent struct {
	domain.When
	ParentID domain.ID `json:"parentId" format:"uuid" doc:"The company that this company belongs to." example:"01900000-0000-7000-8000-000000000002"`

	Parent    Customer    `json:"-"` // the customer that ParentID names; the zero value when there is none
	Ancestors []domain.ID `json:"-"` // of that customer, nearest first, itself left out; of one that was a duplicate its survivor, too
}

// ClearParent takes a company out of the hierarchy above it.
type ClearParent struct {
	domain.When
}

// RecordCommitment notes what was promised to the customer.
type RecordCommitment struct {
	domain.When
	CommitmentID string      `json:"commitmentId,omitempty" maxLength:"64" pattern:"^[A-Za-z0-9._-]*$" doc:"Identifier within the customer; the next free number when left out." example:"1"`
	Text         string      `json:"text" minLength:"1" maxLength:"2000" personal:"true" doc:"What was promised." example:"Send the revised offer"`
	Due          domain.Date `json:"due" format:"date" doc:"The day by which it was promised." example:"2026-03-31"`
	By           string      `json:"by" minLength:"1" maxLength:"200" doc:"User name of the person who promised." example:"ann"`
}

// KeepCommitment notes that a promise was kept.
type KeepCommitment struct {
	domain.When
	CommitmentID string `json:"commitmentId" minLength:"1" maxLength:"64" doc:"The promise." example:"1"`
	Note         string `json:"note,omitempty" maxLength:"2000" personal:"true" doc:"How it was kept." example:"Sent by mail"`
}

// BreakCommitment notes that a promise was not kept.
type BreakCommitment struct {
	domain.When
	CommitmentID string `json:"commitmentId" minLength:"1" maxLength:"64" doc:"The promise." example:"1"`
	Reason       string `json:"reason,omitempty" maxLength:"2000" personal:"true" doc:"Why it was not kept." example:"The supplier was late"`
}

// MarkCommitmentOverdue says that the day of an open promise is over. The clock sends it.
type MarkCommitmentOverdue struct {
	domain.When
	CommitmentID string `json:"commitmentId" minLength:"1" maxLength:"64" doc:"The promise." example:"1"`
}

// RecordFeedback notes what the customer says of us.
type RecordFeedback struct {
	domain.When
	Polarity Polarity `json:"polarity" enum:"praise,complaint,suggestion" doc:"Praise, complaint or suggestion." example:"complaint"`
	Topic    string   `json:"topic" minLength:"1" maxLength:"200" doc:"What it is about." example:"delivery"`
	Text     string   `json:"text,omitempty" maxLength:"10000" personal:"true" doc:"What was said." example:"The parcel came two days late."`
}

// Polarity says whether feedback is good, bad or a wish.
type Polarity string

// The polarities of feedback.
const (
	Praise     Polarity = "praise"
	Complaint  Polarity = "complaint"
	Suggestion Polarity = "suggestion"
)

// Labels implements domain.Labelled.
func (Polarity) Labels() domain.Labels { return polarityLabels }

var polarityLabels = domain.Labels{
	string(Praise):     {En: "praise", Zh: "表扬"},
	string(Complaint):  {En: "complaint", Zh: "投诉"},
	string(Suggestion): {En: "suggestion", Zh: "建议"},
}

// AddMember puts a customer into a group.
type AddMember struct {
	domain.When
	MemberID domain.ID   `json:"memberId" format:"uuid" doc:"The customer who joins." example:"01900000-0000-7000-8000-000000000003"`
	Since    domain.Date `json:"since,omitempty" format:"date" doc:"First day of membership; the day of occurredAt when left out." example:"2026-01-01"`

	Member Customer `json:"-"` // the customer that MemberID names; the zero value when there is none
}

// RemoveMember ends a membership; that it was stays known.
type RemoveMember struct {
	domain.When
	MemberID domain.ID   `json:"memberId" format:"uuid" doc:"The customer who leaves." example:"01900000-0000-7000-8000-000000000003"`
	Until    domain.Date `json:"until,omitempty" format:"date" doc:"Day from which the membership no longer holds; the day of occurredAt when left out." example:"2026-06-30"`
}

// Merge makes this customer absorb a duplicate of it. MergeInto on the duplicate completes it.
type Merge struct {
	domain.When
	DuplicateID domain.ID `json:"duplicateId" format:"uuid" doc:"The customer that turned out to be the same." example:"01900000-0000-7000-8000-000000000004"`
	Reason      string    `json:"reason,omitempty" maxLength:"1000" doc:"How that is known." example:"same tax id, spelt differently"`

	Duplicate Customer    `json:"-"` // the customer that DuplicateID names; the zero value when there is none
	Ancestors []domain.ID `json:"-"` // of this customer, nearest first; of one that was a duplicate its survivor, too
}

// MergeInto closes this customer as a duplicate of the survivor, which has absorbed it by Merge.
type MergeInto struct {
	domain.When
	SurvivorID domain.ID `json:"survivorId" format:"uuid" doc:"The customer that absorbed this one." example:"01900000-0000-7000-8000-000000000002"`

	Survivor Customer `json:"-"` // the customer that SurvivorID names; the zero value when there is none
}

// Deactivate says that no more business is done with the customer.
type Deactivate struct {
	domain.When
	Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why." example:"closed down"`
}

// Reactivate says that business is done with the customer again.
type Reactivate struct {
	domain.When
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why." example:"back after two years"`
}

// CommandType implements domain.Command; so do those that follow.
func (Register) CommandType() string              { return "customer.register" }
func (UpdateProfile) CommandType() string         { return "customer.update_profile" }
func (Classify) CommandType() string              { return "customer.classify" }
func (Tag) CommandType() string                   { return "customer.tag" }
func (Untag) CommandType() string                 { return "customer.untag" }
func (SetPreference) CommandType() string         { return "customer.set_preference" }
func (DropPreference) CommandType() string        { return "customer.drop_preference" }
func (AssignOwner) CommandType() string           { return "customer.assign_owner" }
func (TransferOwnership) CommandType() string     { return "customer.transfer_ownership" }
func (SetParent) CommandType() string             { return "customer.set_parent" }
func (ClearParent) CommandType() string           { return "customer.clear_parent" }
func (RecordCommitment) CommandType() string      { return "customer.record_commitment" }
func (KeepCommitment) CommandType() string        { return "customer.keep_commitment" }
func (BreakCommitment) CommandType() string       { return "customer.break_commitment" }
func (MarkCommitmentOverdue) CommandType() string { return "customer.mark_commitment_overdue" }
func (RecordFeedback) CommandType() string        { return "customer.record_feedback" }
func (AddMember) CommandType() string             { return "customer.add_member" }
func (RemoveMember) CommandType() string          { return "customer.remove_member" }
func (Merge) CommandType() string                 { return "customer.merge" }
func (MergeInto) CommandType() string             { return "customer.merge_into" }
func (Deactivate) CommandType() string            { return "customer.deactivate" }
func (Reactivate) CommandType() string            { return "customer.reactivate" }
