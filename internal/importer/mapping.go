package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Mapping is a mapping file as written; Compile turns it into a Plan.
type Mapping struct {
	Source string           `yaml:"source"` // names the origin; part of every command id
	Doc    string           `yaml:"doc"`
	Tables map[string]Table `yaml:"tables"` // look-up tables, loaded whole before the first row
	Inputs []Input          `yaml:"inputs"` // read one after the other, each to its end

	root yaml.Node // the file as it stands, for the places of faults
}

// Table is a file that expressions look rows up in: tables.<name>[key].
type Table struct {
	File   string `yaml:"file"`
	Format Format `yaml:",inline"`
	Key    Expr   `yaml:"key"`
}

// Format says how the bytes of a file become rows. The zero value is comma-separated UTF-8 with a header row.
type Format struct {
	Type      string `yaml:"format"`    // "csv" (default) or "jsonl"
	Delimiter string `yaml:"delimiter"` // one character; default ","
	Quote     string `yaml:"quote"`     // one character, or "none"; default `"`
	Encoding  string `yaml:"encoding"`  // an IANA name; default "utf-8"
}

// Input is one pass over one of the files.
type Input struct {
	File     string          `yaml:"file"` // base name of the file, with or without ".gz"
	Format   Format          `yaml:",inline"`
	Group    Expr            `yaml:"group"`    // rows with the same value form one unit (at most MaxOpenGroups other groups may begin between them); absent: each row is one
	State    map[string]Cell `yaml:"state"`    // values carried from row to row
	Let      yaml.Node       `yaml:"let"`      // named values, evaluated in order before the commands
	Reports  []Report        `yaml:"report"`   // oddities to count and name, without rejecting anything
	Commands []CommandRule   `yaml:"commands"` // submitted in order for each unit
}

// Cell is a value carried from row to row: state.<name> is what the previous row left.
type Cell struct {
	Init Expr `yaml:"init"`
	Next Expr `yaml:"next"`
}

// Report counts the units for which When is true, by the text of Value.
type Report struct {
	When    Expr   `yaml:"when"`
	Value   Expr   `yaml:"value"`
	Message string `yaml:"message"`
}

// CommandRule says which command a unit stands for.
type CommandRule struct {
	Command    string    `yaml:"command"`    // "opportunity.open"
	Key        Expr      `yaml:"key"`        // unique per command type within the source
	Target     Expr      `yaml:"target"`     // the aggregate's id; only for commands that do not create
	When       Expr      `yaml:"when"`       // absent: always
	Once       bool      `yaml:"once"`       // only the first unit with this key counts; later ones are passed over
	OccurredAt Expr      `yaml:"occurredAt"` // absent or null: the time of the import
	Fields     yaml.Node `yaml:"fields"`     // the command's members: a tree whose leaves are expressions
}

// Expr is a CEL expression and the place where it stands. The zero value is no expression.
type Expr struct {
	Text         string
	Line, Column int
}

// UnmarshalYAML takes any scalar as the text of an expression, so that 5, true and row.name need no quotes.
func (e *Expr) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return &MappingError{Line: n.Line, Column: n.Column, Message: "an expression is a single value"}
	}
	*e = exprOf(n)
	return nil
}

func exprOf(n *yaml.Node) Expr {
	e := Expr{Text: n.Value, Line: n.Line, Column: n.Column}
	switch {
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		e.Column++
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		e.Line, e.Column = n.Line+1, 1
	}
	return e
}

// MappingError says where a mapping is wrong. Nothing has been read or submitted when it is returned.
type MappingError struct {
	Line, Column int // 1-based; 0 when the whole file is meant
	Message      string
}

func (e *MappingError) Error() string {
	if e.Line == 0 {
		return "mapping: " + e.Message
	}
	return fmt.Sprintf("mapping: line %d, column %d: %s", e.Line, e.Column, e.Message)
}

var (
	sourcePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	namePattern   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	yamlLine      = regexp.MustCompile(`line (\d+): (.*)`)
	yamlField     = regexp.MustCompile(`^field (\S+) (.*) in type \S+$`)
)

