package customer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

var (
	company = customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Acme Ltd"}}
	person  = customer.Registered{Kind: customer.Person, Profile: customer.Profile{Name: "Mara Keller"}}
	group   = customer.Registered{Kind: customer.Group, Profile: customer.Profile{Name: "Keller household"}}

	other = domaintest.OtherID(1)
	third = domaintest.OtherID(2)
)

func given(events ...domain.Event) domaintest.Scenario[customer.Customer] {
	return domaintest.Given(customer.Aggregate.Decider, events...)
}

// known folds another customer's events into the fact that a command brings along.
func known(events ...domain.Event) customer.Customer {
	return customer.Aggregate.Decider.Fold(events...)
}

func TestGoldenEvents(t *testing.T) {
	codectest.Golden(t, customer.Aggregate.Definition(), "testdata/events")
}

func TestRegistrationIsOneEventWithAllThatIsKnown(t *testing.T) {
	cmd := customer.Register{
		Kind:           customer.Company,
		Profile:        customer.Profile{Name: "Acme Ltd", Email: "info@acme.example", Employees: 12},
		Classification: customer.Classification{Industry: "retail"},
		Tags:           []string{"  Key   Account ", "b", "key account"},
		Owner:          "ann", Source: "fair", ExternalID: &customer.ExternalID{System: "shop", ID: "7"},
		ParentID: other, Parent: known(company),
	}
	given().When(cmd).Then(t, customer.Registered{
		Kind: customer.Company, Profile: cmd.Profile, Classification: cmd.Classification, ParentID: other,
		Tags: []string{"b", "key account"}, Owner: "ann", Source: "fair", ExternalID: cmd.ExternalID,
	})
	given(company).When(cmd).Rejected(t, "customer-exists")
}

func TestRegistrationNamesEveryFault(t *testing.T) {
	given().When(customer.Register{Kind: "robot"}).Invalid(t, "/kind")
	given().When(customer.Register{
		Kind: customer.Person,
		Profile: customer.Profile{
			Name: " ", TaxID: "--", Email: "Mara <mara@x.example>", Phone: "030 1234", Website: "ftp://x.example",
			Address: customer.Address{Country: "ZZ"}, BirthDate: "2026-03-03", Employees: -1,
			Revenue: domain.MustMoney("-1", "EUR"), FoundedYear: 2027,
		},
		Classification: customer.Classification{AgeBand: "30-20"},
		Tags:           []string{"ok", "  ", strings.Repeat("x", customer.MaxTagLength+1)},
	}).Invalid(t, "/taxId", "/email", "/phone", "/website", "/address/country", "/birthDate", "/employees",
		"/revenue/amount", "/foundedYear", "/name", "/ageBand", "/tags/1", "/tags/2")
}

func TestDayOfBirthIsPossible(t *testing.T) {
	register := func(d domain.Date) customer.Register {
		return customer.Register{Kind: customer.Person, Profile: customer.Profile{Name: "Mara", BirthDate: d}}
	}
	given().When(register("2026-03-02")).Accepted(t)
	given().When(register("1876-03-02")).Accepted(t)
	given().When(register("2026-03-03")).Invalid(t, "/birthDate")
	given().When(register("1876-03-01")).Invalid(t, "/birthDate")
}

func TestAgeBands(t *testing.T) {
	for band, ok := range map[string]bool{
		"18-29": true, "0-17": true, "70+": true, "30-30": true, "": true,
		"29-18": false, "18": false, "-29": false, "18-": false, "old": false, "018-29": false,
	} {
		d := given().When(customer.Register{
			Kind: customer.Person, Profile: customer.Profile{Name: "Mara"}, Classification: customer.Classification{AgeBand: band},
		})
		if ok {
			d.Accepted(t)
		} else {
			d.Invalid(t, "/ageBand")
		}
	}
}

