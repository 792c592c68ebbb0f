package runner

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/porttest"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/apply"
)

// P2: a batch again, an old one, and one that overlaps change nothing that they have changed already, and are counted.
func TestWhatIsDeliveredAgainIsCounted(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	opts, metrics := quick(1), prometheus.NewRegistry()
	opts.Registerer = metrics
	l := f.takeOver(f.runner(opts, all()...))[0]
	f.handle(l, f.batch(0, 20))
	before, want := f.everything(), 0.0
	for _, again := range [][2]int{{0, 20}, {19, 20}, {0, 5}, {7, 8}} {
		f.handle(l, f.batch(again[0], again[1]))
		want += float64(again[1] - again[0])
		if after := f.everything(); after != before {
			t.Errorf("rows changed:\n%s\n%s", before, after)
		}
		if got := skipped(t, metrics, "note"); got != want {
			t.Errorf("%v events were passed over, want %v", got, want)
		}
	}
	f.handle(l, f.batch(15, 30))
	if got := skipped(t, metrics, "note"); got != want+5 {
		t.Errorf("%v events were passed over, want %v", got, want+5)
	}
	f.same()
}

// P3: a batch that begins behind what the rows hold is not applied: events are missing.
func TestBatchThatDoesNotFollowIsNotApplied(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 30)
	l := f.takeOver(f.runner(quick(1), all()...))[0]
	f.handle(l, f.batch(0, 10))
	before := f.everything()
	next := f.batch(11, 20)
	next.After = f.batch(10, 11).End
	if err := l.handle(t.Context(), next); !errors.Is(err, bus.ErrOrder) {
		t.Errorf("got %v", err)
	}
	if after := f.everything(); after != before {
		t.Errorf("rows changed:\n%s\n%s", before, after)
	}
}

// spoiledLog is a log that delivers something else than it holds.
type spoiledLog struct {
	*memoryLog
	spoil func([]codec.Raw) []codec.Raw
}

func (l *spoiledLog) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	return func(yield func(eventlog.Message, error) bool) {
		events, _ := l.after(domain.Position{})
		for _, raw := range l.spoil(slices.Clone(events)) {
			if after.Position.Before(raw.Position) && !yield(eventlog.Message{Raw: &raw}, nil) {
				return
			}
		}
		if yield(eventlog.Message{CaughtUp: true}, nil) {
			<-ctx.Done()
			yield(eventlog.Message{}, ctx.Err())
		}
	}
}

// P3: events out of order or missing on the way end the run, loudly. The checkpoint may have moved past an event that was
// missing before that showed: a restart that went on from there would never apply it, so it does not go on.
func TestReproRestartAfterASpoiledOrderLosesNothing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func([]codec.Raw) []codec.Raw{
		"swapped":  func(l []codec.Raw) []codec.Raw { l[20], l[21] = l[21], l[20]; return l },
		"left out": func(l []codec.Raw) []codec.Raw { return slices.Delete(l, 20, 21) },
		"repeated": func(l []codec.Raw) []codec.Raw { return slices.Insert(l, 21, l[13]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			story(t, f.log, 10)
			f.catchUp(f.runner(quick(8), all()...))
			story(t, f.log, 30)
			r := f.runner(quick(8), all()...)
			r.source = &spoiledLog{f.log, spoil}
			if err := r.Run(t.Context()); !errors.Is(err, bus.ErrOrder) || !errors.Is(r.Err(), bus.ErrOrder) {
				t.Errorf("got %v, health %v", err, r.Err())
			}
			for _, row := range rowsOf[line](f, "line", "position") {
				if row.Position > f.log.events[27].Position.Order() { // the next of the stream that has lost one
					t.Errorf("row at %d", row.Position)
				}
			}
			before := f.epoch()
			r = f.runner(quick(8), all()...)
			stop := f.start(r)
			f.eventually("the second run", func() bool { return f.epoch() > before })
			if problem := f.awaitProblem("note"); !strings.Contains(problem, "rapport projections rebuild note") {
				t.Errorf("problem %q", problem)
			}
			f.rebuild(r, "note", "total", "line")
			for _, name := range []string{"note", "total", "line"} {
				f.awaitBuild(name, 1, 2)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			f.same()
		})
	}
}

// epoch returns that of the projections' youngest owner.
func (f *fixture) epoch() (epoch int64) {
	f.t.Helper()
	if err := f.conn.QueryRow(f.t.Context(), "select max(epoch) from projection.checkpoint").Scan(&epoch); err != nil {
		f.t.Fatal(err)
	}
	return epoch
}

