package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// renamed is an event that an older binary does not know.
type renamed struct {
	Name string `json:"name"`
}

func (renamed) EventType() string { return "note.renamed" }

// upgraded is the registry of the newer binary.
func upgraded(t *testing.T) *codec.Registry {
	t.Helper()
	r, err := codec.New(domain.Definition{Name: "note", Plural: "notes", Doc: "A note.", Events: []domain.EventSpec{
		{Example: renamed{"a"}, Doc: "It got another name."},
		{Example: written{Text: "a"}, Doc: "Somebody wrote something.", Schema: 2,
			Upcasts: []domain.Upcaster{domain.Upcast(1, func(w written) written { return w })}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// awaitProblem waits until a build of a projection is halted.
func (f *fixture) awaitProblem(name string) (problem string) {
	f.t.Helper()
	f.await(name+" halted", func() bool {
		const sql = "select problem from projection.checkpoint where name = $1 and problem <> ''"
		if err := f.conn.QueryRow(f.t.Context(), sql, name).Scan(&problem); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			f.t.Fatal(err)
		}
		return problem != ""
	})
	return problem
}

// awaitBuild waits until a build of a projection serves and has the whole log.
func (f *fixture) awaitBuild(name string, version, build int) {
	f.t.Helper()
	head, _ := f.log.Head(f.t.Context())
	f.await(fmt.Sprint(name, version, build), func() bool {
		const sql = `select exists (select from projection.checkpoint
			where name = $1 and version = $2 and build = $3 and state = 'serving' and commit_position >= $4)`
		var serves bool
		if err := f.conn.QueryRow(f.t.Context(), sql, name, version, build, int64(head.Position.Commit)).Scan(&serves); err != nil {
			f.t.Fatal(err)
		}
		return serves
	})
}

// rebuild asks for new builds.
func (f *fixture) rebuild(r *Runner, names ...string) {
	f.t.Helper()
	if err := r.Rebuild(f.t.Context(), build.Ask{Projections: names, Actor: "tester"}); err != nil {
		f.t.Fatal(err)
	}
}

// P9: an event of a newer kind, or of a newer schema, is for a newer binary; until then nobody goes past it.
func TestNewerEventsHaltOnlyWhomTheyConcern(t *testing.T) {
	t.Parallel()
	for name, newer := range map[string]func(codec.Raw) codec.Raw{
		"unknown type": func(raw codec.Raw) codec.Raw { raw.Type = "note.renamed"; return raw },
		"newer schema": func(raw codec.Raw) codec.Raw {
			raw.Metadata = []byte(strings.Replace(string(raw.Metadata), `"schema":1`, `"schema":2`, 1))
			return raw
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			old := f.log.registry
			story(t, f.log, 20)
			other := projection.Append[line]{Name: "other", Version: 1, Doc: "Others.", Events: []string{"other.happened"},
				Rows: func(domain.Recorded) []line { return nil }}
			declared := []projection.Projection{noteFold(&whole), other}
			stop := f.start(f.runner(quick(7), declared...))
			f.caughtUp("note", "other")
			f.log.odd(newer(f.log.events[0]))
			story(t, f.log, 20)
			if problem := f.awaitProblem("note"); !strings.Contains(problem, "upgrade") {
				t.Errorf("problem %q", problem)
			}
			f.caughtUp("other")
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			sameRows[note](f, noteFold(&whole), "note_id", f.log.behind(20))

			f.log.registry = upgraded(t)
			renames := noteFold(&whole)
			renames.Evolve = func(r note, k noteKey, e domain.Recorded) note {
				if _, ok := e.Event.(written); ok {
					return evolveNote(&whole)(r, k, e)
				}
				return r
			}
			f.catchUp(f.runner(quick(7), renames, other))
			sameRows[note](f, renames, "note_id", nil)
			f.log.registry = old
		})
	}
}

// keyring is a decoder that gets the key of sealed events when somebody turns it.
type keyring struct {
	bus.Decoder
	turned atomic.Bool
}

func (k *keyring) Decode(raw codec.Raw) (domain.Recorded, error) {
	e, err := k.Decoder.Decode(raw)
	if errors.Is(err, codec.ErrSealed) && k.turned.Load() {
		raw.Metadata = bytes.Replace(raw.Metadata, []byte(seal), nil, 1)
		return k.Decoder.Decode(raw)
	}
	return e, err
}

const seal = `"sealed":{"key":"1"},`

// An event that cannot be opened halts the projections that it concerns, is never parked, and they go on from the same place, without
// a restart, when there is a key.
func TestSealedEventHaltsUntilItCanBeOpened(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	keys := &keyring{Decoder: f.log.registry}
	story(t, f.log, 20)
	opened := slices.Clone(f.log.events)
	story(t, f.log, 20)
	at := len(opened) + 3
	raw := f.log.events[at]
	raw.Metadata = bytes.Replace(raw.Metadata, []byte(`{`), []byte(`{`+seal), 1)
	f.log.events[at] = raw
	other := projection.Append[line]{Name: "other", Version: 1, Doc: "Others.", Events: []string{"other.happened"},
		Rows: func(domain.Recorded) []line { return nil }}
	opts := quick(7)
	opts.Unseal = time.Millisecond
	r, err := New(f.pool, f.log, keys, []projection.Projection{noteFold(&whole), totals, other}, opts)
	if err != nil {
		t.Fatal(err)
	}
	stop := f.start(r)
	if problem := f.awaitProblem("note"); !strings.Contains(problem, "sealed") || !strings.Contains(problem, raw.Position.String()) {
		t.Errorf("problem %q", problem)
	}
	f.caughtUp("other")
	statuses, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statuses {
		if s.ParkedEvents != 0 || s.Name == "note" && (s.State != Halted || s.Healthy() || !s.Position.Before(raw.Position)) {
			t.Errorf("%+v", s)
		}
	}
	keys.turned.Store(true)
	f.caughtUp("note", "total", "other")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.log.events[at].Metadata = bytes.Replace(raw.Metadata, []byte(seal), nil, 1)
	sameRows[note](f, noteFold(&whole), "note_id", nil)
}

// P9: what nobody here reads is passed over, and counted.
func TestUnknownEventOfAnotherKindIsPassedOver(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.log.odd(codec.Raw{Type: "weather.changed", Stream: "elsewhere", Data: []byte(`{}`), Metadata: []byte(`{}`)})
	story(t, f.log, 5)
	opts, metrics := quick(2), prometheus.NewRegistry()
	opts.Registerer = metrics
	f.catchUp(f.runner(opts, noteFold(&whole), totals))
	sameRows[note](f, noteFold(&whole), "note_id", nil)
	if n := counted(t, metrics, "ignored_events_total", "note"); n != 1 {
		t.Errorf("%v events were ignored", n)
	}
}

// S13 of docs/faults.md.
func TestRowsOfAnotherLogAreRefused(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 5)
	f.catchUp(f.runner(quick(10), all()...))
	other := newLog(t)
	other.id = "other"
	story(t, other, 9)
	f.log = other
	r := f.runner(quick(10), all()...)
	var mismatch *build.LogMismatchError
	if err := r.Run(t.Context()); !errors.As(err, &mismatch) || mismatch.Stored != "log" || mismatch.Actual != "other" {
		t.Fatalf("got %v", err)
	}
	f.rebuild(r, "note", "total", "line")
	stop := f.start(r)
	for _, name := range []string{"note", "total", "line"} {
		f.awaitBuild(name, 1, 2)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.same()
}

// S13 of docs/faults.md.
func TestLogThatEndsBeforeTheRowsIsRefused(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 9)
	f.catchUp(f.runner(quick(10), all()...))
	head, event := f.log.events[4], f.log.events[8]
	f.log.events = f.log.events[:5]
	statuses, err := f.runner(quick(10), all()...).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statuses {
		if s.State != Halted || s.Healthy() {
			t.Errorf("%s is %s before anybody has verified it", s.Name, s.State)
		}
	}
	var history *build.OtherHistoryError
	if err := f.runner(quick(10), all()...).Run(t.Context()); !errors.As(err, &history) || history.Head != head.Position || history.Event != markOf(event) {
		t.Errorf("got %v", err)
	}
}

// D5 of docs/faults.md.
func TestNewAndRebuiltProjectionsCatchUpAndJoin(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 60)
	f.catchUp(f.runner(quick(8), noteFold(&whole), lines))
	story(t, f.log, 60)
	r := f.runner(quick(8), all()...) // totals is new
	stop := f.start(r)
	f.caughtUp("note", "total", "line")
	f.same()
	if _, err := f.pool.Exec(t.Context(), "create view mine as select sum(count) from rapport.total where length < 0"); err != nil {
		t.Fatal(err)
	}
	cli := f.runner(quick(8), all()...)
	f.rebuild(cli, "total")
	story(t, f.log, 30)
	f.awaitBuild("total", 1, 2)
	f.caughtUp("note", "total", "line")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.same()
	var sum int
	if err := f.conn.QueryRow(t.Context(), "select * from mine").Scan(&sum); err != nil || sum != 150 {
		t.Errorf("the analyst's view says %d, %v", sum, err)
	}
}

// P11 of docs/faults.md.
func TestSecondProcessWaitsAndTakesOver(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 20)
	stopFirst := f.start(f.runner(quick(8), all()...))
	f.caughtUp("note", "total", "line")
	stopSecond := f.start(f.runner(quick(8), all()...))
	story(t, f.log, 20)
	f.caughtUp("note", "total", "line")
	if err := stopFirst(); err != nil {
		t.Fatal(err)
	}
	story(t, f.log, 20)
	f.caughtUp("note", "total", "line")
	if err := stopSecond(); err != nil {
		t.Fatal(err)
	}
	f.same()
}

