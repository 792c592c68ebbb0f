package contact_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

var (
	mara   = contact.Created{Details: contact.Details{GivenName: "Mara", FamilyName: "Keller"}}
	acme   = domaintest.OtherID(1)
	globex = domaintest.OtherID(2)
	boss   = domaintest.OtherID(3)

	alive  = contact.CustomerFacts{Exists: true}
	merged = contact.CustomerFacts{Exists: true, MergedInto: globex}
)

func given(events ...domain.Event) domaintest.Scenario[contact.Contact] {
	return domaintest.Given(contact.Aggregate.Decider, events...)
}

func TestGoldenEvents(t *testing.T) {
	codectest.Golden(t, contact.Aggregate.Definition(), "testdata/events")
}

func TestCreationLinksAtOnce(t *testing.T) {
	cmd := contact.Create{
		Details: contact.Details{FamilyName: "Keller", Email: "m@acme.example", Phone: "+4930123456", Language: "de-CH"},
		Links: []contact.NewLink{
			{CustomerID: acme, Role: contact.Buyer, Primary: true, Since: "2026-01-01"},
			{CustomerID: globex, Role: contact.User},
		},
		Customers: map[domain.ID]contact.CustomerFacts{acme: alive, globex: alive},
	}
	d := given().When(cmd)
	d.Then(t,
		contact.Created{Details: cmd.Details},
		contact.CustomerLinked{CustomerID: acme, Role: contact.Buyer, Primary: true, Since: "2026-01-01"},
		contact.CustomerLinked{CustomerID: globex, Role: contact.User, Since: "2026-03-02"})
	if got := contact.Aggregate.Subjects(domaintest.ID, d.State); !slices.Equal(got, []domain.ID{acme, globex}) {
		t.Errorf("subjects %v", got)
	}
	given(mara).When(cmd).Rejected(t, "contact-exists")

	cmd.Customers = map[domain.ID]contact.CustomerFacts{acme: alive}
	if r := given().When(cmd).Rejected(t, "customer-unknown"); r.Pointer != "/links/1/customerId" {
		t.Errorf("pointer %s", r.Pointer)
	}
	cmd.Links = append(cmd.Links[:1:1], cmd.Links[0])
	given().When(cmd).Invalid(t, "/links/1/customerId")
}

func TestAContactHasAName(t *testing.T) {
	given().When(contact.Create{Details: contact.Details{Title: "Dr"}}).Invalid(t, "/familyName")
	given().When(contact.Create{Details: contact.Details{GivenName: "Mara"}}).Accepted(t)
	given(mara).When(contact.Update{Clear: []string{"givenName", "familyName"}}).Invalid(t, "/familyName")
	given(mara).When(contact.Update{GivenName: new("")}).Then(t,
		contact.DetailChanged{Field: "givenName", From: contact.Details{GivenName: "Mara"}})
}

func TestCreationNamesEveryFault(t *testing.T) {
	given().When(contact.Create{Details: contact.Details{Email: "m", Phone: "030", Language: "German!"}}).
		Invalid(t, "/familyName", "/email", "/phone", "/language")
}

func TestEveryDetailThatChangesIsAnEventWithItsOldAndNewValue(t *testing.T) {
	set := contact.Update{
		Title: new("Dr"), GivenName: new("M"), MiddleName: new("S"), FamilyName: new("K"), Email: new("m@acme.example"),
		Phone: new("+4930123456"), JobTitle: new("CEO"), Department: new("Board"), PreferredChannel: new(contact.Channel("sms")),
		Language: new("de"),
	}
	d := given(mara).When(set)
	changes := d.Accepted(t)
	want := contact.Details{
		Title: "Dr", GivenName: "M", MiddleName: "S", FamilyName: "K", Email: "m@acme.example", Phone: "+4930123456",
		JobTitle: "CEO", Department: "Board", PreferredChannel: "sms", Language: "de",
	}
	if diff := cmp.Diff(want, d.State.Details); diff != "" || len(changes) != 10 {
		t.Errorf("%d changes: %s", len(changes), diff)
	}
	if want := (contact.DetailChanged{
		Field: "givenName", From: contact.Details{GivenName: "Mara"}, To: contact.Details{GivenName: "M"},
	}); changes[1] != domain.Event(want) {
		t.Errorf("want %v, got %v", want, changes[1])
	}
	past := append([]domain.Event{mara}, changes...)
	given(past...).When(set).Then(t)
	given(past...).When(contact.Update{Clear: []string{"preferredChannel"}}).Then(t,
		contact.DetailChanged{Field: "preferredChannel", From: contact.Details{PreferredChannel: "sms"}})
	given(mara).When(contact.Update{Clear: []string{"hat"}}).Invalid(t, "/clear/0")
	given(mara).When(contact.Update{Email: new("m"), Phone: new("1")}).Invalid(t, "/email", "/phone")
}

