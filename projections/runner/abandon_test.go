package runner

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

// abandon drops the unfinished builds of notes, and says which.
func (f *fixture) abandon(r *Runner) string {
	f.t.Helper()
	dropped, err := r.Abandon(f.t.Context(), "note", "tester")
	if err != nil {
		f.t.Fatal(err)
	}
	return fmt.Sprint(dropped)
}

// rebuildHeld asks for a build of notes that is not switched to.
func (f *fixture) rebuildHeld(r *Runner) {
	f.t.Helper()
	if err := r.Rebuild(f.t.Context(), build.Ask{Projections: []string{"note"}, Hold: true}); err != nil {
		f.t.Fatal(err)
	}
}

// awaitHeld waits until a build of notes could be switched to.
func (f *fixture) awaitHeld() {
	f.t.Helper()
	f.eventually("the build to wait", func() bool { return strings.Contains(f.builds(), build.Ready) })
}

// builds lists the builds of notes with their stages.
func (f *fixture) builds() (list string) {
	f.t.Helper()
	const sql = "select coalesce(string_agg(version || '/' || build || ' ' || state, ', ' order by version, build), '') from projection.checkpoint where name = 'note'"
	if err := f.conn.QueryRow(f.t.Context(), sql).Scan(&list); err != nil {
		f.t.Fatal(err)
	}
	return list
}

// A build that was held waited for a switch that nobody wanted, for as long as the projection was kept.
func TestBuildThatWasHeldIsAbandoned(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	r := f.runner(quick(8), all()...)
	if _, err := r.Abandon(t.Context(), "note", "tester"); rule(err) != "projection-without-build" {
		t.Errorf("before anything is there: %v", err)
	}
	stop := f.start(r)
	f.caughtUp("note", "total", "line")
	if _, err := r.Abandon(t.Context(), "note", "tester"); rule(err) != "projection-without-build" {
		t.Errorf("what serves: %v", err)
	}
	if _, err := r.Abandon(t.Context(), "nothing", "tester"); !isNotFound(err) {
		t.Errorf("what is not declared: %v", err)
	}
	f.rebuildHeld(r)
	f.awaitHeld()
	if got, want := f.abandon(f.runner(quick(8), all()...)), "[{1 2 ready}]"; got != want { // from another process
		t.Errorf("dropped %s, want %s", got, want)
	}
	f.clean()
	if f.builds() != "1/1 serving" || f.serving("note") != "note_v1" {
		t.Errorf("builds %s, and the view shows %s", f.builds(), f.serving("note"))
	}

	// The number is free again, and the next build goes its way.
	f.rebuildHeld(r)
	f.awaitHeld()
	if err := r.Switch(t.Context(), "note", "tester"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Abandon(t.Context(), "note", "tester"); rule(err) != "projection-without-build" || f.builds() != "1/1 standby, 1/2 serving" {
		t.Errorf("what is kept for the way back: %v, builds %s", err, f.builds())
	}
	story(t, f.log, 10)
	f.caughtUp("note", "total", "line")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.same()
	f.clean()
}

// The new build has the number and the generation of the one that was abandoned, and whoever works looks only now and then: it
// took the one for the other and did nothing.
func TestReproBuildBegunAtOnceBehindAnAbandonedOneIsNoticed(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	opts := quick(8)
	opts.Heartbeat = 500 * time.Millisecond // the next look finds the other build
	r := f.runner(opts, noteFold(&whole))
	stop := f.start(r)
	f.caughtUp("note")
	f.rebuildHeld(r)
	f.await("the build to wait", func() bool { return f.stage("note", 1, 2) == build.Ready })
	f.abandon(r)
	f.rebuildHeld(r)
	f.await("the next build to wait", func() bool { return f.stage("note", 1, 2) == build.Ready })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.clean()
}

// One that cannot go on kept readiness degraded until somebody built another.
func TestBuildThatCannotGoOnIsAbandoned(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	broken := true
	story(t, f.log, 20)
	f.log.write(t, 3, written{Text: "panic"})
	r := f.runner(quick(8), noteFold(&broken), totals)
	stop := f.start(r)
	f.caughtUp("note", "total")
	f.rebuild(r, "note")
	f.awaitProblem("note")
	if got := f.abandon(r); !strings.HasPrefix(got, "[{1 2 ") {
		t.Errorf("dropped %s", got)
	}
	list, err := r.Status(t.Context())
	if err != nil || len(list[0].Builds) != 1 {
		t.Errorf("got %+v, %v", list[0], err)
	}
	f.clean()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// Nothing else could answer.
func TestFirstBuildIsNotAbandoned(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	r := f.runner(quick(8), noteFold(&whole), totals)
	f.rebuild(r, "note")
	if _, err := r.Abandon(t.Context(), "note", "tester"); rule(err) != "projection-not-serving" {
		t.Errorf("got %v", err)
	}
	f.catchUp(r)
}

// Whoever works on the build is in the middle of something: it ends without trouble, at each point of a build's life.
func TestBuildIsAbandonedWhileItIsWorkedOn(t *testing.T) {
	t.Parallel()
	for _, point := range []string{apply.StepBegin, apply.StepApplied, stepIndex, stepIndexed, stepVerify, stepVerified} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			story(t, f.log, 30)
			building := false
			var mu sync.Mutex
			var once sync.Once
			met, abandoned := make(chan struct{}), make(chan struct{})
			opts := quick(500)
			trouble := spotter{slog.DiscardHandler, "projection halted", make(chan struct{}, 1)}
			opts.Logger = slog.New(trouble)
			opts.Step = func(at string) error {
				mu.Lock()
				now := building && at == point
				mu.Unlock()
				if now {
					once.Do(func() {
						close(met)
						if point != apply.StepApplied { // there it holds the checkpoint, and is waited for
							<-abandoned
						}
					})
				}
				return nil
			}
			r := f.runner(opts, noteFold(&whole))
			stop := f.start(r)
			f.caughtUp("note")
			mu.Lock()
			building = true
			mu.Unlock()
			f.rebuildHeld(r)
			<-met
			f.abandon(f.runner(quick(8), noteFold(&whole)))
			close(abandoned)
			f.clean()
			story(t, f.log, 10)
			f.caughtUp("note")
			f.healed(r)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-trouble.seen:
				t.Error("what was abandoned is reported as halted")
			default:
			}
			sameRows[note](f, noteFold(&whole), "note_id", nil)
			if f.builds() != "1/1 serving" {
				t.Errorf("builds %s", f.builds())
			}
			f.clean()
		})
	}
}

