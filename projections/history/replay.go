package history

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/asof"
	"github.com/rapport-crm/rapport/projections/view"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// MaxEvents bounds what is folded for one answer: the events of a record and of everything linked to it.
const MaxEvents = 50_000

// Story is all that happened to one record: its events, and those of everything that its view is made of, in order.
type Story struct {
	Kind   view.Kind
	ID     domain.ID
	Events []domain.Recorded // in the order of the moment's axis
	At     domain.Position   // which the story reflects

	reader *Reader
	axis   query.Axis
	time   time.Time // of the moment; zero when it has none
}

// Story reads what happened to a record up to a moment; the zero moment is now. It returns *domain.NotFoundError for a
// record that did not exist then, and a *domain.Rejection, "history-too-long", for more than
// MaxEvents events. Time means nothing on AxisRecorded: the position alone decides.
func (r *Reader) Story(ctx context.Context, caller domain.Caller, aggregate string, id domain.ID, m query.AsOf) (*Story, error) {
	r = r.through(caller)
	kind, ok := view.Of(aggregate)
	if !ok {
		return nil, fmt.Errorf("history: records of %s are not replayed", aggregate)
	}
	streams := []domain.StreamID{{Tenant: caller.Tenant, Aggregate: aggregate, ID: id}}
	var at domain.Position
	var err error
	if aggregate == "customer" {
		streams, at, err = r.timeline.CustomerStreams(ctx, id)
	} else {
		at, err = r.timeline.Position(ctx, kind.Needs()...)
	}
	if err != nil {
		return nil, err
	}
	events, err := r.read(ctx, streams)
	if err != nil {
		return nil, err
	}
	if m == (query.AsOf{}) {
		m.Position = at
	}
	if m.Time.IsZero() {
		m.Axis = query.AxisRecorded
	}
	return r.story(kind, caller.Tenant, id, events, m)
}

// read returns the events of streams.
func (r *Reader) read(ctx context.Context, streams []domain.StreamID) ([]domain.Recorded, error) {
	var events []domain.Recorded
	for _, s := range streams {
		for e, err := range r.log.Read(ctx, s, 0) {
			if err != nil {
				return nil, err
			}
			if events = append(events, e); len(events) > MaxEvents {
				return nil, query.HistoryTooLong(MaxEvents)
			}
		}
	}
	return events, nil
}

// story cuts events at a moment and puts them in its order. Which streams are linked to a customer is what the events tell
// that are left: those found may have been linked later.
func (r *Reader) story(kind view.Kind, tenant domain.Tenant, id domain.ID, events []domain.Recorded, m query.AsOf) (*Story, error) {
	s := &Story{Kind: kind, ID: id, At: m.Position, reader: r, axis: m.Axis, time: m.Time}
	own := domain.StreamID{Tenant: tenant, Aggregate: kind.Aggregate(), ID: id}
	events = slices.DeleteFunc(events, func(e domain.Recorded) bool { return m.Position.Before(e.Position) })
	slices.SortFunc(events, func(a, b domain.Recorded) int { return a.Position.Compare(b.Position) })
	s.Events = asof.Order(events, m)
	if !slices.ContainsFunc(s.Events, func(e domain.Recorded) bool { return e.Stream == own }) {
		return nil, &domain.NotFoundError{Kind: kind.Aggregate(), ID: string(id)}
	}
	if own.Aggregate == "customer" {
		s.Events = linked(own, s.Events)
	}
	return s, nil
}

// now returns the instant to which the state after an event belongs.
func (s *Story) now(e domain.Recorded) time.Time {
	if s.axis == query.AxisOccurred {
		return e.OccurredAt
	}
	return e.RecordedAt
}

// Entries returns what happened, each event with what it changed. Of a customer these are the events that concern it or
// what was merged into it by then; of other records those of their stream.
func (s *Story) Entries() ([]query.HistoryEntry, error) {
	own, err := s.own()
	if err != nil {
		return nil, err
	}
	return s.tell(own)
}

