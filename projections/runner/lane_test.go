package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

var errInjected = errors.New("injected")

// takeOver makes r the owner and returns its lanes, to be fed by hand.
func (f *fixture) takeOver(r *Runner) []*lane {
	f.t.Helper()
	tm := r.newTerm(r.projections)
	if err := errors.Join(tm.take(f.t.Context()), tm.load(f.t.Context()), tm.verify(f.t.Context())); err != nil {
		f.t.Fatal(err)
	}
	for _, m := range tm.members {
		err := pgx.BeginFunc(f.t.Context(), f.pool, func(tx pgx.Tx) error { return build.PointView(f.t.Context(), tx, m.Key, m.Doc) })
		if err != nil {
			f.t.Fatal(err)
		}
	}
	tm.running = tm.lanes()
	return tm.running
}

// batch cuts a batch out of the log.
func (f *fixture) batch(from, to int) *bus.Batch {
	events, _ := f.log.after(domain.Position{})
	b := &bus.Batch{}
	if from > 0 {
		b.After = events[from-1].Position
	}
	for _, raw := range events[from:to] {
		event, err := f.log.registry.Decode(raw)
		b.Items = append(b.Items, bus.Item{Raw: raw, Event: event, Err: err})
		b.End = raw.Position
	}
	return b
}

func (f *fixture) handle(l *lane, b *bus.Batch) {
	f.t.Helper()
	if err := l.handle(f.t.Context(), b); err != nil {
		f.t.Fatal(err)
	}
}

