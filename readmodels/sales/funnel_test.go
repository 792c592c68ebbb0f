package sales

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
)

func TestFunnelQueriesThatMeanNothingAreRefused(t *testing.T) {
	many := make([]string, MaxFunnelStages+1)
	for pointer, queries := range map[string][]FunnelQuery{
		"stages":   {{Stages: []string{"x"}}, {Stages: []string{"q", "q"}}, {Stages: many}},
		"mode":     {{Mode: "loose"}},
		"basis":    {{Basis: "born"}, {Basis: "entered:x"}, {Basis: "entered:"}},
		"to":       {{From: on("02-01"), To: on("02-01")}, {From: on("02-01"), To: on("01-01")}},
		"currency": {{Currency: "euro"}},
		"groupBy":  {{GroupBy: []string{"colour"}}, {GroupBy: []string{"month", "month"}}},
		"zone":     {{Zone: "Mars/Olympus"}, {Zone: "Local"}, {Zone: "../etc/passwd"}},
	} {
		for _, q := range queries {
			q.AsOf = on("03-01")
			_, err := ComputeFunnel(q, goldenPipeline, nil)
			var invalid *domain.InvalidError
			if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != pointer {
				t.Errorf("%s: %+v gives %v", pointer, q, err)
			}
		}
	}
}

func TestAFunnelOfNothingHasNoRates(t *testing.T) {
	f, err := ComputeFunnel(FunnelQuery{AsOf: on("03-01"), GroupBy: FunnelGroups}, goldenPipeline, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.Stages[0].Step.Rate != nil || f.WinRate.ByValue != nil || f.Cycle.Won.Median != nil || f.Young || f.Definition.Currency != "" {
		t.Errorf("%+v", f)
	}
}

func TestBasesSelectCohorts(t *testing.T) {
	for basis, want := range map[string]int64{
		BasisCreated:  2, // D5, D6
		BasisClosed:   4, // D1, D2, D3, D6
		"entered:p":   3, // D4, D5, D6: D3 entered P in January first
		"entered:won": 3,
	} {
		q := february
		q.Basis = basis
		if got := compute(t, q).Definition.SampleSize; got != want {
			t.Errorf("%s: %d deals, want %d", basis, got, want)
		}
	}
}

func TestTheOrderOfSelectedStagesCountsInStrictMode(t *testing.T) {
	q := january
	q.Stages = []string{"n", "q"} // nobody went from N to Q
	if diff := cmp.Diff(map[string]int64{"n": 2, "q": 0}, stageCounts(compute(t, q))); diff != "" {
		t.Error(diff)
	}
	q.Stages, q.Mode = []string{"q", "n"}, ModeReached // a win passes N although it was skipped
	if diff := cmp.Diff(map[string]int64{"q": 4, "n": 3}, stageCounts(compute(t, q))); diff != "" {
		t.Error(diff)
	}
}

// With lost among the stages, later stages that were not selected inferred nothing any more.
func TestReproLostAmongTheStagesChangesNoOther(t *testing.T) {
	q := january
	q.Mode = ModeReached
	for _, stages := range [][]string{{"n", "lost"}, {"lost", "n"}} {
		q.Stages = stages
		if diff := cmp.Diff(map[string]int64{"n": 3, "lost": 1}, stageCounts(compute(t, q))); diff != "" {
			t.Errorf("%v: %s", stages, diff)
		}
	}
}

func TestAWinThatWasTakenBackIsNoWin(t *testing.T) {
	deals := []FunnelDeal{deal("D", worth("01-05", "100"), "q 01-05", "W 01-10", "p 01-20")}
	f, err := ComputeFunnel(FunnelQuery{Mode: ModeAny, AsOf: on("02-01")}, goldenPipeline, deals)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"q": 1, "p": 1, "n": 0, "won": 0}, stageCounts(f)); diff != "" {
		t.Error(diff)
	}
	before, err := ComputeFunnel(FunnelQuery{Mode: ModeAny, AsOf: on("01-15")}, goldenPipeline, deals)
	if err != nil || stageCounts(before)["won"] != 1 || before.WinRate.Won.String() != "100" {
		t.Errorf("%v: while it held: %+v", err, before.Stages)
	}
}

func TestStagesOfOlderVersionsFollowTheMapping(t *testing.T) {
	p := PipelineDetail{
		Pipeline: Pipeline{ID: goldenPipeline.ID, Name: "Sales", Version: 3, Stages: []PipelineStage{{"q", "Q", 10}, {"offer", "Offer", 60}}},
		Versions: []PipelineVersion{
			{Version: 1, Stages: goldenPipeline.Stages},
			{Version: 2, Mapping: []StageMapping{{"q", "q"}, {"p", "quote"}, {"n", ""}}},
			{Version: 3, Mapping: []StageMapping{{"q", "q"}, {"quote", "offer"}}},
		},
	}
	f, err := ComputeFunnel(FunnelQuery{Mode: ModeAny, AsOf: on("03-01")}, p, goldenDeals())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"q": 5, "offer": 5, "won": 3}, stageCounts(f)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]FunnelUnmapped{{"n", 3}}, f.Unmapped); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int64{1}, f.Definition.PipelineVersions); diff != "" {
		t.Error(diff)
	}
}

