package commands

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// decision is what one attempt would write.
type decision struct {
	events []domain.Event
	before view
	after  any // the state with the events folded
	now    time.Time
	when   time.Time // business time of the events
}

// execute runs the loop of the package comment. Once the command has its turn it is no longer the caller's to cancel:
// a disconnected client finds it either not executed or, by its key, executed.
func (b *Bus) execute(ctx context.Context, c *call) (Receipt, error) {
	s := b.stream(c.stream)
	if !c.DryRun {
		if c.command.alone {
			unlock, err := b.crowds.lock(ctx, string(c.Tenant)+" "+c.command.Type())
			if err != nil {
				return Receipt{}, timely(err)
			}
			defer unlock()
		}
		leave, err := s.enter(ctx)
		if err != nil {
			return Receipt{}, timely(err)
		}
		defer leave()
	}
	if !time.Now().Before(c.deadline) { // it waited for its turn until then
		return Receipt{}, timely(context.DeadlineExceeded)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), c.deadline)
	defer cancel()
	defer func() {
		if s.look().next == 0 {
			b.streams.Remove(c.stream)
		}
	}()

	claims := &claimSet{bus: b, call: c}
	receipt, err := b.attempts(ctx, c, s, claims)
	err = timely(err)
	if err != nil || receipt.Replayed {
		claims.abandon(ctx, err)
	}
	return receipt, err
}

// attempts decides and appends until one of both is final.
func (b *Bus) attempts(ctx context.Context, c *call, s *stream, claims *claimSet) (Receipt, error) {
	fresh := c.DryRun || !c.command.Creates && s.look().next == 0
	if fresh {
		if err := b.refresh(ctx, s); err != nil {
			return Receipt{}, err
		}
	}
	var sent string // id of the first event of the append before
	for lost := 0; ; lost++ {
		if e := s.execution(c.id); e != nil {
			return c.receipt(e, sent)
		}
		d, err := b.decide(ctx, c, s.look(), fresh)
		if !fresh && (err != nil || len(d.events) == 0) {
			// A refusal is believed only when nothing newer could change it; and another process may have executed this
			// very command.
			if err := b.refresh(ctx, s); err != nil {
				return Receipt{}, err
			}
			if e := s.execution(c.id); e != nil {
				return c.receipt(e, sent)
			}
			d, err = b.decide(ctx, c, s.look(), true)
		}
		if err != nil {
			return Receipt{}, err
		}
		if len(d.events) == 0 || c.DryRun {
			return b.unwritten(ctx, c, d)
		}
		gone, err := claims.acquire(ctx, d)
		if err != nil {
			// Another process may have executed this very command, and its value may have changed hands since.
			if failed := b.refresh(ctx, s); failed != nil {
				return Receipt{}, failed
			}
			if e := s.execution(c.id); e != nil {
				return c.receipt(e, sent)
			}
			return Receipt{}, err
		}
		pending := b.pending(c, d)
		sent, claims.inDoubt = pending[0].ID, true
		outcome, err := b.settle(ctx, c.stream, d.before.expected(), pending, lost, func() (bool, error) {
			err := b.refresh(ctx, s)
			return d.before.expected().Before(s.look().expected()), err
		})
		if err != nil {
			return Receipt{}, err
		}
		switch o := outcome.(type) {
		case domain.Committed:
			return b.commit(ctx, c, s, d, pending, o, gone)
		case domain.Refused:
			claims.inDoubt = false
			return Receipt{}, fmt.Errorf("append to %s: %w", c.stream, o.Err)
		case domain.Conflict:
			if e := s.execution(c.id); e != nil && e.eventIDs[0] == sent { // what was answered as unknown stands there
				return b.written(ctx, c, s, d, sent, gone)
			}
			claims.inDoubt, fresh = false, true
		}
	}
}

// decide makes one decision on a view of the stream.
func (b *Bus) decide(ctx context.Context, c *call, v view, fresh bool) (decision, error) {
	a := c.command.aggregate
	d := decision{before: v, now: b.now()}
	d.when = d.now
	if t := c.Command.Occurred(); !t.IsZero() {
		d.when = instant(t)
	}
	exists := a.Behaviour.Exists(v.state)
	switch {
	case exists && c.command.Creates:
		return d, domain.Reject("already-exists", "{aggregate} {id} exists already", a.Name, c.Target)
	case !exists && !c.command.Creates:
		return d, &domain.NotFoundError{Kind: a.Name, ID: string(c.Target)}
	case c.IfMatch != nil && *c.IfMatch != v.version:
		return d, &domain.ConflictError{Stream: c.stream, Actual: domain.AtRevision(v.version)}
	}
	cmd := c.Command
	if c.command.prepare != nil {
		var err error
		if cmd, err = c.command.prepare(ctx, &Loader{bus: b, self: c.stream, state: v.state, fresh: fresh}, c.Request, cmd); err != nil {
			return d, err
		}
	}
	var err error
	d.events, err = a.Behaviour.Decide(v.state, cmd, domain.Facts{ID: c.Target, Now: d.now, OccurredAt: d.when, Actor: c.Actor})
	if err != nil {
		return d, err
	}
	d.after = v.state
	for _, e := range d.events {
		if b.schemas[e.EventType()] == 0 {
			return d, fmt.Errorf("commands: %s decided %q, which no aggregate declares", cmd.CommandType(), e.EventType())
		}
		d.after = a.Behaviour.Evolve(d.after, e)
	}
	return d, nil
}