// clear drops everything for another run with the same database.
func (f *fixture) clear(r *Runner) {
	f.t.Helper()
	err := pgx.BeginFunc(f.t.Context(), f.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(f.t.Context(), "select name, version, build from projection.checkpoint")
		if err != nil {
			return err
		}
		builds, err := pgx.CollectRows(rows, build.ScanKey)
		for _, key := range builds {
			_, failed := tx.Exec(f.t.Context(), "drop table if exists projection."+key.Table()+" cascade")
			err = errors.Join(err, failed)
		}
		for _, table := range []string{"parked_event", "parked_stream", "checkpoint"} {
			_, failed := tx.Exec(f.t.Context(), "delete from projection."+table)
			err = errors.Join(err, failed)
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.log = newLog(f.t)
	r.source = f.log
}

// P2: TestRowsDoNotDependOnDelivery cuts a random log into random batches, delivers batches again, fails between any two steps
// and restarts, with caches that hold anything from one row to all.
func TestRowsDoNotDependOnDelivery(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.catchUp(f.runner(quick(1), all()...))
	points, _ := Steps()
	rapid.Check(t, func(rt *rapid.T) {
		opts := quick(1)
		opts.CacheRows = rapid.IntRange(1, 20).Draw(rt, "cache")
		r := f.runner(opts, all()...)
		f.clear(r)
		for i := range rapid.IntRange(1, 60).Draw(rt, "events") {
			f.log.write(t, rapid.IntRange(0, 5).Draw(rt, "note"), written{
				Text:   rapid.StringN(0, 6, -1).Filter(storable).Draw(rt, "text"),
				Amount: domain.MustMoney(fmt.Sprintf("%d.5", i), "EUR").Amount,
				Erase:  rapid.IntRange(0, 4).Draw(rt, "erase") == 0,
			})
		}
		size := len(f.log.events)
		l := f.takeOver(r)[0]
		for at := 0; at < size; {
			from := max(0, at-rapid.IntRange(0, 10).Draw(rt, "overlap"))
			to := min(size, at+rapid.IntRange(0, 20).Draw(rt, "batch"))
			if from >= to {
				continue
			}
			b := f.batch(from, to)
			switch rapid.IntRange(0, 5).Draw(rt, "fate") {
			case 0: // fails at a step; the same batch comes again
				point := rapid.SampledFrom(points).Draw(rt, "point")
				failOnce(r, point)
				if err := l.handle(t.Context(), b); err != nil && !errors.Is(err, errInjected) {
					rt.Fatal(err)
				}
				r.step = func(string) error { return nil }
			case 1: // the process restarts
				l = f.takeOver(r)[0]
			}
			if err := l.handle(t.Context(), b); err != nil {
				rt.Fatal(err)
			}
			at = max(at, to)
		}
		f.same()
	})
}

func storable(s string) bool { return !slices.Contains([]rune(s), 0) }

// failOnce makes the next batch fail at a step.
func failOnce(r *Runner, point string) {
	failed := false
	r.step = func(at string) error {
		if at == point && !failed {
			failed = true
			return errInjected
		}
		return nil
	}
}

// P11, at the level of one batch.
func TestOwnerOfAnOldEpochWritesNothing(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	old := f.takeOver(f.runner(quick(1), all()...))[0]
	f.handle(old, f.batch(0, 10))
	young := f.takeOver(f.runner(quick(1), all()...))[0]
	if err := old.handle(t.Context(), f.batch(10, 20)); !errors.Is(err, fault.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if n := len(rowsOf[line](f, "line", "position")); n != len(expect[line](f, lines, f.log.behind(10))) {
		t.Errorf("%d lines", n)
	}
	f.handle(young, f.batch(10, 30))
	if err := old.handle(t.Context(), f.batch(10, 30)); !errors.Is(err, fault.ErrFenced) {
		t.Errorf("got %v", err)
	}
	f.same()
}

// P4: a replica that took over and lags by some commits.
func TestDatabaseThatHasLostCommitsIsReadAnew(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	l := f.takeOver(f.runner(quick(1), all()...))[0]
	f.handle(l, f.batch(0, 10))
	const lose = "update projection.checkpoint set commit_position = $1, prepare_position = $1"
	if _, err := f.pool.Exec(t.Context(), lose, f.log.events[4].Position.Commit); err != nil {
		t.Fatal(err)
	}
	if err := l.handle(t.Context(), f.batch(10, 20)); !errors.Is(err, fault.ErrStale) {
		t.Errorf("got %v", err)
	}
	if err := l.handle(t.Context(), f.batch(10, 20)); !errors.Is(err, fault.ErrRegroup) {
		t.Errorf("got %v", err)
	}
}

// What was in hand when the runner was stopped is not tried again, and is no trouble that is waited for.
func TestReproStoppedWorkIsNotTakenForTrouble(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	untroubled := func(r *Runner) {
		t.Helper()
		r.metrics.mu.Lock()
		defer r.metrics.mu.Unlock()
		if r.Err() != nil || len(r.metrics.classes) > 0 {
			t.Errorf("trouble %v, retries %v", r.Err(), r.metrics.classes)
		}
	}
	stopAt := func(r *Runner, point string) context.Context {
		ctx, stop := context.WithCancel(t.Context())
		t.Cleanup(stop)
		r.step = func(at string) error {
			if at == point {
				stop()
			}
			return nil
		}
		return ctx
	}
	r := f.runner(quick(8), all()...)
	if err := r.Run(stopAt(r, stepIndex)); err != nil {
		t.Error(err)
	}
	untroubled(r)
	r = f.runner(quick(8), all()...)
	f.catchUp(r)
	f.clear(r)
	story(t, f.log, 30)
	l := f.takeOver(r)[0]
	if err := l.handle(stopAt(r, apply.StepApplied), f.batch(0, 10)); !errors.Is(err, context.Canceled) {
		t.Errorf("a batch went on: %v", err)
	}
	untroubled(r)
}

// P18: a lane that is made anew, as for a frozen reader, has not moved by that.
func TestReproLaneMadeAnewStandsWhereItStood(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	f.handle(f.takeOver(f.runner(quick(1), all()...))[0], f.batch(0, 10))
	l := f.takeOver(f.runner(quick(1), all()...))[0] // has not begun to read
	if at, _, some := l.term.slowest(); !some || at != f.log.events[9].Position {
		t.Errorf("at %s, %t; want %s", at, some, f.log.events[9].Position)
	}
}

// S13: the database is replaced, under a running projector, by one whose rows come from another log and stand at the same
// position. What verify finds at the start is found before every commit, too.
func TestRowsThatBecomeThoseOfAnotherLogAreNotBuiltUpon(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	l := f.takeOver(f.runner(quick(1), all()...))[0]
	f.handle(l, f.batch(0, 10))
	if _, err := f.pool.Exec(t.Context(), "update projection.checkpoint set log_id = 'other'"); err != nil {
		t.Fatal(err)
	}
	before := f.everything()
	var mismatch *build.LogMismatchError
	if err := l.handle(t.Context(), f.batch(10, 20)); !errors.As(err, &mismatch) || mismatch.Stored != "other" || mismatch.Actual != "log" {
		t.Errorf("got %v", err)
	}
	if after := f.everything(); after != before {
		t.Errorf("rows changed:\n%s\n%s", before, after)
	}
}
