package esnode

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Expected versions that are no revision, as EventStoreDB numbers them.
const (
	expectNoStream     int64 = -1
	expectAny          int64 = -2
	expectStreamExists int64 = -4
)

type operation int

const (
	opAppend operation = iota
	opDelete
	opTombstone
)

// request is one write on its way through the writer. When outcome and err are set it
// goes to finished, which has room for all that its owner has under way: the writer
// waits for nobody.
type request struct {
	op       operation
	stream   string
	expected int64
	events   []proposed

	outcome  outcome
	err      error
	finished chan<- *request
}

// outcome is where a write, or the original of a repeated one, ended up.
type outcome struct {
	revision int64  // of the last event; noRevision: the stream has none
	position uint64 // of the last event; 0: nothing was written
}

// commit is a group of requests whose outcome is durable once the batch is synced.
type commit struct {
	batch    *pebble.Batch // nil: nothing to write
	head     uint64
	headID   uuid.UUID
	touched  []string
	requests []*request
	err      error
}

// append writes events to a stream that is at the expected version. Nothing is written
// when it returns *wrongVersionError, *streamDeletedError or errClosed; after any other
// error, one of ctx too, the outcome is not known.
func (s *store) append(ctx context.Context, stream string, expected int64, events []proposed) (outcome, error) {
	return s.submit(ctx, &request{op: opAppend, stream: stream, expected: expected, events: events})
}

// delete hides a stream's events; it can be written again.
func (s *store) delete(ctx context.Context, stream string, expected int64) (outcome, error) {
	return s.submit(ctx, &request{op: opDelete, stream: stream, expected: expected})
}

// tombstone ends a stream for ever.
func (s *store) tombstone(ctx context.Context, stream string, expected int64) (outcome, error) {
	return s.submit(ctx, &request{op: opTombstone, stream: stream, expected: expected})
}

