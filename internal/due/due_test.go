package due

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rapport-crm/rapport/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	migration, err := os.ReadFile("../../readmodels/migrations/003_reactor.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), string(migration)); err != nil {
		t.Fatal(err)
	}
	return pool
}

// clock is a time that stands still unless told otherwise.
type clock struct{ elapsed atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.elapsed.Load()) }
func (c *clock) advance(d time.Duration) { c.elapsed.Add(int64(d)) }

func loop(t testing.TB, pool *pgxpool.Pool, c *clock, jobs ...Job) *Loop {
	t.Helper()
	l, err := New(pool, jobs, Options{Clock: c.now, LockRetry: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestJobIsDoneWhenItIsDueAndNotBefore(t *testing.T) {
	pool, c := database(t), &clock{}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var done int
	var fails error
	l := loop(t, pool, c, Job{"sweep", time.Hour, func(context.Context) error { done++; return fails }})
	look := func(want int) time.Duration {
		t.Helper()
		wait, err := l.look(t.Context(), conn.Conn())
		if err != nil || done != want {
			t.Fatalf("done %d times, want %d; %v", done, want, err)
		}
		return wait
	}
	if wait := look(1); wait != maxWait {
		t.Errorf("waits %s", wait)
	}
	c.advance(59 * time.Minute)
	look(1)
	// Another process knows that too.
	again := loop(t, pool, c, l.jobs...)
	if _, err := again.look(t.Context(), conn.Conn()); err != nil || done != 1 {
		t.Errorf("done %d times after a restart, %v", done, err)
	}
	c.advance(7*time.Minute + 1) // the hour and the most that chance adds
	fails = errors.New("not now")
	look(2)
	if err := l.Err(); !errors.Is(err, fails) || !strings.Contains(err.Error(), "sweep") {
		t.Errorf("got %v", err)
	}
	fails = nil
	c.advance(2 * retryFirst)
	look(3)
	if l.Err() != nil || testutil.ToFloat64(l.done.WithLabelValues("sweep", "failed")) != 1 || testutil.ToFloat64(l.done.WithLabelValues("sweep", "done")) != 2 {
		t.Errorf("got %v", l.Err())
	}
}

func TestOneProcessAtATimeDoesWhatIsDue(t *testing.T) {
	pool, c := database(t), &clock{}
	var inside, done atomic.Int32
	release := make(chan struct{})
	job := Job{"slow", time.Hour, func(ctx context.Context) error {
		if inside.Add(1) > 1 {
			t.Error("two at once")
		}
		defer inside.Add(-1)
		select {
		case <-release:
			done.Add(1)
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	loops := []*Loop{loop(t, pool, c, job), loop(t, pool, c, job)}
	for _, l := range loops {
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	release <- struct{}{}
	select { // whoever did it has looked at the rows again
	case <-loops[0].asked:
	case <-loops[1].asked:
	}
	stop()
	running.Wait()
	if done.Load() != 1 {
		t.Errorf("done %d times", done.Load())
	}
}

// What was wrong here is no trouble of a process that waits for another one's work.
func TestReproWaitingProcessHasNoOldTrouble(t *testing.T) {
	pool, c := database(t), &clock{}
	l := loop(t, pool, c, Job{"sweep", time.Hour, func(context.Context) error { return nil }})
	l.note(loopName, errors.New("the database was away"))
	l.note("sweep", errors.New("and so the job failed"))
	owner, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Release()
	if _, err := owner.Exec(t.Context(), "select pg_advisory_lock($1)", int64(ownerLock)); err != nil {
		t.Fatal(err)
	}
	if err := l.term(t.Context()); err != nil || l.Err() != nil {
		t.Errorf("term: %v, trouble: %v", err, l.Err())
	}
}

func TestJobsAreChecked(t *testing.T) {
	do := func(context.Context) error { return nil }
	for _, jobs := range [][]Job{{{"", time.Hour, do}}, {{"a", 0, do}}, {{"a", time.Hour, nil}}, {{"a", time.Hour, do}, {"a", time.Hour, do}}} {
		if _, err := New(nil, jobs, Options{}); err == nil {
			t.Errorf("%+v were accepted", jobs)
		}
	}
}
