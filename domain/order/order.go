// Package order decides what may happen to an order: its fulfilment, its payments, and what comes back.
package order

// Kind says what an order does to sales.
type Kind string

// The kinds of order.
const (
	KindSale       Kind = "sale"       // goods go out: every quantity is more than 0
	KindCredit     Kind = "credit"     // goods come back under a number of their own: every quantity is less than 0
	KindAdjustment Kind = "adjustment" // books are put right: any quantity but 0, any price
)

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