func TestALinkHasAFirstAndALastDayAndIsNeverForgotten(t *testing.T) {
	in := contact.CustomerLinked{CustomerID: acme, Role: contact.Buyer, Since: "2026-01-01"}
	link := contact.LinkCustomer{CustomerID: acme, Role: contact.Buyer, Since: "2026-01-01", Customer: alive}
	given(mara).When(link).Then(t, in)
	given(mara, in).When(link).Then(t)
	given(mara, in).When(contact.LinkCustomer{CustomerID: acme, Role: contact.User, Customer: alive}).Rejected(t, "already-linked")
	given(mara).When(contact.LinkCustomer{CustomerID: acme, Role: contact.User}).Rejected(t, "customer-unknown")
	given(mara).When(contact.LinkCustomer{CustomerID: acme, Role: contact.User, Customer: merged}).Rejected(t, "customer-merged")

	out := contact.CustomerUnlinked{CustomerID: acme, Role: contact.Buyer, Since: "2026-01-01", Until: "2026-02-01", Reason: "left"}
	unlink := contact.UnlinkCustomer{CustomerID: acme, Until: "2026-02-01", Reason: "left"}
	d := given(mara, in).When(unlink)
	d.Then(t, out)
	if got := contact.Aggregate.Subjects(domaintest.ID, d.State); !slices.Equal(got, []domain.ID{acme}) {
		t.Errorf("a link that ended is forgotten: %v", got)
	}
	given(mara, in, out).When(unlink).Then(t)
	given(mara, in, out).When(contact.UnlinkCustomer{CustomerID: acme}).Then(t)
	given(mara, in, out).When(contact.UnlinkCustomer{CustomerID: acme, Until: "2026-02-02"}).Rejected(t, "ended-already")
	given(mara, in).When(contact.UnlinkCustomer{CustomerID: acme, Until: "2025-12-31"}).Rejected(t, "ends-before-it-began")
	given(mara).When(unlink).Rejected(t, "not-linked")

	given(mara, in, out).When(link).Rejected(t, "link-overlaps")
	link.Since = ""
	given(mara, in, out).When(link).Then(t, contact.CustomerLinked{CustomerID: acme, Role: contact.Buyer, Since: "2026-03-02"})

	full := []domain.Event{mara}
	for i := range contact.MaxLinks {
		full = append(full, contact.CustomerLinked{CustomerID: domaintest.OtherID(10 + i), Role: contact.User, Since: "2026-01-01"})
	}
	given(full...).When(link).Rejected(t, "too-many-links")
}

func TestRolesChangeForward(t *testing.T) {
	in := contact.CustomerLinked{CustomerID: acme, Role: contact.Buyer, Primary: true, Since: "2026-01-01"}
	change := contact.ChangeRole{CustomerID: acme, Role: new(contact.Decider), Since: "2026-02-01"}
	changed := contact.RoleChanged{
		CustomerID: acme, From: contact.Buyer, To: contact.Decider, FromPrimary: true, ToPrimary: true, Since: "2026-02-01",
	}
	given(mara, in).When(change).Then(t, changed)
	given(mara, in, changed).When(change).Then(t)
	given(mara, in).When(contact.ChangeRole{CustomerID: acme, Primary: new(false)}).Then(t, contact.RoleChanged{
		CustomerID: acme, From: contact.Buyer, To: contact.Buyer, FromPrimary: true, ToPrimary: false, Since: "2026-03-02",
	})
	given(mara, in, changed).When(contact.ChangeRole{CustomerID: acme, Role: new(contact.User), Since: "2026-01-15"}).
		Rejected(t, "ends-before-it-began")
	given(mara, in, changed).When(contact.UnlinkCustomer{CustomerID: acme, Until: "2026-01-15"}).Rejected(t, "ends-before-it-began")
	given(mara).When(change).Rejected(t, "not-linked")
	given(mara, in, contact.CustomerUnlinked{CustomerID: acme, Until: "2026-02-01"}).When(change).Rejected(t, "not-linked")
}

