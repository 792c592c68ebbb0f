package catalogue

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/rapport-crm/rapport/domain"
)

// personalMember marks a property of a schema that holds personal data.
const personalMember = "x-personal"

// schemaOf returns the JSON Schema of one schema of an event.
func schemaOf(name string, schema int, t reflect.Type) ([]byte, error) {
	reflector := &jsonschema.Reflector{
		Anonymous:                 true,
		DoNotReference:            true,
		AllowAdditionalProperties: true, // readers tolerate optional fields of newer versions
		Mapper:                    valueSchema,
	}
	s := reflector.ReflectFromType(t)
	s.Title = name + " " + strconv.Itoa(schema)
	annotate(s, t)
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// valueSchema describes the types that write themselves as text.
func valueSchema(t reflect.Type) *jsonschema.Schema {
	text := &jsonschema.Schema{Type: "string"}
	switch t {
	case reflect.TypeFor[domain.ID]():
		text.Format = "uuid"
	case reflect.TypeFor[domain.Date]():
		text.Format = "date"
	case reflect.TypeFor[time.Time]():
		text.Format = "date-time"
	case reflect.TypeFor[domain.Currency]():
		text.Pattern = "^[A-Z]{3}$"
	case reflect.TypeFor[domain.Amount](), reflect.TypeFor[domain.Decimal]():
		text.Pattern = `^-?[0-9]+(\.[0-9]+)?$`
	case reflect.TypeFor[domain.Position]():
		text.Pattern = "^[0-9]+(-[0-9]+)?$"
	default:
		return nil
	}
	return text
}

// annotate copies the tags doc, enum and personal of t's fields into its schema.
func annotate(s *jsonschema.Schema, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		annotate(s, t.Elem())
	case reflect.Slice, reflect.Array:
		if s.Items != nil {
			annotate(s.Items, t.Elem())
		}
	case reflect.Map:
		if s.AdditionalProperties != nil {
			annotate(s.AdditionalProperties, t.Elem())
		}
	case reflect.Struct:
		if s.Properties == nil {
			return
		}
		for _, f := range reflect.VisibleFields(t) {
			property, ok := s.Properties.Get(memberName(f))
			if !ok || f.Anonymous {
				continue
			}
			property.Description = f.Tag.Get("doc")
			if values := f.Tag.Get("enum"); values != "" && property.Type == "string" {
				for _, v := range strings.Split(values, ",") {
					property.Enum = append(property.Enum, v)
				}
			}
			if isPersonal(f) {
				property.Extras = map[string]any{personalMember: true}
			}
			annotate(property, f.Type)
		}
	}
}

func memberName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func isPersonal(f reflect.StructField) bool { return f.Tag.Get("personal") == "true" }
