package esnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

const testLog = "log" // the directory of a log in memory

// tryOpen opens a store on a given disk; the caller closes it.
func tryOpen(disk vfs.FS, fatal func(error)) (*store, error) {
	return tryOpenWith(disk, fatal, false)
}

func tryOpenWith(disk vfs.FS, fatal func(error), offsets bool) (*store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	return openStore(ctx, storeOptions{
		dir: testLog, fs: disk, now: time.Now, logger: slog.New(slog.DiscardHandler), fatal: fatal, memTable: smallMemTable, offsets: offsets,
	})
}

// smallMemTable makes the engine write tables and new logs after a few hundred events.
const smallMemTable = 64 << 10

func openOn(t testing.TB, disk vfs.FS) *store {
	t.Helper()
	return openWith(t, disk, false)
}

// openWith is openOn, and positions are offsets where that is asked.
func openWith(t testing.TB, disk vfs.FS, offsets bool) *store {
	t.Helper()
	s, err := tryOpenWith(disk, func(err error) { t.Errorf("fatal: %v", err) }, offsets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *store) {
	t.Helper()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// write appends n events to a stream, whatever its revision.
func write(t testing.TB, s *store, stream string, n int) outcome {
	t.Helper()
	done, err := s.append(testContext(t), stream, expectAny, proposals(stream, n))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func mustVerify(t testing.TB, disk vfs.FS) *VerifyReport {
	t.Helper()
	report, err := verify(testContext(t), disk, testLog, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func wantSound(t testing.TB, disk vfs.FS) {
	t.Helper()
	if report := mustVerify(t, disk); report.Damaged != 0 || report.Events != report.Head || report.Entries != report.Events {
		t.Fatalf("the log is not sound: %+v", report)
	}
}

func TestWhateverIsWrittenVerifies(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		disk := vfs.NewMem()
		s := openOn(t, disk)
		var earlier []*request
		for range rapid.IntRange(1, 30).Draw(rt, "requests") {
			req := drawRequest(rt, earlier)
			_, err := s.submit(t.Context(), req)
			if refusal := refusalOf(err); refusal != "" && refusal != "deleted" && refusal != "wrong version" {
				rt.Fatal(err)
			}
			if req.op == opAppend && len(req.events) > 0 {
				earlier = append(earlier, req)
			}
		}
		head := s.synced()
		closeStore(t, s)
		if report := mustVerify(t, disk); report.Damaged != 0 || report.Head != head || report.Events != head || report.Entries != head {
			rt.Fatalf("%d events; the verification says %+v", head, report)
		}
	})
}

// damaged is a log of 7 events, written by hand where a case says so:
// 1 the identity, 2 to 4 a@0..2, 5 b@0, 6 $$b@0 (at most 5 events), 7 b@1.
func damaged(t *testing.T, damage func(t *testing.T, s *store, b *pebble.Batch)) vfs.FS {
	t.Helper()
	disk := vfs.NewMem()
	s := openOn(t, disk)
	write(t, s, "a", 3)
	write(t, s, "b", 1)
	meta := []proposed{newProposed("$$b", newID(t), eventTypeMetadata, true, []byte(`{"$maxCount":5}`), nil)}
	if _, err := s.append(testContext(t), "$$b", expectAny, meta); err != nil {
		t.Fatal(err)
	}
	write(t, s, "b", 1)
	s.drain()
	batch := s.db.NewBatch()
	damage(t, s, batch)
	if err := errors.Join(batch.Commit(pebble.Sync), batch.Close(), s.release()); err != nil {
		t.Fatal(err)
	}
	return disk
}

func stored(t *testing.T, s *store, key []byte) []byte {
	t.Helper()
	value, closer, err := s.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	value = append([]byte(nil), value...)
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	return value
}

func put(t *testing.T, b *pebble.Batch, key, value []byte) {
	t.Helper()
	if err := b.Set(key, value, nil); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, b *pebble.Batch, key []byte) {
	t.Helper()
	if err := b.Delete(key, nil); err != nil {
		t.Fatal(err)
	}
}

func at(position uint64) []byte { return eventKey(nil, position)[1:] }

// changeState rewrites what is kept about a stream.
func changeState(name string, change func(*streamState)) func(*testing.T, *store, *pebble.Batch) {
	return func(t *testing.T, s *store, b *pebble.Batch) {
		st, err := decodeState(stored(t, s, streamKey(nil, name)))
		if err != nil {
			t.Fatal(err)
		}
		change(&st)
		put(t, b, streamKey(nil, name), appendState(nil, st))
	}
}

// idOf is a stream's id.
func idOf(t *testing.T, s *store, name string) uint64 {
	t.Helper()
	st, err := s.state(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.id
}

func revision(r int64) *int64 { return &r }

// S4: each damage is found, and named by position, stream and revision as far as they
// can be known.
func TestVerifyNamesEachDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(*testing.T, *store, *pebble.Batch)
		want   Damage // the problem: a part of its text
	}{
		"a changed bit": {func(t *testing.T, s *store, b *pebble.Batch) {
			value := stored(t, s, eventKey(nil, 3))
			value[len(value)-5] ^= 4
			put(t, b, eventKey(nil, 3), value)
		}, Damage{Kind: DamagedEvent, Position: 3, Stream: "a", Revision: revision(1), Problem: "checksum"}},
		"an event cut short": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, eventKey(nil, 3), stored(t, s, eventKey(nil, 3))[:20])
		}, Damage{Kind: DamagedEvent, Position: 3, Stream: "a", Revision: revision(1), Problem: "format"}},
		"an event in another one's place": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, eventKey(nil, 3), stored(t, s, eventKey(nil, 4)))
		}, Damage{Kind: DamagedEvent, Position: 3, Stream: "a", Revision: revision(1), Problem: "checksum"}},
		"a missing event": {func(t *testing.T, s *store, b *pebble.Batch) {
			remove(t, b, eventKey(nil, 5))
		}, Damage{Kind: DamagedEvent, Position: 5, Stream: "b", Revision: revision(0), Problem: "missing"}},
		"the last event missing": {func(t *testing.T, s *store, b *pebble.Batch) {
			remove(t, b, eventKey(nil, 7))
		}, Damage{Kind: DamagedIndex, Position: 7, Stream: "b", Revision: revision(1), Problem: "the log ends at 6"}},
		"a body that is not its header's": {func(t *testing.T, s *store, b *pebble.Batch) {
			e := newProposed("a", newID(t), "tested", true, nil, nil)
			e.id = newID(t)
			put(t, b, eventKey(nil, 3), appendRecord(nil, recordFormat, "a", idOf(t, s, "a"), &e, 1, 3, 0))
		}, Damage{Kind: DamagedEvent, Position: 3, Stream: "a", Revision: revision(1), Problem: "not what its header says"}},
		"a missing index entry": {func(t *testing.T, s *store, b *pebble.Batch) {
			remove(t, b, indexKey(nil, idOf(t, s, "a"), 1))
		}, Damage{Kind: DamagedIndex, Position: 3, Stream: "a", Revision: revision(1), Problem: "missing"}},
		"a hole in a stream": {func(t *testing.T, s *store, b *pebble.Batch) {
			remove(t, b, indexKey(nil, idOf(t, s, "a"), 1))
		}, Damage{Kind: DamagedIndex, Position: 4, Stream: "a", Revision: revision(2), Problem: "no index entries from revision 1"}},
		"an index entry that leads elsewhere": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, indexKey(nil, idOf(t, s, "a"), 2), at(5))
		}, Damage{Kind: DamagedIndex, Position: 5, Stream: "a", Revision: revision(2), Problem: `it is revision 0 of "b"`}},
		"revisions that are not in the log's order": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, indexKey(nil, idOf(t, s, "a"), 1), at(4))
			put(t, b, indexKey(nil, idOf(t, s, "a"), 2), at(3))
		}, Damage{Kind: DamagedIndex, Position: 3, Stream: "a", Revision: revision(2), Problem: "position 3 here and 4 before"}},
		"an index entry without an event": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, indexKey(nil, idOf(t, s, "a"), 3), at(7))
		}, Damage{Kind: DamagedIndex, Position: 7, Stream: "a", Revision: revision(3), Problem: `it is revision 1 of "b"`}},
		"an index entry behind the end": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, indexKey(nil, idOf(t, s, "a"), 3), at(99))
		}, Damage{Kind: DamagedIndex, Position: 99, Stream: "a", Revision: revision(3), Problem: "the log ends at 7"}},
		"a stream of index entries without a name": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, indexKey(nil, 99, 0), at(7))
		}, Damage{Kind: DamagedStream, Problem: "5 streams have events, 4 have a name"}},
		"a forgotten stream": {func(t *testing.T, s *store, b *pebble.Batch) {
			remove(t, b, streamKey(nil, "a"))
		}, Damage{Kind: DamagedStream, Position: 2, Stream: "a", Revision: revision(0), Problem: "the stream 0"}},
		"a wrong id": {changeState("a", func(st *streamState) { st.id = 77 }),
			Damage{Kind: DamagedStream, Position: 2, Stream: "a", Revision: revision(0), Problem: "the stream 77"}},
		"a wrong last revision": {changeState("a", func(st *streamState) { st.last = 1 }),
			Damage{Kind: DamagedStream, Stream: "a", Problem: "its state is"}},
		"a wrong last position": {changeState("a", func(st *streamState) { st.changed = 3 }),
			Damage{Kind: DamagedStream, Stream: "a", Problem: "its state is"}},
		"a tombstone without its event": {changeState("a", func(st *streamState) { st.tombstoned = true }),
			Damage{Kind: DamagedStream, Stream: "a", Problem: "its state is"}},
		"limits that no metadata sets": {changeState("b", func(st *streamState) { st.limits.maxCount = 4 }),
			Damage{Kind: DamagedStream, Stream: "b", Problem: "its state is"}},
		"limits of a metadata stream": {changeState("$$b", func(st *streamState) { st.limits.maxCount = 4 }),
			Damage{Kind: DamagedStream, Stream: "$$b", Problem: "its state is"}},
		"a state cut short": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, streamKey(nil, "b"), []byte{stateFormat})
		}, Damage{Kind: DamagedStream, Position: 5, Stream: "b", Revision: revision(0), Problem: "state of stream"}},
		"an entry of no kind": {func(t *testing.T, s *store, b *pebble.Batch) {
			put(t, b, []byte("zebra"), nil)
		}, Damage{Kind: DamagedLog, Problem: fmt.Sprintf("%x", "zebra")}},
		"a log without an id": {func(t *testing.T, s *store, b *pebble.Batch) {
			remove(t, b, infoKey(infoLogID))
		}, Damage{Kind: DamagedLog, Problem: "its id"}},
		"a lost end": {func(t *testing.T, s *store, b *pebble.Batch) {
			if err := s.witness.advance(mark{position: 9}); err != nil {
				t.Fatal(err)
			}
		}, Damage{Kind: DamagedLog, Problem: "ends at position 7, but events up to 9"}},
	} {
		t.Run(name, func(t *testing.T) {
			report := mustVerify(t, damaged(t, c.damage))
			for _, d := range report.Damages {
				sameRevision := d.Revision == nil && c.want.Revision == nil || d.Revision != nil && c.want.Revision != nil && *d.Revision == *c.want.Revision
				if d.Kind == c.want.Kind && d.Position == c.want.Position && d.Stream == c.want.Stream && sameRevision && strings.Contains(d.Problem, c.want.Problem) {
					return
				}
			}
			t.Errorf("not found among %d damages: %+v", report.Damaged, report.Damages)
		})
	}
}

