package projection

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Compiled is a checked declaration without its type parameters, and what follows from it. It is safe for concurrent use.
type Compiled struct {
	Name    string
	Version int
	Doc     string
	Events  []string
	Untold  bool // histories do not tell what changes in the rows
	Derived []Derived
	Table   *Table

	exact    map[string]bool
	prefixes []string
	every    bool
	category map[string]bool

	engine func(cacheRows int) Engine
	memory func() Memory
	sample func(most int) Sample
}

// String names the projection for messages: "customer v3".
func (c *Compiled) String() string { return fmt.Sprintf("%s v%d", c.Name, c.Version) }

// Matches reports whether events of the type matter to the projection.
func (c *Compiled) Matches(eventType string) bool {
	if c.every || c.exact[eventType] {
		return true
	}
	return slices.ContainsFunc(c.prefixes, func(p string) bool { return strings.HasPrefix(eventType, p) })
}

// Concerns reports whether a type that nobody here knows may matter to the projection: it reads other events of the same
// aggregate.
func (c *Compiled) Concerns(eventType string) bool {
	aggregate, _, _ := strings.Cut(eventType, ".")
	return c.Matches(eventType) || c.category[aggregate]
}

// NewMemory returns an evaluation in memory of no events.
func (c *Compiled) NewMemory() Memory { return c.memory() }

// NewSample returns a sample of no events that keeps up to most keys, or rows of a projection that only appends.
func (c *Compiled) NewSample(most int) Sample { return c.sample(most) }

// Build returns the same projection with the table of a build, by its number from 1.
func (c *Compiled) Build(n int) *Compiled {
	copied := *c
	table := *c.Table
	table.Name = TableName(c.Name, c.Version, n)
	copied.Table = &table
	return &copied
}

// NewEngine returns an evaluation against a stored table that keeps up to cacheRows rows between batches; Reset comes
// first.
func (c *Compiled) NewEngine(cacheRows int) Engine { return c.engine(cacheRows) }

// Compile checks declarations, also against each other, in the order given.
func Compile(declared ...Projection) ([]*Compiled, error) {
	seen := map[string]bool{}
	list := make([]*Compiled, 0, len(declared))
	for _, p := range declared {
		c, err := p.Compile()
		if err != nil {
			return nil, err
		}
		if seen[c.Name] {
			return nil, fmt.Errorf("projection %s is declared twice", c.Name)
		}
		seen[c.Name] = true
		list = append(list, c)
	}
	return list, nil
}

// Compile implements Projection.
func (f Fold[K, R]) Compile() (*Compiled, error) {
	c, err := compile(f.Name, f.Version, f.Doc, f.Events, reflect.TypeFor[R](), f.Indexes)
	if err != nil {
		return nil, err
	}
	if f.Keys == nil || f.Evolve == nil {
		return nil, fmt.Errorf("projection %s needs Keys and Evolve", f.Name)
	}
	key, err := newKeyCopier(reflect.TypeFor[K](), c.Table)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", f.Name, err)
	}
	c.Untold, c.Derived = f.Untold, f.Derived
	rules := &folding[K, R]{Fold: f, compiled: c, key: key, round: rounder(c.Table.Columns)}
	c.engine = func(cacheRows int) Engine { return newFoldEngine(rules, cacheRows) }
	c.memory = func() Memory { return &FoldMemory[K, R]{rules: rules, rows: map[K]R{}} }
	c.sample = func(most int) Sample { return newFoldSample(rules, most) }
	return c, nil
}

// Compile implements Projection.
func (a Append[R]) Compile() (*Compiled, error) {
	c, err := compile(a.Name, a.Version, a.Doc, a.Events, reflect.TypeFor[R](), a.Indexes)
	if err != nil {
		return nil, err
	}
	if a.Rows == nil {
		return nil, fmt.Errorf("projection %s needs Rows", a.Name)
	}
	c.Untold, c.Derived = a.Untold, a.Derived
	c.Table.appends = true
	rules := &appending[R]{Append: a, compiled: c, round: rounder(c.Table.Columns)}
	c.engine = func(int) Engine { return &appendEngine[R]{rules: rules} }
	c.memory = func() Memory { return &AppendMemory[R]{rules: rules, seen: map[string]bool{}} }
	c.sample = func(most int) Sample { return newAppendSample(rules, most) }
	return c, nil
}