func TestFieldsOfOtherKindsAreRejected(t *testing.T) {
	for pointer, cmd := range map[string]customer.Register{
		"/employees":   {Kind: customer.Person, Profile: customer.Profile{Employees: 1}},
		"/revenue":     {Kind: customer.Person, Profile: customer.Profile{Revenue: domain.MustMoney("1", "EUR")}},
		"/foundedYear": {Kind: customer.Group, Profile: customer.Profile{FoundedYear: 1990}},
		"/industry":    {Kind: customer.Person, Classification: customer.Classification{Industry: "retail"}},
		"/birthDate":   {Kind: customer.Company, Profile: customer.Profile{BirthDate: "1990-01-01"}},
		"/gender":      {Kind: customer.Group, Profile: customer.Profile{Gender: "female"}},
		"/occupation":  {Kind: customer.Company, Classification: customer.Classification{Occupation: "teacher"}},
		"/ageBand":     {Kind: customer.Group, Classification: customer.Classification{AgeBand: "18-29"}},
	} {
		cmd.Name = "X"
		if r := given().When(cmd).Rejected(t, "field-not-of-kind"); r.Pointer != pointer {
			t.Errorf("want %s, got %s", pointer, r.Pointer)
		}
	}
	given(person).When(customer.UpdateProfile{Employees: new(3)}).Rejected(t, "field-not-of-kind")
	given(company).When(customer.Classify{Occupation: new("teacher")}).Rejected(t, "field-not-of-kind")
}

func TestEveryFieldThatChangesIsAnEventWithItsOldAndNewValue(t *testing.T) {
	before := customer.Registered{Kind: customer.Company, Profile: customer.Profile{
		Name: "Acme Ltd", Email: "a@acme.example", Website: "https://acme.example", Revenue: domain.MustMoney("10.50", "EUR"),
		Address: customer.Address{City: "Berlin"},
	}}
	cmd := customer.UpdateProfile{
		Name: new("Acme Ltd"), Email: new("b@acme.example"), Phone: new("+4930123456"), Revenue: new(domain.MustMoney("10.5", "EUR")),
		Address: &customer.Address{}, Clear: []string{"website"},
	}
	changes := []domain.Event{
		customer.ProfileChanged{Field: "email", From: customer.Profile{Email: "a@acme.example"}, To: customer.Profile{Email: "b@acme.example"}},
		customer.ProfileChanged{Field: "phone", To: customer.Profile{Phone: "+4930123456"}},
		customer.ProfileChanged{Field: "website", From: customer.Profile{Website: "https://acme.example"}},
		customer.ProfileChanged{Field: "address", From: customer.Profile{Address: customer.Address{City: "Berlin"}}},
	}
	d := given(before).When(cmd)
	d.Then(t, changes...)
	want := customer.Profile{Name: "Acme Ltd", Email: "b@acme.example", Phone: "+4930123456", Revenue: domain.MustMoney("10.50", "EUR")}
	if diff := cmp.Diff(want, d.State.Profile); diff != "" {
		t.Error(diff)
	}
	given(append([]domain.Event{before}, changes...)...).When(cmd).Then(t)
}

func TestEveryProfileFieldCanBeSetAndCleared(t *testing.T) {
	company := customer.UpdateProfile{
		LegalName: new("Acme Limited"), TaxID: new("DE 1"), Email: new("a@acme.example"), Phone: new("+4930123456"),
		Website: new("https://acme.example"), Address: &customer.Address{City: "Berlin", Country: "DE"},
		Employees: new(5), Revenue: new(domain.MustMoney("1", "EUR")), FoundedYear: new(1999),
	}
	person := customer.UpdateProfile{BirthDate: new(domain.Date("1990-01-01")), Gender: new(customer.Gender("female"))}
	for _, c := range []struct {
		kind   customer.Kind
		set    customer.UpdateProfile
		fields []string
	}{
		{customer.Company, company, []string{"legalName", "taxId", "email", "phone", "website", "address", "employees", "revenue", "foundedYear"}},
		{customer.Person, person, []string{"birthDate", "gender"}},
	} {
		registered := customer.Registered{Kind: c.kind, Profile: customer.Profile{Name: "X"}}
		changes := given(registered).When(c.set).Accepted(t)
		if len(changes) != len(c.fields) {
			t.Fatalf("want changes of %q, got %v", c.fields, changes)
		}
		d := given(append([]domain.Event{registered}, changes...)...).When(customer.UpdateProfile{Clear: c.fields})
		for i, e := range d.Accepted(t) {
			change := changes[i].(customer.ProfileChanged)
			want := customer.ProfileChanged{Field: c.fields[i], From: change.To, To: change.From}
			if diff := cmp.Diff(domain.Event(want), e); diff != "" {
				t.Error(diff)
			}
		}
		if diff := cmp.Diff(registered.Profile, d.State.Profile); diff != "" {
			t.Error(diff)
		}
	}
}

