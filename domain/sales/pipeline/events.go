package pipeline

import "github.com/rapport-crm/rapport/domain"

// Stage is one step of a pipeline's version, on the way to won or lost.
type Stage struct {
	Key         string `json:"key" doc:"Permanent name of the stage in events and reports; not won or lost." example:"proposal" pattern:"^[a-z][a-z0-9_-]{0,39}$"`
	Name        string `json:"name" doc:"What people call the stage." example:"Proposal" minLength:"1" maxLength:"100"`
	Probability int    `json:"probability" doc:"Usual probability of winning from here, in percent." example:"40" minimum:"0" maximum:"100"`
}

// Mapping says where a stage of one version went in the next.
type Mapping struct {
	From string `json:"from" doc:"Stage key of the old version." example:"proposal" minLength:"1" maxLength:"40"`
	To   string `json:"to,omitempty" doc:"Stage key of the new version; empty when the stage has no successor." example:"quotation" required:"false" maxLength:"40"`
}

// Defined says that a pipeline was created, with its version 1.
type Defined struct {
	Name    string  `json:"name" doc:"What the pipeline is called."`
	Version int     `json:"version" doc:"Number of the version: 1."`
	Stages  []Stage `json:"stages" doc:"The stages in their usual order."`
}

// EventType implements domain.Event.
func (Defined) EventType() string { return "pipeline.defined" }

// HoldsFromTheStart implements domain.FromTheStart.
func (Defined) HoldsFromTheStart() {}

// Revised says that a new version replaced the stages. It carries the whole version.
type Revised struct {
	Name    string    `json:"name" doc:"What the pipeline is called now."`
	Version int       `json:"version" doc:"Number of the version, one more than before."`
	Stages  []Stage   `json:"stages" doc:"The stages in their usual order."`
	Mapping []Mapping `json:"mapping" doc:"Where every stage of the version before went, in its order."`
}

// EventType implements domain.Event.
func (Revised) EventType() string { return "pipeline.revised" }

// Retired says that no new opportunity may enter the pipeline.
type Retired struct {
	Name    string `json:"name" doc:"What the pipeline is called."`
	Version int    `json:"version" doc:"Number of its last version."`
}

// EventType implements domain.Event.
func (Retired) EventType() string { return "pipeline.retired" }

var (
	exampleStages = []Stage{
		{Key: "needs", Name: "Needs study", Probability: 10},
		{Key: "proposal", Name: "Proposal", Probability: 40},
		{Key: "negotiation", Name: "Negotiation", Probability: 75},
	}
	exampleRevised = []Stage{
		{Key: "needs", Name: "Needs study", Probability: 10},
		{Key: "quotation", Name: "Quotation", Probability: 50},
		{Key: "negotiation", Name: "Negotiation", Probability: 75},
	}
)

var events = []domain.EventSpec{
	{Doc: "A pipeline was created with its first version.", Words: domain.Words{
		En: "Pipeline “{name}” defined with {stages|stage|stages}",
		Zh: "销售流程“{name}”已定义，共{stages}个阶段",
	}, Example: Defined{Name: "New business", Version: 1, Stages: exampleStages}},
	{Doc: "A new version replaced the stages of a pipeline.", Words: domain.Words{
		En: "Pipeline “{name}” revised to version {version} with {stages|stage|stages}",
		Zh: "销售流程“{name}”修订为第{version}版，共{stages}个阶段",
	}, Example: Revised{
		Name: "New business", Version: 2, Stages: exampleRevised,
		Mapping: []Mapping{{From: "needs", To: "needs"}, {From: "proposal", To: "quotation"}, {From: "negotiation", To: "negotiation"}},
	}},
	{Doc: "A pipeline takes no new opportunities.", Words: domain.Words{
		En: "Pipeline “{name}” retired in version {version}",
		Zh: "销售流程“{name}”已停用，最后为第{version}版",
	}, Example: Retired{Name: "New business", Version: 2}},
}
