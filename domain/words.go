package domain

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// Language is a language in which events are told, an ISO 639-1 code. The zero value means English.
type Language string

// The languages in which every event is told.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// Languages lists them all, the default first.
var Languages = []Language{English, Chinese}

// Words is one text in every language. The words of an event are a template over the event's own members:
//
//	{kind}               a member by its JSON name; {to.name} is a member of a member
//	{total currency}     the amount of one member in the currency of another
//	{lines|line|lines}   how many elements a list has, with the word for one element and the word for several; {lines} is
//	                     the bare number
//	{primary|yes|no}     words for a yes-or-no member; the second ones may be left out
//	{from[field]}        the member of from that the member field names, texts in quotation marks; {field} is then the name
//	                     of that member in words
//	[, owner {owner}]    a clause, which is left out when a member in it is empty
//	[a {x} {y}|b {x}|c]  alternatives: the first of them in which no member is empty
//
// A member that JSON may leave out stands within brackets only. Brackets do not nest, and texts of a template hold none of
// the characters of the notation. For example, "Tagged “{tag}”[ by {by}]" says "Tagged “vip”" of an event without by.
type Words struct{ En, Zh string }

// In returns the text in a language.
func (w Words) In(l Language) string {
	if l == Chinese {
		return w.Zh
	}
	return w.En
}

// Labels are the words for each value of an enumeration.
type Labels map[string]Words

// Labelled is implemented by the type of an enumeration. The method is called on the zero value and describes all values.
type Labelled interface{ Labels() Labels }

// ChangeWords tells of an event that names one changed member in field, and holds it in from and to.
var ChangeWords = Words{
	En: "{field}[ changed from {from[field]} to {to[field]}| is {to[field]}| is no longer known, before {from[field]}]",
	Zh: "{field}[由{from[field]}改为{to[field]}|为{to[field]}|不再已知，原为{from[field]}]",
}

// zhTag is the struct tag that names a field in Chinese; English names follow from the JSON name.
const zhTag = "zh"

// phrase is the compiled words of one event type.
type phrase struct {
	templates map[Language][]clause
	members   []member // that the templates name, each once
}

// clause is one of several texts: the first in which no member is empty. Outside brackets there is one only.
type clause struct {
	bracketed    bool
	alternatives [][]part
}

// part is a text, or a member when path is set.
type part struct {
	text string
	member
	currency string   // path of the currency of an amount; empty when the member has none
	forms    []string // words of a number of elements or of a yes-or-no member
}

// member is a place in an event.
type member struct {
	path     string       // JSON names with points between them; of {from[field]}, the part before the bracket
	index    string       // JSON name of the member that names the member meant; empty for a place that is always the same
	typ      reflect.Type // of the value, pointers followed; of {from[field]}, of the struct that holds it
	place    []int        // of the value in the event's struct, for fieldAt
	optional bool         // JSON leaves it out when it is zero
	names    reflect.Type // of a member that stands as an index: the struct whose members it names
}

// counted reports whether the words tell of a list how many elements it has.
func (m member) counted() bool { return m.typ.Kind() == reflect.Slice }

// compile parses the words of an event in every language and checks them against the event's struct.
func compile(spec EventSpec) (*phrase, error) {
	p := &phrase{templates: map[Language][]clause{}}
	var faults []error
	for _, l := range Languages {
		template := spec.Words.In(l)
		if template == "" {
			faults = append(faults, fmt.Errorf("%s: no words in language %s", spec.Type(), l))
			continue
		}
		clauses, err := parse(template)
		if err == nil {
			err = p.resolve(clauses, reflect.TypeOf(spec.Example))
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: words in language %s: %w", spec.Type(), l, err))
		}
		p.templates[l] = clauses
	}
	return p, errors.Join(faults...)
}

// parse reads a template.
func parse(template string) ([]clause, error) {
	clauses := []clause{{alternatives: [][]part{nil}}}
	add := func(p part) {
		c := &clauses[len(clauses)-1]
		last := len(c.alternatives) - 1
		c.alternatives[last] = append(c.alternatives[last], p)
	}
	for rest, bracketed := template, false; ; {
		at := strings.IndexAny(rest, "{}[]|")
		if at < 0 {
			add(part{text: rest})
			if bracketed {
				return nil, errors.New("a bracket is not closed")
			}
			return clauses, nil
		}
		if at > 0 {
			add(part{text: rest[:at]})
		}
		mark := rest[at]
		rest = rest[at+1:]
		switch {
		case mark == '{':
			inner, after, closed := strings.Cut(rest, "}")
			if !closed {
				return nil, errors.New("a brace is not closed")
			}
			p, err := parseMember(inner)
			if err != nil {
				return nil, err
			}
			add(p)
			rest = after
		case mark == '[' && !bracketed:
			bracketed = true
			clauses = append(clauses, clause{bracketed: true, alternatives: [][]part{nil}})
		case mark == ']' && bracketed:
			bracketed = false
			clauses = append(clauses, clause{alternatives: [][]part{nil}})
		case mark == '|' && bracketed:
			c := &clauses[len(clauses)-1]
			c.alternatives = append(c.alternatives, nil)
		default:
			return nil, fmt.Errorf("%q is out of place before %q", mark, rest)
		}
	}
}

