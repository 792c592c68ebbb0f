package esnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
)

func newID(t testing.TB) uuid.UUID {
	t.Helper()
	id, err := uuid.NewRandom()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func proposals(stream string, n int) []proposed {
	list := make([]proposed, n)
	for i := range list {
		list[i] = newProposed(stream, uuid.New(), "tested", true, fmt.Appendf(nil, `{"n":%d}`, i), nil)
	}
	return list
}

// manualWriter is a store whose writer the test runs by hand, so that it decides what
// is one group.
func manualWriter(t testing.TB, dir string) (*store, *writer) {
	t.Helper()
	s, err := openStore(testContext(t), storeOptions{dir: dir, fs: vfs.Default, now: time.Now, logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.drain()
	w, err := newWriter(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.closeBatch(w.batch)
		if err := s.release(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return s, w
}

// commitGroup writes the requests as one group.
func commitGroup(w *writer, group ...*request) {
	for _, req := range group {
		req.finished = make(chan *request, 1)
		w.handle(req)
	}
	w.flush()
	close(w.commits)
	w.acknowledge()
	w.commits = make(chan commit, queuedCommits)
}

// S6 of docs/faults.md.
func TestFailedSyncAcknowledgesNothing(t *testing.T) {
	dir := t.TempDir()
	s, w := manualWriter(t, dir)
	var fatal []error
	s.fatal = func(err error) { fatal = append(fatal, err) }
	before := s.synced()
	broken := errors.New("disk gone")
	wait := s.sync
	s.sync = func(b *pebble.Batch) error { return errors.Join(broken, wait(b)) }

	write := &request{op: opAppend, stream: "s", expected: expectNoStream, events: proposals("s", 1)}
	refused := &request{op: opAppend, stream: "s", expected: expectNoStream, events: proposals("s", 1)}
	commitGroup(w, write, refused)
	s.sync = wait
	after := &request{op: opAppend, stream: "s", expected: expectAny, events: proposals("s", 1)}
	commitGroup(w, after)

	for _, req := range []*request{write, refused, after} {
		if !errors.Is(req.err, errFailed) && !errors.Is(req.err, broken) {
			t.Errorf("request answered with %v", req.err)
		}
	}
	if len(fatal) != 1 || !errors.Is(fatal[0], broken) {
		t.Errorf("fatal was called with %v, want once with %v", fatal, broken)
	}
	if s.synced() != before {
		t.Errorf("the head moved from %d to %d", before, s.synced())
	}
}

// Between the write and its sync an event is in the engine and nobody may see it.
func TestNothingIsVisibleBeforeItsSync(t *testing.T) {
	n, c := fresh(t)
	writing, hold := make(chan struct{}), make(chan struct{})
	n.store.sync = func(b *pebble.Batch) error {
		writing <- struct{}{}
		<-hold
		return b.SyncWait()
	}
	var group sync.WaitGroup
	defer group.Wait()
	var acknowledged atomic.Bool
	group.Go(func() {
		mustAppend(t, c, "s", esdb.NoStream{}, events(1)...)
		acknowledged.Store(true)
	})
	<-writing
	if all := readAll(t, c, esdb.ReadAllOptions{}, everything); len(all) != 1 {
		t.Errorf("$all shows %d events, want only the log's identity", len(all))
	}
	sub := subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.Start{}})
	if before := untilCaughtUp(t, sub); len(before) != 1 {
		t.Errorf("a subscription shows %v", before)
	}
	if acknowledged.Load() {
		t.Error("the append was acknowledged")
	}
	// A read of the stream itself waits, as does the refusal of a second creation.
	impatient, cancel := context.WithCancel(testContext(t))
	cancel()
	if st, err := n.store.syncedState(impatient, "s"); !errors.Is(err, context.Canceled) {
		t.Errorf("the stream stands at %d for readers, error %v", st.last, err)
	}
	group.Go(func() {
		if list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything); err != nil || len(list) != 1 {
			t.Errorf("read %d events, error %v", len(list), err)
		}
	})
	group.Go(func() {
		_, err := c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, events(1)...)
		wantCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
		if n.store.synced() < 2 {
			t.Error("the conflict was told before what caused it was synced")
		}
	})
	close(hold)
	wantTold(t, sub, `{"n":0}`)
}

func TestRecentIDsAreBounded(t *testing.T) {
	r := newRecentIDs(3)
	twice := newID(t)
	r.add(twice, place{position: 1})
	r.add(newID(t), place{position: 2})
	r.add(twice, place{position: 3})
	r.add(newID(t), place{position: 4}) // forgets position 1, not what is at 3
	if p, ok := r.find(twice); !ok || p.position != 3 {
		t.Errorf("found %+v, %v; want position 3", p, ok)
	}
	r.add(newID(t), place{position: 5})
	r.add(newID(t), place{position: 6})
	if _, ok := r.find(twice); ok || len(r.places) != 3 || len(r.order) != 3 {
		t.Errorf("%d ids are remembered, the oldest among them: %v", len(r.places), ok)
	}
}

// A repetition within the group of its original is found although neither is in the
// store yet, and its id was used elsewhere in between.
func TestRepetitionWithinOneGroup(t *testing.T) {
	_, w := manualWriter(t, t.TempDir())
	list := proposals("s", 2)
	elsewhere := []proposed{newProposed("other", list[0].id, "tested", true, nil, nil)}
	original := &request{op: opAppend, stream: "s", expected: expectNoStream, events: list}
	other := &request{op: opAppend, stream: "other", expected: expectNoStream, events: elsewhere}
	repeated := &request{op: opAppend, stream: "s", expected: expectNoStream, events: list}
	commitGroup(w, original, other, repeated)
	if repeated.err != nil || repeated.outcome != original.outcome {
		t.Errorf("repetition: %+v, %v; original: %+v, %v", repeated.outcome, repeated.err, original.outcome, original.err)
	}
}

func TestRecordsOfOtherFormatsAreRefused(t *testing.T) {
	e := newProposed("s", newID(t), "tested", true, []byte("{}"), nil)
	good := appendRecord(nil, recordFormat, "s", 1, &e, 0, 1, 0)
	if _, err := decodeRecord(1, good); err != nil {
		t.Fatal(err)
	}
	future := append([]byte{recordFormatOffset + 1}, good[1:]...)
	for _, bad := range [][]byte{nil, good[:recordHeaderSize-1], good[:recordHeaderSize+1], future} {
		if _, err := decodeRecord(1, bad); !errors.Is(err, errCorrupt) {
			t.Errorf("a bad record of %d bytes: %v", len(bad), err)
		}
	}
	state := appendState(nil, streamState{last: 4})
	for _, bad := range [][]byte{nil, state[:5], append([]byte{stateFormat + 1}, state[1:]...)} {
		if _, err := decodeState(bad); !errors.Is(err, errCorrupt) {
			t.Errorf("a bad state of %d bytes: %v", len(bad), err)
		}
	}
}
