package logcopy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// invented is a small history.
func invented(events int) history {
	h := history{identity: eventlog.Identity{ID: "0f8fad5b-d9cb-469f-a165-70867728950e", Namespace: "rapport", Secret: "00112233"}}
	streams := []string{"main.customer-0f8fad5b-d9cb-469f-a165-70867728950e", "acme.deal-0f8fad5b-d9cb-469f-a165-70867728950f"}
	for i := range events {
		id := uuid.NewSHA1(uuid.NameSpaceOID, []byte{byte(i), byte(i >> 8)})
		h.events = append(h.events, codec.Raw{
			ID: id.String(), Type: "customer.registered", Stream: streams[i%2], Revision: uint64(i / 2), Data: []byte(`{"n":1}`), Metadata: payloads[i%3],
		})
	}
	return h
}

// exported writes a history into a file and returns its path.
func exported(t testing.TB, h history) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history")
	if r, err := Export(t.Context(), h, path, Options{}); err != nil || !r.Complete || !r.Proof.Equal() {
		t.Fatalf("%+v, %v", r, err)
	}
	return path
}

// readFile reads a file whole.
func readFile(ctx context.Context, path string) (d *Digest, err error) {
	s, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return Read(ctx, s, Options{})
}

// damage says whether an error says that a file cannot be trusted.
func damage(err error) bool {
	return errors.Is(err, ErrDamagedFile) || errors.Is(err, ErrNoHistory) || errors.Is(err, ErrOtherVersion)
}

