package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/reader"
)

// analysts is a database with the rows of two tenants, seen by SQL.
type analysts struct {
	*neighbours
	pool *pgxpool.Pool // of the owner
}

func startAnalysts(t *testing.T) *analysts {
	t.Helper()
	a := &analysts{neighbours: startNeighbours(t)}
	own := a.command("/v1/customers", "own", `{"kind":"company","name":"Own Ltd"}`)
	if answer := a.answered("/v1/customers/" + string(own.ID) + "/360?minPosition=" + own.Position.String()); answer.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", answer.StatusCode, answer.body)
	}
	var err error
	if a.pool, err = pgxpool.New(t.Context(), a.database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.pool.Close)
	return a
}

// login makes a login and returns its name. Logins belong to the whole server, so that the name is of this database.
func (a *analysts) login(of string) string {
	a.t.Helper()
	var name string
	if err := a.pool.QueryRow(a.t.Context(), "select current_database() || '_' || $1", of).Scan(&name); err != nil {
		a.t.Fatal(err)
	}
	quoted := pgx.Identifier{name}.Sanitize()
	a.exec("create role " + quoted + " login")
	a.t.Cleanup(func() {
		ctx := context.WithoutCancel(a.t.Context())
		if _, err := a.pool.Exec(ctx, "drop owned by "+quoted+"; drop role "+quoted); err != nil {
			a.t.Error(err)
		}
	})
	return name
}

func (a *analysts) exec(sql string) {
	a.t.Helper()
	if _, err := a.pool.Exec(a.t.Context(), sql); err != nil {
		a.t.Fatalf("%s: %v", sql, err)
	}
}

// as returns a session of the login, and every notice that it is told.
func (a *analysts) as(login string) (*pgx.Conn, *strings.Builder) {
	a.t.Helper()
	config, err := pgx.ParseConfig(a.database)
	if err != nil {
		a.t.Fatal(err)
	}
	var told strings.Builder
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { told.WriteString(n.Message + n.Detail) }
	conn, err := pgx.ConnectConfig(a.t.Context(), config)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { conn.Close(context.WithoutCancel(a.t.Context())) })
	if _, err := conn.Exec(a.t.Context(), "set session authorization "+pgx.Identifier{login}.Sanitize()); err != nil {
		a.t.Fatal(err)
	}
	return conn, &told
}

// all returns what a query answers, as one text, and its error beside.
func all(t testing.TB, conn *pgx.Conn, sql string) string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		return err.Error()
	}
	defer rows.Close()
	var b strings.Builder
	for rows.Next() {
		values, err := rows.Values()
		fmt.Fprintln(&b, values, err)
	}
	return b.String() + fmt.Sprint(rows.Err())
}

// views returns the views of schema rapport.
func (a *analysts) views() []string {
	a.t.Helper()
	rows, _ := a.pool.Query(a.t.Context(), "select relname::text from pg_class where relnamespace = 'rapport'::regnamespace and relkind = 'v' order by 1")
	views, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(views) < 20 {
		a.t.Fatalf("%d views, %v", len(views), err)
	}
	return views
}

