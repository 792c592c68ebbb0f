package query

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
)

// Record declares one record with the parts that belong to it. D is a struct that embeds the record's row and has a member for
// each part, or the row type itself. From the declaration follow the query that reads it, its assembly from rows in memory,
// its route, and what can be explained of it.
type Record[D any] struct {
	Name      string // operation of the API, in camel case
	Path      string // its route, with {id}
	Aggregate string // whose stream makes it
	Doc       string // one sentence that begins with "Returns"
	Words     string // what it is, behind "the events of": "an order"
	Explains  string // JSON pointer of a value whose explanation is asked for in the reference
	Row       Part[D]
	Parts     []Part[D]
	Derived   []Derived[D]

	// Related finds, by tenant $1 and id $2, the streams whose events make the record: rows of aggregate and id. Empty means
	// that its own stream makes it alone, so that an unchanged revision means an unchanged record.
	Related string
	// Replayed is the type of the answer with its replay, where its states show more than D: see ReplayOf.
	Replayed reflect.Type
}

// ReplayOf returns the type of the answer with a replay whose states are of type S.
func ReplayOf[S any]() reflect.Type { return reflect.TypeFor[List[ReplayEntry[S]]]() }

// Single is a Record without its type.
type Single interface {
	DeclaredRecord() RecordDeclaration
	// Get returns the record and the revision of its stream, or a *domain.NotFoundError.
	Get(ctx context.Context, s *Store, id domain.ID) (record any, revision int64, at domain.Position, err error)
	// Assemble makes the record from rows in memory: rows returns those of a view, in the order of its key.
	Assemble(rows func(view string) []any, id domain.ID) any
	// Derive returns the value of a derived member of an assembled record, and false when there is none of the name.
	Derive(record any, member string) (any, bool)
}

// RecordDeclaration is what is said of a Record.
type RecordDeclaration struct {
	Name, Path, Aggregate, Doc string

	Words, Explains string
	Own             bool         // its own stream makes it alone
	Type            reflect.Type // of the record
	Replayed        reflect.Type // of the answer with its replay
	Parts           []PartDeclaration
}

// PartDeclaration is what is said of a Part, or of a Derived.
type PartDeclaration struct {
	Member  string // of the record as JSON; empty for the row
	View    string // whose rows it is made of
	Formula string // how it is made, for readers
	Type    reflect.Type
	Derived bool // it follows from the row, and is explained, not shown
}

// LastStands is the formula of plain columns.
const LastStands = "the last event that set it stands; sums and counts add up"

// Part is the row of a record, or the rows of another view that belong to it.
type Part[D any] struct {
	PartDeclaration
	queue    func(b *Reading, tenant domain.Tenant, id domain.ID) (found func(*D) bool)
	assemble func(*D, []any, domain.ID)
	revision func(*D) int64
}

// Derived is a value that follows from a record's row alone and is explained beside it.
type Derived[D any] struct {
	Member  string
	Formula string
	Type    reflect.Type
	Value   func(D) any
}

// RowOf is the part of a record that stands in one row, named by column id.
func RowOf[D, R any](r *Resource[R], at func(*D) *R) Part[D] {
	row := reflect.TypeFor[R]()
	fields := fieldsOf(row)
	revision := slices.IndexFunc(fields, func(f field) bool { return f.column == "revision" })
	return Part[D]{
		PartDeclaration: PartDeclaration{View: r.View, Formula: LastStands, Type: row},
		queue: func(b *Reading, tenant domain.Tenant, id domain.ID) func(*D) bool {
			var rows []R
			r.Queue(b, &rows, "tenant = $1 and id = $2", string(tenant), string(id))
			return func(d *D) bool {
				if len(rows) > 0 {
					*at(d) = rows[0]
				}
				return len(rows) > 0
			}
		},
		assemble: func(d *D, rows []any, id domain.ID) {
			for _, row := range of[R](rows, id, "id") {
				*at(d) = row
			}
		},
		revision: func(d *D) int64 {
			return reflect.ValueOf(at(d)).Elem().Field(fields[revision].index).Int()
		},
	}
}

// Itself is RowOf for a record that is one row and nothing else.
func Itself[R any](r *Resource[R]) Part[R] { return RowOf(r, func(row *R) *R { return row }) }

// Rows is a part of the rows of a view of which one of the columns names the record, in an order as Query.Sort.
func Rows[D, R any](member string, r *Resource[R], order, formula string, at func(*D) *[]R, columns ...string) Part[D] {
	row := row{fields: fieldsOf(reflect.TypeFor[R]()), filter: &filter{fields: map[string]field{}}}
	for _, f := range row.fields {
		row.filter.fields[f.name] = f
	}
	keys, err := row.order(order)
	if err != nil {
		panic("query: part " + member + " of a record: " + err.Error()) // a fault of the program
	}
	conditions := make([]string, len(columns))
	for i, c := range columns {
		conditions[i] = c + " = $2"
	}
	where := "tenant = $1 and (" + strings.Join(conditions, " or ") + ") order by " + orderBy(keys)
	return Part[D]{
		PartDeclaration: PartDeclaration{Member: member, View: r.View, Formula: formula, Type: reflect.TypeFor[R]()},
		queue: func(b *Reading, tenant domain.Tenant, id domain.ID) func(*D) bool {
			var rows []R
			r.Queue(b, &rows, where, string(tenant), string(id))
			return func(d *D) bool { *at(d) = rows; return true }
		},
		assemble: func(d *D, rows []any, id domain.ID) {
			list := of[R](rows, id, columns...)
			slices.SortStableFunc(list, func(a, b R) int { return compareRows(keys, reflect.ValueOf(a), reflect.ValueOf(b)) })
			*at(d) = list
		},
	}
}

