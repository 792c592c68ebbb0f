package opportunity

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

func given(events ...domain.Event) domaintest.Scenario[Opportunity] {
	return domaintest.Given(Aggregate.Decider, events...)
}

func cny(amount string) *domain.Money { return new(domain.MustMoney(amount, "CNY")) }

func number(s string) domain.Amount { return cny(s).Amount }

var (
	pipelineID = domaintest.OtherID(1)
	customerID = domaintest.OtherID(2)
	contactID  = domaintest.OtherID(3)

	// version 1 has the stages Q, P and N of the golden funnel.
	version1 = PipelineFacts{ID: pipelineID, Version: 1, Stages: []StageFacts{{"q", 10}, {"p", 50}, {"n", 80}}}
	version2 = PipelineFacts{ID: pipelineID, Version: 2, Stages: []StageFacts{{"q", 20}, {"demo", 40}, {"n", 90}}}

	standing = Standing{Owner: "mia", Region: "North", PipelineID: pipelineID, PipelineVersion: 1}

	opened      = Opened{Name: "Render farm", Standing: standing, Stage: "q", Visit: 1, Probability: 10, Source: "fair", Amount: cny("100")}
	openedBare  = Opened{Name: "Render farm", Standing: standing, Stage: "q", Visit: 1, Probability: 10}
	won         = Won{Stage: "q", Visit: 1, Standing: standing, Amount: *cny("100"), Estimate: cny("100")}
	lost        = Lost{Stage: "q", Visit: 1, Standing: standing, Amount: cny("100"), Reason: "price", Competitor: "Polar"}
	movedToP    = StageMoved{From: "q", To: "p", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: standing, Amount: cny("100")}
	linkedTo    = func(id domain.ID) Standing { s := standing; s.CustomerID = id; return s }
	ownedBy     = func(owner string) Standing { s := standing; s.Owner = owner; return s }
	underV2     = func() Standing { s := standing; s.PipelineVersion = 2; return s }()
	openCommand = Open{Name: "Render farm", Owner: "mia", Region: "North", Source: "fair", Amount: cny("100"), Pipeline: version1}
)

func TestSpecs(t *testing.T) { domaintest.Specs(t, Aggregate.Definition()) }

func TestEvents(t *testing.T) { codectest.Golden(t, Aggregate.Definition(), "testdata/events") }

func TestOpenStartsInTheFirstStageUnlessToldOtherwise(t *testing.T) {
	given().When(openCommand).Then(t, opened)

	c := openCommand
	c.Stage, c.PipelineID, c.CustomerID = "n", pipelineID, customerID
	given().When(c).Then(t, Opened{
		Name: "Render farm", Standing: linkedTo(customerID), Stage: "n", Visit: 1, Probability: 80, Source: "fair", Amount: cny("100"),
	})
	given(opened).When(openCommand).Rejected(t, "opportunity-exists")
}

func TestOpenNeedsAStageOfThePipeline(t *testing.T) {
	c := openCommand
	c.Stage = "demo"
	if r := given().When(c).Rejected(t, "unknown-stage"); r.Pointer != "/stage" {
		t.Errorf("the rule is about %q", r.Pointer)
	}
	c.Stage, c.Pipeline.Retired = "q", true
	given().When(c).Rejected(t, "pipeline-retired")
}

func TestOpenWithTheFactsOfAnotherPipelineIsABug(t *testing.T) {
	c := openCommand
	c.PipelineID = domaintest.OtherID(9)
	if _, err := decide(Opportunity{}, c, domain.Facts{}); err == nil {
		t.Error("the facts of another pipeline were taken")
	}
	if _, err := decide(Opportunity{}, Open{Name: "no facts"}, domain.Facts{}); err == nil {
		t.Error("no facts were taken")
	}
	m := MoveStage{Stage: "p", Pipeline: PipelineFacts{ID: domaintest.OtherID(9), Version: 1, Stages: version1.Stages}}
	if _, err := decide(Aggregate.Decider.Fold(opened), m, domain.Facts{}); err == nil {
		t.Error("a move took the facts of another pipeline")
	}
}

