// Package history tells what every event changed: it folds the events of a stream, in memory and with the very projections
// that fill the tables, and compares the records before and after each.
package history

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/asof"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/view"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Log is what a Reader needs of the event log.
type Log interface {
	Read(ctx context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error]
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]
}

// Timeline is what a Reader needs of the read models: which events concern a customer, and where the others stand.
type Timeline interface {
	CustomerTimeline(ctx context.Context, customer domain.ID, q query.Query) (query.List[party.TimelineEntry], error)
	CustomerStreams(ctx context.Context, customer domain.ID) ([]domain.StreamID, domain.Position, error)
	TimelineEvent(ctx context.Context, event domain.ID) (stream domain.StreamID, revision uint64, err error)
	Position(ctx context.Context, views ...string) (domain.Position, error)
}

// Reader answers histories. It is safe for concurrent use.
type Reader struct {
	log      Log
	timeline Timeline
	records  []*projection.Compiled
	shape    *view.Shape
}

// New returns a Reader that compares the rows of the projections, before and after each event, but for those that are
// declared Untold.
func New(log Log, timeline Timeline, declared []projection.Projection) (*Reader, error) {
	compiled, err := projection.Compile(declared...)
	if err != nil {
		return nil, err
	}
	records := slices.DeleteFunc(compiled, func(c *projection.Compiled) bool { return c.Untold })
	shape, err := view.New(declared)
	return &Reader{log: log, timeline: timeline, records: records, shape: shape}, err
}

// At returns a Reader to which only those events belong that a timeline as of a moment has.
func (r *Reader) At(timeline Timeline) *Reader {
	at := *r
	at.timeline = timeline
	return &at
}

// door is a log as a caller may see it: of the events that the caller may not see, nothing comes through.
type door struct {
	Log
	caller domain.Caller
}

func (d door) Read(ctx context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	return d.seen(d.Log.Read(ctx, stream, from))
}

func (d door) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return d.seen(d.Log.ReadAll(ctx, after))
}

func (d door) seen(events iter.Seq2[domain.Recorded, error]) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for e, err := range events {
			seen := true
			if err == nil {
				e, seen = d.caller.Redact(e)
			}
			if seen && !yield(e, err) {
				return
			}
		}
	}
}

// through returns a Reader whose log is that of a caller.
func (r *Reader) through(caller domain.Caller) *Reader {
	bounded := *r
	bounded.log = door{r.log, caller}
	return &bounded
}

// Customer returns up to limit events after a position of one customer and everything linked to it, in the order of
// the log, each with what it changed. Next is the position after which to go on; the entries are not counted. It returns
// *domain.NotFoundError for a customer that never existed.
func (r *Reader) Customer(ctx context.Context, caller domain.Caller, customer domain.ID, after domain.Position, limit int) (query.List[query.HistoryEntry], error) {
	r = r.through(caller)
	var part query.List[query.HistoryEntry]
	page, err := r.timeline.CustomerTimeline(ctx, customer, query.Query{
		Filter: fmt.Sprintf("position > %d", after.Order()), Sort: "position", Limit: limit,
	})
	if err != nil {
		return part, err
	}
	if len(page.Items) == 0 && after.IsZero() {
		return part, &domain.NotFoundError{Kind: "customer", ID: string(customer)}
	}
	wanted := map[string]bool{}
	last := map[domain.StreamID]uint64{} // the highest revision wanted of each stream
	for _, e := range page.Items {
		stream := domain.StreamID{Tenant: caller.Tenant, Aggregate: e.Aggregate, ID: e.AggregateID}
		wanted[string(e.EventID)] = true
		last[stream] = max(last[stream], uint64(e.Revision))
	}
	found := map[string]query.HistoryEntry{}
	for stream, revision := range last {
		for entry, err := range r.Stream(ctx, stream) {
			if err != nil {
				return part, err
			}
			if wanted[entry.EventID] {
				found[entry.EventID] = entry
			}
			if entry.Revision == revision {
				break
			}
		}
	}
	part.Items = make([]query.HistoryEntry, 0, len(page.Items))
	seen := map[domain.ID]bool{} // an event that concerns two merged customers stands twice in the timeline
	for _, e := range page.Items {
		if seen[e.EventID] {
			continue
		}
		seen[e.EventID] = true
		entry, ok := found[string(e.EventID)]
		if !ok {
			return part, fmt.Errorf("%w: event %s of the timeline is not in the log", domain.ErrCorrupt, e.EventID)
		}
		part.Items = append(part.Items, entry)
	}
	part.Position = page.Position
	if page.Next != "" {
		part.Next = part.Items[len(part.Items)-1].Position.String()
	}
	return part, nil
}