func (s *store) submit(ctx context.Context, req *request) (outcome, error) {
	finished := make(chan *request, 1)
	req.finished = finished
	if err := s.enqueue(ctx, req); err != nil {
		return outcome{}, err
	}
	select {
	case <-finished:
		return req.outcome, req.err
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
}

func (s *store) enqueue(ctx context.Context, req *request) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return errClosed
	}
	select {
	case s.requests <- req:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writer decides and writes all requests, one after the other, in the goroutine of
// run. It works ahead of the disk: its view includes what is not synced yet, and
// acknowledge holds back every reply, refusals too, until that is.
type writer struct {
	store   *store
	commits chan commit
	cache   *simplelru.LRU[string, streamState]
	recent  *recentIDs
	last    uint64    // the last position given, 0 in a log without events
	lastID  uuid.UUID // of the event there
	next    uint64    // the next position
	nextID  uint64    // the next stream id

	// The group being built.
	batch   *pebble.Batch
	dirty   map[string]streamState // states that are not in the store yet
	touched []string
	pending []*request
	events  int
	bytes   int
	asked   bool // whether the disk has room; once for a group, which is small beside what is spared
	full    error

	key, value []byte // scratch
}

func newWriter(s *store) (*writer, error) {
	cache, err := simplelru.NewLRU[string, streamState](cachedStreams, nil)
	if err != nil {
		return nil, err
	}
	last, err := s.lastEvent()
	if err != nil {
		return nil, err
	}
	lastID, err := s.lastStreamID()
	if err != nil {
		return nil, err
	}
	w := &writer{
		store: s, commits: make(chan commit, queuedCommits), cache: cache,
		recent: newRecentIDs(recentEvents), last: last, next: firstOrdinal, nextID: lastID + 1,
		batch: s.db.NewBatch(), dirty: map[string]streamState{},
	}
	if s.format == recordFormatOffset {
		w.next = firstOffset
	}
	return w, w.loadRecent()
}

// loadRecent reads the window of recent ids back from the log, so that it survives a
// restart, and the next position behind the last event.
func (w *writer) loadRecent() error {
	type written struct {
		id uuid.UUID
		place
	}
	var newestFirst []written
	err := w.store.scan(firstOrdinal, w.last, backwards, func(rec record) (bool, error) {
		if rec.position == w.last {
			w.next, w.lastID = rec.next, rec.id
		}
		newestFirst = append(newestFirst, written{rec.id, place{streamID: rec.streamID, revision: rec.revision, position: rec.position}})
		return len(newestFirst) < recentEvents, nil
	})
	for _, e := range slices.Backward(newestFirst) {
		w.recent.add(e.id, e.place)
	}
	return err
}

// run builds groups until the requests end. A group takes what is waiting and never
// waits for more: while one is being synced the next one gathers.
func (w *writer) run() {
	defer close(w.commits)
	for req := range w.store.requests {
		w.handle(req)
		for w.gather() {
		}
		w.flush()
	}
	w.store.closeBatch(w.batch)
}

// gather handles one more waiting request, if there is one and the group has room.
func (w *writer) gather() bool {
	if w.events >= groupEvents || w.bytes >= groupBytes {
		return false
	}
	select {
	case req, ok := <-w.store.requests:
		if !ok {
			return false
		}
		w.handle(req)
		return true
	default:
		return false
	}
}

// acknowledge waits for the disk, moves the head and answers, in the order of commits.
func (w *writer) acknowledge() {
	for c := range w.commits {
		err := c.err
		if c.batch != nil && err == nil {
			if err = w.store.sync(c.batch); err != nil {
				w.store.fail(fmt.Errorf("sync: %w", err))
			}
			w.store.closeBatch(c.batch)
		}
		if w.store.failed.Load() {
			err = errFailed
		}
		if err == nil && c.batch != nil {
			w.store.late.wait(w.store.stop)
		}
		if err == nil {
			if err = w.store.witness.advance(mark{c.head, c.headID}); err != nil {
				w.store.fail(fmt.Errorf("write: %w", err))
				err = errFailed
			}
		}
		if err == nil {
			w.store.head.publish(c.head, c.touched)
		}
		for _, req := range c.requests {
			if err != nil {
				req.outcome, req.err = outcome{}, err
			}
			req.finished <- req
		}
	}
}

func (s *store) closeBatch(b *pebble.Batch) {
	if err := b.Close(); err != nil {
		s.logger.Error("closing a batch", "err", err)
	}
}

// flush hands the group over to the disk. What has to be read from the store while a
// group is being built is read after a flush, so that it sees the group's writes.
func (w *writer) flush() {
	if len(w.pending) == 0 && w.batch.Empty() {
		return
	}
	c := commit{head: w.last, headID: w.lastID, touched: w.touched, requests: w.pending}
	if !w.batch.Empty() {
		c.batch, c.err = w.batch, w.apply()
		w.batch = w.store.db.NewBatch()
	}
	for name, st := range w.dirty {
		w.cache.Add(name, st)
	}
	clear(w.dirty)
	w.touched, w.pending, w.events, w.bytes, w.asked = nil, nil, 0, 0, false
	w.commits <- c
}

func (w *writer) apply() error {
	if w.store.failed.Load() {
		return errFailed
	}
	for name, st := range w.dirty {
		w.key, w.value = streamKey(w.key[:0], name), appendState(w.value[:0], st)
		if err := w.batch.Set(w.key, w.value, nil); err != nil {
			return w.broken(err)
		}
	}
	if err := w.store.db.ApplyNoSyncWait(w.batch, pebble.Sync); err != nil {
		return w.broken(err)
	}
	return nil
}

func (w *writer) broken(err error) error {
	w.store.fail(fmt.Errorf("write: %w", err))
	return errFailed
}

// handle decides one request and puts its events into the group.
func (w *writer) handle(req *request) {
	req.outcome, req.err = w.decide(req)
	if w.losesEarly(req) {
		req.finished <- req
		return
	}
	w.pending = append(w.pending, req)
}

// losesEarly says whether a request has lost against one that nobody is shown yet, on a
// node whose commits are shown late. It is then told the revision that it expected.
func (w *writer) losesEarly(req *request) bool {
	var wrong *wrongVersionError
	if w.store.late.limit <= 0 || !errors.As(req.err, &wrong) || wrong.expected < expectNoStream || wrong.expected >= wrong.actual {
		return false
	}
	st, err := w.state(req.stream)
	if err != nil || st.changed <= w.store.synced() {
		return false
	}
	wrong.actual = wrong.expected
	return true
}

func (w *writer) decide(req *request) (outcome, error) {
	st, err := w.state(req.stream)
	if err != nil {
		return outcome{}, err
	}
	if original, err := w.check(req, st); err != nil || original != nil {
		if err != nil {
			return outcome{}, err
		}
		return *original, nil
	}
	if !w.asked {
		w.asked, w.full = true, w.store.room()
	}
	if w.full != nil {
		return outcome{}, w.full
	}
	switch req.op {
	case opDelete:
		return w.softDelete(req.stream)
	case opTombstone:
		return w.writeTombstone(req.stream, st)
	default:
		return w.appendEvents(req, st)
	}
}

func (w *writer) appendEvents(req *request, st streamState) (outcome, error) {
	if len(req.events) == 0 {
		return outcome{revision: st.last}, nil
	}
	if st.softDeleted() {
		if err := w.undelete(req.stream, st.last+1); err != nil {
			return outcome{}, err
		}
	}
	return w.write(req.stream, req.events)
}

func (w *writer) softDelete(stream string) (outcome, error) {
	return w.writeMetadata(stream, softDeleteMetadata)
}

// undelete makes a soft-deleted stream readable from the given revision on; whatever
// else its metadata says is kept.
func (w *writer) undelete(stream string, first int64) error {
	current, err := w.lastData(metastreamPrefix + stream)
	if err != nil {
		return err
	}
	metadata, err := undeleteMetadata(current, first)
	if err != nil {
		return err
	}
	_, err = w.writeMetadata(stream, metadata)
	return err
}

func (w *writer) writeMetadata(stream string, metadata []byte) (outcome, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return outcome{}, err
	}
	meta := metastreamPrefix + stream
	return w.write(meta, []proposed{newProposed(meta, id, eventTypeMetadata, true, metadata, nil)})
}

