// Package projections declares the read models: for each table which events matter, which rows an event touches, and
// what it makes of them. Declarations are pure; projections/runner does the I/O.
package projections

//go:generate go test . -run TestReadModelsAreDocumented -update

import "github.com/rapport-crm/rapport/projections/projection"

// All returns every projection of the product.
func All() []projection.Projection {
	return []projection.Projection{
		Customer, CustomerOwnerHistory, CustomerExternalID, CustomerFeedback, CustomerRelation, Commitment, CustomerTimeline,
		Contact, ContactLink, ContactRelation,
		Interaction,
		Product,
		Pipeline, PipelineVersion,
		Opportunity, OpportunityLine, OpportunityStakeholder, OpportunityStageVisit, OpportunityAmount,
		SalesOrder, SalesOrderLine, Payment, CustomerSales, ProductSales,
		LogTime,
	}
}
