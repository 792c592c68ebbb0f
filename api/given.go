package api

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/rapport-crm/rapport/domain"
)

// each stands for every element of a list in the path of a member.
const each = "*"

// requireNumbers refuses a body that leaves out a whole number which a command must be given, or says null: decoded it is
// 0, and the bus takes 0 for an answer. What else must be given the bus misses itself. The body was decoded before.
func requireNumbers(paths [][]string, body []byte, at string) error {
	if len(paths) == 0 {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return decodeError(err, at)
	}
	var faults []domain.FieldError
	for _, path := range paths {
		faults = append(faults, absent(value, path, at)...)
	}
	if len(faults) > 0 {
		return &domain.InvalidError{Fields: faults}
	}
	return nil
}

// absent returns a fault for every place at which the member is missing from an object or list that is there.
func absent(value any, path []string, at string) (faults []domain.FieldError) {
	if len(path) == 0 {
		if value == nil {
			return []domain.FieldError{{Pointer: at, Message: "is required"}}
		}
		return nil
	}
	switch value := value.(type) {
	case map[string]any:
		return absent(value[path[0]], path[1:], at+"/"+path[0])
	case []any:
		for i, element := range value {
			faults = append(faults, absent(element, path[1:], at+"/"+strconv.Itoa(i))...)
		}
	}
	return faults
}

// requiredNumbers returns the paths of the whole numbers that a struct must be given and that may be 0; few commands have
// any.
func requiredNumbers(t reflect.Type) (paths [][]string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		for _, path := range requiredNumbers(t.Elem()) {
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
				for _, path := range requiredNumbers(f.Type) {
					paths = append(paths, append([]string{name}, path...))
				}
			}
		}
	}
	return paths
}
