package importer

import (
	"encoding"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"github.com/rapport-crm/rapport/domain"
)

// Plan is a checked mapping with its files found and its look-up tables loaded.
type Plan struct {
	source  string
	creates map[string]string // aggregate → its creating command
	keyID   KeyID
	inputs  []*inputPlan
	notRead []string // base names of the files that the mapping does not name
}

type inputPlan struct {
	path     string
	format   Format
	group    *program
	state    map[string]cellPlan
	lets     []letPlan
	reports  []reportPlan
	commands []*commandPlan
}

type cellPlan struct{ init, next *program }

type letPlan struct {
	name  string
	value *program
}

type reportPlan struct {
	when, value *program
	message     string
}

type commandPlan struct {
	spec       domain.CommandSpec
	aggregate  string
	key        *program
	target     *program
	when       *program
	once       bool
	occurredAt *program
	fields     field
	given      domain.Given // of spec
}

// field is the tree of a command's members: a leaf with an expression, an object, or a list.
type field struct {
	value   *program
	members []member
	items   []field
	list    bool
}

type member struct {
	name string
	field
}

// KeyID returns the id that a creating command with this idempotency key gives its aggregate.
type KeyID func(key, aggregate string) domain.ID

// Compile checks the mapping against the commands that exist and the headers of the files, and loads its tables. Every
// fault of the mapping is a *MappingError; nothing has been submitted when an error is returned.
func Compile(m *Mapping, files []string, definitions []domain.Definition, keyID KeyID) (*Plan, error) {
	p := &Plan{source: m.Source, creates: map[string]string{}, keyID: keyID}
	specs := map[string]domain.CommandSpec{}
	aggregates := map[string]string{}
	for _, d := range definitions {
		for _, c := range d.Commands {
			specs[c.Type()], aggregates[c.Type()] = c, d.Name
			if c.Creates {
				p.creates[d.Name] = c.Type()
			}
		}
	}
	tables := map[string]map[string]map[string]any{}
	lang, err := newLanguage(func(aggregate, key string) (string, error) {
		create, ok := p.creates[aggregate]
		if !ok {
			return "", fmt.Errorf("there is no aggregate %q", aggregate)
		}
		return string(keyID(p.key(create, key), aggregate)), nil
	}, tables)
	if err != nil {
		return nil, err
	}
	if p.notRead, err = m.sortOut(files); err != nil {
		return nil, err
	}
	lang.aggregates = slices.Sorted(maps.Keys(p.creates))
	for _, name := range slices.Sorted(maps.Keys(m.Tables)) {
		var header []string
		if tables[name], header, err = loadTable(lang, m.Tables[name], files); err != nil {
			return nil, m.placed(fmt.Errorf("table %s: %w", name, err), "tables", name, "file")
		}
		lang.tables[name] = header
	}
	for i := range m.Inputs {
		plan, err := compileInput(m, i, lang, files, specs, aggregates)
		if err != nil {
			return nil, m.placed(err, "inputs", i, "file")
		}
		p.inputs = append(p.inputs, plan)
	}
	return p, nil
}

// key is the idempotency key of a command: the same for the same source, command and key, for ever.
func (p *Plan) key(command, key string) string {
	return "import:" + p.source + ":" + command + ":" + key
}

// sortOut refuses files among which a name of the mapping could mean several, and returns those that it does not name.
func (m *Mapping) sortOut(files []string) (notRead []string, err error) {
	named, given := map[string]bool{}, map[string]string{}
	for _, t := range m.Tables {
		named[plainName(t.File)] = true
	}
	for _, in := range m.Inputs {
		named[plainName(in.File)] = true
	}
	for _, path := range files {
		name := plainName(path)
		if other, twice := given[name]; twice {
			return nil, fmt.Errorf("%s and %s have the same name for a mapping", other, path)
		}
		if given[name] = path; !named[name] {
			notRead = append(notRead, filepath.Base(path))
		}
	}
	return notRead, nil
}

// plainName is how files and mappings are compared: without folders and without ".gz".
func plainName(path string) string { return strings.TrimSuffix(filepath.Base(path), ".gz") }

// find returns the path whose base name is name, with or without ".gz".
func find(name string, files []string) (string, error) {
	for _, path := range files {
		if plainName(path) == plainName(name) {
			return path, nil
		}
	}
	return "", &MappingError{Message: fmt.Sprintf("the mapping needs the file %s, which was not given", name)}
}

