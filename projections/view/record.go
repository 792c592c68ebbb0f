package view

import (
	"cmp"
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels"
)

// lastStands is the formula of plain columns.
const lastStands = "the last event that set it stands; sums and counts add up"

// opportunityView is what is explained of an opportunity.
type opportunityView struct {
	readmodels.OpportunityDetail
	Weighted *domain.Amount `json:"weighted,omitempty"`
}

var opportunityKind = &kind[readmodels.OpportunityDetail, opportunityView]{
	aggregate: "opportunity",
	state:     func(v *opportunityView) *readmodels.OpportunityDetail { return &v.OpportunityDetail },
	fillers: []filler[opportunityView]{
		{Part{Needs: []string{"opportunity"}, Formula: lastStands}, fillOpportunity},
		{Part{Members: []string{"lines"}, Needs: []string{"opportunity_line"}, Formula: lastStands}, func(v *opportunityView, f Fold, of subject) {
			v.Lines = rows(f, "opportunity_line", func(r readmodels.OpportunityLine) bool { return r.OpportunityID == of.id })
		}},
		{Part{Members: []string{"stakeholders"}, Needs: []string{"opportunity_stakeholder"}, Formula: lastStands}, func(v *opportunityView, f Fold, of subject) {
			v.Stakeholders = rows(f, "opportunity_stakeholder", func(r readmodels.OpportunityStakeholder) bool { return r.OpportunityID == of.id })
			slices.SortStableFunc(v.Stakeholders, func(a, b readmodels.OpportunityStakeholder) int { return a.Since.Compare(b.Since) })
		}},
		{Part{Members: []string{"visits"}, Needs: []string{"opportunity_stage_visit"}, Formula: "one visit for each entry of a stage"}, func(v *opportunityView, f Fold, of subject) {
			v.Visits = rows(f, "opportunity_stage_visit", func(r readmodels.StageVisit) bool { return r.OpportunityID == of.id })
		}},
		{Part{Members: []string{"weighted"}, Needs: []string{"opportunity"}, Formula: "amount times probability: the stage's while open, 100 % when won, 0 % when lost", Explain: true}, func(v *opportunityView, f Fold, of subject) {
			fillOpportunity(v, f, of)
			v.Weighted = v.Opportunity.Weighted()
		}},
	},
}

func fillOpportunity(v *opportunityView, f Fold, of subject) {
	for _, o := range rows(f, "opportunity", func(o readmodels.Opportunity) bool { return o.ID == of.id }) {
		v.Opportunity = o
	}
}

var orderKind = &kind[readmodels.OrderDetail, readmodels.OrderDetail]{
	aggregate: "order",
	state:     itself[readmodels.OrderDetail],
	fillers: []filler[readmodels.OrderDetail]{
		{Part{Needs: []string{"sales_order"}, Formula: lastStands}, func(v *readmodels.OrderDetail, f Fold, of subject) {
			for _, o := range rows(f, "sales_order", func(o readmodels.Order) bool { return o.ID == of.id }) {
				v.Order = o
			}
		}},
		{Part{Members: []string{"lines"}, Needs: []string{"sales_order_line"}, Formula: lastStands}, func(v *readmodels.OrderDetail, f Fold, of subject) {
			v.Lines = rows(f, "sales_order_line", func(r readmodels.OrderLine) bool { return r.OrderID == of.id })
		}},
		{Part{Members: []string{"payments"}, Needs: []string{"payment"}, Formula: "one for each movement of money"}, func(v *readmodels.OrderDetail, f Fold, of subject) {
			v.Payments = rows(f, "payment", func(r readmodels.Payment) bool { return r.OrderID == of.id })
		}},
	},
}

var contactKind = &kind[readmodels.ContactDetail, readmodels.ContactDetail]{
	aggregate: "contact",
	state:     itself[readmodels.ContactDetail],
	fillers: []filler[readmodels.ContactDetail]{
		{Part{Needs: []string{"contact"}, Formula: lastStands}, func(v *readmodels.ContactDetail, f Fold, of subject) {
			for _, c := range rows(f, "contact", func(c readmodels.Contact) bool { return c.ID == of.id }) {
				v.Contact = c
			}
		}},
		{Part{Members: []string{"links"}, Needs: []string{"contact_link"}, Formula: lastStands}, func(v *readmodels.ContactDetail, f Fold, of subject) {
			v.Links = rows(f, "contact_link", func(r readmodels.ContactLink) bool { return r.ContactID == of.id })
			slices.SortStableFunc(v.Links, func(a, b readmodels.ContactLink) int { return cmp.Compare(a.Since, b.Since) })
		}},
		{Part{Members: []string{"relations"}, Needs: []string{"contact_relation"}, Formula: lastStands}, func(v *readmodels.ContactDetail, f Fold, of subject) {
			v.Relations = rows(f, "contact_relation", func(r readmodels.ContactRelation) bool { return r.ContactID == of.id || r.OtherID == of.id })
			slices.SortStableFunc(v.Relations, func(a, b readmodels.ContactRelation) int { return cmp.Compare(a.Since, b.Since) })
		}},
	},
}

var interactionKind = plain("interaction", "interaction", func(r readmodels.Interaction) domain.ID { return r.ID })

var productKind = plain("product", "product", func(r readmodels.Product) domain.ID { return r.ID })

var pipelineKind = &kind[readmodels.PipelineDetail, readmodels.PipelineDetail]{
	aggregate: "pipeline",
	state:     itself[readmodels.PipelineDetail],
	fillers: []filler[readmodels.PipelineDetail]{
		{Part{Needs: []string{"pipeline"}, Formula: lastStands}, func(v *readmodels.PipelineDetail, f Fold, of subject) {
			for _, p := range rows(f, "pipeline", func(p readmodels.Pipeline) bool { return p.ID == of.id }) {
				v.Pipeline = p
			}
		}},
		{Part{Members: []string{"versions"}, Needs: []string{"pipeline_version"}, Formula: "one for each revision"}, func(v *readmodels.PipelineDetail, f Fold, of subject) {
			v.Versions = rows(f, "pipeline_version", func(r readmodels.PipelineVersion) bool { return r.PipelineID == of.id })
		}},
	},
}

// plain is the kind of a record that is one row.
func plain[R any](aggregate, name string, id func(R) domain.ID) Kind {
	return &kind[R, R]{
		aggregate: aggregate,
		state:     itself[R],
		fillers: []filler[R]{{Part{Needs: []string{name}, Formula: lastStands}, func(v *R, f Fold, of subject) {
			for _, r := range rows(f, name, func(r R) bool { return id(r) == of.id }) {
				*v = r
			}
		}}},
	}
}

func itself[V any](v *V) *V { return v }
