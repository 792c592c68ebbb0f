package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// TestPageAndTestsAgree holds that a scenario test shows a row of the page, and that it names each clause of the row once:
// what does not work is declared, never left out.
func TestPageAndTestsAgree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/capabilities.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readPage(string(text))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for _, r := range rows {
		for _, c := range r.clauses {
			if c.rows == nil {
				want[r.id] = append(want[r.id], c.words)
			}
		}
	}
	tests, err := scenarios(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(tests) == 0 {
		t.Fatal("there is no scenario test")
	}
	for _, id := range slices.Sorted(maps.Keys(tests)) {
		slices.Sort(want[id])
		slices.Sort(tests[id])
		if diff := cmp.Diff(want[id], tests[id]); diff != "" {
			t.Errorf("%s, page against test: %s", id, diff)
		}
	}
}

// scenarios returns the clauses that the scenario tests below a folder name, by row.
func scenarios(root string) (map[string][]string, error) {
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || name != root && strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declared := range file.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			match := testPattern.FindStringSubmatch(f.Name.Name)
			if match == nil {
				continue
			}
			if found[match[1]] != nil {
				return fmt.Errorf("%s: another test shows %s too", files.Position(f.Pos()), match[1])
			}
			if found[match[1]], err = clausesOf(f); err != nil {
				return fmt.Errorf("%s: %w", files.Position(f.Pos()), err)
			}
		}
		return nil
	})
	return found, err
}

// clausesOf returns the words of the clauses that a test shows, or declares as not yet there.
func clausesOf(f *ast.FuncDecl) (words []string, err error) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || method.Sel.Name != "clause" && method.Sel.Name != "notYet" {
			return true
		}
		literal, ok := call.Args[0].(*ast.BasicLit)
		if !ok {
			err = fmt.Errorf("a clause of %s is not written out", f.Name.Name)
			return false
		}
		text, unquoteErr := strconv.Unquote(literal.Value)
		if unquoteErr != nil {
			err = unquoteErr
		}
		words = append(words, text)
		return true
	})
	return words, err
}
