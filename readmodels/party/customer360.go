package party

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// Bounds of the lists in a 360° view or a digest; the lists of the resources page through the rest.
const (
	Related360      = 100 // rows of each list
	Interactions360 = 10  // dealings, the last ones
)

// Customer360 is everything that a person who picks up the telephone must know of a customer, over all customers that
// were merged into it. Each list ends at 100 rows; counts and sums do not.
type Customer360 struct {
	Profile            Customer            `json:"profile" doc:"The customer as it stands now."`
	Age                *int                `json:"age,omitempty" doc:"Age of a person in whole years today, in UTC."`
	Absorbed           []domain.ID         `json:"absorbed" doc:"Customers that were merged into this one; their rows are included below."`
	Parent             *CustomerName       `json:"parent,omitempty" doc:"The company that it belongs to."`
	Children           []CustomerName      `json:"children" doc:"Companies that belong to it."`
	Members            []CustomerName      `json:"members" doc:"Members of the group."`
	Groups             []CustomerName      `json:"groups" doc:"Groups of which it is a member."`
	Owners             []OwnerPeriod       `json:"owners" doc:"Who looked after it and when, the first one first."`
	Contacts           []CustomerContact   `json:"contacts" doc:"Contacts that play a part now, primary ones first."`
	OpenCommitments    []Commitment        `json:"openCommitments" doc:"What we promised and have not settled, the most pressing first."`
	OverdueCommitments int                 `json:"overdueCommitments" doc:"How many of them are past their day."`
	Feedback           []CustomerFeedback  `json:"feedback" doc:"What the customer said of us, newest first."`
	OpenOpportunities  []sales.Opportunity `json:"openOpportunities" doc:"Open opportunities, the next expected close first."`
	WonOpportunities   []sales.Opportunity `json:"wonOpportunities" doc:"Won opportunities, newest first."`
	LostOpportunities  int64               `json:"lostOpportunities" doc:"Number of lost opportunities."`
	Orders             []sales.Order       `json:"orders" doc:"Orders, credits and adjustments, newest first."`
	LifetimeValue      []LifetimeValue     `json:"lifetimeValue" doc:"Sales per currency over all time."`
	Interactions       []Interaction       `json:"interactions" doc:"The last dealings, newest first."`
	InteractionCount   int64               `json:"interactionCount" doc:"Number of all dealings."`
	LastContact        *time.Time          `json:"lastContact,omitempty" doc:"When we last dealt with the customer."`
}

// CustomerName is a customer in short.
type CustomerName struct {
	ID     domain.ID `db:"id" json:"id" element:"key" doc:"The customer."`
	Name   string    `db:"name" json:"name" doc:"Name by which people know the customer."`
	Kind   string    `db:"kind" json:"kind" doc:"company, person or group."`
	Status string    `db:"status" json:"status" doc:"active, inactive or merged."`
}

// OwnerPeriod is the time in which one person looked after a customer.
type OwnerPeriod struct {
	CustomerID domain.ID  `db:"customer_id" json:"customerId" doc:"The customer; one merged into another keeps its own periods."`
	Owner      string     `db:"owner" json:"owner" doc:"User name of the owner."`
	Since      time.Time  `db:"since" json:"since" doc:"When ownership began."`
	Until      *time.Time `db:"until" json:"until,omitempty" doc:"When it ended; absent while it holds."`
	Reason     string     `db:"reason" json:"reason,omitempty" doc:"Why the customer changed hands."`
	Actor      string     `db:"actor" json:"actor" doc:"Who recorded it."`
}

// CustomerContact is a contact in the part that it plays at a customer.
type CustomerContact struct {
	ContactID  domain.ID   `db:"contact_id" json:"contactId" element:"key" doc:"The contact."`
	Name       string      `db:"name" json:"name" doc:"Name of the contact."`
	Role       string      `db:"role" json:"role" doc:"The part played."`
	Primary    bool        `db:"is_primary" json:"primary" doc:"Whether the contact is the first to turn to."`
	Since      domain.Date `db:"since" json:"since" doc:"First day of the part."`
	Phone      string      `db:"phone" json:"phone,omitempty" doc:"Telephone number in E.164."`
	Email      string      `db:"email" json:"email,omitempty" doc:"E-mail address."`
	JobTitle   string      `db:"job_title" json:"jobTitle,omitempty" doc:"Job title."`
	CustomerID domain.ID   `db:"customer_id" json:"customerId" doc:"The customer."`
}

