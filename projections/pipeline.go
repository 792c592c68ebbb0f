package projections

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels"
)

// Pipeline keeps each pipeline in its newest version.
var Pipeline = projection.Fold[record, readmodels.Pipeline]{
	Name: "pipeline", Version: 1,
	Doc:    "Pipelines in their newest version.",
	Events: []string{"pipeline."},
	Keys:   byStream,
	Begins: beginsStream[record],
	Evolve: func(r readmodels.Pipeline, _ record, e domain.Recorded) readmodels.Pipeline {
		switch ev := e.Event.(type) {
		case pipeline.Defined:
			r.Name, r.Version, r.Stages, r.Status = ev.Name, int64(ev.Version), stagesOf(ev.Stages), "active"
		case pipeline.Revised:
			r.Name, r.Version, r.Stages = ev.Name, int64(ev.Version), stagesOf(ev.Stages)
		case pipeline.Retired:
			r.Status = "retired"
		}
		r.ChangedAt, r.Revision, r.Position = e.OccurredAt, int64(e.Revision), e.Position.Order()
		return r
	},
}

// PipelineVersion keeps every version of every pipeline.
var PipelineVersion = projection.Append[readmodels.PipelineVersion]{
	Name: "pipeline_version", Version: 1,
	Doc:    "Every version of every pipeline, with where the stages of the version before went.",
	Events: []string{"pipeline.defined", "pipeline.revised"},
	Rows: func(e domain.Recorded) []readmodels.PipelineVersion {
		r := readmodels.PipelineVersion{Tenant: e.Tenant, PipelineID: e.Stream.ID, Since: e.OccurredAt, Position: e.Position.Order()}
		switch ev := e.Event.(type) {
		case pipeline.Defined:
			r.Version, r.Name, r.Stages = int64(ev.Version), ev.Name, stagesOf(ev.Stages)
		case pipeline.Revised:
			r.Version, r.Name, r.Stages = int64(ev.Version), ev.Name, stagesOf(ev.Stages)
			for _, m := range ev.Mapping {
				r.Mapping = append(r.Mapping, readmodels.StageMapping{From: m.From, To: m.To})
			}
		default:
			return nil
		}
		return []readmodels.PipelineVersion{r}
	},
}

func stagesOf(stages []pipeline.Stage) []readmodels.PipelineStage {
	list := make([]readmodels.PipelineStage, len(stages))
	for i, s := range stages {
		list[i] = readmodels.PipelineStage{Key: s.Key, Name: s.Name, Probability: s.Probability}
	}
	return list
}
