package order

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

func given(events ...domain.Event) domaintest.Scenario[Order] {
	return domaintest.Given(Aggregate.Decider, events...)
}

func gbp(amount string) domain.Money { return domain.MustMoney(amount, "GBP") }

func number(s string) domain.Amount { return gbp(s).Amount }

var (
	sale   = Subject{Number: "536365", Kind: KindSale, CustomerID: domaintest.OtherID(1)}
	placed = Placed{Subject: sale, Currency: "GBP", Country: "EIRE", Total: number("25.647"), Lines: []Line{
		{Number: 1, ProductCode: "85123A", Quantity: number("6"), UnitPrice: number("2.55"), Total: number("15.3")},
		{Number: 2, ProductCode: "71053", Quantity: number("3"), UnitPrice: number("3.449"), Total: number("10.347")},
	}}
	placeSale = Place{
		Number: "536365", CustomerID: sale.CustomerID, Currency: "GBP", Country: "EIRE", Lines: []NewLine{
			{ProductCode: "85123A", Quantity: number("6"), UnitPrice: number("2.55")},
			{ProductCode: "71053", Quantity: number("3"), UnitPrice: number("3.449")},
		},
	}

	confirmed = Confirmed{sale}
	producing = ProductionStarted{sale}
	shipped   = Shipped{Subject: sale}
	delivered = Delivered{sale}
	accepted  = Accepted{Subject: sale}
	cancelled = Cancelled{Subject: sale, From: StatusPlaced, Reason: "twice", Currency: "GBP", Lines: placed.Lines, Total: placed.Total}
)

// book returns a placed entry of the kind, of one line.
func book(kind Kind, quantity, price, total string) Placed {
	return Placed{
		Subject: Subject{Number: "C1", Kind: kind}, Currency: "GBP", Total: number(total),
		Lines: []Line{{Number: 1, ProductCode: "M", Quantity: number(quantity), UnitPrice: number(price), Total: number(total)}},
	}
}

func placeBook(kind Kind, quantity, price string) Place {
	return Place{
		Number: "C1", Kind: kind, Currency: "GBP",
		Lines: []NewLine{{ProductCode: "M", Quantity: number(quantity), UnitPrice: number(price)}},
	}
}

func TestSpecs(t *testing.T) { domaintest.Specs(t, Aggregate.Definition()) }

func TestEvents(t *testing.T) { codectest.Golden(t, Aggregate.Definition(), "testdata/events") }

func TestAnOrderIsASaleUnlessToldOtherwise(t *testing.T) {
	given().When(placeSale).Then(t, placed)
	c := placeSale
	c.Kind = KindSale
	given().When(c).Then(t, placed)
	given(placed).When(placeSale).Rejected(t, "order-exists")
}

func TestAnOrderConcernsItsCustomer(t *testing.T) {
	if diff := cmp.Diff([]domain.ID{sale.CustomerID}, Aggregate.Subjects(domaintest.ID, Aggregate.Decider.Fold(placed))); diff != "" {
		t.Error(diff)
	}
	if got := Aggregate.Subjects(domaintest.ID, Aggregate.Decider.Fold(book(KindSale, "1", "1", "1"))); got != nil {
		t.Errorf("an order without a customer concerns %v", got)
	}
}

func TestASaleSellsMoreThanNothing(t *testing.T) {
	given().When(placeBook(KindSale, "1", "0")).Then(t, book(KindSale, "1", "0", "0"))
	given().When(placeBook(KindSale, "0", "1")).Invalid(t, "/lines/0/quantity")
	given().When(placeBook(KindSale, "-1", "1")).Invalid(t, "/lines/0/quantity")
	given().When(placeBook(KindSale, "1", "-1")).Invalid(t, "/lines/0/unitPrice")
}

func TestACreditTakesBack(t *testing.T) {
	given().When(placeBook(KindCredit, "-74215", "1.04")).Then(t, book(KindCredit, "-74215", "1.04", "-77183.6"))
	given().When(placeBook(KindCredit, "1", "1")).Invalid(t, "/lines/0/quantity")
	given().When(placeBook(KindCredit, "0", "1")).Invalid(t, "/lines/0/quantity")
	given().When(placeBook(KindCredit, "-1", "-1")).Invalid(t, "/lines/0/unitPrice")
}

func TestAnAdjustmentMayBeAnythingButNothing(t *testing.T) {
	given().When(placeBook(KindAdjustment, "1", "-11062.06")).Then(t, book(KindAdjustment, "1", "-11062.06", "-11062.06"))
	given().When(placeBook(KindAdjustment, "-12", "0")).Then(t, book(KindAdjustment, "-12", "0", "0"))
	given().When(placeBook(KindAdjustment, "0", "1")).Invalid(t, "/lines/0/quantity")
}

