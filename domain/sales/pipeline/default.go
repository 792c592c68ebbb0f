package pipeline

import "github.com/rapport-crm/rapport/domain"

// The pipeline that works without any configuration. Starting on an empty store submits Default() with the key DefaultKey
// for the id DefaultID; an opportunity opened without a pipeline enters it.
const (
	DefaultID  domain.ID = "00000000-0000-7000-8000-000000000001"
	DefaultKey string    = "default-pipeline"
)

// Default returns the command that defines the default pipeline.
func Default() Define {
	return Define{
		Name: "Sales",
		Stages: []Stage{
			{Key: "prospecting", Name: "Prospecting", Probability: 10},
			{Key: "engaging", Name: "Engaging", Probability: 30},
			{Key: "proposal", Name: "Proposal", Probability: 50},
			{Key: "negotiation", Name: "Negotiation", Probability: 75},
		},
	}
}

// DefaultState returns the default pipeline as it is before anybody revised it.
func DefaultState() Pipeline {
	c := Default()
	return evolve(Pipeline{}, Defined{Name: c.Name, Version: 1, Stages: c.Stages})
}
