package projection

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// Memory is a projection evaluated without a database: for answers as of the past, differences between two moments, and
// the tests that hold the table against it. It is not safe for concurrent use.
type Memory interface {
	// Apply takes the next event of the log; events that do not matter are ignored. It returns an *EventError when the
	// projection's code fails, and is then as before the event.
	Apply(domain.Recorded) error
	// Touched returns the rows that an event touches, values of the row type, as they stand: those there are, be it before the
	// event is applied or after. There are none when the projection's code fails.
	Touched(domain.Recorded) []any
	// All returns the rows, values of the row type, in the order of the key.
	All() []any
	// Len returns the number of rows.
	Len() int
	// Some yields rows, values of the row type, for whoever looks at a few: which, and in what order, is not said.
	Some() iter.Seq[any]
	// Copy renders the rows, in no order and at most so many at a time, in the format that Table.CopySQL reads. What it
	// yields is valid until the next. An error is the last thing yielded.
	Copy(rows int) iter.Seq2[[]byte, error]
}

// FoldMemory is the Memory of a Fold.
type FoldMemory[K comparable, R any] struct {
	rules *folding[K, R]
	rows  map[K]R
}

// Memory returns an evaluation of no events, or why the declaration is wrong.
func (f Fold[K, R]) Memory() (*FoldMemory[K, R], error) {
	c, err := f.Compile()
	if err != nil {
		return nil, err
	}
	return c.memory().(*FoldMemory[K, R]), nil
}

// Apply implements Memory.
func (m *FoldMemory[K, R]) Apply(e domain.Recorded) error {
	if !m.rules.compiled.Matches(e.Type()) {
		return nil
	}
	keys, err := m.rules.keys(0, &e)
	if err != nil {
		return err
	}
	changed := make([]R, len(keys))
	there := make([]bool, len(keys))
	for i, k := range keys {
		row, known := m.rows[k]
		changed[i] = row
		if there[i], err = m.rules.evolve(&changed[i], !known, &keys[i], 0, &e); err != nil {
			return err
		}
	}
	for i, k := range keys {
		if there[i] {
			m.rows[k] = changed[i]
		} else {
			delete(m.rows, k)
		}
	}
	return nil
}

// Touched implements Memory.
func (m *FoldMemory[K, R]) Touched(e domain.Recorded) []any {
	if !m.rules.compiled.Matches(e.Type()) {
		return nil
	}
	keys, err := m.rules.keys(0, &e)
	if err != nil {
		return nil
	}
	var touched []any
	for _, k := range keys {
		if row, ok := m.rows[k]; ok {
			touched = append(touched, row)
		}
	}
	return touched
}

// Row returns the row of a key, and false when there is none.
func (m *FoldMemory[K, R]) Row(k K) (R, bool) {
	row, ok := m.rows[k]
	return row, ok
}

// Rows returns the rows in the order of the key.
func (m *FoldMemory[K, R]) Rows() []R {
	list := make([]R, 0, len(m.rows))
	for _, row := range m.rows {
		list = append(list, row)
	}
	return sorted(m.rules.compiled.Table, list)
}

// All implements Memory.
func (m *FoldMemory[K, R]) All() []any { return anys(m.Rows()) }

// Len implements Memory.
func (m *FoldMemory[K, R]) Len() int { return len(m.rows) }

// Some implements Memory.
func (m *FoldMemory[K, R]) Some() iter.Seq[any] {
	return func(yield func(any) bool) {
		for _, row := range m.rows { // in an order that changes
			if !yield(row) {
				return
			}
		}
	}
}

// Copy implements Memory.
func (m *FoldMemory[K, R]) Copy(rows int) iter.Seq2[[]byte, error] {
	return pieces(m.rules.compiled.Table, maps.Values(m.rows), rows)
}

// AppendMemory is the Memory of an Append.
type AppendMemory[R any] struct {
	rules *appending[R]
	rows  []R
	seen  map[string]bool // keys, so that each is inserted once
}

