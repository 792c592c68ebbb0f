package readmodels

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
)

// Limits of lists.
const (
	DefaultLimit  = 50  // rows of a page when the query names no number
	MaxLimit      = 200 // rows of a page at most
	MaxSortFields = 5
)

// Count says how a list counts the rows that match its filter.
type Count string

// The ways to count. The zero value is CountNone.
const (
	CountNone     Count = "none"
	CountEstimate Count = "estimate" // the planner's guess: fast on any table
	CountExact    Count = "exact"    // reads every matching row
)

// Query asks for a page of a list.
type Query struct {
	Filter string // a CEL expression over the fields of the row; empty means all rows
	Sort   string // field names, "-" in front for descending: "-amount,name"; empty means the list's own order
	Cursor string // Page.Next of the page before; empty means the first page
	Limit  int    // 1 to MaxLimit; 0 means DefaultLimit
	Count  Count  // empty means CountNone
}

// Page is a part of a list. Pages follow each other without gap or repetition for all rows whose sort values stay.
type Page[R any] struct {
	Items    []R
	Next     string          // cursor of the next page; empty on the last
	Total    *int64          // matching rows over all pages; nil when not counted
	Position domain.Position // of the log, which the rows reflect at least
}

// resource is a view that can be listed: its row type R says what can be filtered and sorted.
type resource[R any] struct {
	view string // in schema rapport; also its name in cursors
	sort string // default order

	once   sync.Once
	fields []field
	filter *filter
	err    error
}

func newResource[R any](view, sort string) *resource[R] {
	return &resource[R]{view: view, sort: sort}
}

func (r *resource[R]) prepare() error {
	r.once.Do(func() {
		r.fields = fieldsOf(reflect.TypeFor[R]())
		r.filter, r.err = newFilter(r.fields)
	})
	return r.err
}

// columns returns the select list of the row type.
func (r *resource[R]) columns() string {
	names := make([]string, len(r.fields))
	for i, f := range r.fields {
		names[i] = f.column
	}
	return strings.Join(names, ", ")
}

// scope narrows a list to what the method that offers it is about.
type scope struct {
	sql  string // with $n written as %s
	args []any
	typ  string // SQL type of the arguments
}

// sortKey is one part of the order of a list.
type sortKey struct {
	field
	descending bool
}

// order reads a sort expression and appends the primary key as the tie-break.
func (r *resource[R]) order(expression string) ([]sortKey, error) {
	if expression == "" {
		expression = r.sort
	}
	var keys []sortKey
	seen := map[string]bool{}
	names := strings.Split(expression, ",")
	if len(names) > MaxSortFields {
		return nil, domain.Invalid("sort", "more than %d fields", MaxSortFields)
	}
	for _, name := range names {
		name, descending := strings.CutPrefix(strings.TrimSpace(name), "-")
		f, ok := r.filter.fields[name]
		switch {
		case !ok || !f.sortable() || f.long:
			return nil, domain.Invalid("sort", "%q is not a field that can be sorted by", name)
		case seen[f.column]:
			return nil, domain.Invalid("sort", "%q stands there twice", name)
		}
		seen[f.column] = true
		keys = append(keys, sortKey{f, descending})
	}
	descending := keys[len(keys)-1].descending // the same direction lets one index serve the whole order
	for _, f := range r.fields {
		if f.key && f.column != "tenant" && !seen[f.column] {
			keys = append(keys, sortKey{f, descending})
		}
	}
	return keys, nil
}

func orderBy(keys []sortKey) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = k.column
		switch {
		case k.descending && k.nullable:
			parts[i] += " desc nulls last"
		case k.descending:
			parts[i] += " desc"
		}
	}
	return strings.Join(parts, ", ")
}

// after renders the condition that rows come after the values in the order of keys, nulls last.
func after(keys []sortKey, values []*string, args *arguments) (string, error) {
	var alternatives []string
	equal := ""
	for i, k := range keys {
		if values[i] == nil {
			if !k.nullable {
				return "", errCursor()
			}
			equal += k.column + " is null and " // nothing comes after null in this column
			continue
		}
		value, err := k.parse(*values[i])
		if err != nil {
			return "", errCursor()
		}
		place := args.add(value, k.sqlType())
		operator := ">"
		if k.descending {
			operator = "<"
		}
		beyond := k.column + " " + operator + " " + place
		if k.nullable {
			beyond = "(" + beyond + " or " + k.column + " is null)"
		}
		alternatives = append(alternatives, "("+equal+beyond+")")
		equal += k.column + " = " + place + " and "
	}
	if len(alternatives) == 0 {
		return "false", nil
	}
	return "(" + strings.Join(alternatives, " or ") + ")", nil
}