func TestAmountsAreNotNegative(t *testing.T) {
	c := openCommand
	c.Amount = cny("-1")
	given().When(c).Invalid(t, "/amount/amount")
	given(opened).When(ReEstimate{Amount: *cny("-0.01")}).Invalid(t, "/amount/amount")
	given(opened).When(Win{Amount: cny("-5")}).Invalid(t, "/amount/amount")
}

func TestUpdateChangesWhatIsGiven(t *testing.T) {
	given(opened).When(Update{Name: new("Render farm")}).Then(t)
	given(opened).When(Update{Region: new("West"), Source: new("")}).Then(t, Updated{
		From: Details{Name: "Render farm", Region: "North", Source: "fair"}, To: Details{Name: "Render farm", Region: "West"},
	})
}

func TestTheRegionOfAnUpdateStandsInLaterEvents(t *testing.T) {
	west := standing
	west.Region = "West"
	updated := Updated{From: Details{Name: "Render farm", Region: "North", Source: "fair"}, To: Details{Name: "Render farm", Region: "West"}}
	given(opened, updated).When(Win{}).Then(t, Won{Stage: "q", Visit: 1, Standing: west, Amount: *cny("100"), Estimate: cny("100")})
}

func TestQualifyTellsTheScoreBefore(t *testing.T) {
	first := Qualified{Score: 40, Reason: "no budget yet"}
	given(opened).When(Qualify{Score: 40, Reason: "no budget yet"}).Then(t, first)
	given(opened, first).When(Qualify{Score: 40, Reason: "no budget yet"}).Then(t)
	given(opened, first).When(Qualify{Score: 40, Reason: "asked again"}).Then(t, Qualified{From: new(40), Score: 40, Reason: "asked again"})
	given(opened, first).When(Qualify{Score: 0, Reason: "dead"}).Then(t, Qualified{From: new(40), Score: 0, Reason: "dead"})
}

func TestMoveToAnyStageOfThePipeline(t *testing.T) {
	given(opened).When(MoveStage{Stage: "p", Pipeline: version1}).Then(t, movedToP)
	given(opened).When(MoveStage{Stage: "n", Pipeline: version1}).
		Then(t, StageMoved{From: "q", To: "n", FromVisit: 1, ToVisit: 2, Probability: 80, Standing: standing, Amount: cny("100")})
	given(opened, movedToP).When(MoveStage{Stage: "q", Pipeline: version1}).
		Then(t, StageMoved{From: "p", To: "q", FromVisit: 2, ToVisit: 3, Probability: 10, Standing: standing, Amount: cny("100")})
	given(opened, movedToP).When(MoveStage{Stage: "p", Pipeline: version1}).Then(t)
	given(opened).When(MoveStage{Stage: "won", Pipeline: version1}).Rejected(t, "unknown-stage")
}

func TestAMovePinsTheVersionThatAllowedIt(t *testing.T) {
	given(opened, movedToP).When(MoveStage{Stage: "demo", Pipeline: version2}).
		Then(t, StageMoved{From: "p", To: "demo", FromVisit: 2, ToVisit: 3, Probability: 40, Standing: underV2, Amount: cny("100")})
	given(opened).When(MoveStage{Stage: "p", Pipeline: version2}).Rejected(t, "unknown-stage")
}

func TestAMoveCarriesTheAmountAtEntry(t *testing.T) {
	given(opened, ReEstimated{From: cny("100"), To: *cny("80"), Standing: standing}).When(MoveStage{Stage: "p", Pipeline: version1}).
		Then(t, StageMoved{From: "q", To: "p", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: standing, Amount: cny("80")})
	given(openedBare).When(MoveStage{Stage: "p", Pipeline: version1}).
		Then(t, StageMoved{From: "q", To: "p", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: standing})
}