// LifetimeValue sums the sales of a customer in one currency.
type LifetimeValue struct {
	Currency     string        `db:"currency" json:"currency" element:"key" doc:"ISO 4217 code of all amounts."`
	Orders       int64         `db:"orders" json:"orders" doc:"Sales placed, cancelled ones included."`
	Credits      int64         `db:"credits" json:"credits" doc:"Credits placed."`
	Adjustments  int64         `db:"adjustments" json:"adjustments" doc:"Adjustments placed."`
	Cancelled    int64         `db:"cancelled" json:"cancelled" doc:"Orders that were cancelled."`
	Gross        domain.Amount `db:"gross" json:"gross" doc:"Sum of sales that were not cancelled."`
	Credited     domain.Amount `db:"credited" json:"credited" doc:"Sum of credits and adjustments that were not cancelled."`
	Returned     domain.Amount `db:"returned" json:"returned" doc:"Value of goods of sales that came back."`
	Net          domain.Amount `db:"net" json:"net" doc:"Gross and credited less returned: the lifetime value by revenue."`
	Paid         domain.Amount `db:"paid" json:"paid" doc:"Payments received."`
	Refunded     domain.Amount `db:"refunded" json:"refunded" doc:"Payments paid back."`
	FirstOrderAt *time.Time    `db:"first_order_at" json:"firstOrderAt,omitempty" doc:"When the first sale was placed."`
	LastOrderAt  *time.Time    `db:"last_order_at" json:"lastOrderAt,omitempty" doc:"When the last sale was placed."`
}

const (
	ownersSQL = `
select customer_id, owner, since, lead(since) over (partition by customer_id order by revision) as until, reason, actor
from customer_owner_history
where tenant = $1 and customer_id = any($2::uuid[])
order by since, customer_id, revision`

	contactsOfSQL = `
select l.contact_id, trim(c.given_name || ' ' || c.family_name) as name, l.role, l.is_primary, l.since, c.phone, c.email,
	c.job_title, l.customer_id
from contact_link l
join contact c on c.tenant = l.tenant and c.id = l.contact_id
where l.tenant = $1 and l.customer_id = any($2::uuid[]) and l.until is null
order by l.is_primary desc, name, l.contact_id, l.customer_id
limit $3`

	lifetimeSQL = `
select currency, sum(orders)::bigint as orders, sum(credits)::bigint as credits, sum(adjustments)::bigint as adjustments,
	sum(cancelled)::bigint as cancelled, sum(gross) as gross, sum(credited) as credited, sum(returned) as returned,
	sum(net) as net, sum(paid) as paid, sum(refunded) as refunded, min(first_order_at) as first_order_at,
	max(last_order_at) as last_order_at
from customer_sales
where tenant = $1 and customer_id = any($2::uuid[])
group by currency
order by currency`

	namesSQL = "select id, name, kind, status from customer where tenant = $1 and "

	dealingsSQL = `
select count(*) as count, max(started_at) as last
from interaction
where tenant = $1 and customer_id = any($2::uuid[]) and status = 'logged'`

	lostSQL = `
select count(*) as count, null::timestamptz as last
from opportunity
where tenant = $1 and customer_id = any($2::uuid[]) and status = 'lost'`
)

// dealings is a number of rows and the last time among them.
type dealings struct {
	Count int64      `db:"count"`
	Last  *time.Time `db:"last"`
}

// Read360 returns the 360° view of a customer as of now, or a *domain.NotFoundError. For a customer that was merged
// into another it is the view of the survivor, as Profile.ID tells.
func Read360(ctx context.Context, s *query.Store, id domain.ID, now time.Time) (Customer360, domain.Position, error) {
	reach, err := s.StreamsOf(ctx, query.Views("customer", "customer_owner_history", "contact", "contact_link", "commitment", "customer_feedback",
		"opportunity", "sales_order", "customer_sales", "interaction"), relatedStreamsSQL, string(s.Tenant()), string(id))
	if err != nil {
		return Customer360{}, domain.Position{}, err
	}
	var answer Customer360
	var at domain.Position
	err = s.Within(ctx, reach, func(q query.Querier) error {
		family, err := family(ctx, q, s.Tenant(), id)
		if err == nil {
			answer, at, err = view360(ctx, s, q, family, s.Now(now))
		}
		return err
	})
	return answer, at, err
}

