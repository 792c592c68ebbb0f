package importer

import (
	"fmt"
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
type language struct{ env *cel.Env }

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
				if value, ok := row[string(args[2].(types.String))].(string); ok {
					return types.String(value)
				}
				return args[3]
			}))),
		cel.Function("shift", cel.Overload("shift_string_int", []*cel.Type{text, number}, text,
			cel.BinaryBinding(func(amount, places ref.Val) ref.Val {
				d, err := domain.ParseDecimal(string(amount.(types.String)))
				if err != nil {
					return types.WrapErr(err)
				}
				return types.String(d.Shift(int32(places.(types.Int))).String())
			}))),
		cel.Function("known", cel.Overload("known_string_string", []*cel.Type{text, text}, cel.BoolType,
			cel.BinaryBinding(func(table, key ref.Val) ref.Val {
				_, ok := tables[string(table.(types.String))][string(key.(types.String))]
				return types.Bool(ok)
			}))),
	)
	return &language{env: env}, err
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
	return &language{env: env}, err
}

// program is a compiled expression.
type program struct {
	cel.Program
	expr Expr
}

// compile checks e, and that every column it takes from a row stands in header (nil: not known, no check). An absent
// expression compiles to nil.
func (l *language) compile(e Expr, header []string) (*program, error) {
	if e.Text == "" {
		return nil, nil
	}
	checked, issues := l.env.Compile(e.Text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, e.fault(first.Location.Line(), first.Location.Column(), first.Message)
	}
	if header != nil {
		if name, id := unknownColumn(checked.NativeRep(), header); name != "" {
			at := checked.NativeRep().SourceInfo().GetStartLocation(id)
			return nil, e.fault(at.Line(), at.Column(), fmt.Sprintf("the file has no column %q; it has %q", name, header))
		}
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

// unknownColumn finds the first column that the expression takes from a row and the header lacks.
func unknownColumn(tree *ast.AST, header []string) (string, int64) {
	rows := map[string]bool{nameRow: true} // the names that stand for a row: row itself, and x in rows.map(x, …)
	var name string
	var at int64
	visit := func(e ast.Expr) {
		var operand ast.Expr
		var column string
		switch e.Kind() {
		case ast.ComprehensionKind:
			c := e.AsComprehension()
			if c.IterRange().Kind() == ast.IdentKind && c.IterRange().AsIdent() == nameRows {
				rows[c.IterVar()] = true
			}
			return
		case ast.SelectKind:
			s := e.AsSelect()
			if s.IsTestOnly() {
				return
			}
			operand, column = s.Operand(), s.FieldName()
		case ast.CallKind:
			c := e.AsCall()
			if c.FunctionName() != operators.Index || c.Args()[1].Kind() != ast.LiteralKind {
				return
			}
			literal, ok := c.Args()[1].AsLiteral().(types.String)
			if !ok {
				return
			}
			operand, column = c.Args()[0], string(literal)
		default:
			return
		}
		if name == "" && operand.Kind() == ast.IdentKind && rows[operand.AsIdent()] && !slices.Contains(header, column) {
			name, at = column, e.ID()
		}
	}
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(visit))
	return name, at
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
