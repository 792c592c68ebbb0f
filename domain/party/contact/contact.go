// Package contact decides what may happen to a contact: a natural person at or around customers. Links to customers and
// relations to other contacts have a first day and, once ended, a last; ending one never removes it from history.
package contact

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// Limits of what one contact may hold at a time, so that its state stays small.
const (
	MaxLinks     = 100 // to customers
	MaxRelations = 500 // to other contacts
)

// Aggregate declares the contact.
var Aggregate = domain.Aggregate[Contact]{
	Name:     "contact",
	Plural:   "contacts",
	Doc:      "A natural person at or around customers.",
	Decider:  domain.Decider[Contact]{Decide: decide, Evolve: evolve},
	Events:   eventSpecs,
	Commands: commandSpecs,
	Exists:   func(c Contact) bool { return c.Known },
	Subjects: func(_ domain.ID, c Contact) []domain.ID { return slices.Sorted(maps.Keys(c.Links)) },
}

// Contact is what the rules need to know, folded from one stream. The zero value is a contact that does not exist.
type Contact struct {
	Known bool // created
	Details
	Inactive  bool
	Links     map[domain.ID]Link // the newest of each customer ever linked
	Relations map[Edge]Period    // the newest of each other contact and kind
}

// Link is a stay at a customer.
type Link struct {
	Period
	Role      Role
	RoleSince domain.Date // first day of the role
	Primary   bool
}

// Edge is a relation to another contact.
type Edge struct {
	ContactID domain.ID
	Kind      RelationKind
}

// Period is a span of days.
type Period struct {
	Since domain.Date
	Until domain.Date // the first day after it; empty while it lasts
}

// Over reports whether the period has ended.
func (p Period) Over() bool { return p.Until != "" }

// decide returns the events that cmd causes in c.
func decide(c Contact, cmd domain.Command, f domain.Facts) ([]domain.Event, error) {
	switch cmd := cmd.(type) {
	case Create:
		return create(c, cmd, f)
	case Update:
		return update(c, cmd)
	case LinkCustomer:
		link := NewLink{CustomerID: cmd.CustomerID, Role: cmd.Role, Primary: cmd.Primary, Since: cmd.Since}
		return linkCustomer(c, link, cmd.Customer, "", f)
	case ChangeRole:
		return changeRole(c, cmd, f)
	case UnlinkCustomer:
		return unlinkCustomer(c, cmd, f)
	case Relate:
		return relate(c, cmd, f)
	case Unrelate:
		return unrelate(c, cmd, f)
	case Deactivate:
		if c.Inactive {
			return nil, nil
		}
		return one(Deactivated{Reason: cmd.Reason})
	case Reactivate:
		if !c.Inactive {
			return nil, nil
		}
		return one(Reactivated{Reason: cmd.Reason})
	}
	return nil, fmt.Errorf("contact: no decision for command %T", cmd)
}

func create(c Contact, cmd Create, f domain.Facts) ([]domain.Event, error) {
	if c.Known {
		return nil, domain.Reject("contact-exists", "the contact exists already")
	}
	if err := check(cmd.Details, cmd.Details); err != nil {
		return nil, err
	}
	events := []domain.Event{Created{Details: cmd.Details}}
	for i, link := range cmd.Links {
		at := fmt.Sprintf("/links/%d", i)
		if slices.ContainsFunc(cmd.Links[:i], func(l NewLink) bool { return l.CustomerID == link.CustomerID }) {
			return nil, domain.Invalid(at+"/customerId", "names a customer a second time")
		}
		linked, err := linkCustomer(c, link, cmd.Customers[link.CustomerID], at, f)
		if err != nil {
			return nil, err
		}
		events = append(events, linked...)
	}
	return events, nil
}

func update(c Contact, cmd Update) ([]domain.Event, error) {
	to := c.Details
	if err := domain.Revise(&to, cmd); err != nil {
		return nil, err
	}
	var events []domain.Event
	var changed Details
	same := func(from, to Details) bool { return from == to }
	for _, change := range domain.FieldChanges(c.Details, to, same) {
		events = append(events, DetailChanged(change))
		changed.Take(change.Field, to)
	}
	if err := check(changed, to); err != nil {
		return nil, err
	}
	return events, nil
}

// linkCustomer links c to a customer; at is the place of the link in the command.
func linkCustomer(c Contact, l NewLink, customer CustomerFacts, at string, f domain.Facts) ([]domain.Event, error) {
	since := l.Since
	if since == "" {
		since = domain.DateOf(f.OccurredAt)
	}
	before, known := c.Links[l.CustomerID]
	if known && !before.Over() {
		if before.Role == l.Role && before.Primary == l.Primary && (l.Since == "" || l.Since == before.Since) {
			return nil, nil
		}
		return nil, domain.Reject("already-linked", "{role} there since {since}: change the role instead", before.Role, before.Since).At(at + "/customerId")
	}
	switch {
	case !customer.Exists:
		return nil, domain.Reject("customer-unknown", "there is no customer {customerId}", l.CustomerID).At(at + "/customerId")
	case customer.MergedInto != "":
		return nil, domain.Reject("customer-merged", "the customer was a duplicate; {survivorId} stands for it", customer.MergedInto).At(at + "/customerId")
	case known && since < before.Until:
		return nil, domain.Reject("link-overlaps", "was linked until {until}", before.Until).At(at + "/since")
	case c.Inactive:
		return nil, inactive()
	case len(c.Links) >= MaxLinks && !known:
		return nil, domain.Reject("too-many-links", "a contact has at most {limit} links to customers", MaxLinks)
	}
	return one(CustomerLinked{CustomerID: l.CustomerID, Role: l.Role, Primary: l.Primary, Since: since})
}

