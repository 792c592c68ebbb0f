package domain_test

import (
	"slices"
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

func TestFieldsAreFoundByTheirJSONNames(t *testing.T) {
	type inner struct {
		City string `json:"city,omitempty"`
	}
	type outer struct {
		Name   string `json:"name"`
		hidden string
		Fact   string `json:"-"`
		inner
	}
	from := outer{Name: "Acme", hidden: "h", Fact: "f", inner: inner{City: "Rome"}}
	if got := domain.OnlyField(from, "name"); got != (outer{Name: "Acme"}) {
		t.Errorf("only name: %+v", got)
	}
	var to outer
	if !domain.CopyField(&to, "city", from) || to.City != "Rome" || to.Name != "" {
		t.Errorf("copied %+v", to)
	}
	for _, name := range []string{"", "-", "Name", "hidden", "inner"} {
		if domain.CopyField(&to, name, from) {
			t.Errorf("%q is no JSON name of a field", name)
		}
	}
	if got := domain.FieldNames[outer](); !slices.Equal(got, []string{"name", "city"}) {
		t.Errorf("names %q", got)
	}
}

func TestWithLeavesTheMapAlone(t *testing.T) {
	m := map[string]int{"a": 1}
	n := domain.With(m, "a", 2)
	if m["a"] != 1 || n["a"] != 2 || domain.With[string, int](nil, "b", 3)["b"] != 3 {
		t.Errorf("m %v, n %v", m, n)
	}
}
