package build

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/projections/projection"
)

// Prepare makes the table of a build where it is missing. One that is not as declared is left alone, and what is wrong
// with it is returned.
func Prepare(ctx context.Context, tx pgx.Tx, c Checkpoint, of *projection.Compiled) (problem string, err error) {
	if c.Definition != of.Table.Definition() {
		return DriftProblem(of.Name, declarationChanged), nil
	}
	difference, err := differs(ctx, tx, of.Table, !c.At.IsZero())
	if err != nil || difference != "" {
		return DriftProblem(of.Name, difference), err
	}
	return "", execAll(ctx, tx, of.Table.CreateSQL())
}

const declarationChanged = "the declared columns, key or indexes are not those that the table was made with"

// columnsSQL lists the columns of a table or view, which need not be there.
const columnsSQL = `select attname::text, format_type(atttypid, atttypmod), not attnotnull, coalesce(col_description(attrelid, attnum), '')
from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum`

// Catalogued returns the columns of a table or view as the database knows them.
func Catalogued(ctx context.Context, tx pgx.Tx, relation string) ([]projection.Column, error) {
	rows, err := tx.Query(ctx, columnsSQL, relation)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c projection.Column, err error) {
		err = row.Scan(&c.Name, &c.Type, &c.Nullable, &c.Doc)
		if c.Type == "timestamp with time zone" {
			c.Type = "timestamptz"
		}
		return c, err
	})
}

// differs returns how the columns of a table differ from those declared, or "". A table that is missing differs only if
// it should hold rows.
func differs(ctx context.Context, tx pgx.Tx, t *projection.Table, filled bool) (string, error) {
	found, err := Catalogued(ctx, tx, t.Qualified())
	switch {
	case err != nil:
		return "", err
	case len(found) == 0 && filled:
		return "the table is missing", nil
	case len(found) == 0:
		return "", nil
	case len(found) != len(t.Columns):
		return fmt.Sprintf("the table has %d columns, %d are declared", len(found), len(t.Columns)), nil
	}
	for i, c := range t.Columns {
		if f := found[i]; f.Name != c.Name || f.Type != c.Type || f.Nullable != c.Nullable {
			return fmt.Sprintf("column %s %s of the table is declared as %s %s", f.Name, f.Type, c.Name, c.Type), nil
		}
	}
	return "", nil
}

// PointView points the stable view at the table of a build, whatever version it is of: its columns are those that the
// database knows. Where the columns allow it the view stays, with the views that users have put on top.
func PointView(ctx context.Context, tx pgx.Tx, key Key, doc string) error {
	t := projection.Table{Schema: projection.TableSchema, Name: key.Table(), View: key.Name, Doc: doc}
	const points = `select exists (
		select from pg_depend d join pg_rewrite w on w.oid = d.objid
		where d.classid = 'pg_rewrite'::regclass and w.ev_class = to_regclass($1) and d.refobjid = to_regclass($2))`
	var done bool
	err := tx.QueryRow(ctx, points, projection.ViewSchema+"."+t.View, t.Qualified()).Scan(&done)
	if err != nil || done {
		return err
	}
	if t.Columns, err = Catalogued(ctx, tx, t.Qualified()); err != nil {
		return err
	}
	shown, err := Catalogued(ctx, tx, projection.ViewSchema+"."+t.View)
	if err != nil {
		return err
	}
	inPlace := len(shown) <= len(t.Columns)
	for i := range shown {
		inPlace = inPlace && shown[i].Name == t.Columns[i].Name && shown[i].Type == t.Columns[i].Type
	}
	if err := execAll(ctx, tx, t.ViewSQL(inPlace)); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, guardSQL, projection.ViewSchema+"."+t.View, t.Qualified())
	return err
}

// guardSQL bounds a view that was made: readers see the rows of the tenants that are granted to them.
const guardSQL = "select projection.guard($1::text::regclass, $2::text::regclass)"

// Table returns the name of the build's table.
func (k Key) Table() string { return projection.TableName(k.Name, k.Version, k.Number) }

func (k Key) String() string {
	if k.Number > 1 {
		return fmt.Sprintf("%s v%d build %d", k.Name, k.Version, k.Number)
	}
	return fmt.Sprintf("%s v%d", k.Name, k.Version)
}

func execAll(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%w in %q", err, sql)
		}
	}
	return nil
}

// DriftProblem is what a projection whose table has another shape than declared is halted with.
func DriftProblem(name, detail string) string {
	return fmt.Sprintf("%s: raise the projection's version, or run `rapport projections rebuild %s`", detail, name)
}
