package contact

import "github.com/rapport-crm/rapport/domain"

// Created says that a new contact is known. Its first links follow as events of their own.
type Created struct {
	Details
}

// DetailChanged says that one detail has another value. There is one event per field; From and To are details in which
// only that field stands (absent: it was, or is now, empty), so that every value keeps its type and readers find it as
// from[field] and to[field]. Details.Take folds them all alike.
type DetailChanged struct {
	Field string  `json:"field" doc:"The field's name in from and to."`
	From  Details `json:"from" doc:"The field before; an empty object when it was empty."`
	To    Details `json:"to" doc:"The field after; an empty object when it is empty now."`
}

// CustomerLinked says that the contact plays a part at a customer.
type CustomerLinked struct {
	CustomerID domain.ID   `json:"customerId" doc:"The customer."`
	Role       Role        `json:"role" doc:"The part that the contact plays there."`
	Primary    bool        `json:"primary" doc:"Whether the contact is the first to turn to at the customer."`
	Since      domain.Date `json:"since" doc:"First day of the link."`
}

// RoleChanged says that the contact plays another part at a customer.
type RoleChanged struct {
	CustomerID  domain.ID   `json:"customerId" doc:"The customer."`
	From        Role        `json:"from" doc:"The part before."`
	To          Role        `json:"to" doc:"The part now."`
	FromPrimary bool        `json:"fromPrimary" doc:"Whether the contact was the first to turn to."`
	ToPrimary   bool        `json:"toPrimary" doc:"Whether the contact is the first to turn to."`
	Since       domain.Date `json:"since" doc:"First day of the new part."`
}

// CustomerUnlinked says that the contact no longer plays a part at a customer.
type CustomerUnlinked struct {
	CustomerID domain.ID   `json:"customerId" doc:"The customer."`
	Role       Role        `json:"role" doc:"The part that the contact played."`
	Primary    bool        `json:"primary" doc:"Whether the contact was the first to turn to."`
	Since      domain.Date `json:"since" doc:"First day of the link."`
	Until      domain.Date `json:"until" doc:"Day from which the link no longer holds."`
	Reason     string      `json:"reason,omitempty" doc:"Why it ended."`
}

// Related says how the contact relates to another.
type Related struct {
	ContactID domain.ID    `json:"contactId" doc:"The other contact."`
	Kind      RelationKind `json:"kind" doc:"How this contact relates to the other."`
	Since     domain.Date  `json:"since" doc:"First day of the relation."`
}

// Unrelated says that a relation has ended.
type Unrelated struct {
	ContactID domain.ID    `json:"contactId" doc:"The other contact."`
	Kind      RelationKind `json:"kind" doc:"The relation."`
	Since     domain.Date  `json:"since" doc:"First day of the relation."`
	Until     domain.Date  `json:"until" doc:"Day from which the relation no longer holds."`
}

// Deactivated says that the contact is no longer turned to.
type Deactivated struct {
	Reason string `json:"reason" doc:"Why."`
}

// Reactivated says that the contact is turned to again.
type Reactivated struct {
	Reason string `json:"reason,omitempty" doc:"Why."`
}

// EventType implements domain.Event; so do those that follow.
func (Created) EventType() string          { return "contact.created" }
func (DetailChanged) EventType() string    { return "contact.detail_changed" }
func (CustomerLinked) EventType() string   { return "contact.customer_linked" }
func (RoleChanged) EventType() string      { return "contact.role_changed" }
func (CustomerUnlinked) EventType() string { return "contact.customer_unlinked" }
func (Related) EventType() string          { return "contact.related" }
func (Unrelated) EventType() string        { return "contact.unrelated" }
func (Deactivated) EventType() string      { return "contact.deactivated" }
func (Reactivated) EventType() string      { return "contact.reactivated" }
