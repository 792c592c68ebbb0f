package view

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// keys are the members that identify the elements of lists, by the list's own name: those that the types of the elements
// declare with the tag element:"key". Elements of other lists have a number only.
var keys = sync.OnceValue(func() map[string]string {
	found := map[string]string{}
	for _, k := range kinds {
		if err := k.lists(found); err != nil {
			panic(err) // a fault of the program, which every test of views finds
		}
	}
	return found
})

// elementKeys adds the members that identify the elements of the lists within a type. Lists of one name must agree.
func elementKeys(t reflect.Type, keys map[string]string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == timeType || t == amountType {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "" || name == "-" {
			continue
		}
		element := f.Type
		if element.Kind() == reflect.Slice && element.Elem().Kind() == reflect.Struct {
			element = element.Elem()
			key := elementKey(element)
			if other, known := keys[name]; known && other != key {
				return fmt.Errorf("view: elements of lists called %s are identified by %q and by %q", name, other, key)
			}
			keys[name] = key
		}
		if err := elementKeys(element, keys); err != nil {
			return err
		}
	}
	return nil
}

func elementKey(t reflect.Type) string {
	for _, f := range reflect.VisibleFields(t) {
		if f.Tag.Get("element") == "key" {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return name
		}
	}
	return ""
}

// Fields implements Kind.
func (k *kind[S, V]) Fields() []string {
	var list []string
	collect("", reflect.TypeFor[V](), &list)
	slices.Sort(list)
	return list
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	amountType = reflect.TypeFor[domain.Amount]()
)

// Figure implements Kind.
func (k *kind[S, V]) Figure(path []string) bool { return figure(reflect.TypeFor[V](), path) }

// figure reports whether a path leads to a number in a type.
func figure(t reflect.Type, path []string) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if len(path) == 0 {
		return t == amountType || reflect.Zero(t).CanInt() || reflect.Zero(t).CanUint() || reflect.Zero(t).CanFloat()
	}
	switch {
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Map:
		return figure(t.Elem(), path[1:])
	case t.Kind() != reflect.Struct || t == timeType || t == amountType:
		return false
	}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == path[0] && (len(f.Index) == 1 || !hidden(t, f, name)) {
			return figure(f.Type, path[1:])
		}
	}
	return false
}

// collect lists the pointers to the members of a type.
func collect(at string, t reflect.Type, list *[]string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == timeType || t == amountType:
	case t.Kind() == reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || name == "" || name == "-" || len(f.Index) > 1 && hidden(t, f, name) {
				continue
			}
			here := at + "/" + name
			*list = append(*list, here)
			collect(here, f.Type, list)
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		*list = append(*list, at+"/*")
		collect(at+"/*", t.Elem(), list)
	case t.Kind() == reflect.Map:
		*list = append(*list, at+"/*")
	}
}

// hidden reports whether a promoted field stands behind one of the outer struct with the same name in JSON.
func hidden(t reflect.Type, f reflect.StructField, name string) bool {
	return slices.ContainsFunc(reflect.VisibleFields(t), func(o reflect.StructField) bool {
		tag, _, _ := strings.Cut(o.Tag.Get("json"), ",")
		return tag == name && len(o.Index) < len(f.Index)
	})
}

// Path splits a JSON pointer, or dotted names, into its members. Blank ones are kept.
func Path(field string) []string {
	if !strings.HasPrefix(field, "/") {
		return strings.Split(field, ".")
	}
	path := strings.Split(field[1:], "/")
	for i, p := range path {
		path[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
	}
	return path
}

// Pointer renders members as a JSON pointer.
func Pointer(path []string) string {
	var b strings.Builder
	for _, p := range path {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(p))
	}
	return b.String()
}

// Known reports whether a path leads to something of the kind's view, whatever the elements of its lists.
func Known(k Kind, path []string) bool {
	return slices.ContainsFunc(k.Fields(), func(field string) bool {
		want := Path(field)
		return len(want) == len(path) && same(want, path)
	})
}

func same(pattern, path []string) bool {
	for i, p := range pattern {
		if p != "*" && p != path[i] {
			return false
		}
	}
	return true
}

// Lookup returns the value that a path leads to in a document; nil when nothing stands there. An element of a list is
// named by what identifies it.
func Lookup(document json.RawMessage, path []string) json.RawMessage {
	value, list := document, ""
	for _, member := range path {
		if elements, ok := Elements(list, value); ok {
			value = elements[member]
		} else {
			var object map[string]json.RawMessage
			if json.Unmarshal(value, &object) != nil {
				return nil
			}
			value = object[member]
		}
		list = member
	}
	if string(value) == "null" {
		return nil
	}
	return value
}

// Elements returns the elements of a list by what identifies them, or by number from 0 where nothing does, and false for
// what is no list of objects.
func Elements(list string, value json.RawMessage) (map[string]json.RawMessage, bool) {
	var objects []map[string]json.RawMessage
	var elements []json.RawMessage
	key := keys()[list]
	if json.Unmarshal(value, &objects) != nil || json.Unmarshal(value, &elements) != nil || elements == nil {
		return nil, false
	}
	found := make(map[string]json.RawMessage, len(elements))
	for i, object := range objects {
		name := string(object[key])
		var text string
		if json.Unmarshal(object[key], &text) == nil {
			name = text
		}
		if key == "" {
			name = strconv.Itoa(i)
		}
		found[name] = elements[i]
	}
	return found, true
}

// Named returns the path with the elements of lists by what identifies them, where it has them by number, from 0.
func Named(document json.RawMessage, path []string) []string {
	named, list := slices.Clone(path), ""
	for i, member := range path {
		at := Lookup(document, named[:i])
		elements, ok := Elements(list, at)
		if n, err := strconv.Atoi(member); ok && err == nil && elements[member] == nil && n >= 0 {
			var ordered []json.RawMessage
			if json.Unmarshal(at, &ordered) == nil && n < len(ordered) {
				for name, element := range elements {
					if string(element) == string(ordered[n]) {
						named[i] = name
					}
				}
			}
		}
		list = member
	}
	return named
}
