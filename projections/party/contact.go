package party

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/projections/column"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/party"
)

// Contact keeps each contact as known now.
var Contact = projection.Fold[projection.StreamKey, party.Contact]{
	Name: "contact", Version: 1,
	Doc:    "Contacts: natural persons at or around customers, as known now.",
	Events: []string{"contact."},
	Keys:   projection.ByStream,
	Begins: projection.BeginsStream[projection.StreamKey],
	Evolve: func(r party.Contact, _ projection.StreamKey, e domain.Recorded) party.Contact {
		switch ev := e.Event.(type) {
		case contact.Created:
			column.Fill(&r, ev.Details)
			r.Status, r.CreatedAt = "active", e.OccurredAt
		case contact.DetailChanged:
			column.FillMember(&r, ev.Field, ev.To)
		case contact.Deactivated:
			r.Status = "inactive"
		case contact.Reactivated:
			r.Status = "active"
		}
		r.ChangedAt, r.Revision, r.Position = e.OccurredAt, int64(e.Revision), e.Position.Order()
		return r
	},
	Indexes: party.Contacts.Indexes,
}

type contactLinkKey struct {
	Tenant     domain.Tenant `db:"tenant"`
	ContactID  domain.ID     `db:"contact_id"`
	CustomerID domain.ID     `db:"customer_id"`
}

// ContactLink keeps the parts that contacts play and played at customers.
var ContactLink = projection.Fold[contactLinkKey, party.ContactLink]{
	Name: "contact_link", Version: 1,
	Doc:    "Which contact plays, or played, which part at which customer, dated.",
	Events: []string{"contact.customer_linked", "contact.role_changed", "contact.customer_unlinked"},
	Keys: func(e domain.Recorded) []contactLinkKey {
		var id domain.ID
		switch ev := e.Event.(type) {
		case contact.CustomerLinked:
			id = ev.CustomerID
		case contact.RoleChanged:
			id = ev.CustomerID
		case contact.CustomerUnlinked:
			id = ev.CustomerID
		}
		return []contactLinkKey{{e.Tenant, e.Stream.ID, id}}
	},
	Evolve: func(r party.ContactLink, _ contactLinkKey, e domain.Recorded) party.ContactLink {
		switch ev := e.Event.(type) {
		case contact.CustomerLinked:
			beginPart(&r, ev.Role, ev.Primary, ev.Since)
		case contact.RoleChanged:
			endPart(&r, ev.Since, "")
			beginPart(&r, ev.To, ev.ToPrimary, ev.Since)
		case contact.CustomerUnlinked:
			endPart(&r, ev.Until, ev.Reason)
			r.Until = column.Date(ev.Until)
		}
		r.Position = e.Position.Order()
		return r
	},
	Indexes: party.ContactLinks.Indexes,
}

func beginPart(r *party.ContactLink, role contact.Role, primary bool, since domain.Date) {
	r.Role, r.Primary, r.Since, r.Until = string(role), primary, since, nil
	r.Parts = append(slices.Clone(r.Parts), party.ContactPart{Role: string(role), Primary: primary, Since: since})
}

func endPart(r *party.ContactLink, until domain.Date, reason string) {
	r.Parts = slices.Clone(r.Parts)
	if n := len(r.Parts); n > 0 {
		r.Parts[n-1].Until, r.Parts[n-1].Reason = until, reason
	}
}

type contactRelationKey struct {
	Tenant    domain.Tenant `db:"tenant"`
	ContactID domain.ID     `db:"contact_id"`
	OtherID   domain.ID     `db:"other_id"`
	Kind      string        `db:"kind"`
	Since     domain.Date   `db:"since"`
}

// ContactRelation keeps how contacts relate to each other.
var ContactRelation = projection.Fold[contactRelationKey, party.ContactRelation]{
	Name: "contact_relation", Version: 1,
	Doc:    "How contacts relate to each other, dated: those of a day are since <= day and (until is null or until > day).",
	Events: []string{"contact.related", "contact.unrelated"},
	Keys: func(e domain.Recorded) []contactRelationKey {
		switch ev := e.Event.(type) {
		case contact.Related:
			return []contactRelationKey{{e.Tenant, e.Stream.ID, ev.ContactID, string(ev.Kind), ev.Since}}
		case contact.Unrelated:
			return []contactRelationKey{{e.Tenant, e.Stream.ID, ev.ContactID, string(ev.Kind), ev.Since}}
		}
		return nil
	},
	Evolve: func(r party.ContactRelation, _ contactRelationKey, e domain.Recorded) party.ContactRelation {
		r.Until = nil
		if ev, ended := e.Event.(contact.Unrelated); ended {
			r.Until = column.Date(ev.Until)
		}
		r.Position = e.Position.Order()
		return r
	},
	Indexes: party.ContactRelations.Indexes,
}
