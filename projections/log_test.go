package projections_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
)

// eventLog writes events as the log would: revisions per stream, positions over all.
type eventLog struct {
	tenant domain.Tenant
	events []domain.Recorded
	next   map[domain.StreamID]uint64
}

func newLog() *eventLog {
	return &eventLog{tenant: domain.DefaultTenant, next: map[domain.StreamID]uint64{}}
}

// add appends an event that happened and was recorded at a time.
func (l *eventLog) add(aggregate string, id domain.ID, at time.Time, e domain.Event, subjects ...domain.ID) domain.Recorded {
	stream := domain.StreamID{Tenant: l.tenant, Aggregate: aggregate, ID: id}
	n := uint64(len(l.events) + 1)
	r := domain.Recorded{
		ID: string(number(int(n), 0xe)), Stream: stream, Revision: l.next[stream],
		Position: domain.Position{Commit: n * 100, Prepare: n * 100},
		Metadata: domain.Metadata{
			Schema: 1, Tenant: l.tenant, Actor: domain.Actor{ID: "ann", Kind: domain.ActorHuman},
			OccurredAt: at, RecordedAt: at, Subjects: subjects,
		},
		Event: e,
	}
	l.next[stream]++
	l.events = append(l.events, r)
	return r
}

// number makes an id of a kind.
func number(n, kind int) domain.ID {
	return domain.ID(fmt.Sprintf("00000000-0000-7000-8%03x-%012x", kind, n))
}

// day reads a day of 2026, "01-31", as midnight UTC.
func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, "2026-"+s)
	if err != nil {
		panic(err)
	}
	return t
}

// rows folds events through a declaration and returns its rows.
func rows[R any](t testing.TB, p projection.Projection, events []domain.Recorded) []R {
	t.Helper()
	c, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	m := c.NewMemory()
	for _, e := range events {
		if err := m.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	var list []R
	for _, row := range m.All() {
		list = append(list, row.(R))
	}
	return slices.Clip(list)
}
