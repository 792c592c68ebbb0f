package runner

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/projections/projection"
)

// node starts an event node and returns its log.
func node(t testing.TB) *eventlog.ESDB {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	n := nodetest.Open(t, esnode.Options{Dir: t.TempDir(), Logger: quiet})
	log, err := eventlog.Dial(t.Context(), n.ConnectionString(), eventlog.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

// fill copies the events of the log in memory into another one, in appends of up to 100, and returns its head.
func (f *fixture) fill(to *eventlog.ESDB) domain.Position {
	f.t.Helper()
	const most = 100
	next := map[string]domain.Expected{}
	var stream string
	var pending []eventlog.NewEvent
	flush := func() {
		if len(pending) == 0 {
			return
		}
		for pending != nil {
			switch outcome := to.Append(f.t.Context(), stream, next[stream], pending).(type) {
			case domain.Committed:
				next[stream], pending = domain.AtRevision(outcome.Revision), nil
			case domain.Unknown: // the node was busy: repeated under the same ids
				if f.t.Context().Err() != nil {
					f.t.Fatal(outcome.Err)
				}
			default:
				f.t.Fatalf("append to %s: %#v", stream, outcome)
			}
		}
	}
	for _, raw := range f.log.events {
		if raw.Stream != stream || len(pending) == most {
			flush()
			stream = raw.Stream
		}
		pending = append(pending, eventlog.NewEvent{ID: uuid.NewString(), Type: raw.Type, Data: raw.Data, Metadata: raw.Metadata})
	}
	flush()
	head, err := to.Head(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return head.Position
}

func (f *fixture) reached(head domain.Position, projections int) {
	f.t.Helper()
	f.await(fmt.Sprint("position ", head), func() bool {
		const sql = `select count(*) from projection.checkpoint where commit_position >= $1 and state = 'serving'`
		var n int
		if err := f.conn.QueryRow(f.t.Context(), sql, int64(head.Commit)).Scan(&n); err != nil {
			f.t.Fatal(err)
		}
		return n == projections
	})
}

func TestRowsFromARealNode(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	log := node(t)
	story(t, f.log, 300)
	first := f.fill(log)
	declared := []projection.Projection{noteFold(&whole), totals}
	r, err := New(f.pool, log, f.log.registry, declared, quick(32))
	if err != nil {
		t.Fatal(err)
	}
	stop := f.start(r)
	f.reached(first, len(declared))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameRows[total](f, totals, "length", nil)
	var got []note
	for _, n := range rowsOf[note](f, "note", "note_id") {
		n.Position = 0 // the node counts differently from the log in memory
		got = append(got, n)
	}
	for i, want := range expect[note](f, noteFold(&whole), nil) {
		if i >= len(got) || got[i].Count != want.Count || got[i].Revision != want.Revision || !got[i].Total.Equal(want.Total) {
			t.Fatalf("row %d: got %+v, want %+v", i, got, want)
		}
	}
	list, err := r.Status(t.Context())
	if err != nil || list[0].LagEvents != 0 || list[0].Head == nil || *list[0].Head != first {
		t.Errorf("status %+v, %v", list, err)
	}
}

// many declares ten projections of the three kinds of the tests.
func many() (declared []projection.Projection) {
	for i := range 3 {
		n, s, l := noteFold(&whole), totals, lines
		n.Name, s.Name, l.Name = fmt.Sprint("note", i), fmt.Sprint("total", i), fmt.Sprint("line", i)
		declared = append(declared, n, s, l)
	}
	return append(declared, noteFold(&whole))
}

// BenchmarkCatchUp measures how fast ten projections together take a log, from the node to the rows, beside one transaction
// for each event.
func BenchmarkCatchUp(b *testing.B) {
	for _, c := range []struct {
		name          string
		batch, events int
	}{{"one", 1, 2_000}, {"batch", 2_000, 50_000}} {
		b.Run(c.name, func(b *testing.B) {
			f := setUp(b)
			log := node(b)
			for i := range c.events {
				f.log.write(b, i/4, written{Text: fmt.Sprint("text ", i), Amount: domain.MustMoney(fmt.Sprint(i), "EUR").Amount})
			}
			head := f.fill(log)
			opts := quick(c.batch)
			opts.Bus.Linger, opts.Heartbeat, opts.Probe = 0, 0, 0
			r, err := New(f.pool, log, f.log.registry, many(), opts)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				stop := f.start(r)
				f.reached(head, len(r.projections))
				if err := stop(); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				events := f.log
				f.clear(r)
				f.log, r.source = events, log
				b.StartTimer()
			}
			b.ReportMetric(float64(c.events*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