func TestProfileRefusesWhatCanNeverBeRight(t *testing.T) {
	given(company).When(customer.UpdateProfile{Clear: []string{"name"}}).Invalid(t, "/name")
	given(company).When(customer.UpdateProfile{Name: new(" ")}).Invalid(t, "/name")
	given(company).When(customer.UpdateProfile{Clear: []string{"website", "shoeSize"}}).Invalid(t, "/clear/1")
	given(company).When(customer.UpdateProfile{Email: new("nobody"), Phone: new("123")}).Invalid(t, "/email", "/phone")
}

func TestAnOldValueNoLongerWelcomeDoesNotBlockOtherChanges(t *testing.T) {
	old := customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Acme", Email: "not an address"}}
	given(old).When(customer.UpdateProfile{LegalName: new("Acme Limited")}).Accepted(t)
}

func TestClassification(t *testing.T) {
	given(person).When(customer.Classify{Occupation: new("teacher"), AgeBand: new("30-39"), Region: new("West")}).Then(t,
		customer.Classified{Field: "occupation", To: customer.Classification{Occupation: "teacher"}},
		customer.Classified{Field: "ageBand", To: customer.Classification{AgeBand: "30-39"}},
		customer.Classified{Field: "region", To: customer.Classification{Region: "West"}})
	retail := customer.Registered{Kind: customer.Company, Classification: customer.Classification{Industry: "retail"}}
	given(retail).When(customer.Classify{Industry: new("")}).Then(t,
		customer.Classified{Field: "industry", From: customer.Classification{Industry: "retail"}})
	given(retail).When(customer.Classify{Industry: new("retail")}).Then(t)
	given(person).When(customer.Classify{AgeBand: new("young")}).Invalid(t, "/ageBand")
}

func TestTags(t *testing.T) {
	given(company).When(customer.Tag{Tag: " VIP  guest "}).Then(t, customer.Tagged{Tag: "vip guest"})
	given(company, customer.Tagged{Tag: "vip"}).When(customer.Tag{Tag: "Vip"}).Then(t)
	given(company, customer.Tagged{Tag: "vip"}).When(customer.Untag{Tag: "VIP"}).Then(t, customer.Untagged{Tag: "vip"})
	given(company).When(customer.Untag{Tag: "vip"}).Then(t)
	given(company).When(customer.Tag{Tag: "  "}).Invalid(t, "/tag")

	full := []domain.Event{company}
	for i := range customer.MaxTags {
		full = append(full, customer.Tagged{Tag: fmt.Sprint("t", i)})
	}
	given(full...).When(customer.Tag{Tag: "one more"}).Rejected(t, "too-many-tags")
}

func TestPreferencesNameTheEventsThatShowThem(t *testing.T) {
	set := customer.SetPreference{Name: "Colour", Value: "blue", Evidence: []domain.ID{other}}
	blue := customer.PreferenceSet{Name: "colour", To: "blue", Evidence: []domain.ID{other}}
	given(company).When(set).Then(t, blue)
	given(company, blue).When(set).Then(t)
	given(company, blue).When(customer.SetPreference{Name: "colour", Value: "blue"}).Then(t)
	given(company, blue).When(customer.SetPreference{Name: "colour", Value: "blue", Evidence: []domain.ID{other, third}}).Then(t,
		customer.PreferenceSet{Name: "colour", From: "blue", To: "blue", Evidence: []domain.ID{other, third}})
	given(company, blue).When(customer.SetPreference{Name: "colour", Value: "red"}).Then(t,
		customer.PreferenceSet{Name: "colour", From: "blue", To: "red"})
	given(company, blue).When(customer.DropPreference{Name: "COLOUR", Reason: "gone"}).Then(t,
		customer.PreferenceDropped{Name: "colour", From: "blue", Reason: "gone"})
	given(company, blue, customer.PreferenceDropped{Name: "colour"}).When(customer.DropPreference{Name: "colour"}).Then(t)
	given(company).When(customer.SetPreference{Name: " ", Value: "x"}).Invalid(t, "/name")
	given(company).When(customer.SetPreference{Name: "colour", Value: " "}).Invalid(t, "/value")

	full := []domain.Event{company, blue}
	for i := range customer.MaxPreferences - 1 {
		full = append(full, customer.PreferenceSet{Name: fmt.Sprint("p", i), To: "x"})
	}
	given(full...).When(customer.SetPreference{Name: "size", Value: "L"}).Rejected(t, "too-many-preferences")
	given(full...).When(customer.SetPreference{Name: "colour", Value: "red"}).Accepted(t)
}

