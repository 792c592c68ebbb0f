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
	if pebble.IsCorruptionError(err) {
		return streamState{}, fmt.Errorf("%w: state of stream %q: %w", errCorrupt, name, err)
	}
	if err != nil {
		return streamState{}, fmt.Errorf("read stream state: %w", err)
	}
	st, err := decodeState(value)
	if err != nil {
		err = fmt.Errorf("state of stream %q: %w", name, err)
	}
	return st, errors.Join(err, closer.Close())
}

func newStreamState(name string) streamState {
	st := streamState{last: noRevision}
	if _, ok := metadataOf(name); ok {
		st.limits = metastreamLimits
	}
	return st
}

// hasEvent says whether an event is at a position.
func (s *store) hasEvent(position uint64) (bool, error) {
	_, closer, err := s.db.Get(eventKey(nil, position))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, missingEvent(position, err)
	}
	return true, closer.Close()
}

// syncedState is state for readers: it waits until what it returns is synced.
func (s *store) syncedState(ctx context.Context, name string) (streamState, error) {
	st, err := s.state(name)
	if err != nil {
		return st, err
	}
	return st, s.head.reach(ctx, st.changed, s.stop)
}

// shownState is state for readers that see the log up to a head that is late: it does
// not wait for what is behind the head but leaves it out. Only for metadata that is
// behind the head it waits, as syncedState does.
func (s *store) shownState(ctx context.Context, name string, shown *head) (streamState, error) {
	head := shown.position.Load()
	st, err := s.state(name)
	if err != nil || st.changed <= head {
		return st, err
	}
	meta, err := s.state(metastreamPrefix + name)
	if err != nil {
		return streamState{}, err
	}
	if meta.changed > head {
		return st, shown.reach(ctx, st.changed, s.stop)
	}
	if st.tombstoned {
		entry, closer, err := s.db.Get(indexKey(nil, st.id, deletedRevision))
		if err != nil {
			return streamState{}, missingEntry(st.id, deletedRevision, err)
		}
		st.tombstoned = binary.BigEndian.Uint64(entry) <= head
		if err := closer.Close(); err != nil {
			return streamState{}, err
		}
	}
	behind := st.last
	err = s.scanStream(st, 0, st.last, backwards, func(rec record) (bool, error) {
		if rec.position > head {
			behind = rec.revision - 1
		}
		return rec.position > head, nil
	})
	st.last = behind
	return st, err
}

// scan visits the events at the positions from first to last, both included, in the
// given direction. All of them must be there: a scan that ends early is an error. The
// two need not be positions of events; last must not be beyond the last one.
func (s *store) scan(first, last uint64, d direction, visit visitor) (err error) {
	if first > last {
		return nil
	}
	iter, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{keyEvent}, UpperBound: []byte{keyEvent + 1}, // what lies around the range tells whether it is whole
	})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	if d == backwards {
		return scanBackwards(iter, first, last, visit)
	}
	return scanForwards(iter, first, last, visit)
}

func scanForwards(iter *pebble.Iterator, first, last uint64, visit visitor) error {
	position, ok := seekEvent(iter, first)
	for position <= last {
		if !ok || positionAt(iter) != position {
			return missingEvent(position, iter.Error())
		}
		rec, err := recordAt(iter)
		if err != nil {
			return err
		}
		if more, err := visit(rec); err != nil || !more {
			return err
		}
		position, ok = rec.next, iter.Next()
	}
	return nil
}

// seekEvent moves to the first event at a position or behind it. It returns where that
// event has to be, which is told by the event before it, and whether one was found.
func seekEvent(iter *pebble.Iterator, position uint64) (expected uint64, ok bool) {
	key := eventKey(nil, position)
	if ok = iter.SeekGE(key); ok && positionAt(iter) == position || iter.Error() != nil {
		return position, ok
	}
	if !iter.SeekLT(key) {
		if ok = iter.Error() == nil && iter.First(); ok && beginsLog(positionAt(iter)) {
			position = positionAt(iter)
		}
		return position, ok
	}
	value, err := iter.ValueAndErr()
	if err != nil {
		return position, false
	}
	expected = max(position, successor(positionAt(iter), value))
	return expected, iter.Next()
}