// Entries without an event are looked for in a second visit of the index, which meets what the first one met.
func TestReproEachDamageOfTheIndexIsCountedOnce(t *testing.T) {
	report := mustVerify(t, damaged(t, func(t *testing.T, s *store, b *pebble.Batch) {
		put(t, b, indexKey(nil, idOf(t, s, "a"), 3), at(99))
	}))
	index := 0
	for _, d := range report.Damages {
		if d.Kind == DamagedIndex {
			index++
		}
	}
	// The entry, and the state of the stream, which does not know of it.
	if index != 1 || report.Damaged != 2 || len(report.Damages) != 2 {
		t.Errorf("%d damages: %+v", report.Damaged, report.Damages)
	}
}

// The memory of a verification does not grow with what is damaged.
func TestReproDamagesBeyondTheListAreNotRemembered(t *testing.T) {
	const streams = 5
	disk := damaged(t, func(t *testing.T, s *store, b *pebble.Batch) {
		for id := range uint64(streams) {
			for r := range int64(MaxDamages) {
				put(t, b, indexKey(nil, 100+id, r), at(99))
			}
		}
	})
	s, err := openReadOnly(disk, testLog)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.release(); err != nil {
			t.Error(err)
		}
	}()
	v := newVerifier(testContext(t), s, nil)
	v.report.Head = 7
	if err := v.index(); err != nil {
		t.Fatal(err)
	}
	remembered := 0
	for _, list := range v.unnamed {
		remembered += len(list)
	}
	if v.report.Damaged < streams*MaxDamages || remembered > MaxDamages {
		t.Errorf("%d damages, %d remembered", v.report.Damaged, remembered)
	}
}

