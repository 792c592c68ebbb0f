package opportunity

import "github.com/rapport-crm/rapport/domain"

// Standing is how the opportunity stands after an event, beside what the event is about: what reports per customer,
// owner, region and pipeline need without a look-up.
type Standing struct {
	CustomerID      domain.ID `json:"customerId,omitempty" doc:"The customer; absent while none is linked."`
	Owner           string    `json:"owner" doc:"User name of who works on it."`
	Region          string    `json:"region,omitempty" doc:"Sales region or territory."`
	PipelineID      domain.ID `json:"pipelineId" doc:"The pipeline it goes through."`
	PipelineVersion int       `json:"pipelineVersion" doc:"Version of the pipeline that validated the last stage change."`
}

// Line is one thing offered. Numbers are given once, from 1, and never again.
type Line struct {
	Number      int           `json:"line" doc:"Number of the line; given once, never again."`
	ProductCode string        `json:"productCode" doc:"Code of the product offered."`
	ProductID   domain.ID     `json:"productId,omitempty" doc:"The product of the catalogue; absent when it is none."`
	Description string        `json:"description,omitempty" doc:"What is offered, in words."`
	Quantity    domain.Amount `json:"quantity" doc:"How many units."`
	UnitPrice   domain.Money  `json:"unitPrice" doc:"Price of one unit."`
	Total       domain.Amount `json:"total" doc:"Quantity times unit price, exact, in the currency of the price."`
}

// Opened says that an opportunity started. It is in its first visit of a stage.
type Opened struct {
	Name string `json:"name" doc:"What it is about."`
	Standing
	Stage         string        `json:"stage" doc:"Key of the stage it starts in."`
	Visit         int           `json:"visit" doc:"Number of its first visit of a stage: 1."`
	Probability   int           `json:"probability" doc:"Usual probability of winning from the stage, in percent."`
	Source        string        `json:"source,omitempty" doc:"Where it came from."`
	ExternalID    string        `json:"externalId,omitempty" doc:"Its key in the system it was imported from."`
	Amount        *domain.Money `json:"amount,omitempty" doc:"Estimated value; absent when nobody estimated."`
	ExpectedClose domain.Date   `json:"expectedClose,omitempty" doc:"Day on which it should be won."`
	Lines         []Line        `json:"lines,omitempty" doc:"What is offered."`
}

// EventType implements domain.Event.
func (Opened) EventType() string { return "opportunity.opened" }

// Details is what describes an opportunity.
type Details struct {
	Name   string `json:"name" doc:"What it is about."`
	Region string `json:"region,omitempty" doc:"Sales region or territory."`
	Source string `json:"source,omitempty" doc:"Where it came from."`
}

// Updated says that the description changed.
type Updated struct {
	From Details `json:"from" doc:"The description before."`
	To   Details `json:"to" doc:"The description after."`
}

// EventType implements domain.Event.
func (Updated) EventType() string { return "opportunity.updated" }

// Qualified says that somebody scored the opportunity.
type Qualified struct {
	From   *int   `json:"from,omitempty" doc:"The score before; absent for the first."`
	Score  int    `json:"score" doc:"How promising it is, 0 to 100."`
	Reason string `json:"reason" doc:"What the score rests on."`
}

// EventType implements domain.Event.
func (Qualified) EventType() string { return "opportunity.qualified" }

// StageMoved says that the visit FromVisit of stage From ended and the visit ToVisit of stage To began, in any direction.
type StageMoved struct {
	From        string `json:"from" doc:"Key of the stage it left; of the version pinned before."`
	To          string `json:"to" doc:"Key of the stage it entered; of pipelineVersion."`
	FromVisit   int    `json:"fromVisit" doc:"Number of the visit that ended."`
	ToVisit     int    `json:"toVisit" doc:"Number of the visit that began, one more."`
	Probability int    `json:"probability" doc:"Usual probability of winning from the stage entered, in percent."`
	Standing
	Amount *domain.Money `json:"amount,omitempty" doc:"Estimated value at entry; absent when nobody estimated."`
}

// EventType implements domain.Event.
func (StageMoved) EventType() string { return "opportunity.stage_moved" }