func TestEqualLinesStaySeparate(t *testing.T) {
	c := placeSale
	c.Lines = []NewLine{placeSale.Lines[0], placeSale.Lines[0]}
	d := given().When(c)
	d.Accepted(t)
	if len(d.State.Lines) != 2 || !d.State.Total.Equal(number("30.6")) {
		t.Errorf("two equal lines became %+v", d.State)
	}
}

func TestAnOrderHasLinesThatCanBeCounted(t *testing.T) {
	c := placeSale
	c.Lines = nil
	given().When(c).Invalid(t, "/lines")
	c.Lines = make([]NewLine, MaxLines+1)
	given().When(c).Invalid(t, "/lines")
	given().When(placeBook(KindSale, "0.0001", "0.001")).Invalid(t, "/lines/0/quantity")
	c = placeBook(KindSale, "1", "999999999999999999")
	c.Lines = append(c.Lines, c.Lines[0])
	given().When(c).Invalid(t, "/lines")
}

func TestFulfilmentGoesStepByStep(t *testing.T) {
	given(placed).When(Confirm{}).Then(t, confirmed)
	given(placed, confirmed).When(StartProduction{}).Then(t, producing)
	given(placed, confirmed).When(Ship{Carrier: "DHL", Tracking: "1"}).Then(t, Shipped{Subject: sale, Carrier: "DHL", Tracking: "1"})
	given(placed, confirmed, producing).When(Ship{}).Then(t, shipped)
	given(placed, confirmed, shipped).When(Deliver{}).Then(t, delivered)
	given(placed, confirmed, shipped, delivered).When(Accept{SignedBy: "K. Brandt"}).Then(t, Accepted{Subject: sale, SignedBy: "K. Brandt"})
}

func TestEveryOtherJumpIsIllegal(t *testing.T) {
	paths := map[Status][]domain.Event{
		StatusPlaced:       {placed},
		StatusConfirmed:    {placed, confirmed},
		StatusInProduction: {placed, confirmed, producing},
		StatusShipped:      {placed, confirmed, shipped},
		StatusDelivered:    {placed, confirmed, shipped, delivered},
		StatusAccepted:     {placed, confirmed, shipped, delivered, accepted},
		StatusCancelled:    {placed, cancelled},
	}
	steps := map[Status]domain.Command{
		StatusConfirmed: Confirm{}, StatusInProduction: StartProduction{}, StatusShipped: Ship{},
		StatusDelivered: Deliver{}, StatusAccepted: Accept{}, StatusCancelled: Cancel{Reason: "twice"},
	}
	legal := map[[2]Status]bool{
		{StatusPlaced, StatusConfirmed}:       true,
		{StatusConfirmed, StatusInProduction}: true,
		{StatusConfirmed, StatusShipped}:      true,
		{StatusInProduction, StatusShipped}:   true,
		{StatusShipped, StatusDelivered}:      true,
		{StatusDelivered, StatusAccepted}:     true,
		{StatusPlaced, StatusCancelled}:       true,
		{StatusConfirmed, StatusCancelled}:    true,
		{StatusInProduction, StatusCancelled}: true,
	}
	for from, past := range paths {
		for to, c := range steps {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				d := given(past...).When(c)
				switch {
				case from == to:
					d.Then(t)
				case !legal[[2]Status{from, to}]:
					d.Rejected(t, "illegal-step")
				default:
					if d.Accepted(t); d.State.Status != to {
						t.Errorf("it is %s", d.State.Status)
					}
				}
			})
		}
	}
}

func TestCreditsAndAdjustmentsAreCompleteWhenPlaced(t *testing.T) {
	credit := book(KindCredit, "-1", "5", "-5")
	for _, c := range []domain.Command{
		Confirm{}, StartProduction{}, Ship{}, Deliver{}, Accept{}, ScheduleDelivery{DeliveryDate: "2026-04-01"},
		ReturnGoods{Lines: []ReturnLine{{1, number("1")}}, Reason: "broken"},
	} {
		given(credit).When(c).Rejected(t, "order-not-a-sale")
	}
	given(credit).When(Cancel{Reason: "wrong"}).Then(t, Cancelled{
		Subject: credit.Subject, From: StatusPlaced, Reason: "wrong", Currency: "GBP", Lines: credit.Lines, Total: credit.Total,
	})
}

