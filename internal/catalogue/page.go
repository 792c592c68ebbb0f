package catalogue

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

const generated = "<!-- Written by go generate from the declarations in domain/. Do not edit. -->\n\n"

const envelope = `Every event stands in the stream of its aggregate, ` + "`<tenant>.<aggregate>-<uuid>`" + `, with a JSON payload, which the pages
describe, and the same JSON metadata:

| member | meaning |
| --- | --- |
| ` + "`schema`" + ` | schema of the payload, 1 or more |
| ` + "`tenant`" + ` | whose event it is |
| ` + "`actor`" + ` | ` + "`id`, `kind`" + ` (human, automation, integration) and, when somebody delegated, ` + "`onBehalfOf`" + ` |
| ` + "`$correlationId`" + ` | the conversation that the event belongs to |
| ` + "`$causationId`" + ` | the command or event that caused it |
| ` + "`commandId`" + ` | the command that made it |
| ` + "`fingerprint`" + ` | digest of that command's content |
| ` + "`occurredAt`" + ` | when it happened in the business, UTC |
| ` + "`recordedAt`" + ` | when it became known here, UTC |
| ` + "`subjects`" + ` | the customers that it concerns |
| ` + "`traceparent`" + ` | W3C trace context of the request |
| ` + "`sealed`" + ` | reserved for encrypted payloads; an event with it that cannot be opened halts the projections that it concerns until it can |

A schema is permanent once released: it gains optional fields at most, which readers that do not know them ignore. Any other
change is a new schema, and old events are lifted to it when they are read. Amounts are decimal numbers in strings, times are
UTC as in RFC 3339, days are ` + "`YYYY-MM-DD`" + `, ids are UUIDs. **P** marks personal data.

The words of an event are a template over its members: ` + "`{name}`" + ` is a member, ` + "`[…]`" + ` is left out when a member in it is empty,
and ` + "`[…|…]`" + ` is the first alternative in which no member is empty. Timelines and histories tell the event by it.
`

// indexPage renders the list of all events.
func indexPage(definitions []domain.Definition) []byte {
	var b bytes.Buffer
	b.WriteString(generated + "# Events\n\n" + envelope)
	for _, d := range definitions {
		fmt.Fprintf(&b, "\n## [%s](%s.md)\n\n%s\n\n| event | what has happened |\n| --- | --- |\n", d.Name, d.Name, d.Doc)
		for _, spec := range d.Events {
			fmt.Fprintf(&b, "| [`%s`](%s.md#%s) | %s |\n", spec.Type(), d.Name, anchor(spec.Type()), cell(spec.Doc))
		}
	}
	return b.Bytes()
}

// aggregatePage renders the events of one aggregate.
func aggregatePage(d domain.Definition) ([]byte, error) {
	registry, err := codec.New(d)
	if err != nil {
		return nil, err
	}
	phrases, err := domain.NewPhrasebook(d)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s# %s\n\n%s\n\n[All events](%s)\n", generated, d.Name, d.Doc, indexFile)
	for _, spec := range d.Events {
		example, err := exampleOf(registry, spec)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\nSchemas:", spec.Type(), spec.Doc)
		for schema := 1; schema <= spec.Version(); schema++ {
			fmt.Fprintf(&b, " [%d](%s)", schema, schemaFile(spec.Type(), schema))
		}
		b.WriteString("\n\n| | words | of the example below |\n| --- | --- | --- |\n")
		for _, l := range domain.Languages {
			fmt.Fprintf(&b, "| %s | `%s` | %s |\n", l, cell(spec.Words.In(l)), cell(phrases.Tell(domain.Reader{Language: l}, spec.Example)))
		}
		b.WriteString("\n")
		if fields := fieldsOf(reflect.TypeOf(spec.Example), "", false, nil); len(fields) > 0 {
			b.WriteString("| field | type | | meaning |\n| --- | --- | --- | --- |\n")
			for _, f := range fields {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.path, f.kind, f.marks(), cell(f.doc))
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "```json\n%s\n```\n", example)
	}
	return b.Bytes(), nil
}

// exampleOf renders the example as it would be stored, indented.
func exampleOf(registry *codec.Registry, spec domain.EventSpec) ([]byte, error) {
	at := time.Unix(0, 0)
	data, _, err := registry.Encode(domain.Pending{Event: spec.Example, Metadata: domain.Metadata{
		Tenant: domain.DefaultTenant, Actor: domain.Actor{ID: "catalogue", Kind: domain.ActorHuman}, OccurredAt: at, RecordedAt: at,
	}})
	if err != nil {
		return nil, err
	}
	example := jsontext.Value(data)
	err = example.Indent(jsontext.WithIndent("  "))
	return example, err
}

// field is one row of an event's table.
type field struct {
	path, kind, doc    string
	optional, personal bool
}

func (f field) marks() string {
	var marks []string
	if f.optional {
		marks = append(marks, "optional")
	}
	if f.personal {
		marks = append(marks, "**P**")
	}
	return strings.Join(marks, " ")
}

// fieldsOf lists the fields of a struct and of the structs in it, each with its path. Within lists the structs above t: a
// struct that contains itself is described once.
func fieldsOf(t reflect.Type, path string, personal bool, within []reflect.Type) (fields []field) {
	for _, above := range within {
		if above == t {
			return nil
		}
	}
	within = append(within, t)
	for i := range t.NumField() {
		f := t.Field(i)
		name := memberName(f)
		if f.Anonymous && name == "" {
			fields = append(fields, fieldsOf(f.Type, path, personal, within)...)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		kind, inner := kindOf(f.Type)
		row := field{
			path: path + name, kind: kind, doc: f.Tag.Get("doc"),
			optional: strings.Contains(f.Tag.Get("json"), ",omit"), personal: personal || isPersonal(f),
		}
		fields = append(fields, row)
		if inner == nil {
			continue
		}
		prefix := row.path + "."
		if f.Type.Kind() == reflect.Slice || f.Type.Kind() == reflect.Map {
			prefix = row.path + "[]."
		}
		fields = append(fields, fieldsOf(inner, prefix, row.personal, within)...)
	}
	return fields
}

// kindOf names a type for readers and returns the struct inside it whose fields are described too.
func kindOf(t reflect.Type) (string, reflect.Type) {
	if t.Kind() == reflect.Pointer {
		return kindOf(t.Elem())
	}
	switch t {
	case reflect.TypeFor[domain.Money]():
		return "money", nil
	case reflect.TypeFor[domain.Amount](), reflect.TypeFor[domain.Decimal]():
		return "amount", nil
	case reflect.TypeFor[domain.Currency]():
		return "currency", nil
	case reflect.TypeFor[domain.ID]():
		return "id", nil
	case reflect.TypeFor[domain.Date]():
		return "day", nil
	case reflect.TypeFor[time.Time]():
		return "time", nil
	}
	switch t.Kind() {
	case reflect.String:
		return "text", nil
	case reflect.Bool:
		return "yes or no", nil
	case reflect.Float32, reflect.Float64:
		return "number", nil
	case reflect.Slice, reflect.Array:
		kind, inner := kindOf(t.Elem())
		return "list of " + kind, inner
	case reflect.Map:
		kind, inner := kindOf(t.Elem())
		return "map to " + kind, inner
	case reflect.Struct:
		return "object", t
	}
	return "integer", nil
}

// anchor returns the fragment that Markdown renderers give a heading.
func anchor(heading string) string { return strings.ReplaceAll(heading, ".", "") }

// cell escapes text for a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "|", `\|`), "\n", " ")
}
