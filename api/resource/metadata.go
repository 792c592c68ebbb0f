package resource

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// ReadModelMetadata describes one list.
type ReadModelMetadata struct {
	Name   string          `json:"name" doc:"Name of the operation."`
	Path   string          `json:"path" doc:"Route to GET."`
	Doc    string          `json:"doc" doc:"What it holds."`
	Sorts  []string        `json:"sorts" doc:"Orders that an index serves; others are served as well, on large tables more slowly."`
	Fields []FieldMetadata `json:"fields" doc:"Members of an item."`
}

// FieldMetadata describes one member.
type FieldMetadata struct {
	Name     string            `json:"name" doc:"Name of the member."`
	Type     string            `json:"type" doc:"text, id, date, time, decimal, currency, integer, number, boolean, list, map, object or any."`
	Of       string            `json:"of,omitempty" doc:"Type of the elements of a list or map."`
	Required bool              `json:"required,omitempty" doc:"Whether it must be given, or is always there."`
	Personal bool              `json:"personal,omitempty" doc:"Whether it is personal data."`
	Doc      string            `json:"doc,omitempty" doc:"What it means."`
	Example  string            `json:"example,omitempty" doc:"An example."`
	Enum     []string          `json:"enum,omitempty" doc:"The values allowed."`
	Limits   map[string]string `json:"limits,omitempty" doc:"minLength, maxLength, pattern, minimum, maximum, minItems, maxItems, format, as far as set."`
	Fields   []FieldMetadata   `json:"fields,omitempty" doc:"Members of an object, or of the elements of a list."`
}

// Fields describes the members of a struct as JSON shows them.
func Fields(t reflect.Type) []FieldMetadata {
	fields := []FieldMetadata{}
	if t.Kind() != reflect.Struct {
		return fields
	}
	for _, sf := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || name == "-" || sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct {
			continue // members of an embedded struct are visible themselves
		}
		if name == "" {
			name = sf.Name
		}
		f := FieldMetadata{
			Name: name, Doc: sf.Tag.Get("doc"), Example: sf.Tag.Get("example"), Limits: limitsOf(sf.Tag),
			Personal: sf.Tag.Get("personal") == "true",
			Required: sf.Type.Kind() != reflect.Pointer && !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero"),
		}
		if explicit, err := strconv.ParseBool(sf.Tag.Get("required")); err == nil {
			f.Required = explicit
		}
		if enum := sf.Tag.Get("enum"); enum != "" {
			f.Enum = strings.Split(enum, ",")
		}
		element := sf.Type
		f.Type = typeName(&element)
		if f.Type == "list" || f.Type == "map" {
			element = element.Elem()
			f.Of = typeName(&element)
		}
		if f.Type == "object" || f.Of == "object" {
			f.Fields = Fields(element)
		}
		fields = append(fields, f)
	}
	return fields
}

func limitsOf(tag reflect.StructTag) map[string]string {
	limits := map[string]string{}
	for _, name := range []string{"minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "format"} {
		if v, ok := tag.Lookup(name); ok {
			limits[name] = v
		}
	}
	return limits
}

// typeName names the type of a member, after taking pointers off.
func typeName(t *reflect.Type) string {
	for (*t).Kind() == reflect.Pointer {
		*t = (*t).Elem()
	}
	switch *t {
	case reflect.TypeFor[domain.ID]():
		return "id"
	case reflect.TypeFor[domain.Date]():
		return "date"
	case reflect.TypeFor[time.Time]():
		return "time"
	case reflect.TypeFor[domain.Amount](), reflect.TypeFor[domain.Decimal]():
		return "decimal"
	case reflect.TypeFor[domain.Currency]():
		return "currency"
	}
	switch (*t).Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Map:
		return "map"
	case reflect.Slice, reflect.Array:
		if reflect.PointerTo(*t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return "text"
		}
		return "list"
	case reflect.Struct:
		if reflect.PointerTo(*t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return "text"
		}
		return "object"
	case reflect.Interface:
		return "any"
	}
	return "text"
}