func TestOwnershipIsAssignedOnceAndThenTransferred(t *testing.T) {
	anns := customer.OwnerAssigned{Owner: "ann"}
	given(company).When(customer.AssignOwner{Owner: "ann"}).Then(t, anns)
	given(company, anns).When(customer.AssignOwner{Owner: "ann"}).Then(t)
	given(company, anns).When(customer.AssignOwner{Owner: "bob"}).Rejected(t, "customer-has-owner")
	given(company).When(customer.AssignOwner{Owner: " "}).Invalid(t, "/owner")

	moved := customer.OwnershipTransferred{From: "ann", To: "bob", Reason: "left"}
	transfer := customer.TransferOwnership{From: "ann", To: "bob", Reason: "left"}
	given(company, anns).When(transfer).Then(t, moved)
	given(company, anns).When(customer.TransferOwnership{To: "bob", Reason: "left"}).Then(t, moved)
	given(company, anns, moved).When(transfer).Then(t)
	given(company, anns).When(customer.TransferOwnership{From: "cid", To: "bob"}).Rejected(t, "owner-differs")
	given(company).When(transfer).Rejected(t, "customer-without-owner")
	given(company, anns).When(customer.TransferOwnership{To: ""}).Invalid(t, "/to")
}

func TestHierarchyIsTreesOfCompanies(t *testing.T) {
	set := customer.SetParent{ParentID: other, Parent: known(company), Ancestors: []domain.ID{third}}
	given(company).When(set).Then(t, customer.ParentSet{To: other})
	given(company, customer.ParentSet{To: third}).When(set).Then(t, customer.ParentSet{From: third, To: other})
	given(company, customer.ParentSet{To: other}).When(set).Then(t)

	given(company).When(customer.SetParent{ParentID: domaintest.ID, Parent: known(company)}).Rejected(t, "hierarchy-cycle")
	given(company).When(customer.SetParent{ParentID: other, Parent: known(company), Ancestors: []domain.ID{third, domaintest.ID}}).
		Rejected(t, "hierarchy-cycle")
	given(company).When(customer.SetParent{ParentID: other, Parent: known(company), Ancestors: make([]domain.ID, customer.MaxAncestors)}).
		Rejected(t, "hierarchy-too-deep")
	given(company).When(customer.SetParent{ParentID: other}).Rejected(t, "customer-unknown")
	given(company).When(customer.SetParent{ParentID: other, Parent: known(person)}).Rejected(t, "hierarchy-of-companies")
	given(person).When(set).Rejected(t, "hierarchy-of-companies")
	given(company).When(customer.SetParent{ParentID: other, Parent: known(company, customer.MergedInto{SurvivorID: third})}).
		Rejected(t, "customer-merged")
	given().When(customer.Register{Kind: customer.Person, Profile: person.Profile, ParentID: other, Parent: known(company)}).
		Rejected(t, "hierarchy-of-companies")

	given(company, customer.ParentSet{To: other}).When(customer.ClearParent{}).Then(t, customer.ParentCleared{From: other})
	given(company).When(customer.ClearParent{}).Then(t)
}

func TestPromisesAreKeptOrBroken(t *testing.T) {
	record := customer.RecordCommitment{Text: "call", Due: "2026-03-02", By: "ann"}
	first := customer.CommitmentRecorded{CommitmentID: "1", Text: "call", Due: "2026-03-02", By: "ann"}
	given(company).When(record).Then(t, first)

	second := first
	second.CommitmentID = "2"
	given(company, first).When(record).Then(t, second)

	named := record
	named.CommitmentID = "1"
	given(company, first).When(named).Then(t)
	named.Text = "write"
	given(company, first).When(named).Rejected(t, "commitment-exists")

	two := first
	two.CommitmentID = "2"
	three := first
	three.CommitmentID = "3"
	given(company, two).When(record).Then(t, three)

	kept := customer.CommitmentKept{CommitmentID: "1", Due: "2026-03-02", By: "ann", Note: "done"}
	broken := customer.CommitmentBroken{CommitmentID: "1", Due: "2026-03-02", By: "ann", Reason: "ill"}
	given(company, first).When(customer.KeepCommitment{CommitmentID: "1", Note: "done"}).Then(t, kept)
	given(company, first).When(customer.BreakCommitment{CommitmentID: "1", Reason: "ill"}).Then(t, broken)
	given(company, first, kept).When(customer.KeepCommitment{CommitmentID: "1"}).Then(t)
	given(company, first, broken).When(customer.BreakCommitment{CommitmentID: "1"}).Then(t)
	given(company, first, kept).When(customer.BreakCommitment{CommitmentID: "1"}).Rejected(t, "commitment-closed")
	given(company, first, broken).When(customer.KeepCommitment{CommitmentID: "1"}).Rejected(t, "commitment-closed")
	given(company).When(customer.KeepCommitment{CommitmentID: "1"}).Rejected(t, "commitment-unknown")
	given(company).When(customer.BreakCommitment{CommitmentID: "1"}).Rejected(t, "commitment-unknown")
}

