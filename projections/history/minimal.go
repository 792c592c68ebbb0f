package history

import (
	"context"
	"iter"
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// MaxFolded bounds the work of one explanation, the events folded and the rows looked at over all trials, to a few seconds. A
// sum that needs all of nearly a thousand orders takes so many.
const MaxFolded = 1_000_000

// minimal returns a part of events, in order, over which holds is true and over no part of it with one event less. holds
// must be true over all of them. The events that moved are let go one at a time, behind all others and from the oldest: a
// payment and its refund stay both, because neither can go alone. The others go together where they can, whole streams
// before single events.
func (m *minimiser) minimal(moved []bool) ([]domain.Recorded, error) {
	streams := map[domain.StreamID]int{}
	var byStream, others, alone [][]int
	for i, e := range m.events {
		at, seen := streams[e.Stream]
		if !seen {
			at = len(byStream)
			streams[e.Stream] = at
			byStream = append(byStream, nil)
		}
		byStream[at] = append(byStream[at], i)
		if moved[i] {
			alone = append(alone, []int{i})
		}
	}
	whole := slices.DeleteFunc(byStream, func(unit []int) bool {
		return slices.ContainsFunc(unit, func(i int) bool { return moved[i] })
	})
	if _, err := m.reduce(whole, len(whole)); err != nil {
		return nil, err
	}
	for i := range m.events {
		if !m.gone[i] && !moved[i] {
			others = append(others, []int{i})
		}
	}
	for turn := 0; ; turn++ {
		left, err := m.reduce(others, len(others))
		if err != nil {
			return nil, err
		}
		if stable := len(left) == len(others); stable && turn > 0 {
			break
		}
		others = left
		if left, err = m.reduce(alone, 1); err != nil {
			return nil, err
		}
		if stable := len(left) == len(alone); stable {
			break
		}
		alone = left
	}
	return slices.Collect(m.left()), nil
}

// minimiser leaves events out as long as something holds.
type minimiser struct {
	ctx    context.Context
	events []domain.Recorded
	gone   []bool // by index of the event
	holds  func(iter.Seq[domain.Recorded]) (bool, error)
	worked int
}

// work counts what was done, and refuses more than MaxFolded.
func (m *minimiser) work(n int) error {
	if m.worked += n; m.worked > MaxFolded {
		return query.TooMuchToExplain(len(m.events))
	}
	return m.ctx.Err()
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

// reduce lets units go, at most so many at once, until none can go alone, and returns those that stay. It goes round from the
// oldest, because later events overrule older ones, and takes twice as many units at once after each success, half as many
// after each failure: a value that rests on one event is found in a few trials, and a sum of all takes one trial for each.
func (m *minimiser) reduce(units [][]int, most int) ([][]int, error) {
	units = slices.Clone(units)
	needed := 0 // units in a row, up to the one in turn, that were found to be needed by all that is left
	for at, size := 0, 1; needed < len(units); {
		to := min(at+size, len(units))
		ok, err := m.try(units[at:to])
		switch {
		case err != nil:
			return nil, err
		case ok:
			units = slices.Delete(units, at, to)
			needed, size = 0, min(2*size, most)
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
	m.mark(units, true)
	folded := 1
	ok, err := m.holds(func(yield func(domain.Recorded) bool) {
		for e := range m.left() {
			if folded++; !yield(e) {
				return
			}
		}
	})
	if err == nil {
		err = m.work(folded)
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
