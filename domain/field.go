package domain

import (
	"maps"
	"reflect"
	"slices"
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

// OnlyField returns a struct that is zero but for the field with this JSON name.
func OnlyField[T any](from T, name string) (only T) {
	CopyField(&only, name, from)
	return only
}

// FieldNames lists the JSON names of a struct's fields, in the order of declaration.
func FieldNames[T any]() []string { return slices.Clone(fieldsOf(reflect.TypeFor[T]()).names) }

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

// SetGiven copies what from points to, and nothing when it is nil: an optional field of a command that was left out.
func SetGiven[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
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
