package esnode

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// seen is an event and its place.
type seen struct {
	id       uuid.UUID
	position uint64
}

// scanned returns the events that a scan visits.
func scanned(s *store, first, last uint64, d direction) (list []seen, err error) {
	err = s.scan(first, last, d, func(rec record) (bool, error) {
		list = append(list, seen{rec.id, rec.position})
		return true, nil
	})
	return list, err
}

// A log may be written by turns with ordinals and with offsets for positions. Whoever
// opens it reads all of it in both directions and between any two numbers, finds
// repetitions, and verifies it.
func TestOrdinalsAndOffsetsInOneLog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		disk := vfs.NewMem()
		var want []seen
		var appended []*request
		for range rapid.IntRange(1, 4).Draw(rt, "opens") {
			s := openWith(t, disk, rapid.Bool().Draw(rt, "offsets"))
			if want == nil {
				want = []seen{{s.logID, s.synced()}}
			}
			for range rapid.IntRange(0, 6).Draw(rt, "appends") {
				req := &request{op: opAppend, stream: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "stream"), expected: expectAny}
				req.events = proposals(req.stream, rapid.IntRange(1, 3).Draw(rt, "events"))
				done, err := s.submit(t.Context(), req)
				if err != nil {
					rt.Fatal(err)
				}
				list, err := scanned(s, want[len(want)-1].position+1, done.position, forwards)
				if err != nil || len(list) != len(req.events) || list[len(list)-1].position != done.position {
					rt.Fatalf("%d events were appended up to %d: a scan gives %v, %v", len(req.events), done.position, list, err)
				}
				want, appended = append(want, list...), append(appended, req)
			}
			for _, req := range appended {
				again := &request{op: opAppend, stream: req.stream, expected: expectAny, events: req.events}
				if done, err := s.submit(t.Context(), again); err != nil || done != req.outcome {
					rt.Fatalf("a repetition of %+v is %+v, %v", req.outcome, done, err)
				}
			}
			head := s.synced()
			first := uint64(rapid.Int64Range(1, int64(head)).Draw(rt, "first"))
			last := uint64(rapid.Int64Range(1, int64(head)).Draw(rt, "last"))
			for _, r := range [][2]uint64{{1, head}, {first, head}, {1, last}, {first, last}} {
				compareScans(rt, s, r[0], r[1], want)
			}
			countEvents(rt, s, first, want)
			closeStore(t, s)
			if report := mustVerify(t, disk); report.Damaged != 0 || report.Events != uint64(len(want)) || report.Entries != report.Events || report.Head != head {
				rt.Fatalf("%d events up to %d; the verification says %+v", len(want), head, report)
			}
		}
	})
}

func compareScans(t *rapid.T, s *store, first, last uint64, all []seen) {
	var want []seen
	for _, e := range all {
		if first <= e.position && e.position <= last {
			want = append(want, e)
		}
	}
	for _, d := range []direction{forwards, backwards} {
		got, err := scanned(s, first, last, d)
		if d == backwards {
			slices.Reverse(got)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("from %d to %d, backwards %v: %v, %v; want %v", first, last, d, got, err, want)
		}
	}
}

func countEvents(t *rapid.T, s *store, after uint64, all []seen) {
	behind := uint64(0)
	for _, e := range all {
		if e.position > after {
			behind++
		}
	}
	for n := range uint64(len(all) + 1) {
		if more, err := s.moreEvents(n, after, s.synced()); err != nil || more != (behind > n) {
			t.Fatalf("more than %d events behind %d: %v, %v; there are %d", n, after, more, err, behind)
		}
	}
}

// Any one event that is gone is missed by every scan over its place and by Verify,
// which names the place, whether positions are ordinals or offsets.
func TestMissingEventIsMissed(t *testing.T) {
	for _, offsets := range []bool{false, true} {
		t.Run(fmt.Sprintf("offsets=%v", offsets), func(t *testing.T) {
			for gone := range 5 {
				disk := vfs.NewMem()
				s := openWith(t, disk, offsets)
				write(t, s, "a", 4)
				all, err := scanned(s, 1, s.synced(), forwards)
				if err != nil || len(all) != 5 {
					t.Fatalf("%v, %v", all, err)
				}
				if err := s.db.Delete(eventKey(nil, all[gone].position), pebble.Sync); err != nil {
					t.Fatal(err)
				}
				for _, d := range []direction{forwards, backwards} {
					if list, err := scanned(s, 1, s.synced(), d); !errors.Is(err, errCorrupt) {
						t.Errorf("without the event at %d, backwards %v: %v, %v", all[gone].position, d, list, err)
					}
				}
				closeStore(t, s)
				report := mustVerify(t, disk)
				if !slices.ContainsFunc(report.Damages, func(d Damage) bool {
					return d.Kind == DamagedEvent && (d.Position == all[gone].position || gone == 0)
				}) && gone < 4 {
					t.Errorf("without the event at %d: %+v", all[gone].position, report.Damages)
				}
				if report.Damaged == 0 {
					t.Errorf("without the event at %d the log verifies", all[gone].position)
				}
			}
		})
	}
}

// A copy of a log of offsets is a log that every node opens and goes on with.
func TestLogOfOffsetsIsBackedUp(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(testContext(t), storeOptions{dir: dir, fs: vfs.Default, now: time.Now, logger: slog.New(slog.DiscardHandler), fatal: func(err error) { t.Error(err) }, offsets: true})
	if err != nil {
		t.Fatal(err)
	}
	done := write(t, s, "a", 3)
	target := filepath.Join(t.TempDir(), "copy")
	head, err := s.backup(target)
	if err != nil || head != done.position {
		t.Fatalf("the copy is up to %d, %v; want %d", head, err, done.position)
	}
	closeStore(t, s)
	if report, err := Verify(testContext(t), target, nil); err != nil || report.Damaged != 0 || report.Events != 4 {
		t.Fatalf("%+v, %v", report, err)
	}
	n := openNode(t, target)
	if list := readAll(t, connect(t, n), esdb.ReadAllOptions{}, everything); len(list) != 4 || list[3].Event.Position.Commit != head {
		t.Errorf("%d events", len(list))
	}
}
