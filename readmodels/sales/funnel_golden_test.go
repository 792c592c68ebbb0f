package sales

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
)

// The golden data set of six deals in the stages Q, P and N, with the numbers that are published for it.

func on(day string) time.Time {
	t, err := time.Parse(time.DateOnly, "2026-"+day)
	if err != nil {
		panic(err)
	}
	return t
}

func cny(amount string) domain.Money { return domain.MustMoney(amount, "CNY") }

var goldenPipeline = PipelineDetail{Pipeline: Pipeline{
	ID: "00000000-0000-7000-8000-000000000001", Name: "Golden", Version: 1,
	Stages: []PipelineStage{{"q", "Q", 10}, {"p", "P", 50}, {"n", "N", 75}},
}}

// deal builds a deal from moves such as "q 01-05", with W and L for won and lost.
func deal(id string, amounts []FunnelAmount, moves ...string) FunnelDeal {
	d := FunnelDeal{ID: domain.ID(id)}
	for i, a := range amounts {
		if i > 0 {
			a.Revision = revision(a.Since)
			d.Estimates = append(d.Estimates, a)
		}
	}
	value := func(at time.Time) *domain.Money {
		var m *domain.Money
		for i := range amounts {
			if !amounts[i].Since.After(at) {
				m = &amounts[i].Amount
			}
		}
		return m
	}
	for i, move := range moves {
		stage, at := move[:1], on(move[2:])
		now := at
		if i == 0 {
			d.Opened = now
		} else if last := &d.Visits[len(d.Visits)-1]; last.Left == nil {
			last.Left, last.LeftBy = &now, LeftMoved
			switch stage {
			case "W":
				last.LeftBy, last.Closed = LeftWon, value(at)
			case "L":
				last.LeftBy, last.Closed = LeftLost, value(at)
			}
		}
		if stage != "W" && stage != "L" {
			d.Visits = append(d.Visits, FunnelVisit{Stage: stage, PipelineVersion: 1, Revision: revision(at), Entered: now, Amount: value(at)})
		}
	}
	return d
}

// revision numbers events by their time: in the data set no two of a deal happen at once.
func revision(at time.Time) int64 { return at.Unix() }

func worth(pairs ...string) []FunnelAmount {
	var list []FunnelAmount
	for i := 0; i < len(pairs); i += 2 {
		at := on(pairs[i])
		list = append(list, FunnelAmount{Since: at, Amount: cny(pairs[i+1])})
	}
	return list
}

func goldenDeals() []FunnelDeal {
	return []FunnelDeal{
		deal("D1", worth("01-05", "100"), "q 01-05", "p 01-15", "n 01-25", "W 02-05"),
		deal("D2", worth("01-10", "200"), "q 01-10", "n 01-20", "L 02-10"),
		deal("D3", worth("01-12", "50", "02-01", "80"), "q 01-12", "p 01-22", "q 01-29", "p 02-08", "W 02-20"),
		deal("D4", worth("01-20", "300"), "q 01-20", "L 01-30", "q 02-15", "p 02-25"),
		deal("D5", worth("02-03", "120"), "q 02-03", "p 02-13"),
		deal("D6", worth("02-10", "60"), "p 02-10", "n 02-20", "W 02-28"),
	}
}

var (
	january  = FunnelQuery{From: on("01-01"), To: on("02-01"), AsOf: on("03-01")}
	february = FunnelQuery{From: on("02-01"), To: on("03-01"), AsOf: on("03-01")}
)

