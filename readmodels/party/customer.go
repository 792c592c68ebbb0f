package party

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// The states of a customer.
const (
	CustomerActive   = "active"
	CustomerInactive = "inactive"
	CustomerMerged   = "merged" // it was a duplicate; MergedInto stands for it
)

// Customer is one customer as it stands now.
type Customer struct {
	Tenant          domain.Tenant     `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID              domain.ID         `db:"id,key" json:"id" doc:"The customer."`
	Kind            string            `db:"kind" json:"kind" doc:"company, person or group."`
	Name            string            `db:"name" json:"name" personal:"true" of:"id" doc:"Name by which people know the customer."`
	LegalName       string            `db:"legal_name" json:"legalName,omitempty" personal:"true" of:"id" doc:"Registered name; empty when unknown."`
	TaxID           string            `db:"tax_id" json:"taxId,omitempty" personal:"true" of:"id" doc:"Tax or registration number; empty when unknown."`
	Email           string            `db:"email" json:"email,omitempty" personal:"true" of:"id" doc:"E-mail address in lower case; empty when unknown."`
	Phone           string            `db:"phone" json:"phone,omitempty" personal:"true" of:"id" doc:"Telephone number in E.164; empty when unknown."`
	Website         string            `db:"website" json:"website,omitempty" doc:"Address of the web site; empty when unknown."`
	Street          string            `db:"street" json:"street,omitempty" member:"address.street" personal:"true" of:"id" doc:"Postal address: street and number."`
	City            string            `db:"city" json:"city,omitempty" member:"address.city" personal:"true" of:"id" doc:"Postal address: city or town."`
	AddressRegion   string            `db:"address_region" json:"addressRegion,omitempty" member:"address.region" personal:"true" of:"id" doc:"Postal address: state, province or county."`
	PostalCode      string            `db:"postal_code" json:"postalCode,omitempty" member:"address.postalCode" personal:"true" of:"id" doc:"Postal address: postal code."`
	Country         string            `db:"country" json:"country,omitempty" member:"address.country" personal:"true" of:"id" doc:"Postal address: ISO 3166-1 alpha-2 code."`
	BirthDate       *domain.Date      `db:"birth_date" json:"birthDate,omitempty" personal:"true" of:"id" doc:"Day of birth of a person."`
	Gender          string            `db:"gender" json:"gender,omitempty" personal:"true" of:"id" doc:"female, male, other or undisclosed; empty when unknown."`
	Employees       int64             `db:"employees" json:"employees,omitempty" doc:"Number of people employed; 0 when unknown."`
	Revenue         *domain.Amount    `db:"revenue" json:"revenue,omitempty" member:"revenue.amount" doc:"Revenue of a year."`
	RevenueCurrency string            `db:"revenue_currency" json:"revenueCurrency,omitempty" member:"revenue.currency" doc:"ISO 4217 code of the revenue."`
	FoundedYear     int64             `db:"founded_year" json:"foundedYear,omitempty" doc:"Year of foundation; 0 when unknown."`
	Industry        string            `db:"industry" json:"industry,omitempty" doc:"Line of business; empty when unclassified."`
	Occupation      string            `db:"occupation" json:"occupation,omitempty" personal:"true" of:"id" doc:"Occupation of a person; empty when unclassified."`
	AgeBand         string            `db:"age_band" json:"ageBand,omitempty" doc:"Band of ages such as 18-29; empty when unclassified."`
	Region          string            `db:"region" json:"region,omitempty" doc:"Sales region; empty when unclassified."`
	Tags            []string          `db:"tags" json:"tags" doc:"Labels in lower case, in order: a JSON array of text."`
	Preferences     []Preference      `db:"preferences" json:"preferences" personal:"true" of:"id" doc:"What the customer prefers, by name: a JSON array of name, value, evidence (ids of the events that show it), since, eventId."`
	Owner           string            `db:"owner" json:"owner,omitempty" doc:"User name of the person who looks after the customer; empty when nobody does."`
	OwnerSince      *time.Time        `db:"owner_since" json:"ownerSince,omitempty" doc:"Since when the owner looks after the customer."`
	ParentID        *domain.ID        `db:"parent_id" json:"parentId,omitempty" doc:"The company that this company belongs to."`
	Members         []Member          `db:"members" json:"members" doc:"Present members of a group: a JSON array of id and since."`
	Source          string            `db:"source" json:"source,omitempty" doc:"Where the customer came from."`
	ExternalIDs     map[string]string `db:"external_ids" json:"externalIds" doc:"Identifiers in other systems: a JSON object from system to identifier."`
	Status          string            `db:"status" json:"status" doc:"active, inactive or merged."`
	StatusReason    string            `db:"status_reason" json:"statusReason,omitempty" doc:"Why the customer was deactivated or reactivated last."`
	MergedInto      *domain.ID        `db:"merged_into" json:"mergedInto,omitempty" doc:"The customer that stands for this one, which was a duplicate."`
	Absorbed        []string          `db:"absorbed" json:"absorbed" doc:"Customers that this one has absorbed as its duplicates, in order: a JSON array of ids."`
	RegisteredAt    time.Time         `db:"registered_at" json:"registeredAt" doc:"When the customer became known, in the business."`
	ChangedAt       time.Time         `db:"changed_at" json:"changedAt" doc:"When the last change happened, in the business."`
	Revision        int64             `db:"revision" json:"revision" doc:"Revision of the customer's own stream."`
	Position        int64             `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// Preference is something that a customer prefers.
type Preference struct {
	Name     string      `json:"name" element:"key" doc:"What the preference is about."`
	Value    string      `json:"value" doc:"What is preferred."`
	Evidence []domain.ID `json:"evidence,omitempty" doc:"Ids of the events that show it."`
	Since    time.Time   `json:"since" doc:"When it was set."`
	EventID  string      `json:"eventId" doc:"Id of the event that set it."`
}

// Member is a member of a group.
type Member struct {
	ID    domain.ID   `json:"id" element:"key" doc:"The member, a customer."`
	Since domain.Date `json:"since,omitempty" doc:"First day of membership."`
}

// CustomerOwner is one owner of a customer, from a time on.
type CustomerOwner struct {
	Tenant     domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	CustomerID domain.ID     `db:"customer_id,key" json:"customerId" doc:"The customer."`
	Revision   int64         `db:"revision,key" json:"revision" doc:"Revision of the customer's stream at which ownership began."`
	Owner      string        `db:"owner" json:"owner" doc:"User name of the owner."`
	Since      time.Time     `db:"since" json:"since" doc:"When ownership began; it ends where the next row of the customer begins."`
	RecordedAt time.Time     `db:"recorded_at" json:"recordedAt" doc:"When we learned it."`
	Reason     string        `db:"reason" json:"reason,omitempty" doc:"Why the customer changed hands."`
	Actor      string        `db:"actor" json:"actor" doc:"Who recorded it."`
	Position   int64         `db:"position" json:"position" doc:"Place in the log of the event."`
}

// CustomerExternal leads from an identifier in another system to the customer.
type CustomerExternal struct {
	Tenant     domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	System     string        `db:"system,key" json:"system" doc:"The other system."`
	ExternalID string        `db:"external_id,key" json:"externalId" doc:"The identifier there."`
	CustomerID domain.ID     `db:"customer_id,key" json:"customerId" doc:"The customer."`
	Position   int64         `db:"position" json:"position" doc:"Place in the log of the event."`
}

// The kinds of relation between customers.
const (
	RelationParent = "parent" // a company belongs to another
	RelationMember = "member" // a customer is a member of a group
	RelationMerged = "merged" // a duplicate, to the customer that stands for it
)

// CustomerRelation says that a customer belongs, or belonged, to another.
type CustomerRelation struct {
	Tenant     domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	CustomerID domain.ID     `db:"customer_id,key" json:"customerId" doc:"The customer that belongs to the other."`
	OtherID    domain.ID     `db:"other_id,key" json:"otherId" doc:"The parent, the group, or the customer that stands for a duplicate."`
	Kind       string        `db:"kind,key" json:"kind" doc:"parent, member or merged."`
	Since      domain.Date   `db:"since" json:"since" doc:"First day, of the newest such relation."`
	Until      *domain.Date  `db:"until" json:"until,omitempty" doc:"Day from which it no longer holds; null while it does."`
	Position   int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// CustomerFeedback is something that a customer said of us.
type CustomerFeedback struct {
	Tenant     domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	CustomerID domain.ID     `db:"customer_id,key" json:"customerId" doc:"The customer."`
	Revision   int64         `db:"revision,key" json:"revision" doc:"Revision of the customer's stream."`
	Polarity   string        `db:"polarity" json:"polarity" doc:"praise, complaint or suggestion."`
	Topic      string        `db:"topic" json:"topic" doc:"What it is about."`
	Text       string        `db:"text" json:"text,omitempty" sort:"-" personal:"true" of:"customer_id" doc:"What was said."`
	OccurredAt time.Time     `db:"occurred_at" json:"occurredAt" doc:"When it was said."`
	Actor      string        `db:"actor" json:"actor" doc:"Who recorded it."`
	EventID    domain.ID     `db:"event_id" json:"eventId" element:"key" doc:"The event."`
	Position   int64         `db:"position" json:"position" doc:"Place in the log of the event."`
}

// The states of a commitment.
const (
	CommitmentOpen   = "open"
	CommitmentKept   = "kept"
	CommitmentBroken = "broken"
)

// Commitment is something that we promised to a customer. It is overdue while it is open after its day.
type Commitment struct {
	Tenant       domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	CustomerID   domain.ID     `db:"customer_id,key" json:"customerId" doc:"The customer."`
	CommitmentID string        `db:"commitment_id,key" json:"commitmentId" element:"key" doc:"Identifier within the customer."`
	Text         string        `db:"text" json:"text" personal:"true" of:"customer_id" doc:"What was promised."`
	Due          domain.Date   `db:"due" json:"due" doc:"The day by which it was promised."`
	By           string        `db:"promised_by" json:"by" doc:"User name of the person who promised."`
	Status       string        `db:"status" json:"status" doc:"open, kept or broken; open after its day means overdue."`
	Note         string        `db:"note" json:"note,omitempty" personal:"true" of:"customer_id" doc:"How it was kept, or why it was broken."`
	PromisedAt   time.Time     `db:"promised_at" json:"promisedAt" doc:"When it was promised."`
	SettledAt    *time.Time    `db:"settled_at" json:"settledAt,omitempty" doc:"When it was kept or broken."`
	OverdueAt    *time.Time    `db:"overdue_at" json:"overdueAt,omitempty" doc:"When its day was over while it was open; null for a promise that was settled in time, or whose day is not over."`
	Position     int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// Age returns the age in whole years on the day of at, in UTC; nil when the day of birth is not known or lies ahead.
func (c Customer) Age(at time.Time) *int {
	if c.BirthDate == nil {
		return nil
	}
	born, at := c.BirthDate.Time(), at.UTC()
	years := at.Year() - born.Year()
	if at.Month() < born.Month() || at.Month() == born.Month() && at.Day() < born.Day() {
		years--
	}
	if years < 0 {
		return nil
	}
	return &years
}

// Customers lists customers, merged ones included.
var Customers = &query.Resource[Customer]{
	Name: "customers", Path: "/v1/customers", About: "customer", View: "customer",
	Doc:  "Lists customers, merged ones included.",
	Sort: "-changedAt",
	Indexes: []query.Index{
		{Name: "phone", Columns: "tenant, phone", Where: "phone <> ''"},
		{Name: "email", Columns: "tenant, email", Where: "email <> ''"},
		{Name: "tax_id", Columns: "tenant, tax_id", Where: "tax_id <> ''"},
		{Name: "name", Columns: "tenant, lower(name) text_pattern_ops"},
		{Name: "owner", Columns: "tenant, owner", Where: "owner <> ''"},
		{Name: "parent", Columns: "tenant, parent_id", Where: "parent_id is not null"},
		{Name: "merged", Columns: "tenant, merged_into", Where: "merged_into is not null"},
		{Name: "changed", Columns: "tenant, changed_at desc, id desc"},
		{Name: "members", Columns: "members jsonb_path_ops", Where: "kind = 'group'", Using: "gin"},
	},
	Example: query.Example{Filter: `status == "active" && kind == "company"`, Sort: "name"},
}

// CustomerRecord is one customer, merged or not.
var CustomerRecord = &query.Record[Customer]{
	Name: "customer", Path: "/v1/customers/{id}", Aggregate: "customer",
	Doc:   "Returns one customer.",
	Words: "a customer and everything linked to it", Explains: "/profile/name",
	Replayed: query.ReplayOf[Customer360](),
	Row:      query.Itself(Customers),
}

// CustomerOwners lists who looked after each customer from when on.
var CustomerOwners = &query.Resource[CustomerOwner]{
	Name: "customerOwners", Path: "/v1/customer-owners", About: "customer", View: "customer_owner_history",
	Doc:     "Lists who looked after each customer from when on.",
	Sort:    "since",
	Indexes: []query.Index{{Name: "owner", Columns: "tenant, owner, since"}},
	Example: query.Example{Filter: `owner == "ann"`, Sort: "-since"},
}

// CustomerRelations lists which customers belong, or belonged, to which: companies to a parent, members to a group, duplicates to the customer that stands for them.
var CustomerRelations = &query.Resource[CustomerRelation]{
	Name: "customerRelations", Path: "/v1/customer-relations", About: "customer", View: "customer_relation",
	Doc:     "Lists which customers belong, or belonged, to which: companies to a parent, members to a group, duplicates to the customer that stands for them.",
	Sort:    "since",
	Indexes: []query.Index{{Name: "other", Columns: "tenant, other_id"}},
	Example: query.Example{Filter: `kind == "member" && until == null`, Sort: "since"},
}

// CustomerExternals lists the identifiers of customers in other systems.
var CustomerExternals = &query.Resource[CustomerExternal]{
	Name: "externalIds", Path: "/v1/external-ids", About: "customer", View: "customer_external_id",
	Doc:     "Lists the identifiers of customers in other systems.",
	Sort:    "system,externalId",
	Example: query.Example{Filter: `system == "webshop"`, Sort: "externalId"},
}

// Feedback lists what customers said of us.
var Feedback = &query.Resource[CustomerFeedback]{
	Name: "feedback", Path: "/v1/feedback", About: "customer", View: "customer_feedback",
	Doc:     "Lists what customers said of us.",
	Sort:    "-occurredAt",
	Indexes: []query.Index{{Name: "occurred", Columns: "tenant, occurred_at desc"}},
	Example: query.Example{Filter: `polarity == "complaint"`, Sort: "-occurredAt"},
}

// Commitments lists what was promised to customers.
var Commitments = &query.Resource[Commitment]{
	Name: "commitments", Path: "/v1/commitments", About: "customer", View: "commitment",
	Doc:  "Lists what was promised to customers.",
	Sort: "due",
	Indexes: []query.Index{
		{Name: "open", Columns: "tenant, due", Where: "status = 'open'"},
		{Name: "promised_by", Columns: "tenant, promised_by, due"},
	},
	Example: query.Example{Filter: `status == "open" && due < "2026-04-01"`, Sort: "due"},
}

// WithPhone narrows Customers to those with a telephone number of their own, in E.164. FindByPhone knows contacts' numbers
// too.
func WithPhone(phone string) query.Scope {
	return query.Scope{SQL: "phone = %s", Args: []any{phone}, Type: "text"}
}

// externalStreamsSQL finds the customers that another system ever knew under an identifier.
const externalStreamsSQL = `
select 'customer', customer_id::text from customer_external_id where tenant = $1 and system = $2 and external_id = $3`

// CustomerByExternal returns the customer that another system knows under an identifier, or a *domain.NotFoundError. When
// several were registered under it, as duplicates are, it is the one that others were merged into, else the oldest.
func CustomerByExternal(ctx context.Context, s *query.Store, system, externalID string) (Customer, domain.Position, error) {
	const where = `tenant = $1 and id in (
		select customer_id from customer_external_id where tenant = $1 and system = $2 and external_id = $3)
		order by merged_into is not null, registered_at, id limit 1`
	reach, err := s.StreamsOf(ctx, query.Views("customer", "customer_external_id"), externalStreamsSQL, string(s.Tenant()), system, externalID)
	if err != nil {
		return Customer{}, domain.Position{}, err
	}
	return Customers.One(ctx, s, reach, "customer", system+"/"+externalID, where, string(s.Tenant()), system, externalID)
}

// SearchCustomers returns customers whose name contains the text, case aside: first those whose name begins with it, then
// in alphabetical order. Merged customers are left out. A limit of 0 means DefaultLimit.
func SearchCustomers(ctx context.Context, s *query.Store, text string, limit int) ([]Customer, domain.Position, error) {
	const where = `tenant = $1 and merged_into is null and strpos(lower(name), lower($2)) > 0
		order by starts_with(lower(name), lower($2)) desc, lower(name), id limit $3`
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsRune(text, 0) {
		return nil, domain.Position{}, domain.Invalid("name", "nothing to search for")
	}
	limit, err := query.Limit(limit)
	if err != nil {
		return nil, domain.Position{}, err
	}
	return Customers.Many(ctx, s, query.Views("customer"), where, string(s.Tenant()), text, limit)
}

// PhoneMatch is a customer that a telephone number may belong to.
type PhoneMatch struct {
	CustomerID  domain.ID  `db:"customer_id" json:"customerId" doc:"The customer."`
	Name        string     `db:"name" json:"name" doc:"Name of the customer."`
	Kind        string     `db:"kind" json:"kind" doc:"company, person or group."`
	Owner       string     `db:"owner" json:"owner,omitempty" doc:"Who looks after the customer."`
	ContactID   *domain.ID `db:"contact_id" json:"contactId,omitempty" doc:"The contact whose number it is; absent when it is the customer's own."`
	ContactName string     `db:"contact_name" json:"contactName,omitempty" doc:"Name of the contact."`
	LastContact *time.Time `db:"last_contact" json:"lastContact,omitempty" doc:"When we last dealt with the customer."`
}

// findByPhoneSQL looks the number up among customers and contacts, and follows merged customers to their survivors.
const findByPhoneSQL = `
with recursive hit as (
	select id as customer_id, null::uuid as contact_id, '' as contact_name
	from customer where tenant = $1 and phone = $2
	union all
	select l.customer_id, c.id, trim(c.given_name || ' ' || c.family_name)
	from contact c
	join contact_link l on l.tenant = c.tenant and l.contact_id = c.id and l.until is null
	where c.tenant = $1 and c.phone = $2 and c.status = 'active'
), up as (
	select h.customer_id as hit_id, c.id, c.merged_into
	from hit h join customer c on c.tenant = $1 and c.id = h.customer_id
	union
	select up.hit_id, c.id, c.merged_into
	from up join customer c on c.tenant = $1 and c.id = up.merged_into
), match as (
	select up.id as customer_id, h.contact_id, h.contact_name, max(last.at) as last_contact
	from hit h
	join up on up.hit_id = h.customer_id and up.merged_into is null
	left join lateral (
		select max(i.started_at) as at from interaction i
		where i.tenant = $1 and i.status = 'logged' and i.customer_id in (select id from up where hit_id = h.customer_id)
	) last on true
	group by up.id, h.contact_id, h.contact_name
)
select m.customer_id, c.name, c.kind, c.owner, m.contact_id, m.contact_name, m.last_contact
from match m
join customer c on c.tenant = $1 and c.id = m.customer_id
order by m.last_contact desc nulls last, c.name, m.customer_id, m.contact_id
limit $3`

// FindByPhone returns the customers whose number, or whose contact's number, is phone (E.164), the one we dealt with last
// first, at most query.MaxLimit.
func FindByPhone(ctx context.Context, s *query.Store, phone string) ([]PhoneMatch, domain.Position, error) {
	if phone == "" || strings.ContainsRune(phone, 0) {
		return nil, domain.Position{}, domain.Invalid("phone", "no telephone number")
	}
	var found []PhoneMatch
	var read query.Reading
	query.Queue(&read, &found, findByPhoneSQL, string(s.Tenant()), phone, query.MaxLimit)
	at, err := s.Read(ctx, query.Views("customer", "contact", "contact_link", "interaction"), &read)
	return found, at, err
}

// familySQL finds the survivor that stands for a customer and everything that was merged into it, the survivor first.
const familySQL = `
with recursive up as (
	select id, merged_into from customer where tenant = $1 and id = $2
	union
	select c.id, c.merged_into from customer c join up on c.id = up.merged_into where c.tenant = $1
), down as (
	select id, 0 as depth from up where merged_into is null
	union
	select c.id, down.depth + 1 from customer c join down on c.merged_into = down.id where c.tenant = $1
)
select id::text from down order by depth, id`

// family returns the survivor of id and all customers merged into it, or a *domain.NotFoundError.
func family(ctx context.Context, q query.Querier, tenant domain.Tenant, id domain.ID) ([]string, error) {
	rows, err := q.Query(ctx, familySQL, string(tenant), string(id))
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, &domain.NotFoundError{Kind: "customer", ID: string(id)}
	}
	return ids, nil
}

// relativesSQL finds the customers that stand for one, were merged into it, or ever were its parent, child, group or member;
// $1 is the tenant, $2 the customer. Relations are never forgotten, so that those of any moment of the past are among
// them. The family comes first: relatives of relatives do not count, unless they are the same customer.
const relativesSQL = `
with recursive family as (
	select $2::uuid as id
	union
	select case when r.customer_id = family.id then r.other_id else r.customer_id end
	from customer_relation r join family on family.id in (r.customer_id, r.other_id)
	where r.tenant = $1 and r.kind = 'merged'
), relative as (
	select id from family
	union
	select case when r.customer_id = family.id then r.other_id else r.customer_id end
	from customer_relation r join family on family.id in (r.customer_id, r.other_id)
	where r.tenant = $1
)`

// relatedStreamsSQL finds every stream that ever said something of a customer or of its relatives: whatever the views of
// the customer show as of any moment, the events stand in these.
const relatedStreamsSQL = relativesSQL + `
select 'customer', id::text from relative
union
select t.aggregate, t.aggregate_id::text from customer_timeline t
where t.tenant = $1 and t.customer_id in (select id from family)`

// CustomerStreams returns every stream that ever said something of a customer, of those that were merged into it or that it
// was merged into, or of their relatives, and a position up to which none is missing; as of the past that is at least the
// store's moment.
func (t Timelines) CustomerStreams(ctx context.Context, customer domain.ID) ([]domain.StreamID, domain.Position, error) {
	if moment := t.Moment(); moment != nil {
		if err := t.WaitFor(ctx, moment.Position); err != nil {
			return nil, domain.Position{}, err
		}
	}
	at, err := t.Position(ctx, "customer_relation", "customer_timeline")
	if err != nil {
		return nil, at, err
	}
	streams, err := t.Streams(ctx, relatedStreamsSQL, string(t.Tenant()), string(customer))
	return streams, at, err
}
