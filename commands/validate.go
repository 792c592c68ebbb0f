package commands

import (
	"fmt"
	"math"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
)

// Limits of what commands carry when a field's tags do not say otherwise.
const (
	MaxTextLength   = 10_000         // characters of a text
	MaxItems        = 1_000          // elements of a list, entries of a map
	MaxFaults       = 100            // faults reported for one command
	MaxClockSkew    = 24 * time.Hour // how far in the future something may be said to have happened
	FirstYear       = 1900           // of instants
	FirstYearOfDays = 1800           // of days, which may be those of old people and old companies
	LastYear        = 9999           // of instants
)

// plan is the validator of one type, built once from its structure and its fields' tags, which are those of Huma:
// required, minLength, maxLength, pattern, enum, format, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minItems,
// maxItems. A field is optional when it says required:"false", or says nothing and is a pointer or has omitempty or
// omitzero; an optional field that is zero is not looked at. A text with a minLength is not blank. Lists hand the rules for
// text and numbers on to their elements.
type plan struct{ check checker }

// checker looks at one value. It never changes it.
type checker func(f *faults, v reflect.Value, pointer string)

// faults collects what is wrong with one command.
type faults struct {
	now    time.Time
	fields []domain.FieldError
}

func (f *faults) add(pointer, template string, values ...any) {
	f.addText(pointer, domain.Say(template, values...))
}

func (f *faults) addText(pointer string, text domain.Text) {
	if len(f.fields) < MaxFaults {
		f.fields = append(f.fields, domain.FieldError{Pointer: pointer, Text: text})
	}
}

func (f *faults) err() error {
	if len(f.fields) == 0 {
		return nil
	}
	return &domain.InvalidError{Fields: f.fields}
}

// newPlan builds the validator of a struct type. It returns an error for a tag that it does not understand.
func newPlan(t reflect.Type) (*plan, error) {
	check, err := structChecker(t, nil)
	if err != nil {
		return nil, err
	}
	return &plan{check}, nil
}

// validate returns an *domain.InvalidError with every fault of v, or nil.
func (p *plan) validate(v any, now time.Time) error {
	f := &faults{now: now}
	p.check(f, reflect.ValueOf(v), "")
	return f.err()
}

// fieldChecker is one field of a struct and its checker.
type fieldChecker struct {
	index    []int
	pointer  string // "/name"
	required bool
	check    checker
}

// structChecker builds the checker of a struct; above holds the struct types around it.
func structChecker(t reflect.Type, above []reflect.Type) (checker, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is not a struct", t)
	}
	for _, u := range above {
		if u == t {
			return nil, fmt.Errorf("%s contains itself", t)
		}
	}
	var fields []fieldChecker
	for _, sf := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || name == "-" || sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct {
			continue // fields of an embedded struct are visible themselves
		}
		if name == "" {
			name = sf.Name
		}
		check, err := fieldCheckerOf(sf, append(above, t))
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t, sf.Name, err)
		}
		optional := sf.Type.Kind() == reflect.Pointer || strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if required, ok := sf.Tag.Lookup("required"); ok {
			optional = required == "false"
		}
		if sf.Type == reflect.TypeFor[time.Time]() && name == "occurredAt" {
			check = occurredChecker
		}
		fields = append(fields, fieldChecker{sf.Index, "/" + escapePointer(name), !optional, check})
	}
	return func(f *faults, v reflect.Value, pointer string) {
		for _, fc := range fields {
			fv := v.FieldByIndex(fc.index)
			switch {
			case fc.required && missing(fv):
				f.add(pointer+fc.pointer, "is required")
			case fc.required || !fv.IsZero():
				fc.check(f, fv, pointer+fc.pointer)
			}
		}
	}, nil
}

func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// missing reports whether a required value cannot have been given. Zero is a number and false an answer, so they count
// as given; an amount that was read is never the zero value, 0 not either.
func missing(v reflect.Value) bool {
	if v.Type() == reflect.TypeFor[domain.Amount]() {
		return v.IsZero()
	}
	switch v.Kind() {
	case reflect.String, reflect.Slice, reflect.Map, reflect.Interface:
		return v.IsZero()
	case reflect.Struct:
		return v.Type() == reflect.TypeFor[time.Time]() && v.IsZero()
	}
	return false
}

// fieldCheckerOf builds the checker of a field from its type and tags.
func fieldCheckerOf(sf reflect.StructField, above []reflect.Type) (checker, error) {
	r, err := rulesOf(sf.Tag)
	if err != nil {
		return nil, err
	}
	return typeChecker(sf.Type, r, above)
}

