package projections_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/query"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// store fills a database of its own with the rows of all projections over the events, in batches of a few, and opens it.
func store(t *testing.T, events []domain.Recorded) *query.Store {
	t.Helper()
	s, _ := storeAt(t, events)
	return s
}

// storeAt is store and a connection to the same database.
func storeAt(t *testing.T, events []domain.Recorded) (*query.Store, *pgx.Conn) {
	t.Helper()
	ctx := t.Context()
	url := pgtest.Database(t)
	s, err := query.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s = s.For(domain.Caller{Tenant: domain.DefaultTenant})
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	compiled, err := projection.Compile(projections.All()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range compiled {
		for _, sql := range append(c.Table.CreateSQL(), c.Table.ViewSQL(true)...) {
			exec(t, conn, sql)
		}
		engine := c.NewEngine(100)
		engine.Reset(false)
		const batch = 7
		for from := 0; from < len(events); from += batch {
			apply(t, conn, c.Table, engine, events[from:min(from+batch, len(events))])
		}
		position := domain.Position{}
		if len(events) > 0 {
			position = events[len(events)-1].Position
		}
		exec(t, conn, `insert into projection.checkpoint (name, version, state, commit_position, prepare_position, event_commit, event_prepare, definition)
			values ($1, $2, 'serving', $3, $4, $3, $4, $5)`,
			c.Name, c.Version, int64(position.Commit), int64(position.Prepare), c.Table.Definition())
	}
	return s, conn
}

func apply(t *testing.T, conn *pgx.Conn, table *projection.Table, engine projection.Engine, events []domain.Recorded) {
	t.Helper()
	step, err := engine.Begin(events)
	if err != nil {
		t.Fatal(err)
	}
	if missing := step.Missing(); missing != nil {
		rows, err := conn.Query(t.Context(), table.SelectSQL(), missing...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			if err := rows.Scan(step.Target()...); err != nil {
				t.Fatal(err)
			}
			step.Loaded()
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	writes, err := step.Evaluate(2) // small, so that both ways of storing rows are taken
	if err != nil {
		t.Fatal(err)
	}
	if writes.Copied > 0 {
		if _, err := conn.PgConn().CopyFrom(t.Context(), bytes.NewReader(writes.Copy), table.CopySQL()); err != nil {
			t.Fatal(err)
		}
	}
	if writes.Upserts > 0 {
		exec(t, conn, table.UpsertSQL(), writes.Upsert...)
	}
	if writes.Deletes > 0 {
		exec(t, conn, table.DeleteSQL(), writes.Delete...)
	}
	step.Committed()
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