// of returns the rows of which one of the columns holds the id; never nil.
func of[R any](rows []any, id domain.ID, columns ...string) []R {
	var naming []int // Go fields of the columns
	for _, f := range fieldsOf(reflect.TypeFor[R]()) {
		if slices.Contains(columns, f.column) {
			naming = append(naming, f.index)
		}
	}
	list := []R{}
	for _, r := range rows {
		v := reflect.ValueOf(r)
		if slices.ContainsFunc(naming, func(i int) bool { return v.Field(i).String() == string(id) }) {
			list = append(list, r.(R))
		}
	}
	return list
}

// compareRows orders rows as orderBy does: nulls last.
func compareRows(keys []sortKey, a, b reflect.Value) int {
	for _, k := range keys {
		x, y := a.Field(k.index), b.Field(k.index)
		if k.nullable {
			switch {
			case x.IsNil() && y.IsNil():
				continue
			case x.IsNil():
				return 1
			case y.IsNil():
				return -1
			}
			x, y = x.Elem(), y.Elem()
		}
		order := k.compare(x, y)
		if k.descending {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// compare orders two values of a column.
func (f field) compare(x, y reflect.Value) int {
	switch f.kind {
	case kindTime:
		return x.Interface().(time.Time).Compare(y.Interface().(time.Time))
	case kindAmount:
		return decimalOf(x).Cmp(decimalOf(y))
	case kindInt:
		return cmp.Compare(x.Int(), y.Int())
	case kindFloat:
		return cmp.Compare(x.Float(), y.Float())
	case kindBool:
		switch {
		case x.Bool() == y.Bool():
			return 0
		case y.Bool():
			return -1
		}
		return 1
	}
	return cmp.Compare(x.String(), y.String())
}

func decimalOf(v reflect.Value) decimal.Decimal { return v.Interface().(domain.Amount).Decimal }

// DeclaredRecord implements Single.
func (r *Record[D]) DeclaredRecord() RecordDeclaration {
	d := RecordDeclaration{
		Name: r.Name, Path: r.Path, Aggregate: r.Aggregate, Doc: r.Doc, Words: r.Words, Explains: r.Explains,
		Own: r.Related == "", Type: reflect.TypeFor[D](), Replayed: r.Replayed,
		Parts: []PartDeclaration{r.Row.PartDeclaration},
	}
	if d.Replayed == nil {
		d.Replayed = ReplayOf[D]()
	}
	for _, p := range r.Parts {
		d.Parts = append(d.Parts, p.PartDeclaration)
	}
	for _, p := range r.Derived {
		d.Parts = append(d.Parts, PartDeclaration{Member: p.Member, View: r.Row.View, Formula: p.Formula, Type: p.Type, Derived: true})
	}
	return d
}

// Get implements Single.
func (r *Record[D]) Get(ctx context.Context, s *Store, id domain.ID) (any, int64, domain.Position, error) {
	d, at, err := r.Read(ctx, s, id)
	if err != nil {
		return nil, 0, at, err
	}
	return d, r.Row.revision(&d), at, nil
}

// Read returns the record, or a *domain.NotFoundError.
func (r *Record[D]) Read(ctx context.Context, s *Store, id domain.ID) (record D, at domain.Position, err error) {
	var read Reading
	found := []func(*D) bool{r.Row.queue(&read, s.Tenant(), id)}
	views := []string{r.Row.View}
	for _, p := range r.Parts {
		found = append(found, p.queue(&read, s.Tenant(), id))
		views = append(views, p.View)
	}
	reach := s.RecordOf(r.Aggregate, id, views...)
	if r.Related != "" {
		if reach, err = s.StreamsOf(ctx, Views(views...), r.Related, string(s.Tenant()), string(id)); err != nil {
			return record, at, err
		}
	}
	if at, err = s.Read(ctx, reach, &read); err != nil {
		return record, at, err
	}
	for _, f := range found {
		if !f(&record) {
			var none D
			return none, at, &domain.NotFoundError{Kind: r.Aggregate, ID: string(id)}
		}
	}
	return record, at, nil
}

// Assemble implements Single.
func (r *Record[D]) Assemble(rows func(view string) []any, id domain.ID) any {
	var d D
	r.Row.assemble(&d, rows(r.Row.View), id)
	for _, p := range r.Parts {
		p.assemble(&d, rows(p.View), id)
	}
	return d
}

// Derive implements Single.
func (r *Record[D]) Derive(record any, member string) (any, bool) {
	i := slices.IndexFunc(r.Derived, func(d Derived[D]) bool { return d.Member == member })
	if i < 0 {
		return nil, false
	}
	return r.Derived[i].Value(record.(D)), true
}
