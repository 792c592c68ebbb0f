package query

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
)

// kind is what a column holds, as far as filters, sorts and cursors care.
type kind int

const (
	kindOther  kind = iota // JSON of another form: neither filtered nor sorted
	kindText               // string
	kindID                 // domain.ID
	kindDate               // domain.Date
	kindTime               // time.Time
	kindAmount             // domain.Amount
	kindInt                // any integer
	kindFloat              // float64
	kindBool               // bool
	kindList               // []string as JSON: only "x" in list
	kindMap                // map[string]string as JSON: has(m.k), m.k == "x"
)

// field is one column of a row type.
type field struct {
	name     string // in filters and sorts: the JSON name
	column   string
	kind     kind
	nullable bool
	key      bool // part of the primary key
	long     bool // may be so long that no list is sorted by it: a page must be able to name it
	index    int  // of the Go struct field
}

var (
	typeID     = reflect.TypeFor[domain.ID]()
	typeDate   = reflect.TypeFor[domain.Date]()
	typeTime   = reflect.TypeFor[time.Time]()
	typeAmount = reflect.TypeFor[domain.Amount]()
	typeList   = reflect.TypeFor[[]string]()
	typeMap    = reflect.TypeFor[map[string]string]()
)

// rowTypes holds the columns of each row type that was asked for: every query and every assembly in memory needs them.
var rowTypes sync.Map // from reflect.Type to []field

// fieldsOf returns the columns of a row type from its db and json tags, in order. The caller must not change them.
func fieldsOf(row reflect.Type) []field {
	if known, ok := rowTypes.Load(row); ok {
		return known.([]field)
	}
	fields := readFields(row)
	rowTypes.Store(row, fields)
	return fields
}

func readFields(row reflect.Type) []field {
	var fields []field
	for i := range row.NumField() {
		sf := row.Field(i)
		column, options, _ := strings.Cut(sf.Tag.Get("db"), ",")
		if column == "" || column == "-" {
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		t := sf.Type
		nullable := t.Kind() == reflect.Pointer
		if nullable {
			t = t.Elem()
		}
		fields = append(fields, field{
			name: name, column: column, kind: kindOf(t), nullable: nullable, key: options == "key", long: sf.Tag.Get("sort") == "-", index: i,
		})
	}
	return fields
}

func kindOf(t reflect.Type) kind {
	switch t {
	case typeID:
		return kindID
	case typeDate:
		return kindDate
	case typeTime:
		return kindTime
	case typeAmount:
		return kindAmount
	case typeList:
		return kindList
	case typeMap:
		return kindMap
	}
	switch t.Kind() {
	case reflect.String:
		return kindText
	case reflect.Int, reflect.Int64:
		return kindInt
	case reflect.Float64:
		return kindFloat
	case reflect.Bool:
		return kindBool
	}
	return kindOther
}

// celType returns the type under which filters know the field; nil when they do not.
func (f field) celType() *cel.Type {
	var t *cel.Type
	switch f.kind {
	case kindText, kindID, kindDate:
		t = cel.StringType
	case kindTime:
		return cel.TimestampType // nullable by its nature
	case kindAmount, kindFloat, kindInt:
		return cel.DynType // so that whole numbers and fractions both compare; the translation checks the rest
	case kindBool:
		t = cel.BoolType
	case kindList:
		return cel.ListType(cel.StringType)
	case kindMap:
		return cel.MapType(cel.StringType, cel.StringType)
	default:
		return nil
	}
	if f.nullable {
		return cel.NullableType(t)
	}
	return t
}

// number reports whether the field holds a number of any kind.
func (f field) number() bool { return f.kind == kindAmount || f.kind == kindInt || f.kind == kindFloat }

// sortable reports whether rows can be ordered by the field.
func (f field) sortable() bool {
	switch f.kind {
	case kindOther, kindList, kindMap:
		return false
	}
	return true
}

// sqlType names the type to which a parameter for the field is cast.
func (f field) sqlType() string {
	switch f.kind {
	case kindID:
		return "uuid"
	case kindDate:
		return "date"
	case kindTime:
		return "timestamptz"
	case kindAmount:
		return "numeric"
	case kindInt:
		return "bigint"
	case kindFloat:
		return "double precision"
	case kindBool:
		return "boolean"
	}
	return "text"
}

// format renders the field's value in a row for a cursor; nil stands for null.
func (f field) format(row reflect.Value) *string {
	v := row.Field(f.index)
	if f.nullable {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	var s string
	switch f.kind {
	case kindTime:
		s = v.Interface().(time.Time).UTC().Format(time.RFC3339Nano)
	case kindAmount:
		s = v.Interface().(domain.Amount).String()
	case kindInt:
		s = strconv.FormatInt(v.Int(), 10)
	case kindFloat:
		s = strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case kindBool:
		s = strconv.FormatBool(v.Bool())
	default:
		s = v.String()
	}
	return &s
}

// maxAmountText bounds the text of an amount: products of amounts have twice their digits, sums a few more.
const maxAmountText = 80

// parse reads what format wrote, or what a filter gives as text, into a parameter.
func (f field) parse(s string) (any, error) {
	switch f.kind {
	case kindID:
		id, err := domain.ParseID(s)
		return string(id), err
	case kindDate:
		d, err := domain.ParseDate(s)
		return d.Time(), err
	case kindTime:
		return parseTime(s)
	case kindAmount:
		if s == "" || len(s) > maxAmountText || strings.Trim(s, "-.0123456789") != "" {
			return nil, fmt.Errorf("%q is not a decimal number", s)
		}
		d, err := decimal.NewFromString(s)
		return d.String(), err
	case kindInt:
		return strconv.ParseInt(s, 10, 64)
	case kindFloat:
		return strconv.ParseFloat(s, 64)
	case kindBool:
		return strconv.ParseBool(s)
	}
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("text holds a NUL character")
	}
	return s, nil
}

// parseTime reads an RFC 3339 time of the years that PostgreSQL and JSON both hold.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
		return time.Time{}, fmt.Errorf("%q is not a time of the form 2006-01-02T15:04:05Z", s)
	}
	return t.UTC(), nil
}