func TestReEstimateTellsTheAmountBefore(t *testing.T) {
	given(opened).When(ReEstimate{Amount: *cny("100.00")}).Then(t)
	given(opened).When(ReEstimate{Amount: *cny("120.555"), Reason: "more seats"}).
		Then(t, ReEstimated{From: cny("100"), To: *cny("120.555"), Reason: "more seats", Standing: standing})
	given(openedBare).When(ReEstimate{Amount: *cny("0")}).Then(t, ReEstimated{To: *cny("0"), Standing: standing})
	given(opened).When(ReEstimate{Amount: domain.MustMoney("100", "EUR")}).
		Then(t, ReEstimated{From: cny("100"), To: domain.MustMoney("100", "EUR"), Standing: standing})
}

func TestRescheduleTellsTheDayBefore(t *testing.T) {
	first := Rescheduled{To: "2026-03-31"}
	given(opened).When(Reschedule{ExpectedClose: "2026-03-31"}).Then(t, first)
	given(opened, first).When(Reschedule{ExpectedClose: "2026-03-31"}).Then(t)
	given(opened, first).When(Reschedule{ExpectedClose: "2026-02-01", Reason: "sooner"}).
		Then(t, Rescheduled{From: "2026-03-31", To: "2026-02-01", Reason: "sooner"})
}

func TestAssignTellsTheOwnerBefore(t *testing.T) {
	given(opened).When(Assign{Owner: "mia"}).Then(t)
	given(opened).When(Assign{Owner: "tom", Reason: "territory"}).
		Then(t, Assigned{From: "mia", To: "tom", Reason: "territory", Standing: ownedBy("tom"), Amount: cny("100")})
	given(opened, won).When(Assign{Owner: "tom"}).Rejected(t, "opportunity-not-open")
}

func TestTheCustomerCanBeLinkedLater(t *testing.T) {
	linked := CustomerLinked{To: customerID, Status: StatusOpen, Standing: linkedTo(customerID), Amount: cny("100")}
	d := given(opened).When(LinkCustomer{CustomerID: customerID})
	d.Then(t, linked)
	if diff := cmp.Diff([]domain.ID{customerID}, Aggregate.Subjects(domaintest.ID, d.State)); diff != "" {
		t.Error(diff)
	}
	if got := Aggregate.Subjects(domaintest.ID, Aggregate.Decider.Fold(opened)); got != nil {
		t.Errorf("an opportunity without a customer concerns %v", got)
	}
	given(opened, linked).When(LinkCustomer{CustomerID: customerID}).Then(t)
	given(opened, linked).When(LinkCustomer{CustomerID: contactID}).
		Then(t, CustomerLinked{From: customerID, To: contactID, Status: StatusOpen, Standing: linkedTo(contactID), Amount: cny("100")})
	given(opened, won).When(LinkCustomer{CustomerID: customerID}).
		Then(t, CustomerLinked{To: customerID, Status: StatusWon, Standing: linkedTo(customerID), Amount: cny("100")})
}

func TestStakeholdersAreLimited(t *testing.T) {
	past := []domain.Event{opened}
	for n := range MaxStakeholders {
		past = append(past, StakeholderAdded{ContactID: domaintest.OtherID(n), Role: "user"})
	}
	add := AddStakeholder{ContactID: domaintest.OtherID(MaxStakeholders), Role: "user"}
	given(past[:MaxStakeholders]...).When(add).Accepted(t)
	given(past...).When(add).Rejected(t, "too-many-stakeholders")
	given(past...).When(AddStakeholder{ContactID: domaintest.OtherID(0), Role: "decider"}).Accepted(t)
	given(append(past, StakeholderRemoved{ContactID: domaintest.OtherID(0), Role: "user"})...).When(add).Accepted(t)
}

