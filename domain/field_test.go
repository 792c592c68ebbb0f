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
	var to outer
	if !domain.CopyField(&to, "city", from) || to.City != "Rome" || to.Name != "" {
		t.Errorf("copied %+v", to)
	}
	for _, name := range []string{"", "-", "Name", "hidden", "inner"} {
		if domain.CopyField(&to, name, from) {
			t.Errorf("%q is no JSON name of a field", name)
		}
	}
	same := func(a, b outer) bool { return a == b }
	want := []domain.FieldChange[outer]{
		{Field: "name", From: outer{Name: "Acme"}},
		{Field: "city", From: outer{inner: inner{City: "Rome"}}, To: outer{inner: inner{City: "Oslo"}}},
	}
	if got := domain.FieldChanges(outer{"Acme", "h", "f", inner{"Rome"}}, outer{"", "i", "g", inner{"Oslo"}}, same); !slices.Equal(got, want) {
		t.Errorf("changes %+v", got)
	}
}

func TestOnlyWhatIsNotTheSameHasChanged(t *testing.T) {
	type lists struct {
		Words []string `json:"words"`
		Count int      `json:"count"`
	}
	same := func(a, b lists) bool { return slices.Equal(a.Words, b.Words) && a.Count/10 == b.Count/10 }
	from := lists{Words: []string{"a"}, Count: 21}
	if got := domain.FieldChanges(from, lists{Words: []string{"a"}, Count: 29}, same); len(got) != 0 {
		t.Errorf("changes %+v", got)
	}
	got := domain.FieldChanges(from, lists{Words: []string{"b"}, Count: 29}, same)
	if len(got) != 1 || got[0].Field != "words" || got[0].From.Words[0] != "a" || got[0].From.Count != 0 || got[0].To.Words[0] != "b" {
		t.Errorf("changes %+v", got)
	}
}

func TestWithLeavesTheMapAlone(t *testing.T) {
	m := map[string]int{"a": 1}
	n := domain.With(m, "a", 2)
	if m["a"] != 1 || n["a"] != 2 || domain.With[string, int](nil, "b", 3)["b"] != 3 {
		t.Errorf("m %v, n %v", m, n)
	}
}
