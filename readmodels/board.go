package readmodels

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/domain"
)

// BoardCards is the number of opportunities that each column of a board shows.
const BoardCards = 20

// Board shows the open opportunities of one pipeline by stage.
type Board struct {
	PipelineID      domain.ID     `json:"pipelineId" doc:"The pipeline."`
	PipelineVersion int64         `json:"pipelineVersion" doc:"Its newest version, which orders the columns."`
	Columns         []BoardColumn `json:"columns" doc:"Stages in order; stages of older versions that still hold opportunities come last."`
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
	Currency string        `db:"currency"`
	Count    int64         `db:"count"`
	Amount   domain.Amount `db:"amount"`
	Weighted domain.Amount `db:"weighted"`
}

// Board returns the open opportunities of a pipeline that a filter over Opportunity selects, or a *domain.NotFoundError.
func (s *Store) Board(ctx context.Context, tenant domain.Tenant, pipeline domain.ID, filter string) (Board, domain.Position, error) {
	if err := prepareAll(opportunities.prepare, pipelines.prepare); err != nil {
		return Board{}, domain.Position{}, err
	}
	args := arguments{string(tenant), string(pipeline)}
	where, err := opportunities.filter.where(filter, &args)
	if err != nil {
		return Board{}, domain.Position{}, err
	}
	where = "tenant = $1 and pipeline_id = $2 and status = 'open' and " + where
	var rows []Pipeline
	var totals []boardTotal
	var cards []Opportunity
	var read reading
	queueRows(&read, pipelines, &rows, "tenant = $1 and id = $2", string(tenant), string(pipeline))
	queue(&read, &totals, `
select stage, currency, count(*) as count, coalesce(sum(amount), 0) as amount,
	coalesce(sum(amount * probability) / 100, 0) as weighted
from rapport.opportunity where `+where+`
group by stage, currency order by stage, currency`, args...)
	queue(&read, &cards, fmt.Sprintf(`
select %[1]s from (
	select *, row_number() over (partition by stage order by amount desc nulls last, id) as place
	from rapport.opportunity where %[2]s
) ranked where place <= %[3]d order by stage, place`, opportunities.columns(), where, BoardCards), args...)
	at, err := s.read(ctx, &read)
	if err == nil && len(rows) == 0 {
		err = &domain.NotFoundError{Kind: "pipeline", ID: string(pipeline)}
	}
	if err != nil {
		return Board{}, at, err
	}
	board := Board{PipelineID: pipeline, PipelineVersion: rows[0].Version}
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
	for _, stage := range rows[0].Stages {
		column(stage.Key, stage.Name)
	}
	for _, t := range totals {
		c := column(t.Stage, t.Stage)
		c.Count += t.Count
		c.Totals = append(c.Totals, BoardTotal{Currency: t.Currency, Count: t.Count, Amount: t.Amount, Weighted: t.Weighted})
	}
	for _, o := range cards {
		c := column(o.Stage, o.Stage)
		c.Cards = append(c.Cards, o)
	}
	return board, at, nil
}
