package order

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// MaxPayments is how many payments one order takes, and how many refunds it makes.
const MaxPayments = 1000

// checkAmount requires money of the order's currency, more than nothing.
func (o Order) checkAmount(m domain.Money) error {
	switch {
	case !m.Amount.IsPositive():
		return domain.Invalid("/amount/amount", "the amount is more than 0")
	case m.Currency != o.Currency:
		return domain.Reject("currency-mismatch", "the order is in {currency}, not {otherCurrency}", o.Currency, m.Currency).At("/amount/currency")
	}
	return nil
}

// receivePayment accepts any amount, more than is owed included: it was received.
func receivePayment(o Order, c ReceivePayment) ([]domain.Event, error) {
	if err := o.checkAmount(c.Amount); err != nil {
		return nil, err
	}
	if p, ok := o.payment(c.PaymentID); ok {
		if p.Amount.Equal(c.Amount.Amount) {
			return nil, nil
		}
		return nil, domain.Reject("payment-exists", "payment {paymentId} was received with another amount", c.PaymentID).At("/paymentId")
	}
	switch {
	case o.Subject.Kind == KindCredit:
		return nil, domain.Reject("credit-takes-no-payment", "a credit is money owed to the customer")
	case o.Status == StatusCancelled:
		return nil, domain.Reject("order-cancelled", "a cancelled order takes no payment")
	case len(o.Payments) >= MaxPayments:
		return nil, domain.Reject("too-many-payments", "an order takes at most {limit} payments", MaxPayments)
	}
	e := PaymentReceived{
		Subject: o.Subject, PaymentID: c.PaymentID, Amount: c.Amount, Method: c.Method, Reference: c.Reference,
	}
	after := o.withPayment(e)
	_, err1 := domain.AmountOf(after.Paid.Decimal)
	outstanding, err2 := domain.AmountOf(after.Outstanding())
	if err1 != nil || err2 != nil {
		return nil, domain.Invalid("/amount/amount", "the payments of this order come to more than can be counted")
	}
	e.Outstanding = outstanding
	return []domain.Event{e}, nil
}

// refundPayment never pays back more than the payment brought. A cancelled order pays back too.
func refundPayment(o Order, c RefundPayment) ([]domain.Event, error) {
	if err := o.checkAmount(c.Amount); err != nil {
		return nil, err
	}
	for _, r := range o.Refunds {
		switch {
		case r.ID != c.RefundID:
		case r.PaymentID == c.PaymentID && r.Amount.Equal(c.Amount.Amount):
			return nil, nil
		default:
			return nil, domain.Reject("refund-exists", "refund {refundId} was made with another payment or amount", c.RefundID).At("/refundId")
		}
	}
	p, ok := o.payment(c.PaymentID)
	if !ok {
		return nil, domain.Reject("no-such-payment", "the order has no payment {paymentId}", c.PaymentID).At("/paymentId")
	}
	if left := p.Amount.Sub(p.Refunded.Decimal); c.Amount.Amount.GreaterThan(left) {
		return nil, domain.Reject("refunds-more-than-received", "of payment {paymentId}, {left} can be paid back, not {amount}", p.ID, left, c.Amount.Amount).At("/amount/amount")
	}
	if len(o.Refunds) >= MaxPayments {
		return nil, domain.Reject("too-many-refunds", "an order makes at most {limit} refunds", MaxPayments)
	}
	e := PaymentRefunded{Subject: o.Subject, RefundID: c.RefundID, PaymentID: c.PaymentID, Amount: c.Amount, Reason: c.Reason}
	e.Outstanding = domain.NewAmount(o.withRefund(e).Outstanding())
	return []domain.Event{e}, nil
}

func (o Order) payment(id string) (Payment, bool) {
	for _, p := range o.Payments {
		if p.ID == id {
			return p, true
		}
	}
	return Payment{}, false
}

// withPayment folds a payment.
func (o Order) withPayment(e PaymentReceived) Order {
	o.Payments = append(slices.Clip(o.Payments), Payment{ID: e.PaymentID, Amount: e.Amount.Amount})
	o.Paid = domain.NewAmount(o.Paid.Add(e.Amount.Amount.Decimal))
	return o
}

// withRefund folds a refund.
func (o Order) withRefund(e PaymentRefunded) Order {
	o.Payments = slices.Clone(o.Payments)
	for i := range o.Payments {
		if p := &o.Payments[i]; p.ID == e.PaymentID {
			p.Refunded = domain.NewAmount(p.Refunded.Add(e.Amount.Amount.Decimal))
		}
	}
	o.Refunds = append(slices.Clip(o.Refunds), Refund{ID: e.RefundID, PaymentID: e.PaymentID, Amount: e.Amount.Amount})
	o.Refunded = domain.NewAmount(o.Refunded.Add(e.Amount.Amount.Decimal))
	return o
}
