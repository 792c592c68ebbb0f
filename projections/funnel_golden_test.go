package projections_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	salesprojections "github.com/rapport-crm/rapport/projections/sales"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

const goldenPipeline domain.ID = "00000000-0000-7000-8000-0000000000aa"

func cny(amount string) *domain.Money { return new(domain.MustMoney(amount, "CNY")) }

// deal writes the events of one opportunity: moves such as "q 01-05", W, L and R (reopened in Q) for the outcomes, and "= 02-01 80" for a new estimate.
type deal struct {
	log         *eventLog
	id          domain.ID
	stage       string
	visit       int
	amount      *domain.Money
	region      string
	probability map[string]int
}

func (d *deal) standing() opportunity.Standing {
	return opportunity.Standing{Owner: "ann", Region: d.region, PipelineID: goldenPipeline, PipelineVersion: 1}
}

func (d *deal) move(stage, on string) *deal {
	at := day(on)
	add := func(e domain.Event) { d.log.add("opportunity", d.id, at, e) }
	p := d.probability[stage]
	switch {
	case d.visit == 0:
		add(opportunity.Opened{Name: "Deal", Standing: d.standing(), Stage: stage, Visit: 1, Probability: p, Amount: d.amount})
		d.stage, d.visit = stage, 1
	case stage == "W":
		add(opportunity.Won{Stage: d.stage, Visit: d.visit, Standing: d.standing(), Amount: *d.amount, Estimate: d.amount})
	case stage == "L":
		add(opportunity.Lost{Stage: d.stage, Visit: d.visit, Standing: d.standing(), Amount: d.amount, Reason: "price"})
	case stage == "R":
		add(opportunity.Reopened{
			From: "lost", FromStage: d.stage, FromVisit: d.visit, Stage: "q", Visit: d.visit + 1, Standing: d.standing(), Amount: d.amount,
		})
		d.stage, d.visit = "q", d.visit+1
	default:
		add(opportunity.StageMoved{
			From: d.stage, To: stage, FromVisit: d.visit, ToVisit: d.visit + 1, Probability: p, Standing: d.standing(), Amount: d.amount,
		})
		d.stage, d.visit = stage, d.visit+1
	}
	return d
}

func (d *deal) estimate(amount, on string) *deal {
	d.log.add("opportunity", d.id, day(on), opportunity.ReEstimated{From: d.amount, To: *cny(amount), Standing: d.standing()})
	d.amount = cny(amount)
	return d
}

// goldenLog holds the six deals of the golden data set.
func goldenLog() *eventLog {
	log := newLog()
	stages := []pipeline.Stage{{Key: "q", Name: "Q", Probability: 10}, {Key: "p", Name: "P", Probability: 50}, {Key: "n", Name: "N", Probability: 75}}
	log.add("pipeline", goldenPipeline, day("01-01"), pipeline.Defined{Name: "Golden", Version: 1, Stages: stages})
	open := func(n int, amount, region string) *deal {
		return &deal{
			log: log, id: number(n, 0xd), amount: cny(amount), region: region, probability: map[string]int{"q": 10, "p": 50, "n": 75},
		}
	}
	open(1, "100", "West").move("q", "01-05").move("p", "01-15").move("n", "01-25").move("W", "02-05")
	open(2, "200", "East").move("q", "01-10").move("n", "01-20").move("L", "02-10")
	open(3, "50", "West").move("q", "01-12").move("p", "01-22").move("q", "01-29").estimate("80", "02-01").move("p", "02-08").move("W", "02-20")
	open(4, "300", "").move("q", "01-20").move("L", "01-30").move("R", "02-15").move("p", "02-25")
	open(5, "120", "").move("q", "02-03").move("p", "02-13")
	open(6, "60", "East").move("p", "02-10").move("n", "02-20").move("W", "02-28")
	return log
}

// goldenDeals folds the events through the declarations, in memory.
func goldenDeals(t *testing.T, events []domain.Recorded) []sales.FunnelDeal {
	t.Helper()
	money := func(a *domain.Amount, currency string) *domain.Money {
		if a == nil {
			return nil
		}
		return &domain.Money{Amount: *a, Currency: domain.Currency(currency)}
	}
	index := map[domain.ID]int{}
	var deals []sales.FunnelDeal
	for i, o := range rows[sales.Opportunity](t, salesprojections.Opportunity, events) {
		index[o.ID] = i
		deals = append(deals, sales.FunnelDeal{
			ID: o.ID, Owner: o.Owner, Region: o.Region, Opened: o.OpenedAt,
		})
	}
	for _, v := range rows[sales.StageVisit](t, salesprojections.OpportunityStageVisit, events) {
		visit := sales.FunnelVisit{
			Stage: v.Stage, PipelineVersion: v.PipelineVersion, Probability: v.Probability, LeftBy: v.LeftBy,
			Revision: v.EnteredRevision, Entered: v.EnteredAt, Left: v.LeftAt,
			Amount: money(v.Amount, v.Currency), Closed: money(v.ClosedAmount, v.ClosedCurrency),
		}
		d := &deals[index[v.OpportunityID]]
		d.Visits = append(d.Visits, visit)
	}
	for _, a := range rows[sales.OpportunityAmount](t, salesprojections.OpportunityAmount, events) {
		if a.EventType != "opportunity.re_estimated" {
			continue
		}
		d := &deals[index[a.OpportunityID]]
		d.Estimates = append(d.Estimates, sales.FunnelAmount{Revision: a.Revision, Since: a.OccurredAt, Amount: *money(&a.Amount, a.Currency)})
	}
	return deals
}

