package esnode

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"
)

// eachSeed runs a test for a few seeds, or for RAPPORT_SIM_SEEDS of them. RAPPORT_SIM_SEED
// is the first one, and the only one unless their number is given. A seed decides what is
// written and what the disk does, but not how goroutines take turns.
func eachSeed(t *testing.T, usual int, f func(t *testing.T, rng *rand.Rand)) {
	number := func(name string, otherwise int) int {
		if os.Getenv(name) == "" {
			return otherwise
		}
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	if os.Getenv("RAPPORT_SIM_SEED") != "" {
		usual = 1
	}
	first := number("RAPPORT_SIM_SEED", 1)
	for seed := first; seed < first+number("RAPPORT_SIM_SEEDS", usual); seed++ {
		t.Run(fmt.Sprintf("RAPPORT_SIM_SEED=%d", seed), func(t *testing.T) {
			f(t, rand.New(rand.NewPCG(uint64(seed), 0)))
		})
	}
}

// history is what writers have asked for, each of them one append after the other to a
// stream of its own, and what they were answered.
type history struct {
	mu       sync.Mutex
	appends  []*request
	answered []answer // in the order of the answers
}

type answer struct {
	req  *request
	done outcome
}

// write appends to a stream and remembers it. It reports whether that was acknowledged.
func (h *history) write(t testing.TB, s *store, stream string, sizes ...int) bool {
	req := &request{op: opAppend, stream: stream, expected: expectAny}
	for i, size := range sizes {
		data := fmt.Appendf(nil, `{"n":%d,"filling":"%s"}`, i, strings.Repeat("x", size))
		req.events = append(req.events, newProposed(stream, uuid.New(), "tested", true, data, nil))
	}
	h.mu.Lock()
	h.appends = append(h.appends, req)
	h.mu.Unlock()
	done, err := s.append(testContext(t), stream, expectAny, req.events)
	if err != nil {
		return false
	}
	h.mu.Lock()
	h.answered = append(h.answered, answer{req, done})
	h.mu.Unlock()
	return true
}

// so far is how many answers have been given.
func (h *history) soFar() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.answered)
}

