package customer

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// The invented records that the examples below speak of.
const (
	exampleParent    domain.ID = "01900000-0000-7000-8000-000000000002"
	exampleMember    domain.ID = "01900000-0000-7000-8000-000000000003"
	exampleDuplicate domain.ID = "01900000-0000-7000-8000-000000000004"
	exampleEvidence  domain.ID = "01900000-0000-7000-8000-00000000000e"
)

var exampleWhen = domain.When{OccurredAt: time.Date(2026, time.March, 2, 9, 15, 0, 0, time.UTC)}

var exampleProfile = Profile{
	Name: "Acme Ltd", LegalName: "Acme Limited", TaxID: "DE 123456789", Email: "info@acme.example", Phone: "+493012345678",
	Website:   "https://acme.example",
	Address:   Address{Street: "Hauptstr. 1", City: "Berlin", Region: "Berlin", PostalCode: "10115", Country: "DE"},
	Employees: 120, Revenue: domain.MustMoney("12500000.00", "EUR"), FoundedYear: 1999,
}

var commandSpecs = []domain.CommandSpec{
	{Creates: true, Doc: "Registers a company, a person or a group as a customer.", Example: Register{
		When: exampleWhen, Kind: Company, Profile: exampleProfile,
		Classification: Classification{Industry: "retail", Region: "West"},
		Tags:           []string{"key account"}, Owner: "ann", Source: "trade fair",
		ExternalID: &ExternalID{System: "webshop", ID: "17850"},
	}},
	{Doc: "Changes basic information; every field that changes is an event with its old and new value.", Example: UpdateProfile{
		When: exampleWhen, Name: new("Acme SE"), LegalName: new("Acme Europe SE"), TaxID: new("DE 987654321"),
		Email: new("hello@acme.example"), Phone: new("+493087654321"),
		Address:   &Address{Street: "Neue Str. 2", City: "Hamburg", Region: "Hamburg", PostalCode: "20095", Country: "DE"},
		Employees: new(140), Revenue: new(domain.MustMoney("14000000.00", "EUR")), FoundedYear: new(1998), Clear: []string{"website"},
	}},
	{Doc: "Places the customer by industry, occupation, age band or region.", Example: Classify{
		When: exampleWhen, Industry: new("wholesale"), Region: new("North"),
	}},
	{Doc: "Labels the customer.", Example: Tag{When: exampleWhen, Tag: "newsletter"}},
	{Doc: "Removes a label.", Example: Untag{When: exampleWhen, Tag: "key account"}},
	{Doc: "States what the customer prefers, and which events show it.", Example: SetPreference{
		When: exampleWhen, Name: "colour", Value: "blue", Evidence: []domain.ID{exampleEvidence},
	}},
	{Doc: "Takes a preference back.", Example: DropPreference{When: exampleWhen, Name: "colour", Reason: "changed their mind"}},
	{Doc: "Gives a customer whom nobody looks after to an owner.", Example: AssignOwner{When: exampleWhen, Owner: "ann"}},
	{Doc: "Hands the customer from its owner to another.", Example: TransferOwnership{
		When: exampleWhen, From: "ann", To: "bob", Reason: "Ann left the company",
	}},
	{Doc: "Puts a company under another in the hierarchy.", Example: SetParent{When: exampleWhen, ParentID: exampleParent}},
	{Doc: "Takes a company out of the hierarchy above it.", Example: ClearParent{When: exampleWhen}},
	{Doc: "Notes what was promised to the customer.", Example: RecordCommitment{
		When: exampleWhen, CommitmentID: "1", Text: "Send the revised offer", Due: "2026-03-31", By: "ann",
	}},
	{Doc: "Notes that a promise was kept.", Example: KeepCommitment{When: exampleWhen, CommitmentID: "1", Note: "Sent by mail"}},
	{Doc: "Notes that a promise was not kept.", Example: BreakCommitment{
		When: exampleWhen, CommitmentID: "1", Reason: "The supplier was late",
	}},
	{Doc: "Says that the day of an open promise is over; for the clock alone.", Example: MarkCommitmentOverdue{
		When: exampleWhen, CommitmentID: "1",
	}},
	{Doc: "Notes praise, a complaint or a suggestion of the customer.", Example: RecordFeedback{
		When: exampleWhen, Polarity: Complaint, Topic: "delivery", Text: "The parcel came two days late.",
	}},
	{Doc: "Puts a customer into a group.", Example: AddMember{When: exampleWhen, MemberID: exampleMember, Since: "2026-01-01"}},
	{Doc: "Ends a membership; that it was stays known.", Example: RemoveMember{
		When: exampleWhen, MemberID: exampleMember, Until: "2026-06-30",
	}},
	{Doc: "Absorbs a duplicate of this customer; merge-into on the duplicate completes it.", Example: Merge{
		When: exampleWhen, DuplicateID: exampleDuplicate, Reason: "same tax id, spelt differently",
	}},
	{Doc: "Closes this customer as a duplicate of the one that absorbed it.", Example: MergeInto{
		When: exampleWhen, SurvivorID: exampleParent,
	}},
	{Doc: "Says that no more business is done with the customer.", Example: Deactivate{When: exampleWhen, Reason: "closed down"}},
	{Doc: "Says that business is done with the customer again.", Example: Reactivate{
		When: exampleWhen, Reason: "back after two years",
	}},
}

