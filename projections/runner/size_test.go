package runner

import (
	"testing"

	"github.com/rapport-crm/rapport/projections/runner/apply"
)

// A table that grows under a server that knows it as a small one is counted as it grows: its plans would read all of it for
// each row of a batch until autovacuum comes.
func TestTablesThatOutgrowTheirPlansAreCounted(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	counted := func() (rows int) {
		t.Helper()
		const sql = "select reltuples::integer from pg_class where oid = 'projection.note_v1'::regclass"
		if err := f.pool.QueryRow(t.Context(), sql).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	f.log.write(t, 0, written{Text: "x"})
	f.catchUp(f.runner(quick(8), all()...))
	if rows := counted(); rows != 1 {
		t.Fatalf("after the build the planner counts on %d rows, want 1", rows)
	}
	for i := range 2 * apply.CountFrom {
		f.log.write(t, i, written{Text: "x"})
	}
	f.catchUp(f.runner(quick(8), all()...)) // another process, which knows only what the database knows
	if rows := counted(); rows < apply.CountFrom {
		t.Errorf("after %d rows the planner counts on %d", 2*apply.CountFrom, rows)
	}
	f.same()
}
