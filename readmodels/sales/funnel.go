package sales

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// FunnelMode says when a deal counts at a stage.
type FunnelMode string

// The modes of a funnel. The zero value is ModeStrict.
const (
	ModeStrict  FunnelMode = "strict"  // it entered all earlier selected stages, in order
	ModeAny     FunnelMode = "any"     // it was there, in any order
	ModeReached FunnelMode = "reached" // it was there or at any later stage: skips are inferred; losing infers nothing
)

// The names under which the outcomes stand among the stages of a funnel.
const (
	StageWon  = "won"
	StageLost = "lost"
)

// The bases of a cohort. BasisEntered is followed by the key of a stage.
const (
	BasisCreated = "created"
	BasisClosed  = "closed"
	BasisEntered = "entered:"
)

// FunnelGroups lists by what won value can be grouped.
var FunnelGroups = []string{"month", "owner", "region", "source", "product"}

// MaxFunnelStages bounds the stages that a query selects.
const MaxFunnelStages = 50

// FunnelQuery asks for the funnel of one pipeline.
type FunnelQuery struct {
	PipelineID domain.ID
	Filter     string     // over Opportunity, as it stands at AsOf; empty means all
	Basis      string     // created, closed or entered:<stage>; empty means created
	From, To   time.Time  // the window [From, To) on the basis; a zero time leaves that side open
	Mode       FunnelMode // empty means strict
	Stages     []string   // in the order that counts; won and lost may be among them; empty means the pipeline's, then won
	AsOf       time.Time  // nothing that happened later counts; zero means now
	Axis       query.Axis // by which the rows are of the past, for the definition; empty means query.AxisRecorded
	Currency   string     // of values; empty means the one that most deals have
	Zone       string     // IANA name of the zone of months; empty means UTC
	GroupBy    []string   // of FunnelGroups: how won value is broken down
}

// Funnel answers a FunnelQuery. Counts and rates of Stages, TimeInStage and CohortWinRate are of the cohort; WinRate,
// Won, Cycle and Entries are of what happened in the window; Snapshot is of all deals at AsOf.
type Funnel struct {
	Definition    FunnelDefinition `json:"definition" doc:"What the numbers mean; two funnels compare only when these are equal."`
	Stages        []FunnelStage    `json:"stages" doc:"Counts and conversion of the cohort, in the order of the stages."`
	Unmapped      []FunnelUnmapped `json:"unmapped" doc:"Stages of other versions that cohort deals were in and that the selected order does not have."`
	Maturity      Rate             `json:"maturity" doc:"Closed deals of the cohort out of all of it."`
	Young         bool             `json:"young" doc:"Whether so many deals of the cohort are still open that its rates will move."`
	CohortWinRate Rate             `json:"cohortWinRate" doc:"Won deals of the cohort out of all of it."`
	WinRate       WinRate          `json:"winRate" doc:"Won out of won and lost, among deals closed in the window."`
	Won           []WonBreakdown   `json:"won" doc:"Value won in the window, broken down as asked."`
	Cycle         Cycle            `json:"cycle" doc:"Days from opening to closing of deals closed in the window."`
	Entries       []StageEntries   `json:"entries" doc:"Entries into stages in the window."`
	TimeInStage   []StageTime      `json:"timeInStage" doc:"Days that deals of the cohort spent in each stage."`
	Snapshot      Snapshot         `json:"snapshot" doc:"Where all deals are at asOf."`
	Position      domain.Position  `json:"position" doc:"Place in the log that the rows reflect at least."`
}

// FunnelDefinition names everything on which the numbers of a funnel depend.
type FunnelDefinition struct {
	PipelineID       domain.ID  `json:"pipelineId" doc:"The pipeline."`
	PipelineName     string     `json:"pipelineName" doc:"Its name."`
	PipelineVersion  int64      `json:"pipelineVersion" doc:"The version whose stages and order are used."`
	PipelineVersions []int64    `json:"pipelineVersions" doc:"The versions under which the counted deals moved."`
	Population       string     `json:"population" doc:"Which deals are looked at before the basis and the window."`
	Basis            string     `json:"basis" doc:"What the window is about: created, closed or entered:<stage>."`
	From             *time.Time `json:"from,omitempty" doc:"Begin of the window, included; absent when it is open."`
	To               *time.Time `json:"to,omitempty" doc:"End of the window, not included; absent when it is open."`
	Mode             FunnelMode `json:"mode" doc:"When a deal counts at a stage."`
	ModeRule         string     `json:"modeRule" doc:"The mode in words."`
	AsOf             time.Time  `json:"asOf" doc:"Nothing that happened later counts."`
	Axis             query.Axis `json:"axis" doc:"recorded: as known at asOf; occurred: restated by what was learned since."`
	Currency         string     `json:"currency" doc:"ISO 4217 code of all values; empty when no deal has a value."`
	CurrencyRule     string     `json:"currencyRule" doc:"How other currencies are treated."`
	OtherCurrencies  int64      `json:"otherCurrencies" doc:"Number of deals whose value is in another currency and therefore left out of values, not of counts."`
	AmountRule       string     `json:"amountRule" doc:"Which value of a deal counts where."`
	Attribution      string     `json:"attribution" doc:"Whose owner and region a breakdown uses."`
	Percentiles      string     `json:"percentiles" doc:"How medians and percentiles are computed."`
	Interval         string     `json:"interval" doc:"How intervals of rates are computed."`
	Zone             string     `json:"zone" doc:"Time zone of months."`
	Rights           string     `json:"rights" doc:"Which rights have narrowed the population."`
	SampleSize       int64      `json:"sampleSize" doc:"Number of deals in the cohort."`
	PopulationSize   int64      `json:"populationSize" doc:"Number of deals in the population at asOf."`
}