// A process that had lost its connections, or stood still, and found another at work when it came back, went on saying so for
// as long as it waited: after a restart of PostgreSQL all processes but one were unready for good.
func TestReproWaitingProcessHasNoOldTrouble(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 20)
	first := f.start(f.runner(quick(8), all()...))
	f.caughtUp("note", "total", "line")
	r := f.runner(quick(8), all()...)
	r.health(roundHealth, errInjected)
	r.freeze(ErrFrozen)
	second := f.start(r)
	f.eventually("the trouble to be forgotten", func() bool { return r.Err() == nil })
	if err := errors.Join(second(), first()); err != nil {
		t.Fatal(err)
	}
}

// P4: every connection is cut, several times.
func TestLostConnectionsHeal(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 50)
	r := f.runner(quick(3), all()...)
	calls := 0
	r.step = func(point string) error {
		if point != apply.StepApplied {
			return nil
		}
		if calls++; calls%5 != 0 || calls > 20 {
			return nil
		}
		const cut = `select pg_terminate_backend(pid) from pg_stat_activity
			where datname = current_database() and pid not in (pg_backend_pid(), $1)`
		_, err := f.pool.Exec(t.Context(), cut, f.conn.PgConn().PID())
		return err
	}
	f.catchUp(r)
	story(t, f.log, 5)
	f.catchUp(r) // nothing is cut any more
	f.same()
	if r.Err() != nil {
		t.Errorf("still unhealthy: %v", r.Err())
	}
}