// Memory returns an evaluation of no events, or why the declaration is wrong.
func (a Append[R]) Memory() (*AppendMemory[R], error) {
	c, err := a.Compile()
	if err != nil {
		return nil, err
	}
	return c.memory().(*AppendMemory[R]), nil
}

// Apply implements Memory.
func (m *AppendMemory[R]) Apply(e domain.Recorded) error {
	if !m.rules.compiled.Matches(e.Type()) {
		return nil
	}
	rows, err := m.rules.rows(0, &e)
	if err != nil {
		return err
	}
	for i := range rows {
		k := keyText(m.rules.compiled.Table, reflect.ValueOf(&rows[i]).Elem())
		if !m.seen[k] {
			m.seen[k] = true
			m.rows = append(m.rows, rows[i])
		}
	}
	return nil
}

// Touched implements Memory.
func (m *AppendMemory[R]) Touched(e domain.Recorded) []any {
	if !m.rules.compiled.Matches(e.Type()) {
		return nil
	}
	rows, err := m.rules.rows(0, &e)
	if err != nil {
		return nil
	}
	var touched []any
	for i := range rows {
		if m.seen[keyText(m.rules.compiled.Table, reflect.ValueOf(&rows[i]).Elem())] {
			touched = append(touched, rows[i])
		}
	}
	return touched
}

// Rows returns the rows in the order of the key.
func (m *AppendMemory[R]) Rows() []R { return sorted(m.rules.compiled.Table, slices.Clone(m.rows)) }

// All implements Memory.
func (m *AppendMemory[R]) All() []any { return anys(m.Rows()) }

// Len implements Memory.
func (m *AppendMemory[R]) Len() int { return len(m.rows) }

// Some implements Memory: the newest rows come first.
func (m *AppendMemory[R]) Some() iter.Seq[any] {
	return func(yield func(any) bool) {
		for _, row := range slices.Backward(m.rows) {
			if !yield(row) {
				return
			}
		}
	}
}

// Copy implements Memory.
func (m *AppendMemory[R]) Copy(rows int) iter.Seq2[[]byte, error] {
	return pieces(m.rules.compiled.Table, slices.Values(m.rows), rows)
}

// pieces renders rows for COPY, a number of them at a time.
func pieces[R any](t *Table, rows iter.Seq[R], size int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var buffer []byte
		piece := make([]reflect.Value, 0, size)
		flush := func() bool {
			var err error
			buffer, err = copyRows(buffer[:0], t, piece)
			piece = piece[:0]
			return yield(buffer, err) && err == nil
		}
		for row := range rows {
			piece = append(piece, reflect.ValueOf(&row).Elem())
			if len(piece) == size && !flush() {
				return
			}
		}
		if len(piece) > 0 {
			flush()
		}
	}
}

func anys[R any](rows []R) []any {
	list := make([]any, len(rows))
	for i, row := range rows {
		list[i] = row
	}
	return list
}

// sorted orders rows by their key columns.
func sorted[R any](t *Table, rows []R) []R {
	slices.SortFunc(rows, func(a, b R) int {
		va, vb := reflect.ValueOf(&a).Elem(), reflect.ValueOf(&b).Elem()
		for _, c := range t.Key() {
			if order := compare(va.FieldByIndex(c.index), vb.FieldByIndex(c.index)); order != 0 {
				return order
			}
		}
		return 0
	})
	return rows
}

func compare(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	case a.Type() == typeTime:
		return timeOf(a).Compare(timeOf(b))
	case a.Kind() == reflect.Bool:
		return strings.Compare(fmt.Sprint(a.Bool()), fmt.Sprint(b.Bool()))
	}
	return strings.Compare(a.String(), b.String())
}

func keyText(t *Table, row reflect.Value) string {
	var b strings.Builder
	for _, c := range t.Key() {
		field := row.FieldByIndex(c.index)
		if c.form == formTime {
			fmt.Fprintf(&b, "%s\x00", timeOf(field).UTC().Format(time.RFC3339Nano))
			continue
		}
		fmt.Fprintf(&b, "%v\x00", field)
	}
	return b.String()
}

func timeOf(v reflect.Value) time.Time { return *v.Addr().Interface().(*time.Time) }
