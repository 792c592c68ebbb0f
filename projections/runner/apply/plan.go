package apply

import (
	"errors"
	"fmt"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

// cause is why a stream is parked.
type cause struct {
	message string
	stack   string
}

// parking is an event that goes into the park.
type parking struct {
	raw   codec.Raw
	first *cause // set for the event that opens the park of its stream
}

// plan is what one batch means to one member.
type plan struct {
	member *Member
	shared []domain.Recorded         // all events of the batch; nil when there is one that does not decode
	poison map[domain.Position]cause // events found to be poison
	sealed *codec.Raw                // the event that cannot be opened, and at which the step ends; nil when there is none
	drift  string                    // why nothing can be stored at all, or ""

	events   []domain.Recorded // to be applied, among others that do not matter
	park     []parking
	read     int             // events of the log that the plan goes past
	ignored  int             // events of types that nobody here knows, of aggregates that the projection does not read
	skipped  int             // events that the rows contain already
	at       domain.Position // the checkpoint afterwards
	event    domain.Mark
	recorded time.Time // of the last event, zero when there is none
	state    string
	problem  string

	step  projection.Step
	fresh int  // rows that the step adds
	count bool // the table's rows are counted with the step
}

// newPlan sorts the batch's events for a member, and starts its step. Events that the projection's code cannot take become
// poison on the way.
func newPlan(m *Member, batch *bus.Batch, shared []domain.Recorded) *plan {
	p := &plan{member: m, shared: shared, poison: map[domain.Position]cause{}}
	p.begin(batch)
	return p
}

// begin starts the step, again when more poison is known.
func (p *plan) begin(batch *bus.Batch) {
	for {
		p.sort(batch)
		step, err := p.member.engine.Begin(p.events)
		if err == nil {
			p.step = step
			return
		}
		p.blame(err)
	}
}

// sort decides about each event: apply it, park it, or halt before it.
func (p *plan) sort(batch *bus.Batch) {
	m := p.member
	p.events, p.park, p.read, p.ignored, p.skipped = nil, nil, 0, 0, 0
	p.at, p.event, p.recorded, p.state, p.problem = m.At, m.Event, time.Time{}, m.State, ""
	if p.drift != "" {
		p.problem = p.drift
		return
	}
	if n := len(p.shared); n > 0 && len(m.parked) == 0 && len(p.poison) == 0 && m.Event.Position.Before(p.shared[0].Position) {
		last := p.shared[n-1]
		p.events, p.read = p.shared, n
		p.at, p.event, p.recorded = last.Position, domain.Mark{Position: last.Position, ID: last.ID}, last.RecordedAt
	} else if !p.pick(batch) {
		return
	}
	if p.at.Before(batch.End) {
		p.at = batch.End
	}
	if batch.CaughtUp {
		switch p.state {
		case build.Building:
			p.state = build.Indexing
		case build.Tailing:
			p.state = build.Verifying
		}
	}
}

// pick decides about one event after the other, and reports false where the member cannot go on.
func (p *plan) pick(batch *bus.Batch) bool {
	m := p.member
	p.events = m.scratch[:0]
	defer func() { m.scratch = p.events }()
	opened := map[string]bool{}
	for i := range batch.Items {
		item := &batch.Items[i]
		if !m.Event.Position.Before(item.Raw.Position) {
			p.skipped++
			continue
		}
		if problem := p.halts(item); problem != "" {
			p.problem = problem
			return false
		}
		matches := m.Matches(item.Raw.Type)
		why, bad := p.poison[item.Raw.Position]
		if matches && item.Err != nil {
			why, bad = cause{message: item.Err.Error()}, true
		}
		if bad {
			if problem := m.rejects(item, why); problem != "" {
				p.problem = problem
				return false
			}
		}
		p.at, p.event, p.recorded = item.Raw.Position, item.Mark(), item.Event.RecordedAt
		p.read++
		if !matches {
			if item.Err != nil {
				p.ignored++
			}
			continue
		}
		switch {
		case m.parked[item.Raw.Stream] || opened[item.Raw.Stream]:
			p.park = append(p.park, parking{raw: item.Raw})
		case bad:
			opened[item.Raw.Stream] = true
			p.park = append(p.park, parking{raw: item.Raw, first: &why})
		default:
			p.events = append(p.events, item.Event)
		}
	}
	return true
}

// halts returns why the member cannot go past an event, or "".
func (p *plan) halts(item *bus.Item) string {
	var unknown *codec.UnknownTypeError
	var newer *codec.NewerSchemaError
	var sealed *codec.SealedError
	switch {
	case item.Err == nil:
	case errors.As(item.Err, &unknown) && p.member.Concerns(item.Raw.Type):
		return fmt.Sprintf("event type %s at position %s is not known to this version of rapport: upgrade it", item.Raw.Type, item.Raw.Position)
	case errors.As(item.Err, &newer) && p.member.Matches(item.Raw.Type):
		return fmt.Sprintf("event %s at position %s has schema %d, this version of rapport knows %d: upgrade it",
			item.Raw.Type, item.Raw.Position, newer.Schema, newer.Known)
	case errors.As(item.Err, &sealed) && p.member.Matches(item.Raw.Type):
		p.sealed = &item.Raw
		return fmt.Sprintf("event %s at position %s is sealed, and this process has no key to open it: the projection goes on when there is one",
			item.Raw.Type, item.Raw.Position)
	}
	return ""
}

// blame makes the event that an error of the projection's code names poison.
func (p *plan) blame(err error) {
	var failed *projection.EventError
	if !errors.As(err, &failed) {
		panic(err) // Begin promises nothing else
	}
	p.poison[failed.Event.Position] = cause{failed.Err.Error(), failed.Stack}
}

// changes reports whether the plan is worth a transaction.
func (p *plan) changes() bool {
	return p.at != p.member.At || p.event != p.member.Event || p.state != p.member.State || p.problem != p.member.Problem
}

// counts returns what the batch was to the member.
func (p *plan) counts() Counts {
	return Counts{Projection: p.member.Name, Applied: p.step.Events(), Parked: len(p.park), Skipped: p.skipped, Ignored: p.ignored}
}
