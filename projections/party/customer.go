package party

import (
	"slices"
	"strings"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/projections/column"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/party"
)

// Customer keeps each customer as it stands now.
var Customer = projection.Fold[projection.StreamKey, party.Customer]{
	Name: "customer", Version: 2,
	Doc:     "Customers as they stand now, merged ones included.",
	Events:  []string{"customer."},
	Keys:    projection.ByStream,
	Begins:  projection.BeginsStream[projection.StreamKey],
	Evolve:  evolveCustomer,
	Indexes: party.Customers.Indexes,
}

func evolveCustomer(r party.Customer, _ projection.StreamKey, e domain.Recorded) party.Customer {
	switch ev := e.Event.(type) {
	case customer.Registered:
		r.Kind, r.Status = string(ev.Kind), party.CustomerActive
		r.RegisteredAt = e.OccurredAt
		column.Fill(&r, ev.Profile)
		column.Fill(&r, ev.Classification)
		r.Tags = slices.Clone(ev.Tags)
		r.ParentID, r.Source = column.ID(ev.ParentID), ev.Source
		if ev.Owner != "" {
			r.Owner, r.OwnerSince = ev.Owner, new(e.OccurredAt)
		}
		if ev.ExternalID != nil {
			r.ExternalIDs = map[string]string{ev.ExternalID.System: ev.ExternalID.ID}
		}
	case customer.ProfileChanged:
		column.FillMember(&r, ev.Field, ev.To)
	case customer.Classified:
		column.FillMember(&r, ev.Field, ev.To)
	case customer.Tagged:
		r.Tags = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(r.Tags), ev.Tag))))
	case customer.Untagged:
		r.Tags = without(r.Tags, func(tag string) bool { return tag == ev.Tag })
	case customer.PreferenceSet:
		p := party.Preference{Name: ev.Name, Value: ev.To, Evidence: ev.Evidence, Since: e.OccurredAt, EventID: e.ID}
		others := without(r.Preferences, func(p party.Preference) bool { return p.Name == ev.Name })
		r.Preferences = append(others, p)
		slices.SortFunc(r.Preferences, func(a, b party.Preference) int { return strings.Compare(a.Name, b.Name) })
	case customer.PreferenceDropped:
		r.Preferences = without(r.Preferences, func(p party.Preference) bool { return p.Name == ev.Name })
	case customer.OwnerAssigned:
		r.Owner, r.OwnerSince = ev.Owner, new(e.OccurredAt)
	case customer.OwnershipTransferred:
		r.Owner, r.OwnerSince = ev.To, new(e.OccurredAt)
	case customer.ParentSet:
		r.ParentID = column.ID(ev.To)
	case customer.ParentCleared:
		r.ParentID = nil
	case customer.MemberAdded:
		others := without(r.Members, func(m party.Member) bool { return m.ID == ev.MemberID })
		r.Members = append(others, party.Member{ID: ev.MemberID, Since: ev.Since})
		slices.SortFunc(r.Members, func(a, b party.Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	case customer.MemberRemoved:
		r.Members = without(r.Members, func(m party.Member) bool { return m.ID == ev.MemberID })
	case customer.Merged:
		r.Absorbed = append(slices.Clone(r.Absorbed), string(ev.DuplicateID))
	case customer.MergedInto:
		r.Status, r.MergedInto = party.CustomerMerged, column.ID(ev.SurvivorID)
	case customer.Deactivated:
		r.Status, r.StatusReason = party.CustomerInactive, ev.Reason
	case customer.Reactivated:
		r.Status, r.StatusReason = party.CustomerActive, ev.Reason
	}
	r.ChangedAt, r.Revision, r.Position = e.OccurredAt, int64(e.Revision), e.Position.Order()
	return r
}

// without returns a new slice of the elements that drop does not name: rows share their slices with rows before.
func without[T any](list []T, drop func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), drop)
}

