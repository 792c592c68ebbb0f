package importer

import (
	"context"
	"sync"

	"github.com/rapport-crm/rapport/domain"
)

// turns keeps the order of rows among units that are for the same aggregate, such as the stages that an opportunity went
// through; other units are submitted side by side. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	last map[domain.ID]*unit // the last unit under way for each aggregate
}

// turn is a unit's place among those for the same aggregates.
type turn struct {
	touched []domain.ID
	before  []*unit
	done    chan struct{}
}

// enter puts a unit behind those under way that are for any of these aggregates. Units enter in the order in which the
// writers take them, so that each waits for such as have been taken.
func (t *turns) enter(u *unit, touched []domain.ID) {
	u.turn = turn{touched: touched, done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[domain.ID]*unit{}
	}
	for _, id := range touched {
		if before := t.last[id]; before != nil && before != u {
			u.before = append(u.before, before)
		}
		t.last[id] = u
	}
}

// leave lets the units behind u go on; for one that has not entered it does nothing.
func (t *turns) leave(u *unit) {
	if u.done == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range u.touched {
		if t.last[id] == u {
			delete(t.last, id)
		}
	}
	close(u.done)
}

// wait returns when all units before this one are done.
func (t *turn) wait(ctx context.Context) error {
	for _, u := range t.before {
		select {
		case <-u.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t.before = nil // so that no chain of units is kept
	return nil
}
