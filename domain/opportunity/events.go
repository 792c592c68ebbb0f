package opportunity

import "github.com/rapport-crm/rapport/domain"

// Standing is how the opportunity stands after an event, beside what the event is about: what reports per customer,
// owner, region and pipeline need without a look-up.
type Standing struct {
	CustomerID      domain.ID `json:"customerId,omitempty"` // empty while no customer is linked
	Owner           string    `json:"owner"`
	Region          string    `json:"region,omitempty"`
	PipelineID      domain.ID `json:"pipelineId"`
	PipelineVersion int       `json:"pipelineVersion"` // the version that validated the last stage change
}

// Line is one thing offered. Numbers are given once, from 1, and never again.
type Line struct {
	Number      int           `json:"line"`
	ProductCode string        `json:"productCode"`
	ProductID   domain.ID     `json:"productId,omitempty"`
	Description string        `json:"description,omitempty"`
	Quantity    domain.Amount `json:"quantity"`
	UnitPrice   domain.Money  `json:"unitPrice"`
	Total       domain.Amount `json:"total"` // quantity times unit price, exact, in the currency of the price
}

// Opened says that an opportunity started. It is in its first visit of a stage.
type Opened struct {
	Name string `json:"name"`
	Standing
	Stage         string        `json:"stage"`
	Visit         int           `json:"visit"` // 1
	Probability   int           `json:"probability"`
	Source        string        `json:"source,omitempty"`
	ExternalID    string        `json:"externalId,omitempty"`
	Amount        *domain.Money `json:"amount,omitempty"` // estimated; nil when nobody estimated
	ExpectedClose domain.Date   `json:"expectedClose,omitempty"`
	Lines         []Line        `json:"lines,omitempty"`
}

// EventType implements domain.Event.
func (Opened) EventType() string { return "opportunity.opened" }

// Details is what describes an opportunity.
type Details struct {
	Name   string `json:"name"`
	Region string `json:"region,omitempty"`
	Source string `json:"source,omitempty"`
}

// Updated says that the description changed.
type Updated struct {
	From Details `json:"from"`
	To   Details `json:"to"`
}

// EventType implements domain.Event.
func (Updated) EventType() string { return "opportunity.updated" }

// Qualified says that somebody scored the opportunity.
type Qualified struct {
	From   *int   `json:"from,omitempty"` // the score before; nil for the first
	Score  int    `json:"score"`          // 0 to 100
	Reason string `json:"reason"`
}

// EventType implements domain.Event.
func (Qualified) EventType() string { return "opportunity.qualified" }

// StageMoved says that the visit FromVisit of stage From ended and the visit ToVisit of stage To began, in any direction.
type StageMoved struct {
	From        string `json:"from"` // a stage of the version pinned before
	To          string `json:"to"`   // a stage of PipelineVersion
	FromVisit   int    `json:"fromVisit"`
	ToVisit     int    `json:"toVisit"`     // FromVisit + 1
	Probability int    `json:"probability"` // usual for To, in percent
	Standing
	Amount *domain.Money `json:"amount,omitempty"` // estimated at entry
}

// EventType implements domain.Event.
func (StageMoved) EventType() string { return "opportunity.stage_moved" }

// ReEstimated says that the estimated value changed.
type ReEstimated struct {
	From   *domain.Money `json:"from,omitempty"` // nil when nobody had estimated
	To     domain.Money  `json:"to"`
	Reason string        `json:"reason,omitempty"`
	Standing
}

// EventType implements domain.Event.
func (ReEstimated) EventType() string { return "opportunity.re_estimated" }

// Rescheduled says that the expected close changed.
type Rescheduled struct {
	From   domain.Date `json:"from,omitempty"` // empty when there was none
	To     domain.Date `json:"to"`
	Reason string      `json:"reason,omitempty"`
}

// EventType implements domain.Event.
func (Rescheduled) EventType() string { return "opportunity.rescheduled" }

// LineAdded says that something was added to what is offered.
type LineAdded struct {
	Line
	LinesTotal domain.Money `json:"linesTotal"` // of all lines after the event
}

// EventType implements domain.Event.
func (LineAdded) EventType() string { return "opportunity.line_added" }

