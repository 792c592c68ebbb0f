package esnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

type direction bool

const (
	forwards  direction = false
	backwards direction = true
)

// visitor takes one record, which is valid during the call only, and says whether to
// go on.
type visitor func(rec record) (more bool, err error)

// synced is the position up to which the log may be read.
func (s *store) synced() uint64 { return s.head.position.Load() }

// state reads the state of a stream; one never heard of is at noRevision.
func (s *store) state(name string) (streamState, error) {
	value, closer, err := s.db.Get(streamKey(nil, name))
	if errors.Is(err, pebble.ErrNotFound) {
		return newStreamState(name), nil
	}
	if err != nil {
		return streamState{}, fmt.Errorf("read stream state: %w", err)
	}
	st, err := decodeState(value)
	return st, errors.Join(err, closer.Close())
}

func newStreamState(name string) streamState {
	st := streamState{last: noRevision}
	if _, ok := metadataOf(name); ok {
		st.limits = metastreamLimits
	}
	return st
}

// syncedState is state for readers: it waits until what it returns is synced.
func (s *store) syncedState(ctx context.Context, name string) (streamState, error) {
	st, err := s.state(name)
	if err != nil {
		return st, err
	}
	return st, s.head.reach(ctx, st.changed, s.stop)
}

// scan visits the events at the positions from first to last, both included, in the
// given direction.
func (s *store) scan(first, last uint64, d direction, visit visitor) (err error) {
	if first > last {
		return nil
	}
	iter, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: eventKey(nil, first), UpperBound: eventKey(nil, last+1),
	})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for ok := start(iter, d); ok; ok = next(iter, d) {
		value, err := iter.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		rec, err := decodeRecord(binary.BigEndian.Uint64(iter.Key()[1:]), value)
		if err != nil {
			return err
		}
		if more, err := visit(rec); err != nil || !more {
			return err
		}
	}
	return iter.Error()
}

// scanStream visits the events of a stream at the revisions from first to last, both
// included. It knows nothing of the stream's limits.
func (s *store) scanStream(st streamState, first, last int64, d direction, visit visitor) (err error) {
	last = min(last, st.last)
	if first > last || st.id == 0 {
		return nil
	}
	iter, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: indexKey(nil, st.id, first), UpperBound: indexKey(nil, st.id, last+1),
	})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for ok := start(iter, d); ok; ok = next(iter, d) {
		value, err := iter.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read the index: %w", err)
		}
		if len(value) != 8 {
			return errCorrupt
		}
		if more, err := s.visitAt(binary.BigEndian.Uint64(value), visit); err != nil || !more {
			return err
		}
	}
	return iter.Error()
}

func (s *store) visitAt(position uint64, visit visitor) (more bool, err error) {
	value, closer, err := s.db.Get(eventKey(nil, position))
	if err != nil {
		return false, fmt.Errorf("read event at position %d: %w", position, err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	rec, err := decodeRecord(position, value)
	if err != nil {
		return false, err
	}
	return visit(rec)
}

func start(iter *pebble.Iterator, d direction) bool {
	if d == backwards {
		return iter.Last()
	}
	return iter.First()
}

func next(iter *pebble.Iterator, d direction) bool {
	if d == backwards {
		return iter.Prev()
	}
	return iter.Next()
}

// expired says whether an event is older than its stream's limits allow.
func (s *store) expired(limits streamLimits, rec record) bool {
	return limits.maxAge > 0 && rec.created < ticksOf(s.now().Add(-limits.maxAge))
}
