package query

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/rapport-crm/rapport/domain"
)

// Resource declares a read model that is listed: the view, the row type R, and what the API says of it. Its row type says
// what can be filtered and sorted. From the declaration follow the list, its route, its description and its tests.
type Resource[R any] struct {
	Name    string  // of the list, in camel case: the operation of the API
	Path    string  // of the list
	About   string  // the aggregate that it is about: the chapter of the reference
	View    string  // in schema rapport; also its name in cursors
	Doc     string  // one sentence that begins with "Lists"
	Sort    string  // default order, as Query.Sort
	Indexes []Index // of the table behind the view
	Example Example

	once sync.Once
	read row
	err  error
}

// Index is an index of the table behind a view: what rows are looked up or sorted by.
type Index struct {
	Name    string // unique in the table, a-z, 0-9 and _
	Columns string // SQL
	Where   string // SQL; empty means every row
	Using   string // access method; empty means btree
}

// Example is a query as the reference shows it.
type Example struct{ Filter, Sort string }

// Listed is a Resource without its row type.
type Listed interface {
	Declared() Declaration
	// Rows answers one page: its body is a List.
	Rows(ctx context.Context, s *Store, q Query) (Body, error)
}

// Declaration is what is said of a Resource.
type Declaration struct {
	Name, Path, About, View, Doc string

	Sorts   []string // that an index serves, as Query.Sort
	Example Example
	Row     reflect.Type
	Body    reflect.Type // List of the rows
}

// Body is a List without its row type.
type Body struct {
	List     any
	Next     string
	Position domain.Position
}

// row is a row type as its tags describe it.
type row struct {
	fields []field
	filter *filter
}

func (r *Resource[R]) row() (*row, error) {
	r.once.Do(func() {
		r.read.fields = fieldsOf(reflect.TypeFor[R]())
		r.read.filter, r.err = newFilter(r.read.fields)
	})
	return &r.read, r.err
}

// Declared implements Listed.
func (r *Resource[R]) Declared() Declaration {
	return Declaration{
		Name: r.Name, Path: r.Path, About: r.About, View: r.View, Doc: r.Doc, Sorts: r.sorts(), Example: r.Example,
		Row: reflect.TypeFor[R](), Body: reflect.TypeFor[List[R]](),
	}
}

// Rows implements Listed.
func (r *Resource[R]) Rows(ctx context.Context, s *Store, q Query) (Body, error) {
	list, err := r.List(ctx, s, q)
	return Body{list, list.Next, list.Position}, err
}

// Columns returns the select list of the row type.
func (r *Resource[R]) Columns() string {
	fields := fieldsOf(reflect.TypeFor[R]())
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.column
	}
	return strings.Join(names, ", ")
}

// Where translates a filter to a SQL condition and appends its parameters to args. An empty filter is true. Faults of the
// filter are *domain.InvalidError.
func (r *Resource[R]) Where(filter string, args *Arguments) (string, error) {
	row, err := r.row()
	if err != nil {
		return "", err
	}
	return row.filter.where(filter, args)
}

// sorts returns the orders that an index of all rows serves, each as short as it can be said: without the key that follows
// every order.
func (r *Resource[R]) sorts() []string {
	row, err := r.row()
	if err != nil {
		return nil
	}
	sorts := []string{}
	for _, index := range r.Indexes {
		columns := strings.Split(index.Columns, ", ")
		if index.Where != "" || index.Using != "" || columns[0] != "tenant" {
			continue
		}
		var names []string
		for _, c := range columns[1:] {
			column, direction, _ := strings.Cut(c, " ")
			i := slices.IndexFunc(row.fields, func(f field) bool { return f.column == column })
			if i < 0 || row.fields[i].key && len(names) > 0 {
				break
			}
			name := row.fields[i].name
			if direction == "desc" {
				name = "-" + name
			}
			names = append(names, name)
		}
		if len(names) > 0 {
			sorts = append(sorts, strings.Join(names, ","))
		}
	}
	return sorts
}

// One returns the single row of a view that the condition names, or a *domain.NotFoundError of the kind and id.
func (r *Resource[R]) One(ctx context.Context, s *Store, reach Reach, kind, id, where string, args ...any) (R, domain.Position, error) {
	rows, at, err := r.Many(ctx, s, reach, where, args...)
	switch {
	case err != nil:
		var none R
		return none, at, err
	case len(rows) == 0:
		var none R
		return none, at, &domain.NotFoundError{Kind: kind, ID: id}
	}
	return rows[0], at, nil
}

// Many returns the rows of a view that the condition, which may go on with an order, names.
func (r *Resource[R]) Many(ctx context.Context, s *Store, reach Reach, where string, args ...any) ([]R, domain.Position, error) {
	var rows []R
	var read Reading
	r.Queue(&read, &rows, where, args...)
	at, err := s.Read(ctx, reach, &read)
	if err != nil {
		return nil, at, fmt.Errorf("read %s: %w", r.View, err)
	}
	return rows, at, nil
}

// Queue adds a query for the rows of the view that the condition, which may go on with an order, names.
func (r *Resource[R]) Queue(b *Reading, into *[]R, where string, args ...any) {
	Queue(b, into, "select "+r.Columns()+" from "+r.View+" where "+where, args...)
}
