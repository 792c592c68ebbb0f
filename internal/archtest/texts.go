package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// said are the functions that make the text of an error, and which of their arguments is its template; the values follow it.
// Beside them, whatever has a parameter named template, and values of any number, counts as one in its package.
var said = map[string]int{"Say": 0, "Fault": 1, "Invalid": 1, "Reject": 1}

// templateName is the name of a parameter, a variable or a field that hands a template on.
const templateName = "template"

var (
	verb        = regexp.MustCompile(`%[-+# 0]*[0-9.]*[a-zA-Z]`)
	placeholder = regexp.MustCompile(`\{([^{}]*)\}`)
	memberName  = regexp.MustCompile(`^[a-z][A-Za-z0-9]*$`)
)

// CheckTexts returns a line for each text of an error whose values do not stand beside it: a template that is put together at
// run time, that has a verb of fmt, or whose placeholders are not as many as its values.
func CheckTexts(root fs.FS) ([]string, error) {
	packages := map[string][]*ast.File{}
	files := token.NewFileSet()
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() && name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || support(name)) {
			return fs.SkipDir
		}
		if entry.IsDir() || path.Ext(base) != ".go" || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(files, name, text, 0)
		packages[path.Dir(name)] = append(packages[path.Dir(name)], parsed)
		return err
	})
	if err != nil {
		return nil, err
	}
	var broken []string
	for _, parsed := range packages {
		broken = append(broken, checkTexts(files, parsed)...)
	}
	slices.Sort(broken)
	return broken, nil
}

// checkTexts returns what is wrong with the texts of one package.
func checkTexts(files *token.FileSet, parsed []*ast.File) (broken []string) {
	makers := map[string]int{}
	for _, file := range parsed {
		ast.Inspect(file, func(n ast.Node) bool { collectMaker(n, makers); return true })
	}
	for _, file := range parsed {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			at, ok := templateOf(call, makers)
			if !ok || at >= len(call.Args) {
				return true
			}
			if why := wrongText(call, at); why != "" {
				broken = append(broken, fmt.Sprintf("%s: %s", files.Position(call.Pos()), why))
			}
			return true
		})
	}
	return broken
}

// collectMaker notes a function, or a variable that holds one, with a parameter for a template and values.
func collectMaker(n ast.Node, makers map[string]int) {
	note := func(name string, f *ast.FuncType) {
		at := 0
		last := len(f.Params.List) - 1
		if last < 0 {
			return
		}
		if _, values := f.Params.List[last].Type.(*ast.Ellipsis); !values {
			return
		}
		for _, field := range f.Params.List {
			for _, parameter := range field.Names {
				if parameter.Name == templateName {
					makers[name] = at
				}
				at++
			}
		}
	}
	switch n := n.(type) {
	case *ast.FuncDecl:
		name := n.Name.Name
		if n.Recv != nil {
			name = "." + name // a method
		}
		note(name, n.Type)
	case *ast.AssignStmt:
		for i, value := range n.Rhs {
			f, literal := value.(*ast.FuncLit)
			if name, ok := n.Lhs[i].(*ast.Ident); ok && literal {
				note(name.Name, f.Type)
			}
		}
	}
}

// templateOf returns which argument of a call is a template.
func templateOf(call *ast.CallExpr, makers map[string]int) (int, bool) {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		at, ok := makers[f.Name]
		return at, ok
	case *ast.SelectorExpr:
		if of, ok := f.X.(*ast.Ident); ok && of.Name == "domain" {
			at, ok := said[f.Sel.Name]
			return at, ok
		}
		at, ok := makers["."+f.Sel.Name]
		return at, ok
	}
	return 0, false
}

// wrongText says what is wrong with the template of a call, "" when nothing is.
func wrongText(call *ast.CallExpr, at int) string {
	var text string
	switch e := call.Args[at].(type) {
	case *ast.BasicLit:
		text, _ = strconv.Unquote(e.Value)
	case *ast.Ident:
		if e.Name == templateName {
			return ""
		}
		return "the template " + e.Name + " is no constant"
	case *ast.SelectorExpr:
		if e.Sel.Name == templateName {
			return ""
		}
		return "the template is no constant"
	default:
		return "the template is put together"
	}
	if verb.MatchString(text) {
		return fmt.Sprintf("%q has a verb: a value stands in braces by its name", text)
	}
	var names []string
	for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
		if !memberName.MatchString(found[1]) {
			return fmt.Sprintf("%q has a placeholder that is no name", text)
		}
		if !slices.Contains(names, found[1]) {
			names = append(names, found[1])
		}
	}
	// A function of the package may add values of its own before those that it is given.
	if _, ours := call.Fun.(*ast.SelectorExpr); ours && len(names) != len(call.Args)-at-1 {
		return fmt.Sprintf("%q has %d names for %d values", text, len(names), len(call.Args)-at-1)
	}
	return ""
}
