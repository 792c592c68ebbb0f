package projection

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/rapport-crm/rapport/domain"
)

// Column is one column of a table, derived from one field of a row type.
type Column struct {
	Name     string
	Type     string // PostgreSQL type
	Doc      string
	Nullable bool
	Personal bool   // it holds data of a person or a customer, which may be masked or erased
	Of       string // of personal data, the column with the id of whom it tells

	index []int // of the field, through embedded structs
	form  form
}

// form says how values of a column travel to and from the database.
type form int

const (
	formText form = iota // text, and what PostgreSQL reads from and writes as text: uuid, date
	formAmount
	formJSON
	formInt
	formUint
	formFloat
	formBool
	formTime
)

// idType is the PostgreSQL type of ids.
const idType = "uuid"

var (
	typeID      = reflect.TypeFor[domain.ID]()
	typeDate    = reflect.TypeFor[domain.Date]()
	typeAmount  = reflect.TypeFor[domain.Amount]()
	typeDecimal = reflect.TypeFor[domain.Decimal]()
	typeTime    = reflect.TypeFor[time.Time]()
	typeString  = reflect.TypeFor[*string]()
	typeInt64   = reflect.TypeFor[*int64]()
	typeFloat64 = reflect.TypeFor[*float64]()
	typeBool    = reflect.TypeFor[*bool]()

	namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)
)

// columnType maps a Go type to the PostgreSQL type and the form of its values.
func columnType(t reflect.Type) (string, form) {
	switch t {
	case typeID:
		return idType, formText
	case typeDate:
		return "date", formText
	case typeAmount, typeDecimal:
		return "numeric", formAmount
	case typeTime:
		return "timestamptz", formTime
	}
	switch t.Kind() {
	case reflect.String:
		return "text", formText
	case reflect.Bool:
		return "boolean", formBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "bigint", formInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "bigint", formUint
	case reflect.Float32, reflect.Float64:
		return "double precision", formFloat
	}
	return "jsonb", formJSON
}

// columns derives the columns of a struct type from its db tags, and how many of them are marked as key.
func columns(t reflect.Type) (list []Column, keys int, err error) {
	if t.Kind() != reflect.Struct {
		return nil, 0, fmt.Errorf("%s is not a struct", t)
	}
	seen := map[string]bool{}
	for _, f := range reflect.VisibleFields(t) {
		tag, tagged := f.Tag.Lookup("db")
		if !tagged && f.Anonymous || tag == "-" || !f.IsExported() {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		c := Column{Name: name, Doc: f.Tag.Get("doc"), Personal: f.Tag.Get("personal") == "true", Of: f.Tag.Get("of"), index: f.Index}
		element := f.Type
		if element.Kind() == reflect.Pointer {
			c.Nullable, element = true, element.Elem()
		}
		c.Type, c.form = columnType(element)
		switch {
		case !namePattern.MatchString(name):
			return nil, 0, fmt.Errorf("field %s needs a db tag with a name of a-z, 0-9 and _", f.Name)
		case seen[name]:
			return nil, 0, fmt.Errorf("two fields are column %s", name)
		case option != "" && option != "key":
			return nil, 0, fmt.Errorf("column %s: unknown option %q", name, option)
		case option == "key" && keys < len(list):
			return nil, 0, fmt.Errorf("key column %s stands behind columns that are not of the key", name)
		case option == "key" && (c.Nullable || c.form == formJSON || c.form == formAmount || c.form == formFloat):
			return nil, 0, fmt.Errorf("a %s cannot be key column %s", f.Type, name)
		}
		seen[name] = true
		if option == "key" {
			keys++
		}
		list = append(list, c)
	}
	for _, c := range list {
		of := slices.IndexFunc(list, func(o Column) bool { return o.Name == c.Of && o.Type == idType })
		if c.Personal != (c.Of != "") || c.Personal && of < 0 {
			return nil, 0, fmt.Errorf("column %s: the tags personal and of go together, and of names a column of ids", c.Name)
		}
	}
	return list, keys, nil
}

// textual reports whether values travel as text: what PostgreSQL parses better than we could.
func (c Column) textual() bool {
	return c.form == formText || c.form == formAmount || c.form == formJSON
}

// array returns the type of the parameter that holds many values of the column.
func (c Column) array() string {
	if c.textual() {
		return "text[]"
	}
	return c.Type + "[]"
}

// read returns what is put behind an element of such an array to make it a value of the column.
func (c Column) read() string {
	if c.textual() && c.Type != "text" {
		return "::" + c.Type
	}
	return ""
}

// cast returns what is put behind the column in a select list, so that targets need not know binary formats.
func (c Column) cast() string {
	if c.textual() {
		return "::text"
	}
	return ""
}

// values collects the column's values of rows, pointers to structs, in a slice that a driver takes for an array.
func (c Column) values(rows []reflect.Value) (any, error) {
	switch c.form {
	case formText:
		return collect(c, rows, func(v reflect.Value) (string, error) { return v.String(), nil })
	case formAmount:
		return collect(c, rows, func(v reflect.Value) (string, error) {
			return v.Addr().Interface().(fmt.Stringer).String(), nil
		})
	case formJSON:
		return collect(c, rows, func(v reflect.Value) (string, error) {
			b, err := json.Marshal(v.Addr().Interface(), json.Deterministic(true))
			return string(b), err
		})
	case formInt:
		return collect(c, rows, func(v reflect.Value) (int64, error) { return v.Int(), nil })
	case formUint:
		return collect(c, rows, func(v reflect.Value) (int64, error) { return int64(v.Uint()), nil })
	case formFloat:
		return collect(c, rows, func(v reflect.Value) (float64, error) { return v.Float(), nil })
	case formBool:
		return collect(c, rows, func(v reflect.Value) (bool, error) { return v.Bool(), nil })
	}
	return collect(c, rows, func(v reflect.Value) (time.Time, error) { return *v.Addr().Interface().(*time.Time), nil })
}

func collect[T any](c Column, rows []reflect.Value, value func(reflect.Value) (T, error)) (any, error) {
	if !c.Nullable {
		list := make([]T, len(rows))
		for i, row := range rows {
			v, err := value(row.FieldByIndex(c.index))
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", c.Name, err)
			}
			list[i] = v
		}
		return list, nil
	}
	list := make([]*T, len(rows))
	for i, row := range rows {
		field := row.FieldByIndex(c.index)
		if field.IsNil() {
			continue
		}
		v, err := value(field.Elem())
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		list[i] = &v
	}
	return list, nil
}

