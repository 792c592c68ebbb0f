package api_test

import (
	"flag"
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
)

var update = flag.Bool("update", false, "write docs/problems.md anew")

const problemsPage = "../docs/problems.md"

// ownCodes says of each code of the API itself what it means; the bus and the read models have two.
var ownCodes = map[string]struct {
	status  int
	meaning string
}{
	"invalid":                 {400, "A value can never be right; `errors[]` names each with a pointer. Fix the request."},
	"malformed-json":          {400, "The body is not one JSON object in UTF-8 with different names."},
	"idempotency-key-missing": {400, "A command needs the header `Idempotency-Key`, unless it is a dry run."},
	"idempotency-key":         {400, "The idempotency key is longer than 255 characters, or holds others than visible ASCII ones."},
	"cursor-invalid":          {400, "The cursor is damaged, or was made for another list, filter, sort, `asOf` or `axis`, or from another event log. Begin with the first page."},
	"forbidden":               {403, "The caller may not do this, whatever the record is."},
	"not-found":               {404, "What the request names does not exist."},
	"route-not-found":         {404, "There is no such route."},
	"method-not-allowed":      {405, "The route does not know the method; the header `Allow` names those it knows."},
	"not-acceptable":          {406, "The answer cannot be given in a form that `Accept` names."},
	"duplicate":               {409, "Another record holds a value that must be unique: `existingId` and `duplicates[]` say which. `X-Duplicate-Policy: allow` lets it pass."},
	"precondition-failed":     {412, "The record is not at the revision that `If-Match` names; `actualRevision` is where it stands. Read it, and decide again."},
	"too-large":               {413, "The body is larger than the server takes. With status 400: the events of one command are."},
	"unsupported-media-type":  {415, "The body is not plain `application/json`."},
	"idempotency-key-reused":  {422, "The key was used before with another request. Choose a new one."},
	"not-tried":               {424, "An item of a batch with `stopOnError` was not tried, because one before it failed."},
	"internal":                {500, "A fault of the server; its `type` is `about:blank`. Report the correlation id."},
	"unavailable":             {503, "The event log or the read models cannot be reached, or have not reached `minPosition`; or others wrote to the record all the time. Send the same request again after `Retry-After`."},
	"overloaded":              {503, "Too much is in flight. Send the same request again after `Retry-After`."},
}

// TestProblemsPageIsComplete finds every code in the sources and compares the page with them.
func TestProblemsPageIsComplete(t *testing.T) {
	rules := map[string]map[string]bool{} // messages by rule
	codes := map[string]bool{}
	for _, folder := range []string{"../domain", "../commands", "../readmodels", "../projections/runner", "../projections/asof", "."} {
		walkSources(t, folder, func(n ast.Node) { collect(n, rules, codes) })
	}
	for code := range codes {
		if ownCodes[code].status == 0 {
			t.Errorf("code %q has no words here", code)
		}
	}
	for code := range ownCodes {
		if !codes[code] {
			t.Errorf("code %q is made nowhere", code)
		}
	}
	for rule, messages := range rules {
		for m := range messages {
			if !strings.Contains(m, " ") {
				t.Errorf("rule %q has no words of its own: %q", rule, m)
			}
		}
	}
	if len(rules) < 30 {
		t.Errorf("only %d rules found", len(rules))
	}
	want := renderProblems(rules)
	if *update {
		if err := os.WriteFile(problemsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(problemsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/problems.md is stale: go test ./api -run ProblemsPage -update")
	}
}

func walkSources(t *testing.T, folder string, visit func(ast.Node)) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "domaintest") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool { visit(n); return true })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// collect notes the rule of a call of Reject, and the code of a constant, an assignment or a literal.
func collect(n ast.Node, rules map[string]map[string]bool, codes map[string]bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.SelectorExpr:
			name = f.Sel.Name
		case *ast.Ident:
			name = f.Name
		}
		if name != "Reject" || len(n.Args) < 2 {
			return
		}
		rule, ok := text(n.Args[0])
		if !ok {
			return
		}
		if rules[rule] == nil {
			rules[rule] = map[string]bool{}
		}
		if message, ok := text(n.Args[1]); ok {
			rules[rule][message] = true
		}
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if strings.HasPrefix(name.Name, "code") && i < len(n.Values) {
				if s, ok := text(n.Values[i]); ok {
					codes[s] = true
				}
			}
		}
	case *ast.AssignStmt:
		if sel, ok := n.Lhs[0].(*ast.SelectorExpr); ok && sel.Sel.Name == "Code" {
			if s, ok := text(n.Rhs[0]); ok {
				codes[s] = true
			}
		}
	case *ast.CompositeLit:
		if sel, ok := n.Type.(*ast.SelectorExpr); !ok || sel.Sel.Name != "InvalidError" {
			return
		}
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Code" {
				if s, ok := text(kv.Value); ok {
					codes[s] = true
				}
			}
		}
	}
}

// text reads a string literal, one that is put together of several, or the name of a kind of record with one behind it.
func text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		s, ok := text(e.Y)
		if front, literal := text(e.X); literal {
			return front + s, ok
		}
		return "<record>" + s, ok
	}
	return "", false
}

func renderProblems(rules map[string]map[string]bool) string {
	var page strings.Builder
	page.WriteString("# Problems\n\n" +
		"Every error of the API is an RFC 9457 document of type `application/problem+json`. Its member `code` is stable; `type` ends in it.\n" +
		"`correlationId` finds the request in the server's log. `errors` says each fault of a request,\n" +
		"with its own `template` and `params` when it has values. Only what is no HTTP, such as a path with a broken escape or headers\n" +
		"beyond their limit, is answered 400 or 431 in plain text, before the API sees it. This page is generated from the sources (`go test ./api -run ProblemsPage -update`).\n\n" +
		"## Of the API\n\n| code | status | meaning |\n| --- | --- | --- |\n")
	for _, code := range slices.SortedFunc(maps.Keys(ownCodes), func(a, b string) int {
		return strings.Compare(fmt.Sprint(ownCodes[a].status, a), fmt.Sprint(ownCodes[b].status, b))
	}) {
		fmt.Fprintf(&page, "| `%s` | %d | %s |\n", code, ownCodes[code].status, ownCodes[code].meaning)
	}
	page.WriteString("\n## Rules of the business\n\n" +
		"The request is well-formed, and a rule forbids it now: status 422, nothing was written. What stands in braces is\n" +
		"a member of `params`: programs act on `code` and `params`, and `template` finds the words of another language.\n\n" +
		"| code | words |\n| --- | --- |\n")
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		var messages []string
		for _, m := range slices.Sorted(maps.Keys(rules[rule])) {
			messages = append(messages, strings.ReplaceAll(m, "|", "\\|"))
		}
		fmt.Fprintf(&page, "| `%s` | %s |\n", rule, strings.Join(messages, "; or "))
	}
	return page.String()
}
