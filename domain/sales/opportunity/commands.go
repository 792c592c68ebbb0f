package opportunity

import "github.com/rapport-crm/rapport/domain"

// PipelineFacts is the pipeline of an opportunity as it stands when a command is decided. The command handler brings it;
// the event pins its version.
type PipelineFacts struct {
	ID      domain.ID
	Version int
	Retired bool // it takes no new opportunities
	Stages  []StageFacts
}

// StageFacts is one stage of PipelineFacts, in the pipeline's order.
type StageFacts struct {
	Key         string
	Probability int // percent
}

// NewLine is a line of an opportunity before it has a number.
type NewLine struct {
	ProductCode string        `json:"productCode" doc:"Code of the product offered." example:"GTX-PRO" minLength:"1" maxLength:"64"`
	ProductID   domain.ID     `json:"productId,omitempty" doc:"The product of the catalogue, when it is one." example:"0198c0de-0000-7000-8000-000000000003" required:"false" format:"uuid"`
	Description string        `json:"description,omitempty" doc:"What is offered, in words." example:"Graphics card, 3 years of service" required:"false" maxLength:"500"`
	Quantity    domain.Amount `json:"quantity" doc:"How many units; more than 0." example:"2"`
	UnitPrice   domain.Money  `json:"unitPrice" doc:"Price of one unit, 0 or more; all lines have one currency."`
}

// Open starts an opportunity in a stage of a pipeline.
type Open struct {
	domain.When
	Name          string        `json:"name" doc:"What it is about." example:"Render farm for Nordlicht" minLength:"1" maxLength:"200"`
	CustomerID    domain.ID     `json:"customerId,omitempty" doc:"The customer; may be linked later." example:"0198c0de-0000-7000-8000-000000000001" required:"false" format:"uuid"`
	PipelineID    domain.ID     `json:"pipelineId,omitempty" doc:"The pipeline; the default one when left out." example:"0198c0de-0000-7000-8000-000000000002" required:"false" format:"uuid"`
	Stage         string        `json:"stage,omitempty" doc:"Key of the stage it starts in; the pipeline's first when left out." example:"prospecting" required:"false" maxLength:"40"`
	Owner         string        `json:"owner" doc:"User name of who works on it." example:"mia.lindqvist" minLength:"1" maxLength:"200"`
	Region        string        `json:"region,omitempty" doc:"Sales region or territory, for reports." example:"North" required:"false" maxLength:"100"`
	Source        string        `json:"source,omitempty" doc:"Where it came from." example:"trade fair" required:"false" maxLength:"100"`
	ExternalID    string        `json:"externalId,omitempty" doc:"Its key in the system it was imported from." example:"OPP-4711" required:"false" maxLength:"100"`
	Amount        *domain.Money `json:"amount,omitempty" doc:"Estimated value, 0 or more." required:"false"`
	ExpectedClose domain.Date   `json:"expectedClose,omitempty" doc:"Day on which it should be won." example:"2026-03-31" required:"false" format:"date"`
	Lines         []NewLine     `json:"lines,omitempty" doc:"What is offered." required:"false" maxItems:"500"`

	Pipeline PipelineFacts `json:"-"` // of PipelineID
}

// CommandType implements domain.Command.
func (Open) CommandType() string { return "opportunity.open" }

// Update changes what describes an open opportunity. A field left out stays as it is; an empty one is cleared.
type Update struct {
	domain.When
	Name   *string `json:"name,omitempty" doc:"New name." example:"Render farm, second phase" required:"false" minLength:"1" maxLength:"200"`
	Region *string `json:"region,omitempty" doc:"New region; empty clears it." example:"West" required:"false" maxLength:"100"`
	Source *string `json:"source,omitempty" doc:"New source; empty clears it." example:"partner" required:"false" maxLength:"100"`
}

// CommandType implements domain.Command.
func (Update) CommandType() string { return "opportunity.update" }

// Qualify records how promising the opportunity is.
type Qualify struct {
	domain.When
	Score  int    `json:"score" doc:"How promising it is, 0 to 100." example:"70" minimum:"0" maximum:"100"`
	Reason string `json:"reason" doc:"What the score rests on: urgency, budget, who decides." example:"Budget approved; the board decides in March" minLength:"1" maxLength:"2000"`
}

// CommandType implements domain.Command.
func (Qualify) CommandType() string { return "opportunity.qualify" }

// MoveStage moves an open opportunity to any stage of its pipeline: forward, skipping stages, or back.
type MoveStage struct {
	domain.When
	Stage string `json:"stage" doc:"Key of the stage to move to." example:"proposal" minLength:"1" maxLength:"40"`

	Pipeline PipelineFacts `json:"-"` // of the opportunity's PipelineID
}

