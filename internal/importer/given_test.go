package importer

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
)

const weighed = `
source: parcels
inputs:
  - file: parcels.csv
    commands:
      - command: parcel.weigh
        key: row.id
        target: id('parcel', row.id)
        fields: %s
`

// TestANumberThatIsLeftOutIsNotZero holds the importer to what the API asks of a body: a weight may be 0, and must be said.
func TestANumberThatIsLeftOutIsNotZero(t *testing.T) {
	file := writeFile(t, "parcels.csv", "id,grams\n1,0\n2,\n3,5\n")
	for _, c := range []struct {
		fields       string
		line, column int
	}{
		{"{floor: '1'}", 9, 17},
		{"{}", 9, 17},
		{"{grams: int(row.grams), parts: [{name: row.id}]}", 9, 49},
		{"\n          floor: '1'", 10, 11},
		{"", 6, 18},
	} {
		_, err := compile(t, fmt.Sprintf(weighed, c.fields), file)
		var fault *MappingError
		if !errors.As(err, &fault) || fault.Line != c.line || fault.Column != c.column || !strings.Contains(fault.Message, "grams is required") {
			t.Errorf("%s: %v", c.fields, err)
		}
	}

	var b bus
	result, rejects := mustRun(t, &b, fmt.Sprintf(weighed, `{grams: "row.grams == '' ? dyn(null) : int(row.grams)"}`), file)
	if got := result.Inputs[0]; got.Accepted != 2 || got.Rejected != 1 || got.RowsRejected != 1 || !strings.Contains(rejects, "/grams: is required") {
		t.Errorf("%+v, rejects %s", got, rejects)
	}
	if zero, ok := b.commands["import:parcels:parcel.weigh:1"].(weighParcel); !ok || zero.Grams != 0 {
		t.Errorf("nothing was told from 0: %+v", b.commands)
	}
	b = bus{}
	result, rejects = mustRun(t, &b, fmt.Sprintf(weighed, `{grams: "1", parts: "[{'name': 'a', 'grams': 1}, {'name': 'b'}]"}`), file)
	if got := result.Inputs[0]; got.Rejected != 3 || !strings.Contains(rejects, "/parts/1/grams: is required") {
		t.Errorf("%+v, rejects %s", got, rejects)
	}
}

// TestCommandsOfTheProductMustSayTheirNumbers pins which those are.
func TestCommandsOfTheProductMustSayTheirNumbers(t *testing.T) {
	var got []string
	for _, d := range aggregates.All() {
		for _, c := range d.Commands {
			for _, path := range domain.GivenOf(c.GoType()) {
				got = append(got, c.Type()+" "+strings.Join(path, "/"))
			}
		}
	}
	want := []string{"pipeline.define stages/*/probability", "pipeline.revise stages/*/probability", "opportunity.qualify score"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
