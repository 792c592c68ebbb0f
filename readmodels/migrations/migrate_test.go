package migrations

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/internal/pgtest"
)

func TestMigrateIsRepeatableAndConcurrent(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var g errgroup.Group
	for range 3 {
		g.Go(func() error { return Apply(t.Context(), pool) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	var tables int
	const count = "select count(*) from pg_tables where schemaname = 'projection' and tablename in ('checkpoint', 'parked_stream', 'parked_event', 'parked_audit')"
	if err := pool.QueryRow(t.Context(), count).Scan(&tables); err != nil || tables != 4 {
		t.Errorf("%d tables, %v", tables, err)
	}
}
