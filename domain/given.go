package domain

import (
	"reflect"
	"strconv"
	"strings"
)

// Given names the members that the JSON of a command must have although its Go value cannot tell whether it did: whole
// numbers that may be 0. Each is a path of names, or * for every element of a list. What else must be given is missed where
// commands are executed. The zero value is none, as most commands have it.
type Given [][]string

// each stands for every element of a list in the path of a member.
const each = "*"

// GivenOf returns what the JSON of a struct must give.
func GivenOf(t reflect.Type) (paths Given) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		for _, path := range GivenOf(t.Elem()) {
			paths = append(paths, append([]string{each}, path...))
		}
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous || !f.IsExported() || name == "" || name == "-":
			case f.Type.Kind() == reflect.Int:
				least, _ := strconv.Atoi(f.Tag.Get("minimum"))
				if least <= 0 && !strings.Contains(options, "omit") && f.Tag.Get("required") != "false" {
					paths = append(paths, []string{name})
				}
			default:
				for _, path := range GivenOf(f.Type) {
					paths = append(paths, append([]string{name}, path...))
				}
			}
		}
	}
	return paths
}

// Missing returns a fault for every place at which JSON, as it decodes into an any, leaves such a member out, or says null,
// of an object or a list that is there. Pointers begin with at.
func (g Given) Missing(value any, at string) (faults []FieldError) {
	for _, path := range g {
		faults = append(faults, missing(value, path, at)...)
	}
	return faults
}

func missing(value any, path []string, at string) (faults []FieldError) {
	if len(path) == 0 {
		if value == nil {
			return []FieldError{Fault(at, "is required")}
		}
		return nil
	}
	switch value := value.(type) {
	case map[string]any:
		return missing(value[path[0]], path[1:], at+"/"+path[0])
	case []any:
		for i, element := range value {
			faults = append(faults, missing(element, path[1:], at+"/"+strconv.Itoa(i))...)
		}
	}
	return faults
}