// parseMember reads what stands in braces.
func parseMember(inner string) (part, error) {
	words := strings.Split(inner, "|")
	var p part
	p.forms = words[1:]
	p.path, p.currency, _ = strings.Cut(words[0], " ")
	if before, index, indexed := strings.Cut(p.path, "["); indexed {
		p.path, p.index = before, strings.TrimSuffix(index, "]")
		if p.index == index || p.index == "" {
			return p, fmt.Errorf("{%s}: a bracket is not closed", inner)
		}
	}
	if p.path == "" || strings.ContainsAny(p.path+p.currency+p.index, "{[] ") {
		return p, fmt.Errorf("{%s} names no member", inner)
	}
	return p, nil
}

// resolve finds every member of the clauses in the event's struct, and notes them.
func (p *phrase) resolve(clauses []clause, event reflect.Type) error {
	var faults []error
	indexed := map[string]reflect.Type{} // paths of members that name others, with the struct in which
	for _, c := range clauses {
		for _, alternative := range c.alternatives {
			for i := range alternative {
				at := &alternative[i]
				if at.path == "" {
					continue
				}
				if err := p.resolvePart(at, event, c.bracketed); err != nil {
					faults = append(faults, err)
				} else if at.index != "" {
					indexed[at.index] = at.typ
				}
			}
		}
	}
	for _, c := range clauses {
		for _, alternative := range c.alternatives {
			for i := range alternative {
				alternative[i].names = indexed[alternative[i].path]
			}
		}
	}
	return errors.Join(faults...)
}

func (p *phrase) resolvePart(at *part, event reflect.Type, bracketed bool) error {
	found, err := find(event, at.path)
	if err != nil {
		return err
	}
	at.typ, at.place, at.optional = found.typ, found.place, found.optional
	switch {
	case (at.optional || at.index != "") && !bracketed:
		return fmt.Errorf("{%s} may be absent and stands outside brackets", at.path)
	case at.typ.Kind() == reflect.Bool && (len(at.forms) == 0 || len(at.forms) > 2):
		return fmt.Errorf("{%s} is true or false and needs words for it", at.path)
	case at.counted() && len(at.forms) != 0 && len(at.forms) != 2:
		return fmt.Errorf("{%s} needs the word for one element and the word for several", at.path)
	case len(at.forms) > 0 && at.typ.Kind() != reflect.Bool && !at.counted():
		return fmt.Errorf("{%s} is neither a list nor true or false: it takes no words", at.path)
	case at.currency != "" && at.typ != reflect.TypeFor[Amount]():
		return fmt.Errorf("{%s} is no amount: it takes no currency", at.path)
	}
	p.note(at.member)
	if at.currency != "" {
		currency, err := find(event, at.currency)
		if err == nil && (currency.typ != reflect.TypeFor[Currency]() || currency.optional && !bracketed) {
			err = fmt.Errorf("{%s} is no currency that is always there", at.currency)
		}
		if err != nil {
			return err
		}
		p.note(currency)
	}
	if at.index == "" {
		return nil
	}
	index, err := find(event, at.index)
	if err == nil && (index.typ.Kind() != reflect.String || at.typ.Kind() != reflect.Struct) {
		err = fmt.Errorf("{%s[%s]}: the second names no member of the first", at.path, at.index)
	}
	if err != nil {
		return err
	}
	p.note(index)
	for _, name := range fieldsOf(at.typ).names {
		if nameIn(Chinese, at.typ, name) == "" {
			return fmt.Errorf("{%s[%s]}: member %s of %s has no tag %s", at.path, at.index, name, at.typ, zhTag)
		}
	}
	return nil
}

// note adds a member to those that the words name.
func (p *phrase) note(m member) {
	for _, known := range p.members {
		if known.path == m.path && known.index == m.index {
			return
		}
	}
	p.members = append(p.members, m)
}

// find follows a path of JSON names from an event's struct.
func find(t reflect.Type, path string) (member, error) {
	m := member{path: path, typ: t}
	for name := range strings.SplitSeq(path, ".") {
		if m.typ.Kind() != reflect.Struct || fieldsOf(m.typ).index[name] == nil {
			return m, fmt.Errorf("{%s}: %s has no member %s", path, m.typ, name)
		}
		index := fieldsOf(m.typ).index[name]
		f := m.typ.FieldByIndex(index)
		m.place = append(m.place, index...)
		m.optional = m.optional || mayBeAbsent(f)
		m.typ = f.Type
		if m.typ.Kind() == reflect.Pointer {
			m.typ = m.typ.Elem()
		}
	}
	return m, nil
}

// mayBeAbsent reports whether JSON leaves the field out when it is zero.
func mayBeAbsent(f reflect.StructField) bool {
	return strings.Contains(f.Tag.Get("json"), ",omit") || f.Type.Kind() == reflect.Pointer
}

// nameIn returns the name of a struct's member in words: "legal name" for legalName.
func nameIn(l Language, t reflect.Type, name string) string {
	if l == Chinese {
		return t.FieldByIndex(fieldsOf(t).index[name]).Tag.Get(zhTag)
	}
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