// check compares a store with the history: what was acknowledged is there, at its place,
// and every other append is there whole or not at all.
func (h *history) check(t testing.TB, s *store, answered int) {
	t.Helper()
	h.mu.Lock()
	appends, promised := slices.Clone(h.appends), map[*request]outcome{}
	for _, a := range h.answered[:answered] {
		promised[a.req] = a.done
	}
	h.mu.Unlock()
	found := map[uuid.UUID]modelEvent{}
	err := s.scan(1, s.synced(), forwards, func(rec record) (bool, error) {
		data, err := eventData(rec.body)
		found[rec.id] = modelEvent{Stream: string(rec.stream), Revision: rec.revision, Data: string(data), position: rec.position}
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := s.synced(); uint64(len(found)) != want {
		t.Fatalf("%d different events at %d positions", len(found), want)
	}
	for _, req := range appends {
		first, whole := found[req.events[0].id]
		for i, e := range req.events {
			got, ok := found[e.id]
			if ok != whole {
				t.Fatalf("an append of %d events to %s is there in part", len(req.events), req.stream)
			}
			want := modelEvent{Stream: req.stream, Revision: first.Revision + int64(i), Data: string(e.data), position: first.position + uint64(i)}
			if ok && got != want {
				t.Fatalf("event %d of an append to %s is at %d, revision %d; want %d, %d", i, req.stream, got.position, got.Revision, want.position, want.Revision)
			}
		}
		n := len(req.events)
		if done, ok := promised[req]; ok && (!whole || first.position+uint64(n-1) != done.position || first.Revision+int64(n-1) != done.revision) {
			t.Fatalf("an append to %s was acknowledged at %+v; it is there: %v, from position %d, revision %d on", req.stream, done, whole, first.position, first.Revision)
		}
	}
}

// repeat asks for everything again: afterwards it is there once.
func (h *history) repeat(t testing.TB, s *store) {
	t.Helper()
	for _, req := range h.appends {
		if _, err := s.append(testContext(t), req.stream, expectAny, req.events); err != nil {
			t.Fatal(err)
		}
	}
	total := 1
	for _, req := range h.appends {
		total += len(req.events)
	}
	if s.synced() != uint64(total) {
		t.Fatalf("%d events after the repetition, want %d", s.synced(), total)
	}
}

// copyOf is a disk with the given files.
func copyOf(t testing.TB, files map[string][]byte) *vfs.MemFS {
	t.Helper()
	disk := vfs.NewMem()
	if err := disk.MkdirAll(testLog, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		file, err := disk.Create(disk.PathJoin(testLog, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.Write(bytes.Clone(content)) // the file system keeps what it is given
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

// engineLog is the name of the file that the engine appends to now.
func engineLog(files map[string][]byte) string {
	last := ""
	for name := range files {
		if strings.HasSuffix(name, ".log") {
			last = max(last, name)
		}
	}
	return last
}

// inFlight writes some acknowledged appends and then one more, and returns the files as
// they are with that on the disk and not acknowledged, and where its bytes begin.
func inFlight(t *testing.T, h *history, sizes ...int) (files map[string][]byte, begin, answered int) {
	t.Helper()
	disk := vfs.NewMem()
	s := openOn(t, disk)
	for i := range 3 {
		h.write(t, s, "s", 30*i, 20)
	}
	before := contents(t, disk)
	answered = h.soFar()
	s.sync = func(b *pebble.Batch) error {
		err := b.SyncWait()
		files = contents(t, disk)
		return err
	}
	h.write(t, s, "s", sizes...)
	closeStore(t, s)
	return files, len(before[engineLog(before)]), answered
}

// S1: whatever of the last append's bytes has reached the disk, the log opens with what
// was acknowledged before and with that append whole or not at all.
func TestCrashAtEveryByteOfTheLastAppend(t *testing.T) {
	var h history
	files, begin, answered := inFlight(t, &h, 5, 5)
	name := engineLog(files)
	whole := files[name]
	for size := begin; size <= len(whole); size++ {
		files[name] = whole[:size]
		disk := copyOf(t, files)
		s := openOn(t, disk)
		h.check(t, s, answered)
		if all := s.synced() == 9; all != (size == len(whole)) {
			t.Fatalf("with %d of %d bytes of the last append the log ends at %d", size-begin, len(whole)-begin, s.synced())
		}
		closeStore(t, s)
		wantSound(t, disk)
	}
}

// S3: an end that was never acknowledged may be torn in any way, by whole sectors.
func TestTornEndThatWasNotAcknowledged(t *testing.T) {
	eachSeed(t, 20, func(t *testing.T, rng *rand.Rand) {
		var h history
		files, begin, answered := inFlight(t, &h, 3000, 2000, 400)
		name := engineLog(files)
		files[name] = tear(rng, files[name], begin)
		disk := copyOf(t, files)
		s := openOn(t, disk)
		h.check(t, s, answered)
		h.repeat(t, s)
		closeStore(t, s)
		wantSound(t, disk)
	})
}

const sector = 512

// tear damages sectors of a file from an offset on: zeroes, what stood there in a file
// that is used again, or what belongs elsewhere.
func tear(rng *rand.Rand, content []byte, from int) []byte {
	torn := bytes.Clone(content)
	for at := from; at < len(torn); at += sector {
		part := torn[at:min(at+sector, len(torn))]
		switch rng.IntN(5) {
		case 0:
			clear(part)
		case 1:
			copy(part, content[:from])
		case 2:
			copy(part, content[from+rng.IntN(len(content)-from):])
		case 3:
			torn = torn[:at+rng.IntN(len(part)+1)]
		}
	}
	return torn
}

// S3: an end that had been acknowledged is not cut off silently: either all of it is
// there, or the log is refused, and the refusal says what is wrong.
func TestTornEndThatWasAcknowledgedIsRefused(t *testing.T) {
	refused := 0
	eachSeed(t, 20, func(t *testing.T, rng *rand.Rand) {
		var h history
		running := vfs.NewCrashableMem()
		s := openOn(t, running)
		for range 2 + rng.IntN(20) {
			h.write(t, s, "s", 10+rng.IntN(6000))
		}
		answered := h.soFar()
		files := contents(t, running.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})) // all of one moment
		closeStore(t, s)
		name := engineLog(files)
		files[name] = tear(rng, files[name], rng.IntN(len(files[name])))
		disk := copyOf(t, files)
		report := mustVerify(t, disk)
		s, err := tryOpen(disk, nil)
		if (err != nil) != (report.Damaged > 0) {
			t.Errorf("to open it: %v; to verify it: %+v", err, report)
		}
		if err == nil {
			h.check(t, s, answered)
			closeStore(t, s)
			return
		}
		refused++
		if !errors.Is(err, errCorrupt) || !strings.Contains(err.Error(), "restore a backup") {
			t.Errorf("refused with %v", err)
		}
	})
	if refused == 0 && os.Getenv("RAPPORT_SIM_SEED") == "" {
		t.Error("nothing was ever refused")
	}
}

// watchedDisk calls before for every operation that writes, and fails it as told.
func watchedDisk(disk vfs.FS, before func(op errorfs.Op) error) vfs.FS {
	return errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return before(op)
		}
		return nil
	}))
}

// crash is a state of the disk after the machine has stopped.
type crash struct {
	disk     *vfs.MemFS
	answered int
}