// P6: the node goes away and comes back at its address.
func TestNodeThatRestartsIsSubscribedToAgain(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	quiet := slog.New(slog.DiscardHandler)
	opts := esnode.Options{Dir: t.TempDir(), Listen: porttest.Address(t), Logger: quiet}
	n := nodetest.Open(t, opts)
	log, err := eventlog.Dial(t.Context(), n.ConnectionString(), eventlog.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	story(t, f.log, 60)
	head := f.fill(log)
	r, err := New(f.pool, log, f.log.registry, []projection.Projection{noteFold(&whole), totals}, quick(8))
	if err != nil {
		t.Fatal(err)
	}
	stop := f.start(r)
	f.reached(head, 2)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// Its subscription tries again by itself, and the runner hears of that only if it begins a round meanwhile.
	f.eventually("the status to tell", func() bool {
		list, err := r.Status(t.Context())
		return err == nil && list[0].Retrying != "" && list[0].Head == nil
	})
	nodetest.Open(t, opts)
	f.log = newLog(t)
	for i := range 60 {
		f.log.write(t, 100+i%5, written{Text: "after"})
	}
	head = f.fill(log)
	f.reached(head, 2)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.log = newLog(t)
	for raw, err := range log.ReadAll(t.Context(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		f.log.events = append(f.log.events, raw)
	}
	sameRows[note](f, noteFold(&whole), "note_id", nil)
	sameRows[total](f, totals, "length", nil)
}

// P20: what a build holds is bounded by bytes, whatever the number of events.
func TestBuildHoldsAFewBatches(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	const events, size, bound = 500, 4 << 10, 32 << 10
	text := strings.Repeat("x", size)
	for i := range events {
		f.log.write(t, i%7, written{Text: text})
	}
	var received, stored atomic.Int64
	opts := quick(8)
	opts.BuildBytes = bound
	opts.Step = func(at string) error {
		switch at {
		case stepReceive:
			n := received.Add(1)
			if ahead := (n - stored.Load()) * size; ahead > 3*(bound+2*size) {
				t.Errorf("%d bytes are held", ahead)
			}
		case stepAck:
			var n int64
			const sql = "select max(events) from projection.checkpoint"
			if err := f.pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
				return err
			}
			stored.Store(n)
		}
		return nil
	}
	f.catchUp(f.runner(opts, totals))
	sameRows[total](f, totals, "length", nil)
	if received.Load() < events {
		t.Errorf("%d events were received", received.Load())
	}
}

// P7: poison is what a batch's rows come to: a value that cannot be stored, and that the same batch replaces, harms nobody.
func TestUnstorableValueThatIsReplacedAtOnceHarmsNobody(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for _, text := range []string{"a", "b\x00", "c"} {
		f.log.write(t, 1, written{Text: text})
	}
	plain := noteFold(&whole)
	plain.Evolve = func(r note, k noteKey, e domain.Recorded) note {
		r = evolveNote(&whole)(r, k, e)
		r.History = nil // which would keep the value
		return r
	}
	r := f.runner(quick(8), plain)
	l := f.takeOver(r)[0]
	f.handle(l, f.batch(0, 3))
	sameRows[note](f, plain, "note_id", nil)
	if parked, err := r.Parked(t.Context(), "note"); err != nil || len(parked) != 0 {
		t.Errorf("parked %+v, %v", parked, err)
	}
}

// P7: a row that is there already fails COPY and nothing else: the batch goes the slower way, and nobody is parked.
func TestRowsThatCopyRefusesGoTheSlowerWay(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for i := range 2 * apply.BulkRows {
		f.log.write(t, i, written{Text: "x"})
	}
	r := f.runner(quick(8), all()...)
	l := f.takeOver(r)[0]
	f.handle(l, f.batch(0, apply.BulkRows))
	// A row that is there before its event, as after a table was restored by hand.
	early := f.batch(apply.BulkRows+5, apply.BulkRows+6).Items[0].Event
	const sql = "insert into projection.line_v1 (tenant, position, note_id, text, at) values ($1, $2, $3, 'x', $4)"
	if _, err := f.pool.Exec(t.Context(), sql, early.Tenant, early.Position.Order(), early.Stream.ID, early.RecordedAt); err != nil {
		t.Fatal(err)
	}
	f.handle(l, f.batch(apply.BulkRows, 2*apply.BulkRows))
	f.same()
	if parked, err := r.Parked(t.Context(), "line"); err != nil || len(parked) != 0 {
		t.Errorf("parked %+v, %v", parked, err)
	}
}

// P7, P8: a constraint that somebody has put on a table parks the streams that break it; without it the retry succeeds.
func TestConstraintViolationIsParked(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	r := f.runner(quick(500), noteFold(&whole), totals)
	f.catchUp(r)
	const constraint = "alter table projection.note_v1 add constraint mine check (text <> 'forbidden')"
	if _, err := f.pool.Exec(t.Context(), constraint); err != nil {
		t.Fatal(err)
	}
	f.log.write(t, 3, written{Text: "forbidden"})
	for i := range 50 {
		f.log.write(t, i%7, written{Text: "later"})
	}
	f.log.write(t, 3, written{Text: "forbidden"})
	f.catchUp(r)
	parked, err := r.Parked(t.Context(), "note")
	if err != nil || len(parked) != 1 || !strings.Contains(parked[0].Error, "23514") {
		t.Fatalf("parked %+v, %v", parked, err)
	}
	if _, err := f.pool.Exec(t.Context(), "alter table projection.note_v1 drop constraint mine", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Retry(t.Context(), "note", "", "tester"); err != nil || n != len(parked[0].Events) {
		t.Errorf("retried %d, %v", n, err)
	}
	f.catchUp(r)
	sameRows[note](f, noteFold(&whole), "note_id", nil)
	sameRows[total](f, totals, "length", nil)
}