// P10: a table that is not as declared is not written to.
func TestTableChangedByHandHaltsItsProjection(t *testing.T) {
	t.Parallel()
	for _, change := range []string{
		"alter table projection.note_v1 drop column share cascade",
		"alter table projection.note_v1 add column mine text",
		"drop view rapport.note; alter table projection.note_v1 alter column count type integer",
		"drop table projection.note_v1 cascade",
	} {
		for _, running := range []bool{false, true} {
			if running && !strings.Contains(change, " drop column") && !strings.HasPrefix(change, "drop table") {
				continue // harmless until the next start
			}
			t.Run(fmt.Sprint(change, running), func(t *testing.T) {
				t.Parallel()
				f := setUp(t)
				story(t, f.log, 10)
				r := f.runner(quick(8), all()...)
				f.catchUp(r)
				if running {
					f.start(r)
					story(t, f.log, 1)
					f.caughtUp("note", "total", "line")
				}
				if _, err := f.pool.Exec(t.Context(), change, pgx.QueryExecModeSimpleProtocol); err != nil {
					t.Fatal(err)
				}
				if !running {
					f.start(r)
				}
				story(t, f.log, 10)
				f.caughtUp("total", "line")
				if problem := f.awaitProblem("note"); !strings.Contains(problem, "rapport projections rebuild note") {
					t.Errorf("problem %q", problem)
				}
				f.rebuild(r, "note")
				f.awaitBuild("note", 1, 2)
				f.caughtUp("total", "line")
				f.same()
			})
		}
	}
}

