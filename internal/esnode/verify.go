package esnode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// MaxDamages bounds the damages that a verification lists; all are counted.
	MaxDamages = 1000
	// verifyStep is how many entries are verified between two reports of progress.
	verifyStep = 4096
)

// Kinds of damage.
const (
	DamagedEngine = "engine" // the store as a whole: what the engine has to say
	DamagedLog    = "log"    // identity, format, or the end of the log
	DamagedEvent  = "event"  // an event, or its place in $all
	DamagedIndex  = "index"  // the way from a stream's revision to its event
	DamagedStream = "stream" // what is kept about a stream: its id, last revision, limits
)

// Damage is one thing that a verification found wrong.
type Damage struct {
	Kind     string `json:"kind"`
	Position uint64 `json:"position,omitempty"` // in $all; 0: it has none or it is not known
	Stream   string `json:"stream,omitempty"`   // empty: not known
	Revision *int64 `json:"revision,omitempty"` // in the stream; nil: it has none or it is not known
	Problem  string `json:"problem"`
}

// VerifyReport is the result of a verification.
type VerifyReport struct {
	LogID   string   `json:"log_id"`
	Head    uint64   `json:"head"`    // position of the last event
	Events  uint64   `json:"events"`  // events read whole
	Entries uint64   `json:"entries"` // index entries read
	Streams uint64   `json:"streams"` // streams with events
	Damaged uint64   `json:"damaged"` // damages found
	Damages []Damage `json:"damages"` // the first MaxDamages of them
}

// VerifyProgress says how far a verification is.
type VerifyProgress struct {
	Part  string // "events" (told in positions), "index" or "streams", in this order
	Done  uint64
	Total uint64 // of this part
}

// Verify reads a whole log that no node uses and changes nothing in it. The log is sound
// if the report has no damage: every event is whole and tells the same about itself as
// its place does; no event is missing, in $all or in a stream, by what the one before it
// says of where it is; events and index entries lead to each other; and what is kept about each stream
// follows from its events. Progress may be nil; it is called by this goroutine. It
// returns an error that is ErrLocked when a node uses the log, that of ctx when it ends,
// and others when the log cannot be read for reasons that are no damage.
func Verify(ctx context.Context, dir string, progress func(VerifyProgress)) (*VerifyReport, error) {
	return verify(ctx, vfs.Default, dir, progress)
}