// ReEstimated says that the estimated value changed.
type ReEstimated struct {
	From   *domain.Money `json:"from,omitempty" doc:"Estimated value before; absent when nobody had estimated."`
	To     domain.Money  `json:"to" doc:"Estimated value now."`
	Reason string        `json:"reason,omitempty" doc:"Why it changed."`
	Standing
}

// EventType implements domain.Event.
func (ReEstimated) EventType() string { return "opportunity.re_estimated" }

// Rescheduled says that the expected close changed.
type Rescheduled struct {
	From   domain.Date `json:"from,omitempty" doc:"Expected close before; absent when there was none."`
	To     domain.Date `json:"to" doc:"Expected close now."`
	Reason string      `json:"reason,omitempty" doc:"Why it changed."`
}

// EventType implements domain.Event.
func (Rescheduled) EventType() string { return "opportunity.rescheduled" }

// LineAdded says that something was added to what is offered.
type LineAdded struct {
	Line
	LinesTotal domain.Money `json:"linesTotal" doc:"Sum of all lines after the event."`
}

// EventType implements domain.Event.
func (LineAdded) EventType() string { return "opportunity.line_added" }

// LineChanged says that a line changed.
type LineChanged struct {
	From       Line         `json:"from" doc:"The line before."`
	To         Line         `json:"to" doc:"The line now, with the same number."`
	LinesTotal domain.Money `json:"linesTotal" doc:"Sum of all lines after the event."`
}

// EventType implements domain.Event.
func (LineChanged) EventType() string { return "opportunity.line_changed" }

// LineRemoved says that a line was taken out.
type LineRemoved struct {
	Line                     // as it was
	LinesTotal *domain.Money `json:"linesTotal,omitempty" doc:"Sum of all lines after the event; absent when none is left."`
}

// EventType implements domain.Event.
func (LineRemoved) EventType() string { return "opportunity.line_removed" }

// StakeholderAdded says that a contact has a say, or another role than before.
type StakeholderAdded struct {
	ContactID domain.ID `json:"contactId" doc:"The contact."`
	Role      Role      `json:"role" doc:"The part that the contact plays."`
	From      Role      `json:"from,omitempty" doc:"The part it played before; absent for a new stakeholder."`
}

// EventType implements domain.Event.
func (StakeholderAdded) EventType() string { return "opportunity.stakeholder_added" }

// StakeholderRemoved says that a contact no longer has a say.
type StakeholderRemoved struct {
	ContactID domain.ID `json:"contactId" doc:"The contact."`
	Role      Role      `json:"role" doc:"The part it played last."`
}

// EventType implements domain.Event.
func (StakeholderRemoved) EventType() string { return "opportunity.stakeholder_removed" }

// Assigned says that another owner works on the opportunity. Standing.Owner is the new one.
type Assigned struct {
	From   string `json:"from" doc:"User name of the owner before."`
	To     string `json:"to" doc:"User name of the owner now."`
	Reason string `json:"reason,omitempty" doc:"Why it changed hands."`
	Standing
	Amount *domain.Money `json:"amount,omitempty" doc:"Estimated value; absent when nobody estimated."`
}

// EventType implements domain.Event.
func (Assigned) EventType() string { return "opportunity.assigned" }

// CustomerLinked says that the customer was set or replaced. Standing.CustomerID is the new one.
type CustomerLinked struct {
	From   domain.ID `json:"from,omitempty" doc:"The customer before; absent when there was none."`
	To     domain.ID `json:"to" doc:"The customer now."`
	Status Status    `json:"status" doc:"Open, won or lost at the time."`
	Standing
	Amount *domain.Money `json:"amount,omitempty" doc:"Estimated value, or the value won."`
}

// EventType implements domain.Event.
func (CustomerLinked) EventType() string { return "opportunity.customer_linked" }

// Won says that the opportunity was closed as won, which ended the current visit.
type Won struct {
	Stage string `json:"stage" doc:"Key of the stage it was won from."`
	Visit int    `json:"visit" doc:"Number of the visit that the win ended."`
	Standing
	Amount   domain.Money  `json:"amount" doc:"Value won."`
	Estimate *domain.Money `json:"estimate,omitempty" doc:"Estimated value before the win; absent when nobody had estimated."`
	Note     string        `json:"note,omitempty" doc:"What decided it."`
}

