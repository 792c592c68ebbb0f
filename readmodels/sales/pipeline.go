package sales

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Pipeline is a sales process in its newest version.
type Pipeline struct {
	Tenant    domain.Tenant   `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	ID        domain.ID       `db:"id,key" json:"id" doc:"The pipeline."`
	Name      string          `db:"name" json:"name" doc:"Name."`
	Version   int64           `db:"version" json:"version" doc:"Number of the newest version."`
	Stages    []PipelineStage `db:"stages" json:"stages" doc:"Stages in order: a JSON array of key, name, probability (percent)."`
	Status    string          `db:"status" json:"status" doc:"active, or retired when no new opportunity may enter."`
	ChangedAt time.Time       `db:"changed_at" json:"changedAt" doc:"When the last change happened, in the business."`
	Revision  int64           `db:"revision" json:"revision" doc:"Revision of the pipeline's own stream."`
	Position  int64           `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// PipelineStage is one step of a pipeline.
type PipelineStage struct {
	Key         string `json:"key" element:"key" doc:"Permanent name of the stage."`
	Name        string `json:"name" doc:"What people call it."`
	Probability int    `json:"probability" doc:"Usual probability of winning from here, in percent."`
}

// PipelineVersion is one version of a pipeline; versions never change.
type PipelineVersion struct {
	Tenant     domain.Tenant   `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	PipelineID domain.ID       `db:"pipeline_id,key" json:"pipelineId" doc:"The pipeline."`
	Version    int64           `db:"version,key" json:"version" element:"key" doc:"Number of the version, from 1."`
	Name       string          `db:"name" json:"name" doc:"Name."`
	Stages     []PipelineStage `db:"stages" json:"stages" doc:"Stages in order: a JSON array of key, name, probability (percent)."`
	Mapping    []StageMapping  `db:"mapping" json:"mapping" doc:"Where the stages of the version before went: a JSON array of from, to."`
	Since      time.Time       `db:"since" json:"since" doc:"When the version came into force."`
	Position   int64           `db:"position" json:"position" doc:"Place in the log of the event."`
}

// StageMapping says where a stage of one version went in the next.
type StageMapping struct {
	From string `json:"from" doc:"Key in the old version."`
	To   string `json:"to,omitempty" doc:"Key in the new version; absent when the stage has no successor."`
}

// Pipelines lists pipelines in their newest version.
var Pipelines = &query.Resource[Pipeline]{
	Name: "pipelines", Path: "/v1/pipelines", About: "pipeline", View: "pipeline",
	Doc:     "Lists pipelines in their newest version.",
	Sort:    "name",
	Example: query.Example{Filter: `status == "active"`, Sort: "name"},
}

// PipelineVersions lists every version of pipelines, with where the stages of the version before went.
var PipelineVersions = &query.Resource[PipelineVersion]{
	Name: "pipelineVersions", Path: "/v1/pipeline-versions", About: "pipeline", View: "pipeline_version",
	Doc:     "Lists every version of pipelines, with where the stages of the version before went.",
	Sort:    "version",
	Example: query.Example{Filter: `version == 1`, Sort: "-since"},
}

// PipelineDetail is a pipeline with all its versions.
type PipelineDetail struct {
	Pipeline
	Versions []PipelineVersion `json:"versions" doc:"All versions, the first one first."`
}

// PipelineRecord is one pipeline with its versions.
var PipelineRecord = &query.Record[PipelineDetail]{
	Name: "pipeline", Path: "/v1/pipelines/{id}", Aggregate: "pipeline",
	Doc:   "Returns one pipeline with all its versions.",
	Words: "a pipeline", Explains: "/name",
	Row: query.RowOf(Pipelines, func(d *PipelineDetail) *Pipeline { return &d.Pipeline }),
	Parts: []query.Part[PipelineDetail]{
		query.Rows("versions", PipelineVersions, "version", "one for each revision", func(d *PipelineDetail) *[]PipelineVersion { return &d.Versions }, "pipeline_id"),
	},
}
