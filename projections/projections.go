// Package projections is the one list of the read models' declarations: for each table which events matter, which rows an event
// touches, and what it makes of them. Each area has its own folder. Declarations are pure; projections/runner does the I/O.
package projections

//go:generate go test . -run TestReadModelsAreDocumented -update

import (
	"github.com/rapport-crm/rapport/projections/audit"
	"github.com/rapport-crm/rapport/projections/party"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/sales"
	"github.com/rapport-crm/rapport/projections/work"
)

// All returns every projection of the product.
func All() []projection.Projection {
	return []projection.Projection{
		party.Customer, party.CustomerOwnerHistory, party.CustomerExternalID, party.CustomerFeedback, party.CustomerRelation,
		party.Commitment, party.CustomerTimeline,
		party.Contact, party.ContactLink, party.ContactRelation,
		party.Interaction,
		sales.Product,
		sales.Pipeline, sales.PipelineVersion,
		sales.Opportunity, sales.OpportunityLine, sales.OpportunityStakeholder, sales.OpportunityStageVisit, sales.OpportunityAmount,
		sales.SalesOrder, sales.SalesOrderLine, sales.Payment, sales.CustomerSales, sales.ProductSales,
		work.Deadline,
		audit.LogTime,
	}
}

// Parameters returns what can be changed in a what-if.
func Parameters() []projection.Parameter { return []projection.Parameter{sales.Probabilities} }
