package catalogue

import (
	"flag"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
)

var update = flag.Bool("update", false, "write the golden file of the words")

const wordsFile = "testdata/words.golden"

func phrasebook(t *testing.T) *domain.Phrasebook {
	t.Helper()
	b, err := aggregates.Phrasebook()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWordsOfAllEvents compares how every example is told, in every language, with a file; -update writes it. Whoever changes
// words changes what every reader reads of the past as well.
func TestWordsOfAllEvents(t *testing.T) {
	b := phrasebook(t)
	var out strings.Builder
	told := map[string]string{}
	for _, d := range aggregates.All() {
		for _, spec := range d.Events {
			out.WriteString(spec.Type() + "\n")
			for _, l := range domain.Languages {
				words := b.Tell(domain.Reader{Language: l}, spec.Example)
				if other := told[words]; other != "" {
					t.Errorf("%s and %s say the same: %s", spec.Type(), other, words)
				}
				told[words] = spec.Type()
				out.WriteString("\t" + string(l) + "  " + words + "\n")
			}
		}
	}
	if *update {
		if err := os.WriteFile(wordsFile, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(wordsFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != string(want) {
		t.Errorf("the words changed: go test ./internal/catalogue -run TestWordsOfAllEvents -update\n%s", got)
	}
}

// TestWordsReadWellWhateverIsAbsent tells every event as in its example, without each optional member in turn, without all
// of them, and with each member of a profile or of details as the one that changed.
func TestWordsReadWellWhateverIsAbsent(t *testing.T) {
	b := phrasebook(t)
	for _, d := range aggregates.All() {
		for _, spec := range d.Events {
			for _, e := range variants(spec.Example) {
				for _, l := range domain.Languages {
					readsWell(t, e, l, b.Tell(domain.Reader{Language: l}, e))
				}
			}
		}
	}
}

var letters = regexp.MustCompile(`[A-Za-z]`)

func readsWell(t *testing.T, e domain.Event, l domain.Language, words string) {
	t.Helper()
	for _, bad := range []string{"{", "}", "[", "]", "|", "“”", "  ", "unknown)", "未知）", ": :", ", ,"} {
		if strings.Contains(words, bad) {
			t.Errorf("%s in %s has %q: %s\n%+v", e.EventType(), l, bad, words, e)
		}
	}
	if words == "" || strings.TrimSpace(words) != words {
		t.Errorf("%s in %s is empty or has blanks around: %q", e.EventType(), l, words)
	}
	ours := words
	for _, value := range values(reflect.ValueOf(e)) {
		ours = strings.ReplaceAll(ours, value, "")
	}
	switch {
	case l == domain.Chinese && letters.MatchString(strings.ReplaceAll(ours, "UTC", "")):
		t.Errorf("%s in Chinese has Latin letters of ours, %q: %s", e.EventType(), ours, words)
	case l == domain.English && strings.ContainsFunc(ours, func(r rune) bool { return r >= 0x3000 && r <= 0xffef }):
		t.Errorf("%s in English has Chinese of ours, %q: %s", e.EventType(), ours, words)
	}
}

// values returns the texts of an event that are no words of ours, the longest first.
func values(v reflect.Value) (texts []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			texts = values(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				texts = append(texts, values(v.Field(i))...)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			texts = append(texts, values(v.Index(i))...)
		}
	case reflect.String:
		if _, labelled := v.Interface().(domain.Labelled); !labelled && v.Len() > 0 {
			texts = []string{v.String()}
		}
	}
	slices.SortFunc(texts, func(a, b string) int { return len(b) - len(a) })
	return texts
}

// variants returns the event as it is, without each member that may be absent, and without all of them. Of an event that
// holds one changed member in from and to, there is one for each member of them too, as the first value, as the last, and as
// another one.
func variants(example domain.Event) []domain.Event {
	original := reflect.ValueOf(example)
	fresh := func(change func(v reflect.Value)) domain.Event {
		v := reflect.New(original.Type()).Elem()
		v.Set(original)
		change(v)
		return v.Interface().(domain.Event)
	}
	list := []domain.Event{example}
	all := optional(original.Type(), nil)
	field := original.FieldByName("Field")
	if field.IsValid() {
		all = slices.DeleteFunc(all, func(place []int) bool { return len(place) > 1 }) // from and to hold one member as a whole
	}
	list = append(list, fresh(func(v reflect.Value) {
		for _, place := range all {
			v.FieldByIndex(place).SetZero()
		}
	}))
	for _, place := range all {
		list = append(list, fresh(func(v reflect.Value) { v.FieldByIndex(place).SetZero() }))
	}
	if !field.IsValid() {
		return list
	}
	of := original.FieldByName("To").Type()
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		for _, sides := range [][]string{{"From"}, {"To"}, {"From", "To"}} {
			list = append(list, fresh(func(v reflect.Value) {
				v.FieldByName("Field").SetString(name)
				v.FieldByName("From").SetZero()
				v.FieldByName("To").SetZero()
				for _, side := range sides {
					fill(v.FieldByName(side).Field(i))
				}
			}))
		}
	}
	return list
}

// optional returns the places of a struct that may be absent, those of structs within it as well.
func optional(t reflect.Type, at []int) (places [][]int) {
	for i := range t.NumField() {
		f, place := t.Field(i), append(slices.Clone(at), i)
		if strings.Contains(f.Tag.Get("json"), ",omit") {
			places = append(places, place)
		}
		if f.Type.Kind() == reflect.Struct && f.Type.NumField() > 0 && f.Type.PkgPath() != "time" && f.IsExported() {
			places = append(places, optional(f.Type, place)...)
		}
	}
	return places
}

// fill sets a value to one that is not empty; of an enumeration, to one that there is.
func fill(v reflect.Value) {
	if labelled, ok := v.Interface().(domain.Labelled); ok {
		v.SetString(sortedKeys(labelled.Labels())[0])
		return
	}
	switch value := v.Addr().Interface().(type) {
	case *domain.Money:
		*value = domain.MustMoney("12.50", "EUR")
		return
	case *domain.Date:
		*value = "1984-05-17"
		return
	case *domain.ID:
		*value = "01900000-0000-7000-8000-000000000002"
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("Wert")
	case reflect.Int:
		v.SetInt(3)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Struct:
		if at, ok := v.Addr().Interface().(interface{ UnmarshalText([]byte) error }); ok {
			if err := at.UnmarshalText([]byte("2026-03-02T09:15:00Z")); err != nil {
				panic(err)
			}
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// TestEveryValueOfAnEnumerationHasWords compares the values that commands and events allow with the labels of their types.
func TestEveryValueOfAnEnumerationHasWords(t *testing.T) {
	found := 0
	var visit func(t reflect.Type)
	visited := map[reflect.Type]bool{}
	visit = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || visited[typ] {
			return
		}
		visited[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			element := f.Type
			if element.Kind() == reflect.Pointer {
				element = element.Elem()
			}
			if enum := f.Tag.Get("enum"); enum != "" {
				labelled, ok := reflect.Zero(element).Interface().(domain.Labelled)
				if !ok {
					t.Errorf("%s.%s is an enumeration without labels", typ, f.Name)
					continue
				}
				for value := range strings.SplitSeq(enum, ",") {
					found++
					if w := labelled.Labels()[value]; w.En == "" || w.Zh == "" {
						t.Errorf("%s.%s: no words for %q", typ, f.Name, value)
					}
				}
			}
			visit(f.Type)
		}
	}
	for _, d := range aggregates.All() {
		for _, spec := range d.Commands {
			visit(reflect.TypeOf(spec.Example))
		}
		for _, spec := range d.Events {
			visit(reflect.TypeOf(spec.Example))
		}
	}
	if found == 0 {
		t.Error("no enumeration was found")
	}
}