func verify(ctx context.Context, disk vfs.FS, dir string, progress func(VerifyProgress)) (_ *VerifyReport, err error) {
	s, err := openReadOnly(disk, dir)
	if errors.Is(err, errCorrupt) {
		return &VerifyReport{Damaged: 1, Damages: []Damage{{Kind: DamagedEngine, Problem: err.Error()}}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	v := newVerifier(ctx, s, progress)
	if v.states, err = simplelru.NewLRU[string, streamState](cachedStreams, nil); err != nil {
		return nil, err
	}
	for _, part := range []func() error{v.log, v.events, v.index, v.streams} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return &v.report, nil
}

// verifier is one verification. Its memory does not grow with the log.
type verifier struct {
	store    *store
	ctx      context.Context
	progress func(VerifyProgress)
	report   VerifyReport

	states  *simplelru.LRU[string, streamState]
	steps   uint64           // entries verified of this part
	unread  map[uint64]int   // damages whose stream is not known, by position
	unnamed map[uint64][]int // damages whose stream is known by its id only
	lastID  uint64           // the highest stream id
}

func newVerifier(ctx context.Context, s *store, progress func(VerifyProgress)) *verifier {
	if progress == nil {
		progress = func(VerifyProgress) {}
	}
	return &verifier{
		store: s, ctx: ctx, progress: progress, report: VerifyReport{Damages: []Damage{}},
		unread: map[uint64]int{}, unnamed: map[uint64][]int{},
	}
}

func (v *verifier) found(d Damage) {
	v.report.Damaged++
	if len(v.report.Damages) < MaxDamages {
		v.report.Damages = append(v.report.Damages, d)
	}
}

// step tells of progress now and then, and ends the verification with its context.
func (v *verifier) step(part string, done, total uint64) error {
	v.steps++
	if done == 0 {
		v.steps = 0
	}
	if v.steps%verifyStep != 0 && done != total {
		return nil
	}
	v.progress(VerifyProgress{Part: part, Done: done, Total: total})
	return v.ctx.Err()
}

// log verifies what is kept about the log itself, and that nothing else is kept.
func (v *verifier) log() error {
	format, err := v.store.info(infoFormat)
	switch {
	case err != nil:
		v.found(Damage{Kind: DamagedLog, Problem: "its format: " + problemText(err)})
	case format != storeFormat && format != storeFormatPlain:
		return unknownFormat(format)
	}
	id, err := v.store.info(infoLogID)
	if err == nil {
		_, err = uuid.Parse(id)
	}
	if err != nil {
		v.found(Damage{Kind: DamagedLog, Problem: "its id: " + problemText(err)})
	}
	v.report.LogID = id
	for _, gap := range [][2]byte{{0, keyEvent}, {keyEvent + 1, keyInfo}, {keyInfo + 1, keyStream}, {keyStream + 1, keyIndex}, {keyIndex + 1, 0xff}} {
		if err := v.nothingIn(gap[0], gap[1]); err != nil {
			return err
		}
	}
	promised, err := acknowledged(v.store.fs, v.store.dir)
	if err != nil {
		return err
	}
	v.report.Head, err = v.store.lastEvent()
	if err != nil {
		v.found(Damage{Kind: DamagedLog, Problem: "its last event: " + problemText(err)})
		v.report.Head = promised.position
		return nil
	}
	if lost := v.store.keeps(promised, v.report.Head, witnessFile); lost != nil {
		v.found(Damage{Kind: DamagedLog, Problem: lost.Error()})
	}
	return nil
}

func (v *verifier) nothingIn(from, to byte) error {
	return v.each([]byte{from}, []byte{to}, func(key, _ []byte) error {
		v.found(Damage{Kind: DamagedLog, Problem: fmt.Sprintf("an entry of no known kind: %x", key)})
		return nil
	}, func(err error) ([]byte, error) {
		return nil, nil // the same damage meets the part that it belongs to
	})
}

// each visits the entries between two keys. Where the engine fails, broken says from
// which key to go on; nil ends the visit.
func (v *verifier) each(from, to []byte, visit func(key, value []byte) error, broken func(error) ([]byte, error)) error {
	for from != nil {
		iter, err := v.store.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err == nil {
			err = v.visit(iter, visit)
			if stop := (*stopVisit)(nil); errors.As(err, &stop) {
				return errors.Join(stop.err, iter.Close())
			}
			_ = iter.Close() // repeats the error that the visit met
		}
		if err == nil {
			return nil
		}
		if from, err = broken(err); err != nil {
			return err
		}
	}
	return nil
}

// stopVisit is an error of a visit, as against one of the engine.
type stopVisit struct{ err error }

func (s *stopVisit) Error() string { return s.err.Error() }

func (v *verifier) visit(iter *pebble.Iterator, visit func(key, value []byte) error) error {
	for ok := iter.First(); ok; ok = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return err
		}
		if err := visit(iter.Key(), value); err != nil {
			return &stopVisit{err}
		}
	}
	return iter.Error()
}

// events verifies every event and its way back through the index. An event that the
// engine cannot read is damaged, and so is one that is not there.
func (v *verifier) events() error {
	w := walk{verifier: v, next: firstOrdinal}
	if err := v.step("events", 0, v.report.Head); err != nil {
		return err
	}
	err := v.each(eventKey(nil, w.next), []byte{keyEvent + 1}, w.visit, w.broken)
	if err == nil && w.next <= v.report.Head {
		v.lostEvents(w.next, v.report.Head+1, w.offsets)
	}
	return err
}

// walk is the way of a verification along the events.
type walk struct {
	*verifier
	next    uint64 // where the next event has to be
	begun   bool   // an event was met
	offsets bool   // the position before it is an offset
	lost    bool   // the event before it could not be read: the next one may be further
}