// CommandType implements domain.Command.
func (MoveStage) CommandType() string { return "opportunity.move_stage" }

// ReEstimate changes the estimated value.
type ReEstimate struct {
	domain.When
	Amount domain.Money `json:"amount" doc:"New estimated value, 0 or more."`
	Reason string       `json:"reason,omitempty" doc:"Why it changed." example:"Two more seats" required:"false" maxLength:"500"`
}

// CommandType implements domain.Command.
func (ReEstimate) CommandType() string { return "opportunity.re_estimate" }

// Reschedule changes the expected close.
type Reschedule struct {
	domain.When
	ExpectedClose domain.Date `json:"expectedClose" doc:"Day on which it should be won now." example:"2026-04-30" format:"date"`
	Reason        string      `json:"reason,omitempty" doc:"Why it changed." example:"Their fiscal year starts in April" required:"false" maxLength:"500"`
}

// CommandType implements domain.Command.
func (Reschedule) CommandType() string { return "opportunity.reschedule" }

// AddLine adds something to what is offered. It leaves the estimated value alone.
type AddLine struct {
	domain.When
	NewLine
}

// CommandType implements domain.Command.
func (AddLine) CommandType() string { return "opportunity.add_line" }

// ChangeLine changes quantity, price or description of a line. A field left out stays as it is.
type ChangeLine struct {
	domain.When
	Line        int            `json:"line" doc:"Number of the line." example:"1" minimum:"1"`
	Description *string        `json:"description,omitempty" doc:"New description; empty clears it." example:"Graphics card" required:"false" maxLength:"500"`
	Quantity    *domain.Amount `json:"quantity,omitempty" doc:"New quantity; more than 0." example:"3" required:"false"`
	UnitPrice   *domain.Money  `json:"unitPrice,omitempty" doc:"New price of one unit, 0 or more." required:"false"`
}

// CommandType implements domain.Command.
func (ChangeLine) CommandType() string { return "opportunity.change_line" }

// RemoveLine takes a line out of what is offered.
type RemoveLine struct {
	domain.When
	Line int `json:"line" doc:"Number of the line." example:"1" minimum:"1"`
}

// CommandType implements domain.Command.
func (RemoveLine) CommandType() string { return "opportunity.remove_line" }

// AddStakeholder names a contact that has a say, or changes the role of one.
type AddStakeholder struct {
	domain.When
	ContactID domain.ID `json:"contactId" doc:"The contact." example:"0198c0de-0000-7000-8000-000000000004" format:"uuid"`
	Role      Role      `json:"role" doc:"Part that the contact plays." example:"decider" enum:"decider,influencer,user,buyer,champion,other"`
}

// CommandType implements domain.Command.
func (AddStakeholder) CommandType() string { return "opportunity.add_stakeholder" }

// RemoveStakeholder ends the part of a contact; the history stays.
type RemoveStakeholder struct {
	domain.When
	ContactID domain.ID `json:"contactId" doc:"The contact." example:"0198c0de-0000-7000-8000-000000000004" format:"uuid"`
}

// CommandType implements domain.Command.
func (RemoveStakeholder) CommandType() string { return "opportunity.remove_stakeholder" }

// Assign gives an open opportunity to another owner.
type Assign struct {
	domain.When
	Owner  string `json:"owner" doc:"User name of the new owner." example:"tom.okafor" minLength:"1" maxLength:"200"`
	Reason string `json:"reason,omitempty" doc:"Why it changes hands." example:"Territory change" required:"false" maxLength:"500"`
}

// CommandType implements domain.Command.
func (Assign) CommandType() string { return "opportunity.assign" }

// LinkCustomer sets or replaces the customer; a closed opportunity accepts it too, as when the account was missing.
type LinkCustomer struct {
	domain.When
	CustomerID domain.ID `json:"customerId" doc:"The customer." example:"0198c0de-0000-7000-8000-000000000001" format:"uuid"`
}

// CommandType implements domain.Command.
func (LinkCustomer) CommandType() string { return "opportunity.link_customer" }

// Win closes an open opportunity as won.
type Win struct {
	domain.When
	Amount *domain.Money `json:"amount,omitempty" doc:"Value won; the estimated one when left out." required:"false"`
	Note   string        `json:"note,omitempty" doc:"What decided it." example:"Delivery time" required:"false" maxLength:"2000"`
}

// CommandType implements domain.Command.
func (Win) CommandType() string { return "opportunity.win" }