// LineChanged says that a line changed.
type LineChanged struct {
	From       Line         `json:"from"`
	To         Line         `json:"to"`         // the same number
	LinesTotal domain.Money `json:"linesTotal"` // of all lines after the event
}

// EventType implements domain.Event.
func (LineChanged) EventType() string { return "opportunity.line_changed" }

// LineRemoved says that a line was taken out.
type LineRemoved struct {
	Line                     // as it was
	LinesTotal *domain.Money `json:"linesTotal,omitempty"` // of all lines after the event; nil when none is left
}

// EventType implements domain.Event.
func (LineRemoved) EventType() string { return "opportunity.line_removed" }

// StakeholderAdded says that a contact has a say, or another role than before.
type StakeholderAdded struct {
	ContactID domain.ID `json:"contactId"`
	Role      string    `json:"role"`
	From      string    `json:"from,omitempty"` // the role before; empty for a new stakeholder
}

// EventType implements domain.Event.
func (StakeholderAdded) EventType() string { return "opportunity.stakeholder_added" }

// StakeholderRemoved says that a contact no longer has a say.
type StakeholderRemoved struct {
	ContactID domain.ID `json:"contactId"`
	Role      string    `json:"role"` // the last one
}

// EventType implements domain.Event.
func (StakeholderRemoved) EventType() string { return "opportunity.stakeholder_removed" }

// Assigned says that another owner works on the opportunity. Standing.Owner is the new one.
type Assigned struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason,omitempty"`
	Standing
	Amount *domain.Money `json:"amount,omitempty"` // estimated
}

// EventType implements domain.Event.
func (Assigned) EventType() string { return "opportunity.assigned" }

// CustomerLinked says that the customer was set or replaced. Standing.CustomerID is the new one.
type CustomerLinked struct {
	From   domain.ID `json:"from,omitempty"` // empty when there was none
	To     domain.ID `json:"to"`
	Status Status    `json:"status"`
	Standing
	Amount *domain.Money `json:"amount,omitempty"` // estimated; of the win when won
}

// EventType implements domain.Event.
func (CustomerLinked) EventType() string { return "opportunity.customer_linked" }

// Won says that the opportunity was closed as won, which ended the current visit.
type Won struct {
	Stage string `json:"stage"` // it was won from
	Visit int    `json:"visit"`
	Standing
	Amount   domain.Money  `json:"amount"`             // won
	Estimate *domain.Money `json:"estimate,omitempty"` // before the win; nil when nobody had estimated
	Note     string        `json:"note,omitempty"`
}

// EventType implements domain.Event.
func (Won) EventType() string { return "opportunity.won" }

// Lost says that the opportunity was closed as lost, which ended the current visit.
type Lost struct {
	Stage string `json:"stage"` // it was lost from
	Visit int    `json:"visit"`
	Standing
	Amount     *domain.Money `json:"amount,omitempty"` // estimated
	Reason     string        `json:"reason"`
	Competitor string        `json:"competitor,omitempty"`
	Note       string        `json:"note,omitempty"`
}

// EventType implements domain.Event.
func (Lost) EventType() string { return "opportunity.lost" }

// Reopened says that a win or a loss was taken back and that a new visit began.
type Reopened struct {
	From        Status `json:"from"`        // won or lost
	FromStage   string `json:"fromStage"`   // it was closed in
	FromVisit   int    `json:"fromVisit"`   // that the closing ended
	Stage       string `json:"stage"`       // it goes on in
	Visit       int    `json:"visit"`       // FromVisit + 1
	Probability int    `json:"probability"` // usual for Stage, in percent
	Standing
	Amount *domain.Money `json:"amount,omitempty"` // of the win that was taken back, or estimated; it stays the estimate
	Reason string        `json:"reason,omitempty"`
}

// EventType implements domain.Event.
func (Reopened) EventType() string { return "opportunity.reopened" }

