package opportunity

import (
	"fmt"
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// MaxLines is how many lines an opportunity holds at a time.
const MaxLines = 500

// line checks a new line and gives it a number. pointer is where the line stands in the request.
func (l NewLine) line(number int, pointer string) (Line, error) {
	return Line{
		Number: number, ProductCode: l.ProductCode, ProductID: l.ProductID, Description: l.Description,
		Quantity: l.Quantity, UnitPrice: l.UnitPrice,
	}.priced(pointer)
}

// priced returns the line with its exact total, or an *domain.InvalidError about quantity or price.
func (l Line) priced(pointer string) (Line, error) {
	switch {
	case !l.Quantity.IsPositive():
		return l, domain.Invalid(pointer+"/quantity", "a quantity is more than 0")
	case l.UnitPrice.Amount.IsNegative():
		return l, domain.Invalid(pointer+"/unitPrice/amount", "a price is 0 or more")
	}
	total, err := domain.AmountOf(l.Quantity.Mul(l.UnitPrice.Amount.Decimal))
	if err != nil {
		return l, domain.Invalid(pointer+"/quantity", "quantity times price: {reason}", err)
	}
	l.Total = total
	return l, nil
}

// openingLines numbers the lines of a new opportunity.
func openingLines(given []NewLine) ([]Line, error) {
	lines := make([]Line, len(given))
	for i, l := range given {
		var err error
		if lines[i], err = l.line(i+1, fmt.Sprintf("/lines/%d", i)); err != nil {
			return nil, err
		}
	}
	if _, err := linesTotal(lines); err != nil {
		return nil, err
	}
	return lines, nil
}

// linesTotal adds up the lines: nil when there are none, a *domain.Rejection when their currencies differ.
func linesTotal(lines []Line) (*domain.Money, error) {
	var sum domain.Money
	for _, l := range lines {
		var err error
		if sum.Currency != "" && sum.Currency != l.UnitPrice.Currency {
			return nil, domain.Reject("currency-mismatch", "the lines of an opportunity have one currency, not {currency} and {otherCurrency}",
				sum.Currency, l.UnitPrice.Currency)
		}
		sum.Currency = l.UnitPrice.Currency
		if sum.Amount, err = domain.AmountOf(sum.Amount.Add(l.Total.Decimal)); err != nil {
			return nil, domain.Invalid("", "the sum of the lines: {reason}", err)
		}
	}
	if len(lines) == 0 {
		return nil, nil
	}
	return &sum, nil
}

func addLine(o Opportunity, c AddLine) ([]domain.Event, error) {
	if len(o.Lines) >= MaxLines {
		return nil, domain.Reject("too-many-lines", "an opportunity has at most {limit} lines", MaxLines)
	}
	line, err := c.line(o.LastLine+1, "")
	if err != nil {
		return nil, err
	}
	total, err := linesTotal(append(slices.Clip(o.Lines), line))
	if err != nil {
		return nil, err
	}
	return []domain.Event{LineAdded{Line: line, LinesTotal: *total}}, nil
}

func changeLine(o Opportunity, c ChangeLine) ([]domain.Event, error) {
	from, ok := o.line(c.Line)
	if !ok {
		return nil, noSuchLine(c.Line)
	}
	to := from
	if c.Description != nil {
		to.Description = *c.Description
	}
	if c.Quantity != nil {
		to.Quantity = *c.Quantity
	}
	if c.UnitPrice != nil {
		to.UnitPrice = *c.UnitPrice
	}
	if to.Description == from.Description && to.Quantity.Equal(from.Quantity) && to.UnitPrice.Equal(from.UnitPrice) {
		return nil, nil
	}
	to, err := to.priced("")
	if err != nil {
		return nil, err
	}
	total, err := linesTotal(replaceLine(o.Lines, to))
	if err != nil {
		return nil, err
	}
	return []domain.Event{LineChanged{From: from, To: to, LinesTotal: *total}}, nil
}

func removeLine(o Opportunity, c RemoveLine) ([]domain.Event, error) {
	line, ok := o.line(c.Line)
	switch {
	case c.Line > o.LastLine:
		return nil, noSuchLine(c.Line)
	case !ok:
		return nil, nil // it was removed before
	}
	total, err := linesTotal(withoutLine(o.Lines, c.Line))
	if err != nil {
		return nil, err
	}
	return []domain.Event{LineRemoved{Line: line, LinesTotal: total}}, nil
}

func noSuchLine(number int) error {
	return domain.Reject("no-such-line", "the opportunity has no line {line}", number).At("/line")
}

func (o Opportunity) line(number int) (Line, bool) {
	for _, l := range o.Lines {
		if l.Number == number {
			return l, true
		}
	}
	return Line{}, false
}

// replaceLine returns a fresh list with the line in the place of the one with its number.
func replaceLine(lines []Line, line Line) []Line {
	lines = slices.Clone(lines)
	for i := range lines {
		if lines[i].Number == line.Number {
			lines[i] = line
		}
	}
	return lines
}

// withoutLine returns a fresh list without the line of that number.
func withoutLine(lines []Line, number int) []Line {
	return slices.DeleteFunc(slices.Clone(lines), func(l Line) bool { return l.Number == number })
}