func TestPromisesHaveATextAPersonAndADayToCome(t *testing.T) {
	record := customer.RecordCommitment{Text: "call", Due: "2026-03-01", By: "ann"}
	given(company).When(record).Invalid(t, "/due")
	record.OccurredAt = time.Date(2026, time.March, 1, 23, 0, 0, 0, time.UTC)
	given(company).When(record).Accepted(t)
	given(company).When(customer.RecordCommitment{Text: " ", Due: "2026-04-01", By: "ann"}).Invalid(t, "/text")
	given(company).When(customer.RecordCommitment{Text: "call", Due: "2026-04-01", By: " "}).Invalid(t, "/by")
	given(company).When(customer.RecordCommitment{Text: "call", By: "ann"}).Invalid(t, "/due")

	open := []domain.Event{company}
	for i := range customer.MaxOpenCommitments {
		open = append(open, customer.CommitmentRecorded{CommitmentID: fmt.Sprint("x", i), Text: "t", Due: "2026-04-01", By: "ann"})
	}
	given(open...).When(record).Rejected(t, "too-many-open-commitments")
	given(append(open, customer.CommitmentKept{CommitmentID: "x0"})...).When(record).Accepted(t)
}

func TestFeedback(t *testing.T) {
	said := customer.FeedbackRecorded{Polarity: customer.Complaint, Topic: "delivery", Text: "late"}
	cmd := customer.RecordFeedback{Polarity: customer.Complaint, Topic: "delivery", Text: "late"}
	given(company).When(cmd).Then(t, said)
	given(company, said).When(cmd).Then(t, said) // saying it again is more feedback
	given(company).When(customer.RecordFeedback{Polarity: customer.Praise, Topic: " "}).Invalid(t, "/topic")
}

func TestGroupsHoldMembersForATime(t *testing.T) {
	in := customer.MemberAdded{MemberID: other, Since: "2026-03-02"}
	add := customer.AddMember{MemberID: other, Member: known(person)}
	given(group).When(add).Then(t, in)
	given(group, in).When(add).Then(t)
	add.Since = "2026-01-01"
	given(group).When(add).Then(t, customer.MemberAdded{MemberID: other, Since: "2026-01-01"})
	given(group, in).When(add).Rejected(t, "already-member")

	given(person).When(add).Rejected(t, "not-a-group")
	given(group).When(customer.AddMember{MemberID: other}).Rejected(t, "customer-unknown")
	given(group).When(customer.AddMember{MemberID: other, Member: known(group)}).Rejected(t, "member-is-group")
	given(group).When(customer.AddMember{MemberID: other, Member: known(person, customer.MergedInto{SurvivorID: third})}).
		Rejected(t, "customer-merged")

	out := customer.MemberRemoved{MemberID: other, Since: "2026-03-02", Until: "2026-06-30"}
	remove := customer.RemoveMember{MemberID: other, Until: "2026-06-30"}
	given(group, in).When(remove).Then(t, out)
	given(group, in).When(customer.RemoveMember{MemberID: other}).Then(t,
		customer.MemberRemoved{MemberID: other, Since: "2026-03-02", Until: "2026-03-02"})
	given(group, in, out).When(remove).Then(t)
	given(group, in, out).When(customer.RemoveMember{MemberID: other, Until: "2026-07-01"}).Rejected(t, "membership-ended")
	given(group, in).When(customer.RemoveMember{MemberID: other, Until: "2026-03-01"}).Rejected(t, "ends-before-it-began")
	given(group).When(remove).Rejected(t, "not-a-member")
	given(company).When(remove).Rejected(t, "not-a-group")

	given(group, in, out).When(add).Rejected(t, "membership-overlaps")
	again := customer.AddMember{MemberID: other, Member: known(person), Since: "2026-06-30"}
	given(group, in, out).When(again).Then(t, customer.MemberAdded{MemberID: other, Since: "2026-06-30"})

	full := []domain.Event{group}
	for i := range customer.MaxMembers {
		full = append(full, customer.MemberAdded{MemberID: domaintest.OtherID(10 + i), Since: "2026-01-01"})
	}
	given(full...).When(add).Rejected(t, "too-many-members")
}