// A move between two stages that are one in the newest version, or to the new name of the stage, counted as an entry.
func TestReproAStageThatOthersBecameIsEnteredOnce(t *testing.T) {
	p := PipelineDetail{
		Pipeline: Pipeline{ID: goldenPipeline.ID, Name: "Sales", Version: 2, Stages: []PipelineStage{{"q", "Q", 10}, {"offer", "Offer", 60}}},
		Versions: []PipelineVersion{
			{Version: 1, Stages: goldenPipeline.Stages},
			{Version: 2, Mapping: []StageMapping{{"q", "q"}, {"p", "offer"}, {"n", "offer"}}},
		},
	}
	deals := []FunnelDeal{
		deal("A", worth("01-05", "100", "01-17", "120"), "q 01-05", "p 01-10", "n 01-15", "W 01-20"),
		deal("B", worth("01-05", "10"), "p 01-05", "n 01-10", "q 01-15", "p 01-20", "L 01-25", "p 02-01"), // goes back, and is opened again
	}
	renamed := deal("C", worth("01-05", "1"), "p 01-05", "o 01-10")
	renamed.Visits[1].Stage, renamed.Visits[1].PipelineVersion = "offer", 2
	f, err := ComputeFunnel(FunnelQuery{Mode: ModeAny, AsOf: on("02-11")}, p, append(deals, renamed))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range f.Entries {
		if e.Stage == "offer" && (e.Entries != 5 || e.FirstEntries != 3) { // once A and C, three times B
			t.Errorf("%+v", e)
		}
	}
	for _, s := range f.TimeInStage {
		if s.Stage != "offer" {
			continue
		}
		if s.First.Count != 2 || *s.First.Median != 10 || s.Cumulative.Count != 1 || *s.Cumulative.Median != 10 {
			t.Errorf("first %+v, cumulative %+v", s.First, s.Cumulative)
		}
		if s.Open.Count != 2 || *s.Open.Mean != (10+37)/2. {
			t.Errorf("open %+v of mean %f", s.Open, *s.Open.Mean)
		}
	}
	if f.Stages[1].Value.String() != "111" { // at entry into what is the stage now
		t.Errorf("value %s", f.Stages[1].Value)
	}
	if diff := cmp.Diff([]int64{1, 2}, f.Definition.PipelineVersions); diff != "" {
		t.Error(diff)
	}
}

func TestOtherCurrenciesCountAndHaveNoValue(t *testing.T) {
	deals := goldenDeals()
	euros := domain.MustMoney("7", "EUR")
	deals[0].Visits[2].Closed = &euros
	f, err := ComputeFunnel(february, goldenPipeline, deals)
	if err != nil {
		t.Fatal(err)
	}
	if f.Definition.Currency != "CNY" || f.Definition.OtherCurrencies != 1 || f.WinRate.ByCount.Of != 4 || f.WinRate.Won.String() != "140" || f.WinRate.NoValue != 1 {
		t.Errorf("%+v %+v", f.Definition, f.WinRate)
	}
}

func TestWonValueByProductAddsUp(t *testing.T) {
	deals := goldenDeals()
	deals[0].Products = []FunnelProduct{{"A", cny("1")}, {"B", cny("1")}, {"C", cny("1")}} // 100 in three parts
	deals[2].Products = []FunnelProduct{{"A", cny("500")}}                                 // all of 80, whatever the line says
	q := february
	q.GroupBy = []string{"product"}
	f, err := ComputeFunnel(q, goldenPipeline, deals)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, g := range f.Won[0].Groups {
		got[g.Key] = g.Value.String()
	}
	if diff := cmp.Diff(map[string]string{"A": "113.333333", "B": "33.333333", "C": "33.333334", "": "60"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestMonthsAreThoseOfTheZone(t *testing.T) {
	late := on("03-01").Add(-time.Millisecond) // 23:59:59.999 on 02-28 in UTC, March in Shanghai
	deals := []FunnelDeal{deal("D", worth("01-05", "100"), "q 01-05", "W 02-01")}
	deals[0].Visits[0].Left = &late
	for zone, want := range map[string]string{"UTC": "2026-02", "Asia/Shanghai": "2026-03", "America/New_York": "2026-02"} {
		f, err := ComputeFunnel(FunnelQuery{AsOf: on("04-01"), Zone: zone, GroupBy: []string{"month"}}, goldenPipeline, deals)
		if err != nil || f.Won[0].Groups[0].Key != want {
			t.Errorf("%s: %v %+v", zone, err, f.Won)
		}
	}
}

func TestTwoMovesAtOnceFollowTheStream(t *testing.T) {
	deals := []FunnelDeal{deal("D", worth("01-05", "100"), "q 01-05", "p 01-10", "n 01-10")}
	v := view{asOf: on("01-10"), stage: stageMapper(goldenPipeline)}
	d, ok := v.look(&deals[0])
	if !ok || d.current() != "n" || len(d.stays) != 3 || d.stays[1].to.Sub(d.stays[1].from) != 0 {
		t.Errorf("%+v", d)
	}
}