func compute(t *testing.T, q FunnelQuery) Funnel {
	t.Helper()
	f, err := ComputeFunnel(q, goldenPipeline, goldenDeals())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func stageCounts(f Funnel) map[string]int64 {
	counts := map[string]int64{}
	for _, s := range f.Stages {
		counts[s.Stage] = s.Count
	}
	return counts
}

func TestGoldenCohortOfJanuary(t *testing.T) {
	for mode, want := range map[FunnelMode]map[string]int64{
		ModeStrict:  {"q": 4, "p": 3, "n": 1, "won": 1},
		ModeAny:     {"q": 4, "p": 3, "n": 2, "won": 2},
		ModeReached: {"q": 4, "p": 4, "n": 3, "won": 2},
	} {
		q := january
		q.Mode = mode
		f := compute(t, q)
		if diff := cmp.Diff(want, stageCounts(f)); diff != "" {
			t.Errorf("%s: %s", mode, diff)
		}
		if f.Definition.SampleSize != 4 || f.Definition.Currency != "CNY" {
			t.Errorf("%s: definition %+v", mode, f.Definition)
		}
	}
}

func TestGoldenConversionKeepsCountsAndIntervals(t *testing.T) {
	f := compute(t, january)
	p := f.Stages[1]
	if p.Step.Count != 3 || p.Step.Of != 4 || *p.Step.Rate != 0.75 || *p.Cumulative.Rate != 0.75 {
		t.Errorf("p: %+v", p)
	}
	// Wilson's interval of 3 of 4, by hand.
	if low, high := *p.Step.Low, *p.Step.High; low < 0.3006 || low > 0.3007 || high < 0.9544 || high > 0.9545 {
		t.Errorf("interval %f to %f", low, high)
	}
	if won := f.Stages[3]; *won.Cumulative.Rate != 0.25 || won.Step.Of != 1 {
		t.Errorf("won: %+v", won)
	}
	if got := f.Stages[0].Value.String(); got != "650" { // 100 + 200 + 50 + 300 at entry: D3's rise came later
		t.Errorf("value at entry %s", got)
	}
	if f.Maturity.Count != 3 || f.Maturity.Of != 4 || !f.Young {
		t.Errorf("maturity %+v", f.Maturity)
	}
}

func TestGoldenEntriesOfFebruary(t *testing.T) {
	for _, e := range compute(t, february).Entries {
		if e.Stage == "p" && (e.Entries != 4 || e.FirstEntries != 3) {
			t.Errorf("%+v", e)
		}
	}
}

func snapshotOf(f Funnel) map[string]int64 {
	counts := map[string]int64{}
	for _, s := range f.Snapshot.Stages {
		if s.Deals > 0 {
			counts[s.Stage] = s.Deals
		}
	}
	return counts
}

func TestGoldenSnapshots(t *testing.T) {
	f := compute(t, FunnelQuery{AsOf: on("01-31")})
	if diff := cmp.Diff(map[string]int64{"q": 1, "n": 2, "lost": 1}, snapshotOf(f)); diff != "" {
		t.Error(diff)
	}
	if f.Snapshot.Open.Deals != 3 || f.Snapshot.Open.Value.String() != "350" {
		t.Errorf("open %+v", f.Snapshot.Open)
	}
	endOfFebruary := on("03-01").Add(-time.Millisecond)
	if diff := cmp.Diff(map[string]int64{"p": 2, "won": 3, "lost": 1}, snapshotOf(compute(t, FunnelQuery{AsOf: endOfFebruary}))); diff != "" {
		t.Error(diff)
	}
	stages := map[string]string{}
	v := view{asOf: on("01-31"), stage: stageMapper(goldenPipeline)}
	deals := goldenDeals()
	for i := range deals {
		if d, ok := v.look(&deals[i]); ok {
			stages[string(d.ID)] = d.current()
		}
	}
	if diff := cmp.Diff(map[string]string{"D1": "n", "D2": "n", "D3": "q", "D4": "lost"}, stages); diff != "" {
		t.Error(diff)
	}
}

func TestGoldenWinRate(t *testing.T) {
	w := compute(t, february).WinRate
	if w.ByCount.Count != 3 || w.ByCount.Of != 4 || *w.ByCount.Rate != 0.75 {
		t.Errorf("by count %+v", w.ByCount)
	}
	if w.Won.String() != "240" || w.Lost.String() != "200" || *w.ByValue < 0.5454 || *w.ByValue > 0.5455 {
		t.Errorf("by value %+v", w)
	}
}

func TestGoldenWinRateOfJanuaryAsKnownAndRestated(t *testing.T) {
	asKnown := january
	asKnown.AsOf = on("01-31")
	if w := compute(t, asKnown).WinRate; w.ByCount.Count != 0 || w.ByCount.Of != 1 {
		t.Errorf("as known: %+v", w.ByCount)
	}
	if w := compute(t, january).WinRate; w.ByCount.Of != 0 || w.ByCount.Rate != nil {
		t.Errorf("restated: %+v", w.ByCount)
	}
}

func TestGoldenTimeInStage(t *testing.T) {
	deals := goldenDeals()
	v := view{asOf: on("03-01"), stage: stageMapper(goldenPipeline)}
	days := func(i int, stage string) (first, latest, cumulative, open float64) {
		d, _ := v.look(&deals[i])
		var s stageTime
		for _, t := range d.times(v.asOf) {
			if t.stage == stage {
				s = t
			}
		}
		of := func(x *time.Duration) float64 {
			if x == nil {
				return -1
			}
			return x.Hours() / 24
		}
		return of(s.first), of(s.latest), of(&s.cumulative), of(s.open)
	}
	type row [4]float64
	got := map[string]row{}
	for name, at := range map[string]struct {
		deal  int
		stage string
	}{"D3 Q": {2, "q"}, "D3 P": {2, "p"}, "D4 Q": {3, "q"}, "D4 P": {3, "p"}, "D2 P": {1, "p"}} {
		a, b, c, d := days(at.deal, at.stage)
		got[name] = row{a, b, c, d}
	}
	want := map[string]row{
		"D3 Q": {10, 10, 20, -1},
		"D3 P": {7, 12, 19, -1},
		"D4 Q": {10, 10, 20, -1},
		"D4 P": {-1, -1, 4, 4}, // still open: censored
		"D2 P": {-1, -1, 0, -1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, s := range compute(t, january).TimeInStage { // skipped stages have no duration, open visits are apart
		if s.Stage == "p" && (s.First.Count != 2 || s.Open.Count != 1 || *s.Open.Median != 4) {
			t.Errorf("%+v", s)
		}
	}
}

func TestGoldenCycle(t *testing.T) {
	c := compute(t, february).Cycle
	if c.Won.Count != 3 || *c.Won.Median != 31 || *c.Won.P90 < 37.39 || *c.Won.P90 > 37.41 { // 18, 31, 39
		t.Errorf("won %+v", c.Won)
	}
	if c.Lost.Count != 1 || *c.Lost.Median != 31 {
		t.Errorf("lost %+v", c.Lost)
	}
}
