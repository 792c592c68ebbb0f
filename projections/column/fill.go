package column

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/rapport-crm/rapport/domain"
)

// Fill sets the columns of a row that hold members of a value: those of an event, or the details that it carries. A column
// holds the member of its own JSON name, or the one that its tag member names, as "address.street" names the street of an
// address. Other columns stay as they are. An id, a day, an instant or an amount that is not there is null in a column that
// may be null. Fill panics when a column cannot hold the member, which the first event in a test shows.
func Fill[Row, Value any](r *Row, v Value) { fill(r, v, nil) }

// FillMember sets the columns that hold one member, or what stands within it, as an event says that one of the details has
// changed.
func FillMember[Row, Value any](r *Row, member string, v Value) { fill(r, v, &member) }

func fill[Row, Value any](r *Row, v Value, member *string) {
	row, value := reflect.ValueOf(r).Elem(), reflect.ValueOf(&v).Elem()
	for _, c := range columnsOf(row.Type(), value.Type()) {
		if member == nil || *member == c.member {
			put(row.Field(c.index), at(value, c.path))
		}
	}
}

// filled is a column that holds a member.
type filled struct {
	index  int    // of the field in the row
	member string // the first name of the path
	path   [][]int
}

// filledKnown keeps what columnsOf found, by both types.
var filledKnown sync.Map

func columnsOf(row, value reflect.Type) []filled {
	key := [2]reflect.Type{row, value}
	if known, ok := filledKnown.Load(key); ok {
		return known.([]filled)
	}
	var found []filled
	for i := range row.NumField() {
		f := row.Field(i)
		name, tagged := f.Tag.Lookup("member")
		if !tagged {
			name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
		}
		names := strings.Split(name, ".")
		if path, member := pathOf(value, names); path != nil {
			if !holds(f.Type, member) {
				panic(fmt.Sprintf("column: %s.%s is a %s, and cannot hold %s, a %s", row, f.Name, f.Type, name, member))
			}
			found = append(found, filled{i, names[0], path})
		}
	}
	known, _ := filledKnown.LoadOrStore(key, found)
	return known.([]filled)
}

// pathOf finds a member by the names on the way to it, and its type; no path when there is none.
func pathOf(t reflect.Type, names []string) (path [][]int, member reflect.Type) {
	for _, name := range names {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		index := domain.FieldIndex(t, name)
		if index == nil {
			return nil, nil
		}
		path, t = append(path, index), t.FieldByIndex(index).Type
	}
	return path, t
}

// at returns a member, or the zero value of its type when it stands in something that is not there.
func at(v reflect.Value, path [][]int) reflect.Value {
	for i, index := range path {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				t := v.Type()
				for _, index := range path[i:] {
					if t.Kind() == reflect.Pointer {
						t = t.Elem()
					}
					t = t.FieldByIndex(index).Type
				}
				return reflect.Zero(t)
			}
			v = v.Elem()
		}
		v = v.FieldByIndex(index)
	}
	return v
}

// holds reports whether put can put a value of one type into a column of another.
func holds(column, value reflect.Type) bool {
	switch {
	case column == value:
		return true
	case column.Kind() == reflect.Pointer && value.Kind() != reflect.Pointer:
		return holds(column.Elem(), value)
	case value.Kind() == reflect.Pointer && column.Kind() != reflect.Pointer:
		return holds(column, value.Elem())
	case column.Kind() == reflect.Slice && value.Kind() == reflect.Slice:
		return holds(column.Elem(), value.Elem())
	case column.Kind() == reflect.Struct && value.Kind() == reflect.Struct:
		for i := range column.NumField() {
			f, ok := value.FieldByName(column.Field(i).Name)
			if !ok || !holds(column.Field(i).Type, f.Type) {
				return false
			}
		}
		return true
	}
	return column.Kind() == reflect.String && value.Kind() == reflect.String || whole(column) && whole(value)
}

func whole(t reflect.Type) bool { return t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64 }

// put copies a value into a column. Lists are copied whole: a row shares nothing with an event.
func put(column, value reflect.Value) {
	switch {
	case column.Kind() == reflect.Pointer && value.Kind() != reflect.Pointer:
		if value.IsZero() {
			column.SetZero()
			return
		}
		p := reflect.New(column.Type().Elem())
		put(p.Elem(), value)
		column.Set(p)
	case value.Kind() == reflect.Pointer && column.Kind() != reflect.Pointer:
		if value.IsNil() {
			column.SetZero()
			return
		}
		put(column, value.Elem())
	case column.Kind() == reflect.Slice:
		if value.Len() == 0 {
			column.SetZero()
			return
		}
		list := reflect.MakeSlice(column.Type(), value.Len(), value.Len())
		for i := range value.Len() {
			put(list.Index(i), value.Index(i))
		}
		column.Set(list)
	case column.Type() == value.Type():
		column.Set(value)
	case column.Kind() == reflect.Struct:
		for i := range column.NumField() {
			put(column.Field(i), value.FieldByName(column.Type().Field(i).Name))
		}
	case column.Kind() == reflect.String:
		column.SetString(value.String())
	default:
		column.SetInt(value.Int())
	}
}
