package runner

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/migrations"
	"github.com/rapport-crm/rapport/readmodels/query"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// written is the one event of the tests: a text on a note, with an amount.
type written struct {
	Text   string        `json:"text"`
	Amount domain.Amount `json:"amount"`
	Erase  bool          `json:"erase,omitempty"`
}

func (written) EventType() string { return "note.written" }

func registry(t testing.TB) *codec.Registry {
	t.Helper()
	r, err := codec.New(domain.Definition{
		Name: "note", Plural: "notes", Doc: "A note.",
		Events: []domain.EventSpec{{Example: written{Text: "a"}, Doc: "Somebody wrote something."}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type noteKey struct {
	Tenant domain.Tenant `db:"tenant"`
	ID     domain.ID     `db:"note_id"`
}

// note is one row for each stream, with a column of each kind.
type note struct {
	Tenant   domain.Tenant  `db:"tenant,key"`
	ID       domain.ID      `db:"note_id,key"`
	Text     string         `db:"text" doc:"What was written last."`
	History  []string       `db:"history"`
	Total    domain.Amount  `db:"total"`
	Last     *domain.Amount `db:"last"`
	Owner    *domain.ID     `db:"owner"`
	Day      domain.Date    `db:"day"`
	Due      *domain.Date   `db:"due"`
	Count    int            `db:"count"`
	Share    float64        `db:"share"`
	Long     bool           `db:"long"`
	At       time.Time      `db:"at"`
	LongAt   *time.Time     `db:"long_at"`
	Revision uint64         `db:"revision"`
	Position int64          `db:"position"`
	gone     bool
}

// evolveNote refuses "panic" while *broken is set.
func evolveNote(broken *bool) func(note, noteKey, domain.Recorded) note {
	return func(r note, _ noteKey, e domain.Recorded) note {
		w := e.Event.(written)
		if w.Text == "panic" && *broken {
			panic("cannot read this")
		}
		r.gone = w.Erase
		r.Text = w.Text
		r.History = append(r.History[:len(r.History):len(r.History)], w.Text)
		r.Total = domain.NewAmount(r.Total.Add(w.Amount.Decimal))
		r.Last, r.LongAt, r.Due, r.Owner = nil, nil, nil, nil
		if r.Long = len(w.Text) > 3; r.Long {
			day := domain.Date("2026-02-28")
			r.Last, r.LongAt, r.Due, r.Owner = &w.Amount, &e.RecordedAt, &day, &e.Stream.ID
		}
		r.Day = domain.Date(e.RecordedAt.Format(time.DateOnly))
		r.Count++
		r.Share = float64(r.Count) / 3
		r.At, r.Revision, r.Position = e.RecordedAt, e.Revision, e.Position.Order()
		return r
	}
}

func noteFold(broken *bool) projection.Fold[noteKey, note] {
	return projection.Fold[noteKey, note]{
		Name: "note", Version: 1, Doc: "Notes.", Events: []string{"note."},
		Keys:    func(e domain.Recorded) []noteKey { return []noteKey{{e.Tenant, e.Stream.ID}} },
		Evolve:  evolveNote(broken),
		Gone:    func(r note) bool { return r.gone },
		Indexes: []query.Index{{Name: "text", Columns: "tenant, text"}},
	}
}

type totalKey struct {
	Tenant domain.Tenant `db:"tenant"`
	Length int           `db:"length"`
}

// total is one row that many streams change.
type total struct {
	Tenant domain.Tenant `db:"tenant,key"`
	Length int           `db:"length,key"`
	Count  int64         `db:"count"`
	Sum    domain.Amount `db:"sum"`
}

var totals = projection.Fold[totalKey, total]{
	Name: "total", Version: 1, Doc: "Totals.", Events: []string{"note.written"},
	Keys: func(e domain.Recorded) []totalKey {
		return []totalKey{{e.Tenant, len(e.Event.(written).Text)}, {e.Tenant, -1}}
	},
	Evolve: func(r total, _ totalKey, e domain.Recorded) total {
		r.Count++
		r.Sum = domain.NewAmount(r.Sum.Add(e.Event.(written).Amount.Decimal))
		return r
	},
}

// line is a row that is only inserted.
type line struct {
	Tenant   domain.Tenant `db:"tenant,key"`
	Position int64         `db:"position,key"`
	Note     domain.ID     `db:"note_id"`
	Text     string        `db:"text"`
	At       time.Time     `db:"at"`
}

var lines = projection.Append[line]{
	Name: "line", Version: 1, Doc: "Lines.", Events: []string{"*"},
	Rows: func(e domain.Recorded) []line {
		w, ok := e.Event.(written)
		if !ok || w.Erase {
			return nil
		}
		return []line{{e.Tenant, e.Position.Order(), e.Stream.ID, w.Text, e.RecordedAt}}
	},
}

var whole = false

func all() []projection.Projection { return []projection.Projection{noteFold(&whole), totals, lines} }

// memoryLog is a log in memory. As in a log that is shared, its positions have gaps of hundreds, of any size, and a
// subscription is told of places where others have written.
type memoryLog struct {
	registry *codec.Registry
	id       string
	branch   int // told by the ids of events

	mu       sync.Mutex
	events   []codec.Raw
	revision map[string]uint64
	more     chan struct{}
}

func newLog(t testing.TB) *memoryLog {
	return &memoryLog{registry: registry(t), id: "log", revision: map[string]uint64{}, more: make(chan struct{})}
}

func noteID(n int) domain.ID { return domain.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", n)) }

// write appends an event to the stream of a note.
func (l *memoryLog) write(t testing.TB, n int, w written) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	stream := domain.StreamID{Tenant: "main", Aggregate: "note", ID: noteID(n)}
	at := time.Date(2026, 1, 2, 3, 4, len(l.events), 123456789, time.UTC)
	data, metadata, err := l.registry.Encode(domain.Pending{ID: "00000000-0000-5000-8000-000000000000", Event: w, Metadata: domain.Metadata{
		Schema: 1, Tenant: "main", Actor: domain.Actor{ID: "tester", Kind: domain.ActorHuman}, CommandID: "c", CorrelationID: "c", CausationID: "c",
		Fingerprint: "f", OccurredAt: at, RecordedAt: at,
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.raw(codec.Raw{Type: w.EventType(), Stream: stream.String(), Data: data, Metadata: metadata})
}

// gap is the distance of the event number n from the one before: in every log the same, so that a copy of a log has other
// events at the same positions.
func gap(n int) uint64 { return 100 + uint64(n)*7919%900 }

// othersWrote is how many events of ours there are for each place where others wrote.
const othersWrote = 4

// raw appends an event as it is; l.mu is held.
func (l *memoryLog) raw(raw codec.Raw) {
	p := gap(len(l.events))
	if n := len(l.events); n > 0 {
		p += l.events[n-1].Position.Commit
	}
	raw.ID, raw.Position, raw.Revision = fmt.Sprintf("%08d-0000-7000-8000-%012d", l.branch, len(l.events)+1), domain.Position{Commit: p, Prepare: p}, l.revision[raw.Stream]
	l.revision[raw.Stream]++
	l.events = append(l.events, raw)
	close(l.more)
	l.more = make(chan struct{})
}

func (l *memoryLog) odd(raw codec.Raw) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw(raw)
}

func (l *memoryLog) after(p domain.Position) ([]codec.Raw, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, raw := range l.events {
		if p.Before(raw.Position) {
			return l.events[i:len(l.events):len(l.events)], l.more
		}
	}
	return nil, l.more
}

func (l *memoryLog) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	return func(yield func(eventlog.Message, error) bool) {
		if err := l.Check(ctx, after); err != nil {
			yield(eventlog.Message{}, err)
			return
		}
		for last := after.Position; ; {
			events, more := l.after(last)
			for _, raw := range events {
				if raw.Position.Commit%othersWrote == 0 {
					others := domain.Position{Commit: raw.Position.Commit - 1, Prepare: raw.Position.Prepare - 1}
					if last.Before(others) && !yield(eventlog.Message{Checkpoint: others}, nil) {
						return
					}
				}
				if !yield(eventlog.Message{Raw: &raw}, nil) {
					return
				}
				last = raw.Position
			}
			if len(events) > 0 {
				continue
			}
			if !yield(eventlog.Message{CaughtUp: true}, nil) {
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(eventlog.Message{}, ctx.Err())
				return
			}
		}
	}
}

func (l *memoryLog) ReadAll(_ context.Context, after domain.Position) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		events, _ := l.after(after)
		for _, raw := range events {
			if !yield(raw, nil) {
				return
			}
		}
	}
}

func (l *memoryLog) Head(context.Context) (domain.Mark, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == 0 {
		return domain.Mark{}, nil
	}
	return markOf(l.events[len(l.events)-1]), nil
}

// behind tells events behind the first n.
func (l *memoryLog) behind(n int) func(codec.Raw) bool {
	last := l.events[n-1].Position
	return func(raw codec.Raw) bool { return last.Before(raw.Position) }
}

func markOf(raw codec.Raw) domain.Mark { return domain.Mark{Position: raw.Position, ID: raw.ID} }

func (l *memoryLog) Check(_ context.Context, m domain.Mark) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.Position.IsZero() || slices.ContainsFunc(l.events, func(raw codec.Raw) bool {
		return raw.Position == m.Position && (m.ID == "" || raw.ID == m.ID)
	}) {
		return nil
	}
	return fmt.Errorf("%w: no event %s at %s", eventlog.ErrOtherLog, m.ID, m.Position)
}

func (l *memoryLog) ID(context.Context) (string, error) { return l.id, nil }

// fixture is a database, a log, and the runner under test.
type fixture struct {
	t    testing.TB
	pool *pgxpool.Pool
	log  *memoryLog
	conn *pgx.Conn // listens for checkpoints
}

func setUp(t testing.TB) *fixture {
	t.Helper()
	url := pgtest.Database(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := migrations.Apply(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), "listen rapport_checkpoint"); err != nil {
		t.Fatal(err)
	}
	return &fixture{t, pool, newLog(t), conn}
}

func quick(batch int) Options {
	return Options{
		Bus:        bus.Options{MaxEvents: batch, Linger: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond},
		BuildBytes: 500 * batch, // about as many events
		Heartbeat:  10 * time.Millisecond, Probe: 10 * time.Millisecond, LockRetry: 5 * time.Millisecond, Retry: time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func (f *fixture) runner(opts Options, declared ...projection.Projection) *Runner {
	f.t.Helper()
	r, err := New(f.pool, f.log, f.log.registry, declared, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// patient is a runner to be asked for the status: whoever worked a moment ago works, also where a moment is long.
func (f *fixture) patient(declared ...projection.Projection) *Runner {
	f.t.Helper()
	opts := quick(8)
	opts.Heartbeat = time.Minute
	return f.runner(opts, declared...)
}

// start runs r until the returned function is called, which returns Run's error.
func (f *fixture) start(r *Runner) (stop func() error) {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	f.t.Cleanup(func() { stop() })
	return stop
}

// await returns when a condition holds that only a moving checkpoint makes true.
func (f *fixture) await(what string, holds func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	for !holds() {
		if _, err := f.conn.WaitForNotification(ctx); err != nil {
			f.t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// caughtUp waits until the named projections serve and have the whole log.
func (f *fixture) caughtUp(names ...string) {
	f.t.Helper()
	head, _ := f.log.Head(f.t.Context())
	f.await(fmt.Sprint(names, " at ", head.Position), func() bool {
		const sql = `select count(*) from projection.checkpoint where name = any($1) and commit_position >= $2 and state = 'serving'`
		var n int
		if err := f.conn.QueryRow(f.t.Context(), sql, names, int64(head.Position.Commit)).Scan(&n); err != nil {
			f.t.Fatal(err)
		}
		return n == len(names)
	})
}

// catchUp runs r until everything is caught up and nothing is left to heal, and stops it.
func (f *fixture) catchUp(r *Runner) {
	f.t.Helper()
	stop := f.start(r)
	var names []string
	for _, c := range r.projections {
		names = append(names, c.Name)
	}
	f.caughtUp(names...)
	f.healed(r)
	if err := stop(); err != nil {
		f.t.Fatal(err)
	}
}

// healed waits until r has no trouble any more: rows can be there before all parts of the runner have tried again.
func (f *fixture) healed(r *Runner) {
	f.t.Helper()
	f.eventually("the runner to be without trouble", func() bool { return r.Err() == nil })
}

// same compares the rows behind the views with an evaluation in memory.
func (f *fixture) same() {
	f.t.Helper()
	sameRows[note](f, noteFold(&whole), "note_id", nil)
	sameRows[total](f, totals, "length", nil)
	sameRows[line](f, lines, "position", nil)
}

// sameRows compares one projection's; skip leaves events out of the evaluation.
func sameRows[R any](f *fixture, p projection.Projection, order string, skip func(codec.Raw) bool) {
	f.t.Helper()
	c, err := p.Compile()
	if err != nil {
		f.t.Fatal(err)
	}
	if diff := cmp.Diff(expect[R](f, p, skip), rowsOf[R](f, c.Name, order), options); diff != "" {
		f.t.Fatalf("%s: (-memory +table)\n%s", c, diff)
	}
}

func rowsOf[R any](f *fixture, view, order string) []R {
	f.t.Helper()
	rows, err := f.conn.Query(f.t.Context(), "select * from rapport."+view+" order by "+order)
	if err != nil {
		f.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[R])
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

func expect[R any](f *fixture, p projection.Projection, skip func(codec.Raw) bool) []R {
	f.t.Helper()
	c, err := p.Compile()
	if err != nil {
		f.t.Fatal(err)
	}
	memory := c.NewMemory()
	events, _ := f.log.after(domain.Position{})
	for _, raw := range events {
		event, err := f.log.registry.Decode(raw)
		if err != nil || skip != nil && skip(raw) {
			continue
		}
		if err := memory.Apply(event); err != nil {
			f.t.Fatal(err)
		}
	}
	list := []R{}
	for _, row := range memory.All() {
		list = append(list, row.(R))
	}
	return list
}

var options = cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(note{})}