// CustomerOwnerHistory tells who looked after a customer from when on.
var CustomerOwnerHistory = projection.Append[party.CustomerOwner]{
	Name: "customer_owner_history", Version: 1,
	Doc:    "Who looked after each customer from when on; ownership ends where the customer's next row begins.",
	Events: []string{"customer.registered", "customer.owner_assigned", "customer.ownership_transferred"},
	Rows: func(e domain.Recorded) []party.CustomerOwner {
		r := party.CustomerOwner{
			Tenant: e.Tenant, CustomerID: e.Stream.ID, Revision: int64(e.Revision), Since: e.OccurredAt,
			RecordedAt: e.RecordedAt, Actor: e.Actor.ID, Position: e.Position.Order(),
		}
		switch ev := e.Event.(type) {
		case customer.Registered:
			r.Owner = ev.Owner
		case customer.OwnerAssigned:
			r.Owner = ev.Owner
		case customer.OwnershipTransferred:
			r.Owner, r.Reason = ev.To, ev.Reason
		}
		if r.Owner == "" {
			return nil
		}
		return []party.CustomerOwner{r}
	},
	Indexes: party.CustomerOwners.Indexes,
}

// CustomerExternalID leads from identifiers in other systems to customers.
var CustomerExternalID = projection.Append[party.CustomerExternal]{
	Name: "customer_external_id", Version: 1,
	Doc:    "Identifiers of customers in other systems.",
	Events: []string{"customer.registered"},
	Rows: func(e domain.Recorded) []party.CustomerExternal {
		ev, ok := e.Event.(customer.Registered)
		if !ok || ev.ExternalID == nil {
			return nil
		}
		return []party.CustomerExternal{{
			Tenant: e.Tenant, System: ev.ExternalID.System, ExternalID: ev.ExternalID.ID, CustomerID: e.Stream.ID,
			Position: e.Position.Order(),
		}}
	},
}

// CustomerFeedback keeps what customers said of us.
var CustomerFeedback = projection.Append[party.CustomerFeedback]{
	Name: "customer_feedback", Version: 1,
	Doc:    "What customers said of us: praise, complaints and suggestions.",
	Events: []string{"customer.feedback_recorded"},
	Rows: func(e domain.Recorded) []party.CustomerFeedback {
		ev, ok := e.Event.(customer.FeedbackRecorded)
		if !ok {
			return nil
		}
		return []party.CustomerFeedback{{
			Tenant: e.Tenant, CustomerID: e.Stream.ID, Revision: int64(e.Revision), Polarity: string(ev.Polarity),
			Topic: ev.Topic, Text: ev.Text, OccurredAt: e.OccurredAt, Actor: e.Actor.ID, EventID: domain.ID(e.ID),
			Position: e.Position.Order(),
		}}
	},
	Indexes: party.Feedback.Indexes,
}

type commitmentKey struct {
	Tenant       domain.Tenant `db:"tenant"`
	CustomerID   domain.ID     `db:"customer_id"`
	CommitmentID string        `db:"commitment_id"`
}

// Commitment keeps what was promised to customers.
var Commitment = projection.Fold[commitmentKey, party.Commitment]{
	Name: "commitment", Version: 2,
	Doc:    "What was promised to customers, and whether it was kept.",
	Events: []string{"customer.commitment_recorded", "customer.commitment_kept", "customer.commitment_broken", "customer.commitment_overdue"},
	Keys: func(e domain.Recorded) []commitmentKey {
		id := ""
		switch ev := e.Event.(type) {
		case customer.CommitmentRecorded:
			id = ev.CommitmentID
		case customer.CommitmentKept:
			id = ev.CommitmentID
		case customer.CommitmentBroken:
			id = ev.CommitmentID
		case customer.CommitmentOverdue:
			id = ev.CommitmentID
		}
		return []commitmentKey{{e.Tenant, e.Stream.ID, id}}
	},
	Evolve: func(r party.Commitment, _ commitmentKey, e domain.Recorded) party.Commitment {
		switch ev := e.Event.(type) {
		case customer.CommitmentRecorded:
			r.Text, r.Due, r.By, r.Status, r.PromisedAt = ev.Text, ev.Due, ev.By, party.CommitmentOpen, e.OccurredAt
		case customer.CommitmentKept:
			r.Status, r.Note, r.SettledAt = party.CommitmentKept, ev.Note, new(e.OccurredAt)
		case customer.CommitmentBroken:
			r.Status, r.Note, r.SettledAt = party.CommitmentBroken, ev.Reason, new(e.OccurredAt)
		case customer.CommitmentOverdue:
			r.OverdueAt = new(e.OccurredAt)
		}
		r.Position = e.Position.Order()
		return r
	},
	Indexes: party.Commitments.Indexes,
}
