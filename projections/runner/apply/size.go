package apply

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/projections/projection"
)

// PostgreSQL plans for the table that it knew when rows were counted last, and keeps the plan until they are counted again.
// The plan for a table of few rows reads all of them for each row that is looked for, and autovacuum comes once a minute: what
// grows from nothing meanwhile takes a minute for a batch. So a table that has outgrown its plans is counted with the batch
// that it does so in.
const (
	CountFrom   = 50     // rows: until then any plan is good enough
	countGrowth = 4      // times as many rows as were counted last
	countUntil  = 32_000 // rows, from which on autovacuum is in time, and counting costs more
)

// size is how many rows a table has, about, and how many it had when PostgreSQL counted them. The zero value is an empty table.
type size struct {
	rows, counted int64
}

// sizeOf returns what PostgreSQL knows of a table.
func sizeOf(ctx context.Context, tx pgx.Tx, t *projection.Table) (s size, err error) {
	const sql = "select coalesce((select greatest(reltuples, 0)::bigint from pg_class where oid = to_regclass($1)), 0)"
	err = tx.QueryRow(ctx, sql, t.Qualified()).Scan(&s.counted)
	s.rows = s.counted
	return s, err
}

// outgrown reports whether the rows are to be counted when there are fresh ones more.
func (s *size) outgrown(fresh int) bool {
	rows := s.rows + int64(fresh)
	return fresh > 0 && s.counted < countUntil && rows >= max(CountFrom, countGrowth*s.counted)
}

// grow notes what was stored.
func (s *size) grow(fresh int, counted bool) {
	s.rows += int64(fresh)
	if counted {
		s.counted = s.rows
	}
}

// sampleSQL makes the rest of a transaction count by 3,000 rows of a table, not 30,000: rows are only looked up by their key.
const sampleSQL = "set local default_statistics_target = 10"

// queueCount counts the rows of a table. Counted whole, tables of all the read models took as long as to fill them.
func queueCount(b *pgx.Batch, t *projection.Table) {
	b.Queue(sampleSQL)
	b.Queue(t.CountSQL())
}
