package sales

import (
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// view looks at deals as of an instant: what happened later is not there.
type view struct {
	asOf  time.Time
	stage func(key string, version int64) string // maps a stage of a version to the newest
}

func (v view) sees(at time.Time) bool { return !at.After(v.asOf) }

// stay is one visit as a view sees it, or several without a break in what is one stage in the newest version.
type stay struct {
	stage       string
	probability int64
	from        time.Time
	to          *time.Time // nil while it goes on
	amount      *domain.Money
}

// dealView is a deal as a view sees it.
type dealView struct {
	*FunnelDeal
	stays   []stay
	outcome string    // OpportunityOpen, OpportunityWon or OpportunityLost
	closed  time.Time // when outcome is not open
	entered []entry   // all entries in order
	value   *domain.Money
	final   *domain.Money // value won, or estimate of what was lost; nil while open
}

// look returns the deal as the view sees it, and false when it is not there yet. The order of moves is that of the
// stream, also when two happened at the same time or a later one is dated back (spec rule F9): a visit ends when it was
// left or, where the view does not see that, when the next one began; never before it began.
func (v view) look(d *FunnelDeal) (dealView, bool) {
	out := dealView{FunnelDeal: d, outcome: OpportunityOpen, stays: make([]stay, 0, len(d.Visits))}
	if !v.sees(d.Opened) {
		return out, false
	}
	last := int64(-1) // revision that set the value
	for _, visit := range d.Visits {
		if !v.sees(visit.Entered) {
			continue
		}
		stage := v.stage(visit.Stage, visit.PipelineVersion)
		n := len(out.stays)
		if goesOn := n > 0 && out.outcome == OpportunityOpen && out.stays[n-1].stage == stage; goesOn {
			out.stays[n-1].to = nil
		} else {
			if n > 0 && out.stays[n-1].to == nil {
				out.stays[n-1].end(visit.Entered)
			}
			out.stays = append(out.stays, stay{stage: stage, probability: visit.Probability, from: visit.Entered, amount: visit.Amount})
		}
		out.outcome, out.final = OpportunityOpen, nil
		out.value, last = visit.Amount, visit.Revision
		if visit.Left != nil && v.sees(*visit.Left) {
			out.stays[len(out.stays)-1].end(*visit.Left)
			if visit.LeftBy == LeftWon || visit.LeftBy == LeftLost {
				out.outcome, out.closed, out.final = visit.LeftBy, *visit.Left, visit.Closed
			}
		}
	}
	for i := range d.Estimates {
		if a := &d.Estimates[i]; a.Revision > last && v.sees(a.Since) {
			out.value, last = &a.Amount, a.Revision
		}
	}
	out.entered = out.entries()
	return out, len(out.stays) > 0
}

func (s *stay) end(at time.Time) {
	if at.Before(s.from) {
		at = s.from
	}
	s.to = &at
}

// current returns the stage that the deal is in, or StageWon or StageLost.
func (d dealView) current() string {
	if d.outcome != OpportunityOpen {
		return d.outcome
	}
	return d.stays[len(d.stays)-1].stage
}

// entry is the moment at which a deal enters a stage or an outcome.
type entry struct {
	stage  string
	at     time.Time
	amount *domain.Money
}

// entries lists all entries in order. Won or lost stands at the end and only while it holds: a win that was taken back is
// not a win.
func (d *dealView) entries() []entry {
	list := make([]entry, 0, len(d.stays)+1)
	for _, s := range d.stays {
		list = append(list, entry{s.stage, s.from, s.amount})
	}
	if d.outcome != OpportunityOpen {
		list = append(list, entry{d.outcome, d.closed, d.final})
	}
	return list
}

// firstEntry returns when the deal first entered a stage or an outcome.
func (d dealView) firstEntry(stage string) (time.Time, bool) {
	for _, e := range d.entered {
		if e.stage == stage {
			return e.at, true
		}
	}
	return time.Time{}, false
}

// stageTime is how long one deal stayed in one stage.
type stageTime struct {
	stage         string
	first, latest *time.Duration // nil while that visit goes on
	cumulative    time.Duration  // of all visits, an open one so far
	open          *time.Duration // the visit that goes on, so far
}

// times returns how long the deal stayed in each stage that it was in, in the order of first entry.
func (d dealView) times(asOf time.Time) []stageTime {
	times := make([]stageTime, 0, len(d.stays))
	for _, s := range d.stays {
		i := slices.IndexFunc(times, func(t stageTime) bool { return t.stage == s.stage })
		again := i >= 0
		if !again {
			i = len(times)
			times = append(times, stageTime{stage: s.stage})
		}
		t := &times[i]
		end := asOf
		if s.to != nil {
			end = *s.to
		}
		length := end.Sub(s.from)
		t.cumulative += length
		t.latest = nil
		if s.to == nil {
			t.open = &length
			continue
		}
		t.latest = &length
		if !again {
			t.first = &length
		}
	}
	return times
}

// cycle returns the time from opening to closing of a closed deal.
func (d dealView) cycle() time.Duration { return max(0, d.closed.Sub(d.Opened)) }
