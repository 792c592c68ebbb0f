package order

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/internal/codec"
)

// books is what a reader that knows nothing but the events adds up.
type books struct {
	lines       map[int]domain.Decimal    // quantity that is still with the customer
	sold        domain.Decimal            // total less returns, nothing once cancelled
	cash        domain.Decimal            // received less refunded
	payments    map[string]domain.Decimal // the same by payment
	outstanding domain.Decimal            // as the last event said
}

// Whatever happens, a reader of the events alone comes to the same sums: lines make the total, no line returns more than
// was ordered, no more is refunded than was received, and every event tells what is owed after it. What was accepted reads
// back from the log.
func TestTheBooksBalance(t *testing.T) {
	registry, err := codec.New(Aggregate.Definition())
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var o Order
		var past []domain.Event
		b := books{lines: map[int]domain.Decimal{}, payments: map[string]domain.Decimal{}}
		commands := []domain.Command{drawPlace(t)}
		if rapid.Bool().Draw(t, "shipped") { // chance alone gets there too seldom
			commands = []domain.Command{placeBook(KindSale, "2", "2.55"), Confirm{}, Ship{}, ReceivePayment{PaymentID: "A", Amount: gbp("2")}}
		}
		commands = append(commands, rapid.SliceOfN(rapid.Custom(drawCommand), 15, 40).Draw(t, "commands")...)
		for _, c := range commands {
			events, err := decide(o, c, domain.Facts{})
			if err != nil && len(events) > 0 {
				t.Fatalf("%#v was refused and caused %v", c, events)
			}
			for _, e := range events {
				readsBack(t, registry, e)
				b.read(t, e)
				o, past = evolve(o, e), append(past, e)
			}
			if b.check(t, o); o.Status == "" {
				return // the bus puts no other command to what was not placed
			}
		}
		if diff := cmp.Diff(o, Aggregate.Decider.Fold(past...)); diff != "" {
			t.Fatalf("folding the history gives another state (-steps +fold):\n%s", diff)
		}
	})
}

// Amounts reach to both ends of what can be written, so that sums and products cross them.
var amounts = []string{"1", "2", "0.5", "1", "2", "2.55", "-3", "-1", "0", "0.000001", "999999999999999999", "999999999999999999.999999"}

func drawPlace(t *rapid.T) Place {
	amount := rapid.SampledFrom(amounts)
	line := rapid.Custom(func(t *rapid.T) NewLine {
		return NewLine{ProductCode: "X", Quantity: number(amount.Draw(t, "quantity")), UnitPrice: number(amount.Draw(t, "price"))}
	})
	return Place{
		Number: "1", Kind: rapid.SampledFrom([]Kind{KindSale, KindSale, KindCredit, KindAdjustment}).Draw(t, "kind"),
		Currency: "GBP", Lines: rapid.SliceOfN(line, 1, 4).Draw(t, "lines"),
	}
}

func drawCommand(t *rapid.T) domain.Command {
	amount := number(rapid.SampledFrom(amounts).Draw(t, "amount"))
	few := number(rapid.SampledFrom([]string{"0", "0.5", "1", "2"}).Draw(t, "few"))
	id := rapid.SampledFrom([]string{"A", "B", "C"})
	switch rapid.IntRange(0, 12).Draw(t, "command") {
	case 0:
		return Confirm{}
	case 1:
		return StartProduction{}
	case 2:
		return Ship{}
	case 3:
		return Deliver{}
	case 4:
		return Accept{}
	case 5:
		return Cancel{Reason: "x"}
	case 6, 10:
		return ReturnGoods{Lines: []ReturnLine{{rapid.IntRange(0, 5).Draw(t, "line"), few}}, Reason: "x"}
	case 7, 11:
		return RefundPayment{RefundID: id.Draw(t, "refund"), PaymentID: id.Draw(t, "payment"), Amount: domain.Money{Amount: few, Currency: "GBP"}}
	case 8:
		return ScheduleDelivery{DeliveryDate: "2026-04-01"}
	}
	return ReceivePayment{PaymentID: id.Draw(t, "payment"), Amount: domain.Money{Amount: amount, Currency: "GBP"}}
}

