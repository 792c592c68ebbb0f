package sales

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/product"
	"github.com/rapport-crm/rapport/projections/column"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// Product keeps the catalogue.
var Product = projection.Fold[projection.StreamKey, sales.Product]{
	Name: "product", Version: 1,
	Doc:    "The product catalogue as it stands now.",
	Events: []string{"product."},
	Keys:   projection.ByStream,
	Begins: projection.BeginsStream[projection.StreamKey],
	Evolve: func(r sales.Product, _ projection.StreamKey, e domain.Recorded) sales.Product {
		switch ev := e.Event.(type) {
		case product.Added:
			r.Code, r.Status = ev.Code, "active"
			setProduct(&r, ev.Details)
			r.ListPrice, r.Currency = column.Amount(ev.ListPrice)
		case product.Updated:
			setProduct(&r, ev.To)
		case product.PriceChanged:
			r.ListPrice, r.Currency = column.Amount(&ev.To)
		case product.Discontinued:
			r.Status = "discontinued"
		case product.Relisted:
			r.Status = "active"
		}
		r.ChangedAt, r.Revision, r.Position = e.OccurredAt, int64(e.Revision), e.Position.Order()
		return r
	},
	Indexes: sales.Products.Indexes,
}

func setProduct(r *sales.Product, d product.Details) {
	r.Name, r.Series, r.Category, r.Unit = d.Name, d.Series, d.Category, d.Unit
}
