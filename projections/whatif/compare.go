package whatif

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rapport-crm/rapport/projections/projection"
)

// compare tells the differences of the two tables, and counts.
func (s *scratch) compare(ctx context.Context, c *projection.Compiled, sum *Summary, each func(Change) error) error {
	if err := s.conn.QueryRow(ctx, fmt.Sprintf("select count(*) from %s.as_is", s.schema)).Scan(&sum.Rows); err != nil {
		return err
	}
	rows, err := s.conn.Query(ctx, s.differencesSQL(c))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key []string
		var from, to map[string]json.RawMessage
		if err := rows.Scan(&key, &from, &to); err != nil {
			return err
		}
		if err := sum.row(strings.Join(key, " "), from, to, each); err != nil {
			return err
		}
	}
	return rows.Err()
}

// differencesSQL pairs the rows of the two tables by their key and leaves those that differ, as JSON with what is derived.
func (s *scratch) differencesSQL(c *projection.Compiled) string {
	var keys, using, ordered []string
	for _, k := range c.Table.Key() {
		using = append(using, k.Name)
		ordered = append(ordered, k.Name)
		if k.Name != "tenant" {
			keys = append(keys, k.Name+"::text")
		}
	}
	document := "to_jsonb(t)"
	for _, d := range c.Derived {
		document += fmt.Sprintf(" || jsonb_build_object('%s', %s)", d.Name, d.SQL)
	}
	side := func(name string) string {
		return fmt.Sprintf("(select %s, %s as document from %s.%s t)", strings.Join(using, ", "), document, s.schema, name)
	}
	return fmt.Sprintf(`
select array[%s] as key, a.document as from, b.document as to
from %s a full join %s b using (%s)
where a.document is distinct from b.document
order by %s`, strings.Join(keys, ", "), side("as_is"), side("what_if"), strings.Join(using, ", "), strings.Join(ordered, ", "))
}

// row tells the differences of one row. A row that only one table has is told by its columns that hold something.
func (s *Summary) row(key string, from, to map[string]json.RawMessage, each func(Change) error) error {
	switch {
	case from == nil:
		s.Added++
	case to == nil:
		s.Removed++
	default:
		s.Changed++
	}
	columns := map[string]bool{}
	for name := range from {
		columns[name] = true
	}
	for name := range to {
		columns[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		a, b := string(from[name]), string(to[name])
		if a == b || from == nil && b == "null" || to == nil && a == "null" {
			continue
		}
		if from != nil && to != nil {
			s.Values++
		}
		if err := each(Change{Key: key, Column: name, From: a, To: b}); err != nil {
			return err
		}
	}
	return nil
}