// crashes lets the machine stop before some of the writing operations of work. What was
// not synced is lost, kept, or kept in part and in any order.
func crashes(rng *rand.Rand, disk *vfs.MemFS, h *history, chance float64, work func(vfs.FS)) []crash {
	var mu sync.Mutex
	var list []crash
	work(watchedDisk(disk, func(errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if rng.Float64() < chance {
			answered := h.soFar()
			percent := []int{0, 30, 70, 100}[rng.IntN(4)]
			list = append(list, crash{disk.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: percent, RNG: rng,
			}), answered})
		}
		return nil
	}))
	return list
}

// S2: a machine that stops at any write or sync, again while it recovers too, has what
// was acknowledged, and everything else whole or not at all.
func TestCrashAtAnyWrite(t *testing.T) {
	const writers, appends = 3, 12
	eachSeed(t, 4, func(t *testing.T, rng *rand.Rand) {
		var h history
		sizes := make([][][]int, writers) // drawn first: rng is for one goroutine
		for w := range sizes {
			for range appends {
				var append []int
				for range 1 + rng.IntN(4) {
					append = slices.Concat(append, []int{rng.IntN(40) * rng.IntN(200)})
				}
				sizes[w] = slices.Concat(sizes[w], [][]int{append})
			}
		}
		disk := vfs.NewCrashableMem()
		first := crashes(rng, disk, &h, 0.1, func(disk vfs.FS) {
			s := openOn(t, disk)
			var group sync.WaitGroup
			for w := range writers {
				group.Go(func() {
					for _, append := range sizes[w] {
						h.write(t, s, fmt.Sprintf("s-%d", w), append...)
					}
				})
			}
			group.Wait()
			closeStore(t, s)
		})
		again := 0
		for _, c := range first {
			second := crashes(rng, c.disk, &h, 0.02, func(disk vfs.FS) {
				s := openOn(t, disk)
				h.check(t, s, c.answered)
				h.repeat(t, s)
				closeStore(t, s)
			})
			wantSound(t, c.disk)
			for _, d := range second {
				again++
				s := openOn(t, d.disk)
				h.check(t, s, c.answered)
				closeStore(t, s)
				wantSound(t, d.disk)
			}
		}
		t.Logf("%d crashes, %d during recovery and after", len(first), again)
	})
}

// S2, found by TestCrashAtAnyWrite: the engine points to a new manifest before the
// directory that names it is synced. A crash that kept the pointer and lost the name left
// a log that could not be opened.
func TestCrashBetweenManifestAndPointer(t *testing.T) {
	disk := vfs.NewCrashableMem()
	closeStore(t, openOn(t, disk))
	var mu sync.Mutex
	created, synced, pointed := false, false, 0
	s := openOn(t, watchedDisk(disk, func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		switch base := filepath.Base(op.Path); {
		case op.Kind == errorfs.OpCreate && strings.HasPrefix(base, "MANIFEST-"):
			created, synced = true, false
		case op.Kind == errorfs.OpFileSync && base == testLog:
			synced = true
		case op.Kind == errorfs.OpCreate && strings.HasPrefix(base, "marker.manifest."):
			pointed++
			if created && !synced {
				t.Error("the engine points to a manifest whose name is not on disk")
			}
		}
		return nil
	}))
	closeStore(t, s)
	if pointed == 0 {
		t.Error("no manifest was made")
	}
}

// S6: a sync that failed once is not tried again as if nothing had happened: the next
// ones would succeed, and say nothing about what was lost.
func TestFailedSyncIsFinal(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var h history
	var mu sync.Mutex
	armed, failures := false, 0
	broken := errors.New("disk gone")
	var fatal []error
	s, err := tryOpen(watchedDisk(disk, func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		isSync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
		if armed && isSync && strings.HasSuffix(op.Path, ".log") {
			armed, failures = false, failures+1
			return broken
		}
		return nil
	}), func(err error) { fatal = append(fatal, err) })
	if err != nil {
		t.Fatal(err)
	}
	h.write(t, s, "s", 10)
	answered := h.soFar()
	mu.Lock()
	armed = true
	mu.Unlock()
	for i := range 4 {
		if h.write(t, s, "s", 20+i) {
			t.Error("an append was acknowledged after a failed sync")
		}
	}
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	_ = s.close() // repeats the failure
	if failures != 1 || len(fatal) != 1 || !errors.Is(fatal[0], broken) {
		t.Errorf("%d syncs failed, fatal was called with %v", failures, fatal)
	}
	s = openOn(t, crashed)
	h.check(t, s, answered)
	h.repeat(t, s)
	closeStore(t, s)
	wantSound(t, crashed)
}

// S14: a directory that another process uses is refused.
func TestDirectoryOfAnotherProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	child, _ := startCrashChild(t, dir, false)
	defer func() {
		if err := child.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = child.Wait() // killed
	}()
	if _, err := Open(testContext(t), Options{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
	}
	if _, err := Verify(testContext(t), dir, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
	}
	if _, err := Backup(testContext(t), dir, filepath.Join(t.TempDir(), "copy")); err != nil {
		t.Errorf("the other process makes no backup: %v", err)
	}
}