func changeRole(c Contact, cmd ChangeRole, f domain.Facts) ([]domain.Event, error) {
	link, known := c.Links[cmd.CustomerID]
	if !known || link.Over() {
		return nil, notLinked(cmd.CustomerID)
	}
	e := RoleChanged{
		CustomerID: cmd.CustomerID, From: link.Role, To: link.Role, FromPrimary: link.Primary, ToPrimary: link.Primary,
		Since: cmd.Since,
	}
	if cmd.Role != nil {
		e.To = *cmd.Role
	}
	if cmd.Primary != nil {
		e.ToPrimary = *cmd.Primary
	}
	if e.To == e.From && e.ToPrimary == e.FromPrimary {
		return nil, nil
	}
	if e.Since == "" {
		e.Since = domain.DateOf(f.OccurredAt)
	}
	if e.Since < link.RoleSince {
		return nil, domain.Reject("ends-before-it-began", "{role} there since {since}", link.Role, link.RoleSince).At("/since")
	}
	return one(e)
}

func unlinkCustomer(c Contact, cmd UnlinkCustomer, f domain.Facts) ([]domain.Event, error) {
	link, known := c.Links[cmd.CustomerID]
	if !known {
		return nil, notLinked(cmd.CustomerID)
	}
	until, err := link.end(cmd.Until, link.RoleSince, f)
	if until == "" {
		return nil, err
	}
	return one(CustomerUnlinked{
		CustomerID: cmd.CustomerID, Role: link.Role, Primary: link.Primary, Since: link.Since, Until: until, Reason: cmd.Reason,
	})
}

func relate(c Contact, cmd Relate, f domain.Facts) ([]domain.Event, error) {
	edge := Edge{ContactID: cmd.ContactID, Kind: cmd.Kind}
	since := cmd.Since
	if since == "" {
		since = domain.DateOf(f.OccurredAt)
	}
	before, known := c.Relations[edge]
	if known && !before.Over() {
		if cmd.Since == "" || cmd.Since == before.Since {
			return nil, nil
		}
		return nil, domain.Reject("already-related", "so related since {since}", before.Since).At("/since")
	}
	switch {
	case cmd.ContactID == f.ID:
		return nil, domain.Reject("relation-with-itself", "a contact is not related to itself").At("/contactId")
	case !cmd.OtherExists:
		return nil, domain.Reject("contact-unknown", "there is no contact {contactId}", cmd.ContactID).At("/contactId")
	case known && since < before.Until:
		return nil, domain.Reject("relation-overlaps", "was so related until {until}", before.Until).At("/since")
	case c.Inactive:
		return nil, inactive()
	case len(c.Relations) >= MaxRelations && !known:
		return nil, domain.Reject("too-many-relations", "a contact has at most {limit} relations", MaxRelations)
	}
	return one(Related{ContactID: cmd.ContactID, Kind: cmd.Kind, Since: since})
}

func unrelate(c Contact, cmd Unrelate, f domain.Facts) ([]domain.Event, error) {
	p, known := c.Relations[Edge{ContactID: cmd.ContactID, Kind: cmd.Kind}]
	if !known {
		return nil, domain.Reject("not-related", "never so related to {contactId}", cmd.ContactID).At("/contactId")
	}
	until, err := p.end(cmd.Until, p.Since, f)
	if until == "" {
		return nil, err
	}
	return one(Unrelated{ContactID: cmd.ContactID, Kind: cmd.Kind, Since: p.Since, Until: until})
}

// end returns the day on which the period ends when it is to end on the day given, or today when none is given; no day
// when it ended so before, or with an error. It cannot end before earliest.
func (p Period) end(on, earliest domain.Date, f domain.Facts) (domain.Date, error) {
	if p.Over() {
		if on == "" || on == p.Until {
			return "", nil
		}
		return "", domain.Reject("ended-already", "it ended on {until}", p.Until).At("/until")
	}
	if on == "" {
		on = domain.DateOf(f.OccurredAt)
	}
	if on < earliest {
		return "", domain.Reject("ends-before-it-began", "it began on {since}", earliest).At("/until")
	}
	return on, nil
}

// evolve folds one recorded event into c. It changes no map that c shares with others.
func evolve(c Contact, e domain.Event) Contact {
	switch e := e.(type) {
	case Created:
		c.Known, c.Details = true, e.Details
	case DetailChanged:
		c.Details.Take(e.Field, e.To)
	case CustomerLinked:
		c.Links = domain.With(c.Links, e.CustomerID, Link{
			Period: Period{Since: e.Since}, Role: e.Role, RoleSince: e.Since, Primary: e.Primary,
		})
	case RoleChanged:
		link := c.Links[e.CustomerID]
		link.Role, link.Primary, link.RoleSince = e.To, e.ToPrimary, e.Since
		c.Links = domain.With(c.Links, e.CustomerID, link)
	case CustomerUnlinked:
		link := c.Links[e.CustomerID]
		link.Until = e.Until
		c.Links = domain.With(c.Links, e.CustomerID, link)
	case Related:
		c.Relations = domain.With(c.Relations, Edge{e.ContactID, e.Kind}, Period{Since: e.Since})
	case Unrelated:
		c.Relations = domain.With(c.Relations, Edge{e.ContactID, e.Kind}, Period{Since: e.Since, Until: e.Until})
	case Deactivated:
		c.Inactive = true
	case Reactivated:
		c.Inactive = false
	}
	return c
}

func one(e domain.Event) ([]domain.Event, error) { return []domain.Event{e}, nil }

func notLinked(id domain.ID) error {
	return domain.Reject("not-linked", "the contact is not linked to {customerId}", id).At("/customerId")
}

func inactive() error {
	return domain.Reject("contact-inactive", "the contact is deactivated: reactivate it first")
}
