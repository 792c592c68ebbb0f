package view

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// customerView is what is explained of a customer.
type customerView struct {
	party.Customer360
	OpenValue []sales.OpenValue `json:"openValue"`
}

// family is the projection that says which customers were merged into which: every part of a customer needs it.
const family = "customer"

var customerKind = &kind[party.Customer360, customerView]{
	aggregate: "customer",
	family:    true,
	state:     func(v *customerView) *party.Customer360 { return &v.Customer360 },
	fillers: []filler[customerView]{
		{Part{Members: []string{"profile"}, Needs: []string{family}, Formula: query.LastStands}, fillProfile},
		{Part{Members: []string{"age"}, Needs: []string{family}, Formula: "whole years from the day of birth to today, in UTC"}, func(v *customerView, f Fold, of subject) {
			fillProfile(v, f, of)
			v.Age = v.Profile.Age(of.now)
		}},
		{Part{Members: []string{"absorbed"}, Needs: []string{family}, Formula: "all customers that were merged into this one"}, fillProfile},
		{Part{Members: []string{"parent", "children", "members", "groups"}, Needs: []string{family}, Formula: "who is related, under the name that each has"}, fillRelatives},
		{Part{Members: []string{"owners"}, Needs: []string{family, "customer_owner_history"}, Formula: "one period for each change of hands"}, fillOwners},
		{Part{Members: []string{"contacts"}, Needs: []string{family, "contact", "contact_link"}, Formula: "contacts whose part at the customer has not ended"}, fillContacts},
		{Part{Members: []string{"openCommitments"}, Needs: []string{family, "commitment"}, Formula: "promises that were neither kept nor broken"}, fillCommitments},
		{Part{Members: []string{"overdueCommitments"}, Needs: []string{family, "commitment"}, Formula: "number of open promises whose day is past, in UTC"}, fillCommitments},
		{Part{Members: []string{"feedback"}, Needs: []string{family, "customer_feedback"}, Formula: "everything that was said"}, fillFeedback},
		{Part{Members: []string{"openOpportunities", "wonOpportunities"}, Needs: []string{family, "opportunity"}, Formula: query.LastStands, Of: "opportunity"}, fillOpportunities},
		{Part{Members: []string{"lostOpportunities"}, Needs: []string{family, "opportunity"}, Formula: "number of lost opportunities"}, fillOpportunities},
		{Part{Members: []string{"orders"}, Needs: []string{family, "sales_order"}, Formula: query.LastStands, Of: "order"}, fillOrders},
		{Part{Members: []string{"lifetimeValue"}, Needs: []string{family, "customer_sales"}, Formula: "sums over orders and payments; net is gross plus credited less returned"}, fillLifetime},
		{Part{Members: []string{"interactions"}, Needs: []string{family, "interaction"}, Formula: "the last dealings that were not retracted", Of: "interaction"}, fillInteractions},
		{Part{Members: []string{"interactionCount"}, Needs: []string{family, "interaction"}, Formula: "number of dealings that were not retracted"}, fillInteractions},
		{Part{Members: []string{"lastContact"}, Needs: []string{family, "interaction"}, Formula: "the latest beginning of a dealing that was not retracted"}, fillInteractions},
		{Part{Members: []string{"openValue"}, Needs: []string{family, "opportunity"}, Formula: "sums over open opportunities; weighted is amount times probability", Explain: true}, fillOpenValue},
	},
}

// Family returns the customer that stands for id, then all that were merged into it, nearest first, as far as the events
// folded tell.
func Family(f Fold, id domain.ID) []domain.ID {
	customers := rows(f, family, func(party.Customer) bool { return true })
	into := map[domain.ID]domain.ID{}
	for _, c := range customers {
		if c.MergedInto != nil {
			into[c.ID] = *c.MergedInto
		}
	}
	seen := map[domain.ID]bool{}
	for into[id] != "" && !seen[id] {
		seen[id] = true
		id = into[id]
	}
	ids := []domain.ID{id}
	for level := ids; len(level) > 0; {
		var next []domain.ID
		for _, c := range customers { // in the order of ids
			if c.MergedInto != nil && slices.Contains(level, *c.MergedInto) && !slices.Contains(ids, c.ID) {
				next = append(next, c.ID)
			}
		}
		ids, level = append(ids, next...), next
	}
	return ids
}

func (s subject) has(id domain.ID) bool { return slices.Contains(s.family, id) }

func (s subject) hasOptional(id *domain.ID) bool { return id != nil && s.has(*id) }

func fillProfile(v *customerView, f Fold, of subject) {
	for _, c := range rows(f, family, func(c party.Customer) bool { return c.ID == of.id }) {
		v.Profile = c
	}
	v.Absorbed = slices.Clone(of.family[1:])
	if v.Absorbed == nil {
		v.Absorbed = []domain.ID{}
	}
}