// P10 of docs/faults.md.
func TestChangedDeclarationWithoutANewVersionHalts(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	f.catchUp(f.runner(quick(8), noteFold(&whole), totals))
	changed := noteFold(&whole)
	changed.Indexes = nil
	r := f.runner(quick(8), changed, totals)
	stop := f.start(r)
	story(t, f.log, 1)
	f.caughtUp("total")
	if problem := f.awaitProblem("note"); !strings.Contains(problem, "raise the projection's version") {
		t.Errorf("problem %q", problem)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	changed.Version = 2
	f.catchUp(f.runner(quick(8), changed, totals))
	sameRows[note](f, changed, "note_id", nil)
	var state string
	const sql = "select state from projection.checkpoint where name = 'note' and version = 1"
	if err := f.pool.QueryRow(t.Context(), sql).Scan(&state); err != nil || state != build.Standby {
		t.Errorf("version 1 is %s, %v", state, err)
	}
}

// P18 of docs/faults.md.
func TestStatusTellsLagParkAndHeartbeat(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	broken := true
	story(t, f.log, 10)
	f.log.write(t, 3, written{Text: "panic"})
	opts := quick(8)
	opts.Heartbeat = time.Minute // so that whoever worked a moment ago counts as working, on a slow machine too
	metrics := prometheus.NewRegistry()
	opts.Registerer = metrics
	r := f.runner(opts, noteFold(&broken), totals)
	before, err := r.Status(t.Context())
	if err != nil || before[0].State != Waiting || before[0].HeartbeatAge != -1 || before[0].LagEvents != 11 {
		t.Fatalf("before: %+v, %v", before, err)
	}
	failOnce(r, apply.StepApplied)
	f.catchUp(r)
	list, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{list[0].Name, list[1].Name}
	if !slices.Equal(names, []string{"note", "total"}) {
		t.Errorf("got %v", names)
	}
	note, total := list[0], list[1]
	if note.State != Running || note.ParkedStreams != 1 || note.ParkedEvents != 1 || note.Healthy() || note.Retries["other"] != 1 {
		t.Errorf("note: %+v", note)
	}
	if total.LagEvents != 0 || total.Lag != 0 || total.Head == nil || total.Position != *total.Head || !total.Healthy() {
		t.Errorf("total: %+v", total)
	}
	if n := counted(t, metrics, "events_total", "total"); n != 11 {
		t.Errorf("%v events counted", n)
	}
	story(t, f.log, 3)
	list, err = r.Status(t.Context())
	if err != nil || list[1].LagEvents != 3 || list[1].Lag <= 0 {
		t.Errorf("behind: %+v, %v", list[1], err)
	}
	for name, want := range map[string]float64{"lag_events": 3, "parked_sequences": 1, "failed_builds": 0, "position": float64(note.Position.Commit), "version": 1} {
		if n := counted(t, metrics, name, "note"); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
	for _, name := range []string{"lag_seconds", "oldest_parked_seconds", "heartbeat_age_seconds"} {
		if n := counted(t, metrics, name, "note"); n <= 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
}

func TestIndexesAreThereOnceTheTableServes(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 9)
	wrong := totals
	wrong.Indexes = []query.Index{{Name: "wrong", Columns: "tenant, nothing"}}
	stop := f.start(f.runner(quick(4), noteFold(&whole), wrong))
	f.caughtUp("note")
	if problem := f.awaitProblem("total"); !strings.Contains(problem, "index") {
		t.Errorf("problem %q", problem)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var valid bool
	const sql = "select indisvalid from pg_index where indexrelid = 'projection.note_v1_text'::regclass"
	if err := f.conn.QueryRow(t.Context(), sql).Scan(&valid); err != nil || !valid {
		t.Errorf("index: %t, %v", valid, err)
	}
	var rows float64 // -1 before the planner knows anything
	const counted = "select reltuples from pg_class where oid = 'projection.note_v1'::regclass"
	if err := f.conn.QueryRow(t.Context(), counted).Scan(&rows); err != nil || rows < 1 {
		t.Errorf("the planner expects %v rows, %v", rows, err)
	}
}

// A build was halted for good when the statement for an index met the same one of the term before, which had been given up
// while the server went on with it.
func TestReproIndexThatIsBeingMadeIsNoDrift(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 9)
	other, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Rollback(context.WithoutCancel(t.Context()))
	reached := make(chan struct{}, 1)
	opts := quick(4)
	opts.Step = func(point string) (err error) {
		if point == stepIndex && len(reached) == 0 {
			_, err = other.Exec(t.Context(), "create index note_v1_text on projection.note_v1 (tenant, text)")
			reached <- struct{}{}
		}
		return err
	}
	stop := f.start(f.runner(opts, noteFold(&whole)))
	f.eventually("the index to be asked for twice", func() (waits bool) {
		const sql = `select exists (select from pg_stat_activity
where datname = current_database() and wait_event = 'transactionid' and query like 'create index%')`
		if err := f.conn.QueryRow(t.Context(), sql).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.caughtUp("note")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestViewsAreForAnalysts(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 1)
	f.catchUp(f.runner(quick(8), all()...))
	var doc string
	const sql = `select col_description('rapport.note'::regclass, attnum) from pg_attribute
		where attrelid = 'rapport.note'::regclass and attname = 'text'`
	if err := f.pool.QueryRow(t.Context(), sql).Scan(&doc); err != nil || doc != "What was written last." {
		t.Errorf("comment %q, %v", doc, err)
	}
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), "set local role rapport_reader"); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow(t.Context(), "select count(*) from rapport.note").Scan(&n); err != nil || n != 1 {
		t.Errorf("a reader sees %d rows, %v", n, err)
	}
	if _, err := tx.Exec(t.Context(), fmt.Sprintf("delete from %s.note", projection.ViewSchema)); err == nil {
		t.Error("a reader may delete")
	}
}

// stalledLog is a log whose first subscription falls silent.
type stalledLog struct {
	*gatedLog
	silent atomic.Bool // it has
}

func (l *stalledLog) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	if !l.silent.CompareAndSwap(false, true) {
		return l.gatedLog.Subscribe(ctx, after)
	}
	return func(yield func(eventlog.Message, error) bool) {
		<-ctx.Done()
		yield(eventlog.Message{}, ctx.Err())
	}
}

// P6: a subscription falls silent without an error.
func TestSilentSubscriptionIsReplaced(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	log, time := &stalledLog{gatedLog: newGatedLog(f.log)}, &clock{}
	r := f.runner(quick(8), all()...)
	r.source, r.now = log, time.now
	stop := f.start(r)
	log.until(t, "a subscription", log.silent.Load)
	log.looks(t) // so that the watchdog has seen where it stands
	if log.subscriptions.Load() != 0 {
		t.Error("replaced before its time")
	}
	time.advance(DefaultStall)
	f.caughtUp("note", "total", "line")
	f.healed(r)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.same()
}

// brokenLog is a log whose subscription ends with an error.
type brokenLog struct {
	*memoryLog
	err   error
	times atomic.Int32 // that it does so; it works afterwards
}

func (l *brokenLog) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	if l.times.Add(-1) < 0 {
		return l.memoryLog.Subscribe(ctx, after)
	}
	return func(yield func(eventlog.Message, error) bool) { yield(eventlog.Message{}, l.err) }
}

// P6: a subscription ends with an error.
func TestLogThatFailsIsAskedAgain(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	r := f.runner(quick(8), all()...)
	log := &brokenLog{memoryLog: f.log, err: &domain.UnavailableError{What: "event log"}}
	log.times.Store(3)
	r.source = log
	f.catchUp(r)
	f.same()
	list, err := r.Status(t.Context())
	if err != nil || list[0].Retries["log"] == 0 {
		t.Errorf("retries %v, %v", list[0].Retries, err)
	}
}
