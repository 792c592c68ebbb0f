package archtest

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestTextsOfErrorsHaveTheirValuesBeside(t *testing.T) {
	broken, err := CheckTexts(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range broken {
		t.Error(line)
	}
}

func TestEachWrongText(t *testing.T) {
	for call, want := range map[string]string{
		`domain.Reject("r", "a {kind} has none", k)`: "",
		`domain.Reject("r", "at most 5 %")`:          "",
		`domain.Reject("r", "a %s has none", k)`:     "has a verb",
		`domain.Invalid("/x", "a %5.2f", k)`:         "has a verb",
		`domain.Fault("/x", "a %+v", k)`:             "has a verb",
		`domain.Say("a " + k)`:                       "put together",
		`domain.Reject("r", fmt.Sprintf("a %s", k))`: "put together",
		`domain.Invalid("/x", k)`:                    "no constant",
		`domain.Invalid("/x", t.message)`:            "no constant",
		`domain.Invalid("/x", template, k)`:          "",
		`domain.Say("{a} and {a}", k)`:               "",
		`domain.Say("{a} and {b}", k)`:               "2 names for 1 values",
		`domain.Say("none", k)`:                      "0 names for 1 values",
		`domain.Say("{} of it", k)`:                  "no name",
		`f.add("/x", "a %d", k)`:                     "has a verb",
		`f.add("/x", "a "+k)`:                        "put together",
		`wrong("/x", "a %d", k)`:                     "has a verb",
		`wrong("/x", k)`:                             "no constant",
		`other.Println("%s", k)`:                     "",
	} {
		source := "package p\nfunc (f *faults) add(pointer, template string, values ...any) {}\n" +
			"func use() {\n wrong := func(pointer, template string, values ...any) {}\n " + call + "\n}\n"
		broken, err := CheckTexts(fstest.MapFS{"domain/p/p.go": {Data: []byte(source)}})
		if err != nil {
			t.Fatal(err)
		}
		if found := strings.Join(broken, "\n"); (found == "") != (want == "") || !strings.Contains(found, want) {
			t.Errorf("%s: %q, want %q", call, found, want)
		}
	}
}