func TestFileHoldsTheHistory(t *testing.T) {
	for _, n := range []int{0, 1, 7, 3000} {
		h := invented(n)
		s, err := OpenFile(exported(t, h))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the identity", s.Identity(), h.identity)
		equal(t, "the number of events", s.Expected(), uint64(n))
		equal(t, "the events", drain(t, s.Events(t.Context(), domain.Mark{})), drain(t, h.Events(t.Context(), domain.Mark{})))
		if n > 5 {
			after := domain.Mark{Position: domain.Position{Commit: 5, Prepare: 5}}
			equal(t, "the events after one", drain(t, s.Events(t.Context(), after)), drain(t, h.Events(t.Context(), after)))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A file in which a byte is another, wherever it is, is not read to its end.
func TestChangedByteIsFound(t *testing.T) {
	path := exported(t, invented(40))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, flip := range []byte{0x01, 0x80} {
		for i := range whole {
			changed := slices.Clone(whole)
			changed[i] ^= flip
			refused(t, changed, "byte %d ^ %#x", i, flip)
		}
	}
}

func TestFileThatIsCutOrGluedIsFound(t *testing.T) {
	whole, err := os.ReadFile(exported(t, invented(40)))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		refused(t, whole[:n], "cut after %d bytes", n)
	}
	refused(t, append(slices.Clone(whole), 0), "a byte behind the end")
	refused(t, append(slices.Clone(whole), whole...), "twice")

	// Frames in another order, missing and doubled: each is whole by itself.
	h := invented(40)
	for i := range h.events {
		h.events[i].Data = bytes.Repeat([]byte{'x', byte(i)}, batchBytes/8) // so that there are several frames of events
	}
	whole, err = os.ReadFile(exported(t, h))
	if err != nil {
		t.Fatal(err)
	}
	mark := len(fileMark) + len(fileVersion)
	var frames [][]byte
	for rest := whole[mark:]; len(rest) > 0; {
		n := frameHead + int(binary.BigEndian.Uint32(rest[1:])) + len(sum{})
		frames = append(frames, rest[:n])
		rest = rest[n:]
	}
	if len(frames) < 5 {
		t.Fatalf("%d frames are too few for this test", len(frames))
	}
	glued := func(frames ...[]byte) []byte { return bytes.Join(append([][]byte{whole[:mark]}, frames...), nil) }
	for i := range frames {
		refused(t, glued(slices.Delete(slices.Clone(frames), i, i+1)...), "without frame %d", i)
		refused(t, glued(slices.Insert(slices.Clone(frames), i, frames[i])...), "frame %d twice", i)
		if i > 0 {
			swapped := slices.Clone(frames)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			refused(t, glued(swapped...), "frames %d and %d exchanged", i-1, i)
		}
	}
}

// refused checks that a file with such content is not read to its end.
func refused(t *testing.T, content []byte, format string, args ...any) {
	t.Helper()
	file, err := os.CreateTemp("", "rapport-history-") // the test's own directory would be made anew for each of thousands
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(content); errors.Join(err, file.Close()) != nil {
		t.Fatal(err)
	}
	if _, err := readFile(t.Context(), file.Name()); !damage(err) {
		t.Errorf(format+": %v", append(args, err)...)
	}
}

// Nothing is begun with a file that is damaged, also when its damage is near the end.
func TestNothingIsBegunWithADamagedFile(t *testing.T) {
	path := exported(t, invented(2000))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole[len(whole)-50] ^= 1
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	to := dial(t, openNode(t), "rapport")
	if _, err := Copy(t.Context(), s, to, Options{}); !errors.Is(err, ErrDamagedFile) {
		t.Errorf("copied: %v", err)
	}
	if now := standing(t, to); now != (eventlog.Standing{}) {
		t.Errorf("%+v was begun", now)
	}
}

func TestOtherVersionIsNamed(t *testing.T) {
	for content, want := range map[string]error{
		"": ErrNoHistory, "rapport": ErrNoHistory, "PK\x03\x04 something else": ErrNoHistory,
		fileMark + "2\n":          ErrOtherVersion,
		fileMark + fileVersion:    ErrDamagedFile,
		fileMark + "10\nwhatever": ErrOtherVersion,
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFile(path); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", content, err, want)
		}
	}
}

// An export that ends early leaves no file by that name, and one that was killed is written anew.
func TestExportIsWholeOrNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path+partialSuffix, bytes.Repeat([]byte("left over"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	h := invented(1000)
	for _, part := range []Part{PartSurvey, PartCarry, PartConfirm} {
		ctx, cancel := context.WithCancel(t.Context())
		stop := func(p Progress) {
			if p.Part == part {
				cancel()
			}
		}
		_, err := Export(ctx, stopped{h}, path, Options{Progress: stop})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped in part %q: %v", part, err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stopped in part %q: the file is there: %v", part, err)
		}
	}
	if _, err := Export(t.Context(), h, path, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path + partialSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left over is there: %v", err)
	}
	if _, err := Export(t.Context(), h, path, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has personal data, and the mode %v, %v", info.Mode(), err)
	}
}

// stopped is a history whose reading ends with its context.
type stopped struct{ history }

func (s stopped) Events(ctx context.Context, after domain.Mark) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		for raw, err := range s.history.Events(ctx, after) {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			if !yield(raw, err) || err != nil {
				return
			}
		}
	}
}

func TestTwoExportsIntoOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	h := invented(300)
	tried := false
	second := func(p Progress) {
		if p.Part == PartCarry && !tried {
			tried = true
			if _, err := Export(t.Context(), h, path, Options{}); err == nil {
				t.Error("a second export wrote the same file")
			}
		}
	}
	if _, err := Export(t.Context(), h, path, Options{Progress: second}); err != nil || !tried {
		t.Fatalf("the first: %v", err)
	}
	if _, err := readFile(t.Context(), path); err != nil {
		t.Error(err)
	}
}

// A log that is written to while it is exported is exported as it was in the beginning.
func TestExportOfALogInUse(t *testing.T) {
	random := drawn(t)
	log := dial(t, openNode(t), "rapport")
	grow(t, log, random, 700)
	want := content(t, log)
	path := filepath.Join(t.TempDir(), "history")
	written := 0
	r, err := Export(t.Context(), source(t, log), path, Options{Progress: func(Progress) {
		grow(t, log, random, 1)
		written++
	}})
	if err != nil || written == 0 || r.Carried != 700 {
		t.Fatalf("%+v, %v, %d written meanwhile", r, err, written)
	}
	s, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	equal(t, "the file", drain(t, s.Events(t.Context(), domain.Mark{})), want)
}

