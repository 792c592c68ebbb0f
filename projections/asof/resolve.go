package asof

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/audit"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Resolve finds the moment that a client names, or says by an *domain.InvalidError why there is none.
//
// A time on AxisRecorded is the longest beginning of the log of which nothing was recorded after the time. Clocks that were
// set back therefore never show an event that was recorded later, and what follows once the log has passed the time cannot
// change the answer.
func (e *Evaluator) Resolve(ctx context.Context, tenant domain.Tenant, q query.PastQuery) (query.AsOf, error) {
	m := query.AsOf{Axis: q.Axis, Time: q.AsOf.Time}
	if m.Axis == "" {
		m.Axis = query.AxisRecorded
	}
	now := e.opts.Clock()
	if q.AsOf.Time.After(now) {
		return m, domain.Invalid("asOf", "lies in the future, which nobody knows yet")
	}
	if q.KnownAt.Time.After(now) {
		return m, domain.Invalid("knownAt", "lies in the future, which nobody knows yet")
	}
	head, err := e.log.Head(ctx)
	if err != nil {
		return m, err
	}
	end := head.Position
	known, name := q.AsOf, "asOf"
	if m.Axis == query.AxisOccurred {
		known, name = q.KnownAt, "knownAt"
	}
	switch {
	case known.Position != nil:
		m.Position = *known.Position
	case q.Pinned != nil:
		m.Position, name = *q.Pinned, "cursor"
	case !known.Time.IsZero():
		m.Position, err = e.positionAt(ctx, tenant, known.Time, end)
	default: // everything that is known
		m.Position = end
	}
	if err != nil {
		return m, err
	}
	if end.Before(m.Position) {
		return m, domain.Invalid(name, "the log ends at position {position}", end)
	}
	if m.Time.IsZero() {
		m.Time, err = e.timeAt(ctx, tenant, m.Position)
	}
	return m, err
}

// positionAt returns the position of the last event of the longest beginning of a tenant's events of which none was
// recorded after t.
func (e *Evaluator) positionAt(ctx context.Context, tenant domain.Tenant, t time.Time, end domain.Position) (domain.Position, error) {
	in, next, err := audit.LogTimeOf(ctx, e.readsOf(tenant), t)
	if err != nil {
		return domain.Position{}, err
	}
	var last domain.Position // an event that is seen
	switch {
	case in != nil && (next == nil || in.FirstPosition < next.FirstPosition):
		if in.FirstRecordedAt.After(t) {
			return e.lastBefore(ctx, tenant, in.First())
		}
		last = in.First()
	case next != nil:
		return e.lastBefore(ctx, tenant, next.First())
	default: // nothing was recorded later, as far as the read models know: look at what they do not know yet
		newest, err := audit.LogTimeBefore(ctx, e.readsOf(tenant), end)
		if err != nil {
			return domain.Position{}, err
		}
		if newest != nil {
			last = newest.First()
		}
	}
	for event, err := range e.log.ReadTypes(ctx, last, every) {
		if err != nil {
			return domain.Position{}, err
		}
		if event.Tenant != tenant {
			continue
		}
		if event.RecordedAt.After(t) {
			return last, nil
		}
		last = event.Position
	}
	return last, nil
}

// lastBefore returns the position of a tenant's last event before a position, zero when there is none. Events lie any distance
// apart, so that it is looked for.
func (e *Evaluator) lastBefore(ctx context.Context, tenant domain.Tenant, p domain.Position) (last domain.Position, err error) {
	begin, err := audit.LogTimeBefore(ctx, e.readsOf(tenant), p)
	if err != nil || begin == nil {
		return last, err
	}
	last = begin.First()
	for event, err := range e.log.ReadTypes(ctx, last, every) {
		if err != nil {
			return last, err
		}
		if !event.Position.Before(p) {
			break
		}
		if event.Tenant == tenant {
			last = event.Position
		}
	}
	return last, nil
}

// timeAt returns when the last event of a tenant up to a position was recorded; the zero time when there is none.
func (e *Evaluator) timeAt(ctx context.Context, tenant domain.Tenant, p domain.Position) (at time.Time, err error) {
	begin, err := audit.LogTimeBefore(ctx, e.readsOf(tenant), p)
	if err != nil {
		return at, err
	}
	var from domain.Position
	if begin != nil {
		from, at = begin.First(), begin.FirstRecordedAt
	}
	for event, err := range e.log.ReadTypes(ctx, from, every) {
		if err != nil {
			return at, err
		}
		if p.Before(event.Position) {
			break
		}
		if event.Tenant == tenant {
			at = event.RecordedAt
		}
	}
	return at, nil
}

func every(string) bool { return true }
