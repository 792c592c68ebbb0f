package party

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Contact is a person through whom we deal with customers, as known now.
type Contact struct {
	Tenant           domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID               domain.ID     `db:"id,key" json:"id" doc:"The contact."`
	Title            string        `db:"title" json:"title,omitempty" doc:"Form of address."`
	GivenName        string        `db:"given_name" json:"givenName,omitempty" personal:"true" of:"id" doc:"Given name."`
	MiddleName       string        `db:"middle_name" json:"middleName,omitempty" personal:"true" of:"id" doc:"Middle name."`
	FamilyName       string        `db:"family_name" json:"familyName,omitempty" personal:"true" of:"id" doc:"Family name."`
	Email            string        `db:"email" json:"email,omitempty" personal:"true" of:"id" doc:"E-mail address in lower case; empty when unknown."`
	Phone            string        `db:"phone" json:"phone,omitempty" personal:"true" of:"id" doc:"Telephone number in E.164; empty when unknown."`
	JobTitle         string        `db:"job_title" json:"jobTitle,omitempty" doc:"Job title."`
	Department       string        `db:"department" json:"department,omitempty" doc:"Department."`
	PreferredChannel string        `db:"preferred_channel" json:"preferredChannel,omitempty" doc:"How the contact likes to be reached."`
	Language         string        `db:"language" json:"language,omitempty" doc:"Language to speak and write, a BCP 47 tag."`
	Status           string        `db:"status" json:"status" doc:"active or inactive."`
	CreatedAt        time.Time     `db:"created_at" json:"createdAt" doc:"When the contact became known, in the business."`
	ChangedAt        time.Time     `db:"changed_at" json:"changedAt" doc:"When the last change happened, in the business."`
	Revision         int64         `db:"revision" json:"revision" doc:"Revision of the contact's own stream."`
	Position         int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// ContactLink is the part that a contact plays at a customer, with all parts it played there before.
type ContactLink struct {
	Tenant     domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ContactID  domain.ID     `db:"contact_id,key" json:"contactId" doc:"The contact."`
	CustomerID domain.ID     `db:"customer_id,key" json:"customerId" element:"key" doc:"The customer."`
	Role       string        `db:"role" json:"role" doc:"The part played now, or last: decider, user, influencer, buyer, champion, blocker or other."`
	Primary    bool          `db:"is_primary" json:"primary" doc:"Whether the contact is the first to turn to."`
	Since      domain.Date   `db:"since" json:"since" doc:"First day of the part."`
	Until      *domain.Date  `db:"until" json:"until,omitempty" doc:"Day from which the link no longer holds; null while it does."`
	Parts      []ContactPart `db:"parts" json:"parts" doc:"All parts in order: a JSON array of role, primary, since, until, reason."`
	Position   int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// ContactPart is one dated part of a contact at a customer.
type ContactPart struct {
	Role    string      `json:"role" doc:"The part played."`
	Primary bool        `json:"primary" doc:"Whether the contact was the first to turn to."`
	Since   domain.Date `json:"since" doc:"First day."`
	Until   domain.Date `json:"until,omitempty" doc:"Day from which it no longer held; absent while it holds."`
	Reason  string      `json:"reason,omitempty" doc:"Why it ended."`
}

// ContactRelation says how one contact relates to another, dated.
type ContactRelation struct {
	Tenant    domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ContactID domain.ID     `db:"contact_id,key" json:"contactId" doc:"The contact."`
	OtherID   domain.ID     `db:"other_id,key" json:"otherId" doc:"The contact that it relates to."`
	Kind      string        `db:"kind,key" json:"kind" doc:"reports-to, influences, blocks, assists or knows."`
	Since     domain.Date   `db:"since,key" json:"since" doc:"First day of the relation."`
	Until     *domain.Date  `db:"until" json:"until,omitempty" doc:"Day from which it no longer holds; null while it does."`
	Position  int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// Contacts lists contacts.
var Contacts = &query.Resource[Contact]{
	Name: "contacts", Path: "/v1/contacts", About: "contact", View: "contact",
	Doc:  "Lists contacts.",
	Sort: "familyName,givenName",
	Indexes: []query.Index{
		{Name: "phone", Columns: "tenant, phone", Where: "phone <> ''"},
		{Name: "email", Columns: "tenant, email", Where: "email <> ''"},
		{Name: "name", Columns: "tenant, family_name, given_name, id"},
	},
	Example: query.Example{Filter: `status == "active"`, Sort: "familyName,givenName"},
}

// ContactLinks lists which contact plays, or played, which part at which customer.
var ContactLinks = &query.Resource[ContactLink]{
	Name: "contactLinks", Path: "/v1/contact-links", About: "contact", View: "contact_link",
	Doc:     "Lists which contact plays, or played, which part at which customer.",
	Sort:    "since",
	Indexes: []query.Index{{Name: "customer", Columns: "tenant, customer_id"}},
	Example: query.Example{Filter: `role == "buyer" && until == null`, Sort: "since"},
}

// ContactRelations lists how contacts relate to each other. Those of a day are
// since <= "2026-01-31" && (until == null || until > "2026-01-31").
var ContactRelations = &query.Resource[ContactRelation]{
	Name: "contactRelations", Path: "/v1/contact-relations", About: "contact", View: "contact_relation",
	Doc:     "Lists how contacts relate to each other.",
	Sort:    "since",
	Indexes: []query.Index{{Name: "other", Columns: "tenant, other_id"}},
	Example: query.Example{Filter: `kind == "reports-to"`, Sort: "since"},
}

// ContactDetail is a contact with everything that is linked to it.
type ContactDetail struct {
	Contact
	Links     []ContactLink     `json:"links" doc:"Customers at which the contact plays or played a part."`
	Relations []ContactRelation `json:"relations" doc:"Relations from and to other contacts."`
}

// ContactRecord is one contact with its links and relations. Other contacts relate to it.
var ContactRecord = &query.Record[ContactDetail]{
	Name: "contact", Path: "/v1/contacts/{id}", Aggregate: "contact",
	Doc:   "Returns one contact with its links and relations.",
	Words: "a contact", Explains: "/familyName",
	Row: query.RowOf(Contacts, func(d *ContactDetail) *Contact { return &d.Contact }),
	Parts: []query.Part[ContactDetail]{
		query.Rows("links", ContactLinks, "since", query.LastStands, func(d *ContactDetail) *[]ContactLink { return &d.Links }, "contact_id"),
		query.Rows("relations", ContactRelations, "since", query.LastStands, func(d *ContactDetail) *[]ContactRelation { return &d.Relations }, "contact_id", "other_id"),
	},
	Related: contactStreamsSQL,
}

// contactStreamsSQL finds the contacts whose streams say something of a contact.
const contactStreamsSQL = `
select 'contact', $2::text
union
select 'contact', contact_id::text from contact_relation where tenant = $1 and other_id = $2::uuid`
