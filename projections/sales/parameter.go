package sales

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/projections/projection"
)

// Probabilities are the probabilities of winning from the stages of pipelines.
var Probabilities = projection.Parameter{
	Name: "probabilities",
	Doc:  "the probability of winning from a stage, in percent, by pipeline (its id or name) and key of the stage, for all versions of the pipeline",
	Events: []string{
		opportunity.Opened{}.EventType(), opportunity.StageMoved{}.EventType(), opportunity.Reopened{}.EventType(),
		pipeline.Defined{}.EventType(), pipeline.Revised{}.EventType(),
	},
	Min: 0, Max: 100,
	Declare: []string{pipeline.Defined{}.EventType(), pipeline.Revised{}.EventType()},
	Known: func(e domain.Recorded) (projection.Owner, []string) {
		name, stages := "", []pipeline.Stage(nil)
		switch ev := e.Event.(type) {
		case pipeline.Defined:
			name, stages = ev.Name, ev.Stages
		case pipeline.Revised:
			name, stages = ev.Name, ev.Stages
		}
		keys := make([]string, len(stages))
		for i, s := range stages {
			keys[i] = s.Key
		}
		return projection.Owner{ID: e.Stream.ID, Name: name}, keys
	},
	Given: []domain.Recorded{{
		Stream: domain.StreamID{Aggregate: pipeline.Aggregate.Name, ID: pipeline.DefaultID},
		Event:  pipeline.Defined{Name: pipeline.Default().Name, Version: 1, Stages: pipeline.Default().Stages},
	}},
	With: func(e domain.Recorded, figures projection.Figures) domain.Event {
		stages := func(list []pipeline.Stage) []pipeline.Stage {
			list = slices.Clone(list)
			for i, s := range list {
				list[i].Probability = figures.Or(e.Stream.ID, s.Key, s.Probability)
			}
			return list
		}
		switch ev := e.Event.(type) {
		case opportunity.Opened:
			ev.Probability = figures.Or(ev.PipelineID, ev.Stage, ev.Probability)
			return ev
		case opportunity.StageMoved:
			ev.Probability = figures.Or(ev.PipelineID, ev.To, ev.Probability)
			return ev
		case opportunity.Reopened:
			ev.Probability = figures.Or(ev.PipelineID, ev.Stage, ev.Probability)
			return ev
		case pipeline.Defined:
			ev.Stages = stages(ev.Stages)
			return ev
		case pipeline.Revised:
			ev.Stages = stages(ev.Stages)
			return ev
		}
		return e.Event
	},
}
