package history

import (
	"context"
	"iter"
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// MaxFolded bounds the work of one explanation, the events folded over all trials, to a few seconds. A sum that needs all
// of nearly a thousand orders takes so many.
const MaxFolded = 1_000_000

// minimal returns a part of events, in order, over which holds is true and over no part of it with one event less. holds
// must be true over all of them. Whole streams are left out before single events, so that an order that was placed and
// cancelled goes as a whole and does not stand for another one of the same amount.
func minimal(ctx context.Context, events []domain.Recorded, holds func(iter.Seq[domain.Recorded]) (bool, error)) ([]domain.Recorded, error) {
	m := &minimiser{ctx: ctx, events: events, gone: make([]bool, len(events)), holds: holds}
	streams := map[domain.StreamID]int{}
	var byStream, single [][]int
	for i, e := range events {
		at, seen := streams[e.Stream]
		if !seen {
			at = len(byStream)
			streams[e.Stream] = at
			byStream = append(byStream, nil)
		}
		byStream[at] = append(byStream[at], i)
	}
	kept, err := m.reduce(byStream)
	if err != nil {
		return nil, err
	}
	for _, unit := range kept {
		for _, i := range unit {
			single = append(single, []int{i})
		}
	}
	if len(single) > len(kept) {
		slices.SortFunc(single, func(a, b []int) int { return a[0] - b[0] })
		if _, err := m.reduce(single); err != nil {
			return nil, err
		}
	}
	return slices.Collect(m.left()), nil
}

// minimiser leaves events out as long as something holds.
type minimiser struct {
	ctx    context.Context
	events []domain.Recorded
	gone   []bool // by index of the event
	holds  func(iter.Seq[domain.Recorded]) (bool, error)
	folded int
}

// left yields the events that have not gone.
func (m *minimiser) left() iter.Seq[domain.Recorded] {
	return func(yield func(domain.Recorded) bool) {
		for i, gone := range m.gone {
			if !gone && !yield(m.events[i]) {
				return
			}
		}
	}
}

// reduce lets units go until none can go alone, and returns those that stay. It goes round from the oldest, because later
// events overrule older ones, and takes twice as many units at once after each success, half as many after each failure:
// a value that rests on one event is found in a few trials, and a sum of all takes one trial for each.
func (m *minimiser) reduce(units [][]int) ([][]int, error) {
	needed := 0 // units in a row, up to the one in turn, that were found to be needed by all that is left
	for at, size := 0, 1; needed < len(units); {
		to := min(at+size, len(units))
		ok, err := m.try(units[at:to])
		switch {
		case err != nil:
			return nil, err
		case ok:
			units = slices.Delete(units, at, to)
			needed, size = 0, 2*size
		case to-at > 1:
			size = (to - at) / 2
			continue
		default:
			at, needed = to, needed+1
		}
		if at >= len(units) {
			at = 0
		}
	}
	return units, nil
}

// try lets units go if what holds goes on to hold.
func (m *minimiser) try(units [][]int) (bool, error) {
	if err := m.ctx.Err(); err != nil {
		return false, err
	}
	m.mark(units, true)
	m.folded++
	ok, err := m.holds(func(yield func(domain.Recorded) bool) {
		for e := range m.left() {
			if m.folded++; !yield(e) {
				return
			}
		}
	})
	if err == nil && m.folded > MaxFolded {
		err = query.TooMuchToExplain(len(m.events))
	}
	if !ok || err != nil {
		m.mark(units, false)
	}
	return ok, err
}

func (m *minimiser) mark(units [][]int, gone bool) {
	for _, unit := range units {
		for _, i := range unit {
			m.gone[i] = gone
		}
	}
}
