package runner

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

// of tells events of one note from others.
func of(n int) func(codec.Raw) bool {
	return func(raw codec.Raw) bool { return strings.HasSuffix(raw.Stream, string(noteID(n))) }
}

// poisons are the ways in which an event can be one that a projection cannot take; each returns how it is healed.
var poisons = map[string]func(f *fixture, broken *bool) (heal func()){
	"panic": func(f *fixture, broken *bool) func() {
		f.log.write(f.t, 3, written{Text: "panic"})
		return func() { *broken = false }
	},
	"unstorable": func(f *fixture, broken *bool) func() {
		f.log.write(f.t, 3, written{Text: "a\x00b"})
		return nil
	},
	"undecodable": func(f *fixture, broken *bool) func() {
		f.log.odd(codec.Raw{Type: "note.written", Stream: "main.note-" + string(noteID(3)), Data: []byte(`{"text":7}`), Metadata: []byte(`{}`)})
		return nil
	},
}

// P7, P8: one event in a batch of many that cannot be applied parks its stream alone; mended, it goes on in order.
func TestPoisonParksItsStreamAlone(t *testing.T) {
	t.Parallel()
	for name, poison := range poisons {
		for _, size := range []int{1, 500} {
			t.Run(fmt.Sprint(name, "/", size), func(t *testing.T) {
				t.Parallel()
				f := setUp(t)
				broken := true
				story(t, f.log, 50)
				heal := poison(f, &broken)
				for i := range 50 { // without erasures, after which nobody would see the poison
					f.log.write(t, i%7, written{Text: fmt.Sprint(i)})
				}
				declared := []projection.Projection{noteFold(&broken), totals}
				r := f.runner(quick(size), declared...)
				f.catchUp(r)

				parked, err := r.Parked(t.Context(), "note")
				if err != nil || len(parked) != 1 {
					t.Fatalf("parked %+v, %v", parked, err)
				}
				events, _ := f.log.after(domain.Position{})
				var want []uint64
				for _, raw := range events[50:] {
					if of(3)(raw) {
						want = append(want, raw.Revision)
					}
				}
				var got []uint64
				for _, e := range parked[0].Events {
					got = append(got, e.Revision)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("parked revisions %v, want %v", got, want)
				}
				if parked[0].Error == "" || (name == "panic") != (parked[0].Stack != "") {
					t.Errorf("error %q, stack %q", parked[0].Error, parked[0].Stack)
				}
				from := events[50].Position
				sameRows[note](f, noteFold(&whole), "note_id", func(raw codec.Raw) bool { return of(3)(raw) && !raw.Position.Before(from) })

				if _, err := r.Retry(t.Context(), "note", "", "tester"); heal != nil && err == nil {
					t.Error("a retry succeeded before the fix")
				}
				if heal == nil {
					n, err := r.Discard(t.Context(), "note", parked[0].Stream, "tester", "beyond repair")
					if err != nil || n != len(want) {
						t.Errorf("discarded %d, %v", n, err)
					}
				} else {
					heal()
					n, err := r.Retry(t.Context(), "note", parked[0].Stream, "tester")
					if err != nil || n != len(want) {
						t.Errorf("retried %d, %v", n, err)
					}
				}
				if parked, err := r.Parked(t.Context(), "note"); err != nil || len(parked) != 0 {
					t.Errorf("still parked: %+v, %v", parked, err)
				}
				var audited int
				const audit = "select events from projection.parked_audit where actor = 'tester'"
				if err := f.pool.QueryRow(t.Context(), audit).Scan(&audited); err != nil || audited != len(want) {
					t.Errorf("audit: %d, %v", audited, err)
				}
				story(t, f.log, 20)
				f.catchUp(r)
				if heal != nil {
					sameRows[note](f, noteFold(&whole), "note_id", nil)
				}
			})
		}
	}
}

