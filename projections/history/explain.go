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

// Explain returns the events that gave a value of the record's view: folding them alone gives the value, and without any
// one of them it is another. field is a JSON pointer or a dotted name; elements of lists are named by what identifies them
// or by number. now is for what depends on the date. It returns an *domain.InvalidError that lists the fields for one that
// there is not, and a *domain.Rejection, "explanation-too-long", when it takes more than MaxFolded.
func (s *Story) Explain(ctx context.Context, field string, now time.Time) (query.Explanation, error) {
	value := explained{story: s, path: view.Path(field), now: now}
	var known bool
	if value.part, known = s.Kind.Part(value.path[0]); !known || !view.Known(s.Kind, value.path) {
		return query.Explanation{}, unknownField(s.Kind)
	}
	var considered []domain.Recorded
	f := s.reader.shape.Fold(value.part.Needs...)
	for _, e := range s.Events {
		if f.Matches(e.Type()) {
			considered = append(considered, e)
		}
	}
	document, err := value.document(slices.Values(considered))
	if err != nil {
		return query.Explanation{}, err
	}
	value.path = view.Named(document, value.path)
	if err := value.exists(document); err != nil {
		return query.Explanation{}, err
	}
	want := view.Lookup(document, value.path)
	events, err := minimal(ctx, considered, func(events iter.Seq[domain.Recorded]) (bool, error) {
		got, err := value.of(events)
		return bytes.Equal(got, want), err
	})
	if err != nil {
		return query.Explanation{}, err
	}
	answer := query.Explanation{
		Field: view.Pointer(value.path), Value: shown(want), Formula: value.part.Formula, Considered: len(considered),
		Events: []query.ExplainedEvent{}, Position: s.At,
	}
	return answer, value.tell(&answer, events)
}

// unknownField refuses a field, and lists those that there are.
func unknownField(kind view.Kind) error {
	refused := domain.Invalid("field", "is none of the fields of the record; * stands for what identifies an element of a list")
	for _, field := range kind.Fields() {
		refused.Fields = append(refused.Fields, domain.FieldError{Pointer: "field", Message: "could be " + field})
	}
	return refused
}

// explained is a value under explanation.
type explained struct {
	story *Story
	path  []string
	part  view.Part
	now   time.Time
}

// document returns the part of the view with the value that some events give.
func (v explained) document(events iter.Seq[domain.Recorded]) ([]byte, error) {
	f := v.story.reader.shape.Fold(v.part.Needs...)
	for e := range events {
		if err := f.Apply(e); err != nil {
			return nil, err
		}
	}
	return v.story.Kind.Explained(f, v.story.ID, v.path[0], v.now)
}

// of returns the value that some events give; nil for none.
func (v explained) of(events iter.Seq[domain.Recorded]) (json.RawMessage, error) {
	document, err := v.document(events)
	return view.Lookup(document, v.path), err
}

// exists refuses a path that leads through an element that a list does not have.
func (v explained) exists(document json.RawMessage) error {
	for i := 1; i < len(v.path); i++ {
		elements, ok := view.Elements(v.path[i-1], view.Lookup(document, v.path[:i]))
		if ok && elements[v.path[i]] == nil {
			return domain.Invalid("field", "there is no %s in %s", v.path[i], view.Pointer(v.path[:i]))
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
	f := v.story.reader.shape.Fold(v.part.Needs...)
	value := func() (json.RawMessage, error) {
		document, err := v.story.Kind.Explained(f, v.story.ID, v.path[0], v.now)
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
		answer.Events = append(answer.Events, query.ExplainedEvent{HistoryEntry: entries[i], Before: shown(before), After: shown(after)})
		before = after
	}
	answer.Recomputed = shown(before)
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
