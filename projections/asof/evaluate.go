package asof

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// pass folds events once, within the limit of memory.
type pass struct {
	*Evaluation
	scale scales
	held  []domain.Recorded // to be folded in another order than that in which they come
}

func (e *Evaluator) pass(list []*projection.Compiled) *pass {
	return &pass{Evaluation: NewEvaluation(list...), scale: scales{limit: e.opts.MaxMemory}}
}

func (p *pass) hold(event domain.Recorded) error {
	p.held = append(p.held, event)
	return p.scale.check(event, len(p.held), p.Evaluation)
}

func (p *pass) apply(event domain.Recorded) error {
	if err := p.Apply(event); err != nil {
		return err
	}
	return p.scale.check(event, len(p.held), p.Evaluation)
}

// applyHeld folds what is held, which is in the order of the log, as of a moment.
func (p *pass) applyHeld(m query.AsOf) error {
	for _, event := range Order(p.held, m) {
		if err := p.apply(event); err != nil {
			return err
		}
	}
	return nil
}

// evaluate folds the whole log as of a moment, and returns how many events it has folded.
func (e *Evaluator) evaluate(ctx context.Context, tenant domain.Tenant, m query.AsOf, list []*projection.Compiled) (*Evaluation, int, error) {
	p := e.pass(list)
	wanted := p.Matches
	if m.Axis == query.AxisOccurred {
		wanted = p.Concerns // among them are the first events of all streams that matter: Order goes by when they began
	}
	n := 0
	for event, err := range e.log.ReadTypes(ctx, domain.Position{}, wanted) {
		if err != nil {
			return nil, 0, err
		}
		if m.Position.Before(event.Position) {
			break
		}
		if event.Tenant != tenant || event.Revision > 0 && !p.Matches(event.Type()) {
			continue
		}
		n++
		take := p.apply
		if m.Axis == query.AxisOccurred {
			take = p.hold
		}
		if err := take(event); err != nil {
			return nil, 0, err
		}
	}
	return p.Evaluation, n, p.applyHeld(m)
}

// evaluateStreams folds a few streams as of a moment.
func (e *Evaluator) evaluateStreams(ctx context.Context, streams []domain.StreamID, m query.AsOf, list []*projection.Compiled) (*Evaluation, error) {
	p := e.pass(list)
	for _, stream := range streams {
		for event, err := range e.log.Read(ctx, stream, 0) {
			if err != nil {
				return nil, err
			}
			if m.Position.Before(event.Position) {
				break
			}
			if err := p.hold(event); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(p.held, func(a, b domain.Recorded) int { return a.Position.Compare(b.Position) })
	return p.Evaluation, p.applyHeld(m)
}

// scales estimate how much memory an evaluation takes, from some of the events that are held and some of the rows.
type scales struct {
	limit           int64
	events, sampled int
	bytes           int64 // of the sampled events
}

const (
	sampleEvery = 16    // events of which one is weighed
	checkEvery  = 1_024 // events after which the sum is compared with the limit
	sampleRows  = 16    // rows of each projection that are weighed then
	rowBytes    = 100   // of a row's place in a map, with its key
)

// check returns a *domain.Rejection when the evaluation takes more than the limit.
func (s *scales) check(e domain.Recorded, held int, evaluation *Evaluation) error {
	if s.events%sampleEvery == 0 {
		s.bytes += weigh(reflect.ValueOf(e))
		s.sampled++
	}
	s.events++
	if s.events%checkEvery != 0 {
		return nil
	}
	mean := s.bytes / int64(s.sampled)
	sum := int64(held) * mean
	for _, m := range evaluation.memories {
		sum += int64(m.Len()) * weighRow(m)
	}
	if sum <= s.limit {
		return nil
	}
	return domain.Reject("as-of-too-large", "this answer as of the past takes more than {mebibytes} MiB of memory to compute; an administrator can allow more", s.limit>>20).At("asOf")
}

// weighRow returns the bytes that a row takes in the mean, by some of them.
func weighRow(m projection.Memory) int64 {
	var sum, n int64
	for row := range m.Some() {
		sum += rowBytes + weigh(reflect.ValueOf(row))
		if n++; n == sampleRows {
			break
		}
	}
	return sum / max(n, 1)
}

// weigh returns the bytes that a value takes, with what it points to.
func weigh(v reflect.Value) int64 { return int64(v.Type().Size()) + beyond(v) }

// beyond returns the bytes that a value points to.
func beyond(v reflect.Value) (n int64) {
	switch v.Kind() {
	case reflect.String:
		return int64(v.Len())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() || v.Type() == typeLocation {
			return 0
		}
		return weigh(v.Elem())
	case reflect.Slice:
		n = int64(v.Len()) * int64(v.Type().Elem().Size())
		switch v.Type().Elem().Kind() {
		case reflect.String, reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map, reflect.Struct:
			for i := range v.Len() {
				n += beyond(v.Index(i))
			}
		}
	case reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			n += weigh(entries.Key()) + weigh(entries.Value())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += beyond(v.Field(i))
		}
	}
	return n
}

// typeLocation is what all times share.
var typeLocation = reflect.TypeFor[*time.Location]()
