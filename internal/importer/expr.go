package importer

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"

	"github.com/rapport-crm/rapport/domain"
)

// The names that expressions may use, besides those of `let`.
const (
	nameRow    = "row"    // the row; of a group, its first
	nameRows   = "rows"   // all rows of the group
	nameNumber = "number" // the number of the row in its file, from 1
	nameState  = "state"  // what earlier rows left
)

// language compiles expressions. Functions beyond CEL's own and its string and list extensions:
//
//	id(aggregate, key)                the id of the aggregate that the creating command with this key makes
//	time(text, layout, zone)          a time in Go's layout notation, in an IANA zone
//	date(year, month, day)            midnight UTC
//	lookup(table, key, column, else)  a cell of a look-up table
//	shift(number, places)             the decimal number with its point moved to the right, exactly
//	known(table, key)                 whether the table has the key
type language struct {
	env        *cel.Env
	header     []string            // columns of a row; nil: not known
	state      []string            // members of state
	tables     map[string][]string // columns of the look-up tables
	aggregates []string
}

func newLanguage(id func(aggregate, key string) (string, error), tables map[string]map[string]map[string]any) (*language, error) {
	text, number := cel.StringType, cel.IntType
	env, err := cel.NewEnv(
		ext.Strings(), ext.Lists(), ext.Math(),
		cel.Variable(nameRow, cel.MapType(text, cel.DynType)),
		cel.Variable(nameRows, cel.ListType(cel.MapType(text, cel.DynType))),
		cel.Variable(nameState, cel.MapType(text, cel.DynType)),
		cel.Variable(nameNumber, number),
		cel.Function("id", cel.Overload("id_string_string", []*cel.Type{text, text}, text,
			cel.BinaryBinding(func(aggregate, key ref.Val) ref.Val {
				made, err := id(string(aggregate.(types.String)), string(key.(types.String)))
				if err != nil {
					return types.WrapErr(err)
				}
				return types.String(made)
			}))),
		cel.Function("time", cel.Overload("time_string_string_string", []*cel.Type{text, text, text}, cel.TimestampType,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val {
				return parseTime(string(args[0].(types.String)), string(args[1].(types.String)), string(args[2].(types.String)))
			}))),
		cel.Function("date", cel.Overload("date_int_int_int", []*cel.Type{number, number, number}, cel.TimestampType,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val {
				y, m, d := int(args[0].(types.Int)), int(args[1].(types.Int)), int(args[2].(types.Int))
				t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
				if t.Year() != y || int(t.Month()) != m || t.Day() != d {
					return types.NewErr("%04d-%02d-%02d is not a day of the calendar", y, m, d)
				}
				return types.Timestamp{Time: t}
			}))),
		cel.Function("lookup", cel.Overload("lookup_string_string_string_string", []*cel.Type{text, text, text, text}, text,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val {
				row := tables[string(args[0].(types.String))][string(args[1].(types.String))]
				if value := row[string(args[2].(types.String))]; value != nil {
					return types.String(fmt.Sprint(value))
				}
				return args[3]
			}))),
		cel.Function("shift", cel.Overload("shift_string_int", []*cel.Type{text, number}, text,
			cel.BinaryBinding(func(amount, places ref.Val) ref.Val {
				d, err := domain.ParseDecimal(string(amount.(types.String)))
				if err != nil {
					return types.WrapErr(err)
				}
				if n := places.(types.Int); n < -maxShift || n > maxShift {
					return types.NewErr("a decimal number is not shifted by %d places, but by %d at most", n, maxShift)
				}
				return types.String(d.Shift(int32(places.(types.Int))).String())
			}))),
		cel.Function("known", cel.Overload("known_string_string", []*cel.Type{text, text}, cel.BoolType,
			cel.BinaryBinding(func(table, key ref.Val) ref.Val {
				_, ok := tables[string(table.(types.String))][string(key.(types.String))]
				return types.Bool(ok)
			}))),
	)
	return &language{env: env, tables: map[string][]string{}}, err
}

func parseTime(text, layout, zone string) ref.Val {
	location, err := time.LoadLocation(zone)
	if err != nil {
		return types.WrapErr(err)
	}
	t, err := time.ParseInLocation(layout, text, location)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Timestamp{Time: t.UTC()}
}

// with returns the language with one more name of any type.
func (l *language) with(name string) (*language, error) {
	env, err := l.env.Extend(cel.Variable(name, cel.DynType))
	extended := *l
	extended.env = env
	return &extended, err
}

// over returns the language for rows with these columns and members of state.
func (l *language) over(header, state []string) *language {
	of := *l
	of.header, of.state = header, state
	return &of
}

// program is a compiled expression.
type program struct {
	cel.Program
	expr Expr
}

