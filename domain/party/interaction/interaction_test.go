package interaction_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

var (
	acme   = domaintest.OtherID(1)
	globex = domaintest.OtherID(2)
	mara   = domaintest.OtherID(3)
	alive  = interaction.CustomerFacts{Exists: true}

	call = interaction.Details{
		CustomerID: acme, Channel: "phone", Direction: interaction.Outbound, Subject: "Offer", Outcome: "reached",
		DurationSeconds: 60, StartedAt: domaintest.Now.Add(-time.Hour),
	}
	logged = interaction.Logged{Details: call}
)

func given(events ...domain.Event) domaintest.Scenario[interaction.Interaction] {
	return domaintest.Given(interaction.Aggregate.Decider, events...)
}

func TestGoldenEvents(t *testing.T) {
	codectest.Golden(t, interaction.Aggregate.Definition(), "testdata/events")
}

func TestLogging(t *testing.T) {
	given().When(interaction.Log{Details: call, Customer: alive}).Then(t, logged)
	given(logged).When(interaction.Log{Details: call, Customer: alive}).Rejected(t, "interaction-exists")
	given().When(interaction.Log{Details: call}).Rejected(t, "customer-unknown")
	given().When(interaction.Log{Details: call, Customer: interaction.CustomerFacts{Exists: true, MergedInto: globex}}).
		Rejected(t, "customer-merged")
}

func TestAnInteractionBeganWhenItOccurredUnlessSaidOtherwise(t *testing.T) {
	cmd := interaction.Log{Details: call, Customer: alive}
	cmd.StartedAt = time.Time{}
	cmd.OccurredAt = time.Date(2026, time.March, 1, 10, 0, 0, 0, time.FixedZone("CET", 3600))
	want := call
	want.StartedAt = time.Date(2026, time.March, 1, 9, 0, 0, 0, time.UTC)
	given().When(cmd).Then(t, interaction.Logged{Details: want})
}

func TestLoggingNamesEveryFault(t *testing.T) {
	given().When(interaction.Log{Customer: alive, Details: interaction.Details{
		Participants: []interaction.Participant{
			{Kind: interaction.ByUser, ID: " "},
			{Kind: interaction.ByContact, ID: "Mara"},
			{Kind: interaction.ByCustomer, ID: string(acme)},
		},
		DurationSeconds: -1, StartedAt: domaintest.Now.Add(time.Hour),
	}}).Invalid(t, "/customerId", "/channel", "/direction", "/participants/0/id", "/participants/1/id", "/durationSeconds", "/startedAt")
}

func TestClocksMayDifferALittle(t *testing.T) {
	cmd := interaction.Log{Details: call, Customer: alive}
	cmd.StartedAt = domaintest.Now.Add(interaction.ClockSkew)
	given().When(cmd).Accepted(t)
	cmd.StartedAt = cmd.StartedAt.Add(time.Second)
	given().When(cmd).Invalid(t, "/startedAt")
	cmd.StartedAt, cmd.OccurredAt = time.Time{}, domaintest.Now.Add(time.Hour)
	given().When(cmd).Invalid(t, "/occurredAt")
}

