package readmodels

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
)

// FunnelDeal is what a funnel must know of an opportunity.
type FunnelDeal struct {
	ID                    domain.ID
	Owner, Region, Source string // as they stand now
	Opened                Moment
	Visits                []FunnelVisit  // in the order of the stream
	Amounts               []FunnelAmount // in the order of the stream
	Products              []FunnelProduct
}

// Moment is one instant on both time axes.
type Moment struct {
	Occurred, Recorded time.Time
}

// FunnelVisit is one stay in a stage.
type FunnelVisit struct {
	Stage           string
	PipelineVersion int64
	Probability     int64 // percent
	Entered         Moment
	Left            *Moment // nil while it goes on
	LeftBy          string  // LeftMoved, LeftWon, LeftLost
	Amount          *domain.Money
	Closed          *domain.Money // value won or lost
}

// FunnelAmount is a value from a moment on.
type FunnelAmount struct {
	Since  Moment
	Amount domain.Money
}

// FunnelProduct is the value of what is offered of one product.
type FunnelProduct struct {
	Code  string
	Value domain.Money
}

const (
	funnelDealsSQL = `
select id, owner, region, source, opened_at, opened_recorded_at
from rapport.opportunity
where tenant = $1 and pipeline_id = $2 and `

	funnelVisitsSQL = `
select v.opportunity_id, v.stage, v.pipeline_version, v.probability, v.entered_at, v.entered_recorded_at, v.left_at,
	v.left_recorded_at, v.left_by, v.amount, v.currency, v.closed_amount, v.closed_currency
from rapport.opportunity_stage_visit v
where v.tenant = $1 and v.pipeline_id = $2
order by v.opportunity_id, v.visit`

	funnelAmountsSQL = `
select a.opportunity_id, a.amount, a.currency, a.occurred_at, a.recorded_at
from rapport.opportunity_amount a
where a.tenant = $1
order by a.opportunity_id, a.revision`

	funnelProductsSQL = `
select l.opportunity_id, l.product_code, l.currency, sum(l.total)
from rapport.opportunity_line l
where l.tenant = $1
group by l.opportunity_id, l.product_code, l.currency
order by l.opportunity_id, l.product_code, l.currency`
)

// Funnel computes the funnel of a pipeline as of now, or of q.AsOf. An unknown pipeline is a *domain.NotFoundError, a
// query that means nothing an *domain.InvalidError.
func (s *Store) Funnel(ctx context.Context, tenant domain.Tenant, q FunnelQuery, now time.Time) (Funnel, error) {
	if err := prepareAll(opportunities.prepare, pipelines.prepare, pipelineVersions.prepare); err != nil {
		return Funnel{}, err
	}
	if q.AsOf.IsZero() {
		q.AsOf = now
	}
	args := arguments{string(tenant), string(q.PipelineID)}
	where, err := opportunities.filter.where(q.Filter, &args)
	if err != nil {
		return Funnel{}, err
	}
	var rows []Pipeline
	var versions []PipelineVersion
	var deals []FunnelDeal
	byID := map[[16]byte]int{}
	var read reading
	queueRows(&read, pipelines, &rows, "tenant = $1 and id = $2", string(tenant), string(q.PipelineID))
	queueRows(&read, pipelineVersions, &versions, "tenant = $1 and pipeline_id = $2 order by version", string(tenant), string(q.PipelineID))
	read.Queue(funnelDealsSQL+where+" order by id", args...).Query(func(rows pgx.Rows) error {
		var d FunnelDeal
		var id [16]byte
		_, err := pgx.ForEachRow(rows, []any{&id, &d.Owner, &d.Region, &d.Source, &d.Opened.Occurred, &d.Opened.Recorded}, func() error {
			d.ID = formatUUID(id)
			byID[id] = len(deals)
			deals = append(deals, d)
			return nil
		})
		return err
	})
	queueVisits(&read, &deals, byID, string(tenant), string(q.PipelineID))
	queueAmounts(&read, &deals, byID, string(tenant))
	if wantsProducts(q.GroupBy) {
		queueProducts(&read, &deals, byID, string(tenant))
	}
	at, err := s.read(ctx, &read)
	switch {
	case err != nil:
		return Funnel{}, err
	case len(rows) == 0:
		return Funnel{}, &domain.NotFoundError{Kind: "pipeline", ID: string(q.PipelineID)}
	}
	funnel, err := ComputeFunnel(q, PipelineDetail{rows[0], versions}, deals)
	funnel.Position = at
	return funnel, err
}

func wantsProducts(groups []string) bool {
	for _, g := range groups {
		if g == "product" {
			return true
		}
	}
	return false
}

func queueVisits(read *reading, deals *[]FunnelDeal, byID map[[16]byte]int, tenant, pipeline string) {
	read.Queue(funnelVisitsSQL, tenant, pipeline).Query(func(rows pgx.Rows) error {
		var (
			id                     [16]byte
			v                      FunnelVisit
			leftAt, leftRecordedAt *time.Time
			amount, closed         *domain.Amount
			currency, closedIn     domain.Currency
		)
		_, err := pgx.ForEachRow(rows, []any{
			&id, &v.Stage, &v.PipelineVersion, &v.Probability, &v.Entered.Occurred, &v.Entered.Recorded, &leftAt, &leftRecordedAt,
			&v.LeftBy, &amount, (*string)(&currency), &closed, (*string)(&closedIn),
		}, func() error {
			i, ok := byID[id]
			if !ok {
				return nil // the filter leaves it out
			}
			v.Left = nil
			if leftAt != nil && leftRecordedAt != nil {
				v.Left = &Moment{*leftAt, *leftRecordedAt}
			}
			v.Amount, v.Closed = moneyOf(amount, currency), moneyOf(closed, closedIn)
			(*deals)[i].Visits = append((*deals)[i].Visits, v)
			return nil
		})
		return err
	})
}

func queueAmounts(read *reading, deals *[]FunnelDeal, byID map[[16]byte]int, tenant string) {
	read.Queue(funnelAmountsSQL, tenant).Query(func(rows pgx.Rows) error {
		var (
			id       [16]byte
			amount   domain.Amount
			currency domain.Currency
			since    Moment
		)
		_, err := pgx.ForEachRow(rows, []any{&id, &amount, (*string)(&currency), &since.Occurred, &since.Recorded}, func() error {
			if i, ok := byID[id]; ok {
				(*deals)[i].Amounts = append((*deals)[i].Amounts, FunnelAmount{since, domain.Money{Amount: amount, Currency: currency}})
			}
			return nil
		})
		return err
	})
}

func queueProducts(read *reading, deals *[]FunnelDeal, byID map[[16]byte]int, tenant string) {
	read.Queue(funnelProductsSQL, tenant).Query(func(rows pgx.Rows) error {
		var (
			id       [16]byte
			code     string
			currency domain.Currency
			total    domain.Amount
		)
		_, err := pgx.ForEachRow(rows, []any{&id, &code, (*string)(&currency), &total}, func() error {
			if i, ok := byID[id]; ok {
				product := FunnelProduct{code, domain.Money{Amount: total, Currency: currency}}
				(*deals)[i].Products = append((*deals)[i].Products, product)
			}
			return nil
		})
		return err
	})
}

func moneyOf(amount *domain.Amount, currency domain.Currency) *domain.Money {
	if amount == nil {
		return nil
	}
	return &domain.Money{Amount: *amount, Currency: currency}
}

func formatUUID(b [16]byte) domain.ID {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for i, x := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, digits[x>>4], digits[x&15])
	}
	return domain.ID(out)
}
