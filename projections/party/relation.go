package party

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/projections/column"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/party"
)

type customerRelationKey struct {
	Tenant     domain.Tenant `db:"tenant"`
	CustomerID domain.ID     `db:"customer_id"`
	OtherID    domain.ID     `db:"other_id"`
	Kind       string        `db:"kind"`
}

// CustomerRelation keeps which customers belong, or belonged, to which. Rows never go: as of any moment of the past, what
// was related then is found among them.
var CustomerRelation = projection.Fold[customerRelationKey, party.CustomerRelation]{
	Name: "customer_relation", Version: 1,
	Doc: "Which customers belong, or belonged, to which: companies to a parent, members to a group, duplicates to the customer that stands for them.",
	Events: []string{
		"customer.registered", "customer.parent_set", "customer.parent_cleared", "customer.member_added", "customer.member_removed",
		"customer.merged_into",
	},
	Keys: func(e domain.Recorded) []customerRelationKey {
		of := func(id, other domain.ID, kind string) []customerRelationKey {
			if other == "" || id == "" {
				return nil
			}
			return []customerRelationKey{{e.Tenant, id, other, kind}}
		}
		switch ev := e.Event.(type) {
		case customer.Registered:
			return of(e.Stream.ID, ev.ParentID, party.RelationParent)
		case customer.ParentSet:
			return append(of(e.Stream.ID, ev.From, party.RelationParent), of(e.Stream.ID, ev.To, party.RelationParent)...)
		case customer.ParentCleared:
			return of(e.Stream.ID, ev.From, party.RelationParent)
		case customer.MemberAdded:
			return of(ev.MemberID, e.Stream.ID, party.RelationMember)
		case customer.MemberRemoved:
			return of(ev.MemberID, e.Stream.ID, party.RelationMember)
		case customer.MergedInto:
			return of(e.Stream.ID, ev.SurvivorID, party.RelationMerged)
		}
		return nil
	},
	Evolve: func(r party.CustomerRelation, k customerRelationKey, e domain.Recorded) party.CustomerRelation {
		begin := func(since domain.Date) { r.Since, r.Until = since, nil }
		day := domain.Date(e.OccurredAt.UTC().Format(time.DateOnly))
		switch ev := e.Event.(type) {
		case customer.ParentSet:
			if ev.To == k.OtherID {
				begin(day)
			} else {
				r.Until = &day
			}
		case customer.ParentCleared:
			r.Until = &day
		case customer.MemberAdded:
			begin(ev.Since)
		case customer.MemberRemoved:
			r.Until = column.Date(ev.Until)
		default:
			begin(day)
		}
		r.Position = e.Position.Order()
		return r
	},
	Indexes: party.CustomerRelations.Indexes,
}
