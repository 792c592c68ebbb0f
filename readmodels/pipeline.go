package readmodels

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/domain"
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
	Key         string `json:"key" doc:"Permanent name of the stage."`
	Name        string `json:"name" doc:"What people call it."`
	Probability int    `json:"probability" doc:"Usual probability of winning from here, in percent."`
}

// PipelineVersion is one version of a pipeline; versions never change.
type PipelineVersion struct {
	Tenant     domain.Tenant   `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	PipelineID domain.ID       `db:"pipeline_id,key" json:"pipelineId" doc:"The pipeline."`
	Version    int64           `db:"version,key" json:"version" doc:"Number of the version, from 1."`
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

var (
	pipelines        = newResource[Pipeline]("pipeline", "name")
	pipelineVersions = newResource[PipelineVersion]("pipeline_version", "version")
)

// Pipelines lists pipelines in their newest version.
func (s *Store) Pipelines(ctx context.Context, tenant domain.Tenant, q Query) (Page[Pipeline], error) {
	return list(ctx, s, pipelines, tenant, q)
}

// PipelineVersions lists every version of pipelines.
func (s *Store) PipelineVersions(ctx context.Context, tenant domain.Tenant, q Query) (Page[PipelineVersion], error) {
	return list(ctx, s, pipelineVersions, tenant, q)
}

// PipelineDetail is a pipeline with all its versions.
type PipelineDetail struct {
	Pipeline
	Versions []PipelineVersion `json:"versions" doc:"All versions, the first one first."`
}

// Pipeline returns one pipeline with its versions, or a *domain.NotFoundError.
func (s *Store) Pipeline(ctx context.Context, tenant domain.Tenant, id domain.ID) (PipelineDetail, domain.Position, error) {
	if err := prepareAll(pipelines.prepare, pipelineVersions.prepare); err != nil {
		return PipelineDetail{}, domain.Position{}, err
	}
	var rows []Pipeline
	var answer PipelineDetail
	var read reading
	queueRows(&read, pipelines, &rows, "tenant = $1 and id = $2", string(tenant), string(id))
	queueRows(&read, pipelineVersions, &answer.Versions, "tenant = $1 and pipeline_id = $2 order by version", string(tenant), string(id))
	at, err := s.read(ctx, tenant, recordOf(tenant, "pipeline", id, "pipeline", "pipeline_version"), &read)
	if err == nil && len(rows) == 0 {
		err = &domain.NotFoundError{Kind: "pipeline", ID: string(id)}
	}
	if err != nil {
		return PipelineDetail{}, at, err
	}
	answer.Pipeline = rows[0]
	return answer, at, nil
}
