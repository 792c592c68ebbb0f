package customer_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

func TestSpecs(t *testing.T) { domaintest.Specs(t, customer.Aggregate.Definition()) }

// commands draws from small pools, so that histories repeat, contradict and complete themselves often.
func commands() *rapid.Generator[domain.Command] {
	return rapid.Custom(func(t *rapid.T) domain.Command {
		text := func(name string) string {
			return rapid.SampledFrom([]string{"", " ", "a", "B", "b ", "c@x.example", "+4930123456", "https://x.example"}).Draw(t, name)
		}
		optional := func(name string) *string {
			if rapid.Bool().Draw(t, name+" given") {
				return new(text(name))
			}
			return nil
		}
		id := func() domain.ID {
			return rapid.SampledFrom([]domain.ID{domaintest.ID, other, third}).Draw(t, "id")
		}
		date := func() domain.Date {
			return rapid.SampledFrom([]domain.Date{"", "1990-01-01", "2026-03-01", "2026-03-05", "2026-05-01"}).Draw(t, "date")
		}
		number := func() int { return rapid.IntRange(-1, 3000).Draw(t, "number") }
		fact := func() customer.Customer {
			return rapid.SampledFrom([]customer.Customer{
				{}, known(company), known(person), known(group), known(company, customer.MergedInto{SurvivorID: third}),
				known(company, customer.Merged{DuplicateID: domaintest.ID}),
			}).Draw(t, "other customer")
		}
		clear := func() []string {
			return rapid.SliceOfN(rapid.SampledFrom([]string{"name", "email", "address", "birthDate", "hat"}), 0, 2).Draw(t, "clear")
		}
		switch rapid.IntRange(0, 20).Draw(t, "kind of command") {
		case 0:
			return customer.Register{
				Kind:           rapid.SampledFrom([]customer.Kind{customer.Company, customer.Person, customer.Group, "x"}).Draw(t, "kind"),
				Profile:        customer.Profile{Name: rapid.SampledFrom([]string{"A", "B", ""}).Draw(t, "name")},
				Classification: customer.Classification{Region: text("region")},
				Tags:           rapid.SliceOfN(rapid.SampledFrom([]string{"a", "A", "b", ""}), 0, 2).Draw(t, "tags"),
				Owner:          text("owner"),
			}
		case 1:
			return customer.UpdateProfile{
				Name: optional("name"), Email: optional("email"), Phone: optional("phone"), TaxID: optional("tax id"), Clear: clear(),
			}
		case 2:
			return customer.UpdateProfile{
				Website: optional("website"), BirthDate: new(date()), Employees: new(number()), FoundedYear: new(number()), Clear: clear(),
			}
		case 3:
			return customer.Classify{
				Industry: optional("industry"), Occupation: optional("occupation"), AgeBand: optional("age band"), Region: optional("region"),
			}
		case 4:
			return customer.Tag{Tag: text("tag")}
		case 5:
			return customer.Untag{Tag: text("tag")}
		case 6:
			return customer.SetPreference{Name: text("name"), Value: text("value"), Evidence: []domain.ID{id()}}
		case 7:
			return customer.DropPreference{Name: text("name")}
		case 8:
			return customer.AssignOwner{Owner: text("owner")}
		case 9:
			return customer.TransferOwnership{From: text("from"), To: text("to")}
		case 10:
			return customer.SetParent{ParentID: id(), Parent: fact(), Ancestors: []domain.ID{id()}}
		case 11:
			return customer.ClearParent{}
		case 12:
			return customer.RecordCommitment{
				CommitmentID: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "id"), Text: text("text"), Due: date(), By: text("by"),
			}
		case 13:
			return customer.KeepCommitment{CommitmentID: rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "id")}
		case 14:
			return customer.BreakCommitment{CommitmentID: rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "id")}
		case 15:
			return customer.RecordFeedback{Polarity: customer.Praise, Topic: text("topic")}
		case 16:
			return customer.AddMember{MemberID: id(), Since: date(), Member: fact()}
		case 17:
			return customer.RemoveMember{MemberID: id(), Until: date()}
		case 18:
			return customer.Merge{DuplicateID: id(), Duplicate: fact()}
		case 19:
			return rapid.SampledFrom([]domain.Command{customer.Deactivate{Reason: "r"}, customer.Reactivate{}}).Draw(t, "activity")
		default:
			return customer.MergeInto{SurvivorID: id(), Survivor: fact()}
		}
	})
}

func TestRandomHistories(t *testing.T) {
	domaintest.Histories(t, customer.Aggregate, commands(), func(before, c customer.Customer) error {
		var broken []error
		never := func(wrong bool, what string) {
			if wrong {
				broken = append(broken, errors.New(what))
			}
		}
		never(before.Kind != "" && c.Kind != before.Kind, "the kind changed")
		never(c.Name == "", "the name was lost")
		never(c.Kind != customer.Company && (c.ParentID != "" || c.Employees != 0 || c.FoundedYear != 0 || c.Industry != ""),
			"a field of companies alone is filled")
		never(c.Kind != customer.Person && (c.BirthDate != "" || c.Occupation != "" || c.AgeBand != ""),
			"a field of persons alone is filled")
		never(c.Kind != customer.Group && len(c.Members) > 0, "not a group, and has members")
		never(c.ParentID == domaintest.ID, "the customer is its own parent")
		never(!slices.IsSorted(c.Tags) || len(slices.Compact(slices.Clone(c.Tags))) != len(c.Tags), "tags are not sorted or not unique")
		never(before.Owner != "" && c.Owner == "", "the owner was lost")
		never(before.MergedInto != "", "something happened to a duplicate")
		never(slices.Contains(c.Absorbed, domaintest.ID), "the customer absorbed itself")
		for id, m := range c.Members {
			never(m.Until != "" && m.Until < m.Since, fmt.Sprint("membership ends before it began: ", id))
		}
		for id, p := range before.Commitments {
			never(p.Status != customer.Open && c.Commitments[id] != p, "a closed commitment changed: "+id)
		}
		return errors.Join(broken...)
	})
}