var (
	exampleStanding = Standing{
		CustomerID: exampleCustomer, Owner: "mia.lindqvist", Region: "North", PipelineID: examplePipeline, PipelineVersion: 1,
	}
	exampleLine = Line{
		Number: 1, ProductCode: "GTX-PRO", ProductID: exampleProduct, Description: "Graphics card, 3 years of service",
		Quantity: exampleNumber("2"), UnitPrice: *exampleMoney("4821.00"), Total: exampleNumber("9642.00"),
	}
	exampleLine3 = Line{
		Number: 1, ProductCode: "GTX-PRO", ProductID: exampleProduct, Description: "Graphics card, 3 years of service",
		Quantity: exampleNumber("3"), UnitPrice: *exampleMoney("4821.00"), Total: exampleNumber("14463.00"),
	}
	exampleAssigned = Standing{
		CustomerID: exampleCustomer, Owner: "tom.okafor", Region: "North", PipelineID: examplePipeline, PipelineVersion: 1,
	}
)

var events = []domain.EventSpec{
	{Doc: "An opportunity started.", Example: Opened{
		Name: "Render farm for Nordlicht", Standing: exampleStanding, Stage: "prospecting", Visit: 1, Probability: 10,
		Source: "trade fair", ExternalID: "OPP-4711", Amount: exampleMoney("9642.00"), ExpectedClose: "2026-03-31",
		Lines: []Line{exampleLine},
	}},
	{Doc: "The description of an opportunity changed.", Example: Updated{
		From: Details{Name: "Render farm for Nordlicht", Region: "North", Source: "trade fair"},
		To:   Details{Name: "Render farm, second phase", Region: "West", Source: "trade fair"},
	}},
	{Doc: "An opportunity was scored.", Example: Qualified{From: new(40), Score: 70, Reason: "Budget approved; the board decides in March"}},
	{Doc: "An opportunity left one stage and entered another.", Example: StageMoved{
		From: "prospecting", To: "proposal", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: exampleStanding, Amount: exampleMoney("9642.00"),
	}},
	{Doc: "The estimated value of an opportunity changed.", Example: ReEstimated{
		From: exampleMoney("9642.00"), To: *exampleMoney("12000.00"), Reason: "Two more seats", Standing: exampleStanding,
	}},
	{Doc: "The expected close of an opportunity changed.", Example: Rescheduled{
		From: "2026-03-31", To: "2026-04-30", Reason: "Their fiscal year starts in April",
	}},
	{Doc: "A line was added to what is offered.", Example: LineAdded{Line: exampleLine, LinesTotal: *exampleMoney("9642.00")}},
	{Doc: "A line of what is offered changed.", Example: LineChanged{From: exampleLine, To: exampleLine3, LinesTotal: *exampleMoney("14463.00")}},
	{Doc: "A line was taken out of what is offered.", Example: LineRemoved{Line: exampleLine3, LinesTotal: exampleMoney("550.00")}},
	{Doc: "A contact has a say in an opportunity.", Example: StakeholderAdded{ContactID: exampleContact, Role: "decider", From: "influencer"}},
	{Doc: "A contact no longer has a say in an opportunity.", Example: StakeholderRemoved{ContactID: exampleContact, Role: "decider"}},
	{Doc: "An opportunity has another owner.", Example: Assigned{
		From: "mia.lindqvist", To: "tom.okafor", Reason: "Territory change", Standing: exampleAssigned, Amount: exampleMoney("12000.00"),
	}},
	{Doc: "The customer of an opportunity was set or replaced.", Example: CustomerLinked{
		From: "0198c0de-0000-7000-8000-000000000009", To: exampleCustomer, Status: StatusOpen, Standing: exampleStanding, Amount: exampleMoney("12000.00"),
	}},
	{Doc: "An opportunity was won.", Example: Won{
		Stage: "negotiation", Visit: 3, Standing: exampleStanding, Amount: *exampleMoney("11500.00"), Estimate: exampleMoney("12000.00"), Note: "Delivery time",
	}},
	{Doc: "An opportunity was lost.", Example: Lost{
		Stage: "negotiation", Visit: 3, Standing: exampleStanding, Amount: exampleMoney("12000.00"), Reason: "price",
		Competitor: "Polarstern AB", Note: "They asked for a rebate we do not give",
	}},
	{Doc: "A win or a loss was taken back.", Example: Reopened{
		From: StatusLost, FromStage: "negotiation", FromVisit: 3, Stage: "negotiation", Visit: 4, Probability: 75, Standing: exampleStanding,
		Amount: exampleMoney("12000.00"), Reason: "The budget was restored",
	}},
}