func TestUndamagedLogIsSound(t *testing.T) {
	wantSound(t, damaged(t, func(*testing.T, *store, *pebble.Batch) {}))
}

// Records of logs that were written before records had checksums are read and verified.
func TestRecordsWithoutChecksumAreRead(t *testing.T) {
	disk := damaged(t, func(t *testing.T, s *store, b *pebble.Batch) {
		for position := uint64(1); position <= 7; position++ {
			value := stored(t, s, eventKey(nil, position))
			put(t, b, eventKey(nil, position), append([]byte{recordFormatPlain}, value[1+checksumSize:]...))
		}
		put(t, b, infoKey(infoFormat), []byte(storeFormatPlain))
	})
	wantSound(t, disk)
	s := openOn(t, disk)
	write(t, s, "a", 1)
	if format, err := s.info(infoFormat); err != nil || format != storeFormat {
		t.Errorf("format %q, error %v: an older program would open the log", format, err)
	}
	closeStore(t, s)
	wantSound(t, disk)
}

func TestManyDamagesAreCountedAndSomeListed(t *testing.T) {
	disk := vfs.NewMem()
	s := openOn(t, disk)
	write(t, s, "a", MaxDamages+100)
	s.drain()
	middle := uint64(MaxDamages / 2)
	if err := errors.Join(
		s.db.DeleteRange(eventKey(nil, 2), eventKey(nil, middle), pebble.Sync),
		s.db.DeleteRange(eventKey(nil, middle+1), eventKey(nil, MaxDamages+100), pebble.Sync),
		s.release()); err != nil {
		t.Fatal(err)
	}
	report := mustVerify(t, disk)
	if report.Damaged < MaxDamages+97 || len(report.Damages) != MaxDamages {
		t.Errorf("%d damages are counted, %d listed", report.Damaged, len(report.Damages))
	}
	for _, d := range report.Damages {
		if d.Stream != "a" {
			t.Fatalf("%+v has no stream", d)
		}
	}
}

