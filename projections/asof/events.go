package asof

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Log is what answers as of the past need of the event log.
type Log interface {
	// Read yields the events of a stream from a revision on.
	Read(ctx context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error]
	// ReadTypes yields the events of all streams after a position whose types are wanted, up to the end of the log.
	ReadTypes(ctx context.Context, after domain.Position, wanted func(eventType string) bool) iter.Seq2[domain.Recorded, error]
	// Head returns the last event, zero when there is none.
	Head(ctx context.Context) (domain.Mark, error)
	// Stands reports whether an event stands where it stood.
	Stands(ctx context.Context, m domain.Mark) (bool, error)
}

// Order returns those of events, which are in the order of the log, that are seen as of a moment, in the order in which
// projections fold them: that of the log or, on AxisOccurred, that in which they happened. There an event that is dated
// before its stream began counts as happened when the stream began, because nothing can be folded before its beginning. What
// is declared to hold from the start, as the first version of a pipeline is, is there from the beginning of time.
func Order(events []domain.Recorded, m query.AsOf) []domain.Recorded {
	if m.Axis != query.AxisOccurred {
		return events
	}
	begun := map[domain.StreamID]time.Time{}
	when := func(e domain.Recorded) time.Time {
		if _, always := e.Event.(domain.FromTheStart); always && e.Revision == 0 {
			return time.Time{}
		}
		if b := begun[e.Stream]; e.OccurredAt.Before(b) {
			return b
		}
		return e.OccurredAt
	}
	seen := make([]domain.Recorded, 0, len(events))
	for _, e := range events {
		if e.Revision == 0 {
			begun[e.Stream] = e.OccurredAt
		}
		if !when(e).After(m.Time) {
			seen = append(seen, e)
		}
	}
	slices.SortStableFunc(seen, func(a, b domain.Recorded) int {
		return cmp.Or(when(a).Compare(when(b)), a.Position.Compare(b.Position))
	})
	return seen
}
