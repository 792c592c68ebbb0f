package catalogue

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/codec"
)

const docs = "../../docs/events"

// D9: TestReleasedSchemasAreKeptAndFresh is what stops an incompatible change of a released event.
func TestReleasedSchemasAreKeptAndFresh(t *testing.T) {
	stale, err := Stale(docs, aggregates.All())
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) > 0 {
		t.Errorf("stale, run make generate: %v", stale)
	}
}

func TestDefinitionsFormARegistry(t *testing.T) {
	if _, err := codec.New(aggregates.All()...); err != nil {
		t.Error(err)
	}
}

// TestEveryFieldIsExplained: the catalogue is no better than the doc tags it is made from.
func TestEveryFieldIsExplained(t *testing.T) {
	for _, d := range aggregates.All() {
		for _, spec := range d.Events {
			if spec.Doc == "" {
				t.Errorf("%s has no sentence", spec.Type())
			}
			for _, f := range fieldsOf(reflect.TypeOf(spec.Example), "", false, nil) {
				if f.doc == "" {
					t.Errorf("%s: field %s has no doc tag", spec.Type(), f.path)
				}
			}
		}
	}
}

type bought struct {
	Buyer  string            `json:"buyer" doc:"Who." personal:"true"`
	Price  domain.Money      `json:"price" doc:"How much."`
	Tone   string            `json:"tone,omitempty" doc:"How." enum:"calm,cross"`
	Items  []item            `json:"items,omitempty" doc:"What."`
	Labels map[string]string `json:"labels,omitempty" doc:"Any | other."`
	When   *domain.Date      `json:"when,omitempty" doc:"Day."`
}

type item struct {
	ID    domain.ID `json:"id" doc:"Which."`
	Parts []item    `json:"-"`
}

func (bought) EventType() string { return "shop.bought" }

var shop = []domain.Definition{{Name: "shop", Doc: "A shop.", Events: []domain.EventSpec{{
	Example: bought{Buyer: "Ada", Price: domain.MustMoney("3.50", "EUR"), Items: []item{{ID: "0190a000-0000-7000-8000-000000000001"}}},
	Doc:     "Something was bought.",
	Words:   domain.Words{En: "“{buyer}” bought[ {tone}ly|]", Zh: "“{buyer}”购买"},
}}}}