func (w *writer) writeTombstone(stream string, st streamState) (outcome, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return outcome{}, err
	}
	event := newProposed(stream, id, eventTypeTombstone, false, nil, nil)
	if err := w.put(stream, &st, deletedRevision, &event, ticksOf(w.store.now())); err != nil {
		return outcome{}, err
	}
	st.tombstoned = true
	w.dirty[stream] = st
	return outcome{revision: deletedRevision, position: st.changed}, nil
}

// write appends events to a stream whose version has been checked, and follows what
// metadata events mean for the stream they are about.
func (w *writer) write(stream string, events []proposed) (outcome, error) {
	st, err := w.state(stream)
	if err != nil {
		return outcome{}, err
	}
	target, isMetadata := metadataOf(stream)
	var about streamState
	if isMetadata {
		if about, err = w.state(target); err != nil {
			return outcome{}, err
		}
	}
	created := ticksOf(w.store.now())
	for i := range events {
		if err := w.put(stream, &st, st.last+1, &events[i], created); err != nil {
			return outcome{}, err
		}
		st.last++
	}
	w.dirty[stream] = st
	if isMetadata {
		about.changed = st.changed
		if _, fixed := metadataOf(target); !fixed {
			about.limits = parseLimits(events[len(events)-1].data)
		}
		w.dirty[target] = about
	}
	return outcome{revision: st.last, position: st.changed}, nil
}

// put adds one event to the batch.
func (w *writer) put(stream string, st *streamState, revision int64, event *proposed, created int64) error {
	if st.id == 0 {
		st.id = w.nextID
		w.nextID++
	}
	position := w.next
	w.value = appendRecord(w.value[:0], w.store.format, stream, st.id, event, revision, position, created)
	w.last, w.lastID, w.next = position, event.id, successor(position, w.value)
	w.key = eventKey(w.key[:0], position)
	if err := w.batch.Set(w.key, w.value, nil); err != nil {
		return w.broken(err)
	}
	w.events, w.bytes = w.events+1, w.bytes+len(w.value)
	w.key = indexKey(w.key[:0], st.id, revision)
	w.value = eventKey(w.value[:0], position)
	if err := w.batch.Set(w.key, w.value[1:], nil); err != nil {
		return w.broken(err)
	}
	st.changed = position
	w.touched = append(w.touched, stream)
	w.recent.add(event.id, place{streamID: st.id, revision: revision, position: position})
	return nil
}