func typeChecker(t reflect.Type, r rules, above []reflect.Type) (checker, error) {
	switch t {
	case reflect.TypeFor[time.Time]():
		return instantChecker, nil
	case reflect.TypeFor[domain.ID]():
		return parsed(func(s string) error {
			id, err := domain.ParseID(s)
			if err == nil && string(id) != s {
				return domain.Invalid("", "\"{value}\" is not a UUID in lower case", s)
			}
			return err
		}), nil
	case reflect.TypeFor[domain.Date]():
		return parsed(func(s string) error {
			d, err := domain.ParseDate(s)
			if err == nil && d.Time().Year() < FirstYearOfDays {
				return domain.Invalid("", "is before the year {year}", FirstYearOfDays)
			}
			return err
		}), nil
	case reflect.TypeFor[domain.Currency]():
		return parsed(func(s string) error { _, err := domain.ParseCurrency(s); return err }), nil
	case reflect.TypeFor[domain.Amount]():
		return func(f *faults, v reflect.Value, pointer string) {
			r.checkDecimal(f, v.Interface().(domain.Amount).Decimal, pointer)
		}, nil
	case reflect.TypeFor[decimal.Decimal]():
		return func(f *faults, v reflect.Value, pointer string) {
			r.checkDecimal(f, v.Interface().(decimal.Decimal), pointer)
		}, nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return structChecker(t, above)
	case reflect.Pointer:
		check, err := typeChecker(t.Elem(), r, above)
		return func(f *faults, v reflect.Value, pointer string) {
			if v.IsNil() {
				return
			}
			if e := v.Elem(); e.Kind() == reflect.String && e.Len() == 0 && r.minLength == 0 {
				return // an empty text clears the field
			}
			check(f, v.Elem(), pointer)
		}, err
	case reflect.Slice, reflect.Array:
		return listChecker(t, r, above)
	case reflect.Map:
		return mapChecker(t, r, above)
	case reflect.String:
		return r.checkText, nil
	case reflect.Bool:
		return func(*faults, reflect.Value, string) {}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(f *faults, v reflect.Value, pointer string) { r.checkNumber(f, float64(v.Int()), pointer) }, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(f *faults, v reflect.Value, pointer string) { r.checkNumber(f, float64(v.Uint()), pointer) }, nil
	case reflect.Float32, reflect.Float64:
		return func(f *faults, v reflect.Value, pointer string) { r.checkNumber(f, v.Float(), pointer) }, nil
	}
	return nil, fmt.Errorf("a command cannot have a field of type %s", t)
}

func listChecker(t reflect.Type, r rules, above []reflect.Type) (checker, error) {
	check, err := typeChecker(t.Elem(), r, above)
	return func(f *faults, v reflect.Value, pointer string) {
		if !r.checkCount(f, v.Len(), pointer) {
			return
		}
		for i := range v.Len() {
			check(f, v.Index(i), pointer+"/"+strconv.Itoa(i))
		}
	}, err
}

func mapChecker(t reflect.Type, r rules, above []reflect.Type) (checker, error) {
	if t.Key().Kind() != reflect.String {
		return nil, fmt.Errorf("a command cannot have a map with keys of type %s", t.Key())
	}
	check, err := typeChecker(t.Elem(), r, above)
	var names rules // of the keys: plain text
	return func(f *faults, v reflect.Value, pointer string) {
		if !r.checkCount(f, v.Len(), pointer) {
			return
		}
		for entries := v.MapRange(); entries.Next(); {
			at := pointer + "/" + escapePointer(entries.Key().String())
			names.checkText(f, entries.Key(), at)
			check(f, entries.Value(), at)
		}
	}, err
}

// parsed checks a text type of the kernel by its parser: importers build commands without one.
func parsed(parse func(string) error) checker {
	return func(f *faults, v reflect.Value, pointer string) {
		if err := parse(v.String()); err != nil {
			f.add(pointer, "{reason}", err)
		}
	}
}

func instantChecker(f *faults, v reflect.Value, pointer string) {
	if y := v.Interface().(time.Time).UTC().Year(); y < FirstYear || y > LastYear {
		f.add(pointer, "is outside the years {from} to {to}", FirstYear, LastYear)
	}
}

func occurredChecker(f *faults, v reflect.Value, pointer string) {
	instantChecker(f, v, pointer)
	if t := v.Interface().(time.Time); t.After(f.now.Add(MaxClockSkew)) && t.UTC().Year() <= LastYear {
		f.add(pointer, "lies more than {hours} hours in the future", int(MaxClockSkew.Hours()))
	}
}

// textFault says what makes s no acceptable text, and whether there is anything.
func textFault(s string) (domain.Text, bool) {
	if !utf8.ValidString(s) {
		return domain.Say("is not valid UTF-8"), true
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			return domain.Say("contains the control character {character}", fmt.Sprintf("U+%04X", c)), true
		}
	}
	return domain.Text{}, false
}

func isText(s string) bool {
	_, fault := textFault(s)
	return !fault
}

// tooLong reports whether s has more than limit characters.
func tooLong(s string, limit int) bool {
	return len(s) > limit && utf8.RuneCountInString(s) > limit
}

// formats are the values of the format tag that are checked, with what to say when the check fails.
var formats = map[string]struct {
	ok       func(string) bool
	template string
}{
	"email": {domain.IsEmail, "is not an e-mail address"},
	"uri": {func(s string) bool {
		u, err := url.Parse(s)
		return err == nil && u.IsAbs() && (u.Host != "" || u.Opaque != "")
	}, "is not an absolute URI"},
	"uuid":      {func(s string) bool { _, err := domain.ParseID(s); return err == nil }, "is not a UUID"},
	"date":      {func(s string) bool { _, err := domain.ParseDate(s); return err == nil }, "is not a day of the form YYYY-MM-DD"},
	"date-time": {func(s string) bool { _, err := time.Parse(time.RFC3339, s); return err == nil }, "is not an RFC 3339 instant"},
	"time-zone": {func(s string) bool { _, err := time.LoadLocation(s); return err == nil && s != "Local" }, "is not an IANA time zone"},
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
