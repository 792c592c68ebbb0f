package contact

import "github.com/rapport-crm/rapport/domain"

// Create makes a new contact, linked to customers at once if wished.
type Create struct {
	domain.When
	Details
	Links []NewLink `json:"links,omitempty" maxItems:"50" doc:"The customers that the contact belongs to."`

	Customers map[domain.ID]CustomerFacts `json:"-"` // the customers that Links name; those missing do not exist
}

// NewLink is a link that starts with the contact itself.
type NewLink struct {
	CustomerID domain.ID   `json:"customerId" format:"uuid" doc:"The customer." example:"01900000-0000-7000-8000-000000000002"`
	Role       Role        `json:"role" enum:"decider,user,influencer,buyer,champion,blocker,other" doc:"The part that the contact plays there." example:"buyer"`
	Primary    bool        `json:"primary,omitempty" doc:"Whether the contact is the first to turn to at the customer." example:"true"`
	Since      domain.Date `json:"since,omitempty" format:"date" doc:"First day of the link; the day of occurredAt when left out." example:"2026-01-01"`
}

// Update changes details. Fields left out stay as they are; an empty text empties the field.
type Update struct {
	domain.When
	Title            *string  `json:"title,omitempty" maxLength:"50" doc:"Form of address." example:"Dr"`
	GivenName        *string  `json:"givenName,omitempty" maxLength:"100" personal:"true" doc:"Given name." example:"Mara"`
	MiddleName       *string  `json:"middleName,omitempty" maxLength:"100" personal:"true" doc:"Middle name." example:"Sofie"`
	FamilyName       *string  `json:"familyName,omitempty" maxLength:"100" personal:"true" doc:"Family name." example:"Keller"`
	Email            *string  `json:"email,omitempty" maxLength:"254" personal:"true" doc:"E-mail address, stored in lower case." example:"mara.keller@acme.example"`
	Phone            *string  `json:"phone,omitempty" maxLength:"50" personal:"true" doc:"Telephone number, stored as E.164." example:"+493012345679"`
	JobTitle         *string  `json:"jobTitle,omitempty" maxLength:"200" doc:"Job title." example:"Head of Purchasing"`
	Department       *string  `json:"department,omitempty" maxLength:"200" doc:"Department." example:"Purchasing"`
	PreferredChannel *Channel `json:"preferredChannel,omitempty" enum:"phone,e-mail,sms,im,video,letter,visit" doc:"How the contact likes to be reached. Emptied through clear." example:"e-mail"`
	Language         *string  `json:"language,omitempty" maxLength:"35" doc:"Language to speak and write, a BCP 47 tag." example:"de-CH"`
	Clear            []string `json:"clear,omitempty" maxItems:"10" doc:"Names of fields to empty." example:"[\"department\"]"`
}

// LinkCustomer says that the contact plays a part at a customer.
type LinkCustomer struct {
	domain.When
	CustomerID domain.ID   `json:"customerId" format:"uuid" doc:"The customer." example:"01900000-0000-7000-8000-000000000002"`
	Role       Role        `json:"role" enum:"decider,user,influencer,buyer,champion,blocker,other" doc:"The part that the contact plays there." example:"buyer"`
	Primary    bool        `json:"primary,omitempty" doc:"Whether the contact is the first to turn to at the customer." example:"true"`
	Since      domain.Date `json:"since,omitempty" format:"date" doc:"First day of the link; the day of occurredAt when left out." example:"2026-01-01"`

	Customer CustomerFacts `json:"-"` // the customer that CustomerID names
}

// ChangeRole changes the part that the contact plays at a customer.
type ChangeRole struct {
	domain.When
	CustomerID domain.ID   `json:"customerId" format:"uuid" doc:"The customer." example:"01900000-0000-7000-8000-000000000002"`
	Role       *Role       `json:"role,omitempty" enum:"decider,user,influencer,buyer,champion,blocker,other" doc:"The new part; unchanged when left out." example:"decider"`
	Primary    *bool       `json:"primary,omitempty" doc:"Whether the contact is the first to turn to at the customer; unchanged when left out." example:"false"`
	Since      domain.Date `json:"since,omitempty" format:"date" doc:"First day of the new part; the day of occurredAt when left out." example:"2026-02-01"`
}

// UnlinkCustomer ends the link to a customer; that it was stays known.
type UnlinkCustomer struct {
	domain.When
	CustomerID domain.ID   `json:"customerId" format:"uuid" doc:"The customer." example:"01900000-0000-7000-8000-000000000002"`
	Until      domain.Date `json:"until,omitempty" format:"date" doc:"Day from which the link no longer holds; the day of occurredAt when left out." example:"2026-06-30"`
	Reason     string      `json:"reason,omitempty" maxLength:"1000" doc:"Why it ended." example:"left the company"`
}

// Relate says how the contact relates to another.
type Relate struct {
	domain.When
	ContactID domain.ID    `json:"contactId" format:"uuid" doc:"The other contact." example:"01900000-0000-7000-8000-000000000005"`
	Kind      RelationKind `json:"kind" enum:"reports-to,influences,blocks,assists,knows" doc:"How this contact relates to the other." example:"reports-to"`
	Since     domain.Date  `json:"since,omitempty" format:"date" doc:"First day of the relation; the day of occurredAt when left out." example:"2026-01-01"`

	OtherExists bool `json:"-"` // whether there is a contact that ContactID names
}

// Unrelate ends a relation; that it was stays known.
type Unrelate struct {
	domain.When
	ContactID domain.ID    `json:"contactId" format:"uuid" doc:"The other contact." example:"01900000-0000-7000-8000-000000000005"`
	Kind      RelationKind `json:"kind" enum:"reports-to,influences,blocks,assists,knows" doc:"The relation that ended." example:"reports-to"`
	Until     domain.Date  `json:"until,omitempty" format:"date" doc:"Day from which the relation no longer holds; the day of occurredAt when left out." example:"2026-06-30"`
}

// Deactivate says that the contact is no longer turned to.
type Deactivate struct {
	domain.When
	Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why." example:"retired"`
}

// Reactivate says that the contact is turned to again.
type Reactivate struct {
	domain.When
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why." example:"works as an adviser now"`
}

// CommandType implements domain.Command; so do those that follow.
func (Create) CommandType() string         { return "contact.create" }
func (Update) CommandType() string         { return "contact.update" }
func (LinkCustomer) CommandType() string   { return "contact.link_customer" }
func (ChangeRole) CommandType() string     { return "contact.change_role" }
func (UnlinkCustomer) CommandType() string { return "contact.unlink_customer" }
func (Relate) CommandType() string         { return "contact.relate" }
func (Unrelate) CommandType() string       { return "contact.unrelate" }
func (Deactivate) CommandType() string     { return "contact.deactivate" }
func (Reactivate) CommandType() string     { return "contact.reactivate" }
