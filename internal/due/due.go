// Package due does again and again what has a time: housekeeping of which nobody waits for the result. One process at a
// time does it, chosen by an advisory lock; when each job is due next stands in PostgreSQL, so that a restart neither
// repeats nor forgets. Nothing depends on punctuality: a job finds out itself what there is to do.
package due

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/internal/retry"
)

// Job is one thing to do.
type Job struct {
	Name  string                      // of its row
	Every time.Duration               // between two times; up to a tenth is added at random, so that jobs spread
	Do    func(context.Context) error // must be safe to repeat
}

// Bounds of the loop.
const (
	retryFirst = 10 * time.Second // after a job has failed; its own interval when that is shorter
	maxWait    = time.Minute      // between looks at the rows
	lockRetry  = 5 * time.Second  // between questions for the lock
	jobTimeout = 5 * time.Minute
	sqlBudget  = 10 * time.Second      // for each statement of the loop
	ownerLock  = 0x7261_7070_6f72_7403 // the number is arbitrary
)

// Options tunes a Loop. Zero values mean the defaults.
type Options struct {
	Clock      func() time.Time // time.Now
	LockRetry  time.Duration    // 5 s
	Logger     *slog.Logger     // slog.Default
	Registerer prometheus.Registerer
}

// Loop does jobs when they are due.
type Loop struct {
	pool  *pgxpool.Pool
	jobs  []Job
	opts  Options
	done  *prometheus.CounterVec
	asked chan struct{} // holds a token when the rows have been looked at: tests wait for it

	mu       sync.Mutex
	problems map[string]error // by job
}

// New makes a loop. Two jobs of one name, or one without an interval, are an error. The tables of migrations.Apply must
// be there before Run is called.
func New(pool *pgxpool.Pool, jobs []Job, o Options) (*Loop, error) {
	for i, j := range jobs {
		if j.Name == "" || j.Every <= 0 || j.Do == nil || slices.ContainsFunc(jobs[:i], func(other Job) bool { return other.Name == j.Name }) {
			return nil, fmt.Errorf("due: job %q has no name of its own, no interval or nothing to do", j.Name)
		}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.LockRetry <= 0 {
		o.LockRetry = lockRetry
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	l := &Loop{
		pool: pool, jobs: jobs, opts: o, asked: make(chan struct{}, 1), problems: map[string]error{},
		done: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rapport_due_jobs_total", Help: "Jobs done because they were due, by outcome."}, []string{"job", "outcome"}),
	}
	for _, j := range jobs {
		for _, outcome := range []string{"done", "failed"} {
			l.done.WithLabelValues(j.Name, outcome)
		}
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(l.done); err != nil {
			return nil, fmt.Errorf("due: %w", err)
		}
	}
	return l, nil
}

// Run does what is due until ctx ends, and then returns nil. A database that does not answer is waited for.
func (l *Loop) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := l.term(ctx); err != nil && ctx.Err() == nil {
			l.note(loopName, err)
			l.opts.Logger.WarnContext(ctx, "due jobs interrupted; trying again", "err", err)
		}
		retry.Sleep(ctx, l.opts.LockRetry)
	}
	return nil
}

// loopName is the name under which trouble of the loop itself is noted.
const loopName = "the loop"

// Err returns what failed the last time, or nil.
func (l *Loop) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []error
	for name, err := range l.problems {
		list = append(list, fmt.Errorf("due job %s: %w", name, err))
	}
	return errors.Join(list...)
}

func (l *Loop) note(job string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.problems, job)
	} else {
		l.problems[job] = err
	}
}

// forget says that nothing is wrong here.
func (l *Loop) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.problems)
}

// ask bounds one conversation with the database.
func ask(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	return do(ctx)
}

// term works while this process holds the lock, if it gets it.
func (l *Loop) term(ctx context.Context) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer follow.Release(conn)
	var mine bool
	if err := ask(ctx, func(ctx context.Context) error {
		return conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(ownerLock)).Scan(&mine)
	}); err != nil {
		return err
	}
	if !mine {
		l.forget() // whoever works says what is wrong
		return nil
	}
	l.note(loopName, nil)
	for {
		wait, err := l.look(ctx, conn.Conn())
		if err != nil {
			return err
		}
		select {
		case l.asked <- struct{}{}:
		default:
		}
		if !retry.Sleep(ctx, wait) {
			return nil
		}
	}
}

// look does what is due, over the connection that holds the lock, and returns how long there is nothing.
func (l *Loop) look(ctx context.Context, conn *pgx.Conn) (wait time.Duration, err error) {
	const insert = `insert into reactor.due (name, next_at) values ($1, $2) on conflict do nothing`
	const read = `select next_at from reactor.due where name = $1`
	wait = maxWait
	for _, j := range l.jobs {
		now := l.opts.Clock()
		var next time.Time
		var b pgx.Batch
		b.Queue(insert, j.Name, now)
		b.Queue(read, j.Name).QueryRow(func(row pgx.Row) error { return row.Scan(&next) })
		if err := ask(ctx, func(ctx context.Context) error { return conn.SendBatch(ctx, &b).Close() }); err != nil {
			return 0, err
		}
		if !next.After(now) {
			if next, err = l.do(ctx, conn, j); err != nil {
				return 0, err
			}
		}
		wait = min(wait, max(next.Sub(l.opts.Clock()), 0))
	}
	return wait, nil
}

// do does one job and says when it is due next.
func (l *Loop) do(ctx context.Context, conn *pgx.Conn, j Job) (next time.Time, err error) {
	working, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	failed := j.Do(working)
	if ctx.Err() != nil {
		return next, ctx.Err() // it is still due
	}
	l.note(j.Name, failed)
	wait, outcome, problem := j.Every, "done", ""
	if failed != nil {
		wait, outcome, problem = min(j.Every, retryFirst), "failed", failed.Error()
		l.opts.Logger.WarnContext(ctx, "due job failed", "job", j.Name, "err", failed)
	}
	l.done.WithLabelValues(j.Name, outcome).Inc()
	next = l.opts.Clock().Add(wait + rand.N(wait/10+1))
	const sql = `update reactor.due set next_at = $2, last_at = $3, problem = $4 where name = $1`
	return next, ask(ctx, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, sql, j.Name, next, l.opts.Clock(), problem)
		return err
	})
}
