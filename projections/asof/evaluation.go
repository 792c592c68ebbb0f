package asof

import (
	"errors"
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
)

// Evaluation folds events through projections in memory. What a projection cannot digest it does as the live read models
// do: the event and all later ones of its stream leave no trace in that projection. It is not safe for concurrent use.
type Evaluation struct {
	projections []*projection.Compiled
	memories    []projection.Memory
	parked      []map[domain.StreamID]bool
}

// NewEvaluation returns an evaluation of no events.
func NewEvaluation(projections ...*projection.Compiled) *Evaluation {
	e := &Evaluation{projections: projections, parked: make([]map[domain.StreamID]bool, len(projections))}
	for i, p := range projections {
		e.memories = append(e.memories, p.NewMemory())
		e.parked[i] = map[domain.StreamID]bool{}
	}
	return e
}

// Apply takes the next event. It returns only errors that are no *projection.EventError.
func (e *Evaluation) Apply(event domain.Recorded) error {
	for i, p := range e.projections {
		if !p.Matches(event.Type()) || e.parked[i][event.Stream] {
			continue
		}
		err := e.memories[i].Apply(event)
		var poison *projection.EventError
		switch {
		case errors.As(err, &poison):
			e.parked[i][event.Stream] = true
		case err != nil:
			return err
		}
	}
	return nil
}

// Matches reports whether events of the type matter to any of the projections.
func (e *Evaluation) Matches(eventType string) bool {
	return slices.ContainsFunc(e.projections, func(p *projection.Compiled) bool { return p.Matches(eventType) })
}

// Concerns reports whether an event of the type can stand in a stream of which another matters to any of the projections.
func (e *Evaluation) Concerns(eventType string) bool {
	return slices.ContainsFunc(e.projections, func(p *projection.Compiled) bool { return p.Concerns(eventType) })
}

// Memory returns the rows of the projection of a name, nil when it is not one of them.
func (e *Evaluation) Memory(name string) projection.Memory {
	for i, p := range e.projections {
		if p.Name == name {
			return e.memories[i]
		}
	}
	return nil
}