// P8: while the projector runs.
func TestRetryWhileRunningUnparksTheStream(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	broken := true
	story(t, f.log, 10)
	f.log.write(t, 3, written{Text: "panic"})
	r := f.runner(quick(4), noteFold(&broken), totals)
	stop := f.start(r)
	f.caughtUp("note", "total")
	broken = false // the runner reads it for events of this text only, and there are none until the retry
	cli := f.runner(quick(4), noteFold(&broken), totals)
	if n, err := cli.Retry(t.Context(), "note", "", "tester"); err != nil || n != 1 {
		t.Fatalf("retried %d, %v", n, err)
	}
	story(t, f.log, 10)
	f.caughtUp("note", "total")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameRows[note](f, noteFold(&whole), "note_id", nil)
	if _, err := cli.Retry(t.Context(), "note", "main.note-x", "tester"); !isNotFound(err) {
		t.Errorf("got %v", err)
	}
	if _, err := cli.Parked(t.Context(), "nothing"); !isNotFound(err) {
		t.Errorf("got %v", err)
	}
}

// A table of another version of the binary: its parked streams were counted, and neither shown nor could anybody decide on them.
func TestStreamsParkedByAnotherVersionAreDecidedOn(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	broken := true
	story(t, f.log, 20)
	f.log.write(t, 3, written{Text: "panic"})
	older := f.runner(quick(8), noteFold(&broken))
	f.catchUp(older)
	raised := noteFold(&broken)
	raised.Version, raised.Indexes = 2, nil
	newer := f.runner(quick(8), raised)
	list, err := newer.Status(t.Context())
	if err != nil || list[0].ParkedStreams != 1 {
		t.Fatalf("the status counts %+v, %v", list, err)
	}
	parked, err := newer.Parked(t.Context(), "note")
	if err != nil || len(parked) != 1 || parked[0].Version != 1 || len(parked[0].Events) != 1 {
		t.Fatalf("parked %+v, %v", parked, err)
	}
	for _, stream := range []string{"", parked[0].Stream} {
		if _, err := newer.Retry(t.Context(), "note", stream, "tester"); rule(err) != "projection-of-another-version" {
			t.Errorf("retry of what another version has parked: %v", err)
		}
	}

	// The newer version parks it as well, and a retry applies it to the table of that version alone.
	if err := newer.Rebuild(t.Context(), build.Ask{Projections: []string{"note"}, Park: true}); err != nil {
		t.Fatal(err)
	}
	stop := f.start(newer)
	f.awaitBuild("note", 2, 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if parked, err := newer.Parked(t.Context(), "note"); err != nil || len(parked) != 2 {
		t.Fatalf("parked %+v, %v", parked, err)
	}
	broken = false
	if n, err := newer.Retry(t.Context(), "note", "", "tester"); err != nil || n != 1 {
		t.Errorf("retried %d, %v", n, err)
	}
	if parked, err := newer.Parked(t.Context(), "note"); err != nil || len(parked) != 1 || parked[0].Version != 1 {
		t.Fatalf("parked %+v, %v", parked, err)
	}
	if n, err := newer.Discard(t.Context(), "note", parked[0].Stream, "tester", "the newer version has it"); err != nil || n != 1 {
		t.Errorf("discarded %d, %v", n, err)
	}
	for name, r := range map[string]*Runner{"older": older, "newer": newer} {
		if parked, err := r.Parked(t.Context(), "note"); err != nil || len(parked) != 0 {
			t.Errorf("%s: still parked: %+v, %v", name, parked, err)
		}
	}
	var audited string
	const audit = "select string_agg(version || ' ' || action, ', ' order by version) from projection.parked_audit where actor = 'tester'"
	if err := f.pool.QueryRow(t.Context(), audit).Scan(&audited); err != nil || audited != "1 discarded, 2 retried" {
		t.Errorf("audit: %s, %v", audited, err)
	}
}

func isNotFound(err error) bool {
	var missing *domain.NotFoundError
	return errors.As(err, &missing)
}