func scanBackwards(iter *pebble.Iterator, first, last uint64, visit visitor) error {
	before, exact := last+1, false // the event to be visited is the one before this position
	for ok := iter.SeekLT(eventKey(nil, before)); ok; ok = iter.Prev() {
		position := positionAt(iter)
		value, err := iter.ValueAndErr()
		if err != nil {
			return missingEvent(position, err)
		}
		if after := successor(position, value); after < before || exact && after != before {
			return missingEvent(before-1, nil)
		}
		if position < first {
			return nil
		}
		rec, err := decodeRecord(position, value)
		if err != nil {
			return err
		}
		if more, err := visit(rec); err != nil || !more || position == first {
			return err
		}
		before, exact = position, true
	}
	err := iter.Error()
	if err == nil && !exact && iter.First() { // the log begins behind the range
		before = positionAt(iter)
	}
	if err != nil || !beginsLog(before) {
		return missingEvent(before-1, err)
	}
	return nil
}

func positionAt(iter *pebble.Iterator) uint64 { return binary.BigEndian.Uint64(iter.Key()[1:]) }

func recordAt(iter *pebble.Iterator) (record, error) {
	position := positionAt(iter)
	value, err := iter.ValueAndErr()
	if err != nil {
		return record{}, missingEvent(position, err)
	}
	return decodeRecord(position, value)
}

// moreEvents says whether there are more than n events behind one position up to
// another, which is not beyond the last event.
func (s *store) moreEvents(n, after, last uint64) (more bool, err error) {
	if last <= after || last-after <= n { // no two events are at one position
		return false, nil
	}
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: eventKey(nil, after+1), UpperBound: eventKey(nil, last+1)})
	if err != nil {
		return false, fmt.Errorf("read the log: %w", err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	counted := uint64(0)
	for ok := iter.First(); ok && counted <= n; ok = iter.Next() {
		counted++
	}
	return counted > n, iter.Error()
}

// scanStream visits the events of a stream at the revisions from first to last, both
// included. All of them must be there. It knows nothing of the stream's limits.
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
	revision, step := first, int64(1)
	if d == backwards {
		revision, step = last, -1
	}
	ok := start(iter, d)
	for range last - first + 1 {
		if !ok || int64(binary.BigEndian.Uint64(iter.Key()[9:])) != revision {
			return missingEntry(st.id, revision, iter.Error())
		}
		value, err := iter.ValueAndErr()
		if err != nil || len(value) != 8 {
			return missingEntry(st.id, revision, err)
		}
		if more, err := s.visitAt(st.id, revision, binary.BigEndian.Uint64(value), visit); err != nil || !more {
			return err
		}
		revision, ok = revision+step, next(iter, d)
	}
	return nil
}

// visitAt visits the event that the index has at a revision of a stream.
func (s *store) visitAt(streamID uint64, revision int64, position uint64, visit visitor) (more bool, err error) {
	value, closer, err := s.db.Get(eventKey(nil, position))
	if err != nil {
		return false, missingEvent(position, err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	rec, err := decodeRecord(position, value)
	if err != nil {
		return false, err
	}
	if rec.streamID != streamID || rec.revision != revision {
		return false, damagedEvent(position, fmt.Sprintf("it is revision %d of %q, not what the index has there", rec.revision, rec.stream))
	}
	return visit(rec)
}

// missingEvent is damage when the engine has nothing there, or says so itself; other
// errors of the engine are none.
func missingEvent(position uint64, err error) error {
	if !isDamage(err) {
		return fmt.Errorf("read event at position %d: %w", position, err)
	}
	return damagedEvent(position, problemText(err))
}

func missingEntry(streamID uint64, revision int64, err error) error {
	if !isDamage(err) {
		return fmt.Errorf("read index at revision %d of stream %d: %w", revision, streamID, err)
	}
	return fmt.Errorf("%w: index entry of revision %d of stream %d: %s", errCorrupt, revision, streamID, problemText(err))
}

func isDamage(err error) bool {
	return err == nil || errors.Is(err, pebble.ErrNotFound) || pebble.IsCorruptionError(err)
}

func problemText(err error) string {
	if err == nil || errors.Is(err, pebble.ErrNotFound) {
		return "it is missing"
	}
	return err.Error()
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

// eventAt returns what is known of where an event is: its position and the next one.
func (s *store) eventAt(position uint64) (record, error) {
	value, closer, err := s.db.Get(eventKey(nil, position))
	if err != nil {
		return record{}, missingEvent(position, err)
	}
	return record{position: position, next: successor(position, value)}, closer.Close()
}
