package main

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/projections/projection"
)

var (
	errRefused = errors.New("the batch is refused")
	errAckLost = errors.New("the batch is stored, and nobody is told")
)

// projector carries the log through the real bus into rows in memory, with a checkpoint as the real one has: what is at or
// below it is dropped. Batches are refused, acknowledgements lost, and the subscription begun again from an older place.
type projector struct {
	rng     *rand.Rand
	log     []eventlog.Message // an event at the end
	decode  bus.Decoder
	rows    []projection.Memory
	at      domain.Position
	dropped int // events delivered again
	stop    context.CancelFunc
}

// newProjector makes one over everything in the log.
func (s *simulation) newProjector(compiled []*projection.Compiled) *projector {
	p := &projector{rng: s.rng, log: s.log.messages(), decode: s.registry}
	for _, c := range compiled {
		p.rows = append(p.rows, c.NewMemory())
	}
	return p
}

// catchUp subscribes again and again until the whole log is in the rows. It belongs into a synctest bubble.
func (p *projector) catchUp() error {
	for head := p.log[len(p.log)-1].Raw.Position; p.at.Before(head); {
		from := p.at
		for range p.rng.IntN(4) { // an older checkpoint, as after an answer that was lost
			from.Commit, from.Prepare = from.Commit/2, from.Prepare/2
		}
		ctx, stop := context.WithCancel(context.Background())
		p.stop = stop
		subscriber := bus.NewSubscriber(p.subscribe, domain.Mark{Position: from}, p.decode, bus.Options{
			MaxEvents: 1 + p.rng.IntN(40), Logger: slog.New(slog.DiscardHandler),
		})
		err := bus.Run(ctx, "simulated", subscriber, p.handle, nil)
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// subscribe is a log that delivers everything behind a position, and then nothing more.
func (p *projector) subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	return func(yield func(eventlog.Message, error) bool) {
		for _, m := range p.log {
			at := m.Checkpoint
			if m.Raw != nil {
				at = m.Raw.Position
			}
			if after.Position.Before(at) && !yield(m, nil) {
				return
			}
		}
		if yield(eventlog.Message{CaughtUp: true}, nil) {
			<-ctx.Done()
			yield(eventlog.Message{}, ctx.Err())
		}
	}
}

func (p *projector) handle(_ context.Context, b *bus.Batch) error {
	if p.rng.IntN(10) == 0 {
		return errRefused
	}
	for _, item := range b.Items {
		if item.Err != nil {
			return item.Err
		}
		if !p.at.Before(item.Raw.Position) {
			p.dropped++
			continue
		}
		for _, rows := range p.rows {
			if err := rows.Apply(item.Event); err != nil {
				return err
			}
		}
		p.at = item.Raw.Position
	}
	switch {
	case p.rng.IntN(10) == 0:
		return errAckLost
	case b.CaughtUp, p.rng.IntN(20) == 0:
		p.stop()
	}
	return nil
}
