package interaction

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// The invented records that the examples below speak of.
const (
	exampleCustomer    domain.ID = "01900000-0000-7000-8000-000000000002"
	exampleContact               = "01900000-0000-7000-8000-000000000005"
	exampleOpportunity domain.ID = "01900000-0000-7000-8000-000000000006"
)

var (
	exampleTime = time.Date(2026, time.March, 2, 9, 15, 0, 0, time.UTC)
	exampleWhen = domain.When{OccurredAt: exampleTime}

	exampleFollowUp = time.Date(2026, time.March, 2, 16, 0, 0, 0, time.UTC)

	exampleDetails = Details{
		CustomerID: exampleCustomer, Channel: "phone", Direction: Outbound,
		Participants: []Participant{
			{Kind: ByUser, ID: "ann"},
			{Kind: ByContact, ID: exampleContact, Name: "Mara Keller"},
		},
		Subject: "Offer for the spring order", Body: "Wants a discount of five per cent.", Outcome: "reached",
		DurationSeconds: 240, StartedAt: exampleTime, Campaign: "spring 2026",
		RelatesTo: &Reference{Aggregate: "opportunity", ID: exampleOpportunity}, FollowUpAt: exampleFollowUp,
	}
)

var commandSpecs = []domain.CommandSpec{
	{Creates: true, Doc: "Records a dealing with a customer.", Example: Log{When: exampleWhen, Details: exampleDetails}},
	{Doc: "Puts right what was recorded wrongly; every field that changes is an event with its old and new value.", Example: Correct{
		When: exampleWhen, Channel: new(Channel("video")), Direction: new(Inbound), Participants: &[]Participant{{Kind: ByUser, ID: "ann"}},
		Subject: new("Offer for the summer order"), Body: new("Wants a discount of three per cent."), Outcome: new("yes"),
		DurationSeconds: new(300), StartedAt: new(exampleTime.Add(-5 * time.Minute)), Campaign: new("summer 2026"),
		FollowUpAt: new(exampleFollowUp.AddDate(0, 0, 1)),
		Clear:      []string{"relatesTo"}, Reason: "mixed up two calls",
	}},
	{Doc: "Adds a remark.", Example: AddNote{When: exampleWhen, Text: "Call again on Friday."}},
	{Doc: "Says that there was no such interaction.", Example: Retract{When: exampleWhen, Reason: "entered twice"}},
	{Doc: "Says that the moment to come back to an interaction has come; for the clock alone.", Example: MarkFollowUpDue{
		When: domain.When{OccurredAt: exampleFollowUp}, FollowUpAt: exampleFollowUp,
	}},
}

var eventSpecs = []domain.EventSpec{
	{Doc: "An interaction took place.", Words: domain.Words{
		En: "[{channel}, {direction}|Interaction][: “{subject}”][, outcome {outcome}]",
		Zh: "[{channel}，{direction}|往来][：“{subject}”][，结果{outcome}]",
	}, Example: Logged{Details: exampleDetails}},
	{Doc: "One field of the record was wrong.", Words: domain.Words{
		En: "Interaction corrected: " + domain.ChangeWords.En + " (“{reason}”)",
		Zh: "往来记录已更正：" + domain.ChangeWords.Zh + "（“{reason}”）",
	}, Example: Corrected{
		Field: "outcome", From: Details{Outcome: "reached"}, To: Details{Outcome: "yes"}, Reason: "mixed up two calls",
	}},
	{Doc: "Someone added a remark.", Words: domain.Words{
		En: "Note on an interaction: “{text}”",
		Zh: "往来备注：“{text}”",
	}, Example: NoteAdded{Text: "Call again on Friday."}},
	{Doc: "There was no such interaction.", Words: domain.Words{
		En: "Interaction retracted[, {details.channel}][ about “{details.subject}”]: “{reason}”",
		Zh: "往来记录已撤回[，{details.channel}][，关于“{details.subject}”]：“{reason}”",
	}, Example: Retracted{Details: exampleDetails, Reason: "entered twice"}},
	{Doc: "The moment to come back to an interaction had come.", Words: domain.Words{
		En: "Follow-up of an interaction due {followUpAt}",
		Zh: "往来跟进已到期：{followUpAt}",
	}, Example: FollowUpDue{FollowUpAt: exampleFollowUp}},
}