func fillRelatives(v *customerView, f Fold, of subject) {
	customers := rows(f, family, func(party.Customer) bool { return true })
	at := slices.IndexFunc(customers, func(c party.Customer) bool { return c.ID == of.id })
	var self party.Customer
	if at >= 0 {
		self = customers[at]
	}
	member := func(group party.Customer, id domain.ID) bool {
		return slices.ContainsFunc(group.Members, func(m party.Member) bool { return m.ID == id })
	}
	v.Parent, v.Children, v.Members, v.Groups = nil, []party.CustomerName{}, []party.CustomerName{}, []party.CustomerName{}
	for _, c := range customers {
		name := party.CustomerName{ID: c.ID, Name: c.Name, Kind: c.Kind, Status: c.Status}
		if self.ParentID != nil && *self.ParentID == c.ID {
			v.Parent = &name
		}
		if of.hasOptional(c.ParentID) {
			v.Children = append(v.Children, name)
		}
		if member(self, c.ID) {
			v.Members = append(v.Members, name)
		}
		if c.Kind == "group" && member(c, of.id) {
			v.Groups = append(v.Groups, name)
		}
	}
	for _, list := range []*[]party.CustomerName{&v.Children, &v.Members, &v.Groups} {
		slices.SortFunc(*list, func(a, b party.CustomerName) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
		})
		*list = first(*list, party.Related360)
	}
}

func fillOwners(v *customerView, f Fold, of subject) {
	v.Owners = []party.OwnerPeriod{}
	list := rows(f, "customer_owner_history", func(r party.CustomerOwner) bool { return of.has(r.CustomerID) })
	for i, r := range list { // by customer and revision
		p := party.OwnerPeriod{CustomerID: r.CustomerID, Owner: r.Owner, Since: r.Since, Reason: r.Reason, Actor: r.Actor}
		if i+1 < len(list) && list[i+1].CustomerID == r.CustomerID {
			p.Until = &list[i+1].Since
		}
		v.Owners = append(v.Owners, p)
	}
	slices.SortStableFunc(v.Owners, func(a, b party.OwnerPeriod) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.CustomerID, b.CustomerID))
	})
}

func fillContacts(v *customerView, f Fold, of subject) {
	contacts := map[domain.ID]party.Contact{}
	for _, c := range rows(f, "contact", func(party.Contact) bool { return true }) {
		contacts[c.ID] = c
	}
	v.Contacts = []party.CustomerContact{}
	for _, l := range rows(f, "contact_link", func(l party.ContactLink) bool { return of.has(l.CustomerID) && l.Until == nil }) {
		c, known := contacts[l.ContactID]
		if !known {
			continue
		}
		v.Contacts = append(v.Contacts, party.CustomerContact{
			ContactID: l.ContactID, Name: strings.Trim(c.GivenName+" "+c.FamilyName, " "), Role: l.Role, Primary: l.Primary, Since: l.Since,
			Phone: c.Phone, Email: c.Email, JobTitle: c.JobTitle, CustomerID: l.CustomerID,
		})
	}
	slices.SortStableFunc(v.Contacts, func(a, b party.CustomerContact) int {
		if a.Primary != b.Primary {
			if a.Primary {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ContactID, b.ContactID), cmp.Compare(a.CustomerID, b.CustomerID))
	})
	v.Contacts = first(v.Contacts, party.Related360)
}

func fillCommitments(v *customerView, f Fold, of subject) {
	v.OpenCommitments = rows(f, "commitment", func(c party.Commitment) bool {
		return of.has(c.CustomerID) && c.Status == party.CommitmentOpen
	})
	slices.SortStableFunc(v.OpenCommitments, func(a, b party.Commitment) int {
		return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.CommitmentID, b.CommitmentID))
	})
	v.OpenCommitments = first(v.OpenCommitments, party.Related360)
	v.OverdueCommitments = 0
	today := domain.Date(of.now.UTC().Format(time.DateOnly))
	for _, c := range v.OpenCommitments {
		if c.Due < today {
			v.OverdueCommitments++
		}
	}
}

func fillFeedback(v *customerView, f Fold, of subject) {
	v.Feedback = rows(f, "customer_feedback", func(r party.CustomerFeedback) bool { return of.has(r.CustomerID) })
	slices.SortStableFunc(v.Feedback, func(a, b party.CustomerFeedback) int {
		return cmp.Or(b.OccurredAt.Compare(a.OccurredAt), cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(b.Revision, a.Revision))
	})
	v.Feedback = first(v.Feedback, party.Related360)
}

