package projections_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
)

// Marks stand in every personal member of the events in marked: a text, and a day for members that are days.
const (
	mark    = "«personal»"
	markDay = "1903-03-03"
)

// TestPersonalColumnsAreDeclared puts a mark in every personal member of every event and looks in which columns, lists and
// maps in JSON included, marks come out: these are the columns that are declared personal, and no others.
func TestPersonalColumnsAreDeclared(t *testing.T) {
	events := runOf(lives())
	for i := range events {
		events[i].Event = marked(t, events[i].Event)
	}
	for _, c := range compiled(t) {
		found := map[string]bool{}
		m := c.NewMemory()
		for _, e := range events {
			if err := m.Apply(e.Recorded); err != nil {
				t.Fatal(err)
			}
			for _, row := range m.Touched(e.Recorded) {
				for _, column := range markedColumns(t, c, row) {
					found[column] = true
				}
			}
		}
		declared := map[string]bool{}
		for _, column := range c.Table.Columns {
			if column.Personal {
				declared[column.Name] = true
			}
		}
		for _, column := range sortedNames(found) {
			if !declared[column] {
				t.Errorf("%s.%s takes personal members of events: declare whose data it is", c.Name, column)
			}
		}
		for _, column := range sortedNames(declared) {
			if !found[column] {
				t.Errorf("%s.%s is declared personal, and takes no personal member of an event", c.Name, column)
			}
		}
	}
}

// markedColumns returns the columns of a row in which a mark stands.
func markedColumns(t *testing.T, c *projection.Compiled, row any) (columns []string) {
	t.Helper()
	v := reflect.ValueOf(row)
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("db"), ",")
		if name == "" || name == "-" {
			continue
		}
		text, err := json.Marshal(v.FieldByIndex(f.Index).Interface())
		if err != nil {
			t.Fatalf("%s.%s: %v", c.Name, name, err)
		}
		if strings.Contains(string(text), mark) || strings.Contains(string(text), markDay) {
			columns = append(columns, name)
		}
	}
	return columns
}

// marked returns an event with marks in all personal members, those that its example leaves empty too.
func marked(t *testing.T, event domain.Event) domain.Event {
	t.Helper()
	v := reflect.New(reflect.TypeOf(event)).Elem()
	v.Set(reflect.ValueOf(event))
	putMarks(t, event.EventType(), v, false)
	return v.Interface().(domain.Event)
}

// putMarks sets marks within v, which may share nothing with the event but what is personal in neither.
func putMarks(t *testing.T, path string, v reflect.Value, personal bool) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(v.Type()) {
			if len(f.Index) == 1 && f.IsExported() {
				putMarks(t, path+"."+f.Name, v.FieldByIndex(f.Index), personal || f.Tag.Get("personal") == "true")
			}
		}
	case reflect.Pointer:
		if v.Type().Elem().Kind() != reflect.Struct && !personal {
			return
		}
		fresh := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			fresh.Elem().Set(v.Elem())
		} else if !holdsPersonal(v.Type().Elem(), personal) {
			return
		}
		putMarks(t, path, fresh.Elem(), personal)
		v.Set(fresh)
	case reflect.Slice:
		if !holdsPersonal(v.Type().Elem(), personal) {
			return
		}
		fresh := reflect.MakeSlice(v.Type(), max(v.Len(), 1), max(v.Len(), 1))
		reflect.Copy(fresh, v)
		for i := range fresh.Len() {
			putMarks(t, path, fresh.Index(i), personal)
		}
		v.Set(fresh)
	case reflect.String:
		switch {
		case personal && v.Type() == reflect.TypeFor[domain.Date]():
			v.SetString(markDay)
		case personal:
			v.SetString(mark)
		}
	default:
		if personal {
			t.Errorf("%s is personal, and a %s that no mark fits in: teach putMarks one", path, v.Type())
		}
	}
}

// holdsPersonal reports whether a type has personal members, or is one.
func holdsPersonal(t reflect.Type, personal bool) bool {
	if personal {
		return true
	}
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return false
	}
	return slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool {
		return f.IsExported() && (f.Tag.Get("personal") == "true" || holdsPersonal(f.Type, false))
	})
}