func (w *walk) visit(key, value []byte) error {
	if len(key) != 1+8 {
		w.found(Damage{Kind: DamagedLog, Problem: fmt.Sprintf("an entry of no known kind: %x", key)})
		return nil
	}
	position := binary.BigEndian.Uint64(key[1:])
	begins := !w.begun && beginsLog(position)
	if !w.begun {
		w.begun, w.offsets = true, len(value) > 0 && value[0] == recordFormatOffset
	}
	if !begins && !w.lost {
		w.lostEvents(w.next, position, w.offsets)
	}
	whole := w.event(position, value)
	w.lost = w.offsets && !whole // nor is its length to be relied on
	w.offsets = w.offsets && !whole || whole && value[0] == recordFormatOffset
	w.next = position + 1
	if !w.lost {
		w.next = successor(position, value)
	}
	return w.step("events", position, w.report.Head)
}

// broken goes on behind an event that the engine cannot read. Where positions are
// offsets nobody knows how many more there are: the part is noted once, and searched
// for its end in steps that are shorter than any event.
func (w *walk) broken(err error) ([]byte, error) {
	if w.next > w.report.Head {
		return nil, nil
	}
	if !w.lost {
		w.lostEvent(w.next, problemText(err))
	}
	w.lost = w.offsets
	if w.next++; w.offsets {
		w.next += recordHeaderSize
	}
	return eventKey(nil, w.next), w.step("events", w.next-1, w.report.Head)
}

// lostEvents notes the events from one position up to another, that one not included;
// of a long row all as one damage. Where positions are offsets only the first of them
// has a known place.
func (v *verifier) lostEvents(from, to uint64, offsets bool) {
	if offsets && from < to {
		v.lostEvent(from, fmt.Sprintf("it is missing, and whatever was between it and position %d", to))
		return
	}
	if to < from {
		v.found(Damage{Kind: DamagedEvent, Position: to, Problem: fmt.Sprintf("by the event before it the next one is at position %d", from)})
		return
	}
	if to-from > MaxDamages {
		v.found(Damage{Kind: DamagedEvent, Position: from, Problem: fmt.Sprintf("it and all up to position %d are missing", to-1)})
		return
	}
	for ; from < to; from++ {
		v.lostEvent(from, "it is missing")
	}
}

// lostEvent notes a damaged event; the index may know of which stream it is.
func (v *verifier) lostEvent(position uint64, problem string) {
	if len(v.report.Damages) < MaxDamages {
		v.unread[position] = len(v.report.Damages)
	}
	v.found(Damage{Kind: DamagedEvent, Position: position, Problem: problem})
}

// event verifies one event and says whether it could be decoded.
func (v *verifier) event(position uint64, value []byte) bool {
	rec, err := decodeRecord(position, value)
	if err != nil {
		v.lostEvent(position, err.Error())
		return false
	}
	v.report.Events++
	damage := Damage{Position: position, Stream: string(rec.stream), Revision: &rec.revision}
	report := func(kind, problem string) {
		damage.Kind, damage.Problem = kind, problem
		v.found(damage)
	}
	if problem := bodyProblem(rec); problem != "" {
		report(DamagedEvent, problem)
	}
	st, known := v.states.Get(damage.Stream)
	if !known {
		if st, err = v.store.state(damage.Stream); err != nil {
			report(DamagedStream, err.Error())
			st = streamState{id: rec.streamID, last: rec.revision, tombstoned: true} // once is enough
		}
		v.states.Add(damage.Stream, st)
	}
	if st.id != rec.streamID {
		report(DamagedStream, fmt.Sprintf("the event has stream id %d, the stream %d", rec.streamID, st.id))
	}
	entry, closer, err := v.store.db.Get(indexKey(nil, rec.streamID, rec.revision))
	if err != nil {
		report(DamagedIndex, "the index entry of the event: "+problemText(err))
		return true
	}
	if len(entry) != 8 || binary.BigEndian.Uint64(entry) != position {
		report(DamagedIndex, fmt.Sprintf("the index does not lead to the event: it has %x", entry))
	}
	_ = closer.Close()
	return true
}

