package query

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/rapport-crm/rapport/domain"
)

// Limits of a filter: far above what a person writes, far below what would burden the planner.
const (
	MaxFilterLength = 4000 // bytes of the expression
	MaxFilterTerms  = 100  // comparisons in it
	MaxFilterList   = 500  // values of one "in" list
	maxFilterDepth  = 40   // nested brackets and operators
)

// A filter is an expression of CEL over the fields of one row type, translated to SQL: every field is on the allow-list
// of the row type, every value becomes a parameter.
//
//	status == "open" && (amount >= 1000 || "vip" in tags) && !name.startsWith("Test")
//
// Known are == != < <= > >= in && || !, startsWith, contains and endsWith on text, lowerAscii() on text fields, "x" in
// list, has(map.key) and map.key == "x", timestamp("2026-01-31T00:00:00Z"), true, false and null. Days and ids are
// written as text. A comparison with a field that has no value is false, except != and == null.
type filter struct {
	fields map[string]field
	env    *cel.Env
}

func newFilter(fields []field) (*filter, error) {
	f := &filter{fields: map[string]field{}}
	options := []cel.EnvOption{
		cel.ClearMacros(), cel.Macros(cel.HasMacro),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserRecursionLimit(maxFilterDepth),
		cel.ParserExpressionSizeLimit(MaxFilterLength),
		cel.Function("lowerAscii", cel.MemberOverload("string_lower_ascii", []*cel.Type{cel.StringType}, cel.StringType)),
	}
	for _, field := range fields {
		if t := field.celType(); t != nil && field.name != "" && field.name != "-" {
			f.fields[field.name] = field
			options = append(options, cel.Variable(field.name, t))
		}
	}
	env, err := cel.NewEnv(options...)
	f.env = env
	return f, err
}

// where translates the expression to a SQL condition and appends its parameters to args. An empty expression is true.
// Faults of the expression are *domain.InvalidError with pointer "filter".
func (f *filter) where(expression string, args *Arguments) (string, error) {
	if expression == "" {
		return "true", nil
	}
	if len(expression) > MaxFilterLength {
		return "", domain.Invalid("filter", "longer than {limit} bytes", MaxFilterLength)
	}
	if !utf8.ValidString(expression) || strings.ContainsRune(expression, 0) {
		return "", domain.Invalid("filter", "not valid UTF-8 text")
	}
	checked, issues := f.env.Compile(expression)
	if issues.Err() != nil {
		return "", issueError(issues)
	}
	t := translation{filter: f, ast: checked.NativeRep(), args: args}
	sql, err := t.condition(checked.NativeRep().Expr(), 0)
	var at *positionError
	if errors.As(err, &at) {
		return "", domain.Invalid("filter", "at {line}:{column}: {message}", at.line, at.column, at.message)
	}
	return sql, err
}

func issueError(issues *cel.Issues) error {
	for _, e := range issues.Errors() {
		return domain.Invalid("filter", "at {line}:{column}: {message}", e.Location.Line(), e.Location.Column()+1, e.Message)
	}
	return domain.Invalid("filter", "{reason}", issues.Err())
}

// positionError is a fault at a place of the expression.
type positionError struct {
	line, column int
	message      string
}

func (e *positionError) Error() string { return e.message }

// Arguments are the parameters of one statement.
type Arguments []any

// Add appends a value and returns its placeholder, cast to a SQL type.
func (a *Arguments) Add(value any, sqlType string) string {
	*a = append(*a, value)
	return "$" + strconv.Itoa(len(*a)) + "::" + sqlType
}

// translation is one run over a checked expression.
type translation struct {
	*filter
	ast   *ast.AST
	args  *Arguments
	terms int
}

func (t *translation) fail(e ast.Expr, format string, args ...any) error {
	var at common.Location = common.NoLocation
	if info := t.ast.SourceInfo(); info != nil {
		at = info.GetStartLocation(e.ID())
	}
	return &positionError{line: at.Line(), column: at.Column() + 1, message: fmt.Sprintf(format, args...)}
}

// condition translates an expression of type bool to a SQL condition that is never null.
func (t *translation) condition(e ast.Expr, depth int) (string, error) {
	if depth > maxFilterDepth {
		return "", t.fail(e, "nested deeper than %d", maxFilterDepth)
	}
	switch e.Kind() {
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().Value().(bool); ok {
			return strconv.FormatBool(b), nil
		}
	case ast.IdentKind:
		if err := t.term(e); err != nil {
			return "", err
		}
		if f := t.fields[e.AsIdent()]; f.kind == kindBool {
			return "(" + f.column + " is true)", nil
		}
	case ast.SelectKind:
		if sel := e.AsSelect(); sel.IsTestOnly() {
			return t.has(e, sel)
		}
	case ast.CallKind:
		return t.call(e, e.AsCall(), depth)
	}
	return "", t.fail(e, "this is not a condition that filters know")
}

