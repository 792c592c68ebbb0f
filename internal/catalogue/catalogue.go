// Package catalogue lists the aggregates of the product, each once. From the list come the phrasebook, which tells every
// event in words, and the catalogue of events: pages for people in docs/events and JSON Schemas for programs in
// docs/events/schemas. A released schema only ever grows by optional fields; Generate refuses anything else.
package catalogue

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/domain/sales/product"
)

//go:generate go run ./generate ../../docs/events

// Definitions returns every aggregate of the product, in the order of the catalogue. The codec is built from them.
func Definitions() []domain.Definition {
	return []domain.Definition{
		customer.Aggregate.Definition(),
		contact.Aggregate.Definition(),
		interaction.Aggregate.Definition(),
		product.Aggregate.Definition(),
		pipeline.Aggregate.Definition(),
		opportunity.Aggregate.Definition(),
		order.Aggregate.Definition(),
		domain.Reservation,
	}
}

// Phrasebook returns the words of every event of the product.
func Phrasebook() (*domain.Phrasebook, error) { return domain.NewPhrasebook(Definitions()...) }