// loadTable returns the rows by their keys, and the columns; nil when they are not known.
func loadTable(lang *language, t Table, files []string) (rows map[string]map[string]any, header []string, err error) {
	path, err := find(t.File, files)
	if err != nil {
		return nil, nil, err
	}
	src, err := openSource(path, t.Format)
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	key, err := lang.over(src.header, nil).compile(t.Key)
	if err != nil {
		return nil, nil, err
	}
	rows = map[string]map[string]any{}
	for {
		row, err := src.next()
		if err == io.EOF {
			return rows, src.header, nil
		}
		if err == nil {
			err = row.err
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s row %d: %w", t.File, row.number, err)
		}
		k, err := key.text(scope{nameRow: row.cells, nameNumber: row.number})
		if err != nil {
			return nil, nil, err
		}
		if len(rows) == MaxTableRows {
			return nil, nil, fmt.Errorf("%s has more than %d rows", t.File, MaxTableRows)
		}
		rows[k] = row.cells
	}
}

func compileInput(m *Mapping, index int, lang *language, files []string, specs map[string]domain.CommandSpec, aggregates map[string]string) (*inputPlan, error) {
	in := m.Inputs[index]
	path, err := find(in.File, files)
	if err != nil {
		return nil, err
	}
	src, err := openSource(path, in.Format)
	if err != nil {
		return nil, err
	}
	header := src.header
	src.Close()

	plan := &inputPlan{path: path, format: in.Format, state: map[string]cellPlan{}}
	states := slices.Sorted(maps.Keys(in.State))
	c := compiler{lang: lang.over(header, states)}
	plan.group = c.expr(in.Group)
	for _, name := range states {
		cell := in.State[name]
		plan.state[name] = cellPlan{init: c.expr(cell.Init), next: c.expr(cell.Next)}
	}
	c.lets(&in.Let, plan)
	for _, r := range in.Reports {
		plan.reports = append(plan.reports, reportPlan{when: c.condition(r.When), value: c.expr(r.Value), message: r.Message})
	}
	for i, rule := range in.Commands {
		plan.commands = append(plan.commands, c.command(rule, m.fault("", "inputs", index, "commands", i, "command"), specs, aggregates))
	}
	return plan, c.err
}

// compiler compiles the parts of one input and keeps the first error.
type compiler struct {
	lang *language
	err  error
}

func (c *compiler) expr(e Expr) *program { return c.exprAs(e, cel.DynType) }

func (c *compiler) condition(e Expr) *program { return c.exprAs(e, cel.BoolType) }

func (c *compiler) exprAs(e Expr, want *cel.Type) *program {
	if c.err != nil {
		return nil
	}
	p, err := c.lang.compileAs(e, want)
	c.err = err
	return p
}

// lets compiles named values, each of which may use those before it.
func (c *compiler) lets(n *yaml.Node, plan *inputPlan) {
	for i := 0; i+1 < len(n.Content) && c.err == nil; i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		switch name.Value {
		case nameRow, nameRows, nameNumber, nameState:
			c.fail(name.Line, name.Column, "%s has a meaning of its own", name.Value)
		}
		if !namePattern.MatchString(name.Value) {
			c.fail(name.Line, name.Column, "%q is no name: letters, digits and _", name.Value)
		}
		if slices.ContainsFunc(plan.lets, func(l letPlan) bool { return l.name == name.Value }) {
			c.fail(name.Line, name.Column, "%s is there twice", name.Value)
		}
		if value.Kind != yaml.ScalarNode || value.Value == "" {
			c.fail(value.Line, value.Column, "%s needs an expression", name.Value)
		}
		plan.lets = append(plan.lets, letPlan{name: name.Value, value: c.expr(exprOf(value))})
		if c.err == nil {
			c.lang, c.err = c.lang.with(name.Value)
		}
	}
}

