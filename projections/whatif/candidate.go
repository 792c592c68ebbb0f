// Package whatif runs a projection over the whole history with other parameters than those that events pinned, in a scratch
// schema of the database, and tells what would differ. It writes no event and nothing that readers see.
package whatif

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/projection"
)

// MaxFileBytes bounds the file of a what-if.
const MaxFileBytes = 1 << 20

// FileError says where the file of a what-if is wrong. Nothing has been run when it is returned.
type FileError struct {
	Line, Column int // 1-based; 0 when the whole file is meant
	Message      string
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return "what-if: " + e.Message
	}
	return fmt.Sprintf("what-if: line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Candidate is what is changed: the parameters that a file sets.
type Candidate struct {
	entries []entry
}

// entry is one figure of a file.
type entry struct {
	parameter   projection.Parameter
	owner, name *yaml.Node
	figure      int
}

// Parse reads a file strictly: names of parameters, of owners and of figures, each once, and whole numbers within the
// parameter's bounds. What is wrong is a *FileError. An empty file changes nothing.
func Parse(r io.Reader) (*Candidate, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxFileBytes {
		return nil, &FileError{Message: fmt.Sprintf("larger than %d bytes", MaxFileBytes)}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return &Candidate{}, nil
	} else if err != nil {
		return nil, syntaxError(err)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		return nil, wrong(&second, "the file holds more than one document")
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(err)
	}
	c := &Candidate{}
	err = pairs(document.Content[0], "parameters", func(name, value *yaml.Node) error {
		list := projections.Parameters()
		i := slices.IndexFunc(list, func(p projection.Parameter) bool { return p.Name == name.Value })
		if i < 0 {
			known := make([]string, len(list))
			for j, p := range list {
				known[j] = p.Name
			}
			return wrong(name, "%q is no parameter; there are %s", name.Value, strings.Join(known, ", "))
		}
		return pairs(value, list[i].Name, func(owner, figures *yaml.Node) error {
			return pairs(figures, owner.Value, func(name, figure *yaml.Node) error {
				n, err := whole(figure, list[i])
				c.entries = append(c.entries, entry{parameter: list[i], owner: owner, name: name, figure: n})
				return err
			})
		})
	})
	return c, err
}

// pairs calls f for each member of a mapping; each may stand there once. Nothing at all is an empty mapping.
func pairs(node *yaml.Node, what string, f func(name, value *yaml.Node) error) error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return wrong(node, "%s is no mapping of names to values", what)
	}
	seen := map[string]bool{}
	for i := 0; i < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			return wrong(name, "a name is a single value")
		}
		if seen[name.Value] {
			return wrong(name, "%q stands there twice", name.Value)
		}
		seen[name.Value] = true
		if err := f(name, value); err != nil {
			return err
		}
	}
	return nil
}

func whole(node *yaml.Node, p projection.Parameter) (int, error) {
	n, err := strconv.Atoi(node.Value)
	if node.Kind != yaml.ScalarNode || node.Tag != "!!int" || err != nil || n < p.Min || n > p.Max {
		return 0, wrong(node, "is not a whole number from %d to %d", p.Min, p.Max)
	}
	return n, nil
}

func wrong(node *yaml.Node, format string, args ...any) *FileError {
	return &FileError{Line: node.Line, Column: node.Column, Message: fmt.Sprintf(format, args...)}
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

func syntaxError(err error) error {
	if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
		line, _ := strconv.Atoi(found[1]) // digits
		return &FileError{Line: line, Column: 1, Message: found[2]}
	}
	return &FileError{Message: strings.TrimPrefix(err.Error(), "yaml: ")}
}

// resolve finds what the file names in the catalogue of each parameter, and returns how events are to be read.
func (c *Candidate) resolve(catalogues map[string]*projection.Catalogue) (func(domain.Recorded) domain.Recorded, error) {
	figures := map[string]projection.Figures{}
	for _, e := range c.entries {
		catalogue := catalogues[e.parameter.Name]
		owner, err := catalogue.Owner(e.owner.Value)
		if err != nil {
			return nil, wrong(e.owner, "%v", err)
		}
		if err := catalogue.Check(owner, e.name.Value); err != nil {
			return nil, wrong(e.name, "%v", err)
		}
		of := figures[e.parameter.Name]
		if of == nil {
			of = projection.Figures{}
			figures[e.parameter.Name] = of
		}
		if _, twice := of[owner][e.name.Value]; twice {
			return nil, wrong(e.name, "%q is set under the id and under the name of %s", e.name.Value, e.owner.Value)
		}
		if of[owner] == nil {
			of[owner] = map[string]int{}
		}
		of[owner][e.name.Value] = e.figure
	}
	return func(e domain.Recorded) domain.Recorded {
		for _, p := range projections.Parameters() {
			if of := figures[p.Name]; of != nil && slices.Contains(p.Events, e.Type()) {
				e.Event = p.With(e, of)
			}
		}
		return e
	}, nil
}
