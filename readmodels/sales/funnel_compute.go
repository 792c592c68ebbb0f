package sales

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones must not depend on the machine

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// youngMaturity is the share of closed deals below which a cohort is flagged as young.
const youngMaturity = 0.8

// day is one day as the nanoseconds of a time.Duration.
const day = float64(24 * time.Hour)

var modeRules = map[FunnelMode]string{
	ModeStrict:  "counted at a stage only when it entered all earlier selected stages, in order",
	ModeAny:     "counted at a stage when it was there, in any order",
	ModeReached: "counted at a stage when it was there or at any later stage, or won; skipped stages are inferred; losing infers nothing",
}

// calculation is one run over the deals of a pipeline.
type calculation struct {
	FunnelQuery
	pipeline PipelineDetail
	zone     *time.Location
	names    map[string]string
	rank     map[string]int // of the stages on the way, for mode reached
	deals    []dealView     // the population
	cohort   []dealView
}

// ComputeFunnel computes the funnel of the deals of a pipeline. It is pure; q.AsOf must be set. Faults of the query are
// *domain.InvalidError.
func ComputeFunnel(q FunnelQuery, pipeline PipelineDetail, deals []FunnelDeal) (Funnel, error) {
	c := calculation{FunnelQuery: q, pipeline: pipeline, names: map[string]string{StageWon: "Won", StageLost: "Lost"}}
	if err := c.normalise(); err != nil {
		return Funnel{}, err
	}
	v := view{asOf: c.AsOf, stage: stageMapper(pipeline)}
	for i := range deals {
		if d, ok := v.look(&deals[i]); ok {
			c.deals = append(c.deals, d)
			if c.inCohort(d) {
				c.cohort = append(c.cohort, d)
			}
		}
	}
	if c.Currency == "" {
		c.Currency = c.usualCurrency()
	}
	won := int64(0)
	closed := int64(0)
	for _, d := range c.cohort {
		if d.outcome != OpportunityOpen {
			closed++
		}
		if d.outcome == OpportunityWon {
			won++
		}
	}
	answer := Funnel{
		Definition:    c.definition(),
		Maturity:      newRate(closed, int64(len(c.cohort))),
		CohortWinRate: newRate(won, int64(len(c.cohort))),
		WinRate:       c.winRate(),
		Won:           c.breakdowns(),
		Cycle:         c.cycle(),
		Entries:       c.entryCounts(),
		TimeInStage:   c.timeInStage(),
		Snapshot:      c.snapshot(),
	}
	answer.Young = answer.Maturity.Rate != nil && *answer.Maturity.Rate < youngMaturity
	answer.Stages, answer.Unmapped = c.stages()
	return answer, nil
}

// normalise fills in defaults and refuses what means nothing.
func (c *calculation) normalise() (err error) {
	var pipelineOrder []string
	for _, s := range c.pipeline.Stages {
		pipelineOrder = append(pipelineOrder, s.Key)
		c.names[s.Key] = s.Name
	}
	for _, v := range c.pipeline.Versions { // names of stages that the newest version does not have
		for _, s := range v.Stages {
			if _, ok := c.names[s.Key]; !ok {
				c.names[s.Key] = s.Name
			}
		}
	}
	pipelineOrder = append(pipelineOrder, StageWon)
	if len(c.Stages) == 0 {
		c.Stages = pipelineOrder
	}
	if len(c.Stages) > MaxFunnelStages {
		return domain.Invalid("stages", "more than {limit} stages", MaxFunnelStages)
	}
	for i, s := range c.Stages {
		if _, ok := c.names[s]; !ok {
			return domain.Invalid("stages", "the pipeline has no stage \"{value}\"", s)
		}
		if slices.Contains(c.Stages[:i], s) {
			return domain.Invalid("stages", "stage \"{value}\" stands there twice", s)
		}
	}
	// Later means later in the pipeline, so that a visit of a stage that was not selected infers too. Only when the
	// query reorders stages is it the order of the query. Lost is on no way.
	order := slices.DeleteFunc(slices.Clone(c.Stages), func(s string) bool { return s == StageLost })
	if isSubsequence(order, pipelineOrder) {
		order = pipelineOrder
	}
	c.rank = map[string]int{}
	for i, s := range order {
		c.rank[s] = i
	}
	c.Mode = cmp.Or(c.Mode, ModeStrict)
	if modeRules[c.Mode] == "" {
		return domain.Invalid("mode", "\"{value}\" is not strict, any or reached", c.Mode)
	}
	c.Basis = cmp.Or(c.Basis, BasisCreated)
	if stage, entered := strings.CutPrefix(c.Basis, BasisEntered); entered {
		if _, ok := c.names[stage]; !ok {
			return domain.Invalid("basis", "the pipeline has no stage \"{stage}\"", stage)
		}
	} else if c.Basis != BasisCreated && c.Basis != BasisClosed {
		return domain.Invalid("basis", "\"{value}\" is not created, closed or entered:<stage>", c.Basis)
	}
	if !c.From.IsZero() && !c.To.IsZero() && !c.From.Before(c.To) {
		return domain.Invalid("to", "the window is empty")
	}
	if c.Currency != "" {
		if _, err := domain.ParseCurrency(c.Currency); err != nil {
			return domain.Invalid("currency", "\"{value}\" is not an ISO 4217 currency code", c.Currency)
		}
	}
	for i, g := range c.GroupBy {
		if !slices.Contains(FunnelGroups, g) || slices.Contains(c.GroupBy[:i], g) {
			return domain.Invalid("groupBy", "\"{value}\" is not one of {allowed}, each once", g, FunnelGroups)
		}
	}
	c.Zone = cmp.Or(c.Zone, "UTC")
	if c.zone, err = time.LoadLocation(c.Zone); err != nil || c.Zone == "Local" {
		return domain.Invalid("zone", "\"{value}\" is not a time zone such as Europe/Berlin", c.Zone)
	}
	return nil
}