// instant brings a time into the form in which events carry it: UTC, to the microsecond, which is what read models keep.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func (b *Bus) now() time.Time { return instant(b.clock()) }

// metadata is the envelope of everything that the command writes at the time now.
func (c *call) metadata(schema int, now, when time.Time, subjects []domain.ID) domain.Metadata {
	m := domain.Metadata{
		Schema:        schema,
		Tenant:        c.Tenant,
		Actor:         c.Actor,
		CorrelationID: c.CorrelationID,
		CausationID:   c.CausationID,
		CommandID:     c.id,
		Fingerprint:   c.fingerprint.keyed,
		OccurredAt:    when,
		RecordedAt:    now,
		Subjects:      subjects,
		TraceParent:   c.TraceParent,
	}
	if m.CorrelationID == "" {
		m.CorrelationID = c.id
	}
	if m.CausationID == "" {
		m.CausationID = c.id
	}
	return m
}

// pending wraps the events decided in their envelopes.
func (b *Bus) pending(c *call, d decision) []domain.Pending {
	subjects := c.command.aggregate.Behaviour.Subjects(c.Target, d.before.state)
	for _, id := range c.command.aggregate.Behaviour.Subjects(c.Target, d.after) {
		if !slices.Contains(subjects, id) {
			subjects = append(subjects[:len(subjects):len(subjects)], id)
		}
	}
	out := make([]domain.Pending, len(d.events))
	for i, e := range d.events {
		out[i] = domain.Pending{
			ID:       b.eventID(c, d.now, "event", i),
			Metadata: c.metadata(b.schemas[e.EventType()], d.now, d.when, subjects),
			Event:    e,
		}
	}
	return out
}

// commit folds what was appended into the cache and answers.
func (b *Bus) commit(ctx context.Context, c *call, s *stream, d decision, pending []domain.Pending, o domain.Committed, gone []held) (Receipt, error) {
	if o.Position.IsZero() {
		// A log that recognises a repetition may not tell where the first one went.
		if err := b.refresh(ctx, s); err != nil {
			return Receipt{}, err
		}
	}
	first := d.before.next
	recorded := make([]domain.Recorded, len(pending))
	for i, p := range pending {
		recorded[i] = domain.Recorded{
			ID: p.ID, Stream: c.stream, Revision: first + uint64(i), Position: o.Position, Metadata: p.Metadata, Event: p.Event,
		}
	}
	decided := func(any, domain.Event) any { return d.after } // nobody sees a state between the events of one append
	if err := b.apply(s, recorded, decided); err != nil {
		return Receipt{}, err
	}
	return b.written(ctx, c, s, d, pending[0].ID, gone)
}

// written gives back the values that a command no longer holds now that its events, sent being the first, are in the log,
// and answers.
func (b *Bus) written(ctx context.Context, c *call, s *stream, d decision, sent string, gone []held) (Receipt, error) {
	b.giveBack(ctx, c, d.now, gone)
	return c.receipt(s.execution(c.id), sent)
}

// receipt answers what the command wrote when it was executed: by this call when its first event is the one sent.
func (c *call) receipt(e *execution, sent string) (Receipt, error) {
	if !c.fingerprint.is(e.fingerprint) {
		return Receipt{}, &domain.IdempotencyError{CommandID: c.id}
	}
	return Receipt{
		Stream:        c.stream.String(),
		ID:            c.Target,
		Revision:      e.revision,
		Position:      e.position,
		EventIDs:      e.eventIDs,
		EventTypes:    e.eventTypes,
		CorrelationID: e.correlationID,
		OccurredAt:    e.occurredAt,
		Replayed:      e.eventIDs[0] != sent,
		DryRun:        c.DryRun,
	}, nil
}

// unwritten answers a command that changes nothing, or a dry run.
func (b *Bus) unwritten(ctx context.Context, c *call, d decision) (Receipt, error) {
	r := Receipt{
		Stream:        c.stream.String(),
		ID:            c.Target,
		Revision:      d.before.version,
		CorrelationID: c.metadata(0, d.now, d.when, nil).CorrelationID,
		Unchanged:     len(d.events) == 0,
		DryRun:        c.DryRun,
		Events:        d.events,
	}
	if r.Unchanged {
		return r, nil
	}
	r.Revision = d.before.next + uint64(len(d.events)) - 1
	for _, e := range d.events {
		r.EventTypes = append(r.EventTypes, e.EventType())
	}
	if !c.claims() {
		return r, nil
	}
	return r, b.checkFree(ctx, c, d)
}
