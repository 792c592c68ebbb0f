package query

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

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
	Cursor string // List.Next of the page before; empty means the first page
	Limit  int    // 1 to MaxLimit; 0 means DefaultLimit
	Count  Count  // empty means CountNone
}

// List is a page of a list. Pages follow each other without gap or repetition for all rows whose sort values stay.
type List[R any] struct {
	Items    []R             `json:"items" doc:"The items of the page."`
	Next     string          `json:"next,omitempty" doc:"Cursor of the next page; absent on the last."`
	Count    *int64          `json:"count,omitempty" doc:"Items that match over all pages, when asked for."`
	Position domain.Position `json:"position" doc:"Place in the log that the items reflect at least."`
}

// Scope narrows a list to what the query that offers it is about.
type Scope struct {
	SQL  string // a condition with $n written as %s, or as %[1]s where it stands several times
	Args []any
	Type string // SQL type of the arguments
}

// sortKey is one part of the order of a list.
type sortKey struct {
	field
	descending bool
}

// order reads a sort expression and appends the primary key as the tie-break.
func (r *row) order(expression string) ([]sortKey, error) {
	var keys []sortKey
	seen := map[string]bool{}
	names := strings.Split(expression, ",")
	if len(names) > MaxSortFields {
		return nil, domain.Invalid("sort", "more than {limit} fields", MaxSortFields)
	}
	for _, name := range names {
		name, descending := strings.CutPrefix(strings.TrimSpace(name), "-")
		f, ok := r.filter.fields[name]
		switch {
		case !ok || !f.sortable() || f.long:
			return nil, domain.Invalid("sort", "\"{name}\" is not a field that can be sorted by", name)
		case seen[f.column]:
			return nil, domain.Invalid("sort", "\"{name}\" stands there twice", name)
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
func after(keys []sortKey, values []*string, args *Arguments) (string, error) {
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
		place := args.Add(value, k.sqlType())
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

// List answers one page of the view, of the whole of it without a scope.
func (r *Resource[R]) List(ctx context.Context, s *Store, q Query, scopes ...Scope) (answer List[R], err error) {
	err = s.Within(ctx, Views(r.View), func(from Querier) error {
		answer, err = r.Page(ctx, s, from, q, scopes...)
		return err
	})
	return answer, err
}

// Page is List by a querier that Within has given.
func (r *Resource[R]) Page(ctx context.Context, s *Store, querier Querier, q Query, scopes ...Scope) (List[R], error) {
	row, err := r.row()
	if err != nil {
		return List[R]{}, err
	}
	limit, err := Limit(q.Limit)
	if err != nil {
		return List[R]{}, err
	}
	keys, err := row.order(cmp.Or(q.Sort, r.Sort))
	if err != nil {
		return List[R]{}, err
	}

	var args Arguments
	conditions := []string{"tenant = " + args.Add(string(s.Tenant()), "text")}
	binding := []string{r.View, string(s.Tenant()), orderBy(keys), q.Filter}
	for _, sc := range scopes {
		places := make([]any, len(sc.Args))
		for i, a := range sc.Args {
			places[i] = args.Add(a, sc.Type)
		}
		conditions = append(conditions, fmt.Sprintf(sc.SQL, places...))
		binding = append(binding, sc.SQL, fmt.Sprint(sc.Args...))
	}
	where, err := row.filter.where(q.Filter, &args)
	if err != nil {
		return List[R]{}, err
	}
	conditions = append(conditions, where)
	from := " from " + r.View + " where " + strings.Join(conditions, " and ")
	counted := args[:len(args):len(args)]

	if s.moment != nil {
		binding = append(binding, s.moment.binding()...)
	}
	if q.Cursor != "" {
		cursor, err := s.moment.unpin(q.Cursor)
		if err != nil {
			return List[R]{}, err
		}
		values, err := decodeCursor(s.tag, binding, cursor, len(keys))
		if err != nil {
			return List[R]{}, err
		}
		beyond, err := after(keys, values, &args)
		if err != nil {
			return List[R]{}, err
		}
		conditions = append(conditions, beyond)
	}
	rows := fmt.Sprintf("select %s from %s where %s order by %s limit %d",
		r.Columns(), r.View, strings.Join(conditions, " and "), orderBy(keys), limit+1)

	var answer List[R]
	var read Reading
	Queue(&read, &answer.Items, rows, args...)
	switch q.Count {
	case "", CountNone:
	case CountExact:
		read.Queue("select count(*)"+from, counted...).QueryRow(func(row pgx.Row) error {
			return row.Scan(&answer.Count)
		})
	case CountEstimate:
		read.Queue("explain (format json) select 1"+from, counted...).QueryRow(func(row pgx.Row) error {
			var plan []byte
			if err := row.Scan(&plan); err != nil {
				return err
			}
			n, err := plannedRows(plan)
			answer.Count = &n
			return err
		})
	default:
		return List[R]{}, domain.Invalid("count", "\"{value}\" is not none, estimate or exact", q.Count)
	}
	if answer.Position, err = s.Send(ctx, querier, &read); err != nil {
		return List[R]{}, fmt.Errorf("list %s: %w", r.View, err)
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
			return List[R]{}, err
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
		return 0, fmt.Errorf("query: the plan does not read: %w", err)
	}
	return int64(explained[0].Plan.Rows), nil
}

// Limit returns the number of rows that a query may have when it asks for so many; 0 asks for DefaultLimit.
func Limit(asked int) (int, error) {
	switch {
	case asked == 0:
		return DefaultLimit, nil
	case asked < 0 || asked > MaxLimit:
		return 0, domain.Invalid("limit", "{value} is not between 1 and {limit}", asked, MaxLimit)
	}
	return asked, nil
}