func TestMergingTakesTheSurvivorFirst(t *testing.T) {
	absorbed := customer.Merged{DuplicateID: other, Reason: "same"}
	merge := customer.Merge{DuplicateID: other, Reason: "same", Duplicate: known(company)}
	given(company).When(merge).Then(t, absorbed)
	given(company, absorbed).When(merge).Then(t)
	given(company).When(customer.Merge{DuplicateID: domaintest.ID, Duplicate: known(company)}).Rejected(t, "merge-with-itself")
	given(company).When(customer.Merge{DuplicateID: other}).Rejected(t, "customer-unknown")
	given(company).When(customer.Merge{DuplicateID: other, Duplicate: known(person)}).Rejected(t, "merge-of-kinds")
	given(company).When(customer.Merge{DuplicateID: other, Duplicate: known(company, customer.MergedInto{SurvivorID: third})}).
		Rejected(t, "customer-merged")

	gone := customer.MergedInto{SurvivorID: other}
	into := customer.MergeInto{SurvivorID: other, Survivor: known(company, customer.Merged{DuplicateID: domaintest.ID})}
	given(company).When(into).Then(t, gone)
	given(company, gone).When(into).Then(t)
	given(company).When(customer.MergeInto{SurvivorID: other, Survivor: known(company)}).Rejected(t, "merge-not-begun")
	given(company).When(customer.MergeInto{SurvivorID: other}).Rejected(t, "customer-unknown")
	chain := known(company, customer.Merged{DuplicateID: domaintest.ID}, customer.MergedInto{SurvivorID: third})
	given(company).When(customer.MergeInto{SurvivorID: other, Survivor: chain}).Then(t, gone)
}

func TestOfTwoMergesEachWayTheSmallerIDSurvives(t *testing.T) {
	small, great := domaintest.OtherID(1), domaintest.OtherID(2)
	absorbs := func(id domain.ID) []domain.Event { return []domain.Event{company, customer.Merged{DuplicateID: id}} }
	given(absorbs(great)...).Of(small).When(customer.MergeInto{SurvivorID: great, Survivor: known(absorbs(small)...)}).
		Rejected(t, "merge-cycle")
	given(absorbs(small)...).Of(great).When(customer.MergeInto{SurvivorID: small, Survivor: known(absorbs(great)...)}).
		Then(t, customer.MergedInto{SurvivorID: small})
}

func TestPromisesToADuplicateCanBeSettled(t *testing.T) {
	promised := customer.CommitmentRecorded{CommitmentID: "1", Text: "Send the offer", Due: "2026-03-31", By: "ann"}
	gone := customer.MergedInto{SurvivorID: other}
	given(company, promised, gone).When(customer.KeepCommitment{CommitmentID: "1", Note: "sent"}).
		Then(t, customer.CommitmentKept{CommitmentID: "1", Due: promised.Due, By: "ann", Note: "sent"})
	given(company, promised, gone).When(customer.BreakCommitment{CommitmentID: "1", Reason: "forgotten"}).
		Then(t, customer.CommitmentBroken{CommitmentID: "1", Due: promised.Due, By: "ann", Reason: "forgotten"})
	given(company, promised, gone).When(customer.KeepCommitment{CommitmentID: "2"}).Rejected(t, "customer-merged")
	given(company, promised, gone).When(customer.RecordCommitment{CommitmentID: "2", Text: "Call", Due: "2999-03-31", By: "ann"}).
		Rejected(t, "customer-merged")
}

func TestADuplicateTakesNoCommandAndNamesItsSurvivor(t *testing.T) {
	gone := customer.MergedInto{SurvivorID: other}
	for _, spec := range customer.Aggregate.Commands {
		r := given(company, gone).When(spec.Example).Rejected(t, "customer-merged")
		if !strings.Contains(r.Message, string(other)) {
			t.Errorf("%s: %q does not name the survivor", spec.Type(), r.Message)
		}
	}
}

