package projections

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels"
)

type customerRelationKey struct {
	Tenant     domain.Tenant `db:"tenant"`
	CustomerID domain.ID     `db:"customer_id"`
	OtherID    domain.ID     `db:"other_id"`
	Kind       string        `db:"kind"`
}

// CustomerRelation keeps which customers belong, or belonged, to which. Rows never go: as of any moment of the past, what
// was related then is found among them.
var CustomerRelation = projection.Fold[customerRelationKey, readmodels.CustomerRelation]{
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
			return of(e.Stream.ID, ev.ParentID, readmodels.RelationParent)
		case customer.ParentSet:
			return append(of(e.Stream.ID, ev.From, readmodels.RelationParent), of(e.Stream.ID, ev.To, readmodels.RelationParent)...)
		case customer.ParentCleared:
			return of(e.Stream.ID, ev.From, readmodels.RelationParent)
		case customer.MemberAdded:
			return of(ev.MemberID, e.Stream.ID, readmodels.RelationMember)
		case customer.MemberRemoved:
			return of(ev.MemberID, e.Stream.ID, readmodels.RelationMember)
		case customer.MergedInto:
			return of(e.Stream.ID, ev.SurvivorID, readmodels.RelationMerged)
		}
		return nil
	},
	Evolve: func(r readmodels.CustomerRelation, k customerRelationKey, e domain.Recorded) readmodels.CustomerRelation {
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
			r.Until = optionalDate(ev.Until)
		default:
			begin(day)
		}
		r.Position = e.Position.Order()
		return r
	},
	Indexes: []projection.Index{{Name: "other", Columns: "tenant, other_id"}},
}

type logTimeKey struct {
	Tenant domain.Tenant `db:"tenant"`
	Second int64         `db:"second"`
}

// LogTime keeps where in the log the events of each second stand.
var LogTime = projection.Fold[logTimeKey, readmodels.LogTime]{
	Name: "log_time", Version: 1,
	Doc:    "The seconds in which events were recorded, and where in the log they stand: leads from a time to a position.",
	Untold: true,
	Events: []string{"*"},
	Keys:   func(e domain.Recorded) []logTimeKey { return []logTimeKey{{e.Tenant, e.RecordedAt.Unix()}} },
	Evolve: func(r readmodels.LogTime, _ logTimeKey, e domain.Recorded) readmodels.LogTime {
		if r.Events == 0 {
			r.FirstRecordedAt, r.FirstPosition, r.FirstCommit = e.RecordedAt, e.Position.Order(), int64(e.Position.Commit)
		}
		r.Events++
		r.Position = e.Position.Order()
		return r
	},
	Indexes: []projection.Index{{Name: "first", Columns: "tenant, first_position"}},
}
