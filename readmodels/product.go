package readmodels

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/domain"
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

var products = newResource[Product]("product", "code")

// Products lists the catalogue.
func (s *Store) Products(ctx context.Context, tenant domain.Tenant, q Query) (Page[Product], error) {
	return list(ctx, s, products, tenant, q)
}

// Product returns one product, or a *domain.NotFoundError.
func (s *Store) Product(ctx context.Context, tenant domain.Tenant, id domain.ID) (Product, domain.Position, error) {
	return one(ctx, s, products, tenant, recordOf(tenant, "product", id, "product"), "product", string(id), "tenant = $1 and id = $2", string(tenant), string(id))
}