// Rate is a share with the numbers behind it and its 95 % Wilson interval. Rate, Low and High are absent when there is
// nothing to share; Low and High are absent too when the share exceeds 1, as step rates of mode any may.
type Rate struct {
	Count int64    `json:"count" doc:"Numerator."`
	Of    int64    `json:"of" doc:"Denominator."`
	Rate  *float64 `json:"rate,omitempty" doc:"Count divided by of; absent when of is 0."`
	Low   *float64 `json:"low,omitempty" doc:"Lower end of the 95 % interval."`
	High  *float64 `json:"high,omitempty" doc:"Upper end of the 95 % interval."`
}

// FunnelStage is one step of a funnel.
type FunnelStage struct {
	Stage      string        `json:"stage" doc:"Key of the stage, or won or lost."`
	Name       string        `json:"name" doc:"What people call it."`
	Count      int64         `json:"count" doc:"Deals counted at the stage."`
	Value      domain.Amount `json:"value" doc:"Sum of their amounts at entry."`
	Step       Rate          `json:"step" doc:"Counted here out of counted at the stage before; of the first stage out of the cohort."`
	Cumulative Rate          `json:"cumulative" doc:"Counted here out of counted at the first stage."`
}

// FunnelUnmapped is a stage that deals of the cohort were in and that has no place in the funnel.
type FunnelUnmapped struct {
	Stage string `json:"stage" doc:"Key of the stage."`
	Deals int64  `json:"deals" doc:"Deals of the cohort that were there."`
}

// WinRate compares what was won with what was lost.
type WinRate struct {
	ByCount   Rate          `json:"byCount" doc:"Deals won out of deals won or lost."`
	Won       domain.Amount `json:"won" doc:"Value won."`
	Lost      domain.Amount `json:"lost" doc:"Estimated value of what was lost."`
	ByValue   *float64      `json:"byValue,omitempty" doc:"Value won out of value won or lost; absent when there is none."`
	NoValue   int64         `json:"noValue" doc:"Closed deals without an amount in the currency: in the counts, not in the values."`
	WonCount  int64         `json:"wonCount" doc:"Deals won."`
	LostCount int64         `json:"lostCount" doc:"Deals lost."`
}

// WonBreakdown is the value won, by one dimension.
type WonBreakdown struct {
	By     string     `json:"by" doc:"month, owner, region, source or product."`
	Groups []WonGroup `json:"groups" doc:"Groups by key; the key is empty for deals without one."`
}

// WonGroup is one group of a breakdown.
type WonGroup struct {
	Key   string        `json:"key" doc:"Month as 2006-01, or the value of the dimension."`
	Deals int64         `json:"deals" doc:"Deals won."`
	Value domain.Amount `json:"value" doc:"Value won."`
}

// Cycle holds the days from opening to closing.
type Cycle struct {
	Won  Days `json:"won" doc:"Of deals won."`
	Lost Days `json:"lost" doc:"Of deals lost."`
}

// Days describes a set of durations in days. The numbers are absent when the set is empty.
type Days struct {
	Count  int64    `json:"count" doc:"Number of durations."`
	Median *float64 `json:"median,omitempty" doc:"Median in days."`
	P90    *float64 `json:"p90,omitempty" doc:"90th percentile in days."`
	Mean   *float64 `json:"mean,omitempty" doc:"Arithmetic mean in days."`
}

// StageEntries counts entries into a stage.
type StageEntries struct {
	Stage        string `json:"stage" doc:"Key of the stage, or won or lost."`
	Entries      int64  `json:"entries" doc:"Entries in the window, re-entries counted; moves within what the newest version made one stage are none."`
	FirstEntries int64  `json:"firstEntries" doc:"Those that were the deal's first into the stage."`
}

// StageTime says how long deals stay in a stage. A skipped stage has no duration; visits that go on are left out of
// First, Latest and Cumulative and reported apart.
type StageTime struct {
	Stage      string `json:"stage" doc:"Key of the stage."`
	First      Days   `json:"first" doc:"First visits that have ended."`
	Latest     Days   `json:"latest" doc:"Latest visits, of deals whose latest has ended."`
	Cumulative Days   `json:"cumulative" doc:"All visits of a deal together, of deals that are not there any more."`
	Open       Days   `json:"open" doc:"Visits that go on, so far (right-censored)."`
}

// Snapshot says where deals are at an instant.
type Snapshot struct {
	At     time.Time       `json:"at" doc:"The instant; what happened at it counts."`
	Stages []SnapshotStage `json:"stages" doc:"Open deals by stage in order, then won and lost."`
	Open   SnapshotTotal   `json:"open" doc:"All open deals."`
}

// SnapshotStage is one stage of a snapshot.
type SnapshotStage struct {
	Stage string `json:"stage" doc:"Key of the stage, or won or lost."`
	SnapshotTotal
}

// SnapshotTotal sums deals of a snapshot, at the amounts that they had then.
type SnapshotTotal struct {
	Deals    int64         `json:"deals" doc:"Number of deals."`
	Value    domain.Amount `json:"value" doc:"Sum of their amounts as they were then."`
	Weighted domain.Amount `json:"weighted" doc:"Sum of amount times the stage's usual probability at entry; of open deals only."`
	NoValue  int64         `json:"noValue" doc:"Deals without an amount in the currency."`
}