func TestAStakeholderHasOneRole(t *testing.T) {
	user := StakeholderAdded{ContactID: contactID, Role: "user"}
	given(opened).When(AddStakeholder{ContactID: contactID, Role: "user"}).Then(t, user)
	given(opened, user).When(AddStakeholder{ContactID: contactID, Role: "user"}).Then(t)
	given(opened, user).When(AddStakeholder{ContactID: contactID, Role: "decider"}).
		Then(t, StakeholderAdded{ContactID: contactID, Role: "decider", From: "user"})
	given(opened, user).When(RemoveStakeholder{ContactID: contactID}).Then(t, StakeholderRemoved{ContactID: contactID, Role: "user"})
	given(opened).When(RemoveStakeholder{ContactID: contactID}).Then(t)
	given(opened, lost).When(AddStakeholder{ContactID: contactID, Role: "user"}).Then(t, user)
}

func TestWinNeedsAnAmount(t *testing.T) {
	given(opened).When(Win{}).Then(t, won)
	given(openedBare).When(Win{}).Rejected(t, "opportunity-without-amount")
	given(openedBare).When(Win{Amount: cny("0")}).Then(t, Won{Stage: "q", Visit: 1, Standing: standing, Amount: *cny("0")})
	d := given(opened, movedToP).When(Win{Amount: cny("90"), Note: "price"})
	d.Then(t, Won{Stage: "p", Visit: 2, Standing: standing, Amount: *cny("90"), Estimate: cny("100"), Note: "price"})
	if d.State.Status != StatusWon || !d.State.Amount.Equal(*cny("90")) {
		t.Errorf("after the win: %+v", d.State)
	}
}

func TestRepeatingAClosingChangesNothing(t *testing.T) {
	given(opened, won).When(Win{}).Then(t)
	given(opened, won).When(Win{Amount: cny("100.0")}).Then(t)
	given(opened, won).When(Win{Amount: cny("101")}).Rejected(t, "opportunity-not-open")
	given(opened, won).When(Lose{Reason: "price"}).Rejected(t, "opportunity-not-open")
	given(opened, lost).When(Lose{Reason: "price", Competitor: "Polar"}).Then(t)
	given(opened, lost).When(Lose{Reason: "timing"}).Rejected(t, "opportunity-not-open")
	given(opened, lost).When(Win{}).Rejected(t, "opportunity-not-open")
}

func TestALossNeedsNoAmount(t *testing.T) {
	given(opened).When(Lose{Reason: "price", Competitor: "Polar"}).Then(t, lost)
	given(openedBare).When(Lose{Reason: "unknown"}).Then(t, Lost{Stage: "q", Visit: 1, Standing: standing, Reason: "unknown"})
}

func TestReopenBeginsAnotherVisit(t *testing.T) {
	given(opened, lost).When(Reopen{Pipeline: version1, Reason: "budget"}).Then(t, Reopened{
		From: StatusLost, FromStage: "q", FromVisit: 1, Stage: "q", Visit: 2, Probability: 10, Standing: standing, Amount: cny("100"), Reason: "budget",
	})
	given(opened, won).When(Reopen{Stage: "demo", Pipeline: version2}).Then(t, Reopened{
		From: StatusWon, FromStage: "q", FromVisit: 1, Stage: "demo", Visit: 2, Probability: 40, Standing: underV2, Amount: cny("100"),
	})
	given(opened, movedToP, Lost{Stage: "p", Visit: 2, Standing: standing, Reason: "price"}).
		When(Reopen{Pipeline: version2}).Rejected(t, "unknown-stage")
	given(opened).When(Reopen{Pipeline: version1}).Then(t)
	given(opened).When(Reopen{Stage: "p", Pipeline: version1}).Rejected(t, "opportunity-open")
}

