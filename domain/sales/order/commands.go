package order

import "github.com/rapport-crm/rapport/domain"

// MaxLines is how many lines one order holds, and one return names.
const MaxLines = 5000

// NewLine is a line of an order before it has a number and a total.
type NewLine struct {
	ProductCode string        `json:"productCode" doc:"Code of the product." example:"GTX-PRO" minLength:"1" maxLength:"64"`
	ProductID   domain.ID     `json:"productId,omitempty" doc:"The product of the catalogue, when it is one." example:"0198c0de-0000-7000-8000-000000000003" required:"false" format:"uuid"`
	Description string        `json:"description,omitempty" doc:"What was ordered, in words: specification, colour, size." example:"Graphics card, 16 GB" required:"false" maxLength:"500"`
	Quantity    domain.Amount `json:"quantity" doc:"How many units: more than 0 in a sale, less than 0 in a credit, not 0 in an adjustment." example:"2"`
	UnitPrice   domain.Amount `json:"unitPrice" doc:"Price of one unit in the order's currency; 0 or more except in an adjustment." example:"4821.00"`
}

// Place records an order as the customer placed it.
type Place struct {
	domain.When
	Number        string          `json:"number" doc:"Number of the order or invoice." example:"SO-2026-0042" minLength:"1" maxLength:"64"`
	Kind          Kind            `json:"kind,omitempty" doc:"A sale; a credit that takes goods back with its own number; or an adjustment. A sale when left out." example:"sale" required:"false" enum:"sale,credit,adjustment"`
	CustomerID    domain.ID       `json:"customerId,omitempty" doc:"The customer, when known." example:"0198c0de-0000-7000-8000-000000000001" required:"false" format:"uuid"`
	OpportunityID domain.ID       `json:"opportunityId,omitempty" doc:"The opportunity that it came from." example:"0198c0de-0000-7000-8000-000000000005" required:"false" format:"uuid"`
	Currency      domain.Currency `json:"currency" doc:"ISO 4217 code of all its amounts." example:"EUR" minLength:"3" maxLength:"3"`
	Lines         []NewLine       `json:"lines" doc:"What was ordered. Equal lines stay separate lines." minItems:"1" maxItems:"5000"`
	DeliveryDate  domain.Date     `json:"deliveryDate,omitempty" doc:"Day on which it should be delivered." example:"2026-04-15" required:"false" format:"date"`
	Country       string          `json:"country,omitempty" doc:"Country of delivery, for reports." example:"Germany" required:"false" maxLength:"100"`
	ShipTo        string          `json:"shipTo,omitempty" doc:"Address of delivery." example:"Nordlicht Studios, Kai 3, 20457 Hamburg" required:"false" maxLength:"1000"`
	Note          string          `json:"note,omitempty" doc:"Anything else about it." example:"Ring twice" required:"false" maxLength:"2000"`
}

// CommandType implements domain.Command.
func (Place) CommandType() string { return "order.place" }

// Confirm accepts a placed order for fulfilment.
type Confirm struct {
	domain.When
}

// CommandType implements domain.Command.
func (Confirm) CommandType() string { return "order.confirm" }

// ScheduleDelivery sets the day on which the order should be delivered.
type ScheduleDelivery struct {
	domain.When
	DeliveryDate domain.Date `json:"deliveryDate" doc:"Day on which it should be delivered now." example:"2026-04-20" format:"date"`
	Reason       string      `json:"reason,omitempty" doc:"Why it changed." example:"Supplier is late" required:"false" maxLength:"500"`
}

// CommandType implements domain.Command.
func (ScheduleDelivery) CommandType() string { return "order.schedule_delivery" }

// StartProduction reports that a confirmed order is being made.
type StartProduction struct {
	domain.When
}

// CommandType implements domain.Command.
func (StartProduction) CommandType() string { return "order.start_production" }

// Ship reports that the order left the house as a whole, from production or straight after confirmation.
type Ship struct {
	domain.When
	Carrier  string `json:"carrier,omitempty" doc:"Who carries it." example:"DHL" required:"false" maxLength:"100"`
	Tracking string `json:"tracking,omitempty" doc:"The carrier's number of the shipment." example:"JD014600003" required:"false" maxLength:"100"`
}

// CommandType implements domain.Command.
func (Ship) CommandType() string { return "order.ship" }

// Deliver reports that a shipped order arrived.
type Deliver struct {
	domain.When
}

// CommandType implements domain.Command.
func (Deliver) CommandType() string { return "order.deliver" }

// Accept reports that the customer signed off a delivered order.
type Accept struct {
	domain.When
	SignedBy string `json:"signedBy,omitempty" doc:"Who signed for the customer." example:"K. Brandt" required:"false" maxLength:"200"`
}

// CommandType implements domain.Command.
func (Accept) CommandType() string { return "order.accept" }

// Cancel ends an order that was not shipped yet.
type Cancel struct {
	domain.When
	Reason string `json:"reason" doc:"Why it is cancelled." example:"Ordered twice" minLength:"1" maxLength:"500"`
}

