package projections

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/product"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels"
)

// Product keeps the catalogue.
var Product = projection.Fold[record, readmodels.Product]{
	Name: "product", Version: 1,
	Doc:    "The product catalogue as it stands now.",
	Events: []string{"product."},
	Keys:   byStream,
	Begins: beginsStream[record],
	Evolve: func(r readmodels.Product, _ record, e domain.Recorded) readmodels.Product {
		switch ev := e.Event.(type) {
		case product.Added:
			r.Code, r.Status = ev.Code, "active"
			setProduct(&r, ev.Details)
			r.ListPrice, r.Currency = amountOf(ev.ListPrice)
		case product.Updated:
			setProduct(&r, ev.To)
		case product.PriceChanged:
			r.ListPrice, r.Currency = amountOf(&ev.To)
		case product.Discontinued:
			r.Status = "discontinued"
		case product.Relisted:
			r.Status = "active"
		}
		r.ChangedAt, r.Revision, r.Position = e.OccurredAt, int64(e.Revision), e.Position.Order()
		return r
	},
	Indexes: []projection.Index{{Name: "code", Columns: "tenant, code, id"}},
}

func setProduct(r *readmodels.Product, d product.Details) {
	r.Name, r.Series, r.Category, r.Unit = d.Name, d.Series, d.Category, d.Unit
}
