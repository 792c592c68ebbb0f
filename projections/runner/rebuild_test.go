package runner

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

// tables lists the tables of projections that there are, and those that there should be.
func (f *fixture) tables() (found, wanted []string) {
	f.t.Helper()
	const fixed = `select tablename::text from pg_tables where schemaname = 'projection'
	and tablename not in ('checkpoint', 'owner', 'migration', 'parked_stream', 'parked_event', 'parked_audit', 'reactor', 'reader') order by 1`
	for sql, into := range map[string]*[]string{
		fixed: &found,
		`select name || '_v' || version || case when build > 1 then '_b' || build else '' end from projection.checkpoint order by 1`: &wanted,
	} {
		rows, err := f.conn.Query(f.t.Context(), sql)
		if err == nil {
			*into, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	slices.Sort(found)
	slices.Sort(wanted)
	return found, wanted
}

// eventually returns when a condition holds of which nobody notifies.
func (f *fixture) eventually(what string, holds func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("waiting for %s", what)
		}
	}
}

// clean checks that nothing is left over: a table for each checkpoint, and no other.
func (f *fixture) clean() {
	f.t.Helper()
	if found, wanted := f.tables(); !slices.Equal(found, wanted) {
		f.t.Errorf("tables %v, checkpoints of %v", found, wanted)
	}
}

// readers query the views until stopped, from a pool that prepares its statements, and report what goes wrong: an error, or
// a log that has become shorter.
func (f *fixture) readers(n int) (stop func() (reads int64)) {
	f.t.Helper()
	pool, err := pgxpool.New(f.t.Context(), f.pool.Config().ConnString())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(pool.Close)
	ctx, cancel := context.WithCancel(f.t.Context())
	var working sync.WaitGroup
	var reads atomic.Int64
	for range n {
		working.Go(func() {
			var longest, most int64
			for ctx.Err() == nil {
				var lines, counted, notes int64
				err := pool.QueryRow(ctx, "select count(*) from rapport.line").Scan(&lines)
				if err == nil {
					err = pool.QueryRow(ctx, "select coalesce(sum(t.count), 0), (select count(*) from rapport.note n) from rapport.total t where t.length = -1").Scan(&counted, &notes)
				}
				switch {
				case ctx.Err() != nil:
				case err != nil:
					f.t.Errorf("a read failed: %v", err)
					return
				case lines < longest || counted < most:
					f.t.Errorf("readers went back in time: %d lines after %d, %d counted after %d", lines, longest, counted, most)
					return
				}
				longest, most = lines, counted
				reads.Add(1)
			}
		})
	}
	return sync.OnceValue(func() int64 {
		cancel()
		working.Wait()
		return reads.Load()
	})
}

// writer appends to the log until stopped, one event whenever some projection has the last: a build, which takes many at once,
// catches up with that on a slow machine too.
func (f *fixture) writer() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			head, _ := f.log.Head(ctx)
			var read int64
			err := f.pool.QueryRow(ctx, "select max(commit_position) from projection.checkpoint").Scan(&read)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				f.t.Errorf("how far the log is read: %v", err)
				return
			case read >= int64(head.Position.Commit):
				f.log.write(f.t, i%9, written{Text: fmt.Sprint("w", i%100), Amount: domain.MustMoney("1", "EUR").Amount})
				i++
			}
		}
	})
	return sync.OnceFunc(func() { cancel(); working.Wait() })
}