func (t *translation) term(e ast.Expr) error {
	if t.terms++; t.terms > MaxFilterTerms {
		return t.fail(e, "more than %d comparisons", MaxFilterTerms)
	}
	return nil
}

// has translates has(map.key).
func (t *translation) has(e ast.Expr, sel ast.SelectExpr) (string, error) {
	if err := t.term(e); err != nil {
		return "", err
	}
	if m, ok := t.field(sel.Operand()); ok && m.kind == kindMap {
		return "(" + m.column + " ? " + t.args.Add(sel.FieldName(), "text") + ")", nil
	}
	return "", t.fail(e, "has() takes a key of a map field")
}

func (t *translation) call(e ast.Expr, call ast.CallExpr, depth int) (string, error) {
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		word := map[string]string{operators.LogicalAnd: " and ", operators.LogicalOr: " or "}[name]
		parts := make([]string, len(call.Args()))
		for i, arg := range call.Args() {
			part, err := t.condition(arg, depth+1)
			if err != nil {
				return "", err
			}
			parts[i] = part
		}
		return "(" + strings.Join(parts, word) + ")", nil
	case operators.LogicalNot:
		inner, err := t.condition(call.Args()[0], depth+1)
		return "(not " + inner + ")", err
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if err := t.term(e); err != nil {
			return "", err
		}
		return t.compare(e, name, call.Args()[0], call.Args()[1])
	case operators.In:
		if err := t.term(e); err != nil {
			return "", err
		}
		return t.in(e, call.Args()[0], call.Args()[1])
	case "startsWith", "endsWith", "contains":
		if err := t.term(e); err != nil {
			return "", err
		}
		return t.match(e, name, call.Target(), call.Args()[0])
	default:
		return "", t.fail(e, "filters do not know %s here", name)
	}
}

var sqlOperators = map[string]string{
	operators.Equals: "=", operators.NotEquals: "<>", operators.Less: "<", operators.LessEquals: "<=",
	operators.Greater: ">", operators.GreaterEquals: ">=",
}

// mirrored holds the operator that says the same with its sides swapped.
var mirrored = map[string]string{
	operators.Equals: operators.Equals, operators.NotEquals: operators.NotEquals,
	operators.Less: operators.Greater, operators.Greater: operators.Less,
	operators.LessEquals: operators.GreaterEquals, operators.GreaterEquals: operators.LessEquals,
}

// operand is a column, or something derived from one, that stands on one side of a comparison.
type operand struct {
	field
	sql string
}

func (t *translation) field(e ast.Expr) (field, bool) {
	if e.Kind() != ast.IdentKind {
		return field{}, false
	}
	f, ok := t.fields[e.AsIdent()]
	return f, ok
}

// operand reads a field, field.lowerAscii() or map.key; ok is false for anything else.
func (t *translation) operand(e ast.Expr) (o operand, ok bool) {
	switch e.Kind() {
	case ast.IdentKind:
		f, ok := t.field(e)
		return operand{f, f.column}, ok
	case ast.SelectKind:
		sel := e.AsSelect()
		if m, ok := t.field(sel.Operand()); ok && m.kind == kindMap && !sel.IsTestOnly() {
			return t.mapValue(m, sel.FieldName()), true
		}
	case ast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case "lowerAscii":
			if f, ok := t.field(call.Target()); ok && f.kind == kindText {
				return operand{f, "lower(" + f.column + ")"}, true
			}
		case operators.Index:
			m, ok := t.field(call.Args()[0])
			key, err := t.text(call.Args()[1])
			if ok && err == nil && m.kind == kindMap {
				return t.mapValue(m, key), true
			}
		}
	}
	return operand{}, false
}

func (t *translation) mapValue(m field, key string) operand {
	return operand{field{kind: kindText, nullable: true}, "(" + m.column + "->>" + t.args.Add(key, "text") + ")"}
}

func (t *translation) compare(e ast.Expr, op string, left, right ast.Expr) (string, error) {
	l, ok := t.operand(left)
	if !ok {
		l, ok = t.operand(right)
		op, right = mirrored[op], left
	}
	if !ok {
		return "", t.fail(e, "a comparison needs a field on one side")
	}
	if isNull(right) {
		switch {
		case op == operators.Equals:
			return "(" + l.sql + " is null)", nil
		case op == operators.NotEquals:
			return "(" + l.sql + " is not null)", nil
		}
		return "", t.fail(right, "null compares only with == and !=")
	}
	if !l.sortable() {
		return "", t.fail(e, "%s knows only in", l.name)
	}
	if l.kind == kindID && op != operators.Equals && op != operators.NotEquals {
		return "", t.fail(e, "ids compare only with ==, != and in")
	}
	if r, ok := t.operand(right); ok {
		if r.kind != l.kind && !(r.number() && l.number()) {
			return "", t.fail(e, "the two fields are of different types")
		}
		return compareSQL(op, l, r.sql, r.nullable), nil
	}
	value, sqlType, err := t.constant(l.field, right)
	if err != nil {
		return "", err
	}
	return compareSQL(op, l, t.args.Add(value, sqlType), false), nil
}

