// Package aggregates is the one list of the product's aggregates. The command bus, the codec, the catalogue of events, the
// words of events, the importer, the simulation and the tests take them from here: an aggregate is its own package and one
// line below.
package aggregates

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

// All returns every aggregate of the product, in the order of the catalogue.
func All() []domain.Definition {
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
func Phrasebook() (*domain.Phrasebook, error) { return domain.NewPhrasebook(All()...) }
