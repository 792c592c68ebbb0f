package order

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

func received(id, amount, outstanding string) PaymentReceived {
	return PaymentReceived{Subject: sale, PaymentID: id, Amount: gbp(amount), Outstanding: number(outstanding)}
}

func refunded(id, payment, amount, outstanding string) PaymentRefunded {
	return PaymentRefunded{
		Subject: sale, RefundID: id, PaymentID: payment, Amount: gbp(amount), Reason: "returned", Outstanding: number(outstanding),
	}
}

func refund(id, payment, amount string) RefundPayment {
	return RefundPayment{RefundID: id, PaymentID: payment, Amount: gbp(amount), Reason: "returned"}
}

func TestPaymentsLowerWhatIsOwed(t *testing.T) {
	first := received("PAY-1", "20", "5.647")
	given(placed).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("20")}).Then(t, first)
	given(placed, first).When(ReceivePayment{PaymentID: "PAY-2", Amount: gbp("5.647"), Method: "card", Reference: "x"}).
		Then(t, PaymentReceived{Subject: sale, PaymentID: "PAY-2", Amount: gbp("5.647"), Method: "card", Reference: "x"})
}

func TestPayingTooMuchIsAcceptedAndShows(t *testing.T) {
	given(placed).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("30")}).Then(t, received("PAY-1", "30", "-4.353"))
}

func TestAPaymentIsReceivedOnce(t *testing.T) {
	first := received("PAY-1", "20", "5.647")
	given(placed, first).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("20.00")}).Then(t)
	given(placed, first).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("21")}).Rejected(t, "payment-exists")
}

func TestPaymentsAreMoneyOfTheOrder(t *testing.T) {
	given(placed).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("0")}).Invalid(t, "/amount/amount")
	given(placed).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("-1")}).Invalid(t, "/amount/amount")
	given(placed).When(ReceivePayment{PaymentID: "PAY-1", Amount: domain.MustMoney("1", "EUR")}).Rejected(t, "currency-mismatch")
	given(placed, cancelled).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("1")}).Rejected(t, "order-cancelled")
	given(book(KindCredit, "-1", "5", "-5")).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("1")}).Rejected(t, "credit-takes-no-payment")
	given(book(KindAdjustment, "1", "5", "5")).When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("5")}).Accepted(t)
	given(placed, received("PAY-1", "999999999999999999", "0")).
		When(ReceivePayment{PaymentID: "PAY-2", Amount: gbp("1")}).Invalid(t, "/amount/amount")
	given(book(KindAdjustment, "-1", "999999999999999999", "-999999999999999999")).
		When(ReceivePayment{PaymentID: "PAY-1", Amount: gbp("1")}).Invalid(t, "/amount/amount")
}

func TestARefundNeverPaysBackMoreThanThePaymentBrought(t *testing.T) {
	first, second := received("PAY-1", "20", "5.647"), received("PAY-2", "5", "0.647")
	part := refunded("REF-1", "PAY-1", "15", "15.647")
	given(placed, first, second).When(refund("REF-1", "PAY-1", "15")).Then(t, part)
	given(placed, first, second).When(refund("REF-1", "PAY-1", "20.01")).Rejected(t, "refunds-more-than-received")
	given(placed, first, second, part).When(refund("REF-2", "PAY-1", "5.01")).Rejected(t, "refunds-more-than-received")
	given(placed, first, second, part).When(refund("REF-2", "PAY-1", "5")).Then(t, refunded("REF-2", "PAY-1", "5", "20.647"))
	given(placed, first).When(refund("REF-1", "PAY-2", "1")).Rejected(t, "no-such-payment")
	given(placed, first).When(refund("REF-1", "PAY-1", "0")).Invalid(t, "/amount/amount")
}

func TestARefundIsMadeOnce(t *testing.T) {
	first, part := received("PAY-1", "20", "5.647"), refunded("REF-1", "PAY-1", "15", "20.647")
	given(placed, first, part).When(refund("REF-1", "PAY-1", "15.0")).Then(t)
	given(placed, first, part).When(refund("REF-1", "PAY-1", "5")).Rejected(t, "refund-exists")
	given(placed, first, part).When(refund("REF-1", "PAY-2", "15")).Rejected(t, "refund-exists")
}

func TestACancelledOrderPaysBack(t *testing.T) {
	given(placed, received("PAY-1", "20", "5.647"), cancelled).When(refund("REF-1", "PAY-1", "20")).
		Then(t, refunded("REF-1", "PAY-1", "20", "0"))
}

func TestPaymentsAndRefundsAreLimited(t *testing.T) {
	payments, refunds := []domain.Event{placed}, []domain.Event{placed, received("PAY-1", "5000", "0")}
	for n := range MaxPayments {
		payments = append(payments, received(fmt.Sprint("PAY-", n), "1", "0"))
		refunds = append(refunds, refunded(fmt.Sprint("REF-", n), "PAY-1", "1", "0"))
	}
	for _, c := range []struct {
		past        []domain.Event
		next, known domain.Command
		rule        string
	}{
		{payments, ReceivePayment{PaymentID: "PAY-X", Amount: gbp("1")}, ReceivePayment{PaymentID: "PAY-0", Amount: gbp("1")}, "too-many-payments"},
		{refunds, refund("REF-X", "PAY-1", "1"), refund("REF-0", "PAY-1", "1"), "too-many-refunds"},
	} {
		fits, full := Aggregate.Decider.Fold(c.past[:len(c.past)-1]...), Aggregate.Decider.Fold(c.past...)
		if events, err := decide(fits, c.next, domain.Facts{}); err != nil || len(events) != 1 {
			t.Errorf("the last one: %v, %v", events, err)
		}
		var no *domain.Rejection
		if events, err := decide(full, c.next, domain.Facts{}); !errors.As(err, &no) || no.Rule != c.rule || len(events) > 0 {
			t.Errorf("one too many: %v, %v, want %s", events, err, c.rule)
		}
		if events, err := decide(full, c.known, domain.Facts{}); err != nil || len(events) > 0 {
			t.Errorf("a repetition: %v, %v", events, err)
		}
	}
}