// golden checks every published number against a way of answering funnel queries.
func golden(t *testing.T, ask func(sales.FunnelQuery) sales.Funnel) {
	t.Helper()
	january := sales.FunnelQuery{PipelineID: goldenPipeline, From: day("01-01"), To: day("02-01"), AsOf: day("03-01")}
	february := sales.FunnelQuery{PipelineID: goldenPipeline, From: day("02-01"), To: day("03-01"), AsOf: day("03-01")}
	for mode, want := range map[sales.FunnelMode][]int64{
		sales.ModeStrict: {4, 3, 1, 1}, sales.ModeAny: {4, 3, 2, 2}, sales.ModeReached: {4, 4, 3, 2},
	} {
		q := january
		q.Mode = mode
		var got []int64
		for _, s := range ask(q).Stages {
			got = append(got, s.Count)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("cohort of January, %s: %s", mode, diff)
		}
	}
	f := ask(february)
	for _, e := range f.Entries {
		if e.Stage == "p" && (e.Entries != 4 || e.FirstEntries != 3) {
			t.Errorf("entries into P in February: %+v", e)
		}
	}
	if w := f.WinRate; w.ByCount.Count != 3 || w.ByCount.Of != 4 || w.Won.String() != "240" || w.Lost.String() != "200" {
		t.Errorf("win rate of February: %+v", w)
	}
	if c := f.Cycle.Won; c.Count != 3 || *c.Median != 31 {
		t.Errorf("cycle of February: %+v", c)
	}
	asKnown := january
	asKnown.AsOf = day("01-31")
	if w := ask(asKnown).WinRate; w.ByCount.Count != 0 || w.ByCount.Of != 1 {
		t.Errorf("win rate of January as known: %+v", w)
	}
	if w := ask(january).WinRate; w.ByCount.Of != 0 {
		t.Errorf("win rate of January restated: %+v", w)
	}
	for at, want := range map[time.Time]map[string]int64{
		day("01-31"):                        {"q": 1, "n": 2, "lost": 1},
		day("03-01").Add(-time.Millisecond): {"p": 2, "won": 3, "lost": 1},
	} {
		s := ask(sales.FunnelQuery{PipelineID: goldenPipeline, AsOf: at}).Snapshot
		got := map[string]int64{}
		for _, stage := range s.Stages {
			if stage.Deals > 0 {
				got[stage.Stage] = stage.Deals
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("snapshot at %s: %s", at, diff)
		}
		if at.Equal(day("01-31")) && s.Open.Value.String() != "350" {
			t.Errorf("open value on 01-31: %s", s.Open.Value)
		}
	}
	for _, s := range ask(january).TimeInStage {
		if s.Stage == "p" && (s.First.Count != 2 || s.Open.Count != 1 || *s.Open.Median != 4) {
			t.Errorf("time in P: %+v", s)
		}
	}
}

func TestGoldenFunnelFromEventsInMemory(t *testing.T) {
	events := goldenLog().events
	pipelines := rows[sales.Pipeline](t, salesprojections.Pipeline, events)
	versions := rows[sales.PipelineVersion](t, salesprojections.PipelineVersion, events)
	deals := goldenDeals(t, events)
	golden(t, func(q sales.FunnelQuery) sales.Funnel {
		f, err := sales.ComputeFunnel(q, sales.PipelineDetail{Pipeline: pipelines[0], Versions: versions}, deals)
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}

// D11 of docs/faults.md.
func TestGoldenFunnelFromEventsThroughTheDatabase(t *testing.T) {
	s := store(t, goldenLog().events)
	golden(t, func(q sales.FunnelQuery) sales.Funnel {
		f, err := sales.ReadFunnel(t.Context(), s, q, day("12-31"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}

// TestAFunnelCountsDealsOnceWhenAViewChanges: the estimates' view changes a type at a switch, so that the query fails after
// the deals were read, and is sent again.
func TestAFunnelCountsDealsOnceWhenAViewChanges(t *testing.T) {
	s, conn := storeAt(t, goldenLog().events)
	ask := func() sales.Funnel {
		f, err := sales.ReadFunnel(t.Context(), s, sales.FunnelQuery{PipelineID: goldenPipeline}, day("12-31"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	before := ask()
	exec(t, conn, "alter view rapport.opportunity_amount rename to before")
	exec(t, conn, `create view rapport.opportunity_amount as
		select tenant, opportunity_id, revision::int4 as revision, event_type, amount, currency, occurred_at from rapport.before`)
	if diff := cmp.Diff(before, ask()); diff != "" {
		t.Errorf("the second funnel is another (-before +after):\n%s", diff)
	}
}

func TestGoldenFunnelByRegionThroughTheDatabase(t *testing.T) {
	s := store(t, goldenLog().events)
	q := sales.FunnelQuery{
		PipelineID: goldenPipeline, GroupBy: []string{"region", "month", "product"}, Mode: sales.ModeAny,
		Filter: `region in ["West", "East"]`, Zone: "Asia/Shanghai",
	}
	f, err := sales.ReadFunnel(t.Context(), s, q, day("03-01"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range f.Won {
		for _, g := range b.Groups {
			got = append(got, b.By+" "+g.Key+" "+g.Value.String())
		}
	}
	want := []string{"region East 60", "region West 180", "month 2026-02 240", "product  240"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if f.Definition.SampleSize != 4 || f.Position.IsZero() {
		t.Errorf("%+v at %s", f.Definition, f.Position)
	}
}
