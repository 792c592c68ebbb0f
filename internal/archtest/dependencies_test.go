package archtest

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEachDirectDependencyHasItsReason compares go.mod with the table in docs/dependencies.md.
func TestEachDirectDependencyHasItsReason(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile("../../" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	required := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(read("go.mod"), -1) {
		required[m[1]] = true // an indirect one has a comment behind its version
	}
	for _, m := range regexp.MustCompile(`(?m)^tool (\S+)/cmd/\S+$`).FindAllStringSubmatch(read("go.mod"), -1) {
		required[m[1]] = true
	}
	explained := map[string]bool{}
	for line := range strings.Lines(read("docs/dependencies.md")) {
		if cells := strings.Split(line, " | "); len(cells) == 2 && strings.Contains(cells[0], ".") {
			explained[strings.TrimPrefix(cells[0], "| ")] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(required)), slices.Sorted(maps.Keys(explained))); diff != "" {
		t.Errorf("go.mod (-) and docs/dependencies.md (+) differ:\n%s", diff)
	}
}