func TestEveryFieldThatIsCorrectedIsAnEventWithItsOldAndNewValue(t *testing.T) {
	cmd := interaction.Correct{
		CustomerID: new(globex), Channel: new(interaction.Channel("visit")), Direction: new(interaction.Inbound),
		Participants: &[]interaction.Participant{{Kind: interaction.ByContact, ID: string(mara)}}, Subject: new("Order"),
		Body: new("Talk"), Outcome: new("yes"), DurationSeconds: new(90), StartedAt: new(domaintest.Now), Campaign: new("spring"),
		RelatesTo: &interaction.Reference{Aggregate: "opportunity", ID: mara}, Reason: "mixed up", Customer: alive,
	}
	want := interaction.Details{
		CustomerID: globex, Channel: "visit", Direction: interaction.Inbound, Participants: *cmd.Participants, Subject: "Order",
		Body: "Talk", Outcome: "yes", DurationSeconds: 90, StartedAt: domaintest.Now, Campaign: "spring", RelatesTo: cmd.RelatesTo,
	}
	d := given(logged).When(cmd)
	events := d.Accepted(t)
	if diff := cmp.Diff(want, d.State.Details); diff != "" || len(events) != 11 {
		t.Errorf("%d events: %s", len(events), diff)
	}
	if diff := cmp.Diff(domain.Event(interaction.Corrected{
		Field: "customerId", From: interaction.Details{CustomerID: acme}, To: interaction.Details{CustomerID: globex}, Reason: "mixed up",
	}), events[0]); diff != "" {
		t.Error(diff)
	}
	past := append([]domain.Event{logged}, events...)
	given(past...).When(cmd).Then(t)
	given(past...).When(interaction.Correct{Clear: []string{"relatesTo", "participants"}, Reason: "neither"}).Then(t,
		interaction.Corrected{Field: "participants", From: interaction.Details{Participants: *cmd.Participants}, Reason: "neither"},
		interaction.Corrected{Field: "relatesTo", From: interaction.Details{RelatesTo: cmd.RelatesTo}, Reason: "neither"})
}

func TestCorrectionsLeaveARecordThatCouldHaveBeenLogged(t *testing.T) {
	correct := func(c interaction.Correct) interaction.Correct {
		c.Reason = "wrong"
		return c
	}
	given(logged).When(correct(interaction.Correct{Clear: []string{"channel"}})).Invalid(t, "/channel")
	given(logged).When(correct(interaction.Correct{Clear: []string{"startedAt"}})).Invalid(t, "/startedAt")
	given(logged).When(correct(interaction.Correct{Clear: []string{"hat"}})).Invalid(t, "/clear/0")
	given(logged).When(correct(interaction.Correct{DurationSeconds: new(-1)})).Invalid(t, "/durationSeconds")
	given(logged).When(correct(interaction.Correct{CustomerID: new(globex)})).Rejected(t, "customer-unknown")
	given(logged).When(interaction.Correct{Subject: new("Order"), Reason: " "}).Invalid(t, "/reason")
	local := call.StartedAt.In(time.FixedZone("CET", 3600))
	given(logged).When(correct(interaction.Correct{StartedAt: &local, Participants: &[]interaction.Participant{}})).Then(t)
}

func TestRemarks(t *testing.T) {
	given(logged).When(interaction.AddNote{Text: "call again"}).Then(t, interaction.NoteAdded{Text: "call again"})
	given(logged).When(interaction.AddNote{Text: " "}).Invalid(t, "/text")
}

func TestWhatWasRetractedTakesNothingMore(t *testing.T) {
	gone := interaction.Retracted{Details: call, Reason: "twice"}
	given(logged).When(interaction.Retract{Reason: "twice"}).Then(t, gone)
	given(logged, gone).When(interaction.Retract{Reason: "twice"}).Then(t)
	given(logged).When(interaction.Retract{Reason: " "}).Invalid(t, "/reason")
	for _, spec := range interaction.Aggregate.Commands {
		if _, retract := spec.Example.(interaction.Retract); !retract {
			given(logged, gone).When(spec.Example).Rejected(t, "interaction-retracted")
		}
	}
}

func TestSubjectsAreTheCustomersWhoTookPart(t *testing.T) {
	d := call
	d.Participants = []interaction.Participant{
		{Kind: interaction.ByCustomer, ID: string(globex)},
		{Kind: interaction.ByCustomer, ID: string(acme)},
		{Kind: interaction.ByContact, ID: string(mara)},
	}
	i := interaction.Aggregate.Decider.Fold(interaction.Logged{Details: d})
	if got := interaction.Aggregate.Subjects(domaintest.ID, i); !slices.Equal(got, []domain.ID{acme, globex}) {
		t.Errorf("subjects %v", got)
	}
}