// EventType implements domain.Event.
func (Won) EventType() string { return "opportunity.won" }

// Lost says that the opportunity was closed as lost, which ended the current visit.
type Lost struct {
	Stage string `json:"stage" doc:"Key of the stage it was lost from."`
	Visit int    `json:"visit" doc:"Number of the visit that the loss ended."`
	Standing
	Amount     *domain.Money `json:"amount,omitempty" doc:"Estimated value; absent when nobody estimated."`
	Reason     LossReason    `json:"reason" doc:"Why it was lost."`
	Competitor string        `json:"competitor,omitempty" doc:"Who won it instead."`
	Note       string        `json:"note,omitempty" doc:"The story behind the reason."`
}

// EventType implements domain.Event.
func (Lost) EventType() string { return "opportunity.lost" }

// Reopened says that a win or a loss was taken back and that a new visit began.
type Reopened struct {
	From        Status `json:"from" doc:"What was taken back: won or lost."`
	FromStage   string `json:"fromStage" doc:"Key of the stage it was closed in."`
	FromVisit   int    `json:"fromVisit" doc:"Number of the visit that the closing had ended."`
	Stage       string `json:"stage" doc:"Key of the stage it goes on in."`
	Visit       int    `json:"visit" doc:"Number of the visit that began, one more."`
	Probability int    `json:"probability" doc:"Usual probability of winning from the stage, in percent."`
	Standing
	Amount *domain.Money `json:"amount,omitempty" doc:"Value of the win that was taken back, or the estimate; it is the estimate now."`
	Reason string        `json:"reason,omitempty" doc:"Why it goes on."`
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
	{Doc: "An opportunity started.", Words: domain.Words{
		En: "Opportunity “{name}” opened in stage {stage}[, estimated at {amount}]",
		Zh: "商机“{name}”在阶段{stage}开启[，估值{amount}]",
	}, Example: Opened{
		Name: "Render farm for Nordlicht", Standing: exampleStanding, Stage: "prospecting", Visit: 1, Probability: 10,
		Source: "trade fair", ExternalID: "OPP-4711", Amount: exampleMoney("9642.00"), ExpectedClose: "2026-03-31",
		Lines: []Line{exampleLine},
	}},
	{Doc: "The description of an opportunity changed.", Words: domain.Words{
		En: "Opportunity described anew: “{to.name}”[, region {to.region}][, source {to.source}]",
		Zh: "商机描述已更新：“{to.name}”[，区域{to.region}][，来源{to.source}]",
	}, Example: Updated{
		From: Details{Name: "Render farm for Nordlicht", Region: "North", Source: "trade fair"},
		To:   Details{Name: "Render farm, second phase", Region: "West", Source: "trade fair"},
	}},
	{Doc: "An opportunity was scored.", Words: domain.Words{
		En: "Opportunity scored {score}: “{reason}”",
		Zh: "商机评分{score}：“{reason}”",
	}, Example: Qualified{From: new(40), Score: 70, Reason: "Budget approved; the board decides in March"}},
	{Doc: "An opportunity left one stage and entered another.", Words: domain.Words{
		En: "Opportunity moved from stage {from} to {to}[, estimated at {amount}]",
		Zh: "商机由阶段{from}转到{to}[，估值{amount}]",
	}, Example: StageMoved{
		From: "prospecting", To: "proposal", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: exampleStanding, Amount: exampleMoney("9642.00"),
	}},
	{Doc: "The estimated value of an opportunity changed.", Words: domain.Words{
		En: "Opportunity estimated at {to}[, before {from}][: “{reason}”]",
		Zh: "商机估值为{to}[，原为{from}][：“{reason}”]",
	}, Example: ReEstimated{
		From: exampleMoney("9642.00"), To: *exampleMoney("12000.00"), Reason: "Two more seats", Standing: exampleStanding,
	}},
	{Doc: "The expected close of an opportunity changed.", Words: domain.Words{
		En: "Opportunity expected to close on {to}[, before {from}][: “{reason}”]",
		Zh: "商机预计于{to}成交[，原为{from}][：“{reason}”]",
	}, Example: Rescheduled{
		From: "2026-03-31", To: "2026-04-30", Reason: "Their fiscal year starts in April",
	}},
	{Doc: "A line was added to what is offered.", Words: domain.Words{
		En: "Offered {quantity} of {productCode} at {unitPrice}",
		Zh: "报出{productCode}，数量{quantity}，单价{unitPrice}",
	}, Example: LineAdded{Line: exampleLine, LinesTotal: *exampleMoney("9642.00")}},
	{Doc: "A line of what is offered changed.", Words: domain.Words{
		En: "Offered {to.quantity} of {to.productCode} at {to.unitPrice}, before {from.quantity} of {from.productCode} at {from.unitPrice}",
		Zh: "报出{to.productCode}，数量{to.quantity}，单价{to.unitPrice}；原为{from.productCode}，数量{from.quantity}，单价{from.unitPrice}",
	}, Example: LineChanged{From: exampleLine, To: exampleLine3, LinesTotal: *exampleMoney("14463.00")}},
	{Doc: "A line was taken out of what is offered.", Words: domain.Words{
		En: "No longer offered: {quantity} of {productCode}",
		Zh: "不再报出{productCode}，数量{quantity}",
	}, Example: LineRemoved{Line: exampleLine3, LinesTotal: exampleMoney("550.00")}},
	{Doc: "A contact has a say in an opportunity.", Words: domain.Words{
		En: "Contact {contactId} is {role} of the opportunity[, before {from}]",
		Zh: "联系人{contactId}在商机中担任{role}[，原为{from}]",
	}, Example: StakeholderAdded{ContactID: exampleContact, Role: "decider", From: "influencer"}},
	{Doc: "A contact no longer has a say in an opportunity.", Words: domain.Words{
		En: "Contact {contactId} is {role} of the opportunity no longer",
		Zh: "联系人{contactId}在商机中不再担任{role}",
	}, Example: StakeholderRemoved{ContactID: exampleContact, Role: "decider"}},
	{Doc: "An opportunity has another owner.", Words: domain.Words{
		En: "Opportunity handed over from {from} to {to}[: “{reason}”]",
		Zh: "商机由{from}移交给{to}[：“{reason}”]",
	}, Example: Assigned{
		From: "mia.lindqvist", To: "tom.okafor", Reason: "Territory change", Standing: exampleAssigned, Amount: exampleMoney("12000.00"),
	}},
	{Doc: "The customer of an opportunity was set or replaced.", Words: domain.Words{
		En: "Opportunity belongs to customer {to}[, before {from}]",
		Zh: "商机属于客户{to}[，原属于{from}]",
	}, Example: CustomerLinked{
		From: "0198c0de-0000-7000-8000-000000000009", To: exampleCustomer, Status: StatusOpen, Standing: exampleStanding, Amount: exampleMoney("12000.00"),
	}},
	{Doc: "An opportunity was won.", Words: domain.Words{
		En: "Opportunity won at {amount} from stage {stage}[: “{note}”]",
		Zh: "商机在阶段{stage}赢单，金额{amount}[：“{note}”]",
	}, Example: Won{
		Stage: "negotiation", Visit: 3, Standing: exampleStanding, Amount: *exampleMoney("11500.00"), Estimate: exampleMoney("12000.00"), Note: "Delivery time",
	}},
	{Doc: "An opportunity was lost.", Words: domain.Words{
		En: "Opportunity lost from stage {stage} because of “{reason}”[ to {competitor}][: “{note}”]",
		Zh: "商机在阶段{stage}丢单，原因“{reason}”[，输给{competitor}][：“{note}”]",
	}, Example: Lost{
		Stage: "negotiation", Visit: 3, Standing: exampleStanding, Amount: exampleMoney("12000.00"), Reason: "price",
		Competitor: "Polarstern AB", Note: "They asked for a rebate we do not give",
	}},
	{Doc: "A win or a loss was taken back.", Words: domain.Words{
		En: "Opportunity reopened in stage {stage} after it was {from}[: “{reason}”]",
		Zh: "商机在{from}后于阶段{stage}重新开启[：“{reason}”]",
	}, Example: Reopened{
		From: StatusLost, FromStage: "negotiation", FromVisit: 3, Stage: "negotiation", Visit: 4, Probability: 75, Standing: exampleStanding,
		Amount: exampleMoney("12000.00"), Reason: "The budget was restored",
	}},
}
