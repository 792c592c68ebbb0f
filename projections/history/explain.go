package history

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/view"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Explain returns the events on which a value of the record's view rests: folding them alone gives the value, and without
// any one of them it is another. A figure rests on every event that moved it and without which it would be another, also
// where two cancel each other, as a payment and its refund do. A field of another record that the view lists, such as
// /orders/<id>/outstanding of a customer, is explained as that record explains it. field is a JSON pointer or a dotted name;
// elements of lists are named by what identifies them or by number. now is for what depends on the date. Explain returns an
// *domain.InvalidError that lists the fields for one that there is not, and a *domain.Rejection, "explanation-too-long", when
// it takes more than MaxFolded.
func (s *Story) Explain(ctx context.Context, field string, now time.Time) (query.Explanation, error) {
	value, known := s.explained(s.Kind, s.ID, view.Path(field), now)
	if !known {
		return query.Explanation{}, unknownField(s.Kind)
	}
	document, err := value.document(slices.Values(value.events))
	if err != nil {
		return query.Explanation{}, err
	}
	value.path = view.Named(document, value.path)
	if err := value.exists(document); err != nil {
		return query.Explanation{}, err
	}
	answer := query.Explanation{
		Field: view.Pointer(value.path), Value: shown(view.Lookup(document, value.path)), Events: []query.ExplainedEvent{}, Position: s.At,
	}
	if value, err = value.own(); err != nil {
		return query.Explanation{}, err
	}
	answer.Formula, answer.Considered = value.part.Formula, len(value.events)
	events, err := value.restsOn(ctx)
	if err != nil {
		return query.Explanation{}, err
	}
	return answer, value.tell(&answer, events)
}

// unknownField refuses a field, and lists those that there are.
func unknownField(kind view.Kind) error {
	refused := domain.Invalid("field", "is none of the fields of the record; * stands for what identifies an element of a list")
	for _, field := range kind.Fields() {
		refused.Fields = append(refused.Fields, domain.Fault("field", "could be {field}", field))
	}
	return refused
}

// explained is a value under explanation.
type explained struct {
	story  *Story
	kind   view.Kind
	id     domain.ID
	path   []string
	part   view.Part
	events []domain.Recorded // of the story, those that matter to the part
	now    time.Time
}

// explained returns the value that a path leads to in a record of the story, and false when there is no such field.
func (s *Story) explained(kind view.Kind, id domain.ID, path []string, now time.Time) (explained, bool) {
	part, known := kind.Part(path[0])
	if !known || !view.Known(kind, path) {
		return explained{}, false
	}
	v := explained{story: s, kind: kind, id: id, path: path, part: part, now: now}
	f := s.reader.shape.Fold(part.Needs...)
	for _, e := range s.Events {
		if f.Matches(e.Type()) {
			v.events = append(v.events, e)
		}
	}
	return v, true
}

// own returns the value as a field of the record to which it belongs: of an order, where an order of a customer is meant.
func (v explained) own() (explained, error) {
	const element, field = 1, 2 // places in the path
	if v.part.Of == "" || len(v.path) <= field {
		return v, nil
	}
	kind, known := view.Of(v.part.Of)
	if !known {
		return v, fmt.Errorf("history: records of %s are not replayed", v.part.Of)
	}
	own, known := v.story.explained(kind, domain.ID(v.path[element]), v.path[field:], v.now)
	if !known {
		return v, fmt.Errorf("history: a record of %s has no %s", v.part.Of, view.Pointer(v.path[field:]))
	}
	own.events = slices.DeleteFunc(own.events, func(e domain.Recorded) bool {
		return e.Stream.Aggregate != kind.Aggregate() || e.Stream.ID != own.id
	})
	return own, nil
}

// restsOn returns the events on which the value rests.
func (v explained) restsOn(ctx context.Context) ([]domain.Recorded, error) {
	want, err := v.of(slices.Values(v.events))
	if err != nil {
		return nil, err
	}
	m := &minimiser{
		ctx: ctx, events: v.events, gone: make([]bool, len(v.events)),
		holds: func(events iter.Seq[domain.Recorded]) (bool, error) {
			got, err := v.of(events)
			return bytes.Equal(got, want), err
		},
	}
	moved := make([]bool, len(v.events))
	if v.kind.Figure(v.path) {
		err := v.follow(v.events, func(i, rows int, before, after json.RawMessage) error {
			moved[i] = !bytes.Equal(before, after)
			return m.work(1 + rows)
		})
		if err != nil {
			return nil, err
		}
	}
	return m.minimal(moved)
}

// document returns the part of the view with the value that some events give.
func (v explained) document(events iter.Seq[domain.Recorded]) ([]byte, error) {
	f := v.story.reader.shape.Fold(v.part.Needs...)
	for e := range events {
		if err := f.Apply(e); err != nil {
			return nil, err
		}
	}
	return v.kind.Explained(f, v.id, v.path[0], v.now)
}

// of returns the value that some events give; nil for none.
func (v explained) of(events iter.Seq[domain.Recorded]) (json.RawMessage, error) {
	document, err := v.document(events)
	return view.Lookup(document, v.path), err
}

// follow folds events one by one and tells each, by number, with the value before and after, and among how many rows it stands.
func (v explained) follow(events []domain.Recorded, told func(i, rows int, before, after json.RawMessage) error) error {
	f := v.story.reader.shape.Fold(v.part.Needs...)
	value := func() (json.RawMessage, error) {
		document, err := v.kind.Explained(f, v.id, v.path[0], v.now)
		return view.Lookup(document, v.path), err
	}
	before, err := value()
	if err != nil {
		return err
	}
	for i, e := range events {
		if err := f.Apply(e); err != nil {
			return err
		}
		after, err := value()
		if err != nil {
			return err
		}
		rows := 0
		for _, name := range v.part.Needs {
			rows += f.Memory(name).Len()
		}
		if err := told(i, rows, before, after); err != nil {
			return err
		}
		before = after
	}
	return nil
}

// exists refuses a path that leads through an element that a list does not have.
func (v explained) exists(document json.RawMessage) error {
	for i := 1; i < len(v.path); i++ {
		elements, ok := view.Elements(v.path[i-1], view.Lookup(document, v.path[:i]))
		if ok && elements[v.path[i]] == nil {
			return domain.Invalid("field", "there is no {member} in {record}", v.path[i], view.Pointer(v.path[:i]))
		}
	}
	return nil
}

// tell fills in who did what, and what each event contributed.
func (v explained) tell(answer *query.Explanation, events []domain.Recorded) error {
	entries, err := v.story.tell(events)
	if err != nil {
		return err
	}
	last, err := v.of(slices.Values(events[:0]))
	if err != nil {
		return err
	}
	err = v.follow(events, func(i, _ int, before, after json.RawMessage) error {
		answer.Events = append(answer.Events, query.ExplainedEvent{HistoryEntry: entries[i], Before: shown(before), After: shown(after)})
		last = after
		return nil
	})
	if err != nil {
		return err
	}
	answer.Recomputed = shown(last)
	if !bytes.Equal(answer.Recomputed, answer.Value) {
		return fmt.Errorf("history: %s recomputed from its %d events is not what it is", answer.Field, len(events))
	}
	return nil
}

// shown renders a value that may be missing.
func shown(value json.RawMessage) json.RawMessage {
	if value == nil {
		return json.RawMessage("null")
	}
	return value
}
