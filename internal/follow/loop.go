package follow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/internal/retry"
)

// MaxRetry is the longest pause between two attempts of a loop, and how long one must have lasted to count as a success.
const MaxRetry = 30 * time.Second

// releaseBudget bounds the giving back of locks.
const releaseBudget = 5 * time.Second

// ErrAnew ends the work of a loop that is to begin anew at once: nothing has failed.
var ErrAnew = errors.New("the work begins anew")

// Loop lets one process of several work, and begins anew whenever the work ends. All fields are required.
type Loop struct {
	Pool      *pgxpool.Pool
	LockRetry time.Duration // between two questions for the lock
	Retry     time.Duration // the first pause after a failure; it doubles up to MaxRetry

	// Acquire takes the advisory locks that let this process work, over a connection that holds them from then on, and reports
	// whether it has got any. Loop gives them back.
	Acquire func(ctx context.Context, lock *pgx.Conn) (mine bool, err error)
	// Wait is called before each pause while another process works; first tells the first one.
	Wait func(ctx context.Context, lock *pgx.Conn, first bool) error
	// Work works until ctx ends, and returns nothing but why it has ended. It finds out itself when it should not work any more:
	// see Beat.
	Work func(ctx context.Context, lock *pgx.Conn) error
	// Refused reports whether to go on after an error would be wrong.
	Refused func(error) bool
	// Failed is told of each error, with the pause before the next attempt; 0 when there is none.
	Failed func(ctx context.Context, err error, pause time.Duration)
}

// Run works, and waits while another process does, until ctx ends, and then returns nil. It returns an error only when Refused
// says so.
func (l *Loop) Run(ctx context.Context) error {
	pauses := retry.Backoff{First: l.Retry, Most: MaxRetry}
	for {
		start := time.Now()
		err := l.term(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrAnew):
			continue
		case l.Refused(err):
			l.Failed(ctx, err, 0)
			return err
		}
		if time.Since(start) > MaxRetry {
			pauses.Reset()
		}
		pause := pauses.Next()
		l.Failed(ctx, err, pause)
		if !retry.Sleep(ctx, retry.Spread(pause)) {
			return nil
		}
	}
}

// term waits for the lock and works while this process holds it.
func (l *Loop) term(ctx context.Context) error {
	lock, err := l.Pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer Release(lock)
	for first := true; ; first = false {
		mine, err := l.Acquire(ctx, lock.Conn())
		if err != nil {
			return err
		}
		if mine {
			return l.Work(ctx, lock.Conn())
		}
		if err := l.Wait(ctx, lock.Conn(), first); err != nil {
			return err
		}
		if !retry.Sleep(ctx, l.LockRetry) {
			return context.Cause(ctx)
		}
	}
}

// Release gives the advisory locks of a connection back, or drops the connection that holds them.
func Release(lock *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseBudget)
	defer cancel()
	if _, err := lock.Exec(ctx, "select pg_advisory_unlock_all()"); err != nil {
		lock.Conn().Close(ctx) // the server gives up the locks of a connection that is gone
	}
	lock.Release()
}

// Held returns an error when the connection that holds the locks is gone, and the locks with it.
func Held(ctx context.Context, lock *pgx.Conn) error {
	if err := lock.Ping(ctx); err != nil {
		return fmt.Errorf("the lock is lost: %w", err)
	}
	return nil
}

// Beat calls beat at once and then regularly until ctx ends, and then returns nil. It returns the first error of beat before.
func Beat(ctx context.Context, every time.Duration, beat func(context.Context) error) error {
	for first := true; first || retry.Sleep(ctx, every); first = false {
		if err := beat(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// Beside runs work, and watchers at its side. The first watcher that returns an error ends the context of all, and its error is
// what Beside returns when work has none; else that is what work returns. Beside waits for all of them.
func Beside(ctx context.Context, work func(context.Context) error, watchers ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	for _, watch := range watchers {
		watching.Go(func() {
			if err := watch(ctx); err != nil {
				cancel(err)
			}
		})
	}
	err := work(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil {
		return cause
	}
	return err
}

// Printable makes a text one that PostgreSQL stores: text that is no UTF-8, and the character zero, are replaced.
func Printable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