// P12, P13: rebuilds, switches and rollbacks under write load; no read fails or goes back in time.
func TestReadersNoticeNothingOfRebuildsAndRollbacks(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 200)
	r := f.runner(quick(32), all()...)
	stop := f.start(r)
	f.caughtUp("note", "total", "line")
	stopReading, stopWriting := f.readers(3), f.writer()
	for build := 2; build <= 4; build++ {
		f.rebuild(r, "line", "total", "note")
		for _, name := range []string{"note", "total", "line"} {
			f.awaitBuild(name, 1, build)
		}
	}
	for _, step := range []func(context.Context, string, string) error{r.Rollback, r.Rollback, r.Rollback} {
		for _, name := range []string{"note", "total", "line"} {
			if err := step(t.Context(), name, "tester"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// A version with other columns takes the view's place.
	stopWriting()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r = f.runner(quick(32), noteFold(&whole), totals, projection.Append[wideLine]{
		Name: "line", Version: 2, Doc: "Lines.", Events: []string{"*"}, Rows: wideLines,
	})
	stop = f.start(r)
	f.awaitBuild("line", 2, 1)
	f.caughtUp("note", "total") // which another lane reads
	if reads := stopReading(); reads < 10 {
		t.Errorf("only %d reads", reads)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameRows[note](f, noteFold(&whole), "note_id", nil)
	sameRows[total](f, totals, "length", nil)
	f.clean()
}

// wideLine is a line with a column more, in the middle.
type wideLine struct {
	Tenant   domain.Tenant `db:"tenant,key"`
	Position int64         `db:"position,key"`
	Length   int           `db:"length"`
	Note     domain.ID     `db:"note_id"`
}

func wideLines(e domain.Recorded) (rows []wideLine) {
	for _, l := range lines.Rows(e) {
		rows = append(rows, wideLine{l.Tenant, l.Position, len(l.Text), l.Note})
	}
	return rows
}

// counting counts the subscriptions of a log that begin at its beginning.
type counting struct {
	*memoryLog
	scans atomic.Int32
}

func (l *counting) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	if after.Position.IsZero() {
		l.scans.Add(1)
	}
	return l.memoryLog.Subscribe(ctx, after)
}

// P12: two rebuilds at once share a scan, also while what serves has not caught up.
func TestRebuildsShareOneScanBesideALaggard(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 50)
	f.catchUp(f.runner(quick(8), all()...))
	story(t, f.log, 500)
	r := f.runner(quick(8), all()...)
	log := &counting{memoryLog: f.log}
	r.source = log
	f.rebuild(r, "total", "note")
	f.rebuild(r, "note") // it is on its way
	stop := f.start(r)
	f.awaitBuild("note", 1, 2)
	f.awaitBuild("total", 1, 2)
	f.caughtUp("line")
	if n := log.scans.Load(); n != 1 {
		t.Errorf("%d scans", n)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.same()
	f.clean()
}

// P12: a process that dies at any point of a rebuild leaves nothing that the next does not go on with or clear away.
func TestDeathAtAnyPointOfARebuild(t *testing.T) {
	t.Parallel()
	batch, life := Steps()
	for _, point := range append(batch, life...) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			story(t, f.log, 60)
			f.catchUp(f.runner(quick(16), all()...))
			opts := quick(16)
			opts.Grace, opts.BuildBytes, opts.Sweep = -1, 2_000, 10*time.Millisecond
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			hits := 0
			var mu sync.Mutex
			opts.Step = func(at string) error {
				mu.Lock()
				defer mu.Unlock()
				if at != point {
					return nil
				}
				if hits++; hits < 2 && slices.Contains(batch, at) {
					return nil
				}
				kill()
				return context.Canceled
			}
			r := f.runner(opts, all()...)
			f.rebuild(r, "note", "total")
			stopWriting := f.writer()
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Second):
				t.Fatal("the point was never reached")
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			opts.Step = nil
			r = f.runner(opts, all()...)
			stop := f.start(r)
			stopWriting()
			f.awaitBuild("note", 1, 2)
			f.awaitBuild("total", 1, 2)
			f.caughtUp("line")
			f.eventually("the old tables to be dropped", func() bool { found, _ := f.tables(); return len(found) == 3 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			f.same()
			f.clean()
		})
	}
}

// P13: what was switched away from is kept up to date, and is returned to in one transaction.
func TestRollbackReturnsToATableThatWasKeptUpToDate(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	r := f.runner(quick(8), all()...)
	stop := f.start(r)
	f.caughtUp("note", "total", "line")
	if err := r.Rollback(t.Context(), "note", "tester"); rule(err) != "projection-without-predecessor" {
		t.Errorf("got %v", err)
	}
	if err := r.Rebuild(t.Context(), build.Ask{Projections: []string{"note"}, Hold: true}); err != nil {
		t.Fatal(err)
	}
	f.await("the build to wait", func() bool { return f.stage("note", 1, 2) == build.Ready })
	story(t, f.log, 10)
	if err := r.Switch(t.Context(), "note", "tester"); err != nil {
		t.Fatal(err)
	}
	if err := r.Switch(t.Context(), "note", "tester"); rule(err) != "projection-not-ready" {
		t.Errorf("got %v", err)
	}
	if f.serving("note") != "note_v1_b2" {
		t.Errorf("the view shows %s", f.serving("note"))
	}
	story(t, f.log, 10)
	f.awaitBuild("note", 1, 2)
	if err := r.Rollback(t.Context(), "note", "tester"); err != nil {
		t.Fatal(err)
	}
	if f.serving("note") != "note_v1" {
		t.Errorf("the view shows %s", f.serving("note"))
	}
	f.awaitBuild("note", 1, 1)
	f.caughtUp("total", "line")
	f.same()
	story(t, f.log, 10)
	f.awaitBuild("note", 1, 1)
	f.caughtUp("total", "line")
	f.same()
	if err := r.Rollback(t.Context(), "note", "tester"); err != nil { // and forth again
		t.Fatal(err)
	}
	f.awaitBuild("note", 1, 2)
	f.same()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var left time.Duration
	const sql = "select drop_at - now() from projection.checkpoint where name = 'note' and state = 'standby'"
	if err := f.conn.QueryRow(t.Context(), sql).Scan(&left); !errors.As(err, new(pgx.ScanArgError)) && err == nil {
		t.Errorf("what was rolled back goes in %s, which is for what was replaced", left)
	}
}

