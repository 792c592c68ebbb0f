package domain_test

import (
	"errors"
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

func TestPartialUpdatesReviseWhatTheyGive(t *testing.T) {
	type whole struct {
		Name   string   `json:"name"`
		Size   int      `json:"size"`
		Colour string   `json:"colour"`
		Place  *string  `json:"place"`
		Words  []string `json:"words"`
	}
	type update struct {
		domain.When
		Name   *string   `json:"name,omitempty"`
		Size   *int      `json:"size,omitempty"`
		Place  *string   `json:"place,omitempty"`
		Words  *[]string `json:"words,omitempty"`
		Clear  []string  `json:"clear,omitempty"`
		Reason string    `json:"reason"`
	}
	before := whole{Name: "a", Size: 3, Colour: "red", Place: new("Rome"), Words: []string{"x"}}
	got := before
	if err := domain.Revise(&got, update{Name: new(""), Size: new(4), Words: &[]string{"y", "z"}, Clear: []string{"colour", "size"}, Reason: "why"}); err != nil {
		t.Fatal(err)
	}
	if got.Name != "" || got.Size != 4 || got.Colour != "" || got.Place != before.Place || !slices.Equal(got.Words, []string{"y", "z"}) {
		t.Errorf("revised to %+v", got)
	}
	if got = before; domain.Revise(&got, update{}) != nil || got.Name != "a" || got.Size != 3 || got.Place != before.Place {
		t.Errorf("nothing given changed it to %+v", got)
	}
	err := domain.Revise(&got, update{Clear: []string{"colour", "Name"}})
	var invalid *domain.InvalidError
	if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != "/clear/1" {
		t.Errorf("a name that is no field: %v", err)
	}
}