// tell returns the entries of some of the story's events, which are in its order.
func (s *Story) tell(events []domain.Recorded) ([]query.HistoryEntry, error) {
	wanted, left := map[string]bool{}, map[domain.StreamID]int{}
	for _, e := range events {
		wanted[e.ID] = true
		left[e.Stream]++
	}
	tracks := map[domain.StreamID]*track{}
	entries := make([]query.HistoryEntry, 0, len(events))
	for _, e := range s.Events {
		if left[e.Stream] == 0 {
			continue
		}
		if tracks[e.Stream] == nil {
			tracks[e.Stream] = s.reader.track()
		}
		entry, err := tracks[e.Stream].next(e)
		if err != nil {
			return nil, err
		}
		if wanted[e.ID] {
			left[e.Stream]--
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// own returns the events that are the record's own story.
func (s *Story) own() ([]domain.Recorded, error) {
	concerns := func(e domain.Recorded) bool { return e.Stream.ID == s.ID && e.Stream.Aggregate == s.Kind.Aggregate() }
	if s.Kind.Aggregate() == "customer" {
		f, err := s.Fold(s.Events)
		if err != nil {
			return nil, err
		}
		family := view.Family(f, s.ID)
		concerns = func(e domain.Recorded) bool {
			return slices.ContainsFunc(e.Subjects, func(id domain.ID) bool { return slices.Contains(family, id) })
		}
	}
	return slices.DeleteFunc(slices.Clone(s.Events), func(e domain.Recorded) bool { return !concerns(e) }), nil
}

// Fold evaluates what the record's states are made of over some events.
func (s *Story) Fold(events []domain.Recorded) (view.Fold, error) {
	f := s.reader.shape.Fold(s.Kind.Needs()...)
	for _, e := range events {
		if err := f.Apply(e); err != nil {
			return f, err
		}
	}
	return f, nil
}

// State returns the record after all events of the story, as of its moment.
func (s *Story) State() (any, error) {
	f, err := s.Fold(s.Events)
	if err != nil {
		return nil, err
	}
	now := s.time
	if now.IsZero() {
		now = s.now(s.Events[len(s.Events)-1])
	}
	return s.Kind.State(f, s.ID, now), nil
}

// Difference lists what differs between two states, given as JSON, nil standing for nothing: by member of the view, element
// of its lists and field.
func Difference(before, after json.RawMessage) ([]query.Change, error) {
	old, err := members(before)
	if err != nil {
		return nil, err
	}
	now, err := members(after)
	if err != nil {
		return nil, err
	}
	changes := []query.Change{}
	for _, name := range slices.Sorted(maps.Keys(union(old, now))) {
		if bookkeeping[name] {
			continue
		}
		changes = append(changes, compare(name, old[name], now[name])...)
	}
	return changes, nil
}

// behind returns how many of the events of the story, which are in its order, stand up to a position.
func (s *Story) behind(own []domain.Recorded, after domain.Position) (int, error) {
	if s.axis != query.AxisOccurred || after.IsZero() {
		i := slices.IndexFunc(own, func(e domain.Recorded) bool { return after.Before(e.Position) })
		if i < 0 {
			i = len(own)
		}
		return i, nil
	}
	i := slices.IndexFunc(own, func(e domain.Recorded) bool { return e.Position == after })
	if i < 0 {
		return 0, domain.Invalid("after", "is not the position of an event of this record, and with axis=occurred nothing else says where to go on")
	}
	return i + 1, nil
}

// members returns the members of a view as records: an object is one, a list one for each element, and anything else one
// with a nameless field.
func members(state json.RawMessage) (map[string]map[string]record, error) {
	if state == nil {
		return nil, nil
	}
	var object record
	if err := json.Unmarshal(state, &object); err != nil {
		return nil, fmt.Errorf("a state is no object: %w", err)
	}
	out := map[string]map[string]record{}
	for name, value := range object {
		rows := map[string]record{}
		var fields record
		if elements, ok := view.Elements(name, value); ok {
			for key, element := range elements {
				fields = nil
				if err := json.Unmarshal(element, &fields); err != nil {
					return nil, err
				}
				rows[key] = fields
			}
		} else if json.Unmarshal(value, &fields) == nil && fields != nil {
			rows[""] = fields
		} else {
			rows[""] = record{"": value}
		}
		out[name] = rows
	}
	return out, nil
}

// Replay returns up to limit entries behind a position, the zero position standing before the first, each with the state of the
// record after it. On AxisOccurred, which has another order than positions, only that of an event of the record is behind
// something: any other is a *domain.InvalidError.
func (s *Story) Replay(after domain.Position, limit int) ([]query.ReplayEntry[any], error) {
	own, err := s.own()
	if err != nil {
		return nil, err
	}
	from, err := s.behind(own, after)
	if err != nil {
		return nil, err
	}
	page, err := s.tell(own[from:min(from+limit, len(own))])
	if err != nil {
		return nil, err
	}
	list := make([]query.ReplayEntry[any], 0, len(page))
	f := s.reader.shape.Fold(s.Kind.Needs()...)
	for _, e := range s.Events {
		if len(list) == len(page) {
			break
		}
		if err := f.Apply(e); err != nil {
			return nil, err
		}
		if e.Position == page[len(list)].Position {
			list = append(list, query.ReplayEntry[any]{HistoryEntry: page[len(list)], State: s.Kind.State(f, s.ID, s.now(e))})
		}
	}
	return list, nil
}

// Replay tells a story up to a moment, page by page, as Story.Replay does, and says which position it reflects.
func (r *Reader) Replay(ctx context.Context, caller domain.Caller, aggregate string, id domain.ID, m query.AsOf, after domain.Position, limit int) ([]query.ReplayEntry[any], domain.Position, error) {
	story, err := r.Story(ctx, caller, aggregate, id, m)
	if err != nil {
		return nil, domain.Position{}, err
	}
	entries, err := story.Replay(after, limit)
	return entries, story.At, err
}

// Explain explains a value as of a moment, as Story.Explain does.
func (r *Reader) Explain(ctx context.Context, caller domain.Caller, aggregate string, id domain.ID, m query.AsOf, field string, now time.Time) (query.Explanation, error) {
	story, err := r.Story(ctx, caller, aggregate, id, m)
	if err != nil {
		return query.Explanation{}, err
	}
	return story.Explain(ctx, field, now)
}