// A build that was begun under the number of one that was just dropped, after new builds were adopted and before the
// checkpoints were read, was taken for the one that was dropped, whose table is gone: it was halted for good.
func TestReproBuildBegunWhileCheckpointsAreReadWaitsItsTurn(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	r := f.runner(quick(8), noteFold(&whole))
	stop := f.start(r)
	f.caughtUp("note")
	f.rebuildHeld(r)
	f.awaitHeld()
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	tm := r.newTerm(r.projections)
	if err := tm.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.abandon(r)
	f.rebuildHeld(r)
	if err := tm.load(t.Context()); err != nil || len(tm.members) != 1 || tm.members[0].Number != 1 {
		t.Fatalf("%d members, the first %s: %v", len(tm.members), tm.members[0].Label(), err)
	}
	if err := tm.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tm.load(t.Context()); err != nil || len(tm.members) != 2 || !tm.members[1].At.IsZero() {
		t.Fatalf("%d members once it is adopted: %v", len(tm.members), err)
	}
	f.clean()
}

// A build became ready, and the round that had noted so ended before it could wake whoever switches: it waited for the next
// sweep, a minute.
func TestReproBuildFoundReadyIsSwitchedTo(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	r := f.runner(quick(8), noteFold(&whole))
	stop := f.start(r)
	f.caughtUp("note")
	f.rebuildHeld(r)
	f.awaitHeld()
	const released = "update projection.checkpoint set hold = false, generation = generation + 1 where name = 'note' and build = 2"
	if _, err := f.pool.Exec(t.Context(), released); err != nil { // the round ends, and nobody is woken
		t.Fatal(err)
	}
	f.awaitBuild("note", 1, 2)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameRows[note](f, noteFold(&whole), "note_id", nil)
}
