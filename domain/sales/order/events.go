package order

import "github.com/rapport-crm/rapport/domain"

// Subject is what every event of an order says about the order, for reports that must not look it up.
type Subject struct {
	Number     string    `json:"number" doc:"Number of the order or invoice."`
	Kind       Kind      `json:"kind" doc:"Sale, credit or adjustment."`
	CustomerID domain.ID `json:"customerId,omitempty" doc:"The customer; absent when unknown."`
}

// Line is one line of an order. Numbers count from 1 in the order given.
type Line struct {
	Number      int           `json:"line" doc:"Number of the line, from 1."`
	ProductCode string        `json:"productCode" doc:"The product's code."`
	ProductID   domain.ID     `json:"productId,omitempty" doc:"The product of the catalogue; absent when it is none."`
	Description string        `json:"description,omitempty" doc:"What was ordered, in words."`
	Quantity    domain.Amount `json:"quantity" doc:"How many units."`
	UnitPrice   domain.Amount `json:"unitPrice" doc:"Price of one unit in the order's currency."`
	Total       domain.Amount `json:"total" doc:"Quantity times unit price, exact."`
}

// Placed says that an order, a credit or an adjustment was placed.
type Placed struct {
	Subject
	OpportunityID domain.ID       `json:"opportunityId,omitempty" doc:"The opportunity that it came from."`
	Currency      domain.Currency `json:"currency" doc:"Currency of all its amounts."`
	Lines         []Line          `json:"lines" doc:"What was ordered."`
	Total         domain.Amount   `json:"total" doc:"Sum of the lines' totals, exact."`
	DeliveryDate  domain.Date     `json:"deliveryDate,omitempty" doc:"Day on which it should be delivered."`
	Country       string          `json:"country,omitempty" doc:"Country of delivery."`
	ShipTo        string          `json:"shipTo,omitempty" personal:"true" doc:"Address of delivery."`
	Note          string          `json:"note,omitempty" personal:"true" doc:"Anything else about it."`
}

// EventType implements domain.Event.
func (Placed) EventType() string { return "order.placed" }

// Confirmed says that the order was accepted for fulfilment.
type Confirmed struct{ Subject }

// EventType implements domain.Event.
func (Confirmed) EventType() string { return "order.confirmed" }

// DeliveryScheduled says that the day of delivery changed.
type DeliveryScheduled struct {
	Subject
	From   domain.Date `json:"from,omitempty" doc:"The day before; absent when there was none."`
	To     domain.Date `json:"to" doc:"The day now."`
	Reason string      `json:"reason,omitempty" doc:"Why it changed."`
}

// EventType implements domain.Event.
func (DeliveryScheduled) EventType() string { return "order.delivery_scheduled" }

// ProductionStarted says that the order is being made.
type ProductionStarted struct{ Subject }

// EventType implements domain.Event.
func (ProductionStarted) EventType() string { return "order.production_started" }

// Shipped says that the order left the house.
type Shipped struct {
	Subject
	Carrier  string `json:"carrier,omitempty" doc:"Who carries it."`
	Tracking string `json:"tracking,omitempty" doc:"The carrier's number of the shipment."`
}

// EventType implements domain.Event.
func (Shipped) EventType() string { return "order.shipped" }

// Delivered says that the order arrived.
type Delivered struct{ Subject }

// EventType implements domain.Event.
func (Delivered) EventType() string { return "order.delivered" }

// Accepted says that the customer signed the order off.
type Accepted struct {
	Subject
	SignedBy string `json:"signedBy,omitempty" personal:"true" doc:"Who signed for the customer."`
}

// EventType implements domain.Event.
func (Accepted) EventType() string { return "order.accepted" }