func TestPageShowsFieldsMarksAndExample(t *testing.T) {
	files, err := render(shop)
	if err != nil {
		t.Fatal(err)
	}
	page := string(files["shop.md"])
	for _, want := range []string{
		"# shop\n\nA shop.\n",
		"## shop.bought\n\nSomething was bought.\n\nSchemas: [1](schemas/shop.bought.1.json)\n",
		"| | words | of the example below |\n| --- | --- | --- |\n| en | `“{buyer}” bought[ {tone}ly\\|]` | “Ada” bought |\n| zh | `“{buyer}”购买` | “Ada”购买 |\n",
		"| `buyer` | text | **P** | Who. |\n",
		"| `price` | money |  | How much. |\n",
		"| `items` | list of object | optional | What. |\n| `items[].id` | id |  | Which. |\n",
		"| `labels` | map to text | optional | Any \\| other. |\n",
		"| `when` | day | optional | Day. |\n",
		"```json\n{\n  \"buyer\": \"Ada\",\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if index := string(files["README.md"]); !strings.Contains(index, "| [`shop.bought`](shop.md#shopbought) | Something was bought. |") {
		t.Errorf("index:\n%s", index)
	}
}

// D9 of docs/faults.md.
func TestSchemaOnlyGrowsByOptionalFields(t *testing.T) {
	const released = `{"type":"object","properties":{
		"a":{"type":"string"},
		"b":{"type":"string","format":"date","x-personal":true},
		"c":{"type":"string","enum":["x","y"]},
		"d":{"type":"array","items":{"type":"object","properties":{"e":{"type":"integer"}},"required":["e"]}},
		"m":{"type":"object","additionalProperties":{"type":"string"}}
	},"required":["a"]}`
	for change, want := range map[[2]string]string{
		{`"a":{"type":"string"},`, `"a":{"type":"string","description":"Said better."},`}: "",
		{`"a":{"type":"string"},`, `"a":{"type":"string"},"new":{"type":"object"},`}:      "",
		{`["x","y"]`, `["x","z","y"]`}:                                                           "",
		{`,"enum":["x","y"]`, ``}:                                                                "",
		{`"a":{"type":"string"},`, ``}:                                                           "/: field a was removed",
		{`"a":{"type":"string"}`, `"a":{"type":"integer"}`}:                                      "/a: was string, is integer",
		{`"a":{"type":"string"}`, `"a":{"type":"string","pattern":"x"}`}:                         "/a: was string, is string x",
		{`"format":"date"`, `"format":"date-time"`}:                                              "/b: was string date, is string date-time",
		{`,"x-personal":true`, ``}:                                                               "/b: was personal",
		{`["x","y"]`, `["x"]`}:                                                                   `/c: value "y" was allowed`,
		{`"a":{"type":"string"}`, `"a":{"type":"string","enum":["q"]}`}:                          "/a: any value was allowed, now only [q]",
		{`"required":["a"]`, `"required":["a","b"]`}:                                             "/: field b was optional, is required",
		{`"required":["a"]`, `"required":[]`}:                                                    "/: field a was always there, is optional",
		{`"required":["a"]`, `"required":["a","new"]`}:                                           "/: field new is new and required",
		{`"e":{"type":"integer"}`, `"e":{"type":"string"}`}:                                      "/d/*/e: was integer, is string",
		{`"additionalProperties":{"type":"string"}`, `"additionalProperties":{"type":"number"}`}: "/m/*: was string, is number",
	} {
		now := strings.Replace(released, change[0], change[1], 1)
		if now == released {
			t.Fatalf("%q changes nothing", change[0])
		}
		got, err := incompatible([]byte(released), []byte(now))
		if err != nil {
			t.Fatal(err)
		}
		var wanted []string
		if want != "" {
			wanted = []string{want}
		}
		if !slices.Equal(got, wanted) {
			t.Errorf("%s -> %s: got %q, want %q", change[0], change[1], got, wanted)
		}
	}
}

func TestGenerateRefusesToBreakWhatWasReleased(t *testing.T) {
	dir := t.TempDir()
	if err := Generate(dir, shop); err != nil {
		t.Fatal(err)
	}
	if stale, err := Stale(dir, shop); err != nil || len(stale) > 0 {
		t.Errorf("stale after generating: %v, %v", stale, err)
	}
	schema := filepath.Join(dir, schemaFile("shop.bought", 1))
	sound, err := os.ReadFile(schema)
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "shop.md")
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	write(schema, []byte(strings.Replace(string(sound), `"buyer"`, `"customer"`, 1))) // as if the field had been renamed since
	write(page, []byte("old"))
	if err := Generate(dir, shop); err == nil || !strings.Contains(err.Error(), "field customer was removed") {
		t.Errorf("renamed field: %v", err)
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != "old" {
		t.Errorf("wrote %q although it refused, %v", got, err)
	}

	write(schema, sound)
	gone := filepath.Join(dir, schemaFile("shop.closed", 1))
	write(gone, sound)
	if err := Generate(dir, shop); err == nil || !strings.Contains(err.Error(), "shop.closed.1.json: this schema of the event is no longer declared") {
		t.Errorf("event that is gone: %v", err)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}

	write(filepath.Join(dir, "attic.md"), []byte("of an aggregate that there is no more"))
	if err := Generate(dir, shop); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(page); err != nil || string(got) == "old" {
		t.Errorf("page not written: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "attic.md")); !os.IsNotExist(err) {
		t.Errorf("page of no aggregate kept: %v", err)
	}
}
