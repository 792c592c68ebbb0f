package projection

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/rapport-crm/rapport/readmodels/query"
)

// Schemas of the database: tables live in one, the stable views that readers use in the other.
const (
	TableSchema = "projection"
	ViewSchema  = "rapport"
)

// Table is the relational shape that follows from a declaration. Everything that it renders is deterministic.
type Table struct {
	Schema   string // of the database: TableSchema, unless In made it another
	Name     string // with the version, and the build unless it is the first: "customer_v3", "customer_v3_b2"
	View     string // without: "customer"
	Doc      string
	Columns  []Column // the key's first
	Indexes  []query.Index
	keys     int    // the first so many columns are the primary key
	appends  bool   // rows are only ever inserted
	declared string // the name of the first build
}

// TableName returns the name of the table of a build: the first of a version is "customer_v3", later ones stand beside it as
// "customer_v3_b2".
func TableName(projection string, version, build int) string {
	name := fmt.Sprintf("%s_v%d", projection, version)
	if build > 1 {
		name += fmt.Sprintf("_b%d", build)
	}
	return name
}

// Key returns the columns of the primary key.
func (t *Table) Key() []Column { return t.Columns[:t.keys] }

// Qualified returns the table's name with its schema.
func (t *Table) Qualified() string { return t.Schema + "." + t.Name }

// In returns the same table in another schema and under the name of its view: a scratch copy beside the one that readers
// use, found by the same queries when the schema comes first in the search path. schema must be a plain SQL name.
func (t *Table) In(schema string) *Table {
	copied := *t
	copied.Schema, copied.Name = schema, t.View
	return &copied
}

// CreateSQL returns the statements that make the table with its key and its comments, if they are missing.
func (t *Table) CreateSQL() []string {
	var b strings.Builder
	fmt.Fprintf(&b, "create table if not exists %s (", t.Qualified())
	for _, c := range t.Columns {
		fmt.Fprintf(&b, "\n\t%s %s%s,", c.Name, c.Type, notNull(c))
	}
	fmt.Fprintf(&b, "\n\tprimary key (%s)\n)", names(t.Key(), ""))
	statements := []string{b.String(), comment("table", t.Qualified(), t.Doc)}
	for _, c := range t.Columns {
		if c.Doc != "" {
			statements = append(statements, comment("column", t.Qualified()+"."+c.Name, c.Doc))
		}
	}
	return statements
}

// IndexSQL returns the statements that make the indexes, if they are missing. They stand apart because rows are loaded
// faster without.
func (t *Table) IndexSQL() []string {
	var statements []string
	for _, i := range t.Indexes {
		statements = append(statements, t.indexSQL(i, t.Name))
	}
	return statements
}

// AnalyzeSQL returns the statement that counts the rows for the planner, and the values of every column. Until the server gets to
// it by itself, a table that was just loaded looks small, and lists are planned without their indexes. It does nothing while
// somebody else counts.
func (t *Table) AnalyzeSQL() string { return "analyze (skip_locked) " + t.Qualified() }

// CountSQL returns the statement that counts the rows and the values of the key alone, which is all that looking rows up is
// planned with. The server's own count of all columns comes as early as without.
func (t *Table) CountSQL() string {
	return fmt.Sprintf("%s (%s)", t.AnalyzeSQL(), names(t.Key(), ""))
}

// indexSQL names the index for the table of the name given.
func (t *Table) indexSQL(i query.Index, name string) string {
	using, where := "", ""
	if i.Using != "" {
		using = "using " + i.Using + " "
	}
	if i.Where != "" {
		where = " where " + i.Where
	}
	return fmt.Sprintf("create index if not exists %s_%s on %s.%s %s(%s)%s", name, i.Name, t.Schema, name, using, i.Columns, where)
}

// DropSQL returns the statement that removes the table and all views on it.
func (t *Table) DropSQL() string { return "drop table if exists " + t.Qualified() + " cascade" }

