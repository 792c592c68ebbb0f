package customer

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// MaxAncestors bounds the chain of companies above a company.
const MaxAncestors = 64

func setParent(c Customer, cmd SetParent, self domain.ID) ([]domain.Event, error) {
	if cmd.ParentID == c.ParentID {
		return nil, nil
	}
	if err := mayBeParent(c.Kind, self, cmd.ParentID, cmd.Parent, cmd.Ancestors); err != nil {
		return nil, err
	}
	return one(ParentSet{From: c.ParentID, To: cmd.ParentID})
}

// mayBeParent rejects a parent that would make the hierarchy something else than trees of companies.
func mayBeParent(kind Kind, self, id domain.ID, parent Customer, ancestors []domain.ID) error {
	switch {
	case kind != Company:
		return domain.Reject("hierarchy-of-companies", "a {kind} has no parent company", kind).At("/parentId")
	case id == self || slices.Contains(ancestors, self):
		return domain.Reject("hierarchy-cycle", "{customerId} belongs to this company itself", id).At("/parentId")
	case !parent.Exists():
		return unknown("/parentId", id)
	case parent.MergedInto != "":
		return merged(parent).At("/parentId")
	case parent.Kind != Company:
		return domain.Reject("hierarchy-of-companies", "a {kind} cannot be a parent company", parent.Kind).At("/parentId")
	case len(ancestors) >= MaxAncestors:
		return domain.Reject("hierarchy-too-deep", "there would be more than {limit} companies above", MaxAncestors).At("/parentId")
	}
	return nil
}

// Membership is the newest stay of a member in a group.
type Membership struct {
	Since domain.Date
	Until domain.Date // empty while it lasts
}

func addMember(c Customer, cmd AddMember, f domain.Facts) ([]domain.Event, error) {
	if c.Kind != Group {
		return nil, notGroup(c.Kind)
	}
	since := cmd.Since
	if since == "" {
		since = domain.DateOf(f.OccurredAt)
	}
	before, known := c.Members[cmd.MemberID]
	if known && before.Until == "" {
		if cmd.Since == "" || cmd.Since == before.Since {
			return nil, nil
		}
		return nil, domain.Reject("already-member", "a member since {since}", before.Since).At("/since")
	}
	switch {
	case !cmd.Member.Exists():
		return nil, unknown("/memberId", cmd.MemberID)
	case cmd.Member.MergedInto != "":
		return nil, merged(cmd.Member).At("/memberId")
	case cmd.Member.Kind == Group:
		return nil, domain.Reject("member-is-group", "a group cannot be a member of a group").At("/memberId")
	case known && since < before.Until:
		return nil, domain.Reject("membership-overlaps", "was a member until {until}", before.Until).At("/since")
	case c.Inactive:
		return nil, inactive()
	case currentMembers(c) >= MaxMembers:
		return nil, tooMany("members", MaxMembers)
	}
	return one(MemberAdded{MemberID: cmd.MemberID, Since: since})
}

func removeMember(c Customer, cmd RemoveMember, f domain.Facts) ([]domain.Event, error) {
	m, known := c.Members[cmd.MemberID]
	switch {
	case c.Kind != Group:
		return nil, notGroup(c.Kind)
	case !known:
		return nil, domain.Reject("not-a-member", "{memberId} was never a member", cmd.MemberID).At("/memberId")
	case m.Until != "" && (cmd.Until == "" || cmd.Until == m.Until):
		return nil, nil
	case m.Until != "":
		return nil, domain.Reject("membership-ended", "was a member until {until}", m.Until).At("/until")
	}
	until := cmd.Until
	if until == "" {
		until = domain.DateOf(f.OccurredAt)
	}
	if until < m.Since {
		return nil, domain.Reject("ends-before-it-began", "a member since {since}", m.Since).At("/until")
	}
	return one(MemberRemoved{MemberID: cmd.MemberID, Since: m.Since, Until: until})
}

func currentMembers(c Customer) (n int) {
	for _, m := range c.Members {
		if m.Until == "" {
			n++
		}
	}
	return n
}

func notGroup(k Kind) error {
	return domain.Reject("not-a-group", "a {kind} has no members", k)
}