// Stream yields every event of one stream with what it changed, from the first on.
func (r *Reader) Stream(ctx context.Context, stream domain.StreamID) iter.Seq2[query.HistoryEntry, error] {
	return func(yield func(query.HistoryEntry, error) bool) {
		t := r.track()
		for event, err := range r.log.Read(ctx, stream, 0) {
			var entry query.HistoryEntry
			if err == nil {
				entry, err = t.next(event)
			}
			if !yield(entry, err) || err != nil {
				return
			}
		}
	}
}

// track follows the records of one stream from event to event. What a projection cannot digest changes nothing, nor does
// what follows it, as in the read models.
type track struct {
	records    []*projection.Compiled
	evaluation *asof.Evaluation
}

func (r *Reader) track() *track {
	return &track{records: r.records, evaluation: asof.NewEvaluation(r.records...)}
}

// next returns the entry of the stream's next event, with what it changed.
func (t *track) next(event domain.Recorded) (query.HistoryEntry, error) {
	entry := entryOf(event)
	before, err := t.touched(event)
	if err != nil {
		return entry, err
	}
	if err := t.evaluation.Apply(event); err != nil {
		return entry, err
	}
	after, err := t.touched(event)
	if err != nil {
		return entry, err
	}
	for i, c := range t.records {
		entry.Changes = append(entry.Changes, compare(c.Name, before[i], after[i])...)
	}
	return entry, nil
}

// touched returns the rows that an event touches as they stand, by key, projection by projection.
func (t *track) touched(event domain.Recorded) ([]map[string]record, error) {
	rows := make([]map[string]record, len(t.records))
	for i, c := range t.records {
		var err error
		if rows[i], err = recordsOf(event.Stream.ID, t.evaluation.Memory(c.Name).Touched(event)); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func entryOf(e domain.Recorded) query.HistoryEntry {
	return query.HistoryEntry{
		Position: e.Position, EventID: e.ID, EventType: e.Type(), Stream: e.Stream.String(), Revision: e.Revision,
		OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt, Actor: e.Actor,
		CommandID: e.CommandID, CorrelationID: e.CorrelationID, CausationID: e.CausationID,
		Changes: []query.Change{}, Data: e.Event,
	}
}

// record is a row by the names of its fields.
type record map[string]json.RawMessage

// bookkeeping are fields that change with every event and tell an auditor nothing.
var bookkeeping = map[string]bool{"position": true, "revision": true, "changedAt": true}

// nothing reports whether a value says no more than an absent one.
func nothing(v json.RawMessage) bool {
	switch string(v) {
	case "", "null", "[]", "{}":
		return true
	}
	return false
}

// recordsOf returns rows of an aggregate by key.
func recordsOf(of domain.ID, rows []any) (map[string]record, error) {
	out := make(map[string]record, len(rows))
	for _, row := range rows {
		text, err := json.Marshal(row)
		if err != nil {
			return nil, err
		}
		var fields record
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, err
		}
		out[keyOf(of, row)] = fields
	}
	return out, nil
}

// keyOf names a row among those of an aggregate, by the columns of its key: the tenant and the aggregate's id are left out.
func keyOf(of domain.ID, row any) string {
	v := reflect.ValueOf(row)
	var parts []string
	for _, f := range reflect.VisibleFields(v.Type()) {
		column, key, _ := strings.Cut(f.Tag.Get("db"), ",")
		if key == "key" && column != "tenant" {
			if part := fmt.Sprint(v.FieldByIndex(f.Index)); part != string(of) {
				parts = append(parts, part)
			}
		}
	}
	return strings.Join(parts, " ")
}

// compare lists the fields that differ, rows and fields in order.
func compare(name string, before, after map[string]record) []query.Change {
	keys := slices.Sorted(maps.Keys(union(before, after)))
	var changes []query.Change
	for _, key := range keys {
		old, now := before[key], after[key]
		for _, field := range slices.Sorted(maps.Keys(union(old, now))) {
			from, to := old[field], now[field]
			if bookkeeping[field] || string(from) == string(to) || nothing(from) && nothing(to) {
				continue
			}
			changes = append(changes, query.Change{Record: name, Key: key, Field: field, From: from, To: to})
		}
	}
	return changes
}

func union[V any](a, b map[string]V) map[string]V {
	both := maps.Clone(a)
	if both == nil {
		both = map[string]V{}
	}
	maps.Copy(both, b)
	return both
}
