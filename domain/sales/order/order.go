// Package order decides what may happen to an order: its fulfilment, its payments, and what comes back.
//
// A sale goes placed → confirmed → in production → shipped → delivered → accepted; production may be skipped, nothing
// else may, and it may be cancelled until it is shipped. Credits and adjustments are entries in the books: they are
// complete when placed. All sums are exact.
package order

import (
	"fmt"
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// Kind says what an order does to sales.
type Kind string

// The kinds of order.
const (
	KindSale       Kind = "sale"       // goods go out: every quantity is more than 0
	KindCredit     Kind = "credit"     // goods come back under a number of their own: every quantity is less than 0
	KindAdjustment Kind = "adjustment" // books are put right: any quantity but 0, any price
)

// Labels implements domain.Labelled.
func (Kind) Labels() domain.Labels { return kindLabels }

var kindLabels = domain.Labels{
	string(KindSale):       {En: "order", Zh: "订单"},
	string(KindCredit):     {En: "credit", Zh: "贷项"},
	string(KindAdjustment): {En: "adjustment", Zh: "调整单"},
}

// Method says how something was paid.
type Method string

// Labels implements domain.Labelled.
func (Method) Labels() domain.Labels { return methodLabels }

var methodLabels = domain.Labels{
	"bank-transfer": {En: "bank transfer", Zh: "银行转账"},
	"card":          {En: "card", Zh: "银行卡"},
	"cash":          {En: "cash", Zh: "现金"},
	"cheque":        {En: "cheque", Zh: "支票"},
	"direct-debit":  {En: "direct debit", Zh: "直接扣款"},
	"online":        {En: "online", Zh: "在线支付"},
	"other":         {En: "other", Zh: "其他方式"},
}

// Status is the step of fulfilment that an order has reached.
type Status string

// The steps of an order. The zero value is that of an order that was not placed yet.
const (
	StatusPlaced       Status = "placed"
	StatusConfirmed    Status = "confirmed"
	StatusInProduction Status = "in_production"
	StatusShipped      Status = "shipped"
	StatusDelivered    Status = "delivered"
	StatusAccepted     Status = "accepted"
	StatusCancelled    Status = "cancelled"
)

// Order is what the rules below need to know of one order. The zero value has not been placed yet.
type Order struct {
	Subject      Subject
	Status       Status
	Currency     domain.Currency
	Lines        []Line // number n stands at n-1; never changed in place
	Total        domain.Amount
	DeliveryDate domain.Date

	Returned      map[int]domain.Amount // quantity that came back, by line number; never changed in place
	ReturnedValue domain.Amount
	Payments      []Payment // never changed in place
	Refunds       []Refund
	Paid          domain.Amount // sum of the payments
	Refunded      domain.Amount // sum of the refunds
}

// Payment is one receipt of money.
type Payment struct {
	ID       string
	Amount   domain.Amount
	Refunded domain.Amount // part of it that was paid back
}

// Refund is one payment back.
type Refund struct {
	ID, PaymentID string
	Amount        domain.Amount
}

// Aggregate declares the order.
var Aggregate = domain.Aggregate[Order]{
	Name:     "order",
	Plural:   "orders",
	Doc:      "What a customer ordered, its fulfilment, payments and returns.",
	Decider:  domain.Decider[Order]{Decide: decide, Evolve: evolve},
	Events:   events,
	Commands: commands,
	Exists:   func(o Order) bool { return o.Status != "" },
	Subjects: subjects,
}

func subjects(_ domain.ID, o Order) []domain.ID {
	if o.Subject.CustomerID == "" {
		return nil
	}
	return []domain.ID{o.Subject.CustomerID}
}

// Outstanding returns what is still owed: the total, nothing once cancelled, less what came back and less what was paid
// and not paid back. It is negative when money is to be paid back.
func (o Order) Outstanding() domain.Decimal {
	owed := o.Total.Sub(o.ReturnedValue.Decimal)
	if o.Status == StatusCancelled {
		owed = domain.Decimal{}
	}
	return owed.Sub(o.Paid.Decimal).Add(o.Refunded.Decimal)
}

func decide(o Order, cmd domain.Command, _ domain.Facts) ([]domain.Event, error) {
	switch c := cmd.(type) {
	case Place:
		return place(o, c)
	case Confirm:
		return step(o, StatusConfirmed, Confirmed{o.Subject})
	case ScheduleDelivery:
		return scheduleDelivery(o, c)
	case StartProduction:
		return step(o, StatusInProduction, ProductionStarted{o.Subject})
	case Ship:
		return step(o, StatusShipped, Shipped{Subject: o.Subject, Carrier: c.Carrier, Tracking: c.Tracking})
	case Deliver:
		return step(o, StatusDelivered, Delivered{o.Subject})
	case Accept:
		return step(o, StatusAccepted, Accepted{Subject: o.Subject, SignedBy: c.SignedBy})
	case Cancel:
		return cancel(o, c)
	case ReturnGoods:
		return returnGoods(o, c)
	case ReceivePayment:
		return receivePayment(o, c)
	case RefundPayment:
		return refundPayment(o, c)
	}
	return nil, fmt.Errorf("order: no decision for command %T", cmd)
}

// before lists, for every step of fulfilment, the steps that an order may come from.
var before = map[Status][]Status{
	StatusConfirmed:    {StatusPlaced},
	StatusInProduction: {StatusConfirmed},
	StatusShipped:      {StatusConfirmed, StatusInProduction},
	StatusDelivered:    {StatusShipped},
	StatusAccepted:     {StatusDelivered},
}

// step takes a sale to the next step, which the event reports. Repeating the step it has just taken changes nothing.
func step(o Order, to Status, e domain.Event) ([]domain.Event, error) {
	switch {
	case o.Subject.Kind != KindSale:
		return nil, notASale(o)
	case o.Status == to:
		return nil, nil
	case !slices.Contains(before[to], o.Status):
		return nil, illegalStep(o, "an order that is {status} cannot be {step}", to)
	}
	return []domain.Event{e}, nil
}

func notASale(o Order) error {
	return domain.Reject("order-not-a-sale", "this is not possible for a {kind}: it is complete when placed", o.Subject.Kind)
}

// illegalStep refuses a step by a template whose first value is the status.
func illegalStep(o Order, template string, values ...any) error {
	return domain.Reject("illegal-step", template, append([]any{o.Status}, values...)...)
}

func scheduleDelivery(o Order, c ScheduleDelivery) ([]domain.Event, error) {
	switch {
	case o.Subject.Kind != KindSale:
		return nil, notASale(o)
	case c.DeliveryDate == o.DeliveryDate:
		return nil, nil
	case slices.Contains([]Status{StatusDelivered, StatusAccepted, StatusCancelled}, o.Status):
		return nil, illegalStep(o, "an order that is {status} cannot be delivered on another day")
	}
	return []domain.Event{DeliveryScheduled{Subject: o.Subject, From: o.DeliveryDate, To: c.DeliveryDate, Reason: c.Reason}}, nil
}

func cancel(o Order, c Cancel) ([]domain.Event, error) {
	switch o.Status {
	case StatusCancelled:
		return nil, nil
	case StatusShipped, StatusDelivered, StatusAccepted:
		return nil, illegalStep(o, "an order that is {status} cannot be cancelled; its goods can be returned")
	}
	from := o.Status
	o.Status = StatusCancelled
	return []domain.Event{Cancelled{
		Subject: o.Subject, From: from, Reason: c.Reason, Currency: o.Currency, Lines: o.Lines, Total: o.Total,
		Outstanding: domain.NewAmount(o.Outstanding()),
	}}, nil
}

func evolve(o Order, e domain.Event) Order {
	switch e := e.(type) {
	case Placed:
		o.Subject, o.Status, o.Currency = e.Subject, StatusPlaced, e.Currency
		o.Lines, o.Total, o.DeliveryDate = e.Lines, e.Total, e.DeliveryDate
	case Confirmed:
		o.Status = StatusConfirmed
	case DeliveryScheduled:
		o.DeliveryDate = e.To
	case ProductionStarted:
		o.Status = StatusInProduction
	case Shipped:
		o.Status = StatusShipped
	case Delivered:
		o.Status = StatusDelivered
	case Accepted:
		o.Status = StatusAccepted
	case Cancelled:
		o.Status = StatusCancelled
	case GoodsReturned:
		o = o.withReturned(e)
	case PaymentReceived:
		o = o.withPayment(e)
	case PaymentRefunded:
		o = o.withRefund(e)
	}
	return o
}
