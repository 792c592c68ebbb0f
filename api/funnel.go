package api

import (
	"context"
	"strings"
	"time"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// FunnelParameters ask for a funnel.
type FunnelParameters struct {
	resource.Consistency
	PipelineID string `query:"pipelineId" default:"00000000-0000-7000-8000-000000000001" doc:"The pipeline; the default one when left out."`
	Filter     string `query:"filter" maxLength:"4000" doc:"CEL expression over the fields of an opportunity, as it stood at asOf." example:"region == \"West\""`
	Basis      string `query:"basis" maxLength:"100" default:"created" doc:"What the window is about: created, closed, or entered: and the key of a stage."`
	From       string `query:"from" doc:"Begin of the window, included: a time, or a day of the zone; open when left out." example:"2026-01-01"`
	To         string `query:"to" doc:"End of the window, not included: a time, or a day of the zone; open when left out." example:"2027-01-01"`
	Mode       string `query:"mode" enum:"strict,any,reached" default:"strict" doc:"When a deal counts at a stage: strict, it entered all earlier selected stages in order; any, it was there; reached, it was there or at any later stage."`
	Stages     string `query:"stages" maxLength:"5000" doc:"Keys of stages in the order that counts, separated by commas, won and lost possibly among them; the pipeline's and then won when left out."`
	Currency   string `query:"currency" maxLength:"3" doc:"ISO 4217 code of values; the one that most deals have when left out." example:"EUR"`
	Zone       string `query:"zone" maxLength:"100" default:"UTC" doc:"IANA name of the time zone of days and months."`
	GroupBy    string `query:"groupBy" maxLength:"100" doc:"How won value is broken down: month, owner, region, source, product, separated by commas." example:"month,owner"`
}

// funnelQuery offers the funnel.
func (s *Server) funnelQuery() {
	resource.Query(s, resource.Route{ID: "funnel", Path: "/v1/funnel", Tag: "opportunity", Doc: "Returns the funnel of a pipeline: counts and conversion by stage, win rate, value won, time in stage."},
		func(ctx context.Context, in *FunnelParameters) (*resource.View[sales.Funnel], error) {
			q, err := in.query()
			if err != nil {
				return nil, err
			}
			reads, err := s.Reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			funnel, err := sales.ReadFunnel(ctx, reads, q, s.opts.Clock())
			return resource.Viewed(reads, funnel, funnel.Position, err)
		})
}

func (in FunnelParameters) query() (sales.FunnelQuery, error) {
	q := sales.FunnelQuery{
		Filter: in.Filter, Basis: in.Basis, Mode: sales.FunnelMode(in.Mode), Stages: splitList(in.Stages),
		Currency: in.Currency, Zone: in.Zone, GroupBy: splitList(in.GroupBy),
	}
	var err error
	if q.PipelineID, err = parsePipeline(in.PipelineID); err != nil {
		return q, err
	}
	zone, err := time.LoadLocation(in.Zone)
	if err != nil || in.Zone == "Local" {
		return q, domain.Invalid("zone", "is not the IANA name of a time zone")
	}
	for _, p := range []struct {
		name, text string
		to         *time.Time
	}{{"from", in.From, &q.From}, {"to", in.To, &q.To}} {
		if *p.to, err = parseInstant(p.name, p.text, zone); err != nil {
			return q, err
		}
	}
	return q, nil
}

// parseInstant reads a time, or the begin of a day in a zone; the zero time for no text.
func parseInstant(name, text string, zone *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t, err = time.ParseInLocation(time.DateOnly, text, zone)
	}
	if err != nil || !isInstant(t) {
		return time.Time{}, domain.Invalid(name, "is neither a time of the form 2006-01-02T15:04:05Z nor a day of the form 2006-01-02")
	}
	return t.UTC(), nil
}

// splitList reads a list separated by commas; nil for no text.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}
