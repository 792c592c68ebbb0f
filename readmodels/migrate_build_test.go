package readmodels

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"

	"github.com/rapport-crm/rapport/internal/pgtest"
)

// A database of before builds keeps what serves, what is halted and what is retired.
func TestCheckpointsOfBeforeBuildsAreKept(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("create schema projection")
	m, err := migrate.NewMigrator(t.Context(), conn.Conn(), "projection.migration")
	if err == nil {
		err = m.LoadMigrations(os.DirFS("migrations"))
	}
	if err == nil {
		err = m.MigrateTo(t.Context(), 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	exec(`insert into projection.checkpoint (name, version, state, problem, epoch, definition) values
		('a', 1, 'serving', '', 7, ''), ('b', 1, 'halted', 'why', 9, ''), ('c', 1, 'retired', '', 1, ''), ('d', 2, 'rebuilding', '', 1, '')`)
	conn.Release()
	if err := Migrate(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
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