var eventSpecs = []domain.EventSpec{
	{Doc: "A new customer is known.", Words: domain.Words{
		En: "Registered as {kind}[ “{name}”][, looked after by {owner}]",
		Zh: "登记为{kind}[“{name}”][，由{owner}负责]",
	}, Example: Registered{
		Kind: Company, Profile: exampleProfile, Classification: Classification{Industry: "retail", Region: "West"},
		ParentID: exampleParent, Tags: []string{"key account"}, Owner: "ann", Source: "trade fair",
		ExternalID: &ExternalID{System: "webshop", ID: "17850"},
	}},
	{Doc: "One field of the profile has another value.", Words: domain.ChangeWords, Example: ProfileChanged{
		Field: "email", From: Profile{Email: "info@acme.example"}, To: Profile{Email: "hello@acme.example"},
	}},
	{Doc: "The customer stands elsewhere on one axis of classification.", Words: domain.ChangeWords, Example: Classified{
		Field: "industry", From: Classification{Industry: "retail"}, To: Classification{Industry: "wholesale"},
	}},
	{Doc: "The customer bears a label.", Words: domain.Words{
		En: "Tagged “{tag}”",
		Zh: "加上标签“{tag}”",
	}, Example: Tagged{Tag: "newsletter"}},
	{Doc: "The customer no longer bears a label.", Words: domain.Words{
		En: "Tag “{tag}” removed",
		Zh: "去掉标签“{tag}”",
	}, Example: Untagged{Tag: "key account"}},
	{Doc: "The customer prefers something, as the events named show.", Words: domain.Words{
		En: "Prefers “{to}” for “{name}”[, before “{from}”]",
		Zh: "“{name}”偏好“{to}”[，原为“{from}”]",
	}, Example: PreferenceSet{
		Name: "colour", From: "green", To: "blue", Evidence: []domain.ID{exampleEvidence},
	}},
	{Doc: "A preference no longer holds.", Words: domain.Words{
		En: "No longer prefers “{from}” for “{name}”[: “{reason}”]",
		Zh: "“{name}”不再偏好“{from}”[：“{reason}”]",
	}, Example: PreferenceDropped{Name: "colour", From: "blue", Reason: "changed their mind"}},
	{Doc: "Someone looks after a customer whom nobody looked after.", Words: domain.Words{
		En: "Looked after by {owner}",
		Zh: "由{owner}负责",
	}, Example: OwnerAssigned{Owner: "ann"}},
	{Doc: "Another looks after the customer now.", Words: domain.Words{
		En: "Handed over from {from} to {to}[: “{reason}”]",
		Zh: "由{from}移交给{to}[：“{reason}”]",
	}, Example: OwnershipTransferred{From: "ann", To: "bob", Reason: "Ann left the company"}},
	{Doc: "The company belongs to another company.", Words: domain.Words{
		En: "Belongs to company {to}[, before to {from}]",
		Zh: "隶属于公司{to}[，原隶属于{from}]",
	}, Example: ParentSet{From: exampleDuplicate, To: exampleParent}},
	{Doc: "The company belongs to no other.", Words: domain.Words{
		En: "Belongs to company {from} no longer",
		Zh: "不再隶属于公司{from}",
	}, Example: ParentCleared{From: exampleParent}},
	{Doc: "Something was promised to the customer.", Words: domain.Words{
		En: "{by} promised by {due}: “{text}”",
		Zh: "{by}承诺在{due}之前：“{text}”",
	}, Example: CommitmentRecorded{
		CommitmentID: "1", Text: "Send the revised offer", Due: "2026-03-31", By: "ann",
	}},
	{Doc: "A promise was kept.", Words: domain.Words{
		En: "Promise of {by} due {due} kept[: “{note}”]",
		Zh: "{by}于{due}到期的承诺已兑现[：“{note}”]",
	}, Example: CommitmentKept{CommitmentID: "1", Due: "2026-03-31", By: "ann", Note: "Sent by mail"}},
	{Doc: "A promise was not kept.", Words: domain.Words{
		En: "Promise of {by} due {due} broken[: “{reason}”]",
		Zh: "{by}于{due}到期的承诺未兑现[：“{reason}”]",
	}, Example: CommitmentBroken{
		CommitmentID: "1", Due: "2026-03-31", By: "ann", Reason: "The supplier was late",
	}},
	{Doc: "The day of an open promise was over.", Words: domain.Words{
		En: "Promise of {by} due {due} is overdue",
		Zh: "{by}于{due}到期的承诺已逾期",
	}, Example: CommitmentOverdue{CommitmentID: "1", Due: "2026-03-31", By: "ann"}},
	{Doc: "The customer said something of us.", Words: domain.Words{
		En: "Feedback, {polarity}, about “{topic}”[: “{text}”]",
		Zh: "反馈（{polarity}），关于“{topic}”[：“{text}”]",
	}, Example: FeedbackRecorded{
		Polarity: Complaint, Topic: "delivery", Text: "The parcel came two days late.",
	}},
	{Doc: "A customer belongs to the group.", Words: domain.Words{
		En: "Customer {memberId} is a member since {since}",
		Zh: "客户{memberId}自{since}起为成员",
	}, Example: MemberAdded{MemberID: exampleMember, Since: "2026-01-01"}},
	{Doc: "A customer no longer belongs to the group.", Words: domain.Words{
		En: "Customer {memberId} is a member no longer from {until}",
		Zh: "客户{memberId}自{until}起不再是成员",
	}, Example: MemberRemoved{
		MemberID: exampleMember, Since: "2026-01-01", Until: "2026-06-30",
	}},
	{Doc: "The customer has absorbed a duplicate of it.", Words: domain.Words{
		En: "Absorbed its duplicate {duplicateId}[: “{reason}”]",
		Zh: "并入了重复客户{duplicateId}[：“{reason}”]",
	}, Example: Merged{
		DuplicateID: exampleDuplicate, Reason: "same tax id, spelt differently",
	}},
	{Doc: "The customer was a duplicate; the survivor stands for it.", Words: domain.Words{
		En: "Was a duplicate; {survivorId} stands for it",
		Zh: "是重复客户，由{survivorId}代表",
	}, Example: MergedInto{SurvivorID: exampleParent}},
	{Doc: "No more business is done with the customer.", Words: domain.Words{
		En: "Deactivated[: “{reason}”]",
		Zh: "已停用[：“{reason}”]",
	}, Example: Deactivated{Reason: "closed down"}},
	{Doc: "Business is done with the customer again.", Words: domain.Words{
		En: "Reactivated[: “{reason}”]",
		Zh: "已重新启用[：“{reason}”]",
	}, Example: Reactivated{Reason: "back after two years"}},
}
