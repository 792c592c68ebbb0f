package esnode

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// oldLog is the files of a log that has grown through several tables, was closed, and
// was written again, and what was written.
func oldLog(t *testing.T, offsets bool) (map[string][]byte, *history) {
	t.Helper()
	disk, h := vfs.NewMem(), &history{}
	s := openWith(t, disk, offsets)
	for i := range 60 {
		h.write(t, s, []string{"a", "b", "c"}[i%3], 10*i, 1000+i, 3000)
	}
	closeStore(t, s)
	s = openWith(t, disk, offsets)
	for range 5 {
		h.write(t, s, "a", 10, 200)
	}
	closeStore(t, s)
	return contents(t, disk), h
}

// S4: a flipped bit anywhere in any file of the log is met by an error, never by wrong
// data and never by an end that is none; and to verify the log finds it whenever a read
// does.
func TestFlippedBitIsNeverWrongData(t *testing.T) {
	for _, offsets := range []bool{false, true} {
		t.Run(fmt.Sprintf("offsets=%v", offsets), func(t *testing.T) { flipBits(t, offsets) })
	}
}

func flipBits(t *testing.T, offsets bool) {
	files, h := oldLog(t, offsets)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(files)), func(name string) bool { return len(files[name]) == 0 })
	met := map[string]int{}
	eachSeed(t, 60, func(t *testing.T, rng *rand.Rand) {
		name := names[rng.IntN(len(names))]
		if rng.IntN(2) == 0 { // half of them where most bytes are
			name = slices.MaxFunc(names, func(a, b string) int { return len(files[a]) - len(files[b]) })
		}
		damaged := maps.Clone(files)
		damaged[name] = slices.Clone(files[name])
		damaged[name][rng.IntN(len(files[name]))] ^= 1 << rng.IntN(8)
		report, verifyErr := verify(testContext(t), copyOf(t, damaged), testLog, nil)
		s, err := tryOpen(copyOf(t, damaged), func(err error) { t.Errorf("fatal: %v", err) })
		if err == nil {
			err = h.readAll(t, s)
			closeStore(t, s)
		}
		if err == nil {
			return // the bit means nothing to reads: a filter, a comment, a file no longer needed
		}
		met[name[max(0, len(name)-4):]]++
		if verifyErr == nil && report.Damaged == 0 {
			t.Errorf("%s: to read it: %v; to verify it finds nothing", name, err)
		}
		if !strings.HasPrefix(name, "OPTIONS") && !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	})
	t.Logf("met by reads: %v", met)
}

// readAll reads the log and each stream in both directions. It fails the test when they
// have other events than the history, or fewer without an error.
func (h *history) readAll(t *testing.T, s *store) (err error) {
	t.Helper()
	want := map[string][]string{}
	for _, a := range h.answered {
		for _, e := range a.req.events {
			want[a.req.stream] = append(want[a.req.stream], string(e.data))
			want[""] = append(want[""], string(e.data))
		}
	}
	for stream, all := range want {
		for _, d := range []direction{forwards, backwards} {
			var got []string
			collect := func(rec record) (bool, error) {
				data, err := eventData(rec.body)
				if string(rec.stream) != logStream {
					got = append(got, string(data))
				}
				return true, err
			}
			var failed error
			if stream == "" {
				failed = s.scan(1, s.synced(), d, collect)
			} else {
				var st streamState
				if st, failed = s.state(stream); failed == nil {
					failed = s.scanStream(st, 0, st.last, d, collect)
				}
			}
			expected := slices.Clone(all)
			if d == backwards {
				slices.Reverse(expected)
			}
			if len(got) > len(expected) || !slices.Equal(got, expected[:len(got)]) {
				t.Fatalf("reading %q gives other events than were written", stream)
			}
			if failed == nil && len(got) < len(expected) {
				t.Fatalf("reading %q ends after %d of %d events as if that were all", stream, len(got), len(expected))
			}
			err = errors.Join(err, failed)
		}
	}
	return err
}

// S4: a table that is gone is missed, and told as damage.
func TestReproLostTableIsMissed(t *testing.T) {
	files, h := oldLog(t, false)
	for name := range files {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		lost := maps.Clone(files)
		delete(lost, name)
		report, err := verify(testContext(t), copyOf(t, lost), testLog, nil)
		if err == nil && report.Damaged == 0 {
			t.Errorf("without %s the log verifies", name)
		}
		s, err := tryOpen(copyOf(t, lost), func(error) {})
		if err == nil {
			err = h.readAll(t, s)
			_ = s.close() // may miss the table too
		}
		if !errors.Is(err, errCorrupt) {
			t.Errorf("without %s, to read all of it: %v", name, err)
		}
	}
}

// S4: what is missing at the very end of a read, where the engine has nothing more to say, is missed too.
func TestMissingEndIsNotAnEnd(t *testing.T) {
	s, err := tryOpen(vfs.NewMem(), func(err error) { t.Errorf("fatal: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	h := &history{}
	h.write(t, s, "a", 3, 100)
	st, err := s.state("a")
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{"event": eventKey(nil, s.synced()), "index entry": indexKey(nil, st.id, st.last)} {
		value := stored(t, s, key)
		if err := s.db.Delete(key, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if err := h.readAll(t, s); !errors.Is(err, errCorrupt) {
			t.Errorf("without the last %s: %v", name, err)
		}
		if err := s.db.Set(key, value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.readAll(t, s); err != nil {
		t.Error(err)
	}
}

// S4, as clients see it: the reads that meet a damaged event fail and name it; others go on.
func TestClientsAreToldOfDamage(t *testing.T) {
	n, c := fresh(t)
	mustAppend(t, c, "a", esdb.NoStream{}, events(3)...)
	mustAppend(t, c, "b", esdb.NoStream{}, events(2)...)
	value := stored(t, n.store, eventKey(nil, 3))
	value[len(value)-3] ^= 1
	if err := n.store.db.Set(eventKey(nil, 3), value, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	list, err := readStream(t, c, "a", esdb.ReadStreamOptions{}, everything)
	if len(list) > 1 || err == nil || !strings.Contains(err.Error(), "event at position 3: its checksum is wrong") {
		t.Errorf("the stream gives %d events and %v", len(list), err)
	}
	all, err := c.ReadAll(testContext(t), esdb.ReadAllOptions{}, everything)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := drain(all)
	var refused *esdb.Error
	if len(seen) > 2 || !errors.As(err, &refused) || status.Code(refused.Err()) != codes.DataLoss {
		t.Errorf("$all gives %d events and %v", len(seen), err)
	}
	if list, err := readStream(t, c, "b", esdb.ReadStreamOptions{}, everything); err != nil || len(list) != 2 {
		t.Errorf("another stream gives %d events and %v", len(list), err)
	}
	mustAppend(t, c, "b", esdb.Revision(1), events(1)...)
}
