// Package reader says which logins of the database read the rows of which tenants through the views in schema rapport. The
// database itself bounds them, by policies on the tables behind the views (migrations/007_reader.sql).
package reader

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
)

// Role is the role that may read the views. A login becomes a member when it is granted a tenant.
const Role = "rapport_reader"

// everybody is the name of the row for logins that have none of their own.
const everybody = "public"

// Reader is a login and what it reads.
type Reader struct {
	Login   string   `json:"login"` // public stands for every login that is not listed
	Tenants []string `json:"tenants"`
}

// Begin makes the first tenant that an installation serves the one that logins read to which nothing was granted. Later calls
// change nothing.
func Begin(ctx context.Context, pool *pgxpool.Pool, first domain.Tenant) error {
	const sql = `insert into projection.reader (login, tenant)
		select $1, $2 where not exists (select from projection.reader where login = $1) on conflict do nothing`
	_, err := pool.Exec(ctx, sql, everybody, string(first))
	return err
}

// Grant lets a login of the database read the tenants, and no others. It returns a *domain.NotFoundError for a login that there is
// not, and a *domain.Rejection for one that the database does not bound, or when the views do not bound whoever reads them.
func Grant(ctx context.Context, pool *pgxpool.Pool, login string, tenants []domain.Tenant, by string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := bounded(ctx, tx, login); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "grant "+Role+" to "+pgx.Identifier{login}.Sanitize()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "delete from projection.reader where login = $1", login); err != nil {
			return err
		}
		const sql = "insert into projection.reader (login, tenant, granted_by) select distinct $1::name, t, $3 from unnest($2::text[]) t"
		_, err := tx.Exec(ctx, sql, login, tenants, by)
		return err
	})
}

// bounded checks that a login would see the rows of its tenants alone.
func bounded(ctx context.Context, tx pgx.Tx, login string) error {
	var above, reader bool
	const role = `select rolsuper or rolbypassrls or exists (
			select from pg_class c join pg_namespace n on n.oid = c.relnamespace
			where n.nspname in ('rapport', 'projection') and c.relkind in ('r', 'v') and pg_has_role(r.oid, c.relowner, 'member')),
		exists (select from pg_roles where rolname = $2)
		from pg_roles r where rolname = $1`
	rows, _ := tx.Query(ctx, role, login, Role) // CollectExactlyOneRow returns the error
	_, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, row.Scan(&above, &reader) })
	switch {
	case err == pgx.ErrNoRows:
		return &domain.NotFoundError{Kind: "login of the database", ID: login}
	case err != nil:
		return err
	case !reader:
		return domain.Reject("reader-role-missing", "the database has no role {role}: its administrator makes it, with usage of schema rapport and select on its views", Role)
	case above:
		return domain.Reject("reader-unbounded", "{login} is a superuser, bypasses row security or is a member of the tables' owner: no policy bounds it", login)
	}
	const open = `select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'rapport' and c.relkind in ('v', 'm', 'r')
			and not coalesce('security_invoker=true' = any (c.reloptions) or 'security_invoker=on' = any (c.reloptions), false)
		order by 1`
	rows, _ = tx.Query(ctx, open)
	views, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(views) > 0 {
		return domain.Reject("views-unbounded", "schema rapport has relations that show the rows of all tenants: {views}; make them views with security_invoker = true, or move them to another schema", strings.Join(views, ", "))
	}
	return err
}

// Revoke takes from a login what was granted to it: it reads no view any more. It returns a *domain.NotFoundError for one to which
// nothing was granted.
func Revoke(ctx context.Context, pool *pgxpool.Pool, login string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		found, err := tx.Exec(ctx, "delete from projection.reader where login = $1 and login <> $2", login, everybody)
		if err == nil && found.RowsAffected() == 0 {
			return &domain.NotFoundError{Kind: "reader", ID: login}
		}
		if err != nil {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", login).Scan(&exists); err != nil || !exists {
			return err
		}
		_, err = tx.Exec(ctx, "revoke "+Role+" from "+pgx.Identifier{login}.Sanitize())
		return err
	})
}

// List returns every login to which tenants were granted, and what others read.
func List(ctx context.Context, pool *pgxpool.Pool) ([]Reader, error) {
	rows, _ := pool.Query(ctx, "select login::text, array_agg(tenant order by tenant) from projection.reader group by login order by login")
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Reader])
}
