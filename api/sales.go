package api

import (
	"context"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// BoardParameters choose the open opportunities of a board.
type BoardParameters struct {
	resource.Consistency
	PipelineID string `query:"pipelineId" default:"00000000-0000-7000-8000-000000000001" doc:"The pipeline; the default one when left out."`
	Filter     string `query:"filter" maxLength:"4000" doc:"CEL expression over the fields of an opportunity." example:"owner == \"ann\""`
}

// FilterParameters choose the orders of a sum.
type FilterParameters struct {
	resource.Consistency
	Filter string `query:"filter" maxLength:"4000" doc:"CEL expression over the fields of an order." example:"kind == \"sale\""`
}

func (s *Server) salesQueries() {
	resource.Query(s, resource.Route{ID: "board", Path: "/v1/opportunities/board", Tag: "opportunity", Doc: "Returns the open opportunities of a pipeline by stage."},
		func(ctx context.Context, in *BoardParameters) (*resource.View[sales.Board], error) {
			pipeline, err := parsePipeline(in.PipelineID)
			if err != nil {
				return nil, err
			}
			reads, err := s.Reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			board, at, err := sales.ReadBoard(ctx, reads, pipeline, in.Filter)
			return resource.Viewed(reads, board, at, err)
		})
	resource.Query(s, resource.Route{ID: "orderTotals", Path: "/v1/orders/totals", Tag: "order", Doc: "Sums orders by currency, kind and status."},
		func(ctx context.Context, in *FilterParameters) (*resource.ListAnswer[sales.OrderTotal], error) {
			return resource.All(ctx, s, in.Consistency, func(reads *query.Store) ([]sales.OrderTotal, domain.Position, error) {
				return sales.OrderTotals(ctx, reads, in.Filter)
			})
		})
}

func parsePipeline(text string) (domain.ID, error) {
	id, err := domain.ParseID(text)
	if err != nil {
		return "", domain.Invalid("pipelineId", "is not a UUID")
	}
	return id, nil
}
