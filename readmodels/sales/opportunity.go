package sales

import (
	"reflect"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// The states of an opportunity.
const (
	OpportunityOpen = "open"
	OpportunityWon  = "won"
	OpportunityLost = "lost"
)

// Opportunity is one opportunity as it stands now.
type Opportunity struct {
	Tenant           domain.Tenant  `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID               domain.ID      `db:"id,key" json:"id" element:"key" doc:"The opportunity."`
	Name             string         `db:"name" json:"name" doc:"Name."`
	CustomerID       *domain.ID     `db:"customer_id" json:"customerId,omitempty" doc:"The customer; null while none is linked."`
	Owner            string         `db:"owner" json:"owner" doc:"User name of the owner."`
	Region           string         `db:"region" json:"region,omitempty" doc:"Sales region; empty when it has none."`
	Source           string         `db:"source" json:"source,omitempty" doc:"Where it came from."`
	ExternalID       string         `db:"external_id" json:"externalId,omitempty" doc:"Identifier in the system it came from."`
	PipelineID       domain.ID      `db:"pipeline_id" json:"pipelineId" doc:"The pipeline."`
	PipelineVersion  int64          `db:"pipeline_version" json:"pipelineVersion" doc:"Version of the pipeline that validated the last change of stage."`
	Stage            string         `db:"stage" json:"stage" doc:"Key of the stage that it is in, or was closed in."`
	StageEnteredAt   time.Time      `db:"stage_entered_at" json:"stageEnteredAt" doc:"When it entered the stage."`
	Visit            int64          `db:"visit" json:"visit" doc:"Number of the present, or last, visit of a stage, from 1."`
	Probability      int64          `db:"probability" json:"probability" doc:"Probability of winning, in percent: the stage's while open, 100 when won, 0 when lost."`
	Status           string         `db:"status" json:"status" doc:"open, won or lost."`
	Amount           *domain.Amount `db:"amount" json:"amount,omitempty" doc:"Estimated value while open or lost, value won when won; null when nobody estimated."`
	Currency         string         `db:"currency" json:"currency,omitempty" doc:"ISO 4217 code of the amount."`
	LinesTotal       *domain.Amount `db:"lines_total" json:"linesTotal,omitempty" doc:"Sum of the lines; null when it has none."`
	ExpectedClose    *domain.Date   `db:"expected_close" json:"expectedClose,omitempty" doc:"Day on which it is expected to close."`
	Pushes           int64          `db:"pushes" json:"pushes,omitempty" doc:"How often the expected close was put off."`
	Score            *int64         `db:"score" json:"score,omitempty" doc:"Last score, 0 to 100; null when nobody scored it."`
	OpenedAt         time.Time      `db:"opened_at" json:"openedAt" doc:"When it started."`
	OpenedRecordedAt time.Time      `db:"opened_recorded_at" json:"openedRecordedAt" doc:"When we learned that it started."`
	ClosedAt         *time.Time     `db:"closed_at" json:"closedAt,omitempty" doc:"When it was won or lost; null while open."`
	CloseReason      string         `db:"close_reason" json:"closeReason,omitempty" doc:"Why it was lost."`
	Competitor       string         `db:"competitor" json:"competitor,omitempty" doc:"To whom it was lost."`
	CloseNote        string         `db:"close_note" json:"closeNote,omitempty" doc:"Remark on the win or loss."`
	Reopened         int64          `db:"reopened" json:"reopened,omitempty" doc:"How often a win or loss was taken back."`
	ChangedAt        time.Time      `db:"changed_at" json:"changedAt" doc:"When the last change happened, in the business."`
	Revision         int64          `db:"revision" json:"revision" doc:"Revision of the opportunity's own stream."`
	Position         int64          `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// OpportunityLine is one thing offered.
type OpportunityLine struct {
	Tenant        domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	OpportunityID domain.ID     `db:"opportunity_id,key" json:"opportunityId" doc:"The opportunity."`
	Line          int64         `db:"line,key" json:"line" element:"key" doc:"Number of the line."`
	ProductCode   string        `db:"product_code" json:"productCode" doc:"Code of the product."`
	ProductID     *domain.ID    `db:"product_id" json:"productId,omitempty" doc:"The product of the catalogue; null when it is in none."`
	Description   string        `db:"description" json:"description,omitempty" doc:"Description."`
	Quantity      domain.Amount `db:"quantity" json:"quantity" doc:"Quantity."`
	UnitPrice     domain.Amount `db:"unit_price" json:"unitPrice" doc:"Price of one unit."`
	Total         domain.Amount `db:"total" json:"total" doc:"Quantity times unit price, exact."`
	Currency      string        `db:"currency" json:"currency" doc:"ISO 4217 code."`
	Position      int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`

	Removed bool `db:"-" json:"-"` // the line was taken out: the row goes
}

// OpportunityStakeholder is a contact that has, or had, a say in an opportunity.
type OpportunityStakeholder struct {
	Tenant        domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	OpportunityID domain.ID     `db:"opportunity_id,key" json:"opportunityId" doc:"The opportunity."`
	ContactID     domain.ID     `db:"contact_id,key" json:"contactId" element:"key" doc:"The contact."`
	Role          string        `db:"role" json:"role" doc:"The role, or the last one."`
	Since         time.Time     `db:"since" json:"since" doc:"When the contact got the role."`
	Until         *time.Time    `db:"until" json:"until,omitempty" doc:"When the contact left; null while it has a say."`
	Position      int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// The ways in which a visit of a stage ends.
const (
	LeftMoved = "moved"
	LeftWon   = "won"
	LeftLost  = "lost"
)

// StageVisit is one stay of an opportunity in a stage. Every entry has its own row, re-entries too.
type StageVisit struct {
	Tenant            domain.Tenant  `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	OpportunityID     domain.ID      `db:"opportunity_id,key" json:"opportunityId" doc:"The opportunity."`
	Visit             int64          `db:"visit,key" json:"visit" element:"key" doc:"Number of the visit, from 1."`
	CustomerID        *domain.ID     `db:"customer_id" json:"customerId,omitempty" doc:"The customer at entry."`
	Owner             string         `db:"owner" json:"owner" doc:"User name of the owner at entry."`
	Region            string         `db:"region" json:"region,omitempty" doc:"Sales region at entry."`
	PipelineID        domain.ID      `db:"pipeline_id" json:"pipelineId" doc:"The pipeline."`
	PipelineVersion   int64          `db:"pipeline_version" json:"pipelineVersion" doc:"Version of the pipeline that validated the entry."`
	Stage             string         `db:"stage" json:"stage" doc:"Key of the stage."`
	Probability       int64          `db:"probability" json:"probability" doc:"Usual probability of winning from here, in percent."`
	Reopening         bool           `db:"reopening" json:"reopening,omitempty" doc:"Whether the visit began by taking back a win or loss."`
	Amount            *domain.Amount `db:"amount" json:"amount,omitempty" doc:"Estimated value at entry; null when nobody had estimated."`
	Currency          string         `db:"currency" json:"currency,omitempty" doc:"ISO 4217 code of the amounts."`
	EnteredAt         time.Time      `db:"entered_at" json:"enteredAt" doc:"When it entered, in the business."`
	EnteredRevision   int64          `db:"entered_revision" json:"enteredRevision" doc:"Revision of the opportunity's stream at which it entered."`
	EnteredRecordedAt time.Time      `db:"entered_recorded_at" json:"enteredRecordedAt" doc:"When we learned that it entered."`
	LeftAt            *time.Time     `db:"left_at" json:"leftAt,omitempty" doc:"When it left, in the business; null while it is there."`
	LeftRecordedAt    *time.Time     `db:"left_recorded_at" json:"leftRecordedAt,omitempty" doc:"When we learned that it left."`
	LeftBy            string         `db:"left_by" json:"leftBy,omitempty" doc:"How it left: moved, won or lost; empty while it is there."`
	NextStage         string         `db:"next_stage" json:"nextStage,omitempty" doc:"Key of the stage that it moved to."`
	ClosedAmount      *domain.Amount `db:"closed_amount" json:"closedAmount,omitempty" doc:"Value won, or estimated value of what was lost, when the visit ended so."`
	ClosedCurrency    string         `db:"closed_currency" json:"closedCurrency,omitempty" doc:"ISO 4217 code of the closed amount."`
	Position          int64          `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// OpportunityAmount is one value that an opportunity was estimated or won at, from a time on.
type OpportunityAmount struct {
	Tenant        domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	OpportunityID domain.ID     `db:"opportunity_id,key" json:"opportunityId" doc:"The opportunity."`
	Revision      int64         `db:"revision,key" json:"revision" doc:"Revision of the opportunity's stream."`
	Amount        domain.Amount `db:"amount" json:"amount" doc:"The value."`
	Currency      string        `db:"currency" json:"currency" doc:"ISO 4217 code."`
	EventType     string        `db:"event_type" json:"eventType" doc:"Permanent name of the event that set it."`
	OccurredAt    time.Time     `db:"occurred_at" json:"occurredAt" doc:"Since when, in the business."`
	RecordedAt    time.Time     `db:"recorded_at" json:"recordedAt" doc:"When we learned it."`
	Position      int64         `db:"position" json:"position" doc:"Place in the log of the event."`
}

// Opportunities lists opportunities.
var Opportunities = &query.Resource[Opportunity]{
	Name: "opportunities", Path: "/v1/opportunities", About: "opportunity", View: "opportunity",
	Doc:  "Lists opportunities.",
	Sort: "-changedAt",
	Indexes: []query.Index{
		{Name: "customer", Columns: "tenant, customer_id", Where: "customer_id is not null"},
		{Name: "owner", Columns: "tenant, owner, status"},
		{Name: "pipeline", Columns: "tenant, pipeline_id, stage", Where: "status = 'open'"},
		{Name: "closed", Columns: "tenant, closed_at desc", Where: "closed_at is not null"},
		{Name: "changed", Columns: "tenant, changed_at desc, id desc"},
		{Name: "external", Columns: "tenant, external_id", Where: "external_id <> ''"},
	},
	Example: query.Example{Filter: `status == "open" && amount >= 1000`, Sort: "expectedClose"},
}

// OpportunityLines lists what is offered.
var OpportunityLines = &query.Resource[OpportunityLine]{
	Name: "opportunityLines", Path: "/v1/opportunity-lines", About: "opportunity", View: "opportunity_line",
	Doc:     "Lists what is offered.",
	Sort:    "opportunityId,line",
	Indexes: []query.Index{{Name: "product", Columns: "tenant, product_code"}},
	Example: query.Example{Filter: `currency == "EUR"`, Sort: "opportunityId,line"},
}

// OpportunityStakeholders lists contacts that have, or had, a say in opportunities.
var OpportunityStakeholders = &query.Resource[OpportunityStakeholder]{
	Name: "opportunityStakeholders", Path: "/v1/opportunity-stakeholders", About: "opportunity", View: "opportunity_stakeholder",
	Doc:     "Lists contacts that have, or had, a say in opportunities.",
	Sort:    "since",
	Indexes: []query.Index{{Name: "contact", Columns: "tenant, contact_id"}},
	Example: query.Example{Filter: `role == "decider" && until == null`, Sort: "since"},
}

// OpportunityAmounts lists every value that opportunities were estimated or won at, from when on.
var OpportunityAmounts = &query.Resource[OpportunityAmount]{
	Name: "opportunityAmounts", Path: "/v1/opportunity-amounts", About: "opportunity", View: "opportunity_amount",
	Doc:     "Lists every value that opportunities were estimated or won at, from when on.",
	Sort:    "-occurredAt",
	Example: query.Example{Filter: `amount >= 1000`, Sort: "-occurredAt"},
}

// StageVisits lists the stays of opportunities in stages.
var StageVisits = &query.Resource[StageVisit]{
	Name: "stageVisits", Path: "/v1/stage-visits", About: "opportunity", View: "opportunity_stage_visit",
	Doc:  "Lists the stays of opportunities in stages.",
	Sort: "-enteredAt",
	Indexes: []query.Index{
		{Name: "pipeline", Columns: "tenant, pipeline_id, opportunity_id, visit"},
		{Name: "entered", Columns: "tenant, entered_at desc, opportunity_id desc, visit desc"},
	},
	Example: query.Example{Filter: `leftBy == "won"`, Sort: "-enteredAt"},
}

// OpportunityDetail is an opportunity with everything that belongs to it.
type OpportunityDetail struct {
	Opportunity
	Lines        []OpportunityLine        `json:"lines" doc:"What is offered."`
	Stakeholders []OpportunityStakeholder `json:"stakeholders" doc:"Contacts that have, or had, a say."`
	Visits       []StageVisit             `json:"visits" doc:"All visits of stages, the first one first."`
}

// OpportunityRecord is one opportunity with its lines, stakeholders and visits of stages.
var OpportunityRecord = &query.Record[OpportunityDetail]{
	Name: "opportunity", Path: "/v1/opportunities/{id}", Aggregate: "opportunity",
	Doc:   "Returns one opportunity with its lines, stakeholders and visits of stages.",
	Words: "an opportunity", Explains: "/weighted",
	Row: query.RowOf(Opportunities, func(d *OpportunityDetail) *Opportunity { return &d.Opportunity }),
	Parts: []query.Part[OpportunityDetail]{
		query.Rows("lines", OpportunityLines, "line", query.LastStands, func(d *OpportunityDetail) *[]OpportunityLine { return &d.Lines }, "opportunity_id"),
		query.Rows("stakeholders", OpportunityStakeholders, "since", query.LastStands, func(d *OpportunityDetail) *[]OpportunityStakeholder { return &d.Stakeholders }, "opportunity_id"),
		query.Rows("visits", StageVisits, "visit", "one visit for each entry of a stage", func(d *OpportunityDetail) *[]StageVisit { return &d.Visits }, "opportunity_id"),
	},
	Derived: []query.Derived[OpportunityDetail]{{
		Member: "weighted", Formula: "amount times probability: the stage's while open, 100 % when won, 0 % when lost",
		Type: reflect.TypeFor[domain.Amount](), Value: func(d OpportunityDetail) any { return d.Weighted() },
	}},
}

// OpenValue sums the open opportunities of a customer in one currency.
type OpenValue struct {
	Currency      string        `json:"currency" element:"key" doc:"ISO 4217 code; empty for opportunities that nobody estimated."`
	Opportunities int64         `json:"opportunities" doc:"Number of open opportunities."`
	Amount        domain.Amount `json:"amount" doc:"Sum of their estimated values."`
	Weighted      domain.Amount `json:"weighted" doc:"Sum of amount times probability."`
}

// Weighted returns the amount times the probability; nil for an opportunity that nobody estimated.
func (o Opportunity) Weighted() *domain.Amount {
	if o.Amount == nil {
		return nil
	}
	weighted := domain.NewAmount(o.Amount.Mul(percent(o.Probability)))
	return &weighted
}