func rule(err error) string {
	var no *domain.Rejection
	if errors.As(err, &no) {
		return no.Rule
	}
	return ""
}

func (f *fixture) stage(name string, version, build int) (state string) {
	f.t.Helper()
	const sql = "select state from projection.checkpoint where name = $1 and version = $2 and build = $3"
	if err := f.conn.QueryRow(f.t.Context(), sql, name, version, build).Scan(&state); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		f.t.Fatal(err)
	}
	return state
}

// serving returns the table that a view shows.
func (f *fixture) serving(name string) (table string) {
	f.t.Helper()
	const sql = "select table_name from information_schema.view_table_usage where view_schema = 'rapport' and view_name = $1"
	if err := f.conn.QueryRow(f.t.Context(), sql, name).Scan(&table); err != nil {
		f.t.Fatal(err)
	}
	return table
}

// P14: poison ends a rebuild visibly, and what serves goes on.
func TestPoisonEndsARebuildAlone(t *testing.T) {
	t.Parallel()
	for name, poison := range poisons {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			broken := true
			story(t, f.log, 20)
			poison(f, &broken)
			for i := range 20 { // without erasures, after which nobody would see the poison
				f.log.write(t, i%7, written{Text: fmt.Sprint(i)})
			}
			opts, metrics := quick(8), prometheus.NewRegistry()
			opts.Registerer = metrics
			r := f.runner(opts, noteFold(&broken), totals)
			stop := f.start(r)
			f.caughtUp("note", "total")
			before := rowsOf[note](f, "note", "note_id")
			f.rebuild(r, "note")
			if problem := f.awaitProblem("note"); !strings.Contains(problem, "cannot be applied") {
				t.Errorf("problem %q", problem)
			}
			list, err := f.patient(noteFold(&broken), totals).Status(t.Context())
			if err != nil || list[0].State != Running || list[0].Healthy() || len(list[0].Builds) != 2 || list[0].Builds[1].Problem == "" {
				t.Errorf("got %+v, %v", list[0], err)
			}
			if note, total := counted(t, metrics, "failed_builds", "note"), counted(t, metrics, "failed_builds", "total"); note != 1 || total != 0 {
				t.Errorf("%v and %v builds cannot go on", note, total)
			}
			if after := rowsOf[note](f, "note", "note_id"); len(after) != len(before) || f.serving("note") != "note_v1" {
				t.Errorf("%d rows, %d before, of %s", len(after), len(before), f.serving("note"))
			}
			if err := r.Rebuild(t.Context(), build.Ask{Projections: []string{"note"}, Park: true}); err != nil {
				t.Fatal(err)
			}
			f.awaitBuild("note", 1, 3)
			if after := rowsOf[note](f, "note", "note_id"); len(after) != len(before) {
				t.Errorf("%d rows, %d before", len(after), len(before))
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			f.clean()
		})
	}
}

// P12, D5: a table that says something else than the fold of its events is never switched to.
func TestTableThatIsNotTheFoldIsNotSwitchedTo(t *testing.T) {
	t.Parallel()
	for _, change := range []string{
		"update projection.note_v1_b2 set count = count + 1",
		"delete from projection.note_v1_b2 where note_id = (select max(note_id::text)::uuid from projection.note_v1_b2)",
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			for i := range 30 {
				f.log.write(t, i%5, written{Text: fmt.Sprint(i)})
			}
			f.catchUp(f.runner(quick(8), all()...))
			opts := quick(8)
			opts.Step = func(at string) error {
				if at != stepVerify {
					return nil
				}
				_, err := f.pool.Exec(t.Context(), change)
				return err
			}
			r := f.runner(opts, all()...)
			f.rebuild(r, "note")
			stop := f.start(r)
			if problem := f.awaitProblem("note"); !strings.Contains(problem, "verification") {
				t.Errorf("problem %q", problem)
			}
			story(t, f.log, 10)
			f.caughtUp("note", "total", "line")
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			f.same()
		})
	}
}