// view360 reads the view of a family of customers, the survivor first.
func view360(ctx context.Context, s *query.Store, q query.Querier, family []string, now time.Time) (Customer360, domain.Position, error) {
	const ofFamily = "tenant = $1 and customer_id = any($2::uuid[])"
	const limited = " limit $3"
	t, root := string(s.Tenant()), family[0]
	var (
		answer   Customer360
		profile  []Customer
		parents  []CustomerName
		lost     []dealings
		dealt    []dealings
		read     query.Reading
		absorbed = family[1:]
	)
	Customers.Queue(&read, &profile, "tenant = $1 and id = $2", t, root)
	query.Queue(&read, &parents, namesSQL+"id = (select parent_id from customer where tenant = $1 and id = $2)", t, root)
	query.Queue(&read, &answer.Children, namesSQL+"parent_id = any($2::uuid[]) order by name, id limit $3", t, family, Related360)
	query.Queue(&read, &answer.Members, namesSQL+`id in (
		select (m->>'id')::uuid from customer g, jsonb_array_elements(g.members) m where g.tenant = $1 and g.id = $2
	) order by name, id limit $3`, t, root, Related360)
	query.Queue(&read, &answer.Groups, namesSQL+`kind = 'group' and members @> jsonb_build_array(jsonb_build_object('id', $2::text))
		order by name, id limit $3`, t, root, Related360)
	query.Queue(&read, &answer.Owners, ownersSQL, t, family)
	query.Queue(&read, &answer.Contacts, contactsOfSQL, t, family, Related360)
	Commitments.Queue(&read, &answer.OpenCommitments, ofFamily+" and status = 'open' order by due, customer_id, commitment_id"+limited, t, family, Related360)
	Feedback.Queue(&read, &answer.Feedback, ofFamily+" order by occurred_at desc, customer_id, revision desc"+limited, t, family, Related360)
	sales.Opportunities.Queue(&read, &answer.OpenOpportunities, ofFamily+" and status = 'open' order by expected_close, id"+limited, t, family, Related360)
	sales.Opportunities.Queue(&read, &answer.WonOpportunities, ofFamily+" and status = 'won' order by closed_at desc, id"+limited, t, family, Related360)
	query.Queue(&read, &lost, lostSQL, t, family)
	sales.Orders.Queue(&read, &answer.Orders, ofFamily+" order by placed_at desc, id"+limited, t, family, Related360)
	query.Queue(&read, &answer.LifetimeValue, lifetimeSQL, t, family)
	Interactions.Queue(&read, &answer.Interactions, ofFamily+" and status = 'logged' order by started_at desc, id"+limited, t, family, Interactions360)
	query.Queue(&read, &dealt, dealingsSQL, t, family)
	at, err := s.Send(ctx, q, &read)
	if err == nil && len(profile) == 0 {
		err = &domain.NotFoundError{Kind: "customer", ID: root}
	}
	if err != nil {
		return Customer360{}, at, err
	}
	answer.Profile = profile[0]
	answer.Age = answer.Profile.Age(now)
	answer.Absorbed = make([]domain.ID, len(absorbed))
	for i, id := range absorbed {
		answer.Absorbed[i] = domain.ID(id)
	}
	if len(parents) > 0 {
		answer.Parent = &parents[0]
	}
	today := domain.Date(now.UTC().Format(time.DateOnly))
	for _, c := range answer.OpenCommitments {
		if c.Due < today {
			answer.OverdueCommitments++
		}
	}
	answer.LostOpportunities = lost[0].Count
	answer.InteractionCount, answer.LastContact = dealt[0].Count, dealt[0].Last
	return answer, at, nil
}

// Handover is what a colleague must know who takes over from an owner. Each list ends at 100 rows; counts do not.
type Handover struct {
	Owner             string              `json:"owner" doc:"User name of the owner."`
	Customers         int64               `json:"customers" doc:"Number of active customers that the owner looks after."`
	OpenOpportunities []sales.Opportunity `json:"openOpportunities" doc:"Open opportunities of the owner, or with the owner's customers and what they absorbed, the next expected close first."`
	OpenCommitments   []Commitment        `json:"openCommitments" doc:"Unsettled promises to the owner's customers and to what they absorbed, or by the owner, the most pressing first."`
	LastContacts      []Interaction       `json:"lastContacts" doc:"The last ten dealings with the owner's customers and with what they absorbed, newest first."`
}

// ReadHandover returns the handover digest of an owner; it is empty for one who looks after nothing.
func ReadHandover(ctx context.Context, s *query.Store, owner string) (Handover, domain.Position, error) {
	const owned = `customer_id in (
		with recursive family as (
			select id from customer where tenant = $1 and owner = $2 and status = 'active'
			union
			select c.id from customer c join family on c.merged_into = family.id where c.tenant = $1
		)
		select id from family)`
	t := string(s.Tenant())
	answer := Handover{Owner: owner}
	var count []dealings
	var read query.Reading
	query.Queue(&read, &count, `select count(*) as count, null::timestamptz as last from customer
		where tenant = $1 and owner = $2 and status = 'active'`, t, owner)
	sales.Opportunities.Queue(&read, &answer.OpenOpportunities,
		"tenant = $1 and status = 'open' and (owner = $2 or "+owned+") order by expected_close, id limit $3", t, owner, Related360)
	Commitments.Queue(&read, &answer.OpenCommitments,
		"tenant = $1 and status = 'open' and (promised_by = $2 or "+owned+") order by due, customer_id, commitment_id limit $3", t, owner, Related360)
	Interactions.Queue(&read, &answer.LastContacts,
		"tenant = $1 and status = 'logged' and "+owned+" order by started_at desc, id limit $3", t, owner, Interactions360)
	at, err := s.Read(ctx, query.Views("customer", "opportunity", "commitment", "interaction"), &read)
	if err != nil {
		return Handover{}, at, err
	}
	answer.Customers = count[0].Count
	return answer, at, nil
}
