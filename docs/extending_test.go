// Package docs_test holds the pages of this folder to what they say.
package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wanted is the variable that asks for the test.
const wanted = "RAPPORT_TEST_DOCS"

// block is a part of a page that belongs into a file.
type block struct {
	file  string
	after string // part of the one line behind which it is inserted; empty for a whole file
	text  string
}

var fence = regexp.MustCompile("(?ms)^```go (file|into)=(\\S+)(?: after=(.+?))?\n(.*?)^```$")

// TestExtendingWorksAsWritten puts the files of the page into a copy of the sources and runs the test that stands there. The copy
// is compiled without its path, so that what one run has compiled serves the next.
func TestExtendingWorksAsWritten(t *testing.T) {
	if os.Getenv(wanted) == "" {
		t.Skip("make test-docs runs it: it compiles a copy of the sources")
	}
	page, err := os.ReadFile("extending.md")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	copySources(t, "..", root)
	found := fence.FindAllStringSubmatch(string(page), -1)
	if len(found) < 12 {
		t.Fatalf("only %d files and lines are found on the page", len(found))
	}
	for _, m := range found {
		b := block{file: m[2], after: m[3], text: m[4]}
		path := filepath.Join(root, b.file)
		if m[1] == "into" {
			b.text = inserted(t, path, b)
		} else if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.CommandContext(t.Context(), "go", "test", "-trimpath", "-count=1", "./domain/work/...", "./api", "-run", "TestTask$")
	run.Dir = root
	if out, err := run.CombinedOutput(); err != nil || !strings.Contains(string(out), "ok  \tgithub.com/rapport-crm/rapport/api") {
		t.Errorf("%v\n%s", err, out)
	}
}

// inserted returns a file with a block behind the one line that holds its text.
func inserted(t *testing.T, path string, b block) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	var out strings.Builder
	places := 0
	for _, line := range lines {
		out.WriteString(line)
		if strings.Contains(line, b.after) {
			out.WriteString(b.text)
			places++
		}
	}
	if places != 1 {
		t.Fatalf("%s: %q stands there %d times", b.file, b.after, places)
	}
	return out.String()
}

// copySources copies what the product is compiled from.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	for _, folder := range []string{"api", "commands", "deploy", "domain", "internal", "projections", "readmodels", "go.mod", "go.sum"} {
		info, err := os.Stat(filepath.Join(from, folder))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil && info.IsDir() {
			err = os.CopyFS(filepath.Join(to, folder), os.DirFS(filepath.Join(from, folder)))
		} else if err == nil {
			var text []byte
			if text, err = os.ReadFile(filepath.Join(from, folder)); err == nil {
				err = os.WriteFile(filepath.Join(to, folder), text, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
