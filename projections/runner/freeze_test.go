package runner

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/projections/runner/build"
)

// P11: a leader that stops for a while, at any point, loses its locks to a process that waits, and writes nothing when it
// goes on.
func TestLeaderThatWasFrozenWritesNothing(t *testing.T) {
	t.Parallel()
	batch, life := Steps()
	for _, point := range append(batch, life...) {
		if slices.Contains([]string{build.StepDrop, build.StepDropped}, point) {
			continue // nothing is dropped here
		}
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			story(t, f.log, 40)
			f.catchUp(f.runner(quick(8), all()...))
			story(t, f.log, 40)

			// A frozen process holds its transaction open until the server gives up on it, as cmd/rapport asks the server to.
			config := f.pool.Config()
			config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "300"
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			frozen, thaw := make(chan struct{}), make(chan struct{})
			var once sync.Once
			opts := quick(8)
			opts.Heartbeat = time.Hour         // a stopped process gives no sign of life
			opts.Sweep = 10 * time.Millisecond // after which, with such a heartbeat, a switch is tried again whose locks are taken
			opts.Step = func(at string) error {
				if at == point {
					once.Do(func() { close(frozen); <-thaw })
				}
				return nil
			}
			waits := make(chan struct{}, 1)
			opts.Logger = slog.New(spotter{slog.DiscardHandler, "projections are run by another process; waiting", waits})
			old, err := New(pool, f.log, f.log.registry, all(), opts)
			if err != nil {
				t.Fatal(err)
			}
			f.rebuild(old, "note")
			stopOld := f.start(old)
			select {
			case <-frozen:
			case <-time.After(20 * time.Second):
				t.Fatal("the point was never reached")
			}
			epochs := func(which string) (epoch int64) {
				if err := f.conn.QueryRow(t.Context(), "select "+which+"(epoch) from projection.checkpoint").Scan(&epoch); err != nil {
					t.Fatal(err)
				}
				return epoch
			}
			last := epochs("max")
			opts = quick(8)
			opts.Takeover = 50 * time.Millisecond
			stopYoung := f.start(f.runner(opts, all()...))
			f.eventually("another to take over", func() bool { return epochs("min") > last })
			f.awaitBuild("note", 1, 2)
			f.caughtUp("total", "line")
			if err := stopYoung(); err != nil {
				t.Fatal(err)
			}
			f.same()
			before := f.everything()
			// The old one wakes up, and nobody else works: what it has in hand must not be stored.
			held, err := pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer held.Release()
			f.eventually("the locks to be free", func() bool { // the server may hear late of a session that was cut off
				owned, err := acquire(t.Context(), held.Conn(), old.projections)
				if err != nil {
					t.Fatal(err)
				}
				return len(owned) == len(old.projections)
			})
			select {
			case <-waits: // at its start, for locks that were not free yet
			default:
			}
			close(thaw)
			story(t, f.log, 5)
			select {
			case <-waits:
			case <-time.After(20 * time.Second):
				t.Fatal("the old leader has not noticed")
			}
			if after := f.everything(); after != before {
				t.Errorf("rows changed:\n%s\n%s", before, after)
			}
			if err := stopOld(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// spotter sends when a message is logged.
type spotter struct {
	slog.Handler
	message string
	seen    chan struct{}
}

func (s spotter) Enabled(context.Context, slog.Level) bool { return true }

func (s spotter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == s.message {
		select {
		case s.seen <- struct{}{}:
		default:
		}
	}
	return nil
}

// rows is a digest of all rows.
func (f *fixture) rows() (digest string) {
	f.t.Helper()
	const sql = `select (select md5(string_agg(n::text, ',' order by n.note_id)) from rapport.note n) || ' ' ||
	(select md5(string_agg(t::text, ',' order by t.length)) from rapport.total t) || ' ' ||
	(select md5(string_agg(l::text, ',' order by l.position)) from rapport.line l)`
	if err := f.conn.QueryRow(f.t.Context(), sql).Scan(&digest); err != nil {
		f.t.Fatal(err)
	}
	return digest
}

// everything is a digest of all rows and checkpoints.
func (f *fixture) everything() (digest string) {
	f.t.Helper()
	const sql = `select $1 || ' ' || (select string_agg(concat_ws(' ', name, version, build, state, problem, commit_position, epoch), ', ' order by name, build) from projection.checkpoint)`
	if err := f.conn.QueryRow(f.t.Context(), sql, f.rows()).Scan(&digest); err != nil {
		f.t.Fatal(err)
	}
	return digest
}