func TestEventsOfOthersDoNotMakeAnInteraction(t *testing.T) {
	i := interaction.Aggregate.Decider.Fold(domain.ReservationLapsed{CommandID: "x"})
	if interaction.Aggregate.Exists(i) || interaction.Aggregate.Subjects(domaintest.ID, i) != nil {
		t.Errorf("a foreign event made %v", i)
	}
}

func TestExamplesAreAcceptedInTheRightState(t *testing.T) {
	for _, spec := range interaction.Aggregate.Commands {
		scenario, cmd := given(logged), spec.Example
		switch c := cmd.(type) {
		case interaction.Log:
			c.Customer = alive
			scenario, cmd = given(), c
		case interaction.MarkFollowUpDue:
			due := call
			due.FollowUpAt = c.FollowUpAt
			scenario = given(interaction.Logged{Details: due}).At(c.FollowUpAt).By(clock)
		}
		if len(scenario.When(cmd).Accepted(t)) == 0 {
			t.Errorf("the example of %s changes nothing", spec.Type())
		}
	}
}

// clock is who wakes what is due.
var clock = domain.Actor{ID: "rapport", Kind: domain.ActorAutomation}

func TestFollowUps(t *testing.T) {
	moment := domaintest.Now.Add(-time.Minute)
	with := func(at time.Time) interaction.Logged {
		d := call
		d.FollowUpAt = at
		return interaction.Logged{Details: d}
	}
	moved := func(from, to time.Time) interaction.Corrected {
		return interaction.Corrected{Field: "followUpAt", From: interaction.Details{FollowUpAt: from}, To: interaction.Details{FollowUpAt: to}, Reason: "other day"}
	}
	mark := func(at time.Time) interaction.MarkFollowUpDue {
		return interaction.MarkFollowUpDue{When: domain.When{OccurredAt: at}, FollowUpAt: at}
	}
	earlier, later, ahead := moment.Add(-time.Second), moment.Add(time.Second), domaintest.Now.Add(time.Hour)
	due := interaction.FollowUpDue{FollowUpAt: moment}
	given(with(moment)).By(clock).When(mark(moment)).Then(t, due)
	given(with(moment)).At(moment.AddDate(3, 0, 0)).By(clock).When(mark(moment)).Then(t, due)
	given(with(moment)).At(earlier).By(clock).When(mark(moment)).Rejected(t, "follow-up-not-due")
	given(with(ahead)).By(clock).When(mark(ahead)).Rejected(t, "follow-up-not-due")
	given(with(moment)).When(mark(moment)).Rejected(t, "automation-only")
	given(with(moment), due).By(clock).When(mark(moment)).Then(t)
	// What was put off, or is not wanted any more, is refused; so is what never was.
	given(with(moment), moved(moment, later)).By(clock).When(mark(moment)).Rejected(t, "follow-up-moved")
	given(with(moment), moved(moment, time.Time{})).By(clock).When(mark(moment)).Rejected(t, "follow-up-moved")
	given(logged).By(clock).When(mark(moment)).Rejected(t, "follow-up-moved")
	given(with(moment), interaction.Retracted{}).By(clock).When(mark(moment)).Rejected(t, "interaction-retracted")
	// A moment later than the one that was told is told again, another one is not.
	given(with(moment), due, moved(moment, later)).By(clock).When(mark(later)).Then(t, interaction.FollowUpDue{FollowUpAt: later})
	given(with(moment), due, moved(moment, earlier)).By(clock).When(mark(earlier)).Then(t)
	given(with(moment), due, moved(moment, time.Time{}), moved(time.Time{}, moment)).By(clock).When(mark(moment)).Then(t)
}

func TestAFollowUpComesAfterTheInteraction(t *testing.T) {
	d := call
	d.FollowUpAt = call.StartedAt
	given().When(interaction.Log{Details: d, Customer: alive}).Invalid(t, "/followUpAt")
	given(logged).When(interaction.Correct{FollowUpAt: new(call.StartedAt), Reason: "other day"}).Invalid(t, "/followUpAt")
}
