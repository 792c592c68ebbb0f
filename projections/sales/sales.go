package sales

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/projections/column"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// sale is what an event means for the sums of sales: which order, in which currency, and what was sold or taken back.
type sale struct {
	order.Subject
	currency domain.Currency
	lines    []order.Line
}

// saleOf returns what an event means for the sums of sales, and false when it means nothing.
func saleOf(e domain.Event) (sale, bool) {
	switch ev := e.(type) {
	case order.Placed:
		return sale{ev.Subject, ev.Currency, ev.Lines}, true
	case order.Cancelled:
		return sale{ev.Subject, ev.Currency, ev.Lines}, true
	case order.GoodsReturned:
		lines := make([]order.Line, len(ev.Lines))
		for i, line := range ev.Lines {
			lines[i] = order.Line{Number: line.Number, ProductCode: line.ProductCode, Quantity: line.Quantity, Total: line.Value}
		}
		return sale{ev.Subject, ev.Currency, lines}, true
	case order.PaymentReceived:
		return sale{ev.Subject, ev.Amount.Currency, nil}, true
	case order.PaymentRefunded:
		return sale{ev.Subject, ev.Amount.Currency, nil}, true
	}
	return sale{}, false
}

type customerSalesKey struct {
	Tenant     domain.Tenant `db:"tenant"`
	CustomerID domain.ID     `db:"customer_id"`
	Currency   string        `db:"currency"`
}

// CustomerSales sums orders and payments per customer and currency.
var CustomerSales = projection.Fold[customerSalesKey, sales.CustomerSales]{
	Name: "customer_sales", Version: 1,
	Untold: true,
	Doc:    "Orders and payments summed per customer and currency; net is the lifetime value by revenue. Orders without a customer are not in it.",
	Events: []string{
		"order.placed", "order.cancelled", "order.goods_returned", "order.payment_received", "order.payment_refunded",
	},
	Keys: func(e domain.Recorded) []customerSalesKey {
		s, ok := saleOf(e.Event)
		if !ok || s.CustomerID == "" {
			return nil
		}
		return []customerSalesKey{{e.Tenant, s.CustomerID, string(s.currency)}}
	},
	Evolve: func(r sales.CustomerSales, _ customerSalesKey, e domain.Recorded) sales.CustomerSales {
		switch ev := e.Event.(type) {
		case order.Placed:
			switch ev.Kind {
			case order.KindSale:
				r.Orders++
				r.Gross = column.Sum(r.Gross, ev.Total)
				r.FirstOrderAt, r.LastOrderAt = column.Earlier(r.FirstOrderAt, e.OccurredAt), column.Later(r.LastOrderAt, e.OccurredAt)
			case order.KindCredit:
				r.Credits++
				r.Credited = column.Sum(r.Credited, ev.Total)
			default:
				r.Adjustments++
				r.Credited = column.Sum(r.Credited, ev.Total)
			}
		case order.Cancelled:
			r.Cancelled++
			if ev.Kind == order.KindSale {
				r.Gross = column.Difference(r.Gross, ev.Total)
			} else {
				r.Credited = column.Difference(r.Credited, ev.Total)
			}
		case order.GoodsReturned:
			r.Returned = column.Sum(r.Returned, ev.Value)
		case order.PaymentReceived:
			r.Paid = column.Sum(r.Paid, ev.Amount.Amount)
		case order.PaymentRefunded:
			r.Refunded = column.Sum(r.Refunded, ev.Amount.Amount)
		}
		r.Net = column.Difference(column.Sum(r.Gross, r.Credited), r.Returned)
		r.Position = e.Position.Order()
		return r
	},
	Indexes: sales.SalesByCustomer.Indexes,
}

type productSalesKey struct {
	Tenant      domain.Tenant `db:"tenant"`
	ProductCode string        `db:"product_code"`
	Currency    string        `db:"currency"`
}

// ProductSales sums order lines per product and currency.
var ProductSales = projection.Fold[productSalesKey, sales.ProductSales]{
	Name: "product_sales", Version: 1,
	Untold: true,
	Doc:    "Order lines summed per product and currency, less what was credited, cancelled or came back.",
	Events: []string{"order.placed", "order.cancelled", "order.goods_returned"},
	Keys: func(e domain.Recorded) []productSalesKey {
		s, _ := saleOf(e.Event)
		var keys []productSalesKey
		seen := map[string]bool{}
		for _, line := range s.lines {
			if !seen[line.ProductCode] {
				seen[line.ProductCode] = true
				keys = append(keys, productSalesKey{e.Tenant, line.ProductCode, string(s.currency)})
			}
		}
		return keys
	},
	Evolve:  evolveProductSales,
	Indexes: sales.SalesByProduct.Indexes,
}

func evolveProductSales(r sales.ProductSales, k productSalesKey, e domain.Recorded) sales.ProductSales {
	s, _ := saleOf(e.Event)
	var quantity, value domain.Amount
	lines := int64(0)
	for _, line := range s.lines {
		if line.ProductCode != k.ProductCode {
			continue
		}
		quantity, value = column.Sum(quantity, line.Quantity), column.Sum(value, line.Total)
		lines++
		if line.Description != "" {
			r.Description = line.Description
		}
	}
	sales := int64(0)
	if s.Kind == order.KindSale {
		sales = 1
	}
	switch e.Event.(type) {
	case order.Placed:
		r.Orders, r.Lines = r.Orders+sales, r.Lines+lines
		r.Quantity, r.Revenue = column.Sum(r.Quantity, quantity), column.Sum(r.Revenue, value)
		if sales > 0 {
			r.FirstSoldAt, r.LastSoldAt = column.Earlier(r.FirstSoldAt, e.OccurredAt), column.Later(r.LastSoldAt, e.OccurredAt)
		}
	case order.Cancelled:
		r.Orders, r.Lines = r.Orders-sales, r.Lines-lines
		r.Quantity, r.Revenue = column.Difference(r.Quantity, quantity), column.Difference(r.Revenue, value)
	case order.GoodsReturned:
		r.Quantity, r.Revenue = column.Difference(r.Quantity, quantity), column.Difference(r.Revenue, value)
	}
	r.Position = e.Position.Order()
	return r
}