// bodyProblem compares what is sent to clients with the header that stands before it.
func bodyProblem(rec record) string {
	body, err := decodeEvent(rec.body)
	if err != nil {
		return "what is sent of it cannot be decoded: " + err.Error()
	}
	event := body.GetEvent()
	id, err := uuidFromProto(event.GetId())
	if err != nil {
		return err.Error()
	}
	same := id == rec.id && bytes.Equal(event.GetStreamIdentifier().GetStreamName(), rec.stream) &&
		event.GetMetadata()[metadataType] == string(rec.eventType) && event.GetStreamRevision() == uint64(rec.revision) &&
		event.GetCommitPosition() == rec.position && event.GetPreparePosition() == rec.position && body.GetCommitPosition() == rec.position &&
		event.GetMetadata()[metadataCreated] == fmt.Sprint(rec.created)
	if !same {
		return "what is sent of it is not what its header says"
	}
	return ""
}

// index verifies that every stream has the revisions from 0 on, at rising positions,
// and that no entry leads elsewhere than to its own event.
func (v *verifier) index() error {
	var streamID uint64
	var revision int64 // the next one of the stream
	var last uint64    // position of the entry before, of the same stream
	strict := v.report.Damaged > 0
	visit := func(key, value []byte) error {
		if len(key) != 1+8+8 || len(value) != 8 {
			v.found(Damage{Kind: DamagedIndex, Problem: fmt.Sprintf("an entry that is none: %x", key)})
			return nil
		}
		id, at, position := binary.BigEndian.Uint64(key[1:]), int64(binary.BigEndian.Uint64(key[9:])), binary.BigEndian.Uint64(value)
		v.report.Entries++
		if id != streamID {
			v.report.Streams++
			streamID, revision, last = id, 0, 0
		}
		problem := ""
		switch {
		case at != revision && at != deletedRevision:
			problem = fmt.Sprintf("the stream has no index entries from revision %d up to this one", revision)
		case position <= last:
			problem = fmt.Sprintf("the index has position %d here and %d before it", position, last)
		case position > v.report.Head:
			problem = fmt.Sprintf("the index has position %d, the log ends at %d", position, v.report.Head)
		case strict:
			problem = v.entry(id, at, position)
		}
		if problem != "" {
			if len(v.report.Damages) < MaxDamages {
				v.unnamed[id] = append(v.unnamed[id], len(v.report.Damages))
			}
			v.found(Damage{Kind: DamagedIndex, Position: position, Revision: &at, Problem: problem})
		}
		if lost, ok := v.unread[position]; ok {
			v.report.Damages[lost].Revision = &at
			v.unnamed[id] = append(v.unnamed[id], lost)
		}
		revision, last = at+1, position
		v.lastID = id
		return v.step("index", v.report.Entries, max(v.report.Entries, v.report.Events))
	}
	broken := func(err error) ([]byte, error) {
		// The events behind the entries have been noted; go on at the next stream.
		v.found(Damage{Kind: DamagedIndex, Problem: fmt.Sprintf("behind revision %d of stream id %d: %s", revision-1, streamID, problemText(err))})
		streamID, revision, last, strict = streamID+1, 0, 0, true
		v.report.Streams++
		return indexKey(nil, streamID, 0), v.ctx.Err()
	}
	if err := v.step("index", 0, v.report.Events); err != nil {
		return err
	}
	if err := v.each([]byte{keyIndex}, []byte{keyIndex + 1}, visit, broken); err != nil {
		return err
	}
	if !strict && v.report.Entries != v.report.Events {
		// Every event has its entry, so there are entries without an event. What this visit has found the next one finds again.
		entries, streams := v.report.Entries, v.report.Streams
		v.report.Damaged, v.report.Damages = 0, v.report.Damages[:0]
		clear(v.unnamed)
		strict, streamID = true, 0
		err := v.each([]byte{keyIndex}, []byte{keyIndex + 1}, visit, broken)
		v.report.Entries, v.report.Streams = entries, streams
		return err
	}
	return nil
}

