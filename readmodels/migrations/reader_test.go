package migrations

import "testing"

// Views of before tenants were granted are bounded by the migration, and whoever could read them still can.
func TestViewsOfBeforeReadersAreBounded(t *testing.T) {
	t.Parallel()
	pool := migrated(t, 6, `create table projection.note_v1 (tenant text, id text, primary key (tenant, id));
		insert into projection.note_v1 values ('main', 'a'), ('other', 'b'), ('other', 'c');
		create view rapport.note as select tenant, id from projection.note_v1;
		grant select on rapport.note to public;
		grant usage on schema rapport to public;
		create view rapport.constant as select 1 as n;`)
	read := func() (got string) {
		t.Helper()
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		if _, err := tx.Exec(t.Context(), "set local role rapport_reader"); err != nil {
			t.Fatal(err)
		}
		if err := tx.QueryRow(t.Context(), "select string_agg(id, ' ' order by id) from rapport.note").Scan(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := read(); got != "a" {
		t.Errorf("before a server has begun: %s, want those of main", got)
	}
	if _, err := pool.Exec(t.Context(), "insert into projection.reader (login, tenant) values ('public', 'other')"); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "b c" {
		t.Errorf("of the first tenant: %s", got)
	}
	var all int
	if err := pool.QueryRow(t.Context(), "select count(*) from rapport.note").Scan(&all); err != nil || all != 3 {
		t.Errorf("the owner sees %d rows, %v", all, err)
	}
}
