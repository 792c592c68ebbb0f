package catalogue

import (
	"encoding/json"
	"fmt"
	"slices"
)

// node is the part of a JSON Schema that decides whether old events still fit and readers still understand.
type node struct {
	Type                 string           `json:"type"`
	Format               string           `json:"format"`
	Pattern              string           `json:"pattern"`
	Enum                 []string         `json:"enum"`
	Properties           map[string]*node `json:"properties"`
	Required             []string         `json:"required"`
	Items                *node            `json:"items"`
	AdditionalProperties json.RawMessage  `json:"additionalProperties"` // true, or the schema of a map's values
	Personal             bool             `json:"x-personal"`
}

// incompatible lists how the schema now breaks with the released one; nothing when all that happened is that optional
// fields or allowed values came in.
func incompatible(released, now []byte) ([]string, error) {
	var before, after node
	if err := json.Unmarshal(released, &before); err != nil {
		return nil, fmt.Errorf("released schema: %w", err)
	}
	if err := json.Unmarshal(now, &after); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return compare("", &before, &after), nil
}

func compare(path string, before, after *node) (broken []string) {
	say := func(format string, args ...any) {
		at := path
		if at == "" {
			at = "/"
		}
		broken = append(broken, at+": "+fmt.Sprintf(format, args...))
	}
	if before.Type != after.Type || before.Format != after.Format || before.Pattern != after.Pattern {
		say("was %s, is %s", before.kind(), after.kind())
		return broken
	}
	if before.Personal && !after.Personal {
		say("was personal")
	}
	if len(after.Enum) > 0 {
		if len(before.Enum) == 0 {
			say("any value was allowed, now only %v", after.Enum)
		}
		for _, v := range before.Enum {
			if !slices.Contains(after.Enum, v) {
				say("value %q was allowed", v)
			}
		}
	}
	for _, name := range sortedKeys(before.Properties) {
		now, kept := after.Properties[name]
		if !kept {
			say("field %s was removed", name)
			continue
		}
		was, is := slices.Contains(before.Required, name), slices.Contains(after.Required, name)
		switch {
		case is && !was:
			say("field %s was optional, is required", name)
		case was && !is:
			say("field %s was always there, is optional", name)
		}
		broken = append(broken, compare(path+"/"+name, before.Properties[name], now)...)
	}
	for _, name := range after.Required {
		if before.Properties[name] == nil {
			say("field %s is new and required", name)
		}
	}
	if before.Items != nil && after.Items != nil {
		broken = append(broken, compare(path+"/*", before.Items, after.Items)...)
	}
	if b, a := before.values(), after.values(); b != nil && a != nil {
		broken = append(broken, compare(path+"/*", b, a)...)
	}
	return broken
}

func (n *node) kind() string {
	kind := n.Type
	for _, more := range []string{n.Format, n.Pattern} {
		if more != "" {
			kind += " " + more
		}
	}
	return kind
}

// values returns the schema of a map's values, nil when n is no map.
func (n *node) values() *node {
	var v node
	if len(n.AdditionalProperties) == 0 || n.AdditionalProperties[0] != '{' || json.Unmarshal(n.AdditionalProperties, &v) != nil {
		return nil
	}
	return &v
}
