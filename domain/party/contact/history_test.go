package contact_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/domain/party/contact"
)

func TestSpecs(t *testing.T) { domaintest.Specs(t, contact.Aggregate.Definition()) }

// commands draws from small pools, so that histories repeat, contradict and complete themselves often.
func commands() *rapid.Generator[domain.Command] {
	return rapid.Custom(func(t *rapid.T) domain.Command {
		text := func(name string) string {
			return rapid.SampledFrom([]string{"", " ", "a", "B", "c@x.example", "+4930123456"}).Draw(t, name)
		}
		id := func() domain.ID { return rapid.SampledFrom([]domain.ID{domaintest.ID, acme, globex}).Draw(t, "id") }
		date := func() domain.Date {
			return rapid.SampledFrom([]domain.Date{"", "2026-01-01", "2026-03-01", "2026-03-05", "2026-05-01"}).Draw(t, "date")
		}
		role := func() contact.Role {
			return rapid.SampledFrom([]contact.Role{contact.Buyer, contact.User}).Draw(t, "role")
		}
		kind := func() contact.RelationKind {
			return rapid.SampledFrom([]contact.RelationKind{contact.Knows, contact.Blocks}).Draw(t, "relation")
		}
		fact := func() contact.CustomerFacts {
			return rapid.SampledFrom([]contact.CustomerFacts{{}, alive, merged}).Draw(t, "customer")
		}
		switch rapid.IntRange(0, 8).Draw(t, "kind of command") {
		case 0:
			return contact.Create{
				Details:   contact.Details{FamilyName: text("name")},
				Links:     []contact.NewLink{{CustomerID: id(), Role: role(), Since: date()}},
				Customers: map[domain.ID]contact.CustomerFacts{acme: alive, globex: fact()},
			}
		case 1:
			return contact.Update{
				FamilyName: new(text("name")), Email: new(text("email")), Phone: new(text("phone")),
				Clear: rapid.SliceOfN(rapid.SampledFrom([]string{"title", "email", "hat"}), 0, 2).Draw(t, "clear"),
			}
		case 2:
			return contact.LinkCustomer{CustomerID: id(), Role: role(), Since: date(), Customer: fact()}
		case 3:
			return contact.ChangeRole{CustomerID: id(), Role: new(role()), Primary: new(rapid.Bool().Draw(t, "primary")), Since: date()}
		case 4:
			return contact.UnlinkCustomer{CustomerID: id(), Until: date()}
		case 5:
			return contact.Relate{ContactID: id(), Kind: kind(), Since: date(), OtherExists: rapid.Bool().Draw(t, "exists")}
		case 6:
			return contact.Unrelate{ContactID: id(), Kind: kind(), Until: date()}
		case 7:
			return contact.Deactivate{Reason: "r"}
		default:
			return contact.Reactivate{}
		}
	})
}

func TestRandomHistories(t *testing.T) {
	domaintest.Histories(t, contact.Aggregate, commands(), func(before, c contact.Contact) error {
		var broken []error
		never := func(wrong bool, what string) {
			if wrong {
				broken = append(broken, errors.New(what))
			}
		}
		never(c.GivenName == "" && c.FamilyName == "", "the name was lost")
		never(len(c.Links) < len(before.Links), "a link was forgotten")
		never(len(c.Relations) < len(before.Relations), "a relation was forgotten")
		for id, l := range c.Links {
			never(l.Over() && l.Until < l.Since || l.RoleSince < l.Since, "a link ends before it began")
			never(before.Links[id].Over() && l.Since < before.Links[id].Since, "a link began before the one before it")
		}
		for edge, p := range c.Relations {
			never(p.Over() && p.Until < p.Since, "a relation ends before it began")
			never(edge.ContactID == domaintest.ID, "the contact is related to itself")
		}
		return errors.Join(broken...)
	})
}