func TestRelationsAreDatedEdges(t *testing.T) {
	in := contact.Related{ContactID: boss, Kind: contact.ReportsTo, Since: "2026-01-01"}
	relate := contact.Relate{ContactID: boss, Kind: contact.ReportsTo, Since: "2026-01-01", OtherExists: true}
	given(mara).When(relate).Then(t, in)
	given(mara, in).When(relate).Then(t)
	given(mara, in).When(contact.Relate{ContactID: boss, Kind: contact.ReportsTo, OtherExists: true}).Then(t)
	given(mara, in).When(contact.Relate{ContactID: boss, Kind: contact.ReportsTo, Since: "2026-01-02", OtherExists: true}).
		Rejected(t, "already-related")
	given(mara, in).When(contact.Relate{ContactID: boss, Kind: contact.Blocks, OtherExists: true}).Then(t,
		contact.Related{ContactID: boss, Kind: contact.Blocks, Since: "2026-03-02"})
	given(mara).When(contact.Relate{ContactID: domaintest.ID, Kind: contact.Knows, OtherExists: true}).Rejected(t, "relation-with-itself")
	given(mara).When(contact.Relate{ContactID: boss, Kind: contact.Knows}).Rejected(t, "contact-unknown")

	out := contact.Unrelated{ContactID: boss, Kind: contact.ReportsTo, Since: "2026-01-01", Until: "2026-02-01"}
	unrelate := contact.Unrelate{ContactID: boss, Kind: contact.ReportsTo, Until: "2026-02-01"}
	given(mara, in).When(unrelate).Then(t, out)
	given(mara, in, out).When(unrelate).Then(t)
	given(mara, in, out).When(contact.Unrelate{ContactID: boss, Kind: contact.ReportsTo, Until: "2026-02-02"}).Rejected(t, "ended-already")
	given(mara, in).When(contact.Unrelate{ContactID: boss, Kind: contact.Knows}).Rejected(t, "not-related")
	given(mara, in).When(contact.Unrelate{ContactID: boss, Kind: contact.ReportsTo, Until: "2025-01-01"}).Rejected(t, "ends-before-it-began")
	given(mara, in, out).When(relate).Rejected(t, "relation-overlaps")

	full := []domain.Event{mara}
	for i := range contact.MaxRelations {
		full = append(full, contact.Related{ContactID: domaintest.OtherID(10 + i), Kind: contact.Knows, Since: "2026-01-01"})
	}
	given(full...).When(relate).Rejected(t, "too-many-relations")
}

func TestDeactivationStopsNewLinksAndRelations(t *testing.T) {
	off := contact.Deactivated{Reason: "retired"}
	given(mara).When(contact.Deactivate{Reason: "retired"}).Then(t, off)
	given(mara, off).When(contact.Deactivate{Reason: "retired"}).Then(t)
	given(mara, off).When(contact.Reactivate{Reason: "adviser"}).Then(t, contact.Reactivated{Reason: "adviser"})
	given(mara).When(contact.Reactivate{}).Then(t)
	given(mara, off).When(contact.LinkCustomer{CustomerID: acme, Role: contact.User, Customer: alive}).Rejected(t, "contact-inactive")
	given(mara, off).When(contact.Relate{ContactID: boss, Kind: contact.Knows, OtherExists: true}).Rejected(t, "contact-inactive")
	given(mara, off).When(contact.Update{JobTitle: new("none")}).Accepted(t)
}

func TestEventsOfOthersDoNotMakeAContact(t *testing.T) {
	c := contact.Aggregate.Decider.Fold(domain.ReservationLapsed{CommandID: "x"})
	if contact.Aggregate.Exists(c) || contact.Aggregate.Subjects(domaintest.ID, c) != nil {
		t.Errorf("a foreign event made %v", c)
	}
}

func TestExamplesAreAcceptedInTheRightState(t *testing.T) {
	const customer, other = domain.ID("01900000-0000-7000-8000-000000000002"), domain.ID("01900000-0000-7000-8000-000000000005")
	linked := []domain.Event{mara, contact.CustomerLinked{CustomerID: customer, Role: contact.Buyer, Primary: true, Since: "2026-01-01"}}
	past := map[string][]domain.Event{
		"contact.create":          nil,
		"contact.change_role":     linked,
		"contact.unlink_customer": linked,
		"contact.unrelate":        {mara, contact.Related{ContactID: other, Kind: contact.ReportsTo, Since: "2026-01-01"}},
		"contact.reactivate":      {mara, contact.Deactivated{Reason: "retired"}},
	}
	for _, spec := range contact.Aggregate.Commands {
		events, named := past[spec.Type()]
		if !named {
			events = []domain.Event{mara}
		}
		cmd := spec.Example
		switch c := cmd.(type) {
		case contact.Create:
			c.Customers = map[domain.ID]contact.CustomerFacts{customer: alive}
			cmd = c
		case contact.LinkCustomer:
			c.Customer = alive
			cmd = c
		case contact.Relate:
			c.OtherExists = true
			cmd = c
		}
		if len(given(events...).When(cmd).Accepted(t)) == 0 {
			t.Errorf("the example of %s changes nothing", spec.Type())
		}
	}
}
