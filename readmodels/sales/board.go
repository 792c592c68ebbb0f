package sales

import (
	"context"
	"fmt"
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// BoardCards is the number of opportunities that each column of a board shows.
const BoardCards = 20

// Board shows the open opportunities of one pipeline by stage.
type Board struct {
	PipelineID      domain.ID     `json:"pipelineId" doc:"The pipeline."`
	PipelineVersion int64         `json:"pipelineVersion" doc:"Its newest version, which orders the columns."`
	Columns         []BoardColumn `json:"columns" doc:"Stages in order; stages of older versions that still hold opportunities and lead to none of these come last."`
}

// BoardColumn is one stage of a board.
type BoardColumn struct {
	Stage  string        `json:"stage" doc:"Key of the stage."`
	Name   string        `json:"name" doc:"What people call it; the key for a stage that the newest version does not have."`
	Count  int64         `json:"count" doc:"Number of open opportunities."`
	Totals []BoardTotal  `json:"totals" doc:"Sum of their amounts per currency."`
	Cards  []Opportunity `json:"cards" doc:"The first of them, the highest amount first."`
}

// BoardTotal is the sum of a column in one currency.
type BoardTotal struct {
	Currency string        `json:"currency" doc:"ISO 4217 code; empty for opportunities that nobody estimated."`
	Count    int64         `json:"count" doc:"Number of opportunities."`
	Amount   domain.Amount `json:"amount" doc:"Sum of their amounts."`
	Weighted domain.Amount `json:"weighted" doc:"Sum of amount times the stage's probability."`
}

type boardTotal struct {
	Stage    string        `db:"stage"`
	Version  int64         `db:"pipeline_version"` // of the pipeline, in which the stage was entered
	Currency string        `db:"currency"`
	Count    int64         `db:"count"`
	Amount   domain.Amount `db:"amount"`
	Weighted domain.Amount `db:"weighted"`
}

// ReadBoard returns the open opportunities of a pipeline that a filter over Opportunity selects, or a *domain.NotFoundError.
func ReadBoard(ctx context.Context, s *query.Store, pipeline domain.ID, filter string) (Board, domain.Position, error) {
	args := query.Arguments{string(s.Tenant()), string(pipeline)}
	where, err := Opportunities.Where(filter, &args)
	if err != nil {
		return Board{}, domain.Position{}, err
	}
	where = "tenant = $1 and pipeline_id = $2 and status = 'open' and " + where
	var rows []Pipeline
	var definition PipelineDetail
	var totals []boardTotal
	var cards []Opportunity
	var read query.Reading
	Pipelines.Queue(&read, &rows, "tenant = $1 and id = $2", string(s.Tenant()), string(pipeline))
	PipelineVersions.Queue(&read, &definition.Versions, "tenant = $1 and pipeline_id = $2 order by version", string(s.Tenant()), string(pipeline))
	query.Queue(&read, &totals, `
select stage, pipeline_version, currency, count(*) as count, coalesce(sum(amount), 0) as amount,
	coalesce(sum(amount * probability) / 100, 0) as weighted
from opportunity where `+where+`
group by stage, pipeline_version, currency order by stage, pipeline_version, currency`, args...)
	query.Queue(&read, &cards, fmt.Sprintf(`
select %[1]s from (
	select *, row_number() over (partition by stage, pipeline_version order by amount desc nulls last, id) as place
	from opportunity where %[2]s
) ranked where place <= %[3]d order by amount desc nulls last, id`, Opportunities.Columns(), where, BoardCards), args...)
	at, err := s.Read(ctx, query.Views("pipeline", "pipeline_version", "opportunity"), &read)
	if err == nil && len(rows) == 0 {
		err = &domain.NotFoundError{Kind: "pipeline", ID: string(pipeline)}
	}
	if err != nil {
		return Board{}, at, err
	}
	definition.Pipeline = rows[0]
	return boardOf(definition, totals, cards), at, nil
}

// boardOf puts what was read into columns. A stage of an older version leads to the column of its successor, as in the
// funnel. The cards come in the order in which each column shows them.
func boardOf(p PipelineDetail, totals []boardTotal, cards []Opportunity) Board {
	board := Board{PipelineID: p.ID, PipelineVersion: p.Version}
	place := map[string]int{}
	column := func(stage, name string) *BoardColumn {
		i, ok := place[stage]
		if !ok {
			i = len(board.Columns)
			place[stage] = i
			board.Columns = append(board.Columns, BoardColumn{Stage: stage, Name: name, Totals: []BoardTotal{}, Cards: []Opportunity{}})
		}
		return &board.Columns[i]
	}
	for _, stage := range p.Stages {
		column(stage.Key, stage.Name)
	}
	successor := stageMapper(p)
	for _, t := range totals {
		stage := successor(t.Stage, t.Version)
		c := column(stage, stage)
		c.Count += t.Count
		i := slices.IndexFunc(c.Totals, func(b BoardTotal) bool { return b.Currency == t.Currency })
		if i < 0 {
			i = len(c.Totals)
			c.Totals = append(c.Totals, BoardTotal{Currency: t.Currency})
		}
		sum := &c.Totals[i]
		sum.Count += t.Count
		sum.Amount = domain.NewAmount(sum.Amount.Add(t.Amount.Decimal))
		sum.Weighted = domain.NewAmount(sum.Weighted.Add(t.Weighted.Decimal))
	}
	for _, o := range cards {
		stage := successor(o.Stage, o.PipelineVersion)
		if c := column(stage, stage); len(c.Cards) < BoardCards {
			c.Cards = append(c.Cards, o)
		}
	}
	return board
}
