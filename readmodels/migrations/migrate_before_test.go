package migrations

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"

	"github.com/rapport-crm/rapport/internal/pgtest"
)

// migrated returns a database whose fixed tables were those of a version, were filled by sql, and are now those of today.
func migrated(t *testing.T, version int32, sql string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	err = pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
		if _, err := conn.Exec(t.Context(), "create schema projection"); err != nil {
			return err
		}
		m, err := migrate.NewMigrator(t.Context(), conn.Conn(), "projection.migration")
		if err == nil {
			err = m.LoadMigrations(os.DirFS("."))
		}
		if err == nil {
			err = m.MigrateTo(t.Context(), version)
		}
		if err == nil {
			_, err = conn.Exec(t.Context(), sql)
		}
		return err
	})
	if err == nil {
		err = Apply(t.Context(), pool)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// A database of before builds keeps what serves, what is halted and what is retired.
func TestCheckpointsOfBeforeBuildsAreKept(t *testing.T) {
	t.Parallel()
	pool := migrated(t, 1, `insert into projection.checkpoint (name, version, state, problem, epoch, definition) values
		('a', 1, 'serving', '', 7, ''), ('b', 1, 'halted', 'why', 9, ''), ('c', 1, 'retired', '', 1, ''), ('d', 2, 'rebuilding', '', 1, '')`)
	var got string
	var next int64
	const sql = `select string_agg(concat_ws(' ', name, version, build, state, problem, drop_at is not null), ', ' order by name), nextval('projection.epoch')
		from projection.checkpoint`
	if err := pool.QueryRow(t.Context(), sql).Scan(&got, &next); err != nil {
		t.Fatal(err)
	}
	if want := "a 1 1 serving  f, b 1 1 serving why f, c 1 1 retired  t, d 2 1 building  f"; got != want || next <= 9 {
		t.Errorf("got %s, next epoch %d", got, next)
	}
}

// Checkpoints of before marks go on where they were: at the last event of a projection, and where a reactor has come to.
func TestCheckpointsOfBeforeMarksAreKept(t *testing.T) {
	t.Parallel()
	pool := migrated(t, 3, `insert into projection.checkpoint (name, version, commit_position, prepare_position, event_commit, event_prepare, definition)
		values ('a', 1, 900, 900, 700, 700, '');
		insert into reactor.checkpoint (name, log_id, commit_position, prepare_position) values ('crm', 'log', 800, 790)`)
	var got string
	const sql = `select concat_ws(' ', p.commit_position, p.event_commit, p.event_prepare, p.event_id = '', r.commit_position, r.event_commit, r.event_prepare, r.event_id = '')
		from projection.checkpoint p, reactor.checkpoint r`
	if err := pool.QueryRow(t.Context(), sql).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if want := "900 700 700 t 800 800 790 t"; got != want {
		t.Errorf("got %s", got)
	}
}
