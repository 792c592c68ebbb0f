package commands_test

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/rapport-crm/rapport/domain"
)

// memoryStore is an EventStore in memory that behaves as EventStoreDB does, idempotent repetition included, and fails on
// demand.
type memoryStore struct {
	mu      sync.Mutex
	streams map[domain.StreamID][]domain.Recorded
	head    uint64
	appends int // calls that reached the store
	reads   int

	// before and after run around every append, without the lock; an outcome returned is the caller's answer. What
	// before refuses is not written.
	before func(domain.StreamID, []domain.Pending) domain.Outcome
	after  func(domain.StreamID, []domain.Pending, domain.Outcome) domain.Outcome
}

var errLost = errors.New("connection lost")

func newMemoryStore() *memoryStore {
	return &memoryStore{streams: map[domain.StreamID][]domain.Recorded{}}
}

func (m *memoryStore) Append(_ context.Context, id domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	m.mu.Lock()
	before, after := m.before, m.after
	m.mu.Unlock()
	if before != nil {
		if o := before(id, events); o != nil {
			return o
		}
	}
	o := m.append(id, expected, events)
	if after != nil {
		if other := after(id, events, o); other != nil {
			return other
		}
	}
	return o
}

func (m *memoryStore) append(id domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.appends++
	s := m.streams[id]
	first := uint64(0)
	if r, ok := expected.Revision(); ok {
		first = r + 1
	}
	if first != uint64(len(s)) {
		return m.repetition(s, first, events)
	}
	for i, e := range events {
		m.head += 100
		s = append(s, domain.Recorded{
			ID: e.ID, Stream: id, Revision: first + uint64(i), Position: domain.Position{Commit: m.head, Prepare: m.head},
			Metadata: e.Metadata, Event: e.Event,
		})
	}
	m.streams[id] = s
	last := s[len(s)-1]
	return domain.Committed{Revision: last.Revision, Position: last.Position}
}

// repetition answers an append at a revision that is not the stream's last: success without a position when it stands
// there already, event by event.
func (m *memoryStore) repetition(s []domain.Recorded, first uint64, events []domain.Pending) domain.Outcome {
	conflict := domain.Conflict{}
	if len(s) > 0 {
		conflict.Actual = domain.AtRevision(uint64(len(s)) - 1)
	}
	if first+uint64(len(events)) > uint64(len(s)) {
		return conflict
	}
	for i, e := range events {
		if s[first+uint64(i)].ID != e.ID {
			return conflict
		}
	}
	return domain.Committed{Revision: first + uint64(len(events)) - 1}
}

func (m *memoryStore) Read(_ context.Context, id domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	m.mu.Lock()
	m.reads++
	s := m.streams[id]
	m.mu.Unlock()
	return func(yield func(domain.Recorded, error) bool) {
		for i := from; i < uint64(len(s)); i++ {
			if !yield(s[i], nil) {
				return
			}
		}
	}
}

// stream returns what stands in a stream.
func (m *memoryStore) stream(id domain.StreamID) []domain.Recorded {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.streams[id]
}

// calls returns the numbers of appends and reads and starts them anew.
func (m *memoryStore) calls() (appends, reads int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	appends, reads = m.appends, m.reads
	m.appends, m.reads = 0, 0
	return appends, reads
}

// of returns every stream of an aggregate kind.
func (m *memoryStore) of(aggregate string) map[domain.StreamID][]domain.Recorded {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[domain.StreamID][]domain.Recorded{}
	for id, s := range m.streams {
		if id.Aggregate == aggregate {
			out[id] = s
		}
	}
	return out
}
