package runner

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// gatedLog is a log whose subscriptions can be made to deliver nothing, while its head can be asked for.
type gatedLog struct {
	*memoryLog
	asked         chan struct{} // receives each question for the head that somebody waits for
	subscriptions atomic.Int32

	mu   sync.Mutex
	gate chan struct{} // closed while events flow
}

func newGatedLog(l *memoryLog) *gatedLog {
	g := &gatedLog{memoryLog: l, asked: make(chan struct{}), gate: make(chan struct{})}
	close(g.gate)
	return g
}

// freeze stops all deliveries until the returned function is called.
func (g *gatedLog) freeze() (thaw func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gate := make(chan struct{})
	g.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

func (g *gatedLog) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	g.subscriptions.Add(1)
	return func(yield func(eventlog.Message, error) bool) {
		for m, err := range g.memoryLog.Subscribe(ctx, after) {
			g.mu.Lock()
			gate := g.gate
			g.mu.Unlock()
			select {
			case <-gate:
			case <-ctx.Done():
				yield(eventlog.Message{}, ctx.Err())
				return
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

func (g *gatedLog) Head(ctx context.Context) (domain.Mark, error) {
	select {
	case g.asked <- struct{}{}:
	default:
	}
	return g.memoryLog.Head(ctx)
}

// until waits for a condition that a look at the head of the log makes true.
func (g *gatedLog) until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !holds() {
		select {
		case <-g.asked:
		case <-ctx.Done():
			t.Fatalf("waiting for %s", what)
		}
	}
}

// looks waits for some complete looks at the head.
func (g *gatedLog) looks(t testing.TB) {
	t.Helper()
	n := 0
	g.until(t, "looks at the head", func() bool { n++; return n > 4 })
}

// clock is a time that stands still unless told otherwise.
type clock struct{ elapsed atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.elapsed.Load()) }
func (c *clock) advance(d time.Duration) { c.elapsed.Add(int64(d)) }

// P18 of docs/faults.md.
func TestFrozenReaderIsUnhealthyUntilItMoves(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	f.catchUp(f.runner(quick(8), all()...)) // so that no switch makes the lanes begin anew
	log, time := newGatedLog(f.log), &clock{}
	r := f.runner(quick(8), all()...)
	r.source, r.now = log, time.now
	stop := f.start(r)
	log.until(t, "a subscription", func() bool { return log.subscriptions.Load() > 0 })
	log.looks(t)

	thaw := log.freeze()
	f.log.write(t, 1, written{Text: "nobody reads this"})
	log.looks(t)
	if err := r.Err(); err != nil {
		t.Errorf("unhealthy before the limit: %v", err)
	}
	before := log.subscriptions.Load()
	log.until(t, "the frozen reader to be noticed", func() bool { // however often the lanes are joined meanwhile
		time.advance(DefaultStall)
		return errors.Is(r.Err(), ErrFrozen)
	})
	log.until(t, "a new attempt", func() bool { return log.subscriptions.Load() > before })
	log.looks(t)
	if err := r.Err(); !errors.Is(err, ErrFrozen) {
		t.Errorf("a new subscription that delivers nothing either made it healthy: %v", err)
	}
	list, err := r.Status(t.Context())
	if err != nil || list[0].Healthy() || list[0].LagEvents != 1 || list[0].Lag <= 0 {
		t.Errorf("got %+v, %v", list[0], err)
	}

	thaw()
	f.caughtUp("note", "total", "line")
	log.until(t, "recovery", func() bool { return r.Err() == nil })
	if err := stop(); err != nil {
		t.Error(err)
	}
	f.same()
}

// P17: an idle projection has handled nothing for long when the first event comes; to be behind for a moment is not to be
// frozen.
func TestIdleProjectionIsNotTakenForFrozen(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	f.catchUp(f.runner(quick(8), all()...)) // so that no switch makes the lanes begin anew
	log, time := newGatedLog(f.log), &clock{}
	r := f.runner(quick(8), all()...)
	r.source, r.now = log, time.now
	f.start(r)
	log.until(t, "a subscription", func() bool { return log.subscriptions.Load() > 0 })
	log.looks(t)
	subscriptions := log.subscriptions.Load()

	time.advance(10 * DefaultStall)
	thaw := log.freeze()
	f.log.write(t, 1, written{Text: "on its way"})
	log.looks(t)
	if err := r.Err(); err != nil || log.subscriptions.Load() != subscriptions {
		t.Errorf("subscribed %d times more, %v", log.subscriptions.Load()-subscriptions, err)
	}
	thaw()
	f.caughtUp("note", "total", "line")
}

// A beat that comes while the question is on its way is later than the question.
func TestBeatAfterTheQuestionIsABeat(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	r := f.runner(quick(8), all()...)
	f.catchUp(r)
	// A rule for all that comes, because a beat of the runner that was stopped may still be on its way.
	const ahead = `create function ahead() returns trigger language plpgsql as
	$$ begin new.heartbeat_at := now() + interval '1 minute'; return new; end $$;
create trigger ahead before insert or update on projection.owner for each row execute function ahead();
update projection.owner set heartbeat_at = now()`
	if _, err := f.pool.Exec(t.Context(), ahead, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	list, err := r.Status(t.Context())
	if err != nil || list[0].State != Running || list[0].HeartbeatAge != 0 {
		t.Errorf("got %+v, %v", list[0], err)
	}
}

// counter counts statements.
type counter struct{ all, beats, sweeps atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	c.all.Add(1)
	switch {
	case q.SQL == beatSQL:
		c.beats.Add(1)
	case strings.Contains(q.SQL, "where drop_at <= now()"): // the last one of a sweep that finds nothing
		c.sweeps.Add(1)
	}
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	c.all.Add(int64(b.Batch.Len()))
	return ctx
}

func (c *counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// idleStatements is how many statements an idle runner may send for each of its heartbeats: the beat, and a look whether
// its lock is still there.
const idleStatements = 2

// P17 of docs/faults.md.
func TestIdleRunnerBeatsAndDoesNothingElse(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	f.catchUp(f.runner(quick(8), all()...)) // so that no switch makes the lanes begin anew
	config := f.pool.Config()
	statements := &counter{}
	config.ConnConfig.Tracer = statements
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false } // which is a statement, after a second
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	log, opts := newGatedLog(f.log), quick(8)
	opts.Sweep = time.Hour
	r, err := New(pool, log, f.log.registry, all(), opts)
	if err != nil {
		t.Fatal(err)
	}
	stop := f.start(r)
	log.until(t, "a subscription", func() bool { return log.subscriptions.Load() > 0 })
	log.until(t, "the sweep of the start", func() bool { return statements.sweeps.Load() > 0 })
	log.looks(t)

	const beats = 30
	beaten := statements.beats.Load() // before the statements, and after them in the end: beats in between count for nothing
	sent := statements.all.Load()
	log.until(t, "heartbeats", func() bool { return statements.beats.Load() >= beaten+beats })
	sent, beaten = statements.all.Load()-sent, statements.beats.Load()-beaten
	if sent > idleStatements*(beaten+1) {
		t.Errorf("%d statements in %d heartbeats", sent, beaten)
	}
	list, err := f.patient(all()...).Status(t.Context())
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	for _, s := range list {
		if !s.Healthy() || s.LagEvents != 0 || s.HeartbeatAge < 0 {
			t.Errorf("got %+v", s)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
