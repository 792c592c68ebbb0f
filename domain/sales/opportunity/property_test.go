package opportunity

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
)

// ledger is what a reader that knows nothing but the events believes.
type ledger struct {
	openVisit map[int]string // the visits that began and did not end, with their stage
	visits    int
	amount    *domain.Money
	customer  domain.ID
	owner     string
	lines     map[int]domain.Amount
}

// Whatever happens, a reader of the events alone finds the opportunity in one stage while it is open and in none while it
// is closed, finds every change starting from what the change before led to, and adds up the lines to what was said.
func TestHistoriesCanBeReadWithoutTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o Opportunity
		var past []domain.Event
		l := ledger{openVisit: map[int]string{}, lines: map[int]domain.Amount{}}
		commands := append([]domain.Command{openCommand}, rapid.SliceOfN(rapid.Custom(drawCommand), 15, 40).Draw(t, "commands")...)
		for _, c := range commands {
			events, err := decide(o, c, domain.Facts{})
			if err != nil && len(events) > 0 {
				t.Fatalf("%#v was refused and caused %v", c, events)
			}
			for _, e := range events {
				l.read(t, e)
				o, past = evolve(o, e), append(past, e)
			}
			l.check(t, o)
		}
		if diff := cmp.Diff(o, Aggregate.Decider.Fold(past...), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("folding the history gives another state (-steps +fold):\n%s", diff)
		}
	})
}

func drawCommand(t *rapid.T) domain.Command {
	stage := rapid.SampledFrom([]string{"q", "p", "n", "demo", "won"})
	facts := rapid.SampledFrom([]PipelineFacts{version1, version2})
	amount := rapid.SampledFrom([]string{"-1", "0", "50", "80.125"})
	id := rapid.SampledFrom([]domain.ID{customerID, contactID})
	line := rapid.IntRange(0, 4)
	switch rapid.IntRange(0, 11).Draw(t, "command") {
	case 0:
		return Win{Amount: rapid.Ptr(rapid.Map(amount, func(s string) domain.Money { return *cny(s) }), true).Draw(t, "amount")}
	case 1:
		return Lose{Reason: "price"}
	case 2, 3:
		return Reopen{Stage: stage.Draw(t, "stage"), Pipeline: facts.Draw(t, "pipeline")}
	case 4:
		return LinkCustomer{CustomerID: id.Draw(t, "customer")}
	case 5:
		return ReEstimate{Amount: *cny(amount.Draw(t, "amount"))}
	case 6:
		return AddLine{NewLine: NewLine{ProductCode: "X", Quantity: number("0.5"), UnitPrice: *cny(amount.Draw(t, "price"))}}
	case 7:
		return ChangeLine{Line: line.Draw(t, "line"), Quantity: new(number(amount.Draw(t, "quantity")))}
	case 8:
		return RemoveLine{Line: line.Draw(t, "line")}
	case 9:
		return Assign{Owner: rapid.SampledFrom([]string{"mia", "tom"}).Draw(t, "owner")}
	}
	return MoveStage{Stage: stage.Draw(t, "stage"), Pipeline: facts.Draw(t, "pipeline")}
}

func (l *ledger) read(t *rapid.T, e domain.Event) {
	switch e := e.(type) {
	case Opened:
		l.enter(t, e.Visit, e.Stage)
		l.amount, l.customer, l.owner = e.Amount, e.CustomerID, e.Owner
	case StageMoved:
		l.leave(t, e.FromVisit, e.From)
		l.enter(t, e.ToVisit, e.To)
		l.same(t, "amount", l.amount, e.Amount)
	case Won:
		l.leave(t, e.Visit, e.Stage)
		l.same(t, "estimate", l.amount, e.Estimate)
		l.amount = &e.Amount
	case Lost:
		l.leave(t, e.Visit, e.Stage)
		l.same(t, "amount", l.amount, e.Amount)
	case Reopened:
		l.enter(t, e.Visit, e.Stage)
		l.same(t, "amount", l.amount, e.Amount)
	case ReEstimated:
		l.same(t, "amount", l.amount, e.From)
		l.amount = &e.To
	case CustomerLinked:
		if e.From != l.customer || e.CustomerID != e.To {
			t.Fatalf("linked from %s, it was %s", e.From, l.customer)
		}
		l.customer = e.To
	case Assigned:
		if e.From != l.owner || e.Owner != e.To {
			t.Fatalf("assigned from %s, it was %s", e.From, l.owner)
		}
		l.owner = e.To
	case LineAdded:
		l.lines[e.Number] = e.Total
		l.adds(t, &e.LinesTotal)
	case LineChanged:
		l.lines[e.To.Number] = e.To.Total
		l.adds(t, &e.LinesTotal)
	case LineRemoved:
		delete(l.lines, e.Number)
		l.adds(t, e.LinesTotal)
	}
}

func (l *ledger) enter(t *rapid.T, visit int, stage string) {
	if l.visits++; visit != l.visits || len(l.openVisit) > 0 {
		t.Fatalf("visit %d of %s began in %v", visit, stage, l.openVisit)
	}
	l.openVisit[visit] = stage
}

func (l *ledger) leave(t *rapid.T, visit int, stage string) {
	if l.openVisit[visit] != stage {
		t.Fatalf("visit %d of %s ended in %v", visit, stage, l.openVisit)
	}
	delete(l.openVisit, visit)
}

func (l *ledger) same(t *rapid.T, what string, want, got *domain.Money) {
	if (want == nil) != (got == nil) || want != nil && !want.Equal(*got) {
		t.Fatalf("the %s is %v, it was %v", what, got, want)
	}
}

func (l *ledger) adds(t *rapid.T, total *domain.Money) {
	var sum domain.Amount
	for _, a := range l.lines {
		sum = domain.NewAmount(sum.Add(a.Decimal))
	}
	if (total == nil) != (len(l.lines) == 0) || total != nil && !total.Amount.Equal(sum) {
		t.Fatalf("the lines add up to %s, not %v", sum, total)
	}
}

func (l *ledger) check(t *rapid.T, o Opportunity) {
	if open := o.Status == StatusOpen; open != (len(l.openVisit) == 1) {
		t.Fatalf("the opportunity is %s with open visits %v", o.Status, l.openVisit)
	}
	if o.Standing.CustomerID != l.customer || o.Standing.Owner != l.owner || o.Visit != l.visits {
		t.Fatalf("the state %+v is not what the events tell: %+v", o, l)
	}
	l.same(t, "amount", l.amount, o.Amount)
}
