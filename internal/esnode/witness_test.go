package esnode

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// S13: files of an older copy, put in the place of the log's own, are noticed however far the copy has grown since, where
// positions are ordinals and where they are offsets. A file of before, which names no event, tells only of an end that is lost.
func TestOlderCopyThatHasGrownIsRefused(t *testing.T) {
	const had, copied = 12, 5
	for _, offsets := range []bool{false, true} {
		for _, grown := range []int{0, had - copied - 1, had - copied, had} {
			for _, before := range []bool{false, true} {
				t.Run(fmt.Sprintf("offsets %t, grown %d, file of before %t", offsets, grown, before), func(t *testing.T) {
					disk := copyOf(t, nil)
					s := openWith(t, disk, offsets)
					write(t, s, "s", copied)
					closeStore(t, s)
					older := contents(t, disk)
					s = openWith(t, disk, offsets)
					write(t, s, "s", had-copied)
					promised := s.synced()
					closeStore(t, s)
					kept := contents(t, disk)[witnessFile]
					if before {
						kept = kept[:witnessPositionBytes]
					}
					disk = copyOf(t, older)
					s = openWith(t, disk, offsets)
					if grown > 0 {
						write(t, s, "s", grown)
					}
					ends := s.synced()
					closeStore(t, s)
					files := contents(t, disk)
					closeStore(t, openWith(t, copyOf(t, files), offsets)) // the copy by itself is a log
					files[witnessFile] = kept
					disk = copyOf(t, files)
					report := mustVerify(t, disk)
					s, err := tryOpenWith(disk, func(error) {}, offsets)
					noticed := !before || ends < promised
					if noticed != errors.Is(err, errCorrupt) || noticed != (report.Damaged > 0) {
						t.Errorf("ends at %d of %d: %v, %+v", ends, promised, err, report)
					}
					if err == nil {
						closeStore(t, s)
						return
					}
					if !strings.Contains(err.Error(), "restore a backup, or delete "+testLog+"/"+witnessFile+" to go on with") {
						t.Errorf("refused with %v", err)
					}
					if ends >= promised && !strings.Contains(err.Error(), "an older copy, which has grown since") {
						t.Errorf("refused with %v", err)
					}
					if err := disk.Remove(disk.PathJoin(testLog, witnessFile)); err != nil {
						t.Fatal(err)
					}
					closeStore(t, openWith(t, disk, offsets))
				})
			}
		}
	}
}

// A file that an older binary has written over in part tells the position alone.
func TestWitnessOfAnOlderBinaryTellsThePosition(t *testing.T) {
	disk := copyOf(t, nil)
	first, second := mark{7, uuid.New()}, mark{9, uuid.New()}
	w, err := openWitness(disk, testLog, first)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := acknowledged(disk, testLog); err != nil || got != first {
		t.Errorf("%+v, %v", got, err)
	}
	if err := w.advance(second); err != nil {
		t.Fatal(err)
	}
	newer := contentsOf(t, disk, witnessFile)
	if err := w.advance(first); err != nil {
		t.Fatal(err)
	}
	if _, err := w.file.WriteAt(newer[:witnessPositionBytes], 0); err != nil {
		t.Fatal(err)
	}
	if got, err := acknowledged(disk, testLog); err != nil || got != (mark{position: 9}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