func isSubsequence(part, whole []string) bool {
	for _, s := range whole {
		if len(part) > 0 && part[0] == s {
			part = part[1:]
		}
	}
	return len(part) == 0
}

// stageMapper follows the mappings of versions from the one that a visit was made under to the newest. A stage without a
// successor keeps its key, and so shows as unmapped.
func stageMapper(p PipelineDetail) func(string, int64) string {
	next := map[int64]map[string]string{} // by the version that a mapping leads to
	for _, v := range p.Versions {
		to := map[string]string{}
		for _, m := range v.Mapping {
			to[m.From] = m.To
		}
		next[v.Version] = to
	}
	return func(key string, version int64) string {
		for v := version + 1; v <= p.Version; v++ {
			to := next[v][key]
			if to == "" {
				return key
			}
			key = to
		}
		return key
	}
}

// inWindow reports whether t is in [From, To).
func (c *calculation) inWindow(t time.Time) bool {
	return (c.From.IsZero() || !t.Before(c.From)) && (c.To.IsZero() || t.Before(c.To))
}

func (c *calculation) inCohort(d dealView) bool {
	switch c.Basis {
	case BasisCreated:
		return c.inWindow(d.Opened)
	case BasisClosed:
		return d.outcome != OpportunityOpen && c.inWindow(d.closed)
	}
	at, ok := d.firstEntry(strings.TrimPrefix(c.Basis, BasisEntered))
	return ok && c.inWindow(at)
}

// usualCurrency returns the currency that most deals of the population have, the first of the alphabet when several do.
func (c *calculation) usualCurrency() string {
	deals := map[string]int{}
	for _, d := range c.deals {
		if m := d.money(); m != nil {
			deals[string(m.Currency)]++
		}
	}
	best := ""
	for _, currency := range slices.Sorted(maps.Keys(deals)) {
		if deals[currency] > deals[best] {
			best = currency
		}
	}
	return best
}

// money returns the value of the deal as the view sees it: what was won or lost, else the estimate.
func (d dealView) money() *domain.Money {
	if d.final != nil {
		return d.final
	}
	return d.value
}

// value returns the amount in the currency of the funnel.
func (c *calculation) value(m *domain.Money) (domain.Amount, bool) {
	if m == nil || string(m.Currency) != c.Currency {
		return domain.Amount{}, false
	}
	return m.Amount, true
}