func fillOpportunities(v *customerView, f Fold, of subject) {
	v.OpenOpportunities, v.WonOpportunities = []sales.Opportunity{}, []sales.Opportunity{}
	v.LostOpportunities = 0
	for _, o := range rows(f, "opportunity", func(o sales.Opportunity) bool { return of.hasOptional(o.CustomerID) }) {
		switch o.Status {
		case sales.OpportunityOpen:
			v.OpenOpportunities = append(v.OpenOpportunities, o)
		case sales.OpportunityWon:
			v.WonOpportunities = append(v.WonOpportunities, o)
		case sales.OpportunityLost:
			v.LostOpportunities++
		}
	}
	slices.SortStableFunc(v.OpenOpportunities, func(a, b sales.Opportunity) int { return nullsLast(a.ExpectedClose, b.ExpectedClose) })
	slices.SortStableFunc(v.WonOpportunities, func(a, b sales.Opportunity) int { return newestFirst(a.ClosedAt, b.ClosedAt) })
	v.OpenOpportunities = first(v.OpenOpportunities, party.Related360)
	v.WonOpportunities = first(v.WonOpportunities, party.Related360)
}

func fillOpenValue(v *customerView, f Fold, of subject) {
	v.OpenValue = []sales.OpenValue{}
	for _, o := range rows(f, "opportunity", func(o sales.Opportunity) bool { return of.hasOptional(o.CustomerID) }) {
		if o.Status == sales.OpportunityOpen {
			addOpen(v, o)
		}
	}
	slices.SortFunc(v.OpenValue, func(a, b sales.OpenValue) int { return cmp.Compare(a.Currency, b.Currency) })
}

func addOpen(v *customerView, o sales.Opportunity) {
	i := slices.IndexFunc(v.OpenValue, func(s sales.OpenValue) bool { return s.Currency == o.Currency })
	if i < 0 {
		i = len(v.OpenValue)
		v.OpenValue = append(v.OpenValue, sales.OpenValue{Currency: o.Currency})
	}
	s := &v.OpenValue[i]
	s.Opportunities++
	if o.Amount != nil {
		s.Amount, s.Weighted = sum(s.Amount, *o.Amount), sum(s.Weighted, *o.Weighted())
	}
}

func fillOrders(v *customerView, f Fold, of subject) {
	v.Orders = rows(f, "sales_order", func(o sales.Order) bool { return of.hasOptional(o.CustomerID) })
	slices.SortStableFunc(v.Orders, func(a, b sales.Order) int { return b.PlacedAt.Compare(a.PlacedAt) })
	v.Orders = first(v.Orders, party.Related360)
}

func fillLifetime(v *customerView, f Fold, of subject) {
	v.LifetimeValue = []party.LifetimeValue{}
	for _, s := range rows(f, "customer_sales", func(s sales.CustomerSales) bool { return of.has(s.CustomerID) }) {
		i := slices.IndexFunc(v.LifetimeValue, func(l party.LifetimeValue) bool { return l.Currency == s.Currency })
		if i < 0 {
			i = len(v.LifetimeValue)
			v.LifetimeValue = append(v.LifetimeValue, party.LifetimeValue{Currency: s.Currency})
		}
		addSales(&v.LifetimeValue[i], s)
	}
	slices.SortFunc(v.LifetimeValue, func(a, b party.LifetimeValue) int { return cmp.Compare(a.Currency, b.Currency) })
}

func addSales(l *party.LifetimeValue, s sales.CustomerSales) {
	l.Orders, l.Credits, l.Adjustments, l.Cancelled = l.Orders+s.Orders, l.Credits+s.Credits, l.Adjustments+s.Adjustments, l.Cancelled+s.Cancelled
	l.Gross, l.Credited, l.Returned = sum(l.Gross, s.Gross), sum(l.Credited, s.Credited), sum(l.Returned, s.Returned)
	l.Net, l.Paid, l.Refunded = sum(l.Net, s.Net), sum(l.Paid, s.Paid), sum(l.Refunded, s.Refunded)
	if s.FirstOrderAt != nil && (l.FirstOrderAt == nil || s.FirstOrderAt.Before(*l.FirstOrderAt)) {
		l.FirstOrderAt = s.FirstOrderAt
	}
	if s.LastOrderAt != nil && (l.LastOrderAt == nil || s.LastOrderAt.After(*l.LastOrderAt)) {
		l.LastOrderAt = s.LastOrderAt
	}
}

func fillInteractions(v *customerView, f Fold, of subject) {
	list := rows(f, "interaction", func(i party.Interaction) bool {
		return of.hasOptional(i.CustomerID) && i.Status == party.InteractionLogged
	})
	slices.SortStableFunc(list, func(a, b party.Interaction) int { return b.StartedAt.Compare(a.StartedAt) })
	v.InteractionCount, v.LastContact = int64(len(list)), nil
	if len(list) > 0 {
		v.LastContact = &list[0].StartedAt
	}
	v.Interactions = first(list, party.Interactions360)
}

func sum(a, b domain.Amount) domain.Amount { return domain.NewAmount(a.Add(b.Decimal)) }
