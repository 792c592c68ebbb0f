package esnode

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// modelLog is what a log of events is, with nothing stored: the store must agree with
// it whatever is grouped into one commit and whenever it is reopened.
type modelLog struct {
	all     []modelEvent // position i+1
	streams map[string]*modelStream
	latest  map[uuid.UUID]modelEvent
}

type modelEvent struct {
	Stream   string
	Revision int64
	Type     string
	Data     string
	id       uuid.UUID
	position uint64
}

type modelStream struct {
	events     []modelEvent
	limits     streamLimits
	tombstoned bool
}

func newModel() *modelLog {
	m := &modelLog{streams: map[string]*modelStream{}, latest: map[uuid.UUID]modelEvent{}}
	return m
}

func (m *modelLog) stream(name string) *modelStream {
	if m.streams[name] == nil {
		m.streams[name] = &modelStream{}
	}
	return m.streams[name]
}

func (s *modelStream) last() int64 { return int64(len(s.events)) - 1 }

func (s *modelStream) softDeleted() bool { return s.limits.truncateBefore == deletedRevision }

// write is a request's answer: an outcome, or the kind of its refusal.
func (m *modelLog) write(req *request) (outcome, string) {
	s := m.stream(req.stream)
	if original, refusal, done := m.check(req, s); done {
		return original, refusal
	}
	switch req.op {
	case opDelete:
		return m.append("$$"+req.stream, proposal(eventTypeMetadata, `{"$tb":9223372036854775807}`)), ""
	case opTombstone:
		s.tombstoned = true
		return m.put(req.stream, deletedRevision, proposal(eventTypeTombstone, "")), ""
	}
	if len(req.events) == 0 {
		return outcome{revision: s.last()}, ""
	}
	if s.softDeleted() {
		meta := m.stream("$$" + req.stream)
		merged, err := undeleteMetadata([]byte(meta.events[meta.last()].Data), s.last()+1)
		if err != nil {
			return outcome{}, err.Error()
		}
		m.append("$$"+req.stream, proposal(eventTypeMetadata, string(merged)))
	}
	return m.append(req.stream, req.events...), ""
}

func proposal(eventType, data string) proposed {
	return proposed{id: uuid.New(), eventType: eventType, data: []byte(data)}
}

func (m *modelLog) append(stream string, events ...proposed) outcome {
	s := m.stream(stream)
	var done outcome
	for _, e := range events {
		done = m.put(stream, s.last()+1, e)
		s.events = append(s.events, m.all[len(m.all)-1])
		if target, ok := metadataOf(stream); ok {
			m.stream(target).limits = parseLimits(e.data)
		}
	}
	return done
}

func (m *modelLog) put(stream string, revision int64, e proposed) outcome {
	stored := modelEvent{
		Stream: stream, Revision: revision, Type: e.eventType, Data: string(e.data),
		id: e.id, position: uint64(len(m.all)) + 1,
	}
	m.all = append(m.all, stored)
	m.latest[e.id] = stored
	return outcome{revision: revision, position: stored.position}
}

func (m *modelLog) check(req *request, s *modelStream) (original outcome, refusal string, done bool) {
	deleted := s.tombstoned || req.expected == expectStreamExists && s.softDeleted()
	missing := req.expected == expectStreamExists && len(s.events) == 0 && len(m.stream("$$"+req.stream).events) == 0
	switch {
	case deleted:
		return outcome{}, "deleted", true
	case missing, req.expected > s.last():
		return outcome{}, "wrong version", true
	case req.expected == s.last():
		return outcome{}, "", false
	}
	versionless := req.expected == expectAny || req.expected == expectStreamExists
	known := 0
	for i, e := range req.events {
		found, ok := m.latest[e.id]
		if ok = ok && found.Stream == req.stream; !versionless {
			revision := req.expected + 1 + int64(i)
			ok = revision <= s.last() && s.events[revision].id == e.id
			if ok {
				found = s.events[revision]
			}
		}
		if !ok {
			break
		}
		known, original = known+1, outcome{revision: found.Revision, position: found.position}
	}
	switch {
	case known > 0 && known == len(req.events):
		return original, "", true
	case known > 0:
		return outcome{}, "wrong version", true
	case versionless:
		return outcome{}, "", false
	case req.expected == expectNoStream && s.softDeleted() && (len(req.events) > 0 || req.op != opAppend):
		return outcome{}, "", false
	}
	return outcome{}, "wrong version", true
}

// readable is what a read of the stream shows.
func (s *modelStream) readable() []modelEvent {
	first := max(0, s.limits.truncateBefore)
	if s.limits.maxCount > 0 {
		first = max(first, s.last()-s.limits.maxCount+1)
	}
	if first > s.last() {
		return nil
	}
	return s.events[first:]
}

func refusalOf(err error) string {
	var wrong *wrongVersionError
	var deleted *streamDeletedError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &wrong):
		return "wrong version"
	case errors.As(err, &deleted):
		return "deleted"
	}
	return err.Error()
}

