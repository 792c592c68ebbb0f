package sales

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Product is one product of the catalogue.
type Product struct {
	Tenant    domain.Tenant  `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID        domain.ID      `db:"id,key" json:"id" doc:"The product."`
	Code      string         `db:"code" json:"code" doc:"Code by which orders and offers name it."`
	Name      string         `db:"name" json:"name" doc:"Name."`
	Series    string         `db:"series" json:"series,omitempty" doc:"Series; empty when it has none."`
	Category  string         `db:"category" json:"category,omitempty" doc:"Category; empty when it has none."`
	Unit      string         `db:"unit" json:"unit,omitempty" doc:"Unit in which it is counted."`
	ListPrice *domain.Amount `db:"list_price" json:"listPrice,omitempty" doc:"List price of one unit."`
	Currency  string         `db:"currency" json:"currency,omitempty" doc:"ISO 4217 code of the list price."`
	Status    string         `db:"status" json:"status" doc:"active or discontinued."`
	ChangedAt time.Time      `db:"changed_at" json:"changedAt" doc:"When the last change happened, in the business."`
	Revision  int64          `db:"revision" json:"revision" doc:"Revision of the product's own stream."`
	Position  int64          `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// Products lists the catalogue.
var Products = &query.Resource[Product]{
	Name: "products", Path: "/v1/products", About: "product", View: "product",
	Doc:     "Lists the catalogue.",
	Sort:    "code",
	Indexes: []query.Index{{Name: "code", Columns: "tenant, code, id"}},
	Example: query.Example{Filter: `status == "active"`, Sort: "code"},
}

// ProductRecord is one product of the catalogue.
var ProductRecord = &query.Record[Product]{
	Name: "product", Path: "/v1/products/{id}", Aggregate: "product",
	Doc:   "Returns one product.",
	Words: "a product", Explains: "/name",
	Row: query.Itself(Products),
}
