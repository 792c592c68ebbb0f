package commands

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/contact"
	"github.com/rapport-crm/rapport/domain/customer"
	"github.com/rapport-crm/rapport/domain/interaction"
	"github.com/rapport-crm/rapport/domain/opportunity"
	"github.com/rapport-crm/rapport/domain/order"
	"github.com/rapport-crm/rapport/domain/pipeline"
	"github.com/rapport-crm/rapport/domain/product"
)

// All registers every aggregate.
func All(b *Bus) {
	registerCustomer(b)
	registerContact(b)
	registerInteraction(b)
	registerProduct(b)
	registerPipeline(b)
	registerOpportunity(b)
	registerOrder(b)
}

// Definitions returns everything that the log may hold, for the codec and the catalogue: the aggregates in the order of
// All, and reservations.
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
