package archtest

import (
	"bytes"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

// whole are the files that may make a store of the rows of all tenants, for a loop of the product. None of them answers requests.
var whole = []string{"cmd/rapport/deadlines.go"}

func TestOnlyLoopsSeeTheRowsOfAllTenants(t *testing.T) {
	root := os.DirFS("../..")
	var found []string
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if bytes.Contains(text, []byte(".ForLoops")) {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, whole) {
		t.Errorf("ForLoops is called in %v, and may be in %v", found, whole)
	}
}
