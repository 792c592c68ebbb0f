package opportunity

import (
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

var (
	card      = NewLine{ProductCode: "GTX", Quantity: number("2"), UnitPrice: *cny("10.125")}
	cardLine  = Line{Number: 1, ProductCode: "GTX", Quantity: number("2"), UnitPrice: *cny("10.125"), Total: number("20.25")}
	lineAdded = LineAdded{Line: cardLine, LinesTotal: *cny("20.25")}
)

func TestLinesAreNumberedOnceAndAddUpExactly(t *testing.T) {
	given(opened).When(AddLine{NewLine: card}).Then(t, lineAdded)

	second := cardLine
	second.Number = 2
	given(opened, lineAdded).When(AddLine{NewLine: card}).Then(t, LineAdded{Line: second, LinesTotal: *cny("40.5")})
	given(opened, lineAdded, LineRemoved{Line: cardLine}).When(AddLine{NewLine: card}).
		Then(t, LineAdded{Line: second, LinesTotal: *cny("20.25")})
}

func TestAnOpportunityOpensWithItsLines(t *testing.T) {
	c := openCommand
	c.Lines = []NewLine{card, card}
	second := cardLine
	second.Number = 2
	want := opened
	want.Lines = []Line{cardLine, second}
	d := given().When(c)
	d.Then(t, want)
	if d.State.LastLine != 2 {
		t.Errorf("the last line is %d", d.State.LastLine)
	}
	c.Lines[1].UnitPrice.Currency = "EUR"
	given().When(c).Rejected(t, "currency-mismatch")
	c.Lines[1].Quantity = number("0")
	given().When(c).Invalid(t, "/lines/1/quantity")
}

func TestALineHasAQuantityAndAPrice(t *testing.T) {
	c := AddLine{NewLine: card}
	c.Quantity = number("-1")
	given(opened).When(c).Invalid(t, "/quantity")
	c.Quantity, c.UnitPrice = number("1"), *cny("-1")
	given(opened).When(c).Invalid(t, "/unitPrice/amount")
	c.Quantity, c.UnitPrice = number("0.000001"), *cny("0.1")
	given(opened).When(c).Invalid(t, "/quantity")
	given(opened, lineAdded).When(ChangeLine{Line: 1, Quantity: new(number("0"))}).Invalid(t, "/quantity")
}

func TestTheSumOfTheLinesCanBeCounted(t *testing.T) {
	huge := AddLine{NewLine: NewLine{ProductCode: "X", Quantity: number("1"), UnitPrice: *cny("999999999999999999")}}
	first := given(opened).When(huge).Accepted(t)
	given(opened, first[0]).When(huge).Invalid(t, "")
}

func TestLinesHaveOneCurrency(t *testing.T) {
	c := AddLine{NewLine: card}
	c.UnitPrice = domain.MustMoney("1", "EUR")
	given(opened, lineAdded).When(c).Rejected(t, "currency-mismatch")

	only := cardLine
	only.UnitPrice, only.Total = domain.MustMoney("1", "EUR"), number("2")
	given(opened, lineAdded).When(ChangeLine{Line: 1, UnitPrice: &c.UnitPrice}).
		Then(t, LineChanged{From: cardLine, To: only, LinesTotal: domain.MustMoney("2", "EUR")})
}

func TestChangeLineChangesWhatIsGiven(t *testing.T) {
	given(opened, lineAdded).When(ChangeLine{Line: 1}).Then(t)
	given(opened, lineAdded).When(ChangeLine{Line: 1, Quantity: new(number("2.0"))}).Then(t)
	given(opened, lineAdded).When(ChangeLine{Line: 2}).Rejected(t, "no-such-line")
	to := cardLine
	to.Quantity, to.Total, to.Description = number("3"), number("30.375"), "cards"
	given(opened, lineAdded).When(ChangeLine{Line: 1, Quantity: new(number("3")), Description: new("cards")}).
		Then(t, LineChanged{From: cardLine, To: to, LinesTotal: *cny("30.375")})
}

func TestRemoveLine(t *testing.T) {
	removed := LineRemoved{Line: cardLine}
	given(opened, lineAdded).When(RemoveLine{Line: 1}).Then(t, removed)
	given(opened, lineAdded, removed).When(RemoveLine{Line: 1}).Then(t)
	given(opened, lineAdded).When(RemoveLine{Line: 2}).Rejected(t, "no-such-line")

	second := cardLine
	second.Number = 2
	given(opened, lineAdded, LineAdded{Line: second, LinesTotal: *cny("40.5")}).When(RemoveLine{Line: 1}).
		Then(t, LineRemoved{Line: cardLine, LinesTotal: cny("20.25")})
}

func TestThereIsAnEndToLines(t *testing.T) {
	full := opened
	for i := range MaxLines {
		line := cardLine
		line.Number = i + 1
		full.Lines = append(full.Lines, line)
	}
	given(full).When(AddLine{NewLine: card}).Rejected(t, "too-many-lines")
}

// Cached states are folded further in more than one way: a retry, a dry run. None may write into another's lines.
func TestFoldingOnceLeavesOtherFoldsAlone(t *testing.T) {
	at := func(n int, code string) LineAdded {
		line := cardLine
		line.Number, line.ProductCode = n, code
		return LineAdded{Line: line}
	}
	for lines := range 6 {
		state := Aggregate.Decider.Fold(opened)
		for i := range lines {
			state = evolve(state, at(i+1, "GTX"))
		}
		one := evolve(state, at(lines+1, "ONE"))
		evolve(state, at(lines+1, "TWO"))
		if got := one.Lines[lines].ProductCode; got != "ONE" {
			t.Errorf("line %d became %s", lines+1, got)
		}
	}
}
