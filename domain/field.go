package domain

import (
	"maps"
	"reflect"
	"strings"
)

// CopyField copies the field with this JSON name from one struct to another of the same type. It reports whether there is
// such a field; fields of embedded structs are fields of the whole. Only its own name finds a field, as events carry it.
func CopyField[T any](to *T, name string, from T) bool {
	source, target := reflect.ValueOf(&from).Elem(), reflect.ValueOf(to).Elem()
	for _, f := range reflect.VisibleFields(source.Type()) {
		if jsonName(f) == name && name != "" {
			target.FieldByIndex(f.Index).Set(source.FieldByIndex(f.Index))
			return true
		}
	}
	return false
}

// OnlyField returns a struct that is zero but for the field with this JSON name.
func OnlyField[T any](from T, name string) (only T) {
	CopyField(&only, name, from)
	return only
}

// FieldNames lists the JSON names of a struct's fields, in the order of declaration.
func FieldNames[T any]() []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		if name := jsonName(f); name != "" {
			names = append(names, name)
		}
	}
	return names
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
