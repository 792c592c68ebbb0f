package contact

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// The invented records that the examples below speak of.
const (
	exampleCustomer domain.ID = "01900000-0000-7000-8000-000000000002"
	exampleOther    domain.ID = "01900000-0000-7000-8000-000000000005"
)

var exampleWhen = domain.When{OccurredAt: time.Date(2026, time.March, 2, 9, 15, 0, 0, time.UTC)}

var exampleDetails = Details{
	Title: "Dr", GivenName: "Mara", MiddleName: "Sofie", FamilyName: "Keller", Email: "mara.keller@acme.example",
	Phone: "+493012345679", JobTitle: "Head of Purchasing", Department: "Purchasing", PreferredChannel: "e-mail", Language: "de-CH",
}

var commandSpecs = []domain.CommandSpec{
	{Creates: true, Doc: "Makes a new contact, linked to customers at once if wished.", Example: Create{
		When: exampleWhen, Details: exampleDetails,
		Links: []NewLink{{CustomerID: exampleCustomer, Role: Buyer, Primary: true, Since: "2026-01-01"}},
	}},
	{Doc: "Changes details; every field that changes is an event with its old and new value.", Example: Update{
		When: exampleWhen, Title: new("Prof"), FamilyName: new("Keller-Roth"), Email: new("mara.roth@acme.example"),
		Phone: new("+493012345680"), JobTitle: new("Director of Purchasing"), PreferredChannel: new(Channel("phone")),
		Language: new("de"), Clear: []string{"middleName"},
	}},
	{Doc: "Says that the contact plays a part at a customer.", Example: LinkCustomer{
		When: exampleWhen, CustomerID: exampleCustomer, Role: Buyer, Primary: true, Since: "2026-01-01",
	}},
	{Doc: "Changes the part that the contact plays at a customer.", Example: ChangeRole{
		When: exampleWhen, CustomerID: exampleCustomer, Role: new(Decider), Primary: new(false), Since: "2026-02-01",
	}},
	{Doc: "Ends the link to a customer; that it was stays known.", Example: UnlinkCustomer{
		When: exampleWhen, CustomerID: exampleCustomer, Until: "2026-06-30", Reason: "left the company",
	}},
	{Doc: "Says how the contact relates to another.", Example: Relate{
		When: exampleWhen, ContactID: exampleOther, Kind: ReportsTo, Since: "2026-01-01",
	}},
	{Doc: "Ends a relation; that it was stays known.", Example: Unrelate{
		When: exampleWhen, ContactID: exampleOther, Kind: ReportsTo, Until: "2026-06-30",
	}},
	{Doc: "Says that the contact is no longer turned to.", Example: Deactivate{When: exampleWhen, Reason: "retired"}},
	{Doc: "Says that the contact is turned to again.", Example: Reactivate{When: exampleWhen, Reason: "works as an adviser now"}},
}

var eventSpecs = []domain.EventSpec{
	{Doc: "A new contact is known.", Words: domain.Words{
		En: "Contact[ “{givenName} {familyName}”| “{givenName}”| “{familyName}”] became known",
		Zh: "已知联系人[“{givenName} {familyName}”|“{givenName}”|“{familyName}”]",
	}, Example: Created{Details: exampleDetails}},
	{Doc: "One detail has another value.", Words: domain.Words{
		En: "Contact: " + domain.ChangeWords.En,
		Zh: "联系人：" + domain.ChangeWords.Zh,
	}, Example: DetailChanged{
		Field: "jobTitle", From: Details{JobTitle: "Head of Purchasing"}, To: Details{JobTitle: "Director of Purchasing"},
	}},
	{Doc: "The contact plays a part at a customer.", Words: domain.Words{
		En: "Contact is {role}{primary| and first to turn to} since {since}",
		Zh: "联系人自{since}起担任{role}{primary|，并为首要联系人}",
	}, Example: CustomerLinked{
		CustomerID: exampleCustomer, Role: Buyer, Primary: true, Since: "2026-01-01",
	}},
	{Doc: "The contact plays another part at a customer.", Words: domain.Words{
		En: "Contact is {to}{toPrimary| and first to turn to} since {since}, before {from}{fromPrimary| and first to turn to}",
		Zh: "联系人自{since}起担任{to}{toPrimary|，并为首要联系人}；原为{from}{fromPrimary|，并为首要联系人}",
	}, Example: RoleChanged{
		CustomerID: exampleCustomer, From: Buyer, To: Decider, FromPrimary: true, ToPrimary: false, Since: "2026-02-01",
	}},
	{Doc: "The contact no longer plays a part at a customer.", Words: domain.Words{
		En: "Contact is {role} no longer from {until}[: “{reason}”]",
		Zh: "联系人自{until}起不再担任{role}[：“{reason}”]",
	}, Example: CustomerUnlinked{
		CustomerID: exampleCustomer, Role: Decider, Primary: true, Since: "2026-01-01", Until: "2026-06-30", Reason: "left the company",
	}},
	{Doc: "The contact relates to another.", Words: domain.Words{
		En: "Contact {kind} contact {contactId} since {since}",
		Zh: "联系人自{since}起{kind}联系人{contactId}",
	}, Example: Related{ContactID: exampleOther, Kind: ReportsTo, Since: "2026-01-01"}},
	{Doc: "A relation to another contact has ended.", Words: domain.Words{
		En: "Contact {kind} contact {contactId} no longer from {until}",
		Zh: "联系人自{until}起不再{kind}联系人{contactId}",
	}, Example: Unrelated{
		ContactID: exampleOther, Kind: ReportsTo, Since: "2026-01-01", Until: "2026-06-30",
	}},
	{Doc: "The contact is no longer turned to.", Words: domain.Words{
		En: "Contact deactivated[: “{reason}”]",
		Zh: "联系人已停用[：“{reason}”]",
	}, Example: Deactivated{Reason: "retired"}},
	{Doc: "The contact is turned to again.", Words: domain.Words{
		En: "Contact reactivated[: “{reason}”]",
		Zh: "联系人已重新启用[：“{reason}”]",
	}, Example: Reactivated{Reason: "works as an adviser now"}},
}