// ViewSQL returns the statements that point the stable view at this table. A view can be replaced in place, with all that
// stands upon it, as long as it keeps its columns and gets new ones behind them; else it is dropped first.
func (t *Table) ViewSQL(inPlace bool) []string {
	view := ViewSchema + "." + t.View
	var statements []string
	if !inPlace {
		statements = append(statements, "drop view if exists "+view)
	}
	statements = append(statements,
		fmt.Sprintf("create or replace view %s as select %s from %s", view, names(t.Columns, ""), t.Qualified()),
		comment("view", view, t.Doc))
	for _, c := range t.Columns {
		if c.Doc != "" {
			statements = append(statements, comment("column", view+"."+c.Name, c.Doc))
		}
	}
	return statements
}

// Definition returns a digest of everything that the table's shape depends on. A stored digest that differs tells that
// the declaration has changed without a new version.
func (t *Table) Definition() string {
	h := fnv.New64a()
	for _, c := range t.Columns {
		fmt.Fprintf(h, "%s %s%s\n", c.Name, c.Type, notNull(c))
	}
	fmt.Fprintf(h, "key %d\n", t.keys)
	for _, i := range t.Indexes {
		fmt.Fprintln(h, t.indexSQL(i, t.declared)) // the same for all builds
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// SelectSQL returns the query for the rows whose keys stand in arrays, one parameter for each key column. Its columns are
// those that Step.Targets scans.
func (t *Table) SelectSQL() string {
	selected := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		selected[i] = "t." + c.Name + c.cast()
	}
	return fmt.Sprintf("select %s from (select %s from unnest(%s) as n(%s)) k join %s t using (%s)",
		strings.Join(selected, ", "), casts(t.Key()), arrays(t.Key()), names(t.Key(), ""), t.Qualified(), names(t.Key(), ""))
}

// CopySQL returns the statement that stores new rows given in the binary format of COPY: twice as fast as UpsertSQL when
// there are many, but it fails for a row whose key is there already.
func (t *Table) CopySQL() string {
	return fmt.Sprintf("copy %s (%s) from stdin (format binary)", t.Qualified(), names(t.Columns, ""))
}

// UpsertSQL returns the statement that stores rows given as arrays, one parameter for each column. Rows of an Append that
// are there already stay as they are.
func (t *Table) UpsertSQL() string {
	conflict := "do nothing"
	if rest := t.Columns[t.keys:]; !t.appends && len(rest) > 0 {
		conflict = fmt.Sprintf("do update set (%s) = row(%s)", names(rest, ""), names(rest, "excluded."))
	}
	return fmt.Sprintf("insert into %s (%s) select %s from unnest(%s) as n(%s) on conflict (%s) %s",
		t.Qualified(), names(t.Columns, ""), casts(t.Columns), arrays(t.Columns), names(t.Columns, ""), names(t.Key(), ""), conflict)
}

// DeleteSQL returns the statement that removes the rows whose keys stand in arrays, one parameter for each key column.
func (t *Table) DeleteSQL() string {
	conditions := make([]string, t.keys)
	for i, c := range t.Key() {
		conditions[i] = fmt.Sprintf("t.%s = k.%s%s", c.Name, c.Name, c.read())
	}
	return fmt.Sprintf("delete from %s t using unnest(%s) as k(%s) where %s",
		t.Qualified(), arrays(t.Key()), names(t.Key(), ""), strings.Join(conditions, " and "))
}

func notNull(c Column) string {
	if c.Nullable {
		return ""
	}
	return " not null"
}

func names(columns []Column, prefix string) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = prefix + c.Name
	}
	return strings.Join(list, ", ")
}

func arrays(columns []Column) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = fmt.Sprintf("$%d::%s", i+1, c.array())
	}
	return strings.Join(list, ", ")
}

// casts lists the columns of unnested arrays, each as its own type.
func casts(columns []Column) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c.Name + c.read()
		if c.read() != "" {
			list[i] += " as " + c.Name
		}
	}
	return strings.Join(list, ", ")
}

func comment(kind, name, text string) string {
	return fmt.Sprintf("comment on %s %s is '%s'", kind, name, strings.ReplaceAll(text, "'", "''"))
}