// Whoever is granted one tenant sees no row of another through any view, by no trick of a plain login.
func TestReadersSeeTheirTenantsAlone(t *testing.T) {
	a := startAnalysts(t)
	if err := reader.Begin(t.Context(), a.pool, domain.DefaultTenant); err != nil {
		t.Fatal(err)
	}
	grant := func(login string, tenants ...domain.Tenant) {
		t.Helper()
		if err := reader.Grant(t.Context(), a.pool, login, tenants, "admin"); err != nil {
			t.Fatal(err)
		}
	}
	own, other, both, plain, nobody := a.login("own"), a.login("other"), a.login("both"), a.login("plain"), a.login("nobody")
	grant(own, domain.DefaultTenant)
	grant(other, neighbour)
	grant(both, domain.DefaultTenant, neighbour)
	a.exec("grant rapport_reader to " + pgx.Identifier{plain}.Sanitize()) // as it was done before tenants were granted

	count := func(conn *pgx.Conn, view string) (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "select count(*) from rapport."+view).Scan(&n); err != nil {
			t.Errorf("%s: %v", view, err)
		}
		return n
	}
	owner, err := a.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Release()
	asOwn, told := a.as(own)
	asOther, _ := a.as(other)
	asBoth, _ := a.as(both)
	asPlain, _ := a.as(plain)
	asNobody, _ := a.as(nobody)
	shown := 0
	for _, view := range a.views() {
		if found := all(t, asOwn, "select * from rapport."+view); a.betrays("", []byte(found)) != "" {
			t.Errorf("%s tells: %s", view, found)
		}
		mine, theirs, whole := count(asOwn, view), count(asOther, view), count(asBoth, view)
		if n := count(owner.Conn(), view); mine+theirs != n || whole != n || count(asPlain, view) != mine {
			t.Errorf("%s has %d rows: %d of one, %d of the other, %d of both, %d without a grant", view, n, mine, theirs, whole, count(asPlain, view))
		}
		if theirs > 0 {
			shown++
		}
		if found := all(t, asNobody, "select 1 from rapport."+view); !strings.Contains(found, "permission denied") {
			t.Errorf("%s is open to everybody: %s", view, found)
		}
	}
	if shown < 12 {
		t.Errorf("only %d views have rows of the neighbour", shown)
	}

	// A function of one's own that tells what it is given, as cheap as one can say, and operators that fail on a value.
	all(t, asOwn, "create function pg_temp.tell(t text) returns boolean language plpgsql cost 0.0000001 as $$ begin raise notice '%', t; return true; end $$")
	for _, tricky := range []string{
		"select name from rapport.customer where pg_temp.tell(name)",
		"select c.name from rapport.customer c join rapport.customer d on pg_temp.tell(d.name)",
		"select 1 / (case when name like 'Canary%' then 0 else 1 end) from rapport.customer",
		"select name::int from rapport.customer where name like 'Canary%'",
		"select * from pg_stats where schemaname in ('projection', 'rapport')",
		"select projection.reader_tenants()", "select * from projection.reader", "select * from projection.parked_event",
		"update rapport.customer set tenant = 'main'", "delete from rapport.customer", "insert into projection.reader values (session_user, 'neighbour')",
		"set role " + pgx.Identifier{other}.Sanitize(),
	} {
		if found := all(t, asOwn, tricky); a.betrays("", []byte(found)) != "" {
			t.Errorf("%s tells: %s", tricky, found)
		}
	}
	if a.betrays("", []byte(told.String())) != "" || !strings.Contains(told.String(), "Own Ltd") {
		t.Errorf("notices: %s", told.String())
	}
	for _, change := range []string{"set row_security = off", "reset row_security", "set role rapport_reader", "reset role", "set search_path = pg_temp, rapport"} {
		all(t, asOther, change)
		if found := all(t, asOther, "select * from rapport.customer"); strings.Contains(found, "Own Ltd") {
			t.Errorf("after %s: %s", change, found)
		}
	}
	// The table behind a view is closed, and the planner still finds rows by the tenant's key.
	var table string
	if err := a.pool.QueryRow(t.Context(), "select relname from pg_class where relnamespace = 'projection'::regnamespace and relname like 'log_time_v%' and relkind = 'r' order by 1 desc limit 1").Scan(&table); err != nil {
		t.Fatal(err)
	}
	if found := all(t, asOwn, "select * from projection."+table); !strings.Contains(found, "permission denied for schema") {
		t.Errorf("%s: %s", table, found)
	}
	a.exec(fmt.Sprintf(`insert into projection.%[1]s select (jsonb_populate_record(l, jsonb_build_object('tenant', 'neighbour', 'second', g))).*
		from (select l from projection.%[1]s l limit 1) l, generate_series(1, 20000) g`, table))
	a.exec("analyze projection." + table)
	const explain = "explain (costs off) select * from rapport.log_time where second = 7"
	if plan := all(t, asOther, explain); !strings.Contains(plan, table+"_pkey") || !strings.Contains(plan, "Index Cond: ((tenant = ANY ($0)) AND (second = 7))") {
		t.Errorf("plan of a reader: %s", plan)
	}
	if plan := all(t, owner.Conn(), explain+" and tenant = 'neighbour'"); strings.Contains(plan, "InitPlan") || !strings.Contains(plan, table+"_pkey") {
		t.Errorf("plan of the API: %s", plan)
	}

	// What was granted can be replaced and taken away.
	grant(own, neighbour)
	if n := count(asOwn, "customer"); n != count(asOther, "customer") {
		t.Errorf("after another grant: %d rows", n)
	}
	readers, err := reader.List(t.Context(), a.pool)
	if err != nil || !slices.ContainsFunc(readers, func(r reader.Reader) bool {
		return r.Login == both && slices.Equal(r.Tenants, []string{"main", "neighbour"})
	}) {
		t.Errorf("%+v, %v", readers, err)
	}
	if err := reader.Revoke(t.Context(), a.pool, own); err != nil {
		t.Fatal(err)
	}
	if found := all(t, asOwn, "select * from rapport.customer"); !strings.Contains(found, "permission denied") {
		t.Errorf("after the revocation: %s", found)
	}
}

// A grant that would bound nobody is refused.
func TestGrantsThatBoundNobodyAreRefused(t *testing.T) {
	a := startAnalysts(t)
	super, member, plain := a.login("super"), a.login("member"), a.login("ann")
	a.exec("alter role " + pgx.Identifier{super}.Sanitize() + " superuser")
	var owner string
	if err := a.pool.QueryRow(t.Context(), "select current_user").Scan(&owner); err != nil {
		t.Fatal(err)
	}
	a.exec("grant " + pgx.Identifier{owner}.Sanitize() + " to " + pgx.Identifier{member}.Sanitize())
	try := func(login string) string {
		return fmt.Sprint(reader.Grant(t.Context(), a.pool, login, []domain.Tenant{neighbour}, "admin"))
	}
	for login, want := range map[string]string{super: "reader-unbounded", member: "reader-unbounded", "nobody of this name": "no login", plain: "<nil>"} {
		if got := try(login); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", login, got, want)
		}
	}
	a.exec("create view rapport.everything as select * from rapport.customer")
	if got := try(plain); !strings.HasPrefix(got, "views-unbounded") {
		t.Errorf("beside a view of all tenants: %s", got)
	}
	a.exec("alter view rapport.everything set (security_invoker = true)")
	if got := try(plain); got != "<nil>" {
		t.Error(got)
	}
	if err := reader.Revoke(t.Context(), a.pool, "nobody"); err == nil {
		t.Error("nothing was revoked, without an error")
	}
}