// compareSQL renders a comparison that is never null: where a side has no value only <> holds.
func compareSQL(op string, l operand, right string, rightNullable bool) string {
	plain := l.sql + " " + sqlOperators[op] + " " + right
	switch {
	case !l.nullable && !rightNullable:
		return "(" + plain + ")"
	case op == operators.NotEquals:
		return "(" + l.sql + " is distinct from " + right + ")"
	case op == operators.Equals && rightNullable:
		return "(" + l.sql + " is not distinct from " + right + ")"
	case !rightNullable:
		return "(" + l.sql + " is not null and " + plain + ")"
	}
	return "(" + l.sql + " is not null and " + right + " is not null and " + plain + ")"
}

func (t *translation) in(e, element, list ast.Expr) (string, error) {
	if f, ok := t.field(list); ok {
		text, err := t.text(element)
		if err != nil || f.kind != kindList && f.kind != kindMap {
			return "", t.fail(e, "only a text is looked for in a field")
		}
		return "(" + f.column + " ? " + t.args.Add(text, "text") + ")", nil
	}
	o, ok := t.operand(element)
	if !ok || list.Kind() != ast.ListKind || !o.sortable() {
		return "", t.fail(e, "in takes a field and a list of values, or a text and a list field")
	}
	elements := list.AsList().Elements()
	if len(elements) > MaxFilterList {
		return "", t.fail(list, "more than %d values", MaxFilterList)
	}
	if len(elements) == 0 {
		return "false", nil
	}
	places := make([]string, len(elements))
	for i, x := range elements {
		value, sqlType, err := t.constant(o.field, x)
		if err != nil {
			return "", err
		}
		places[i] = t.args.Add(value, sqlType)
	}
	sql := o.sql + " in (" + strings.Join(places, ", ") + ")"
	if o.nullable {
		sql = o.sql + " is not null and " + sql
	}
	return "(" + sql + ")", nil
}

func (t *translation) match(e ast.Expr, name string, target, argument ast.Expr) (string, error) {
	o, ok := t.operand(target)
	if !ok || o.kind != kindText {
		return "", t.fail(e, "%s is asked of a text field", name)
	}
	text, err := t.text(argument)
	if err != nil {
		return "", err
	}
	var sql string
	switch place := t.args.Add(text, "text"); name {
	case "startsWith":
		sql = "starts_with(" + o.sql + ", " + place + ")"
	case "endsWith":
		sql = "right(" + o.sql + ", length(" + place + ")) = " + place
	default:
		sql = "strpos(" + o.sql + ", " + place + ") > 0"
	}
	if o.nullable {
		sql = o.sql + " is not null and " + sql
	}
	return "(" + sql + ")", nil
}

func isNull(e ast.Expr) bool {
	return e.Kind() == ast.LiteralKind && e.AsLiteral().Type() == types.NullType
}

// text reads a constant text.
func (t *translation) text(e ast.Expr) (string, error) {
	if e.Kind() == ast.LiteralKind {
		if s, ok := e.AsLiteral().Value().(string); ok && !strings.ContainsRune(s, 0) {
			return s, nil
		}
	}
	return "", t.fail(e, "a constant text without NUL is expected here")
}

// constant reads a constant that the field can be compared with.
func (t *translation) constant(f field, e ast.Expr) (value any, sqlType string, err error) {
	literal, ok := t.literal(e)
	if !ok {
		return nil, "", t.fail(e, "a constant is expected here")
	}
	switch v := literal.(type) {
	case int64, uint64, float64:
		if f.number() {
			return numberText(v), "numeric", nil
		}
	case string:
		if f.kind == kindText || f.kind == kindID || f.kind == kindDate || f.kind == kindTime {
			if value, err = f.parse(v); err != nil {
				return nil, "", t.fail(e, "%s", err)
			}
			return value, f.sqlType(), nil
		}
	case bool:
		if f.kind == kindBool {
			return v, f.sqlType(), nil
		}
	}
	return nil, "", t.fail(e, "%s cannot be compared with this", f.name)
}

// literal reads a literal, a negated number (the parser leaves none, but costs nothing) or timestamp("…"), whose text it
// returns.
func (t *translation) literal(e ast.Expr) (any, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		return literalValue(e.AsLiteral()), true
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() == "timestamp" && len(call.Args()) == 1 && call.Args()[0].Kind() == ast.LiteralKind {
			s, ok := call.Args()[0].AsLiteral().Value().(string)
			return s, ok
		}
	}
	return nil, false
}

func literalValue(v ref.Val) any {
	if t, ok := v.Value().(time.Time); ok {
		return t.UTC().Format(time.RFC3339Nano)
	}
	return v.Value()
}

// numberText renders a number of a filter exactly as far as its text had up to 15 digits.
func numberText(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}
