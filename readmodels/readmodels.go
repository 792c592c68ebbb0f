// Package readmodels is the one list of what can be read: the resources that can be listed and the records that can be got.
// Routes, descriptions, replays, explanations and tests take them from here. Each area has its own folder; query is the
// kernel that they are declared with.
//
// A customer that was merged into another keeps its rows: nothing is rewritten. Queries about one customer resolve the
// survivor first and then include the rows of everything that was merged into it, directly or in steps. Lists do not:
// they show rows as they stand, and mergedInto tells.
package readmodels

import (
	"github.com/rapport-crm/rapport/readmodels/audit"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
	"github.com/rapport-crm/rapport/readmodels/work"
)

// Resources returns every resource, in the order of the reference.
func Resources() []query.Listed {
	return []query.Listed{
		party.Customers, party.Commitments, party.CustomerOwners, party.CustomerRelations, party.CustomerExternals, party.Feedback,
		party.Contacts, party.ContactLinks, party.ContactRelations,
		party.Interactions,
		sales.Products,
		sales.Pipelines, sales.PipelineVersions,
		sales.Opportunities, sales.OpportunityLines, sales.OpportunityStakeholders, sales.OpportunityAmounts, sales.StageVisits,
		sales.Orders, sales.OrderLines, sales.Payments, sales.SalesByCustomer, sales.SalesByProduct,
		work.Deadlines,
		audit.LogTimes,
	}
}

// Records returns every record that one stream identifies.
func Records() []query.Single {
	return []query.Single{
		party.CustomerRecord, party.ContactRecord, party.InteractionRecord,
		sales.ProductRecord, sales.PipelineRecord, sales.OpportunityRecord, sales.OrderRecord,
	}
}