// P12: a newer binary builds its version beside that of an older one, which goes on as long as that runs.
func TestNewerVersionIsBuiltBesideTheOlderProcess(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 40)
	older := f.start(f.runner(quick(8), noteFold(&whole), totals))
	f.caughtUp("note", "total")
	raised := noteFold(&whole)
	raised.Version, raised.Indexes = 2, nil
	r := f.runner(quick(8), raised, totals)
	newer := f.start(r)
	f.awaitBuild("note", 2, 1)
	story(t, f.log, 20)
	head, _ := f.log.Head(t.Context())
	f.await("both versions to move on", func() bool {
		const sql = "select count(*) from projection.checkpoint where name = 'note' and commit_position = $1"
		var n int
		if err := f.conn.QueryRow(t.Context(), sql, int64(head.Position.Commit)).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 2
	})
	if err := r.Rollback(t.Context(), "note", "tester"); err != nil {
		t.Fatal(err)
	}
	if f.serving("note") != "note_v1" {
		t.Errorf("the view shows %s", f.serving("note"))
	}
	sameRows[note](f, noteFold(&whole), "note_id", nil)
	if err := older(); err != nil {
		t.Fatal(err)
	}
	story(t, f.log, 20)
	f.caughtUp("total") // which the newer process takes over
	list, err := r.Status(t.Context())
	if err != nil || list[0].Version != 1 || !list[0].Readable {
		t.Errorf("got %+v, %v", list[0], err)
	}
	if err := newer(); err != nil {
		t.Fatal(err)
	}
}

// An older binary does not take the view back by itself.
func TestOlderBinaryLeavesANewerVersionAlone(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 20)
	raised := noteFold(&whole)
	raised.Version = 2
	f.catchUp(f.runner(quick(8), raised, totals))
	r := f.runner(quick(8), noteFold(&whole), totals)
	stop := f.start(r)
	story(t, f.log, 20)
	f.caughtUp("total")
	if f.stage("note", 1, 1) != "" || f.serving("note") != "note_v2" {
		t.Errorf("version 1 is %q, the view shows %s", f.stage("note", 1, 1), f.serving("note"))
	}
	f.rebuild(r, "note") // unless somebody says so
	f.awaitBuild("note", 1, 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameRows[note](f, noteFold(&whole), "note_id", nil)
}

// P12: what is not declared any more is dropped when its time is over, and what an older binary left half built.
func TestLeftoversOfOtherBinariesAreDropped(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 20)
	f.catchUp(f.runner(quick(8), all()...))
	opts := quick(8)
	opts.Grace, opts.Sweep, opts.Heartbeat = -1, 10*time.Millisecond, 10*time.Millisecond
	r := f.runner(opts, noteFold(&whole), totals)
	stop := f.start(r)
	f.eventually("the table to be dropped", func() bool { found, _ := f.tables(); return len(found) == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.clean()
}

// P12: of two that ask for the same build at the same time the second joins what the first has begun.
func TestRebuildsAskedForAtTheSameTimeAreOne(t *testing.T) {
	t.Parallel()
	for _, serving := range []bool{false, true} {
		f := setUp(t)
		r := f.runner(quick(8), all()...)
		if serving {
			f.catchUp(r)
		}
		note, err := r.builds().Find("note")
		if err != nil {
			t.Fatal(err)
		}
		first, err := f.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer first.Rollback(context.Background())
		ask := build.Ask{Projections: []string{"note"}, Actor: "first"}
		if err := build.Begin(t.Context(), first, note, ask); err != nil {
			t.Fatal(err)
		}
		second := make(chan error, 1)
		go func() { second <- r.Rebuild(t.Context(), build.Ask{Projections: []string{"note"}, Actor: "second"}) }()
		f.eventually("the second to wait for the first", func() (waits bool) {
			const sql = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"
			if err := f.pool.QueryRow(t.Context(), sql).Scan(&waits); err != nil {
				t.Fatal(err)
			}
			return waits
		})
		if err := first.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-second; err != nil {
			t.Errorf("serving %t: %v", serving, err)
		}
		var builds int
		const sql = "select count(*) from projection.checkpoint where name = 'note' and state = 'building'"
		if err := f.pool.QueryRow(t.Context(), sql).Scan(&builds); err != nil || builds != 1 {
			t.Errorf("serving %t: %d builds are made, %v", serving, builds, err)
		}
	}
}