// drawRequest is any request: new events or old ones again, expecting anything.
func drawRequest(t *rapid.T, earlier []*request) *request {
	req := &request{
		op:       rapid.SampledFrom([]operation{opAppend, opAppend, opAppend, opAppend, opAppend, opDelete, opTombstone}).Draw(t, "op"),
		stream:   rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "stream"),
		expected: rapid.SampledFrom([]int64{expectAny, expectNoStream, expectStreamExists, 0, 1, 2, 3, 4, 5}).Draw(t, "expected"),
	}
	if req.op != opAppend {
		return req
	}
	if len(earlier) > 0 && rapid.IntRange(0, 2).Draw(t, "repeat") == 0 {
		again := *rapid.SampledFrom(earlier).Draw(t, "which")
		again.events = append([]proposed(nil), again.events...)
		if rapid.IntRange(0, 3).Draw(t, "elsewhere") == 0 { // the same ids in another stream
			again.stream, again.expected = req.stream, req.expected
			for i, e := range again.events {
				again.events[i] = newProposed(req.stream, e.id, e.eventType, true, e.data, nil)
			}
		}
		if rapid.Bool().Draw(t, "and one more") {
			again.events = append(again.events, newProposed(again.stream, uuid.New(), "tested", true, []byte(`"more"`), nil))
		}
		return &again
	}
	if rapid.IntRange(0, 7).Draw(t, "metadata") == 0 {
		req.stream, req.expected = "$$"+req.stream, expectAny
		data := rapid.SampledFrom([]string{`{}`, `{"$maxCount":2}`, `{"$tb":1}`, `{"$tb":9223372036854775807,"$maxCount":1}`}).Draw(t, "data")
		req.events = []proposed{newProposed(req.stream, uuid.New(), eventTypeMetadata, true, []byte(data), nil)}
		return req
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "events") {
		req.events = append(req.events, newProposed(req.stream, uuid.New(), "tested", true, fmt.Appendf(nil, "%d", i), nil))
	}
	return req
}

// D2 of docs/faults.md.
func TestStoreAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		disk, model := vfs.NewMem(), newModel()
		s, w := manualWriterOn(t, disk)
		model.append(logStream, proposed{id: s.logID, eventType: logEventType, data: []byte(`{"id":"` + s.logID.String() + `"}`)})
		var earlier []*request
		for range rapid.IntRange(1, 8).Draw(rt, "groups") {
			var group []*request
			for range rapid.IntRange(1, 6).Draw(rt, "group") {
				req := drawRequest(rt, earlier)
				group = append(group, req)
				if req.op == opAppend && len(req.events) > 0 {
					earlier = append(earlier, req)
				}
			}
			commitGroup(w, group...)
			for i, req := range group {
				want, refusal := model.write(req)
				if got := refusalOf(req.err); got != refusal || req.outcome != want {
					rt.Fatalf("request %d, %v of %q expecting %d: %+v %q; the model says %+v %q",
						i, req.op, req.stream, req.expected, req.outcome, got, want, refusal)
				}
			}
			compare(rt, s, model)
			if rapid.IntRange(0, 3).Draw(rt, "reopen") == 0 {
				s.closeBatch(w.batch)
				if err := s.release(); err != nil {
					rt.Fatal(err)
				}
				s, w = manualWriterOn(t, disk)
			}
		}
		s.closeBatch(w.batch)
		if err := s.release(); err != nil {
			rt.Fatal(err)
		}
	})
}

// manualWriterOn is manualWriter on a given file system; the caller closes it.
func manualWriterOn(t *testing.T, disk vfs.FS) (*store, *writer) {
	t.Helper()
	s, err := openStore(testContext(t), storeOptions{dir: "log", fs: disk, now: time.Now, logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.drain()
	w, err := newWriter(s)
	if err != nil {
		t.Fatal(err)
	}
	return s, w
}

// compare reads everything in the store.
func compare(t *rapid.T, s *store, model *modelLog) {
	var got []modelEvent
	collect := func(rec record) (bool, error) {
		data, err := eventData(rec.body)
		got = append(got, modelEvent{Stream: string(rec.stream), Revision: rec.revision, Type: string(rec.eventType), Data: string(data)})
		return true, err
	}
	visible := cmp.FilterPath(func(p cmp.Path) bool {
		name := p.Last().String()
		return name == ".id" || name == ".position"
	}, cmp.Ignore())
	if err := s.scan(1, s.synced(), forwards, collect); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(model.all, got, visible, cmp.AllowUnexported(modelEvent{})); diff != "" {
		t.Fatalf("$all differs (-model +store):\n%s", diff)
	}
	for name, stream := range model.streams {
		if _, ok := metadataOf(name); ok || stream.tombstoned {
			continue
		}
		st, err := s.state(name)
		if err != nil {
			t.Fatal(err)
		}
		got = nil
		if err := s.scanStream(st, st.first(), st.last, forwards, collect); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(stream.readable(), got, visible, cmp.AllowUnexported(modelEvent{})); diff != "" {
			t.Fatalf("%s differs (-model +store):\n%s", name, diff)
		}
	}
}

// S18 of docs/faults.md.
func FuzzStoredBytes(f *testing.F) {
	e := newProposed("s", uuid.New(), "tested", true, []byte("{}"), nil)
	f.Add(appendRecord(nil, recordFormat, "s", 1, &e, 0, 1, 0))
	f.Add(appendState(nil, streamState{last: 3}))
	f.Add([]byte(`{"$tb":1,"$maxAge":5}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if rec, err := decodeRecord(1, b); err == nil {
			_, _ = eventData(rec.body)
		}
		if st, err := decodeState(b); err == nil && string(appendState(nil, st)[2:]) != string(b[2:]) {
			t.Errorf("state %+v does not survive a round trip", st)
		}
		if l := parseLimits(b); l.maxCount < 0 || l.maxAge < 0 || l.truncateBefore < 0 {
			t.Errorf("limits %+v", l)
		}
		if merged, err := undeleteMetadata(b, 7); err != nil || parseLimits(merged).truncateBefore != 7 {
			t.Errorf("undeleted metadata %s, error %v", merged, err)
		}
	})
}