func TestDeactivationStopsNewBusinessAndLeavesCorrectionsPossible(t *testing.T) {
	off := customer.Deactivated{Reason: "closed"}
	given(company).When(customer.Deactivate{Reason: "closed"}).Then(t, off)
	given(company, off).When(customer.Deactivate{Reason: "closed"}).Then(t)
	given(company, off).When(customer.Reactivate{Reason: "back"}).Then(t, customer.Reactivated{Reason: "back"})
	given(company).When(customer.Reactivate{}).Then(t)

	given(company, off).When(customer.RecordCommitment{Text: "call", Due: "2026-04-01", By: "ann"}).Rejected(t, "customer-inactive")
	given(group, off).When(customer.AddMember{MemberID: other, Member: known(person)}).Rejected(t, "customer-inactive")
	given(company, off).When(customer.UpdateProfile{LegalName: new("Acme Limited i.L.")}).Accepted(t)
}

func TestUniqueValuesAreNormalisedAndADuplicateHoldsNone(t *testing.T) {
	c := customer.Registered{Kind: customer.Company, Profile: customer.Profile{
		Name: "Acme", TaxID: "de 123-456.789", Email: "Info@Acme.example", Phone: "+4930123456",
	}}
	want := []domain.Key{
		{Kind: "tax-id", Value: "DE123456789", Pointer: "/taxId"},
		{Kind: "email", Value: "info@acme.example", Pointer: "/email"},
		{Kind: "phone", Value: "+4930123456", Pointer: "/phone"},
	}
	if diff := cmp.Diff(want, customer.Aggregate.Keys(known(c))); diff != "" {
		t.Error(diff)
	}
	for name, without := range map[string]customer.Customer{
		"none":      known(),
		"no values": known(company),
		"duplicate": known(c, customer.MergedInto{SurvivorID: other}),
	} {
		if keys := customer.Aggregate.Keys(without); keys != nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
	chain := known(c, customer.Merged{DuplicateID: third}, customer.MergedInto{SurvivorID: other})
	if diff := cmp.Diff([]domain.Key{customer.DuplicateKey(third)}, customer.Aggregate.Keys(chain)); diff != "" {
		t.Error(diff)
	}
}

func TestCompaniesOfOneNameInOneRegionAreOne(t *testing.T) {
	key := func(kind customer.Kind, name, region string) []domain.Key {
		return customer.Aggregate.Keys(customer.Customer{
			Kind: kind, Profile: customer.Profile{Name: name}, Classification: customer.Classification{Region: region},
		})
	}
	acme := key(customer.Company, "Acme Ltd", "West")
	if len(acme) != 1 || acme[0].Kind != "name-and-region" || acme[0].Pointer != "/name" {
		t.Fatalf("%+v", acme)
	}
	for _, same := range [][2]string{{"ACME, Ltd.", "west"}, {"  acme  ltd", " WEST "}, {"A.C.M.E. Ltd", "West"}} {
		if diff := cmp.Diff(acme, key(customer.Company, same[0], same[1])); diff != "" {
			t.Errorf("%q:\n%s", same, diff)
		}
	}
	for _, other := range [][2]string{{"Acme Ltd", "East"}, {"Acme Ltd West", "West"}, {"Acme", "Ltd West"}} {
		if cmp.Equal(acme, key(customer.Company, other[0], other[1])) {
			t.Errorf("%q is taken for Acme Ltd in West", other)
		}
	}
	for _, none := range [][]domain.Key{
		key(customer.Company, "Acme Ltd", ""), key(customer.Company, "Acme Ltd", " "), key(customer.Company, ".,", "West"),
		key(customer.Person, "Ann Lee", "West"), key(customer.Group, "Lee family", "West"),
	} {
		if none != nil {
			t.Errorf("%+v", none)
		}
	}
}

func TestSubjectsAreTheCustomerAndItsSurvivor(t *testing.T) {
	for _, c := range []struct {
		state customer.Customer
		want  []domain.ID
	}{
		{known(company), []domain.ID{domaintest.ID}},
		{known(company, customer.MergedInto{SurvivorID: other}), []domain.ID{domaintest.ID, other}},
	} {
		if got := customer.Aggregate.Subjects(domaintest.ID, c.state); !slices.Equal(got, c.want) {
			t.Errorf("want %v, got %v", c.want, got)
		}
	}
}

func TestEventsOfOthersDoNotMakeACustomer(t *testing.T) {
	if c := known(domain.ReservationLapsed{CommandID: "x"}); customer.Aggregate.Exists(c) {
		t.Error("a lapsed reservation made a customer")
	}
	if !customer.Aggregate.Exists(known(domain.ReservationLapsed{CommandID: "x"}, company)) {
		t.Error("a registered customer does not exist")
	}
}

// clock is who wakes what is due.
var clock = domain.Actor{ID: "rapport", Kind: domain.ActorAutomation}

func TestOverdueCommitments(t *testing.T) {
	promised := customer.CommitmentRecorded{CommitmentID: "1", Text: "call", Due: "2026-03-01", By: "ann"}
	over := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	mark := customer.MarkCommitmentOverdue{When: domain.When{OccurredAt: over}, CommitmentID: "1"}
	overdue := customer.CommitmentOverdue{CommitmentID: "1", Due: "2026-03-01", By: "ann"}
	kept := customer.CommitmentKept{CommitmentID: "1", Due: "2026-03-01", By: "ann"}
	broken := customer.CommitmentBroken{CommitmentID: "1", Due: "2026-03-01", By: "ann"}
	given(company, promised).By(clock).When(mark).Then(t, overdue)
	given(company, promised).At(over).By(clock).When(mark).Then(t, overdue)
	given(company, promised).At(over.AddDate(3, 0, 0)).By(clock).When(mark).Then(t, overdue)
	given(company, promised).At(over.Add(-time.Microsecond)).By(clock).When(mark).Rejected(t, "commitment-not-due")
	early := mark
	early.OccurredAt = over.Add(-time.Microsecond)
	given(company, promised).By(clock).When(early).Rejected(t, "commitment-not-due")
	given(company, promised).When(mark).Rejected(t, "automation-only")
	given(company, promised, overdue).By(clock).When(mark).Then(t)
	for _, settled := range []domain.Event{kept, broken} {
		given(company, promised, settled).By(clock).When(mark).Then(t)
		given(company, promised, overdue, settled).By(clock).When(mark).Then(t)
	}
	given(company).By(clock).When(mark).Rejected(t, "commitment-unknown")
	// It can still be kept, and a duplicate's promises are told of as well.
	given(company, promised, overdue).When(customer.KeepCommitment{CommitmentID: "1"}).Then(t, kept)
	given(company, promised, customer.MergedInto{SurvivorID: other}).By(clock).When(mark).Then(t, overdue)
}

func TestExamplesAreAcceptedInTheRightState(t *testing.T) {
	past := map[string][]domain.Event{
		"customer.register":                nil,
		"customer.untag":                   {company, customer.Tagged{Tag: "key account"}},
		"customer.transfer_ownership":      {company, customer.OwnerAssigned{Owner: "ann"}},
		"customer.keep_commitment":         {company, customer.CommitmentRecorded{CommitmentID: "1"}},
		"customer.break_commitment":        {company, customer.CommitmentRecorded{CommitmentID: "1"}},
		"customer.mark_commitment_overdue": {company, customer.CommitmentRecorded{CommitmentID: "1", Due: "2026-03-01"}},
		"customer.clear_parent":            {company, customer.ParentSet{To: other}},
		"customer.drop_preference":         {company, customer.PreferenceSet{Name: "colour", To: "blue"}},
		"customer.add_member":              {group},
		"customer.remove_member":           {group, customer.MemberAdded{MemberID: "01900000-0000-7000-8000-000000000003", Since: "2026-01-01"}},
		"customer.update_profile":          {customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "A", Website: "https://a.example"}}},
		"customer.reactivate":              {company, customer.Deactivated{Reason: "closed"}},
	}
	for _, spec := range customer.Aggregate.Commands {
		events, named := past[spec.Type()]
		if !named {
			events = []domain.Event{company}
		}
		cmd := spec.Example
		switch c := cmd.(type) {
		case customer.SetParent:
			c.Parent = known(company)
			cmd = c
		case customer.AddMember:
			c.Member = known(person)
			cmd = c
		case customer.Merge:
			c.Duplicate = known(company)
			cmd = c
		case customer.MergeInto:
			c.Survivor = known(company, customer.Merged{DuplicateID: domaintest.ID})
			cmd = c
		}
		scenario := given(events...)
		if spec.Type() == "customer.mark_commitment_overdue" {
			scenario = scenario.By(clock)
		}
		if len(scenario.When(cmd).Accepted(t)) == 0 {
			t.Errorf("the example of %s changes nothing", spec.Type())
		}
	}
}