// Cancelled says that the order ended before it was shipped. It repeats the lines and the total, so that sums can be
// undone.
type Cancelled struct {
	Subject
	From        Status          `json:"from" doc:"The step that the order had reached."`
	Reason      string          `json:"reason" doc:"Why it was cancelled."`
	Currency    domain.Currency `json:"currency" doc:"Currency of all its amounts."`
	Lines       []Line          `json:"lines" doc:"All lines of the order."`
	Total       domain.Amount   `json:"total" doc:"Total of the order."`
	Outstanding domain.Amount   `json:"outstanding" doc:"What is left to pay back, as a negative number."`
}

// EventType implements domain.Event.
func (Cancelled) EventType() string { return "order.cancelled" }

// ReturnedLine is the part of one line that came back.
type ReturnedLine struct {
	Number      int           `json:"line" doc:"Number of the line."`
	ProductCode string        `json:"productCode" doc:"The product's code."`
	ProductID   domain.ID     `json:"productId,omitempty" doc:"The product of the catalogue; absent when it is none."`
	Quantity    domain.Amount `json:"quantity" doc:"How many units came back; more than 0."`
	Value       domain.Amount `json:"value" doc:"Quantity times the line's unit price, exact."`
}

// GoodsReturned says that goods of a shipped sale came back.
type GoodsReturned struct {
	Subject
	Lines       []ReturnedLine  `json:"lines" doc:"What came back."`
	Currency    domain.Currency `json:"currency" doc:"The order's currency."`
	Value       domain.Amount   `json:"value" doc:"Sum of the lines' values."`
	Reason      string          `json:"reason" doc:"Why it came back."`
	Outstanding domain.Amount   `json:"outstanding" doc:"What is owed after the event; negative when money is to be paid back."`
}

// EventType implements domain.Event.
func (GoodsReturned) EventType() string { return "order.goods_returned" }

// PaymentReceived says that money came in for the order.
type PaymentReceived struct {
	Subject
	PaymentID   string        `json:"paymentId" doc:"Name of the payment, unique within the order."`
	Amount      domain.Money  `json:"amount" doc:"Received."`
	Method      Method        `json:"method,omitempty" doc:"How it was paid."`
	Reference   string        `json:"reference,omitempty" doc:"Reference on the statement."`
	Outstanding domain.Amount `json:"outstanding" doc:"What is owed after the event; negative when more was paid than is owed."`
}

// EventType implements domain.Event.
func (PaymentReceived) EventType() string { return "order.payment_received" }

// PaymentRefunded says that money of a payment was paid back.
type PaymentRefunded struct {
	Subject
	RefundID    string        `json:"refundId" doc:"Name of the refund, unique within the order."`
	PaymentID   string        `json:"paymentId" doc:"Name of the payment that was paid back."`
	Amount      domain.Money  `json:"amount" doc:"Paid back; more than 0."`
	Reason      string        `json:"reason" doc:"Why it was paid back."`
	Outstanding domain.Amount `json:"outstanding" doc:"What is owed after the event."`
}

// EventType implements domain.Event.
func (PaymentRefunded) EventType() string { return "order.payment_refunded" }

var (
	exampleSubject = Subject{Number: "SO-2026-0042", Kind: KindSale, CustomerID: exampleCustomer}
	exampleLine    = Line{
		Number: 1, ProductCode: "GTX-PRO", ProductID: exampleProduct, Description: "Graphics card, 16 GB",
		Quantity: exampleMoney("2").Amount, UnitPrice: exampleMoney("4821.00").Amount, Total: exampleMoney("9642.00").Amount,
	}
)

