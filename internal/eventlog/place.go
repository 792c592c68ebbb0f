package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// Positions are opaque: they are offsets in a real engine's files, and asking it to read from a number at which no event
// stands is refused, or answered with nothing. So the log is asked only for positions at which it has told of an event.

// maxLandmarks bounds the positions that are remembered; when they are too many, every second one is forgotten.
const maxLandmarks = 4096

// landmarks are positions of events, in order. The zero value knows none. They are safe for concurrent use.
type landmarks struct {
	mu  sync.Mutex
	all []domain.Position
}

// pass notes the position of an event.
func (m *landmarks) pass(p domain.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, known := slices.BinarySearchFunc(m.all, p, domain.Position.Compare)
	if known {
		return
	}
	m.all = slices.Insert(m.all, i, p)
	if len(m.all) < maxLandmarks {
		return
	}
	kept := m.all[:0]
	for i, p := range m.all {
		if i%2 == 0 {
			kept = append(kept, p)
		}
	}
	m.all = kept
}

// before returns the last of them at or before a position, zero when there is none.
func (m *landmarks) before(p domain.Position) domain.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, known := slices.BinarySearchFunc(m.all, p, domain.Position.Compare)
	switch {
	case known:
		return p
	case i == 0:
		return domain.Position{}
	}
	return m.all[i-1]
}

// forget drops all: the log is another one than they were of.
func (m *landmarks) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = nil
}

// A Landmark finds the position of an event of the log at or before any number, such as in a table of rows that carry
// positions; zero when it knows none.
type Landmark func(context.Context, domain.Position) (domain.Position, error)

// startOf returns a position to read from, inclusively, of which nothing between it and after is of interest: after itself
// when an event stands there, else that of an event before it, else the beginning of the log.
func (l *ESDB) startOf(ctx context.Context, after domain.Position) (domain.Position, error) {
	if after.IsZero() || l.marks.before(after) == after {
		return after, nil
	}
	if there, err := l.eventAt(ctx, after); err != nil || there.Position == after {
		return after, err
	}
	best := l.marks.before(after)
	if l.landmark != nil {
		p, err := l.landmark(ctx, after)
		if err != nil {
			return domain.Position{}, err
		}
		if best.Before(p) && !after.Before(p) {
			best = p
		}
	}
	if best.IsZero() {
		return best, nil
	}
	// A landmark may be one of another history: what is not there is no place to begin.
	there, err := l.eventAt(ctx, best)
	if err != nil {
		return domain.Position{}, err
	}
	if there.Position != best {
		l.marks.forget()
		return domain.Position{}, nil
	}
	return best, nil
}

// eventAt returns the event that stands at a position, of whomever it is; zero when none does.
func (l *ESDB) eventAt(ctx context.Context, at domain.Position) (codec.Raw, error) {
	p, err := l.readPage(ctx, allFrom(at, nil), 1)
	switch {
	case errors.Is(err, errNotAPosition):
		return codec.Raw{}, nil
	case err != nil:
		return codec.Raw{}, err
	case len(p.events) == 0 || p.events[0].Position != at:
		return codec.Raw{}, nil
	}
	return p.events[0], nil
}

// Check implements Log.
func (l *ESDB) Check(ctx context.Context, m domain.Mark) error {
	if m.Position.IsZero() {
		return nil
	}
	there, err := l.eventAt(ctx, m.Position)
	if err != nil {
		return failure(ctx, fmt.Sprintf("look for the event at %s", m.Position), err)
	}
	switch {
	case there.ID == "":
		return fmt.Errorf("%w: at %s stood event %s before, none stands there now", ErrOtherLog, m.Position, m.ID)
	case m.ID != "" && there.ID != m.ID:
		return fmt.Errorf("%w: at %s stood event %s before, %s stands there now", ErrOtherLog, m.Position, m.ID, there.ID)
	}
	l.marks.pass(m.Position)
	return nil
}
