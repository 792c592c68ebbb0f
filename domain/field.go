package domain

import (
	"maps"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// CopyField copies the field with this JSON name from one struct to another of the same type. It reports whether there is
// such a field; fields of embedded structs are fields of the whole. Only its own name finds a field, as events carry it.
func CopyField[T any](to *T, name string, from T) bool {
	index := fieldsOf(reflect.TypeFor[T]()).index[name]
	if index == nil {
		return false
	}
	reflect.ValueOf(to).Elem().FieldByIndex(index).Set(reflect.ValueOf(&from).Elem().FieldByIndex(index))
	return true
}

// FieldChange is one field in which two structs differ.
type FieldChange[T any] struct {
	Field    string // its JSON name
	From, To T      // zero but for the field
}

// FieldChanges lists the fields with a JSON name in which two structs differ, in the order of declaration. Whether they do
// is for same to say, which is given structs with that one field, unless both are zero.
func FieldChanges[T any](from, to T, same func(from, to T) bool) []FieldChange[T] {
	var changes []FieldChange[T]
	before, after := reflect.ValueOf(&from).Elem(), reflect.ValueOf(&to).Elem()
	all := fieldsOf(before.Type())
	for _, name := range all.names {
		index := all.index[name]
		x, y := before.FieldByIndex(index), after.FieldByIndex(index)
		if x.IsZero() && y.IsZero() {
			continue
		}
		n := len(changes)
		changes = append(changes, FieldChange[T]{Field: name})
		c := &changes[n]
		reflect.ValueOf(&c.From).Elem().FieldByIndex(index).Set(x)
		reflect.ValueOf(&c.To).Elem().FieldByIndex(index).Set(y)
		if same(c.From, c.To) {
			changes = changes[:n]
		}
	}
	return changes
}

// fields are those of a struct type that have a JSON name.
type fields struct {
	names []string         // in the order of declaration
	index map[string][]int // for reflect.Value.FieldByIndex; of two fields with one name, the first
}

// fieldsKnown keeps what fieldsOf found, by reflect.Type: looking costs more than what is done with it.
var fieldsKnown sync.Map

func fieldsOf(t reflect.Type) *fields {
	if known, ok := fieldsKnown.Load(t); ok {
		return known.(*fields)
	}
	found := &fields{index: map[string][]int{}}
	for _, f := range reflect.VisibleFields(t) {
		name := jsonName(f)
		if name == "" {
			continue
		}
		found.names = append(found.names, name)
		if found.index[name] == nil {
			found.index[name] = f.Index
		}
	}
	known, _ := fieldsKnown.LoadOrStore(t, found)
	return known.(*fields)
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if f.Anonymous || !f.IsExported() || name == "-" {
		return ""
	}
	return name
}

// FieldIndex is where a struct type has the field with this JSON name, for reflect.Value.FieldByIndex; nil when it has none.
func FieldIndex(t reflect.Type, name string) []int {
	if t.Kind() != reflect.Struct {
		return nil
	}
	return fieldsOf(t).index[name]
}

// Revise brings a partial update into whole. Every member of update that is a pointer is the new value of the member of whole
// with the same JSON name, which stays as it is where the pointer is nil. The member clear of update, if it has one, names
// members to empty; a name that whole has not is an *InvalidError. Members that are no pointers say something else, such as
// why. Revise panics when whole lacks a member that is given, or has it with another type, which the first update in a test
// shows.
func Revise[T, U any](to *T, update U) error {
	target, source := reflect.ValueOf(to).Elem(), reflect.ValueOf(&update).Elem()
	given := fieldsOf(source.Type())
	if index := given.index["clear"]; index != nil {
		for i, name := range source.FieldByIndex(index).Interface().([]string) {
			member := FieldIndex(target.Type(), name)
			if member == nil {
				return Invalid("/clear/"+strconv.Itoa(i), "\"{name}\" is not one of the fields", name)
			}
			target.FieldByIndex(member).SetZero()
		}
	}
	for _, name := range given.names {
		value := source.FieldByIndex(given.index[name])
		if value.Kind() != reflect.Pointer || value.IsNil() {
			continue
		}
		member := target.FieldByIndex(FieldIndex(target.Type(), name))
		if member.Kind() != reflect.Pointer {
			value = value.Elem()
		}
		member.Set(value)
	}
	return nil
}

// With returns a copy of m in which k is v, so that states share nothing that changes.
func With[K comparable, V any](m map[K]V, k K, v V) map[K]V {
	m = maps.Clone(m)
	if m == nil {
		m = make(map[K]V, 1)
	}
	m[k] = v
	return m
}

// IsBlank reports whether a text says nothing: empty, or white space only.
func IsBlank(s string) bool { return strings.TrimSpace(s) == "" }
