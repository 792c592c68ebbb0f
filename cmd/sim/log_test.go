package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// logID is the identity of the simulated log.
const logID = "01900000-0000-7000-8000-00000000051a"

var (
	errLost       = errors.New("the connection broke")
	errNotSent    = errors.New("nothing was sent")
	errTurnedAway = errors.New("the log takes no calls now")
)

// memoryLog is an event log in memory that decides as EventStoreDB does. It is not safe for concurrent use: the scheduler
// alone touches it, one call at a time.
type memoryLog struct {
	events  []codec.Raw
	streams map[string][]int                 // indexes in events
	place   func(first bool) domain.Position // of the next event, the first of an append or a later one

	// Of a strict log alone.
	end     domain.Position   // of everything, others' events included
	foreign []domain.Position // where others have written
}

func newMemoryLog(place func(first bool) domain.Position) *memoryLog {
	return &memoryLog{streams: map[string][]int{}, place: place}
}

// decide returns what becomes of an append that writes nothing, and nil for one that the log has yet to write. A repetition
// is recognised by its ids at the revision expected, event by event, and then told like the first time.
func (l *memoryLog) decide(stream string, expected domain.Expected, batch []eventlog.NewEvent) domain.Outcome {
	have := l.streams[stream]
	first := 0
	if r, ok := expected.Revision(); ok {
		first = int(r) + 1
	}
	if first != len(have) {
		if first+len(batch) <= len(have) && l.same(have[first:], batch) {
			last := l.events[have[first+len(batch)-1]]
			return domain.Committed{Revision: last.Revision, Position: last.Position}
		}
		if len(have) == 0 {
			return domain.Conflict{}
		}
		return domain.Conflict{Actual: domain.AtRevision(uint64(len(have)) - 1)}
	}
	return nil
}

// append decides on an append, and writes it unless it is a repetition or meets a conflict.
func (l *memoryLog) append(stream string, expected domain.Expected, batch []eventlog.NewEvent) domain.Outcome {
	if outcome := l.decide(stream, expected, batch); outcome != nil {
		return outcome
	}
	for i, e := range batch {
		l.events = append(l.events, codec.Raw{
			ID: e.ID, Type: e.Type, Stream: stream, Revision: uint64(len(l.streams[stream])),
			Position: l.place(i == 0), Data: e.Data, Metadata: e.Metadata,
		})
		l.streams[stream] = append(l.streams[stream], len(l.events)-1)
	}
	last := l.events[len(l.events)-1]
	return domain.Committed{Revision: last.Revision, Position: last.Position}
}

func (l *memoryLog) same(have []int, batch []eventlog.NewEvent) bool {
	for i, e := range batch {
		if l.events[have[i]].ID != e.ID {
			return false
		}
	}
	return true
}

// read returns the events of a stream from a revision on, as they stand now.
func (l *memoryLog) read(stream string, from uint64) []codec.Raw {
	var list []codec.Raw
	for _, i := range l.streams[stream] {
		if l.events[i].Revision >= from {
			list = append(list, l.events[i])
		}
	}
	return list
}

// connection is the log as one server sees it: every call waits until the scheduler lets it through, or spoils it.
type connection struct {
	sim    *simulation
	server *server
}

var _ eventlog.Log = connection{}

func (c connection) Append(ctx context.Context, stream string, expected domain.Expected, batch []eventlog.NewEvent) domain.Outcome {
	k := &call{server: c.server, request: requestOf(ctx), stream: stream, append: &appending{stream, expected, batch}}
	c.sim.enter(ctx, k)
	return k.outcome
}

func (c connection) ReadStream(ctx context.Context, stream string, from uint64) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		k := &call{server: c.server, request: requestOf(ctx), stream: stream, from: from}
		c.sim.enter(ctx, k)
		for _, raw := range k.events {
			if !yield(raw, nil) {
				return
			}
		}
		if k.err != nil {
			yield(codec.Raw{}, &domain.UnavailableError{What: "event log", Err: fmt.Errorf("read %s: %w", stream, k.err)})
		}
	}
}

// The command bus uses no more of a log than the two above.

func (connection) ReadAll(context.Context, domain.Position) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) { yield(codec.Raw{}, errors.ErrUnsupported) }
}

func (connection) Subscribe(context.Context, domain.Mark) iter.Seq2[eventlog.Message, error] {
	return func(yield func(eventlog.Message, error) bool) { yield(eventlog.Message{}, errors.ErrUnsupported) }
}

func (connection) Head(context.Context) (domain.Mark, error) {
	return domain.Mark{}, errors.ErrUnsupported
}

func (connection) Check(context.Context, domain.Mark) error { return errors.ErrUnsupported }

func (connection) ID(context.Context) (string, error) { return logID, nil }
func (connection) Close() error                       { return nil }