// list answers one page of a view, of the whole of it without a scope.
func list[R any](ctx context.Context, s *Store, r *resource[R], tenant domain.Tenant, q Query, scopes ...scope) (answer Page[R], err error) {
	err = s.within(ctx, tenant, views(r.view), func(from Querier) error {
		answer, err = page(ctx, s, from, r, tenant, q, scopes...)
		return err
	})
	return answer, err
}

// page answers one page by a querier that within has given.
func page[R any](ctx context.Context, s *Store, querier Querier, r *resource[R], tenant domain.Tenant, q Query, scopes ...scope) (Page[R], error) {
	if err := r.prepare(); err != nil {
		return Page[R]{}, err
	}
	limit := q.Limit
	switch {
	case limit == 0:
		limit = DefaultLimit
	case limit < 0 || limit > MaxLimit:
		return Page[R]{}, domain.Invalid("limit", "%d is not between 1 and %d", limit, MaxLimit)
	}
	keys, err := r.order(q.Sort)
	if err != nil {
		return Page[R]{}, err
	}

	var args arguments
	conditions := []string{"tenant = " + args.add(string(tenant), "text")}
	binding := []string{r.view, string(tenant), orderBy(keys), q.Filter}
	for _, sc := range scopes {
		places := make([]any, len(sc.args))
		for i, a := range sc.args {
			places[i] = args.add(a, sc.typ)
		}
		conditions = append(conditions, fmt.Sprintf(sc.sql, places...))
		binding = append(binding, sc.sql, fmt.Sprint(sc.args...))
	}
	where, err := r.filter.where(q.Filter, &args)
	if err != nil {
		return Page[R]{}, err
	}
	conditions = append(conditions, where)
	from := " from " + r.view + " where " + strings.Join(conditions, " and ")
	counted := args[:len(args):len(args)]

	if s.moment != nil {
		binding = append(binding, s.moment.binding()...)
	}
	if q.Cursor != "" {
		cursor, err := s.moment.unpin(q.Cursor)
		if err != nil {
			return Page[R]{}, err
		}
		values, err := decodeCursor(s.tag, binding, cursor, len(keys))
		if err != nil {
			return Page[R]{}, err
		}
		beyond, err := after(keys, values, &args)
		if err != nil {
			return Page[R]{}, err
		}
		conditions = append(conditions, beyond)
	}
	rows := fmt.Sprintf("select %s from %s where %s order by %s limit %d",
		r.columns(), r.view, strings.Join(conditions, " and "), orderBy(keys), limit+1)

	var answer Page[R]
	var read reading
	queue(&read, &answer.Items, rows, args...)
	switch q.Count {
	case "", CountNone:
	case CountExact:
		read.Queue("select count(*)"+from, counted...).QueryRow(func(row pgx.Row) error {
			return row.Scan(&answer.Total)
		})
	case CountEstimate:
		read.Queue("explain (format json) select 1"+from, counted...).QueryRow(func(row pgx.Row) error {
			var plan []byte
			if err := row.Scan(&plan); err != nil {
				return err
			}
			n, err := plannedRows(plan)
			answer.Total = &n
			return err
		})
	default:
		return Page[R]{}, domain.Invalid("count", "%q is not none, estimate or exact", q.Count)
	}
	if answer.Position, err = s.send(ctx, querier, &read); err != nil {
		return Page[R]{}, fmt.Errorf("list %s: %w", r.view, err)
	}
	if len(answer.Items) > limit {
		answer.Items = answer.Items[:limit]
		last := reflect.ValueOf(answer.Items[limit-1])
		values := make([]*string, len(keys))
		for i, k := range keys {
			values[i] = k.format(last)
		}
		cursor, err := encodeCursor(s.tag, binding, values)
		if err != nil {
			return Page[R]{}, err
		}
		answer.Next = s.moment.pin(cursor)
	}
	return answer, nil
}

// plannedRows reads the planner's guess from EXPLAIN's JSON.
func plannedRows(plan []byte) (int64, error) {
	var explained []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(plan, &explained); err != nil || len(explained) != 1 {
		return 0, fmt.Errorf("readmodels: the plan does not read: %w", err)
	}
	return int64(explained[0].Plan.Rows), nil
}
