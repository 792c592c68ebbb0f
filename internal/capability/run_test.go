package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const page = `# Page

- no row yet

### A01 First
- it does one thing
- it does another

### A02 Second
- it does all

### A03 Third
- nobody looks

### N01 Others
- A01 and A02 work
- A02 works
`

// ran is the output of one test of a clause, or of a whole row when words are empty.
func ran(test, words, action, output string) string {
	if words != "" {
		test += "/" + subtest(words)
	}
	line := ""
	if output != "" {
		line = `{"Action":"output","Package":"p","Test":"` + test + `","Output":"    x_test.go:1: ` + output + `\n"}` + "\n"
	}
	return line + `{"Action":"` + action + `","Package":"p","Test":"` + test + `"}` + "\n"
}

func TestRowsStandAsTheRunSays(t *testing.T) {
	first := ran("TestA01_First", "it does one thing", "pass", "")
	second := ran("TestA02_Second", "it does all", "pass", "") + ran("TestA02_Second", "", "pass", "")
	for _, c := range []struct {
		name, output string
		want         []string
		faults       int
	}{
		{"all", first + ran("TestA01_First", "it does another", "pass", "") + ran("TestA01_First", "", "pass", "") + second,
			[]string{"works", "works", "not yet", "works"}, 0},
		{"declared as not yet there", first + ran("TestA01_First", "it does another", "skip", "not yet: there is no other") + ran("TestA01_First", "", "pass", "") + second,
			[]string{"partly", "works", "not yet", "partly"}, 0},
		{"left out", first + ran("TestA01_First", "", "pass", "") + second, []string{"partly", "works", "not yet", "partly"}, 0},
		{"failed", first + ran("TestA01_First", "it does another", "fail", "") + ran("TestA01_First", "", "fail", "") + second,
			[]string{"FAILS", "works", "not yet", "partly"}, 1},
		{"failed before the clauses", ran("TestA01_First", "", "fail", "") + second, []string{"FAILS", "works", "not yet", "partly"}, 1},
		{"skipped", first + ran("TestA01_First", "it does another", "skip", "no database") + ran("TestA01_First", "", "pass", "") + second,
			[]string{"NOT RUN", "works", "not yet", "partly"}, 1},
		{"skipped whole", ran("TestA01_First", "", "skip", "no database") + second, []string{"NOT RUN", "works", "not yet", "partly"}, 1},
		{"a clause that the page lacks", second + ran("TestA02_Second", "more", "pass", ""), []string{"not yet", "works", "not yet", "partly"}, 1},
		{"a row that the page lacks", second + ran("TestA09_Ninth", "more", "pass", ""), []string{"not yet", "works", "not yet", "partly"}, 1},
		{"a package that failed", second + `{"Action":"fail","Package":"p"}`, []string{"not yet", "works", "not yet", "partly"}, 1},
		{"no test", "", []string{"not yet", "not yet", "not yet", "not yet"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, err := readPage(page)
			if err != nil {
				t.Fatal(err)
			}
			r, err := readRun(strings.NewReader(c.output))
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if faults := r.print(&out, rows); faults != c.faults {
				t.Errorf("%d faults, want %d", faults, c.faults)
			}
			var got []string
			for line := range strings.Lines(out.String()) {
				if len(line) > 9 && idPattern.MatchString(strings.SplitN(line[9:], " ", 2)[0]) {
					got = append(got, strings.TrimSpace(line[:9]))
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s\n%s", diff, out.String())
			}
		})
	}
}

func TestReportSaysWhatIsMissing(t *testing.T) {
	rows, err := readPage(page)
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRun(strings.NewReader(ran("TestA01_First", "it does one thing", "pass", "") +
		ran("TestA01_First", "it does another", "skip", "not yet: there is no other") + ran("TestA01_First", "", "pass", "")))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r.print(&out, rows)
	const want = `partly   A01   First
               not yet: it does another: there is no other
not yet  A02   Second
not yet  A03   Third
not yet  N01   Others

0 rows work, 1 partly, 3 not yet
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if _, err := readRun(strings.NewReader("ok  	p	1.0s\n")); err == nil {
		t.Error("output that is no JSON was read")
	}
}

func TestPagesThatAreRefused(t *testing.T) {
	for fault, text := range map[string]string{
		"A01 stands twice":                    "### A01 One\n- a\n### A01 Two\n- b\n",
		"A01 says this twice":                 "### A01 One\n- a\n- a\n",
		"A01 has no clause":                   "### A01 One\n",
		"there is no row A02":                 "### A01 One\n- A02 works\n",
		"A02 is shown by other rows itself":   "### A01 One\n- A02 works\n### A02 Two\n- A03 works\n### A03 Three\n- a\n",
		"begins and ends with a word, and ha": "### A01 One\n- a/b\n",
	} {
		if _, err := readPage(text); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %v, want %s", text, err, fault)
		}
	}
}
