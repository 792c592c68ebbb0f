package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// faults are the ids that docs/faults.md must have a row for.
func faults() (ids []string) {
	for prefix, numbers := range map[string]string{
		"S": "1 2 3 4 5 6 7 8 9 10 10b 11 12 13 14 15 16 17 18 19 20 21 22 23 24",
		"P": "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21",
		"A": "8 9 10 13 14 15",
		"D": "1 2 3 4 5 6 7 9 11 12",
	} {
		for n := range strings.FieldsSeq(numbers) {
			ids = append(ids, prefix+n)
		}
	}
	return ids
}

var (
	faultRow = regexp.MustCompile(`^\| ([SPAD]\d+b?) \| (.+) \| (.+) \| (.*)\|$`)
	quoted   = regexp.MustCompile("`([^`]+)`")
	testName = regexp.MustCompile(`^(Test|Fuzz)[A-Z]`)
)

// checkFaults returns what is wrong with a table of faults: ids without a row or with two, rows that neither name a test nor
// say that nothing is covered, and tests that do not exist under root.
func checkFaults(root, page string, ids []string) (wrong []string) {
	rows := map[string]int{}
	for line := range strings.Lines(page) {
		row := faultRow.FindStringSubmatch(strings.TrimSpace(line))
		if row == nil {
			continue
		}
		id, tests, folder := row[1], 0, ""
		rows[id]++
		for _, q := range quoted.FindAllStringSubmatch(row[4], -1) {
			switch {
			case testName.MatchString(q[1]):
				tests++
				if !hasTest(filepath.Join(root, folder), q[1]) {
					wrong = append(wrong, fmt.Sprintf("%s: there is no %s in %q", id, q[1], folder))
				}
			case strings.Contains(row[4], q[0]+": "):
				folder = q[1]
			}
		}
		if tests == 0 && !strings.Contains(row[3], "not covered") {
			wrong = append(wrong, id+": no test is named, and nothing says that it is not covered")
		}
	}
	for _, id := range ids {
		if rows[id] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s has %d rows", id, rows[id]))
		}
	}
	return wrong
}

// hasTest reports whether a test function is declared in a folder.
func hasTest(folder, name string) bool {
	files, _ := filepath.Glob(filepath.Join(folder, "*_test.go")) // the pattern is well-formed
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// TestEveryFaultHasItsTests holds that docs/faults.md tells the truth: each fault has its row, and the tests it names exist.
func TestEveryFaultHasItsTests(t *testing.T) {
	page, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range checkFaults("../..", string(page), faults()) {
		t.Error(w)
	}
}

func TestFaultsAreChecked(t *testing.T) {
	here := "| S1 | a | b | `internal/archtest`: `TestFaultsAreChecked` |\n"
	for name, c := range map[string]struct {
		page  string
		wrong int
	}{
		"right":          {here, 0},
		"not covered":    {"| S1 | a | not covered: why | |\n", 0},
		"no row":         {"", 1},
		"two rows":       {here + here, 1},
		"no test":        {"| S1 | a | b | by looking |\n", 1},
		"test is gone":   {"| S1 | a | b | `internal/archtest`: `TestGone`, `TestFaultsAreChecked` |\n", 1},
		"another folder": {"| S1 | a | b | `domain`: `TestFaultsAreChecked` |\n", 1},
	} {
		if wrong := checkFaults("../..", c.page, []string{"S1"}); len(wrong) != c.wrong {
			t.Errorf("%s: %q", name, wrong)
		}
	}
}