// A wild position is no reason to count up to it.
func TestLongRowOfMissingEventsIsOneDamage(t *testing.T) {
	disk := damaged(t, func(t *testing.T, s *store, b *pebble.Batch) {
		put(t, b, eventKey(nil, 1<<63), stored(t, s, eventKey(nil, 7)))
	})
	if report := mustVerify(t, disk); report.Damages[0].Position != 8 || !strings.Contains(report.Damages[0].Problem, "all up to position 9223372036854775807 are missing") {
		t.Errorf("%+v", report)
	}
	if s, err := tryOpen(disk, nil); !errors.Is(err, errCorrupt) {
		t.Errorf("the log was opened: %v, %v", s, err)
	}
}

// S18: a wild stream id would make the next one given a used one.
func TestWildStreamIDIsRefused(t *testing.T) {
	disk := damaged(t, func(t *testing.T, s *store, b *pebble.Batch) {
		put(t, b, indexKey(nil, ^uint64(0), 0), at(7))
	})
	if s, err := tryOpen(disk, nil); !errors.Is(err, errCorrupt) {
		t.Errorf("the log was opened: %v, %v", s, err)
	}
}

// S18: sizes in damaged bytes are not believed.
func TestDecodersAllocateNothing(t *testing.T) {
	e := newProposed("a", newID(t), "tested", true, []byte("{}"), nil)
	wild := append([]byte{recordFormatPlain}, make([]byte, recordHeaderSize)...)
	wild = binary.AppendUvarint(wild, 1<<62)
	state := appendState(nil, streamState{id: 1, last: deletedRevision})
	whole := appendRecord(nil, recordFormat, "a", 1, &e, 0, 1, 0)
	allocated := testing.AllocsPerRun(100, func() {
		_, _ = decodeRecord(1, whole)
		_, _ = decodeState(state)
	})
	if _, err := decodeRecord(1, wild); !errors.Is(err, errCorrupt) || allocated != 0 {
		t.Errorf("%v allocations, error %v", allocated, err)
	}
}

