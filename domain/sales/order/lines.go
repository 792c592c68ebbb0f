package order

import (
	"fmt"
	"maps"

	"github.com/rapport-crm/rapport/domain"
)

func place(o Order, c Place) ([]domain.Event, error) {
	if o.Status != "" {
		return nil, domain.Reject("order-exists", "the order was placed before")
	}
	if c.Kind == "" {
		c.Kind = KindSale
	}
	if n := len(c.Lines); n == 0 || n > MaxLines {
		return nil, domain.Invalid("/lines", "an order has 1 to {limit} lines, not {count}", MaxLines, n)
	}
	lines := make([]Line, len(c.Lines))
	var total domain.Amount
	for i, given := range c.Lines {
		line, err := given.line(c.Kind, i)
		if err != nil {
			return nil, err
		}
		if total, err = domain.AmountOf(total.Add(line.Total.Decimal)); err != nil {
			return nil, domain.Invalid("/lines", "the total: {reason}", err)
		}
		lines[i] = line
	}
	return []domain.Event{Placed{
		Subject:       Subject{Number: c.Number, Kind: c.Kind, CustomerID: c.CustomerID},
		OpportunityID: c.OpportunityID, Currency: c.Currency, Lines: lines, Total: total,
		DeliveryDate: c.DeliveryDate, Country: c.Country, ShipTo: c.ShipTo, Note: c.Note,
	}}, nil
}

// line checks the line that stands at index i of an order of the kind, and adds its number and exact total.
func (l NewLine) line(kind Kind, i int) (Line, error) {
	at := func(field, template string, values ...any) (Line, error) {
		return Line{}, domain.Invalid(fmt.Sprintf("/lines/%d/%s", i, field), template, values...)
	}
	switch {
	case kind == KindSale && !l.Quantity.IsPositive():
		return at("quantity", "a sale has quantities of more than 0")
	case kind == KindCredit && !l.Quantity.IsNegative():
		return at("quantity", "a credit has quantities of less than 0")
	case l.Quantity.IsZero():
		return at("quantity", "a quantity is not 0")
	case kind != KindAdjustment && l.UnitPrice.IsNegative():
		return at("unitPrice", "a price is 0 or more except in an adjustment")
	}
	total, err := domain.AmountOf(l.Quantity.Mul(l.UnitPrice.Decimal))
	if err != nil {
		return at("quantity", "quantity times price: {reason}", err)
	}
	return Line{
		Number: i + 1, ProductCode: l.ProductCode, ProductID: l.ProductID, Description: l.Description,
		Quantity: l.Quantity, UnitPrice: l.UnitPrice, Total: total,
	}, nil
}

func returnGoods(o Order, c ReturnGoods) ([]domain.Event, error) {
	switch {
	case o.Subject.Kind != KindSale:
		return nil, notASale(o)
	case o.Status != StatusShipped && o.Status != StatusDelivered && o.Status != StatusAccepted:
		return nil, domain.Reject("order-not-shipped", "an order that is {status} has no goods to return", o.Status)
	}
	returned := make([]ReturnedLine, len(c.Lines))
	seen := make(map[int]bool, len(c.Lines))
	var value domain.Amount
	for i, r := range c.Lines {
		if seen[r.Line] {
			return nil, domain.Invalid(fmt.Sprintf("/lines/%d/line", i), "line {line} stands twice", r.Line)
		}
		seen[r.Line] = true
		var err error
		if returned[i], err = o.returnedLine(r, i); err != nil {
			return nil, err
		}
		value = domain.NewAmount(value.Add(returned[i].Value.Decimal))
	}
	e := GoodsReturned{Subject: o.Subject, Lines: returned, Currency: o.Currency, Value: value, Reason: c.Reason}
	e.Outstanding = domain.NewAmount(o.withReturned(e).Outstanding())
	return []domain.Event{e}, nil
}

// returnedLine checks the return that stands at index i: of a line there is, and not more than is still out.
func (o Order) returnedLine(r ReturnLine, i int) (ReturnedLine, error) {
	if r.Line < 1 || r.Line > len(o.Lines) {
		return ReturnedLine{}, domain.Reject("no-such-line", "the order has no line {line}", r.Line).At(fmt.Sprintf("/lines/%d/line", i))
	}
	quantity := fmt.Sprintf("/lines/%d/quantity", i)
	if !r.Quantity.IsPositive() {
		return ReturnedLine{}, domain.Invalid(quantity, "more than 0 comes back")
	}
	line := o.Lines[r.Line-1]
	if out := line.Quantity.Sub(o.Returned[r.Line].Decimal); r.Quantity.GreaterThan(out) {
		return ReturnedLine{}, domain.Reject("returns-more-than-ordered", "of line {line}, {left} can come back, not {quantity}", r.Line, out, r.Quantity).At(quantity)
	}
	value, err := domain.AmountOf(r.Quantity.Mul(line.UnitPrice.Decimal))
	if err != nil {
		return ReturnedLine{}, domain.Invalid(quantity, "quantity times price: {reason}", err)
	}
	return ReturnedLine{
		Number: line.Number, ProductCode: line.ProductCode, ProductID: line.ProductID, Quantity: r.Quantity, Value: value,
	}, nil
}

// withReturned folds a return.
func (o Order) withReturned(e GoodsReturned) Order {
	if o.Returned = maps.Clone(o.Returned); o.Returned == nil {
		o.Returned = make(map[int]domain.Amount, len(e.Lines))
	}
	for _, l := range e.Lines {
		o.Returned[l.Number] = domain.NewAmount(o.Returned[l.Number].Add(l.Quantity.Decimal))
	}
	o.ReturnedValue = domain.NewAmount(o.ReturnedValue.Add(e.Value.Decimal))
	return o
}