func compile(name string, version int, doc string, events []string, row reflect.Type, indexes []query.Index) (*Compiled, error) {
	fail := func(err error) (*Compiled, error) { return nil, fmt.Errorf("projection %s: %w", name, err) }
	if !namePattern.MatchString(name) || version < 1 || len(events) == 0 || doc == "" {
		return fail(errors.New("it needs a name of a-z, 0-9 and _, a version of 1 or more, a sentence of documentation and event types"))
	}
	list, keys, err := columns(row)
	if err != nil {
		return fail(err)
	}
	if keys == 0 || list[0].Name != "tenant" {
		return fail(errors.New("the key begins with tenant"))
	}
	c := &Compiled{
		Name: name, Version: version, Doc: doc, Events: events,
		Table: &Table{
			Schema: TableSchema, Name: TableName(name, version, 1), View: name, Doc: doc,
			Columns: list, Indexes: indexes, keys: keys, declared: TableName(name, version, 1),
		},
		exact: map[string]bool{}, category: map[string]bool{},
	}
	for _, e := range events {
		aggregate, _, _ := strings.Cut(e, ".")
		switch {
		case e == "*":
			c.every = true
			continue
		case strings.HasSuffix(e, "."):
			c.prefixes = append(c.prefixes, e)
		default:
			c.exact[e] = true
		}
		c.category[aggregate] = true
	}
	for i, index := range indexes {
		duplicate := slices.ContainsFunc(indexes[:i], func(o query.Index) bool { return o.Name == index.Name })
		if !namePattern.MatchString(index.Name) || index.Columns == "" || duplicate {
			return fail(fmt.Errorf("index %q needs a name of its own and columns", index.Name))
		}
	}
	return c, nil
}

// keyCopier moves keys between key structs and rows.
type keyCopier struct {
	columns []Column // of the key struct, in the order of the table's key
	table   *Table
}

func newKeyCopier(key reflect.Type, table *Table) (*keyCopier, error) {
	list, _, err := columns(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	k := &keyCopier{table: table}
	for _, want := range table.Key() {
		if want.form == formTime {
			return nil, fmt.Errorf("key column %s cannot be a time: equal times need not be the same value of Go", want.Name)
		}
		i := slices.IndexFunc(list, func(c Column) bool { return c.Name == want.Name })
		if i < 0 || list[i].Type != want.Type || list[i].Nullable {
			return nil, fmt.Errorf("the key struct has no field for column %s of type %s", want.Name, want.Type)
		}
		k.columns = append(k.columns, list[i])
	}
	if len(list) != len(k.columns) {
		return nil, fmt.Errorf("the key struct has %d columns, the table's key %d", len(list), len(k.columns))
	}
	return k, nil
}

// toRow copies key into the row's key columns.
func (k *keyCopier) toRow(key, row reflect.Value) {
	for i, c := range k.columns {
		from, to := key.FieldByIndex(c.index), row.FieldByIndex(k.table.Columns[i].index)
		assign(to, from)
	}
}

// fromRow copies the row's key columns into key.
func (k *keyCopier) fromRow(row, key reflect.Value) {
	for i, c := range k.columns {
		assign(key.FieldByIndex(c.index), row.FieldByIndex(k.table.Columns[i].index))
	}
}

// arrays returns the key columns of n keys as parameters.
func (k *keyCopier) arrays(n int, key func(int) reflect.Value) []any {
	list := make([]reflect.Value, n)
	for i := range list {
		list[i] = key(i)
	}
	arrays := make([]any, len(k.columns))
	for i, c := range k.columns {
		arrays[i], _ = c.values(list) // keys are strings, integers, booleans and times, which always convert
	}
	return arrays
}

func assign(to, from reflect.Value) {
	switch {
	case to.Type() == from.Type():
		to.Set(from)
	case to.Kind() == reflect.String:
		to.SetString(from.String())
	default:
		to.Set(from.Convert(to.Type()))
	}
}

// EventError says that the code of a projection failed on one event.
type EventError struct {
	Index int // of the event in the batch
	Event domain.Recorded
	Err   error
	Stack string // of a panic; empty otherwise
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event %s (%s) of stream %s: %v", e.Event.ID, e.Event.Type(), e.Event.Stream, e.Err)
}

func (e *EventError) Unwrap() error { return e.Err }
