package commands

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// stream is the cached fold of one stream, and the queue of the commands of this process that want to append to it.
//
//  1. The cache may be behind the log, never beside it: state is the fold of the events 0 to next-1 as they stand there.
//  2. What is decided on it is either appended at exactly that revision, or, when it is a refusal, decided once more
//     after the tail was read. So being behind costs time and never correctness.
//  3. State values are shared between goroutines and never changed in place: Evolve returns a new value and copies the
//     slices and maps that it changes.
type stream struct {
	id   domain.StreamID
	turn chan struct{} // capacity 1: one writer of this process at a time, only to avoid pointless conflicts

	mu       sync.RWMutex
	view     view
	commands map[string]*execution // by command id; of the whole stream
	weight   int                   // bytes, roughly
	dropped  bool                  // from the cache: whoever still uses it no longer counts
}

// view is what a decision sees of a stream.
type view struct {
	state   any
	next    uint64 // number of events folded
	version uint64 // revision of the last event of the aggregate itself, reservations aside
}

// expected returns the revision at which an append must find the stream.
func (v view) expected() domain.Expected {
	if v.next == 0 {
		return domain.NoStream
	}
	return domain.AtRevision(v.next - 1)
}

// execution is what one command wrote into the stream.
type execution struct {
	fingerprint   string
	revision      uint64 // of the last event
	position      domain.Position
	eventIDs      []string
	eventTypes    []string
	correlationID string
	occurredAt    time.Time // of the last event
}

// stream returns the cached stream, empty when nothing of it is known yet.
func (b *Bus) stream(id domain.StreamID) *stream {
	if s, ok := b.streams.Get(id); ok {
		return s
	}
	s := &stream{
		id:       id,
		turn:     make(chan struct{}, 1),
		view:     view{state: b.aggregates[id.Aggregate].Behaviour.Zero},
		commands: map[string]*execution{},
	}
	if before, ok, _ := b.streams.PeekOrAdd(id, s); ok {
		return before
	}
	b.grow(s, streamWeight)
	return s
}

// grow counts what a stream came to hold, and drops the streams used longest ago while all hold too much.
func (b *Bus) grow(s *stream, bytes int) {
	s.mu.Lock()
	if !s.dropped {
		s.weight += bytes
		b.cached.Add(int64(bytes))
	}
	s.mu.Unlock()
	for b.cached.Load() > b.maxCached {
		if _, _, ok := b.streams.RemoveOldest(); !ok {
			return
		}
	}
}

// drop is told of every stream that leaves the cache.
func (b *Bus) drop(_ domain.StreamID, s *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = true
	b.cached.Add(-int64(s.weight))
}

// load returns the state of a stream from the cache; it reads the tail when nothing is known or when fresh is asked for.
func (b *Bus) load(ctx context.Context, id domain.StreamID, fresh bool) (view, error) {
	s := b.stream(id)
	if v := s.look(); v.next > 0 && !fresh {
		return v, nil
	}
	err := b.refresh(ctx, s)
	v := s.look()
	if v.next == 0 {
		b.streams.Remove(id) // ids that name nothing do not push real ones out
	}
	return v, err
}

// refresh reads the tail of the stream into the cache.
func (b *Bus) refresh(ctx context.Context, s *stream) error {
	tail, err := b.read(ctx, s.id, s.look().next)
	if err != nil {
		return err
	}
	return b.apply(s, tail, b.aggregates[s.id.Aggregate].Behaviour.Evolve)
}

func (s *stream) look() view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.view
}

// execution returns what the command wrote, or nil.
func (s *stream) execution(commandID string) *execution {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.commands[commandID]
}

// apply folds the next events, all of them before anybody looks; an event that is folded already changes nothing, so that
// several readers may feed one stream.
func (b *Bus) apply(s *stream, events []domain.Recorded, evolve func(state any, e domain.Event) any) error {
	grown := 0
	defer func() { b.grow(s, grown) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range events {
		if r.Revision > s.view.next {
			return fmt.Errorf("load %s: revision %d follows %d events: %w", s.id, r.Revision, s.view.next, domain.ErrCorrupt)
		}
		if r.Revision == s.view.next {
			s.fold(r, evolve)
			grown += eventWeight + weigh(reflect.ValueOf(r.Event))
		}
	}
	return nil
}

func (s *stream) fold(r domain.Recorded, evolve func(state any, e domain.Event) any) {
	s.view.next++
	if !strings.HasPrefix(r.Type(), domain.ReservationName+".") {
		s.view.state = evolve(s.view.state, r.Event)
		s.view.version = r.Revision
	}
	e := s.commands[r.CommandID]
	if e == nil {
		e = &execution{fingerprint: r.Fingerprint, correlationID: r.CorrelationID}
	} else {
		copied := *e // an execution handed out does not change
		e = &copied
	}
	e.revision, e.position, e.occurredAt = r.Revision, r.Position, r.OccurredAt
	e.eventIDs = append(e.eventIDs[:len(e.eventIDs):len(e.eventIDs)], r.ID)
	e.eventTypes = append(e.eventTypes[:len(e.eventTypes):len(e.eventTypes)], r.Type())
	s.commands[r.CommandID] = e
}

// enter waits for the turn to append to the stream. The caller calls leave once.
func (s *stream) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