// CommandType implements domain.Command.
func (Cancel) CommandType() string { return "order.cancel" }

// ReturnLine names the part of one line that came back.
type ReturnLine struct {
	Line     int           `json:"line" doc:"Number of the order's line." example:"1" minimum:"1"`
	Quantity domain.Amount `json:"quantity" doc:"How many units came back; more than 0." example:"1"`
}

// ReturnGoods reports that goods of a shipped sale came back.
type ReturnGoods struct {
	domain.When
	Lines  []ReturnLine `json:"lines" doc:"What came back; each line once." minItems:"1" maxItems:"5000"`
	Reason string       `json:"reason" doc:"Why it came back." example:"Broken on arrival" minLength:"1" maxLength:"500"`
}

// CommandType implements domain.Command.
func (ReturnGoods) CommandType() string { return "order.return_goods" }

// ReceivePayment records money received for the order. More than is owed is accepted and shows as a negative outstanding.
type ReceivePayment struct {
	domain.When
	PaymentID string       `json:"paymentId" doc:"Your name of the payment, unique within the order." example:"PAY-1" minLength:"1" maxLength:"64"`
	Amount    domain.Money `json:"amount" doc:"Received, more than 0, in the order's currency."`
	Method    Method       `json:"method,omitempty" doc:"How it was paid." example:"bank-transfer" required:"false" enum:"bank-transfer,card,cash,cheque,direct-debit,online,other"`
	Reference string       `json:"reference,omitempty" doc:"Reference on the statement." example:"RF18 5390 0754" required:"false" maxLength:"140"`
}

// CommandType implements domain.Command.
func (ReceivePayment) CommandType() string { return "order.receive_payment" }

// RefundPayment records money paid back, never more than the payment brought.
type RefundPayment struct {
	domain.When
	RefundID  string       `json:"refundId" doc:"Your name of the refund, unique within the order." example:"REF-1" minLength:"1" maxLength:"64"`
	PaymentID string       `json:"paymentId" doc:"The payment that is paid back." example:"PAY-1" minLength:"1" maxLength:"64"`
	Amount    domain.Money `json:"amount" doc:"Paid back, more than 0, in the order's currency."`
	Reason    string       `json:"reason" doc:"Why it is paid back." example:"Goods returned" minLength:"1" maxLength:"500"`
}

// CommandType implements domain.Command.
func (RefundPayment) CommandType() string { return "order.refund_payment" }

// Invented identifiers of the examples.
const (
	exampleCustomer    domain.ID = "0198c0de-0000-7000-8000-000000000001"
	exampleProduct     domain.ID = "0198c0de-0000-7000-8000-000000000003"
	exampleOpportunity domain.ID = "0198c0de-0000-7000-8000-000000000005"
)

var commands = []domain.CommandSpec{
	{Creates: true, Doc: "Records an order, a credit or an adjustment.", Example: Place{
		Number: "SO-2026-0042", Kind: KindSale, CustomerID: exampleCustomer, OpportunityID: exampleOpportunity, Currency: "EUR",
		Lines: []NewLine{{
			ProductCode: "GTX-PRO", ProductID: exampleProduct, Description: "Graphics card, 16 GB",
			Quantity: exampleMoney("2").Amount, UnitPrice: exampleMoney("4821.00").Amount,
		}},
		DeliveryDate: "2026-04-15", Country: "Germany", ShipTo: "Nordlicht Studios, Kai 3, 20457 Hamburg", Note: "Ring twice",
	}},
	{Doc: "Accepts a placed order for fulfilment.", Example: Confirm{}},
	{Doc: "Sets the day on which an order should be delivered.", Example: ScheduleDelivery{DeliveryDate: "2026-04-20", Reason: "Supplier is late"}},
	{Doc: "Reports that a confirmed order is being made.", Example: StartProduction{}},
	{Doc: "Reports that an order left the house.", Example: Ship{Carrier: "DHL", Tracking: "JD014600003"}},
	{Doc: "Reports that a shipped order arrived.", Example: Deliver{}},
	{Doc: "Reports that the customer signed off a delivered order.", Example: Accept{SignedBy: "K. Brandt"}},
	{Doc: "Ends an order that was not shipped yet.", Example: Cancel{Reason: "Ordered twice"}},
	{Doc: "Reports that goods of a shipped order came back.", Example: ReturnGoods{
		Lines: []ReturnLine{{Line: 1, Quantity: exampleMoney("1").Amount}}, Reason: "Broken on arrival",
	}},
	{Doc: "Records money received for an order.", Example: ReceivePayment{
		PaymentID: "PAY-1", Amount: exampleMoney("5000.00"), Method: "bank-transfer", Reference: "RF18 5390 0754",
	}},
	{Doc: "Records money of a payment paid back.", Example: RefundPayment{
		RefundID: "REF-1", PaymentID: "PAY-1", Amount: exampleMoney("1200.00"), Reason: "Goods returned",
	}},
}

func exampleMoney(amount string) domain.Money { return domain.MustMoney(amount, "EUR") }
