package sales

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// Pipeline keeps each pipeline in its newest version.
var Pipeline = projection.Fold[projection.StreamKey, sales.Pipeline]{
	Name: "pipeline", Version: 1,
	Doc:    "Pipelines in their newest version.",
	Events: []string{"pipeline."},
	Keys:   projection.ByStream,
	Begins: projection.BeginsStream[projection.StreamKey],
	Evolve: func(r sales.Pipeline, _ projection.StreamKey, e domain.Recorded) sales.Pipeline {
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
var PipelineVersion = projection.Append[sales.PipelineVersion]{
	Name: "pipeline_version", Version: 1,
	Doc:    "Every version of every pipeline, with where the stages of the version before went.",
	Events: []string{"pipeline.defined", "pipeline.revised"},
	Rows: func(e domain.Recorded) []sales.PipelineVersion {
		r := sales.PipelineVersion{Tenant: e.Tenant, PipelineID: e.Stream.ID, Since: e.OccurredAt, Position: e.Position.Order()}
		switch ev := e.Event.(type) {
		case pipeline.Defined:
			r.Version, r.Name, r.Stages = int64(ev.Version), ev.Name, stagesOf(ev.Stages)
		case pipeline.Revised:
			r.Version, r.Name, r.Stages = int64(ev.Version), ev.Name, stagesOf(ev.Stages)
			for _, m := range ev.Mapping {
				r.Mapping = append(r.Mapping, sales.StageMapping{From: m.From, To: m.To})
			}
		default:
			return nil
		}
		return []sales.PipelineVersion{r}
	},
}

func stagesOf(stages []pipeline.Stage) []sales.PipelineStage {
	list := make([]sales.PipelineStage, len(stages))
	for i, s := range stages {
		list[i] = sales.PipelineStage{Key: s.Key, Name: s.Name, Probability: s.Probability}
	}
	return list
}