// Lose closes an open opportunity as lost. It needs no amount.
type Lose struct {
	domain.When
	Reason     LossReason `json:"reason" doc:"Why it was lost." example:"price" enum:"price,competitor,product-fit,timing,no-budget,no-decision,no-contact,other,unknown"`
	Competitor string     `json:"competitor,omitempty" doc:"Who won it instead." example:"Polarstern AB" required:"false" maxLength:"200"`
	Note       string     `json:"note,omitempty" doc:"The story behind the reason." example:"They asked for a rebate we do not give" required:"false" maxLength:"2000"`
}

// CommandType implements domain.Command.
func (Lose) CommandType() string { return "opportunity.lose" }

// Reopen takes back a win or a loss.
type Reopen struct {
	domain.When
	Stage  string `json:"stage,omitempty" doc:"Key of the stage it goes on in; the one it was closed in when left out." example:"negotiation" required:"false" maxLength:"40"`
	Reason string `json:"reason,omitempty" doc:"Why it goes on." example:"The budget was restored" required:"false" maxLength:"500"`

	Pipeline PipelineFacts `json:"-"` // of the opportunity's PipelineID
}

// CommandType implements domain.Command.
func (Reopen) CommandType() string { return "opportunity.reopen" }

// Invented identifiers of the examples.
const (
	exampleCustomer domain.ID = "0198c0de-0000-7000-8000-000000000001"
	examplePipeline domain.ID = "0198c0de-0000-7000-8000-000000000002"
	exampleProduct  domain.ID = "0198c0de-0000-7000-8000-000000000003"
	exampleContact  domain.ID = "0198c0de-0000-7000-8000-000000000004"
)

var exampleNewLine = NewLine{
	ProductCode: "GTX-PRO", ProductID: exampleProduct, Description: "Graphics card, 3 years of service",
	Quantity: exampleNumber("2"), UnitPrice: *exampleMoney("4821.00"),
}

var commands = []domain.CommandSpec{
	{Creates: true, Doc: "Starts an opportunity.", Example: Open{
		Name: "Render farm for Nordlicht", CustomerID: exampleCustomer, Stage: "prospecting",
		Owner: "mia.lindqvist", Region: "North", Source: "trade fair", ExternalID: "OPP-4711", Amount: exampleMoney("9642.00"),
		ExpectedClose: "2026-03-31", Lines: []NewLine{exampleNewLine},
	}},
	{Doc: "Changes name, region or source of an open opportunity.", Example: Update{Name: new("Render farm, second phase"), Region: new("West")}},
	{Doc: "Scores how promising an opportunity is.", Example: Qualify{Score: 70, Reason: "Budget approved; the board decides in March"}},
	{Doc: "Moves an open opportunity to another stage of its pipeline, in any direction.", Example: MoveStage{Stage: "proposal"}},
	{Doc: "Changes the estimated value of an open opportunity.", Example: ReEstimate{Amount: *exampleMoney("12000.00"), Reason: "Two more seats"}},
	{Doc: "Changes the day on which an open opportunity should be won.", Example: Reschedule{ExpectedClose: "2026-04-30", Reason: "Their fiscal year starts in April"}},
	{Doc: "Adds a line to what is offered.", Example: AddLine{NewLine: exampleNewLine}},
	{Doc: "Changes a line of what is offered.", Example: ChangeLine{Line: 1, Quantity: new(exampleNumber("3"))}},
	{Doc: "Takes a line out of what is offered.", Example: RemoveLine{Line: 1}},
	{Doc: "Names a contact that has a say in the opportunity, or changes its role.", Example: AddStakeholder{ContactID: exampleContact, Role: "decider"}},
	{Doc: "Ends the part of a contact in the opportunity.", Example: RemoveStakeholder{ContactID: exampleContact}},
	{Doc: "Gives an open opportunity to another owner.", Example: Assign{Owner: "tom.okafor", Reason: "Territory change"}},
	{Doc: "Sets or replaces the customer of an opportunity.", Example: LinkCustomer{CustomerID: exampleCustomer}},
	{Doc: "Closes an open opportunity as won; it needs an amount.", Example: Win{Amount: exampleMoney("11500.00"), Note: "Delivery time"}},
	{Doc: "Closes an open opportunity as lost.", Example: Lose{Reason: "price", Competitor: "Polarstern AB", Note: "They asked for a rebate we do not give"}},
	{Doc: "Takes back a win or a loss.", Example: Reopen{Stage: "negotiation", Reason: "The budget was restored"}},
}

func exampleMoney(amount string) *domain.Money { return new(domain.MustMoney(amount, "EUR")) }

func exampleNumber(s string) domain.Amount { return domain.MustMoney(s, "EUR").Amount }
