package domaintest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

// Specs checks that a declaration is complete: permanent names under the aggregate's own, values as examples, a sentence
// on everything, a doc tag on every field that clients or readers see, words for every event that fit it, and exactly one
// command that creates.
func Specs(t *testing.T, def domain.Definition) {
	t.Helper()
	if def.Name == "" || def.Plural == "" || def.Doc == "" {
		t.Errorf("name %q, plural %q and doc %q must all be given", def.Name, def.Plural, def.Doc)
	}
	seen := map[string]bool{}
	check := func(name, doc string, example any) {
		v := reflect.ValueOf(example)
		switch {
		case !strings.HasPrefix(name, def.Name+".") || strings.ToLower(name) != name:
			t.Errorf("%s does not begin with %s. in lower case", name, def.Name)
		case seen[name]:
			t.Errorf("%s is declared twice", name)
		case doc == "":
			t.Errorf("%s has no doc", name)
		case v.Kind() != reflect.Struct:
			t.Errorf("%s: the example is a %s, not a struct by value", name, v.Kind())
		default:
			documented(t, name, v.Type())
		}
		seen[name] = true
	}
	creates := 0
	for _, c := range def.Commands {
		check(c.Type(), c.Doc, c.Example)
		if c.Creates {
			creates++
		}
	}
	if creates != 1 {
		t.Errorf("%d commands create, not one", creates)
	}
	for _, e := range def.Events {
		check(e.Type(), e.Doc, e.Example)
	}
	if _, err := domain.NewPhrasebook(def); err != nil {
		t.Error(err)
	}
}

func documented(t *testing.T, name string, typ reflect.Type) {
	t.Helper()
	for _, f := range reflect.VisibleFields(typ) {
		tag := f.Tag.Get("json")
		if f.Anonymous || tag == "-" {
			continue
		}
		if tag == "" || strings.HasPrefix(tag, ",") || f.Tag.Get("doc") == "" {
			t.Errorf("%s: field %s lacks a JSON name or a doc tag", name, f.Name)
		}
	}
}