func TestVerifyRefusesALogInUse(t *testing.T) {
	dir := t.TempDir()
	openNode(t, dir)
	if _, err := Verify(testContext(t), dir, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
	}
	if _, err := Verify(testContext(t), dir+"/nowhere", nil); err == nil || !strings.Contains(err.Error(), "there is no event log") {
		t.Errorf("error %v", err)
	}
}

func TestVerifyTellsItsProgressAndStops(t *testing.T) {
	disk := vfs.NewMem()
	s := openOn(t, disk)
	for range 2 {
		write(t, s, "a", verifyStep)
	}
	closeStore(t, s)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var parts []string
	_, err := verify(ctx, disk, testLog, func(p VerifyProgress) {
		parts = append(parts, fmt.Sprintf("%s %d/%d", p.Part, p.Done, p.Total))
	})
	want := "events 0/8193, events 4096/8193, events 8192/8193, events 8193/8193, index 0/8193, index 4096/8193, index 8192/8193, index 8193/8193, streams 0/2, streams 2/2"
	if got := strings.Join(parts, ", "); err != nil || got != want {
		t.Errorf("progress %s, error %v; want %s", got, err, want)
	}
	if _, err := verify(ctx, disk, testLog, func(VerifyProgress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after the end of the context", err)
	}
}

// A verification leaves the log as it was, byte for byte.
func TestVerifyChangesNothing(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s := openOn(t, disk)
	write(t, s, "a", 3)
	crashed := disk.CrashClone(vfs.CrashCloneCfg{}) // with a log to be recovered
	closeStore(t, s)
	before := contents(t, crashed)
	wantSound(t, crashed)
	after := contents(t, crashed)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("before: %v, after: %v", before, after)
	}
}

// contents is every file of a log, by name.
func contents(t testing.TB, disk vfs.FS) map[string][]byte {
	t.Helper()
	names, err := disk.List(testLog)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		files[name] = contentsOf(t, disk, name)
	}
	return files
}

func contentsOf(t testing.TB, disk vfs.FS, name string) []byte {
	t.Helper()
	path := disk.PathJoin(testLog, name)
	info, err := disk.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if len(b) > 0 {
		if _, err := file.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// S18: whatever bytes stand in the store, to open and to verify it ends without a panic.
func FuzzDamagedEntries(f *testing.F) {
	e := newProposed("a", newID(f), "tested", true, []byte("{}"), nil)
	f.Add(eventKey(nil, 2), appendRecord(nil, recordFormat, "a", 2, &e, 0, 2, 0))
	f.Add(indexKey(nil, 2, 0), at(2))
	f.Add(streamKey(nil, "a"), appendState(nil, streamState{id: 2, last: 4, changed: 2}))
	f.Add(indexKey(nil, ^uint64(0), deletedRevision), binary.BigEndian.AppendUint64(nil, ^uint64(0)))
	f.Add(eventKey(nil, ^uint64(0)), []byte{recordFormatPlain})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		disk := vfs.NewMem()
		s := openOn(t, disk)
		write(t, s, "a", 3)
		s.drain()
		if err := errors.Join(s.db.Set(key, value, pebble.Sync), s.release()); err != nil {
			t.Fatal(err)
		}
		_, _ = verify(testContext(t), disk, testLog, nil)
		if s, err := tryOpen(disk, nil); err == nil {
			closeStore(t, s)
		}
	})
}
