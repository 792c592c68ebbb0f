package readmodels

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// Contact is a person through whom we deal with customers, as known now.
type Contact struct {
	Tenant           domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID               domain.ID     `db:"id,key" json:"id" doc:"The contact."`
	Title            string        `db:"title" json:"title,omitempty" doc:"Form of address."`
	GivenName        string        `db:"given_name" json:"givenName,omitempty" doc:"Given name."`
	MiddleName       string        `db:"middle_name" json:"middleName,omitempty" doc:"Middle name."`
	FamilyName       string        `db:"family_name" json:"familyName,omitempty" doc:"Family name."`
	Email            string        `db:"email" json:"email,omitempty" doc:"E-mail address in lower case; empty when unknown."`
	Phone            string        `db:"phone" json:"phone,omitempty" doc:"Telephone number in E.164; empty when unknown."`
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
	CustomerID domain.ID     `db:"customer_id,key" json:"customerId" doc:"The customer."`
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

var (
	contacts         = newResource[Contact]("contact", "familyName,givenName")
	contactLinks     = newResource[ContactLink]("contact_link", "since")
	contactRelations = newResource[ContactRelation]("contact_relation", "since")
)

// Contacts lists contacts.
func (s *Store) Contacts(ctx context.Context, tenant domain.Tenant, q Query) (Page[Contact], error) {
	return list(ctx, s, contacts, tenant, q)
}

// ContactLinks lists which contact plays, or played, which part at which customer.
func (s *Store) ContactLinks(ctx context.Context, tenant domain.Tenant, q Query) (Page[ContactLink], error) {
	return list(ctx, s, contactLinks, tenant, q)
}

// ContactRelations lists how contacts relate to each other. Those of a day are
// since <= "2026-01-31" && (until == null || until > "2026-01-31").
func (s *Store) ContactRelations(ctx context.Context, tenant domain.Tenant, q Query) (Page[ContactRelation], error) {
	return list(ctx, s, contactRelations, tenant, q)
}

// ContactDetail is a contact with everything that is linked to it.
type ContactDetail struct {
	Contact
	Links     []ContactLink     `json:"links" doc:"Customers at which the contact plays or played a part."`
	Relations []ContactRelation `json:"relations" doc:"Relations from and to other contacts."`
}

// Contact returns one contact with its links and relations, or a *domain.NotFoundError.
func (s *Store) Contact(ctx context.Context, tenant domain.Tenant, id domain.ID) (ContactDetail, domain.Position, error) {
	if err := prepareAll(contacts.prepare, contactLinks.prepare, contactRelations.prepare); err != nil {
		return ContactDetail{}, domain.Position{}, err
	}
	var rows []Contact
	var answer ContactDetail
	var read reading
	queueRows(&read, contacts, &rows, "tenant = $1 and id = $2", string(tenant), string(id))
	queueRows(&read, contactLinks, &answer.Links, "tenant = $1 and contact_id = $2 order by since, customer_id", string(tenant), string(id))
	queueRows(&read, contactRelations, &answer.Relations,
		"tenant = $1 and (contact_id = $2 or other_id = $2) order by since, contact_id, other_id, kind", string(tenant), string(id))
	reach, err := s.streamsOf(ctx, views("contact", "contact_link", "contact_relation"), tenant, contactStreamsSQL, string(tenant), string(id))
	if err != nil {
		return ContactDetail{}, domain.Position{}, err
	}
	at, err := s.read(ctx, tenant, reach, &read)
	if err == nil && len(rows) == 0 {
		err = &domain.NotFoundError{Kind: "contact", ID: string(id)}
	}
	if err != nil {
		return ContactDetail{}, at, err
	}
	answer.Contact = rows[0]
	return answer, at, nil
}

func prepareAll(prepare ...func() error) error {
	for _, p := range prepare {
		if err := p(); err != nil {
			return err
		}
	}
	return nil
}