// compile checks e, and that the columns, tables, aggregates and members of state that it names exist. An absent
// expression compiles to nil.
func (l *language) compile(e Expr) (*program, error) {
	return l.compileAs(e, cel.DynType)
}

// compileAs requires of an expression whose type is known before the first row that it is this one.
func (l *language) compileAs(e Expr, want *cel.Type) (*program, error) {
	if e.Text == "" {
		return nil, nil
	}
	checked, issues := l.env.Compile(e.Text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, e.fault(first.Location.Line(), first.Location.Column(), first.Message)
	}
	if message, id := l.unknownName(checked.NativeRep()); message != "" {
		at := checked.NativeRep().SourceInfo().GetStartLocation(id)
		return nil, e.fault(at.Line(), at.Column(), message)
	}
	if got := checked.OutputType(); !want.IsExactType(cel.DynType) && !got.IsExactType(cel.DynType) && !got.IsExactType(want) {
		return nil, e.fault(1, 0, fmt.Sprintf("a %s is wanted here, and this gives a %s", want, got))
	}
	made, err := l.env.Program(checked)
	if err != nil {
		return nil, e.fault(1, 0, err.Error())
	}
	return &program{Program: made, expr: e}, nil
}

// fault places an error of the expression, at its own line (from 1) and column (from 0), in the mapping file.
func (e Expr) fault(line, column int, message string) *MappingError {
	if line <= 1 {
		return &MappingError{Line: e.Line, Column: e.Column + column, Message: message}
	}
	return &MappingError{Line: e.Line + line - 1, Column: column + 1, Message: message}
}

// unknownName finds the first column, table, aggregate or member of state that the expression names and that is not there.
func (l *language) unknownName(tree *ast.AST) (message string, at int64) {
	rows := map[string]bool{nameRow: true} // the names that stand for a row: row itself, and x in rows.map(x, …)
	missing := func(e ast.Expr, what, name string, have []string) {
		if message == "" && !slices.Contains(have, name) {
			message, at = fmt.Sprintf("%s %q; it has %q", what, name, have), e.ID()
		}
	}
	member := func(e, operand ast.Expr, name string) {
		if operand.Kind() != ast.IdentKind {
			return
		}
		if rows[operand.AsIdent()] && l.header != nil {
			missing(e, "the file has no column", name, l.header)
		} else if operand.AsIdent() == nameState {
			missing(e, "the state has no member", name, l.state)
		}
	}
	visit := func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			c := e.AsComprehension()
			if c.IterRange().Kind() == ast.IdentKind && c.IterRange().AsIdent() == nameRows {
				rows[c.IterVar()] = true
			}
		case ast.SelectKind:
			if s := e.AsSelect(); !s.IsTestOnly() {
				member(e, s.Operand(), s.FieldName())
			}
		case ast.CallKind:
			args := e.AsCall().Args()
			switch e.AsCall().FunctionName() {
			case operators.Index:
				if name, ok := literal(args[1]); ok {
					member(e, args[0], name)
				}
			case "id":
				if name, ok := literal(args[0]); ok {
					missing(args[0], "the program has no aggregate", name, l.aggregates)
				}
			case "known", "lookup":
				table, ok := literal(args[0])
				if !ok {
					return
				}
				missing(args[0], "the mapping has no table", table, slices.Sorted(maps.Keys(l.tables)))
				if len(args) < 3 || l.tables[table] == nil {
					return
				}
				if name, ok := literal(args[2]); ok {
					missing(args[2], "the table has no column", name, l.tables[table])
				}
			}
		}
	}
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(visit))
	return message, at
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}

// scope is what one unit's expressions see.
type scope map[string]any

// value evaluates p to plain Go values: string, bool, int64, uint64, float64, time.Time, []any, map[string]any or nil.
func (p *program) value(vars scope) (any, error) {
	out, _, err := p.Eval(map[string]any(vars))
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", p.expr.Line, err)
	}
	return plain(out), nil
}

// text evaluates p and renders the result as text.
func (p *program) text(vars scope) (string, error) {
	v, err := p.value(vars)
	if err != nil || v == nil {
		return "", err
	}
	return fmt.Sprint(v), nil
}

// truth evaluates p to a boolean; an absent expression is true.
func (p *program) truth(vars scope) (bool, error) {
	if p == nil {
		return true, nil
	}
	v, err := p.value(vars)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("line %d: the condition gives %T, not a truth value", p.expr.Line, v)
	}
	return b, nil
}

func plain(v ref.Val) any {
	switch v := v.(type) {
	case types.Null:
		return nil
	case types.Timestamp:
		return v.Time
	case traits.Lister:
		out := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			out = append(out, plain(it.Next()))
		}
		return out
	case traits.Mapper:
		out := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			out[fmt.Sprint(key.Value())] = plain(v.Get(key))
		}
		return out
	}
	return v.Value()
}