var events = []domain.EventSpec{
	{Doc: "An order, a credit or an adjustment was placed.", Words: domain.Words{
		En: "{kind} {number} placed: {lines|line|lines}, {total currency}",
		Zh: "{kind}{number}已下达：共{lines}行，{total currency}",
	}, Example: Placed{
		Subject: exampleSubject, OpportunityID: exampleOpportunity, Currency: "EUR", Lines: []Line{exampleLine},
		Total: exampleMoney("9642.00").Amount, DeliveryDate: "2026-04-15", Country: "Germany",
		ShipTo: "Nordlicht Studios, Kai 3, 20457 Hamburg", Note: "Ring twice",
	}},
	{Doc: "An order was accepted for fulfilment.", Words: domain.Words{
		En: "Order {number} confirmed",
		Zh: "订单{number}已确认",
	}, Example: Confirmed{exampleSubject}},
	{Doc: "The day of delivery changed.", Words: domain.Words{
		En: "Order {number} to be delivered on {to}[, before {from}][: “{reason}”]",
		Zh: "订单{number}定于{to}交付[，原为{from}][：“{reason}”]",
	}, Example: DeliveryScheduled{
		Subject: exampleSubject, From: "2026-04-15", To: "2026-04-20", Reason: "Supplier is late",
	}},
	{Doc: "An order is being made.", Words: domain.Words{
		En: "Order {number} in production",
		Zh: "订单{number}生产中",
	}, Example: ProductionStarted{exampleSubject}},
	{Doc: "An order left the house.", Words: domain.Words{
		En: "Order {number} shipped[ with {carrier}][, tracking {tracking}]",
		Zh: "订单{number}已发货[，承运方{carrier}][，运单号{tracking}]",
	}, Example: Shipped{Subject: exampleSubject, Carrier: "DHL", Tracking: "JD014600003"}},
	{Doc: "An order arrived.", Words: domain.Words{
		En: "Order {number} delivered",
		Zh: "订单{number}已送达",
	}, Example: Delivered{exampleSubject}},
	{Doc: "The customer signed an order off.", Words: domain.Words{
		En: "Order {number} signed off[ by {signedBy}]",
		Zh: "订单{number}已签收[，签收人{signedBy}]",
	}, Example: Accepted{Subject: exampleSubject, SignedBy: "K. Brandt"}},
	{Doc: "An order ended before it was shipped.", Words: domain.Words{
		En: "{kind} {number} over {total currency} cancelled: “{reason}”",
		Zh: "{kind}{number}（{total currency}）已取消：“{reason}”",
	}, Example: Cancelled{
		Subject: exampleSubject, From: StatusConfirmed, Reason: "Ordered twice", Currency: "EUR", Lines: []Line{exampleLine},
		Total: exampleMoney("9642.00").Amount, Outstanding: exampleMoney("-5000.00").Amount,
	}},
	{Doc: "Goods of a shipped order came back.", Words: domain.Words{
		En: "Goods of order {number} worth {value currency} came back: “{reason}”",
		Zh: "订单{number}退货，价值{value currency}：“{reason}”",
	}, Example: GoodsReturned{
		Subject: exampleSubject, Currency: "EUR", Value: exampleMoney("4821.00").Amount, Reason: "Broken on arrival",
		Lines: []ReturnedLine{{
			Number: 1, ProductCode: "GTX-PRO", ProductID: exampleProduct, Quantity: exampleMoney("1").Amount, Value: exampleMoney("4821.00").Amount,
		}},
		Outstanding: exampleMoney("-179.00").Amount,
	}},
	{Doc: "Money came in for an order.", Words: domain.Words{
		En: "{amount} received for order {number}, {outstanding amount.currency} outstanding",
		Zh: "收到订单{number}的付款{amount}，未付{outstanding amount.currency}",
	}, Example: PaymentReceived{
		Subject: exampleSubject, PaymentID: "PAY-1", Amount: exampleMoney("5000.00"), Method: "bank-transfer",
		Reference: "RF18 5390 0754", Outstanding: exampleMoney("4642.00").Amount,
	}},
	{Doc: "Money of a payment was paid back.", Words: domain.Words{
		En: "{amount} paid back for order {number}: “{reason}”",
		Zh: "订单{number}退款{amount}：“{reason}”",
	}, Example: PaymentRefunded{
		Subject: exampleSubject, RefundID: "REF-1", PaymentID: "PAY-1", Amount: exampleMoney("1200.00"), Reason: "Goods returned",
		Outstanding: exampleMoney("1021.00").Amount,
	}},
}
