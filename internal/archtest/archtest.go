// Package archtest checks which package imports which, so that domain rules
// stay free of I/O and an outside library stays behind its one adapter. Its test
// runs the check over this module.
package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the path that our own imports begin with.
const Module = "github.com/rapport-crm/rapport"

const (
	eventStoreClient = "github.com/EventStore/EventStore-Client-Go"
	watermill        = "github.com/ThreeDotsLabs/watermill"
	pgx              = "github.com/jackc/pgx"
	decimal          = "github.com/shopspring/decimal"
)

// topLevel are the folders that the module's root may have. bin and data are
// what building and running make; they are not committed.
var topLevel = []string{"api", "bin", "cmd", "commands", "data", "deploy", "docs", "domain", "internal", "projections", "readmodels"}

// vague are package names that say nothing about what is inside.
var vague = []string{"common", "helper", "helpers", "misc", "model", "models", "util", "utils"}

// A rule says what the packages in and below a folder may import of this
// module. The longest folder that matches decides. A name that ends in /...
// stands for a folder and everything below it. Every package may import what is
// in and below the folder of its own rule, but for domain, where an aggregate
// (domain/<area>/<aggregate>) may import the kernel, the value types that its
// area shares (domain/<area>) and its own parts alone. The list of all aggregates,
// domain/aggregates, imports every one.
type rule struct {
	folder string
	ours   []string
	tests  []string // what its tests may import besides; the tests of api run the stack that cmd wires
}

var rules = []rule{
	{folder: "domain"},
	{folder: "domain/aggregates", ours: []string{"domain/..."}},
	{folder: "commands", ours: []string{"domain/..."}},
	{folder: "readmodels", ours: []string{"domain"}},
	{folder: "projections", ours: []string{"domain/...", "readmodels/..."}},
	{folder: "projections/runner", ours: []string{"domain/...", "readmodels/...", "projections/...", "internal/bus", "internal/eventlog", "internal/codec", "internal/follow", "internal/retry"}},
	{folder: "projections/runner/apply", ours: []string{"domain", "internal/bus", "internal/codec", "internal/follow", "projections/projection", "projections/runner/build", "projections/runner/fault"}},
	{folder: "projections/runner/build", ours: []string{"domain", "internal/bus", "internal/follow", "internal/retry", "projections/projection", "projections/runner/fault"}},
	{folder: "projections/runner/fault", ours: []string{"domain"}},
	{folder: "api", ours: []string{"commands/...", "readmodels/...", "domain/..."}, tests: []string{"projections/..."}},
	{folder: "internal", ours: []string{"domain/..."}},
	{folder: "cmd", ours: []string{"..."}},
}

// Check returns a line for each file of the module at root that breaks a rule,
// in the order of paths.
func Check(root fs.FS) ([]string, error) {
	var broken []string
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		hidden := name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_"))
		if entry.IsDir() {
			if hidden || base == "testdata" {
				return fs.SkipDir
			}
			if name != "." && !strings.Contains(name, "/") && !slices.Contains(topLevel, name) {
				broken = append(broken, fmt.Sprintf("%s: not one of the module's folders %v", name, topLevel))
			}
			return nil
		}
		if hidden || path.Ext(base) != ".go" {
			return nil
		}
		found, err := checkFile(root, name)
		broken = append(broken, found...)
		return err
	})
	return broken, err
}

// checkFile returns what is wrong with one Go file.
func checkFile(root fs.FS, name string) ([]string, error) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, name, text, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var broken []string
	if p := strings.TrimSuffix(parsed.Name.Name, "_test"); slices.Contains(vague, p) {
		broken = append(broken, fmt.Sprintf("%s: package %s is named for nothing in particular", name, p))
	}
	folder := path.Dir(name)
	test := strings.HasSuffix(name, "_test.go") || support(folder)
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if why := forbidden(folder, imported, test); why != "" {
			broken = append(broken, fmt.Sprintf("%s: imports %s: %s", files.Position(spec.Pos()), imported, why))
		}
	}
	return broken, nil
}

// forbidden returns why a file of folder may not import the package, "" when
// it may. Files of tests may use more.
func forbidden(folder, imported string, test bool) string {
	if ours, ok := below(imported, Module); ok {
		return forbiddenOurs(folder, ours, test)
	}
	if !in(folder, "internal/bus") && in(imported, watermill) {
		return "only internal/bus uses Watermill"
	}
	if test {
		return ""
	}
	switch {
	case in(folder, "domain") && !standard(imported) && imported != decimal:
		return "domain uses the standard library and decimals alone"
	case in(folder, "api") && in(imported, pgx):
		return "api reads through readmodels"
	case in(imported, eventStoreClient):
		if in(folder, "internal/eventlog") {
			return ""
		}
		if in(folder, "internal/esnode") && strings.Contains(imported, "/protos/") {
			return ""
		}
		return "only internal/eventlog uses the EventStoreDB client (internal/esnode its protocol)"
	}
	return ""
}

// forbiddenOurs decides on an import of another package of this module.
func forbiddenOurs(folder, imported string, test bool) string {
	var decides rule
	for _, r := range rules {
		if in(folder, r.folder) && len(r.folder) > len(decides.folder) {
			decides = r
		}
	}
	if decides.folder == "" {
		return "no rule says what this folder may import"
	}
	if support(imported) && !test {
		return "only tests use it"
	}
	if test && (in(imported, "internal") || in(imported, "domain") && support(imported)) {
		return ""
	}
	if of, ok := below(folder, "domain"); ok && of != "" && of != "aggregates" {
		area, aggregate, _ := strings.Cut(of, "/")
		aggregate, _, _ = strings.Cut(aggregate, "/")
		if imported == "domain" || imported == "domain/"+area || matches(imported, "domain/"+area+"/"+aggregate+"/...") {
			return ""
		}
		return "an aggregate knows the kernel and the values of its area, never another aggregate"
	}
	if folder == imported { // an external test of the package
		return ""
	}
	if decides.folder != "domain" && matches(imported, decides.folder+"/...") {
		return ""
	}
	allowed := decides.ours
	if test {
		allowed = append(slices.Clone(allowed), decides.tests...)
	}
	for _, pattern := range allowed {
		if matches(imported, pattern) {
			return ""
		}
	}
	if len(decides.ours) == 0 {
		return decides.folder + " imports nothing of this module"
	}
	return fmt.Sprintf("%s may import %s", decides.folder, strings.Join(decides.ours, ", "))
}

// records is the one package for tests that is named for what it holds.
const records = "internal/engineanswers"

// support reports whether a folder holds a package for tests, which its name
// says by ending so, as httptest does, or which holds records: its files count as
// tests, and only tests may import it.
func support(folder string) bool {
	return folder == records || strings.HasSuffix(path.Base(folder), "test")
}

// matches reports whether a folder is the one that pattern names or, for a
// pattern that ends in ..., one below it.
func matches(folder, pattern string) bool {
	if pattern == "..." {
		return true
	}
	if parent, ok := strings.CutSuffix(pattern, "/..."); ok {
		return in(folder, parent)
	}
	return folder == pattern
}

// in reports whether name is parent or below it.
func in(name, parent string) bool {
	return name == parent || strings.HasPrefix(name, parent+"/")
}

// below returns name's path relative to parent, "" for parent itself.
func below(name, parent string) (string, bool) {
	if !in(name, parent) {
		return "", false
	}
	return strings.TrimPrefix(strings.TrimPrefix(name, parent), "/"), true
}

// standard reports whether an import is of the standard library: its first
// element has no dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}
