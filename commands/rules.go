package commands

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
)

// rules are the limits that the tags of one field set. The zero value sets the defaults only.
type rules struct {
	minLength, maxLength int // characters; maxLength zero means MaxTextLength
	minItems, maxItems   int // maxItems zero means MaxItems
	pattern              *regexp.Regexp
	enum                 []string
	format               string
	bounds               []bound
}

// bound is one limit of a number.
type bound struct {
	limit    decimal.Decimal
	holds    func(comparison int) bool // of value to limit
	template string
}

// rulesOf reads the tags of a field.
func rulesOf(tag reflect.StructTag) (rules, error) {
	var r rules
	for name, to := range map[string]*int{
		"minLength": &r.minLength, "maxLength": &r.maxLength, "minItems": &r.minItems, "maxItems": &r.maxItems,
	} {
		s, ok := tag.Lookup(name)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return r, fmt.Errorf("%s:%q is not a number", name, s)
		}
		*to = n
	}
	if s, ok := tag.Lookup("pattern"); ok {
		p, err := regexp.Compile(s)
		if err != nil {
			return r, fmt.Errorf("pattern: %w", err)
		}
		r.pattern = p
	}
	if s, ok := tag.Lookup("enum"); ok {
		r.enum = strings.Split(s, ",")
	}
	if r.format = tag.Get("format"); r.format != "" {
		if _, ok := formats[r.format]; !ok {
			return r, fmt.Errorf("format:%q is not known", r.format)
		}
	}
	for _, kind := range []struct {
		tag, template string
		holds         func(int) bool
	}{
		{"minimum", "must be at least {limit}", func(c int) bool { return c >= 0 }},
		{"maximum", "must be at most {limit}", func(c int) bool { return c <= 0 }},
		{"exclusiveMinimum", "must be greater than {limit}", func(c int) bool { return c > 0 }},
		{"exclusiveMaximum", "must be less than {limit}", func(c int) bool { return c < 0 }},
	} {
		s, ok := tag.Lookup(kind.tag)
		if !ok {
			continue
		}
		limit, err := decimal.NewFromString(s)
		if err != nil {
			return r, fmt.Errorf("%s:%q is not a number", kind.tag, s)
		}
		r.bounds = append(r.bounds, bound{limit, kind.holds, kind.template})
	}
	return r, nil
}

func (r rules) checkText(f *faults, v reflect.Value, pointer string) {
	s := v.String()
	if fault, is := textFault(s); is {
		f.addText(pointer, fault)
		return
	}
	limit := r.maxLength
	if limit == 0 {
		limit = MaxTextLength
	}
	switch {
	case tooLong(s, limit):
		f.add(pointer, "is longer than {limit} characters", limit)
	case r.minLength > 0 && s != "" && domain.IsBlank(s):
		f.add(pointer, "is blank") // a text that must be given says something
	case utf8.RuneCountInString(s) < r.minLength:
		f.add(pointer, "is shorter than {limit} characters", r.minLength)
	case r.enum != nil && !slices.Contains(r.enum, s):
		f.add(pointer, "is none of {allowed}", r.enum)
	case r.pattern != nil && !r.pattern.MatchString(s):
		f.add(pointer, "does not match {pattern}", r.pattern)
	case r.format != "" && !formats[r.format].ok(s):
		f.add(pointer, formats[r.format].template)
	}
}

func (r rules) checkNumber(f *faults, x float64, pointer string) {
	if !finite(x) {
		f.add(pointer, "is not a number")
		return
	}
	if r.bounds != nil {
		r.checkBounds(f, decimal.NewFromFloat(x), pointer)
	}
}

// checkDecimal looks at the exponent first: arithmetic with a huge one would never end.
func (r rules) checkDecimal(f *faults, d decimal.Decimal, pointer string) {
	e := int(d.Exponent())
	if e < -domain.MaxFractionDigits || e > domain.MaxIntegerDigits || d.NumDigits()+e > domain.MaxIntegerDigits {
		f.add(pointer, "has more than {integerDigits} digits before or {fractionDigits} after the point", domain.MaxIntegerDigits, domain.MaxFractionDigits)
		return
	}
	r.checkBounds(f, d, pointer)
}

func (r rules) checkBounds(f *faults, d decimal.Decimal, pointer string) {
	for _, b := range r.bounds {
		if !b.holds(d.Cmp(b.limit)) {
			f.add(pointer, b.template, b.limit)
		}
	}
}

// checkCount reports whether the elements are worth a look.
func (r rules) checkCount(f *faults, n int, pointer string) bool {
	limit := r.maxItems
	if limit == 0 {
		limit = MaxItems
	}
	switch {
	case n > limit:
		f.add(pointer, "has more than {limit} elements", limit)
	case n < r.minItems:
		f.add(pointer, "has fewer than {limit} elements", r.minItems)
	default:
		return true
	}
	return false
}