// ParseMapping reads a mapping file strictly: an unknown member is a *MappingError.
func ParseMapping(r io.Reader) (*Mapping, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxMappingBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxMappingBytes {
		return nil, &MappingError{Message: fmt.Sprintf("larger than %d bytes", MaxMappingBytes)}
	}
	var m Mapping
	if err := yaml.Unmarshal(text, &m.root); err != nil {
		return nil, m.yamlError(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&m); err != nil {
		return nil, m.yamlError(err)
	}
	if dec.Decode(new(yaml.Node)) != io.EOF {
		return nil, &MappingError{Message: "the file holds more than one document"}
	}
	return &m, m.check()
}

// check finds what is missing or wrong whatever the files and the commands are.
func (m *Mapping) check() error {
	if !sourcePattern.MatchString(m.Source) {
		return m.fault(fmt.Sprintf("source %q is not 1 to 64 of a-z, 0-9 and -", m.Source), "source")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Tables)) {
		t := m.Tables[name]
		if t.File == "" || t.Key.Text == "" {
			return m.fault("a table needs a file and a key", "tables", name)
		}
		if member, message := t.Format.fault(); message != "" {
			return m.fault(message, "tables", name, member)
		}
	}
	if len(m.Inputs) == 0 {
		return m.fault("there are no inputs", "inputs")
	}
	for i, in := range m.Inputs {
		if in.File == "" || len(in.Commands) == 0 {
			return m.fault(fmt.Sprintf("input %d needs a file and at least one command", i+1), "inputs", i)
		}
		if member, message := in.Format.fault(); message != "" {
			return m.fault(message, "inputs", i, member)
		}
		for _, name := range slices.Sorted(maps.Keys(in.State)) {
			if cell := in.State[name]; cell.Init.Text == "" || cell.Next.Text == "" {
				return m.fault("a state needs init and next", "inputs", i, "state", name)
			}
		}
		for j, r := range in.Reports {
			if r.Message == "" {
				return m.fault("a report needs a message", "inputs", i, "report", j)
			}
		}
		if in.Let.Kind != 0 && in.Let.Kind != yaml.MappingNode {
			return m.fault("let is names with their expressions", "inputs", i, "let")
		}
	}
	return nil
}

// fault is a MappingError at the node that the path of names and indexes leads to, or at the last node there is on it.
func (m *Mapping) fault(message string, path ...any) *MappingError {
	at := &m.root
	if at.Kind == yaml.DocumentNode {
		at = at.Content[0]
	}
	for _, part := range path {
		next := child(at, part)
		if next == nil {
			break
		}
		at = next
	}
	return &MappingError{Line: at.Line, Column: at.Column, Message: message}
}

// placed gives a MappingError without a place the one of a path.
func (m *Mapping) placed(err error, path ...any) error {
	var mapping *MappingError
	if !errors.As(err, &mapping) || mapping.Line > 0 {
		return err
	}
	return m.fault(mapping.Message, path...)
}

func child(n *yaml.Node, part any) *yaml.Node {
	switch part := part.(type) {
	case int:
		if n.Kind == yaml.SequenceNode && part < len(n.Content) {
			return n.Content[part]
		}
	case string:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == part {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

// yamlError turns the decoder's error, which knows a line at most, into a MappingError with its place.
func (m *Mapping) yamlError(err error) error {
	var mapping *MappingError
	if errors.As(err, &mapping) {
		return mapping
	}
	found := yamlLine.FindStringSubmatch(err.Error())
	if found == nil {
		return &MappingError{Message: err.Error()}
	}
	out := &MappingError{Column: 1, Message: found[2]}
	out.Line, _ = strconv.Atoi(found[1])
	name := ""
	if field := yamlField.FindStringSubmatch(found[2]); field != nil {
		name, out.Message = field[1], fmt.Sprintf("field %s %s", field[1], field[2])
	}
	if column := columnOf(&m.root, out.Line, name); column > 0 {
		out.Column = column
	}
	return out
}

// columnOf returns where on a line a value stands, or where the first of any begins when the name is empty; 0 when none does.
func columnOf(n *yaml.Node, line int, name string) int {
	if n.Line == line && n.Kind != yaml.DocumentNode && (name == "" || n.Kind == yaml.ScalarNode && n.Value == name) {
		return n.Column
	}
	for _, c := range n.Content {
		if column := columnOf(c, line, name); column > 0 {
			return column
		}
	}
	return 0
}
