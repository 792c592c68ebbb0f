package pipeline

import "github.com/rapport-crm/rapport/domain"

// Define creates a pipeline with its first version.
type Define struct {
	domain.When
	Name   string  `json:"name" doc:"What the pipeline is called." example:"New business" minLength:"1" maxLength:"100"`
	Stages []Stage `json:"stages" doc:"The stages in their usual order; won and lost are outcomes, not stages." minItems:"1" maxItems:"50"`
}

// CommandType implements domain.Command.
func (Define) CommandType() string { return "pipeline.define" }

// Revise replaces the stages by a new version. What was recorded under older versions keeps its stage keys; the mapping
// tells reports how to carry them over.
type Revise struct {
	domain.When
	Name    *string   `json:"name,omitempty" doc:"New name; left out, the name stays." example:"New business 2027" required:"false" minLength:"1" maxLength:"100"`
	Stages  []Stage   `json:"stages" doc:"All stages of the new version in their usual order." minItems:"1" maxItems:"50"`
	Mapping []Mapping `json:"mapping,omitempty" doc:"Where stages of the old version went. A stage of both versions maps to itself unless it stands here; an old stage that is neither kept nor mapped stays unmapped." required:"false" maxItems:"50"`
}

// CommandType implements domain.Command.
func (Revise) CommandType() string { return "pipeline.revise" }

// Retire ends the use of a pipeline for new opportunities; those in it go on.
type Retire struct {
	domain.When
}

// CommandType implements domain.Command.
func (Retire) CommandType() string { return "pipeline.retire" }

var commands = []domain.CommandSpec{
	{Creates: true, Doc: "Creates a pipeline with its stages.", Example: Define{Name: "New business", Stages: exampleStages}},
	{Doc: "Replaces the stages of a pipeline by a new version.", Example: Revise{
		Stages: exampleRevised, Mapping: []Mapping{{From: "proposal", To: "quotation"}},
	}},
	{Doc: "Ends the use of a pipeline for new opportunities.", Example: Retire{}},
}