func (c *compiler) fail(line, column int, format string, args ...any) {
	if c.err == nil {
		c.err = &MappingError{Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
	}
}

func (c *compiler) command(rule CommandRule, at *MappingError, specs map[string]domain.CommandSpec, aggregates map[string]string) *commandPlan {
	line, column := at.Line, at.Column
	spec, ok := specs[rule.Command]
	if !ok {
		c.fail(line, column, "there is no command %q", rule.Command)
		return nil
	}
	switch {
	case rule.Key.Text == "":
		c.fail(line, column, "%s needs a key", rule.Command)
	case spec.Creates && rule.Target.Text != "":
		c.fail(rule.Target.Line, rule.Target.Column, "%s creates: its id follows from the key, not from a target", rule.Command)
	case !spec.Creates && rule.Target.Text == "":
		c.fail(line, column, "%s needs a target", rule.Command)
	}
	fields := c.field(&rule.Fields, spec.GoType())
	if rule.Fields.Kind != yaml.MappingNode && fields.value == nil {
		c.given(line, column, fields, spec.GoType())
	}
	return &commandPlan{
		spec: spec, aggregate: aggregates[rule.Command], once: rule.Once,
		key: c.expr(rule.Key), target: c.expr(rule.Target), when: c.condition(rule.When), occurredAt: c.expr(rule.OccurredAt),
		fields: fields, given: domain.GivenOf(spec.GoType()),
	}
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	timeType        = reflect.TypeFor[time.Time]()
)

// field compiles the tree below n for a Go value of type t.
func (c *compiler) field(n *yaml.Node, t reflect.Type) field {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	leaf := t == timeType || reflect.PointerTo(t).Implements(textUnmarshaler)
	switch n.Kind {
	case yaml.ScalarNode:
		return field{value: c.expr(exprOf(n))}
	case yaml.MappingNode:
		if leaf || t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
			c.fail(n.Line, n.Column, "a single value is wanted here")
			return field{}
		}
		var f field
		for i := 0; i+1 < len(n.Content); i += 2 {
			name, child := n.Content[i], t
			if slices.ContainsFunc(f.members, func(m member) bool { return m.name == name.Value }) {
				c.fail(name.Line, name.Column, "%s is there twice", name.Value)
			}
			if t.Kind() == reflect.Map {
				child = t.Elem()
			} else if child = memberType(t, name.Value); child == nil {
				c.fail(name.Line, name.Column, "there is no member %q here; there are %s", name.Value, strings.Join(memberNames(t), ", "))
				return field{}
			}
			f.members = append(f.members, member{name.Value, c.field(n.Content[i+1], child)})
		}
		c.given(n.Line, n.Column, f, t)
		return f
	case yaml.SequenceNode:
		if t.Kind() != reflect.Slice {
			c.fail(n.Line, n.Column, "a list does not fit here")
			return field{}
		}
		f := field{list: true}
		for _, item := range n.Content {
			f.items = append(f.items, c.field(item, t.Elem()))
		}
		return f
	case 0:
		return field{} // a command without members
	}
	c.fail(n.Line, n.Column, "only values, objects and lists are understood here")
	return field{}
}

// given refuses an object without a member that must be given: left out it would pass for 0.
func (c *compiler) given(line, column int, object field, t reflect.Type) {
	for _, path := range domain.GivenOf(t) {
		if len(path) == 1 && !slices.ContainsFunc(object.members, func(m member) bool { return m.name == path[0] }) {
			c.fail(line, column, "%s is required here", path[0])
		}
	}
}

// memberType returns the type of the member of struct t with this JSON name; nil when there is none, and for
// occurredAt, which a mapping gives beside the fields.
func memberType(t reflect.Type, name string) reflect.Type {
	for _, f := range reflect.VisibleFields(t) {
		if jsonName(f) == name && name != "occurredAt" {
			return f.Type
		}
	}
	return nil
}

func memberNames(t reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		if name := jsonName(f); name != "" && name != "occurredAt" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if f.Anonymous || !f.IsExported() || name == "-" {
		return ""
	}
	return name
}

// build makes the command of a unit. An empty text and null leave a member out.
func (p *commandPlan) build(vars scope) (domain.Command, error) {
	tree, err := p.fields.build(vars)
	if err != nil {
		return nil, err
	}
	members, _ := tree.(map[string]any)
	if members == nil {
		members = map[string]any{}
	}
	if p.occurredAt != nil {
		at, err := p.occurredAt.value(vars)
		if err != nil {
			return nil, err
		}
		if at != nil && at != "" {
			members["occurredAt"] = at
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	if len(p.given) > 0 {
		var written any
		if err := json.Unmarshal(text, &written); err != nil {
			return nil, err
		}
		if faults := p.given.Missing(written, ""); len(faults) > 0 {
			return nil, &domain.InvalidError{Fields: faults}
		}
	}
	target := reflect.New(p.spec.GoType())
	if err := json.Unmarshal(text, target.Interface(), json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	return target.Elem().Interface().(domain.Command), nil
}

func (f field) build(vars scope) (any, error) {
	switch {
	case f.value != nil:
		return f.value.value(vars)
	case f.list:
		out := make([]any, 0, len(f.items))
		for _, item := range f.items {
			v, err := item.build(vars)
			if err != nil {
				return nil, err
			}
			if !absent(v) {
				out = append(out, v)
			}
		}
		return out, nil
	}
	out := map[string]any{}
	for _, m := range f.members {
		v, err := m.build(vars)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		if !absent(v) {
			out[m.name] = v
		}
	}
	return out, nil
}

// absent reports whether a value leaves its member out: null, an empty text, an object without members.
func absent(v any) bool {
	object, isObject := v.(map[string]any)
	return v == nil || v == "" || isObject && len(object) == 0
}
