package projections_test

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/domain/sales/product"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/party"
	"github.com/rapport-crm/rapport/projections/projection"
)

var update = flag.Bool("update", false, "write the generated documentation")

func compiled(t *testing.T) []*projection.Compiled {
	t.Helper()
	list, err := projection.Compile(projections.All()...)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func phrasebook(t *testing.T) *domain.Phrasebook {
	t.Helper()
	words, err := aggregates.Phrasebook()
	if err != nil {
		t.Fatal(err)
	}
	return words
}

func definitions() []domain.Definition {
	return []domain.Definition{
		customer.Aggregate.Definition(), contact.Aggregate.Definition(), interaction.Aggregate.Definition(),
		product.Aggregate.Definition(), pipeline.Aggregate.Definition(), opportunity.Aggregate.Definition(),
		order.Aggregate.Definition(),
	}
}

func TestEveryTableAndColumnIsDocumented(t *testing.T) {
	for _, c := range compiled(t) {
		for _, column := range c.Table.Columns {
			if column.Doc == "" {
				t.Errorf("%s.%s has no doc", c.Name, column.Name)
			}
		}
	}
}

func TestEventsNamedByProjectionsExist(t *testing.T) {
	types := map[string]bool{"*": true}
	for _, d := range definitions() {
		types[d.Name+"."] = true
		for _, e := range d.Events {
			types[e.Type()] = true
		}
	}
	for _, c := range compiled(t) {
		for _, e := range c.Events {
			if !types[e] {
				t.Errorf("%s reads %s, which no aggregate has", c.Name, e)
			}
		}
	}
}

// TestEveryEventReachesARow holds that no event is forgotten: each changes a row of some projection besides those that take all.
func TestEveryEventReachesARow(t *testing.T) {
	list := compiled(t)
	for _, d := range definitions() {
		for _, spec := range d.Events {
			log := newLog()
			e := log.add(d.Name, number(1, 0xa), day("01-01"), spec.Example, number(2, 0xb))
			reached := false
			for _, c := range list {
				m := c.NewMemory()
				if err := m.Apply(e); err != nil {
					t.Errorf("%s on %s: %v", c.Name, spec.Type(), err)
				}
				reached = reached || c.Name != "customer_timeline" && c.Name != "log_time" && len(m.All()) > 0
			}
			if !reached && spec.Type() != "opportunity.line_removed" {
				t.Errorf("%s reaches no row", spec.Type())
			}
		}
	}
}

// TestTimelineHasMembersOfAllEvents holds that the words of every event that concerns a customer name members to keep.
func TestTimelineHasMembersOfAllEvents(t *testing.T) {
	timeline, err := party.CustomerTimeline.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions() {
		for _, spec := range d.Events {
			if !timeline.Matches(spec.Type()) {
				continue
			}
			entries := party.CustomerTimeline.Rows(newLog().add(d.Name, number(1, 0xa), day("01-01"), spec.Example, number(2, 0xb)))
			if len(entries) != 1 || len(entries[0].Members) == 0 {
				t.Errorf("%s: %d entries, or none of its members", spec.Type(), len(entries))
			}
		}
	}
}

const docFile = "../docs/read-models.md"

// TestReadModelsAreDocumented compares docs/read-models.md with the declarations; -update writes it.
func TestReadModelsAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString(docHead)
	list := compiled(t)
	for _, c := range list {
		fmt.Fprintf(&b, "- [%s](#%s): %s\n", c.Name, c.Name, c.Doc)
	}
	for _, c := range list {
		fmt.Fprintf(&b, "\n## %s\n\n%s Version %d.\n\n| column | type | meaning |\n|---|---|---|\n", c.Name, c.Doc, c.Version)
		key := c.Table.Key()
		for _, column := range c.Table.Columns {
			typ := column.Type
			if slices.ContainsFunc(key, func(k projection.Column) bool { return k.Name == column.Name }) {
				typ += ", key"
			}
			if column.Nullable {
				typ += ", may be null"
			}
			if column.Personal {
				typ += ", **P** of `" + column.Of + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", column.Name, typ, strings.ReplaceAll(column.Doc, "|", `\|`))
		}
		if len(c.Table.Indexes) > 0 {
			b.WriteString("\nIndexes besides the key: ")
			var indexes []string
			for _, i := range c.Table.Indexes {
				text := "`" + i.Columns + "`"
				if i.Using != "" {
					text += " (" + i.Using + ")"
				}
				if i.Where != "" {
					text += " where `" + i.Where + "`"
				}
				indexes = append(indexes, text)
			}
			b.WriteString(strings.Join(indexes, "; ") + ".\n")
		}
		fmt.Fprintf(&b, "\nMade from: `%s`.\n", strings.Join(c.Events, "`, `"))
	}
	if *update {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(docFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is stale: go test ./projections -run TestReadModelsAreDocumented -update", docFile)
	}
}

const docHead = `<!-- Generated from the declarations: go test ./projections -run TestReadModelsAreDocumented -update -->

# Read models

Plain tables for analysts. Query the views of schema ` + "`rapport`" + `; the tables behind them carry versions and change.
Any SQL client works:

    select date_trunc('month', closed_at) as month, sum(amount) from rapport.opportunity
    where tenant = 'main' and status = 'won' group by 1 order by 1;

- The tenant leads every key. Times are UTC. Amounts are exact decimals, each beside the ISO 4217 code of its currency;
  nothing is converted. An empty text means unknown.
- ` + "`position`" + ` is the place in the log of the last event that changed the row; ` + "`revision`" + ` is the number of the last event
  in the stream of the record.
- ` + "`occurred`" + ` times say when something happened in the business, ` + "`recorded`" + ` times when we learned it.
- **P** marks personal data, and names the column with the id of whom it tells.
- Rows of a customer that was merged into another stay as they are. To see a survivor with all that it absorbed, follow
  ` + "`customer.merged_into`" + `.
- Ages are not stored: take them from ` + "`birth_date`" + `. A commitment is overdue while it is open after ` + "`due`" + `.

Filters of the HTTP API use the JSON names of the fields, the same words in lowerCamelCase.

`

// TestColumnsKeepTheirJSONNames holds what the documentation promises: the JSON name of a column is its name in
// lowerCamelCase, with few exceptions that read better.
func TestColumnsKeepTheirJSONNames(t *testing.T) {
	exceptions := map[string]string{"is_primary": "primary", "promised_by": "by", "lines": "lineCount"}
	for _, c := range compiled(t) {
		m := c.NewMemory()
		row := rowType(m)
		for i := range row.NumField() {
			column, _, _ := strings.Cut(row.Field(i).Tag.Get("db"), ",")
			name, _, _ := strings.Cut(row.Field(i).Tag.Get("json"), ",")
			if name == "-" || column == "-" {
				continue
			}
			want := camel(column)
			if exceptions[column] != "" && name == exceptions[column] {
				want = exceptions[column]
			}
			if name != want {
				t.Errorf("%s.%s is %s in JSON, not %s", c.Name, column, name, want)
			}
		}
	}
}

// rowType returns the row type of an evaluation, from its method Rows.
func rowType(m projection.Memory) reflect.Type {
	return reflect.ValueOf(m).MethodByName("Rows").Type().Out(0).Elem()
}

func camel(column string) string {
	parts := strings.Split(column, "_")
	for i, p := range parts[1:] {
		parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
	}
	return strings.Join(parts, "")
}