func (c *calculation) definition() FunnelDefinition {
	d := FunnelDefinition{
		PipelineID: c.pipeline.ID, PipelineName: c.pipeline.Name, PipelineVersion: c.pipeline.Version,
		PipelineVersions: []int64{},
		Population:       "all opportunities of the pipeline",
		Basis:            c.Basis, Mode: c.Mode, ModeRule: modeRules[c.Mode], AsOf: c.AsOf, Axis: cmp.Or(c.Axis, query.AxisRecorded),
		Currency:     c.Currency,
		CurrencyRule: "values in other currencies are left out; nothing is converted",
		AmountRule:   "stages: amount at entry; won and lost: amount at closing; snapshot: amount as it was at asOf",
		Attribution:  "owner, region, source and lines as they stood at asOf",
		Percentiles:  "linear interpolation between the closest ranks",
		Interval:     "Wilson score, 95 %",
		Zone:         c.Zone,
		Rights:       "none",
		SampleSize:   int64(len(c.cohort)), PopulationSize: int64(len(c.deals)),
	}
	if c.Filter != "" {
		d.Population += " that match at asOf: " + c.Filter
	}
	d.From, d.To = orNil(c.From), orNil(c.To)
	versions := map[int64]bool{}
	for _, deal := range c.cohort {
		for i := range deal.Visits {
			if visit := &deal.Visits[i]; !visit.Entered.After(c.AsOf) {
				versions[visit.PipelineVersion] = true
			}
		}
	}
	d.PipelineVersions = append(d.PipelineVersions, slices.Sorted(maps.Keys(versions))...)
	for _, deal := range c.deals {
		if m := deal.money(); m != nil && string(m.Currency) != c.Currency {
			d.OtherCurrencies++
		}
	}
	return d
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// stages counts the cohort at each selected stage.
func (c *calculation) stages() ([]FunnelStage, []FunnelUnmapped) {
	list := make([]FunnelStage, len(c.Stages))
	for i, s := range c.Stages {
		list[i] = FunnelStage{Stage: s, Name: c.names[s]}
	}
	unmapped := map[string]int64{}
	for _, d := range c.cohort {
		for i, at := range c.counted(d.entered) {
			if at == nil {
				continue
			}
			list[i].Count++
			if amount, ok := c.value(at.amount); ok {
				list[i].Value = add(list[i].Value, amount)
			}
		}
		for i, s := range d.stays {
			if _, ranked := c.rank[s.stage]; ranked || slices.Contains(c.Stages, s.stage) {
				continue
			}
			if !slices.ContainsFunc(d.stays[:i], func(before stay) bool { return before.stage == s.stage }) {
				unmapped[s.stage]++
			}
		}
	}
	before := int64(len(c.cohort))
	for i := range list {
		list[i].Step = newRate(list[i].Count, before)
		list[i].Cumulative = newRate(list[i].Count, list[0].Count)
		before = list[i].Count
	}
	rest := []FunnelUnmapped{}
	for _, stage := range slices.Sorted(maps.Keys(unmapped)) {
		rest = append(rest, FunnelUnmapped{stage, unmapped[stage]})
	}
	return list, rest
}

// counted returns, for each selected stage, the entry by which a deal with these entries counts there, or nil.
func (c *calculation) counted(entries []entry) []*entry {
	at := make([]*entry, len(c.Stages))
	switch c.Mode {
	case ModeStrict:
		next := 0
		for i := range entries {
			if next < len(c.Stages) && entries[i].stage == c.Stages[next] {
				at[next] = &entries[i]
				next++
			}
		}
	case ModeAny:
		for i, stage := range c.Stages {
			at[i] = firstWhere(entries, func(e entry) bool { return e.stage == stage })
		}
	case ModeReached:
		for i, stage := range c.Stages {
			rank, onTheWay := c.rank[stage]
			at[i] = firstWhere(entries, func(e entry) bool {
				r, ok := c.rank[e.stage]
				return e.stage == stage || onTheWay && ok && r >= rank
			})
		}
	}
	return at
}

func firstWhere(entries []entry, holds func(entry) bool) *entry {
	if i := slices.IndexFunc(entries, holds); i >= 0 {
		return &entries[i]
	}
	return nil
}

func (c *calculation) winRate() WinRate {
	var w WinRate
	for _, d := range c.deals {
		if d.outcome == OpportunityOpen || !c.inWindow(d.closed) {
			continue
		}
		amount, ok := c.value(d.final)
		if !ok {
			w.NoValue++
		}
		if d.outcome == OpportunityWon {
			w.WonCount++
			w.Won = add(w.Won, amount)
		} else {
			w.LostCount++
			w.Lost = add(w.Lost, amount)
		}
	}
	w.ByCount = newRate(w.WonCount, w.WonCount+w.LostCount)
	if all := w.Won.Add(w.Lost.Decimal); all.IsPositive() {
		share := w.Won.Div(all).InexactFloat64()
		w.ByValue = &share
	}
	return w
}

func (c *calculation) cycle() Cycle {
	var won, lost []float64
	for _, d := range c.deals {
		if d.outcome == OpportunityOpen || !c.inWindow(d.closed) {
			continue
		}
		days := float64(d.cycle()) / day
		if d.outcome == OpportunityWon {
			won = append(won, days)
		} else {
			lost = append(lost, days)
		}
	}
	return Cycle{Won: newDays(won), Lost: newDays(lost)}
}

// order returns all stages that answers list: the selected ones, then the pipeline's others, then the outcomes.
func (c *calculation) order() []string {
	list := slices.DeleteFunc(slices.Clone(c.Stages), func(s string) bool { return s == StageWon || s == StageLost })
	for _, s := range c.pipeline.Stages {
		if !slices.Contains(list, s.Key) {
			list = append(list, s.Key)
		}
	}
	return append(list, StageWon, StageLost)
}

func (c *calculation) entryCounts() []StageEntries {
	counts := map[string]*StageEntries{}
	var list []StageEntries
	for _, stage := range c.order() {
		counts[stage] = &StageEntries{Stage: stage}
	}
	for _, d := range c.deals {
		for i, e := range d.entered {
			if n := counts[e.stage]; n != nil && c.inWindow(e.at) {
				n.Entries++
				if !slices.ContainsFunc(d.entered[:i], func(before entry) bool { return before.stage == e.stage }) {
					n.FirstEntries++
				}
			}
		}
	}
	for _, stage := range c.order() {
		list = append(list, *counts[stage])
	}
	return list
}

func (c *calculation) timeInStage() []StageTime {
	type sets struct{ first, latest, cumulative, open []float64 }
	all := map[string]*sets{}
	for _, d := range c.cohort {
		for _, t := range d.times(c.AsOf) {
			s := all[t.stage]
			if s == nil {
				s = &sets{}
				all[t.stage] = s
			}
			if t.first != nil {
				s.first = append(s.first, float64(*t.first)/day)
			}
			if t.latest != nil {
				s.latest = append(s.latest, float64(*t.latest)/day)
			}
			if t.open != nil {
				s.open = append(s.open, float64(*t.open)/day)
			} else {
				s.cumulative = append(s.cumulative, float64(t.cumulative)/day)
			}
		}
	}
	list := []StageTime{}
	for _, stage := range c.order() {
		s := all[stage]
		if stage == StageWon || stage == StageLost {
			continue
		}
		if s == nil {
			s = &sets{}
		}
		list = append(list, StageTime{
			Stage: stage, First: newDays(s.first), Latest: newDays(s.latest), Cumulative: newDays(s.cumulative), Open: newDays(s.open),
		})
	}
	return list
}

func (c *calculation) snapshot() Snapshot {
	totals := map[string]*SnapshotTotal{}
	snapshot := Snapshot{At: c.AsOf, Stages: []SnapshotStage{}}
	for _, d := range c.deals {
		stage := d.current()
		t := totals[stage]
		if t == nil {
			t = &SnapshotTotal{}
			totals[stage] = t
		}
		amount, ok := c.value(d.money())
		weighted := domain.Amount{}
		if d.outcome == OpportunityOpen {
			share := domain.NewAmount(amount.Mul(percent(d.stays[len(d.stays)-1].probability)))
			weighted = share
			snapshot.Open.count(amount, weighted, ok)
		}
		t.count(amount, weighted, ok)
	}
	order := c.order()
	for stage := range totals {
		if !slices.Contains(order, stage) {
			order = append(order, stage)
		}
	}
	slices.Sort(order[len(c.order()):])
	for _, stage := range order {
		s := SnapshotStage{Stage: stage}
		if t := totals[stage]; t != nil {
			s.SnapshotTotal = *t
		}
		snapshot.Stages = append(snapshot.Stages, s)
	}
	return snapshot
}

func (t *SnapshotTotal) count(amount, weighted domain.Amount, hasValue bool) {
	t.Deals++
	t.Value = add(t.Value, amount)
	t.Weighted = add(t.Weighted, weighted)
	if !hasValue {
		t.NoValue++
	}
}

func percent(p int64) domain.Decimal {
	d, err := domain.ParseDecimal(fmt.Sprintf("%d.%02d", p/100, p%100))
	if err != nil {
		panic(err) // cannot happen: probabilities are 0 to 100
	}
	return d
}

func add(a, b domain.Amount) domain.Amount { return domain.NewAmount(a.Add(b.Decimal)) }
