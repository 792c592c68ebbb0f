package sales

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/projections/column"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// SalesOrder keeps each order, credit or adjustment as it stands now.
var SalesOrder = projection.Fold[projection.StreamKey, sales.Order]{
	Name: "sales_order", Version: 2,
	Doc:     "Orders, credits and adjustments as they stand now.",
	Events:  []string{"order."},
	Keys:    projection.ByStream,
	Begins:  projection.BeginsStream[projection.StreamKey],
	Evolve:  evolveOrder,
	Indexes: sales.Orders.Indexes,
}

// evolveOrder sums what is outstanding from the amounts of the events. The sum that an event states holds in the order in
// which the events were recorded, and restated answers have another order.
func evolveOrder(r sales.Order, _ projection.StreamKey, e domain.Recorded) sales.Order {
	step := func(status order.Status, at **time.Time) {
		r.Status, *at = string(status), new(e.OccurredAt)
	}
	switch ev := e.Event.(type) {
	case order.Placed:
		r.Number, r.Kind, r.Status = ev.Number, string(ev.Kind), string(order.StatusPlaced)
		r.CustomerID, r.OpportunityID = column.ID(ev.CustomerID), column.ID(ev.OpportunityID)
		r.Currency, r.Total, r.Outstanding, r.LineCount = string(ev.Currency), ev.Total, column.Sum(r.Outstanding, ev.Total), int64(len(ev.Lines))
		r.DeliveryDate, r.Country, r.ShipTo, r.Note = column.Date(ev.DeliveryDate), ev.Country, ev.ShipTo, ev.Note
		r.PlacedAt = e.OccurredAt
	case order.Confirmed:
		step(order.StatusConfirmed, &r.ConfirmedAt)
	case order.DeliveryScheduled:
		r.DeliveryDate = column.Date(ev.To)
	case order.ProductionStarted:
		step(order.StatusInProduction, &r.ProductionAt)
	case order.Shipped:
		step(order.StatusShipped, &r.ShippedAt)
		r.Carrier, r.Tracking = ev.Carrier, ev.Tracking
	case order.Delivered:
		step(order.StatusDelivered, &r.DeliveredAt)
	case order.Accepted:
		step(order.StatusAccepted, &r.AcceptedAt)
		r.SignedBy = ev.SignedBy
	case order.Cancelled:
		step(order.StatusCancelled, &r.CancelledAt)
		r.CancelReason, r.Outstanding = ev.Reason, column.Difference(r.Outstanding, ev.Total)
	case order.GoodsReturned:
		r.Returned, r.Outstanding = column.Sum(r.Returned, ev.Value), column.Difference(r.Outstanding, ev.Value)
	case order.PaymentReceived:
		r.Paid, r.Outstanding = column.Sum(r.Paid, ev.Amount.Amount), column.Difference(r.Outstanding, ev.Amount.Amount)
	case order.PaymentRefunded:
		r.Refunded, r.Outstanding = column.Sum(r.Refunded, ev.Amount.Amount), column.Sum(r.Outstanding, ev.Amount.Amount)
	}
	r.ChangedAt, r.Revision, r.Position = e.OccurredAt, int64(e.Revision), e.Position.Order()
	return r
}

type orderLineKey struct {
	Tenant  domain.Tenant `db:"tenant"`
	OrderID domain.ID     `db:"order_id"`
	Line    int64         `db:"line"`
}

// SalesOrderLine keeps each line of an order.
var SalesOrderLine = projection.Fold[orderLineKey, sales.OrderLine]{
	Name: "sales_order_line", Version: 1,
	Doc:    "Lines of orders, credits and adjustments.",
	Events: []string{"order.placed", "order.cancelled", "order.goods_returned"},
	Keys: func(e domain.Recorded) (keys []orderLineKey) {
		add := func(line int) { keys = append(keys, orderLineKey{e.Tenant, e.Stream.ID, int64(line)}) }
		switch ev := e.Event.(type) {
		case order.Placed:
			for _, line := range ev.Lines {
				add(line.Number)
			}
		case order.Cancelled:
			for _, line := range ev.Lines {
				add(line.Number)
			}
		case order.GoodsReturned:
			for _, line := range ev.Lines {
				add(line.Number)
			}
		}
		return keys
	},
	Begins: projection.BeginsStream[orderLineKey],
	Evolve: func(r sales.OrderLine, k orderLineKey, e domain.Recorded) sales.OrderLine {
		switch ev := e.Event.(type) {
		case order.Placed:
			line, ok := placedLine(ev.Lines, k.Line)
			if !ok {
				return r
			}
			r.CustomerID, r.Kind, r.Currency, r.PlacedAt = column.ID(ev.CustomerID), string(ev.Kind), string(ev.Currency), e.OccurredAt
			r.ProductCode, r.ProductID, r.Description = line.ProductCode, column.ID(line.ProductID), line.Description
			r.Quantity, r.UnitPrice, r.Total = line.Quantity, line.UnitPrice, line.Total
		case order.Cancelled:
			r.Cancelled = true
		case order.GoodsReturned:
			for _, line := range ev.Lines {
				if int64(line.Number) == k.Line {
					r.Returned = column.Sum(r.Returned, line.Quantity)
				}
			}
		}
		r.Position = e.Position.Order()
		return r
	},
	Indexes: sales.OrderLines.Indexes,
}

// placedLine finds a line by its number; lines are numbered in order from 1, so it is nearly always at its own place.
func placedLine(lines []order.Line, number int64) (order.Line, bool) {
	if number >= 1 && number <= int64(len(lines)) && int64(lines[number-1].Number) == number {
		return lines[number-1], true
	}
	for _, line := range lines {
		if int64(line.Number) == number {
			return line, true
		}
	}
	return order.Line{}, false
}

// Payment keeps what was paid and paid back.
var Payment = projection.Append[sales.Payment]{
	Name: "payment", Version: 1,
	Doc:    "Payments received for orders, and refunds.",
	Events: []string{"order.payment_received", "order.payment_refunded"},
	Rows: func(e domain.Recorded) []sales.Payment {
		r := sales.Payment{
			Tenant: e.Tenant, OrderID: e.Stream.ID, Revision: int64(e.Revision), OccurredAt: e.OccurredAt,
			RecordedAt: e.RecordedAt, Position: e.Position.Order(),
		}
		var of order.Subject
		var money domain.Money
		switch ev := e.Event.(type) {
		case order.PaymentReceived:
			of, money = ev.Subject, ev.Amount
			r.Kind, r.PaymentID, r.Method, r.Reference = sales.PaymentReceived, ev.PaymentID, string(ev.Method), ev.Reference
		case order.PaymentRefunded:
			of, money = ev.Subject, ev.Amount
			r.Kind, r.PaymentID, r.RefundID, r.Reference = sales.PaymentRefunded, ev.PaymentID, ev.RefundID, ev.Reason
		default:
			return nil
		}
		r.OrderNumber, r.CustomerID = of.Number, column.ID(of.CustomerID)
		r.Amount, r.Currency = money.Amount, string(money.Currency)
		return []sales.Payment{r}
	},
	Indexes: sales.Payments.Indexes,
}
