package sales

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Order is one order, credit or adjustment as it stands now. Its view is sales_order, because order is a word of SQL.
type Order struct {
	Tenant        domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID            domain.ID     `db:"id,key" json:"id" element:"key" doc:"The order."`
	Number        string        `db:"number" json:"number" doc:"Number that people use."`
	Kind          string        `db:"kind" json:"kind" doc:"sale, credit (goods come back: values below 0) or adjustment."`
	CustomerID    *domain.ID    `db:"customer_id" json:"customerId,omitempty" doc:"The customer; null when unknown."`
	OpportunityID *domain.ID    `db:"opportunity_id" json:"opportunityId,omitempty" doc:"The opportunity that it came from."`
	Status        string        `db:"status" json:"status" doc:"placed, confirmed, in_production, shipped, delivered, accepted or cancelled."`
	Currency      string        `db:"currency" json:"currency" doc:"ISO 4217 code of all amounts."`
	Total         domain.Amount `db:"total" json:"total" doc:"Sum of the lines as placed, exact."`
	LineCount     int64         `db:"lines" json:"lineCount" doc:"Number of lines."`
	Returned      domain.Amount `db:"returned" json:"returned" doc:"Value of the goods that came back."`
	Paid          domain.Amount `db:"paid" json:"paid" doc:"Payments received."`
	Refunded      domain.Amount `db:"refunded" json:"refunded" doc:"Payments paid back."`
	Outstanding   domain.Amount `db:"outstanding" json:"outstanding" doc:"What is left to pay; below 0 when we owe."`
	PlacedAt      time.Time     `db:"placed_at" json:"placedAt" doc:"When it was placed."`
	DeliveryDate  *domain.Date  `db:"delivery_date" json:"deliveryDate,omitempty" doc:"Day of delivery that is agreed."`
	Country       string        `db:"country" json:"country,omitempty" doc:"Country of delivery."`
	ShipTo        string        `db:"ship_to" json:"shipTo,omitempty" personal:"true" of:"customer_id" doc:"Where it goes."`
	Note          string        `db:"note" json:"note,omitempty" personal:"true" of:"customer_id" doc:"Remark."`
	Carrier       string        `db:"carrier" json:"carrier,omitempty" doc:"Who carries it."`
	Tracking      string        `db:"tracking" json:"tracking,omitempty" doc:"Tracking number of the carrier."`
	SignedBy      string        `db:"signed_by" json:"signedBy,omitempty" personal:"true" of:"customer_id" doc:"Who signed it off."`
	CancelReason  string        `db:"cancel_reason" json:"cancelReason,omitempty" doc:"Why it was cancelled."`
	ConfirmedAt   *time.Time    `db:"confirmed_at" json:"confirmedAt,omitempty" doc:"When it was accepted for fulfilment."`
	ProductionAt  *time.Time    `db:"production_at" json:"productionAt,omitempty" doc:"When production began."`
	ShippedAt     *time.Time    `db:"shipped_at" json:"shippedAt,omitempty" doc:"When it left the house."`
	DeliveredAt   *time.Time    `db:"delivered_at" json:"deliveredAt,omitempty" doc:"When it arrived."`
	AcceptedAt    *time.Time    `db:"accepted_at" json:"acceptedAt,omitempty" doc:"When the customer signed it off."`
	CancelledAt   *time.Time    `db:"cancelled_at" json:"cancelledAt,omitempty" doc:"When it was cancelled."`
	ChangedAt     time.Time     `db:"changed_at" json:"changedAt" doc:"When the last change happened, in the business."`
	Revision      int64         `db:"revision" json:"revision" doc:"Revision of the order's own stream."`
	Position      int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// OrderLine is one line of an order.
type OrderLine struct {
	Tenant      domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	OrderID     domain.ID     `db:"order_id,key" json:"orderId" doc:"The order."`
	Line        int64         `db:"line,key" json:"line" element:"key" doc:"Number of the line, from 1."`
	CustomerID  *domain.ID    `db:"customer_id" json:"customerId,omitempty" doc:"The customer; null when unknown."`
	Kind        string        `db:"kind" json:"kind" doc:"Kind of the order: sale, credit or adjustment."`
	ProductCode string        `db:"product_code" json:"productCode" doc:"Code of the product."`
	ProductID   *domain.ID    `db:"product_id" json:"productId,omitempty" doc:"The product of the catalogue; null when it is in none."`
	Description string        `db:"description" json:"description,omitempty" doc:"Description."`
	Quantity    domain.Amount `db:"quantity" json:"quantity" doc:"Quantity as placed."`
	UnitPrice   domain.Amount `db:"unit_price" json:"unitPrice" doc:"Price of one unit."`
	Total       domain.Amount `db:"total" json:"total" doc:"Quantity times unit price, exact."`
	Currency    string        `db:"currency" json:"currency" doc:"ISO 4217 code."`
	Returned    domain.Amount `db:"returned" json:"returned" doc:"Quantity that came back."`
	Cancelled   bool          `db:"cancelled" json:"cancelled,omitempty" doc:"Whether the order was cancelled."`
	PlacedAt    time.Time     `db:"placed_at" json:"placedAt" doc:"When the order was placed."`
	Position    int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// The kinds of payment.
const (
	PaymentReceived = "received"
	PaymentRefunded = "refunded"
)

// Payment is money that came in for an order or went back.
type Payment struct {
	Tenant      domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	OrderID     domain.ID     `db:"order_id,key" json:"orderId" doc:"The order."`
	Revision    int64         `db:"revision,key" json:"revision" element:"key" doc:"Revision of the order's stream."`
	Kind        string        `db:"kind" json:"kind" doc:"received or refunded."`
	PaymentID   string        `db:"payment_id" json:"paymentId" doc:"The payment; for a refund the one that it pays back."`
	RefundID    string        `db:"refund_id" json:"refundId,omitempty" doc:"The refund; empty for a payment."`
	OrderNumber string        `db:"order_number" json:"orderNumber" doc:"Number of the order that people use."`
	CustomerID  *domain.ID    `db:"customer_id" json:"customerId,omitempty" doc:"The customer; null when unknown."`
	Amount      domain.Amount `db:"amount" json:"amount" doc:"Money received, or paid back; more than 0."`
	Currency    string        `db:"currency" json:"currency" doc:"ISO 4217 code."`
	Method      string        `db:"method" json:"method,omitempty" doc:"How it was paid."`
	Reference   string        `db:"reference" json:"reference,omitempty" doc:"Reference of the payer or bank; for a refund the reason."`
	OccurredAt  time.Time     `db:"occurred_at" json:"occurredAt" doc:"When the money moved."`
	RecordedAt  time.Time     `db:"recorded_at" json:"recordedAt" doc:"When we learned it."`
	Position    int64         `db:"position" json:"position" doc:"Place in the log of the event."`
}

// CustomerSales sums the orders of a customer in one currency. Net is the lifetime value by revenue.
type CustomerSales struct {
	Tenant       domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	CustomerID   domain.ID     `db:"customer_id,key" json:"customerId" doc:"The customer."`
	Currency     string        `db:"currency,key" json:"currency" doc:"ISO 4217 code of all amounts."`
	Orders       int64         `db:"orders" json:"orders" doc:"Sales placed, cancelled ones included."`
	Credits      int64         `db:"credits" json:"credits" doc:"Credits placed."`
	Adjustments  int64         `db:"adjustments" json:"adjustments" doc:"Adjustments placed."`
	Cancelled    int64         `db:"cancelled" json:"cancelled" doc:"Orders of any kind that were cancelled."`
	Gross        domain.Amount `db:"gross" json:"gross" doc:"Sum of sales that were not cancelled."`
	Credited     domain.Amount `db:"credited" json:"credited" doc:"Sum of credits and adjustments that were not cancelled, usually below 0."`
	Returned     domain.Amount `db:"returned" json:"returned" doc:"Value of goods of sales that came back."`
	Net          domain.Amount `db:"net" json:"net" doc:"Gross and credited less returned: the lifetime value by revenue."`
	Paid         domain.Amount `db:"paid" json:"paid" doc:"Payments received."`
	Refunded     domain.Amount `db:"refunded" json:"refunded" doc:"Payments paid back."`
	FirstOrderAt *time.Time    `db:"first_order_at" json:"firstOrderAt,omitempty" doc:"When the first sale was placed; null without a sale."`
	LastOrderAt  *time.Time    `db:"last_order_at" json:"lastOrderAt,omitempty" doc:"When the last sale was placed; null without a sale."`
	Position     int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// ProductSales sums the order lines of a product in one currency.
type ProductSales struct {
	Tenant      domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ProductCode string        `db:"product_code,key" json:"productCode" doc:"Code of the product."`
	Currency    string        `db:"currency,key" json:"currency" doc:"ISO 4217 code of the amounts."`
	Description string        `db:"description" json:"description,omitempty" doc:"Description on the last line that had one."`
	Orders      int64         `db:"orders" json:"orders" doc:"Sales with the product, less those cancelled."`
	Lines       int64         `db:"lines" json:"lines" doc:"Lines of any kind with the product, less those cancelled."`
	Quantity    domain.Amount `db:"quantity" json:"quantity" doc:"Quantity sold, less what was credited, cancelled or came back."`
	Revenue     domain.Amount `db:"revenue" json:"revenue" doc:"Value sold, less what was credited, cancelled or came back."`
	FirstSoldAt *time.Time    `db:"first_sold_at" json:"firstSoldAt,omitempty" doc:"When the first sale was placed; null without a sale."`
	LastSoldAt  *time.Time    `db:"last_sold_at" json:"lastSoldAt,omitempty" doc:"When the last sale was placed; null without a sale."`
	Position    int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// Orders lists orders, credits and adjustments.
var Orders = &query.Resource[Order]{
	Name: "orders", Path: "/v1/orders", About: "order", View: "sales_order",
	Doc:  "Lists orders, credits and adjustments.",
	Sort: "-placedAt",
	Indexes: []query.Index{
		{Name: "customer", Columns: "tenant, customer_id, placed_at desc, id", Where: "customer_id is not null"},
		{Name: "placed", Columns: "tenant, placed_at desc, id desc"},
		{Name: "number", Columns: "tenant, number"},
		{Name: "opportunity", Columns: "tenant, opportunity_id", Where: "opportunity_id is not null"},
	},
	Example: query.Example{Filter: `kind == "sale" && total > 100`, Sort: "-placedAt"},
}

// OrderLines lists lines of orders.
var OrderLines = &query.Resource[OrderLine]{
	Name: "orderLines", Path: "/v1/order-lines", About: "order", View: "sales_order_line",
	Doc:  "Lists lines of orders.",
	Sort: "orderId,line",
	Indexes: []query.Index{
		{Name: "product", Columns: "tenant, product_code, placed_at desc"},
		{Name: "customer", Columns: "tenant, customer_id", Where: "customer_id is not null"},
	},
	Example: query.Example{Filter: `kind == "sale"`, Sort: "orderId,line"},
}

// Payments lists payments and refunds.
var Payments = &query.Resource[Payment]{
	Name: "payments", Path: "/v1/payments", About: "order", View: "payment",
	Doc:  "Lists payments and refunds.",
	Sort: "-occurredAt",
	Indexes: []query.Index{
		{Name: "customer", Columns: "tenant, customer_id", Where: "customer_id is not null"},
		{Name: "occurred", Columns: "tenant, occurred_at desc, order_id desc, revision desc"},
	},
	Example: query.Example{Filter: `kind == "received"`, Sort: "-occurredAt"},
}

// SalesByCustomer lists sales per customer and currency.
var SalesByCustomer = &query.Resource[CustomerSales]{
	Name: "customerSales", Path: "/v1/customer-sales", About: "order", View: "customer_sales",
	Doc:     "Lists sales per customer and currency.",
	Sort:    "-net",
	Indexes: []query.Index{{Name: "net", Columns: "tenant, net desc, customer_id desc, currency desc"}},
	Example: query.Example{Filter: `net > 0`, Sort: "-net"},
}

// SalesByProduct lists sales per product and currency.
var SalesByProduct = &query.Resource[ProductSales]{
	Name: "productSales", Path: "/v1/product-sales", About: "order", View: "product_sales",
	Doc:     "Lists sales per product and currency.",
	Sort:    "-revenue",
	Indexes: []query.Index{{Name: "revenue", Columns: "tenant, revenue desc, product_code desc, currency desc"}},
	Example: query.Example{Filter: `revenue > 0`, Sort: "-revenue"},
}

// OrderDetail is an order with its lines and payments.
type OrderDetail struct {
	Order
	Lines    []OrderLine `json:"lines" doc:"Lines in order."`
	Payments []Payment   `json:"payments" doc:"Payments and refunds, the first one first."`
}

// OrderRecord is one order with its lines and payments.
var OrderRecord = &query.Record[OrderDetail]{
	Name: "order", Path: "/v1/orders/{id}", Aggregate: "order",
	Doc:   "Returns one order with its lines and payments.",
	Words: "an order", Explains: "/outstanding",
	Row: query.RowOf(Orders, func(d *OrderDetail) *Order { return &d.Order }),
	Parts: []query.Part[OrderDetail]{
		query.Rows("lines", OrderLines, "line", query.LastStands, func(d *OrderDetail) *[]OrderLine { return &d.Lines }, "order_id"),
		query.Rows("payments", Payments, "revision", "one for each movement of money", func(d *OrderDetail) *[]Payment { return &d.Payments }, "order_id"),
	},
}

// OrderTotal sums orders of one currency, kind and status.
type OrderTotal struct {
	Currency     string        `db:"currency" json:"currency" doc:"ISO 4217 code."`
	Kind         string        `db:"kind" json:"kind" doc:"sale, credit or adjustment."`
	Status       string        `db:"status" json:"status" doc:"Step of fulfilment."`
	Orders       int64         `db:"orders" json:"orders" doc:"Number of orders."`
	Customers    int64         `db:"customers" json:"customers" doc:"Number of different customers."`
	Total        domain.Amount `db:"total" json:"total" doc:"Sum of the orders as placed."`
	WithCustomer domain.Amount `db:"with_customer" json:"withCustomer" doc:"The part of total whose customer is known."`
	Returned     domain.Amount `db:"returned" json:"returned" doc:"Value of the goods that came back."`
	Paid         domain.Amount `db:"paid" json:"paid" doc:"Payments received, less those paid back."`
	Outstanding  domain.Amount `db:"outstanding" json:"outstanding" doc:"What is left to pay."`
}

// OrderTotals sums the orders that a filter over Order selects.
func OrderTotals(ctx context.Context, s *query.Store, filter string) ([]OrderTotal, domain.Position, error) {
	args := query.Arguments{string(s.Tenant())}
	where, err := Orders.Where(filter, &args)
	if err != nil {
		return nil, domain.Position{}, err
	}
	var totals []OrderTotal
	var read query.Reading
	query.Queue(&read, &totals, `
select currency, kind, status, count(*) as orders, count(distinct customer_id) as customers, sum(total) as total,
	coalesce(sum(total) filter (where customer_id is not null), 0) as with_customer, sum(returned) as returned,
	sum(paid - refunded) as paid, sum(outstanding) as outstanding
from sales_order
where tenant = $1 and `+where+`
group by currency, kind, status
order by currency, kind, status`, args...)
	at, err := s.Read(ctx, query.Views("sales_order"), &read)
	return totals, at, err
}