// entry follows an index entry to its event. That an event is damaged is known already.
func (v *verifier) entry(id uint64, revision int64, position uint64) string {
	if _, known := v.unread[position]; known {
		return ""
	}
	_, err := v.store.visitAt(id, revision, position, func(record) (bool, error) { return false, nil })
	if err != nil {
		return err.Error()
	}
	return ""
}

// streams verifies what is kept about each stream against its last events.
func (v *verifier) streams() error {
	total, done := v.report.Streams, uint64(0)
	if err := v.step("streams", done, total); err != nil {
		return err
	}
	err := v.each([]byte{keyStream}, []byte{keyStream + 1}, func(key, value []byte) error {
		name := string(key[1:])
		st, err := decodeState(value)
		if err != nil {
			v.found(Damage{Kind: DamagedStream, Stream: name, Problem: "its state is not of a known format"})
			return nil
		}
		for _, i := range v.unnamed[st.id] {
			v.report.Damages[i].Stream = name
		}
		if problem := v.stateProblem(name, st); problem != "" {
			v.found(Damage{Kind: DamagedStream, Stream: name, Problem: problem})
		}
		if st.id == 0 { // known for its metadata only
			return v.ctx.Err()
		}
		done++
		return v.step("streams", done, max(done, total))
	}, func(err error) ([]byte, error) {
		v.found(Damage{Kind: DamagedStream, Problem: "no stream could be read from here on: " + problemText(err)})
		done = total
		return nil, nil
	})
	if err == nil && done != total {
		v.found(Damage{Kind: DamagedStream, Problem: fmt.Sprintf("%d streams have events, %d have a name", total, done)})
	}
	return err
}

// stateProblem compares a stream's state with what its events say.
func (v *verifier) stateProblem(name string, st streamState) string {
	last, changed, err := v.lastEntry(st.id)
	if err != nil {
		return problemText(err)
	}
	want := streamState{id: st.id, last: last, changed: changed, limits: newStreamState(name).limits}
	if st.id != 0 {
		want.tombstoned = v.has(indexKey(nil, st.id, deletedRevision))
	}
	meta, err := v.store.state(metastreamPrefix + name)
	if err != nil {
		return err.Error()
	}
	if meta.id != 0 && meta.last >= 0 {
		_, metaChanged, err := v.lastEntry(meta.id)
		if err != nil {
			return problemText(err)
		}
		want.changed = max(want.changed, metaChanged)
		if _, fixed := metadataOf(name); !fixed {
			if want.limits, err = v.store.limitsIn(meta); err != nil {
				return err.Error()
			}
		}
	}
	if st != want {
		return fmt.Sprintf("its state is %+v, by its events it is %+v", st, want)
	}
	return ""
}

// lastEntry returns a stream's last revision that is no tombstone, and the position of
// the very last entry.
func (v *verifier) lastEntry(id uint64) (last int64, changed uint64, err error) {
	if id == 0 {
		return noRevision, 0, nil
	}
	iter, err := v.store.db.NewIter(&pebble.IterOptions{LowerBound: indexKey(nil, id, 0), UpperBound: indexKey(nil, id+1, 0)})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	last = noRevision
	for ok := iter.Last(); ok; ok = iter.Prev() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return 0, 0, err
		}
		if len(value) != 8 {
			return 0, 0, errCorrupt
		}
		changed = max(changed, binary.BigEndian.Uint64(value))
		if revision := int64(binary.BigEndian.Uint64(iter.Key()[9:])); revision != deletedRevision {
			return revision, changed, nil
		}
	}
	return last, changed, iter.Error()
}

func (v *verifier) has(key []byte) bool {
	_, closer, err := v.store.db.Get(key)
	if err != nil {
		return false
	}
	_ = closer.Close()
	return true
}

// limitsIn reads the limits in the last event of a metadata stream.
func (s *store) limitsIn(meta streamState) (limits streamLimits, err error) {
	err = s.scanStream(meta, meta.last, meta.last, forwards, func(rec record) (bool, error) {
		data, err := eventData(rec.body)
		limits = parseLimits(data)
		return false, err
	})
	return limits, err
}