// target returns what a driver scans the column of row into: a plain pointer where it can be one.
func (c Column) target(row reflect.Value) any {
	field := row.FieldByIndex(c.index)
	if !c.Nullable {
		switch {
		case c.form == formText:
			return field.Addr().Convert(typeString).Interface()
		case c.form == formInt && field.Kind() == reflect.Int64:
			return field.Addr().Convert(typeInt64).Interface()
		case c.form == formFloat && field.Kind() == reflect.Float64:
			return field.Addr().Convert(typeFloat64).Interface()
		case c.form == formBool:
			return field.Addr().Convert(typeBool).Interface()
		}
	}
	return &scanner{field, c}
}

// scanner implements sql.Scanner for one field of one row.
type scanner struct {
	field  reflect.Value
	column Column
}

// Scan stores what the database holds in the field.
func (s *scanner) Scan(src any) error {
	field := s.field
	if s.column.Nullable {
		if src == nil {
			field.SetZero()
			return nil
		}
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	var err error
	ok := true
	switch s.column.form {
	case formText:
		var v string
		if v, ok = src.(string); ok {
			field.SetString(v)
		}
	case formAmount:
		err = field.Addr().Interface().(interface{ Scan(any) error }).Scan(src)
	case formJSON:
		var v string
		if v, ok = src.(string); ok {
			err = json.Unmarshal([]byte(v), field.Addr().Interface())
		}
	case formInt:
		var v int64
		if v, ok = src.(int64); ok {
			field.SetInt(v)
		}
	case formUint:
		var v int64
		if v, ok = src.(int64); ok {
			field.SetUint(uint64(v))
		}
	case formFloat:
		var v float64
		if v, ok = src.(float64); ok {
			field.SetFloat(v)
		}
	case formBool:
		var v bool
		if v, ok = src.(bool); ok {
			field.SetBool(v)
		}
	case formTime:
		var v time.Time
		if v, ok = src.(time.Time); ok {
			field.Set(reflect.ValueOf(v.UTC()))
		}
	}
	if !ok {
		err = fmt.Errorf("%T in a column of type %s", src, s.column.Type)
	}
	if err != nil {
		return fmt.Errorf("column %s: %w", s.column.Name, err)
	}
	return nil
}

// rounder returns a function that brings the times of a row to what the table keeps; nil when the row has none.
func rounder(list []Column) func(row reflect.Value) {
	var times []Column
	for _, c := range list {
		if c.form == formTime {
			times = append(times, c)
		}
	}
	if times == nil {
		return nil
	}
	return func(row reflect.Value) {
		for _, c := range times {
			field := row.FieldByIndex(c.index)
			if c.Nullable {
				at, _ := field.Interface().(*time.Time)
				if at == nil {
					continue
				}
				if rounded := at.UTC().Truncate(time.Microsecond); rounded != *at {
					field.Set(reflect.ValueOf(new(rounded))) // a new pointer: the old one may be the event's own
				}
				continue
			}
			t := field.Addr().Interface().(*time.Time)
			*t = t.UTC().Truncate(time.Microsecond)
		}
	}
}