// state returns the writer's view of a stream, which is ahead of the disk.
func (w *writer) state(name string) (streamState, error) {
	if st, ok := w.dirty[name]; ok {
		return st, nil
	}
	if st, ok := w.cache.Get(name); ok {
		return st, nil
	}
	st, err := w.store.state(name)
	if err != nil {
		return streamState{}, err
	}
	w.cache.Add(name, st)
	return st, nil
}

// lastData returns the data of a stream's last event, nil if it has none.
func (w *writer) lastData(stream string) ([]byte, error) {
	st, err := w.state(stream)
	if err != nil || st.last < 0 {
		return nil, err
	}
	w.flush()
	var data []byte
	err = w.store.scanStream(st, st.last, st.last, forwards, func(rec record) (bool, error) {
		var err error
		data, err = eventData(rec.body)
		return false, err
	})
	return data, err
}

// check compares a stream with what the request expects, as EventStoreDB does
// (IndexWriter.CheckCommit). It returns the original outcome of a repeated request,
// or nil when the request may be carried out.
func (w *writer) check(req *request, st streamState) (*outcome, error) {
	if st.tombstoned {
		return nil, &streamDeletedError{stream: req.stream}
	}
	if req.expected == expectStreamExists {
		if err := w.checkExists(req, st); err != nil {
			return nil, err
		}
	}
	switch {
	case req.expected == expectAny, req.expected == expectStreamExists:
		return w.checkRecent(req, st)
	case req.expected < st.last:
		return w.checkStored(req, st)
	case req.expected > st.last:
		return nil, wrongVersion(req, st)
	}
	return nil, nil
}

// checkExists refuses a stream with neither events nor metadata, and a deleted one.
func (w *writer) checkExists(req *request, st streamState) error {
	if st.softDeleted() {
		return &streamDeletedError{stream: req.stream}
	}
	if st.last >= 0 {
		return nil
	}
	meta, err := w.state(metastreamPrefix + req.stream)
	if err == nil && meta.last < 0 {
		err = wrongVersion(req, st)
	}
	return err
}

// checkRecent finds a repeated request that names no revision by its event ids. All
// of them known: a repetition; only some: a conflict.
func (w *writer) checkRecent(req *request, st streamState) (*outcome, error) {
	var last place
	for i := range req.events {
		known, ok := w.recent.find(req.events[i].id)
		if !ok || known.streamID != st.id {
			if i == 0 {
				return nil, nil
			}
			return nil, wrongVersion(req, st)
		}
		last = known
	}
	if len(req.events) == 0 {
		return nil, nil
	}
	return &outcome{revision: last.revision, position: last.position}, nil
}

// checkStored compares the event ids of a request that expects an earlier revision
// with what stands there: the same ids, and it is a repetition.
func (w *writer) checkStored(req *request, st streamState) (*outcome, error) {
	var last place
	for i := range req.events {
		revision := req.expected + 1 + int64(i)
		stored, err := w.placeOf(st, revision, req.events[i].id)
		if errors.Is(err, errNotThere) {
			if i == 0 && req.expected == expectNoStream && st.softDeleted() {
				return nil, nil
			}
			return nil, wrongVersion(req, st)
		}
		if err != nil {
			return nil, err
		}
		last = stored
	}
	if len(req.events) == 0 {
		if req.op != opAppend && req.expected == expectNoStream && st.softDeleted() {
			return nil, nil
		}
		return nil, wrongVersion(req, st)
	}
	return &outcome{revision: last.revision, position: last.position}, nil
}

var errNotThere = errors.New("no such event at this revision")

// placeOf finds the event with the given id at a revision of a stream, or errNotThere.
func (w *writer) placeOf(st streamState, revision int64, id uuid.UUID) (place, error) {
	if known, ok := w.recent.find(id); ok && known.streamID == st.id && known.revision == revision {
		return known, nil
	}
	if revision > st.last {
		return place{}, errNotThere
	}
	w.flush()
	found := place{}
	err := w.store.scanStream(st, revision, revision, forwards, func(rec record) (bool, error) {
		if rec.id == id {
			found = place{streamID: st.id, revision: revision, position: rec.position}
		}
		return false, nil
	})
	if err == nil && found.position == 0 {
		err = errNotThere
	}
	return found, err
}

func wrongVersion(req *request, st streamState) error {
	return &wrongVersionError{stream: req.stream, expected: req.expected, actual: st.last}
}