func TestEventThatIsTooLargeIsNotExported(t *testing.T) {
	h := invented(1)
	h.events[0].Data = make([]byte, maxEventBytes)
	path := filepath.Join(t.TempDir(), "history")
	if _, err := Export(t.Context(), h, path, Options{}); err == nil {
		t.Error("exported")
	}
	h.events[0].Data = make([]byte, maxEventBytes-1000)
	if _, err := Export(t.Context(), h, path, Options{}); err != nil {
		t.Error(err)
	}
}

func FuzzFile(f *testing.F) {
	whole, err := os.ReadFile(exported(f, invented(5)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:40])
	f.Add([]byte(fileMark + fileVersion))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readFile(t.Context(), path); err == nil != bytes.Equal(content, whole) {
			t.Errorf("read with %v", err)
		}
	})
}

func FuzzPackedEvents(f *testing.F) {
	packed, err := packEvent(nil, invented(1).events[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add(packed[:30])
	f.Fuzz(func(t *testing.T, content []byte) {
		raw, rest, err := unpackEvent(content)
		if err != nil {
			return
		}
		again, err := packEvent(nil, raw)
		if err != nil {
			return // larger than what is ever written
		}
		back, none, err := unpackEvent(again)
		if err != nil || len(none) > 0 || len(rest) >= len(content) {
			t.Errorf("%v, %d bytes behind it", err, len(none))
		}
		equal(t, "the event", back, raw)
	})
}

// The digest tells any two histories apart that differ in anything that is carried.
func TestDigestTellsHistoriesApart(t *testing.T) {
	digest := func(h []codec.Raw) (Totals, []StreamDigest) {
		d := newDigest()
		for _, raw := range h {
			if err := d.add(raw); err != nil {
				t.Fatal(err)
			}
		}
		return d.Totals(), d.Streams()
	}
	rapid.Check(t, func(rt *rapid.T) {
		h := invented(rapid.IntRange(2, 12).Draw(rt, "events")).events
		changed := slices.Clone(h)
		i := rapid.IntRange(0, len(h)-1).Draw(rt, "event")
		e := &changed[i]
		what := rapid.SampledFrom([]string{"id", "type", "data", "metadata", "border", "fields", "last", "order", "stream", "position"}).Draw(rt, "what")
		switch what {
		case "id":
			e.ID = uuid.NewString()
		case "type":
			e.Type += "x"
		case "data":
			e.Data = append(slices.Clone(e.Data), ' ')
		case "metadata":
			e.Metadata = append(slices.Clone(e.Metadata), ' ')
		case "border": // the same bytes, cut elsewhere
			e.Type, e.Data = e.Type+string(e.Data[:1]), e.Data[1:]
		case "fields":
			e.Data, e.Metadata = append(slices.Clone(e.Data), e.Metadata...), nil
			if len(h[i].Metadata) == 0 {
				return
			}
		case "last":
			changed = changed[:len(changed)-1]
		case "order":
			changed[0], changed[1] = changed[1], changed[0]
		case "stream":
			for i := range changed {
				if changed[i].Stream == h[0].Stream {
					changed[i].Stream += "0"
				}
			}
		}
		wantTotals, wantStreams := digest(h)
		gotTotals, gotStreams := digest(changed)
		sameStreams := slices.Equal(wantStreams, gotStreams)
		if (wantTotals == gotTotals) != (what == "position") || sameStreams != (what == "position" || what == "order") {
			rt.Errorf("%s is another: %+v and %+v, the streams alike: %v", what, wantTotals, gotTotals, sameStreams)
		}
	})
}