func (b *books) read(t *rapid.T, e domain.Event) {
	switch e := e.(type) {
	case Placed:
		for _, l := range e.Lines {
			if !l.Total.Decimal.Equal(l.Quantity.Mul(l.UnitPrice.Decimal)) {
				t.Fatalf("line %+v does not multiply", l)
			}
			b.lines[l.Number] = l.Quantity.Decimal
			b.sold = b.sold.Add(l.Total.Decimal)
		}
		if !b.sold.Equal(e.Total.Decimal) {
			t.Fatalf("the lines make %s, not %s", b.sold, e.Total)
		}
		b.outstanding = b.sold
	case GoodsReturned:
		for _, l := range e.Lines {
			b.lines[l.Number] = b.lines[l.Number].Sub(l.Quantity.Decimal)
			b.sold = b.sold.Sub(l.Value.Decimal)
			if b.lines[l.Number].IsNegative() || b.sold.IsNegative() {
				t.Fatalf("more came back than was ordered: %+v", e)
			}
		}
		b.outstanding = e.Outstanding.Decimal
	case Cancelled:
		b.sold = b.sold.Sub(e.Total.Decimal)
		b.outstanding = e.Outstanding.Decimal
	case PaymentReceived:
		b.cash = b.cash.Add(e.Amount.Amount.Decimal)
		b.payments[e.PaymentID] = e.Amount.Amount.Decimal
		b.outstanding = e.Outstanding.Decimal
	case PaymentRefunded:
		b.cash = b.cash.Sub(e.Amount.Amount.Decimal)
		if b.payments[e.PaymentID] = b.payments[e.PaymentID].Sub(e.Amount.Amount.Decimal); b.payments[e.PaymentID].IsNegative() {
			t.Fatalf("more was refunded than received: %+v", e)
		}
		b.outstanding = e.Outstanding.Decimal
	}
}

func (b *books) check(t *rapid.T, o Order) {
	if o.Status == StatusCancelled && !b.sold.IsZero() {
		t.Fatalf("a cancelled order sold %s", b.sold)
	}
	if owed := b.sold.Sub(b.cash); !owed.Equal(b.outstanding) || !owed.Equal(o.Outstanding()) {
		t.Fatalf("%s is owed; the events say %s, the state %s", owed, b.outstanding, o.Outstanding())
	}
}

func readsBack(t *rapid.T, registry *codec.Registry, e domain.Event) {
	data, metadata, err := registry.Encode(pending(e))
	if err != nil {
		t.Fatal(err)
	}
	stream := domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: Aggregate.Name, ID: exampleProduct}
	back, err := registry.Decode(codec.Raw{Type: e.EventType(), Stream: stream.String(), Data: data, Metadata: metadata})
	if err != nil {
		t.Fatalf("%s does not read back: %v", data, err)
	}
	if diff := cmp.Diff(e, back.Event); diff != "" {
		t.Fatalf("%s reads back as something else:\n%s", data, diff)
	}
}

func pending(e domain.Event) domain.Pending {
	return domain.Pending{Event: e, Metadata: domain.Metadata{
		Tenant: domain.DefaultTenant, Actor: domaintest.Actor, OccurredAt: domaintest.Now, RecordedAt: domaintest.Now,
	}}
}

// The largest invoice of the retail data has 1,114 lines; one event of the log holds it with room to spare.
func TestALargeInvoiceFitsOneEvent(t *testing.T) {
	const lines, limit = 1114, 1 << 20
	c := Place{Number: "573585", CustomerID: exampleCustomer, Currency: "GBP"}
	for i := range lines {
		c.Lines = append(c.Lines, NewLine{
			ProductCode: fmt.Sprintf("%05dA", i), ProductID: exampleProduct, Description: "WHITE HANGING HEART T-LIGHT HOLDER, LARGE, SET OF 6",
			Quantity: number("12345"), UnitPrice: number("1234.567"),
		})
	}
	registry, err := codec.New(Aggregate.Definition())
	if err != nil {
		t.Fatal(err)
	}
	events := given().When(c).Accepted(t)
	data, _, err := registry.Encode(pending(events[0]))
	if err != nil || len(data) > limit/2 {
		t.Errorf("an invoice of %d lines takes %d bytes of %d, %v", lines, len(data), limit, err)
	}
}
