package sales

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// FunnelDeal is what a funnel must know of an opportunity.
type FunnelDeal struct {
	ID                    domain.ID
	Owner, Region, Source string // as they stand in the rows read
	Opened                time.Time
	Visits                []FunnelVisit  // in the order of the stream
	Estimates             []FunnelAmount // that were changed between entries, in the order of the stream
	Products              []FunnelProduct
}

// FunnelVisit is one stay in a stage.
type FunnelVisit struct {
	Stage           string
	PipelineVersion int64
	Probability     int64 // percent
	Revision        int64 // of the entry
	Entered         time.Time
	Left            *time.Time // nil while it goes on
	LeftBy          string     // LeftMoved, LeftWon, LeftLost
	Amount          *domain.Money
	Closed          *domain.Money // value won or lost
}

// FunnelAmount is a value from a moment on.
type FunnelAmount struct {
	Revision int64
	Since    time.Time
	Amount   domain.Money
}

// FunnelProduct is the value of what is offered of one product.
type FunnelProduct struct {
	Code  string
	Value domain.Money
}

const (
	funnelDealsSQL = `
select id, owner, region, source, opened_at
from opportunity
where tenant = $1 and pipeline_id = $2 and `

	funnelVisitsSQL = `
select v.opportunity_id, v.stage, v.pipeline_version, v.probability, v.entered_revision, v.entered_at,
	v.left_at, v.left_by, v.amount::text, v.currency, v.closed_amount::text, v.closed_currency
from opportunity_stage_visit v
where v.tenant = $1 and v.pipeline_id = $2 and %s
order by v.opportunity_id, v.visit`

	funnelEstimatesSQL = `
select a.opportunity_id, a.revision, a.amount::text, a.currency, a.occurred_at
from opportunity_amount a
where a.tenant = $1 and a.event_type = 'opportunity.re_estimated' and %s
order by a.opportunity_id, a.revision`

	funnelProductsSQL = `
select l.opportunity_id, l.product_code, l.currency, sum(l.total)::text
from opportunity_line l
where l.tenant = $1 and %s
group by l.opportunity_id, l.product_code, l.currency
order by l.opportunity_id, l.product_code, l.currency`
)

// ReadFunnel computes the funnel of a pipeline as of the store's moment, or of q.AsOf by the rows of that moment. An unknown
// pipeline is a *domain.NotFoundError, a query that means nothing an *domain.InvalidError.
func ReadFunnel(ctx context.Context, s *query.Store, q FunnelQuery, now time.Time) (Funnel, error) {
	if q.AsOf.IsZero() {
		q.AsOf = s.Now(now)
	}
	if moment := s.Moment(); moment != nil {
		q.Axis = moment.Axis
	}
	args := query.Arguments{string(s.Tenant()), string(q.PipelineID)}
	where, err := Opportunities.Where(q.Filter, &args)
	if err != nil {
		return Funnel{}, err
	}
	var rows []Pipeline
	var versions []PipelineVersion
	var deals []FunnelDeal
	byID := map[[16]byte]int{}
	var read query.Reading
	Pipelines.Queue(&read, &rows, "tenant = $1 and id = $2", string(s.Tenant()), string(q.PipelineID))
	PipelineVersions.Queue(&read, &versions, "tenant = $1 and pipeline_id = $2 order by version", string(s.Tenant()), string(q.PipelineID))
	read.Queue(funnelDealsSQL+where+" order by id", args...).Query(func(rows pgx.Rows) error {
		deals = nil // of an attempt that failed
		clear(byID)
		var d FunnelDeal
		var id [16]byte
		_, err := pgx.ForEachRow(rows, []any{&id, &d.Owner, &d.Region, &d.Source, &d.Opened}, func() error {
			d.ID = formatUUID(id)
			byID[id] = len(deals)
			deals = append(deals, d)
			return nil
		})
		return err
	})
	// The rows that belong to deals are narrowed only where it saves something: a join costs more than reading all.
	ofDeals := "$2::uuid is not null"
	if q.Filter != "" {
		ofDeals = "opportunity_id in (select id from opportunity where tenant = $1 and pipeline_id = $2 and " + where + ")"
	}
	into := &funnelDeals{list: &deals, byID: byID}
	read.Queue(fmt.Sprintf(funnelVisitsSQL, ofDeals), args...).Query(into.visits)
	read.Queue(fmt.Sprintf(funnelEstimatesSQL, ofDeals), args...).Query(into.estimates)
	if slices.Contains(q.GroupBy, "product") {
		read.Queue(fmt.Sprintf(funnelProductsSQL, ofDeals), args...).Query(into.products)
	}
	reach := query.Views("pipeline", "pipeline_version", "opportunity", "opportunity_stage_visit", "opportunity_amount")
	if slices.Contains(q.GroupBy, "product") {
		reach.Views = append(reach.Views, "opportunity_line")
	}
	at, err := s.Read(ctx, reach, &read)
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

// funnelDeals collects what belongs to deals. Rows of deals that the filter leaves out are passed over.
type funnelDeals struct {
	list *[]FunnelDeal
	byID map[[16]byte]int
}

func (f *funnelDeals) of(id [16]byte) *FunnelDeal {
	i, ok := f.byID[id]
	if !ok {
		return nil
	}
	return &(*f.list)[i]
}

func (f *funnelDeals) visits(rows pgx.Rows) error {
	var (
		id                 [16]byte
		v                  FunnelVisit
		amount, closed     *string
		currency, closedIn string
	)
	_, err := pgx.ForEachRow(rows, []any{
		&id, &v.Stage, &v.PipelineVersion, &v.Probability, &v.Revision, &v.Entered, &v.Left, &v.LeftBy,
		&amount, &currency, &closed, &closedIn,
	}, func() (err error) {
		d := f.of(id)
		if d == nil {
			return nil
		}
		if v.Amount, err = moneyOf(amount, currency); err != nil {
			return err
		}
		if v.Closed, err = moneyOf(closed, closedIn); err != nil {
			return err
		}
		d.Visits = append(d.Visits, v)
		return nil
	})
	return err
}

func (f *funnelDeals) estimates(rows pgx.Rows) error {
	var (
		id       [16]byte
		a        FunnelAmount
		amount   *string
		currency string
	)
	_, err := pgx.ForEachRow(rows, []any{&id, &a.Revision, &amount, &currency, &a.Since}, func() error {
		d := f.of(id)
		money, err := moneyOf(amount, currency)
		if err != nil || d == nil || money == nil {
			return err
		}
		a.Amount = *money
		d.Estimates = append(d.Estimates, a)
		return nil
	})
	return err
}

func (f *funnelDeals) products(rows pgx.Rows) error {
	var (
		id             [16]byte
		code, currency string
		total          *string
	)
	_, err := pgx.ForEachRow(rows, []any{&id, &code, &currency, &total}, func() error {
		d := f.of(id)
		money, err := moneyOf(total, currency)
		if err != nil || d == nil || money == nil {
			return err
		}
		d.Products = append(d.Products, FunnelProduct{code, *money})
		return nil
	})
	return err
}

// moneyOf reads an amount that travels as text, which costs a fraction of the way over the driver's numeric type.
func moneyOf(amount *string, currency string) (*domain.Money, error) {
	if amount == nil {
		return nil, nil
	}
	d, err := decimal.NewFromString(*amount)
	return &domain.Money{Amount: domain.NewAmount(d), Currency: domain.Currency(currency)}, err
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