func TestScheduleDeliveryTellsTheDayBefore(t *testing.T) {
	first := DeliveryScheduled{Subject: sale, To: "2026-04-15"}
	given(placed).When(ScheduleDelivery{DeliveryDate: "2026-04-15"}).Then(t, first)
	given(placed, first).When(ScheduleDelivery{DeliveryDate: "2026-04-15"}).Then(t)
	given(placed, first, confirmed, shipped).When(ScheduleDelivery{DeliveryDate: "2026-04-20", Reason: "late"}).
		Then(t, DeliveryScheduled{Subject: sale, From: "2026-04-15", To: "2026-04-20", Reason: "late"})
	given(placed, confirmed, shipped, delivered).When(ScheduleDelivery{DeliveryDate: "2026-04-20"}).Rejected(t, "illegal-step")
	given(placed, cancelled).When(ScheduleDelivery{DeliveryDate: "2026-04-20"}).Rejected(t, "illegal-step")
}

func TestCancellingRepeatsTheLinesSoThatSumsCanBeUndone(t *testing.T) {
	given(placed).When(Cancel{Reason: "twice"}).Then(t, cancelled)
	given(placed, cancelled).When(Cancel{Reason: "again"}).Then(t)
	paid := cancelled
	paid.From, paid.Outstanding = StatusConfirmed, number("-10")
	given(placed, received("PAY-1", "10", "15.647"), confirmed).When(Cancel{Reason: "twice"}).Then(t, paid)
}

func TestGoodsOfAShippedOrderComeBack(t *testing.T) {
	back := ReturnGoods{Lines: []ReturnLine{{2, number("1")}, {1, number("6")}}, Reason: "broken"}
	want := GoodsReturned{
		Subject: sale, Currency: "GBP", Value: number("18.749"), Reason: "broken", Outstanding: number("6.898"), Lines: []ReturnedLine{
			{Number: 2, ProductCode: "71053", Quantity: number("1"), Value: number("3.449")},
			{Number: 1, ProductCode: "85123A", Quantity: number("6"), Value: number("15.3")},
		},
	}
	for _, past := range [][]domain.Event{
		{placed, confirmed, shipped}, {placed, confirmed, shipped, delivered}, {placed, confirmed, shipped, delivered, accepted},
	} {
		given(past...).When(back).Then(t, want)
	}
	given(placed, confirmed).When(back).Rejected(t, "order-not-shipped")
	given(placed, cancelled).When(back).Rejected(t, "order-not-shipped")
}

func TestNoMoreComesBackThanWentOut(t *testing.T) {
	back := func(lines ...ReturnLine) ReturnGoods { return ReturnGoods{Lines: lines, Reason: "broken"} }
	out := given(placed, confirmed, shipped)
	out.When(back(ReturnLine{1, number("6.5")})).Rejected(t, "returns-more-than-ordered")
	out.When(back(ReturnLine{3, number("1")})).Rejected(t, "no-such-line")
	out.When(back(ReturnLine{0, number("1")})).Rejected(t, "no-such-line")
	out.When(back(ReturnLine{1, number("0")})).Invalid(t, "/lines/0/quantity")
	out.When(back(ReturnLine{1, number("0.0001")})).Accepted(t)
	out.When(back(ReturnLine{2, number("0.0001")})).Invalid(t, "/lines/0/quantity")
	out.When(back(ReturnLine{1, number("1")}, ReturnLine{1, number("1")})).Invalid(t, "/lines/1/line")

	first := out.When(back(ReturnLine{1, number("4")})).Accepted(t)
	rest := given(placed, confirmed, shipped, first[0])
	rest.When(back(ReturnLine{1, number("3")})).Rejected(t, "returns-more-than-ordered")
	rest.When(back(ReturnLine{1, number("2")})).Accepted(t)
}

func TestExamplesAreAccepted(t *testing.T) {
	example := Placed{Subject: exampleSubject, Currency: "EUR", Lines: []Line{exampleLine}, Total: exampleLine.Total}
	payment := PaymentReceived{Subject: exampleSubject, PaymentID: "PAY-1", Amount: exampleMoney("5000")}
	pasts := map[string][]domain.Event{
		"order.place":            nil,
		"order.start_production": {example, confirmed},
		"order.ship":             {example, confirmed},
		"order.deliver":          {example, shipped},
		"order.accept":           {example, delivered},
		"order.return_goods":     {example, shipped},
		"order.refund_payment":   {example, payment},
	}
	for _, spec := range Aggregate.Commands {
		past, ok := pasts[spec.Type()]
		if !ok {
			past = []domain.Event{example}
		}
		if events := given(past...).When(spec.Example).Accepted(t); len(events) != 1 {
			t.Errorf("the example of %s causes %v", spec.Type(), events)
		}
	}
}

func TestOtherCommandsAreABug(t *testing.T) {
	if _, err := decide(Order{}, nil, domain.Facts{}); err == nil {
		t.Error("a foreign command was decided")
	}
}
