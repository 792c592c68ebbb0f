package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// state says how a clause or a row stands after a run.
type state string

// The states of clauses and rows. Of a row, partly means that some clauses work and the others are not yet there.
const (
	works  state = "works"
	partly state = "partly"
	notYet state = "not yet"
	notRun state = "NOT RUN"
	failed state = "FAILS"
)

// notYetMark stands before the reason of a test that skips a clause because it is not yet there; a test that skips without it
// was not run.
const notYetMark = "not yet: "

// maxLine is the longest line of the tests' output that is read, in bytes.
const maxLine = 16 << 20

// outcome is what a run showed of a test.
type outcome struct {
	state state
	why   string // it is not yet there
}

// run is what the tests' output says.
type run struct {
	tests  map[string]outcome            // by row
	shown  map[string]map[string]outcome // by row and clause
	broken []string                      // packages that failed
	output map[string][]string           // by test, or package for what belongs to no test
}

// event is a line that go test -json prints.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

var testPattern = regexp.MustCompile(`^Test([AN][0-9]+)_`)

// readRun reads the output of the tests.
func readRun(tests io.Reader) (*run, error) {
	r := &run{tests: map[string]outcome{}, shown: map[string]map[string]outcome{}, output: map[string][]string{}}
	lines := bufio.NewScanner(tests)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("not the output of go test -json: %q", lines.Text())
		}
		r.take(e)
	}
	return r, lines.Err()
}

func (r *run) take(e event) {
	name := e.Test
	if name == "" {
		name = e.Package + e.ImportPath
	}
	var o outcome
	switch e.Action {
	case "output", "build-output":
		r.output[name] = append(r.output[name], e.Output)
		return
	case "pass":
		o.state = works
	case "fail":
		o.state = failed
	case "skip":
		o.state = notRun
		if _, why, ok := strings.Cut(strings.Join(r.output[name], ""), notYetMark); ok {
			o = outcome{notYet, strings.TrimSpace(strings.SplitN(why, "\n", 2)[0])}
		}
	default:
		return
	}
	if e.Test == "" {
		if e.Action == "fail" {
			r.broken = append(r.broken, e.Package)
		}
		return
	}
	test, words, isClause := strings.Cut(e.Test, "/")
	found := testPattern.FindStringSubmatch(test)
	switch {
	case found == nil || strings.Contains(words, "/"):
	case isClause:
		if r.shown[found[1]] == nil {
			r.shown[found[1]] = map[string]outcome{}
		}
		r.shown[found[1]][words] = o
	default:
		r.tests[found[1]] = o
	}
}

// of returns how a clause of a row stands. Rows that show it are looked up in rows.
func (r *run) of(id string, c clause, rows map[string]row) outcome {
	for _, other := range c.rows {
		if s := r.stands(rows[other], rows); s != works {
			return outcome{notYet, other + ": " + string(s)}
		}
	}
	if c.rows != nil {
		return outcome{state: works}
	}
	if o, ok := r.shown[id][subtest(c.words)]; ok {
		return o
	}
	return outcome{notYet, "no test shows it"}
}

// subtest returns the name that package testing gives a subtest.
func subtest(words string) string { return strings.ReplaceAll(words, " ", "_") }

// stands returns how a row stands.
func (r *run) stands(at row, rows map[string]row) state {
	n := map[state]int{}
	for _, c := range at.clauses {
		n[r.of(at.id, c, rows).state]++
	}
	whole := r.tests[at.id].state
	switch {
	case n[failed] > 0 || whole == failed:
		return failed
	case n[notRun] > 0 || whole == notRun:
		return notRun
	case n[works] == len(at.clauses):
		return works
	case n[works] > 0:
		return partly
	}
	return notYet
}

// print prints how each row stands, and what was wrong with the run. It returns the number of faults.
func (r *run) print(w io.Writer, rows []row) (faults int) {
	byID := map[string]row{}
	for _, at := range rows {
		byID[at.id] = at
	}
	n := map[state]int{}
	for _, at := range rows {
		s := r.stands(at, byID)
		n[s]++
		fmt.Fprintf(w, "%-7s  %-4s  %s\n", s, at.id, at.name)
		if _, tried := r.tests[at.id]; s == works || s == notYet && !tried {
			continue
		}
		for _, c := range at.clauses {
			if o := r.of(at.id, c, byID); o.state == notYet {
				fmt.Fprintf(w, "%15s%s: %s: %s\n", "", o.state, c.words, o.why)
			} else if o.state != works {
				fmt.Fprintf(w, "%15s%s: %s\n", "", o.state, c.words)
			}
		}
	}
	fmt.Fprintf(w, "\n%d rows work, %d partly, %d not yet", n[works], n[partly], n[notYet])
	if n[failed]+n[notRun] > 0 {
		fmt.Fprintf(w, ", %d FAIL, %d NOT RUN", n[failed], n[notRun])
	}
	fmt.Fprintln(w)
	faults = n[failed] + n[notRun]
	for _, fault := range r.faults(byID) {
		fmt.Fprintln(w, fault)
		faults++
	}
	if faults > 0 {
		for _, name := range slices.Sorted(maps.Keys(r.output)) {
			test, _, _ := strings.Cut(name, "/")
			if found := testPattern.FindStringSubmatch(test); found == nil || r.tests[found[1]].state == failed {
				fmt.Fprintf(w, "\n%s", strings.Join(r.output[name], ""))
			}
		}
	}
	return faults
}

// faults returns what is wrong with the run besides failing rows.
func (r *run) faults(rows map[string]row) (faults []string) {
	if len(r.tests) == 0 {
		faults = append(faults, "no scenario test was run")
	}
	for _, id := range slices.Sorted(maps.Keys(r.shown)) {
		for _, words := range slices.Sorted(maps.Keys(r.shown[id])) {
			if !slices.ContainsFunc(rows[id].clauses, func(c clause) bool { return subtest(c.words) == words }) {
				faults = append(faults, fmt.Sprintf("the page has no such clause of %s: %s", id, words))
			}
		}
	}
	for _, name := range r.broken {
		faults = append(faults, "failed: "+name)
	}
	return faults
}