func TestAClosedOpportunityMustBeReopenedFirst(t *testing.T) {
	for _, c := range []domain.Command{
		Update{Name: new("x")}, Qualify{Score: 1, Reason: "x"}, MoveStage{Stage: "p", Pipeline: version1}, ReEstimate{Amount: *cny("1")},
		Reschedule{ExpectedClose: "2026-01-01"}, AddLine{NewLine: card}, ChangeLine{Line: 1}, RemoveLine{Line: 1}, Assign{Owner: "tom"},
	} {
		given(opened, won).When(c).Rejected(t, "opportunity-not-open")
		given(opened, lost).When(c).Rejected(t, "opportunity-not-open")
	}
}

// The business time of an event may lie before that of the event before it: late reports are facts too.
func TestBackDatedReportsAreAccepted(t *testing.T) {
	yesterday := domain.When{OccurredAt: domaintest.Now.Add(-365 * 24 * time.Hour)}
	given(opened).When(Win{When: yesterday}).Then(t, won)
}

// The deal D3 of the golden funnel goes back, rises in value and skips a stage; D4 is lost and reopened. The visits tell it.
func TestVisitsTellReEntriesMovesBackAndReopenings(t *testing.T) {
	move := func(stage string) domain.Command { return MoveStage{Stage: stage, Pipeline: version1} }
	for name, test := range map[string]struct {
		commands []domain.Command
		want     []string
	}{
		"D1": {[]domain.Command{move("p"), move("n"), Win{}}, []string{"1:q", "2:p", "3:n", "won in 3:n"}},
		"D2": {[]domain.Command{move("n"), Lose{Reason: "price"}}, []string{"1:q", "2:n", "lost in 2:n"}},
		"D3": {
			[]domain.Command{move("p"), move("q"), ReEstimate{Amount: *cny("80")}, move("p"), Win{}},
			[]string{"1:q", "2:p", "3:q", "4:p", "won in 4:p"},
		},
		"D4": {
			[]domain.Command{Lose{Reason: "timing"}, Reopen{Pipeline: version1}, move("p")},
			[]string{"1:q", "lost in 1:q", "2:q", "3:p"},
		},
	} {
		history := []domain.Event{opened}
		for _, c := range test.commands {
			history = append(history, given(history...).When(c).Accepted(t)...)
		}
		var got []string
		for _, e := range history {
			switch e := e.(type) {
			case Opened:
				got = append(got, fmt.Sprintf("%d:%s", e.Visit, e.Stage))
			case StageMoved:
				got = append(got, fmt.Sprintf("%d:%s", e.ToVisit, e.To))
			case Reopened:
				got = append(got, fmt.Sprintf("%d:%s", e.Visit, e.Stage))
			case Won:
				got = append(got, fmt.Sprintf("won in %d:%s", e.Visit, e.Stage))
			case Lost:
				got = append(got, fmt.Sprintf("lost in %d:%s", e.Visit, e.Stage))
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestExamplesAreAccepted(t *testing.T) {
	facts := PipelineFacts{ID: pipelineID, Version: 1, Stages: []StageFacts{{"prospecting", 10}, {"proposal", 50}, {"negotiation", 75}}}
	for _, spec := range Aggregate.Commands {
		past := []domain.Event{opened, LineAdded{Line: exampleLine, LinesTotal: *exampleMoney("9642")}}
		c := spec.Example
		switch example := c.(type) {
		case Open:
			example.Pipeline = facts
			past, c = nil, example
		case MoveStage:
			example.Pipeline = facts
			c = example
		case Reopen:
			example.Pipeline = facts
			past, c = append(past, lost), example
		}
		if events := given(past...).When(c).Accepted(t); len(events) != 1 && c.CommandType() != "opportunity.remove_stakeholder" {
			t.Errorf("the example of %s causes %v", c.CommandType(), events)
		}
	}
}

func TestOtherCommandsAreABug(t *testing.T) {
	if _, err := decide(Aggregate.Decider.Fold(opened), nil, domain.Facts{}); err == nil {
		t.Error("a foreign command was decided")
	}
}
