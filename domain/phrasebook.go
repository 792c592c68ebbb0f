package domain

import (
	"encoding"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxQuote is how many characters of a text the words of an event repeat.
const MaxQuote = 120

// Reader is for whom events are told.
type Reader struct {
	Language Language // the zero value means English
}

// Phrasebook tells events in words, from the templates of their declarations. Nothing that tells events needs to know their
// aggregates: the phrasebook holds them all. It is safe for concurrent use.
type Phrasebook struct {
	phrases map[string]*phrase // by event type
}

// NewPhrasebook compiles the words of every event of some aggregates. It returns an error that lists every event whose words
// are missing in a language, do not parse, or name what the event does not have.
func NewPhrasebook(definitions ...Definition) (*Phrasebook, error) {
	b := &Phrasebook{phrases: map[string]*phrase{}}
	var faults []error
	for _, d := range definitions {
		for _, spec := range d.Events {
			p, err := compile(spec)
			faults = append(faults, err)
			b.phrases[spec.Type()] = p
		}
	}
	return b, errors.Join(faults...)
}

// Members returns what the words of an event name, by path: {"to.name": "Acme"}. Values are texts as JSON has them; of a list
// stands its length; what is empty is left out. A text is cut to what words repeat of it, so that whoever keeps members to
// tell the event later keeps no more of a text than is told. It is nil for an event that the book does not know.
func (b *Phrasebook) Members(e Event) map[string]string {
	p := b.phrases[e.EventType()]
	if p == nil {
		return nil
	}
	members := make(map[string]string, len(p.members))
	event := reflect.ValueOf(e)
	for _, m := range p.members {
		v, path, ok := m.of(event)
		switch {
		case !ok:
		case m.counted():
			if n := v.Len(); n > 0 {
				members[path] = strconv.Itoa(n)
			}
		default:
			flatten(members, path, v)
		}
	}
	return members
}

// of returns the value of the member in an event, and its path; false for one that JSON leaves out.
func (m member) of(event reflect.Value) (v reflect.Value, path string, ok bool) {
	if v, ok = fieldAt(event, m.place); !ok || m.optional && v.IsZero() || m.index == "" {
		return v, m.path, ok && !(m.optional && v.IsZero())
	}
	index, err := find(event.Type(), m.index)
	if err != nil {
		return v, m.path, false
	}
	name := event.FieldByIndex(index.place).String()
	indexed, err := find(m.typ, name)
	if err != nil {
		return v, m.path, false // a name of before, which nothing has any more
	}
	v, ok = fieldAt(v, indexed.place)
	return v, m.path + "." + name, ok && !(indexed.optional && v.IsZero())
}

// Tell says an event in words.
func (b *Phrasebook) Tell(r Reader, e Event) string { return b.Say(r, e.EventType(), b.Members(e)) }

// Say tells an event in words from what Members gave for it, which may have been stored since. An event that the book does
// not know is told by its name alone: "customer.registered" becomes "Customer registered".
func (b *Phrasebook) Say(r Reader, eventType string, members map[string]string) string {
	p := b.phrases[eventType]
	if p == nil {
		return capital(strings.NewReplacer(".", " ", "_", " ").Replace(eventType))
	}
	if r.Language == "" {
		r.Language = English
	}
	t := telling{language: r.Language, members: members}
	for _, c := range p.templates[r.Language] {
		for _, alternative := range c.alternatives {
			if t.tell(alternative, c.bracketed) {
				break
			}
		}
	}
	return t.said
}

// telling is an event on its way into words.
type telling struct {
	language Language
	members  map[string]string
	said     string
}

// unknown stands for a member that should be there and is not.
var unknown = Words{En: "(unknown)", Zh: "（未知）"}

// tell adds the parts to what is said. When a member is empty, it adds nothing and returns false if that is allowed, and
// says that the member is unknown otherwise.
func (t *telling) tell(parts []part, droppable bool) bool {
	before := t.said
	for _, p := range parts {
		text := p.text
		if p.path != "" {
			text = t.member(p)
		}
		if text == "" && p.path != "" && p.typ.Kind() != reflect.Bool {
			if droppable {
				t.said = before
				return false
			}
			text = unknown.In(t.language)
		}
		t.said += text
	}
	return true
}

// member renders a member for the place that words have reached; "" for an empty one.
func (t *telling) member(p part) string {
	switch {
	case p.index != "":
		return t.indexed(p)
	case p.names != nil:
		if name := t.members[p.path]; fieldsOf(p.names).index[name] != nil {
			return t.begin(nameIn(t.language, p.names, name))
		}
	case p.currency != "":
		return money(t.members[p.path], t.members[p.currency])
	case p.typ.Kind() == reflect.Bool:
		switch {
		case t.members[p.path] != "":
			return p.forms[0]
		case len(p.forms) > 1:
			return p.forms[1]
		}
		return ""
	case p.counted():
		return counted(t.members[p.path], p.forms)
	case isLabelled(p.typ):
		return t.begin(t.value(p.path, p.typ))
	}
	return t.value(p.path, p.typ)
}

// begin gives words of ours a capital where a sentence begins. Values, such as names of users, stay as they are.
func (t *telling) begin(words string) string {
	if t.said == "" || strings.HasSuffix(t.said, ": ") {
		return capital(words)
	}
	return words
}

// indexed renders the member that another one names, texts in quotation marks.
func (t *telling) indexed(p part) string {
	m, err := find(p.typ, t.members[p.index])
	if err != nil {
		return ""
	}
	text := t.value(p.path+"."+m.path, m.typ)
	switch {
	case text == "":
		return ""
	case m.typ.Kind() == reflect.Int || m.typ == reflect.TypeFor[Money]() || m.typ == reflect.TypeFor[time.Time]():
		return text
	}
	return "“" + text + "”"
}

// value renders what stands at a path; of structs and lists everything in them.
func (t *telling) value(path string, typ reflect.Type) string {
	text := t.members[path]
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case isLabelled(typ):
		if label := reflect.Zero(typ).Interface().(Labelled).Labels()[text].In(t.language); label != "" {
			return label
		}
	case typ == reflect.TypeFor[Money]():
		return money(t.members[path+".amount"], t.members[path+".currency"])
	case typ == reflect.TypeFor[time.Time]():
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			return at.UTC().Format("2006-01-02 15:04:05 UTC")
		}
	case typ.Kind() == reflect.Struct && !writesText(typ):
		var values []string
		for _, name := range fieldsOf(typ).names {
			if text := t.value(path+"."+name, typ.FieldByIndex(fieldsOf(typ).index[name]).Type); text != "" {
				values = append(values, text)
			}
		}
		return strings.Join(values, comma.In(t.language))
	case typ.Kind() == reflect.Slice:
		var values []string
		for i := 0; ; i++ {
			text := t.value(path+"."+strconv.Itoa(i), typ.Elem())
			if text == "" {
				return strings.Join(values, semicolon.In(t.language))
			}
			values = append(values, text)
		}
	}
	return text
}

var (
	comma     = Words{En: ", ", Zh: "，"}
	semicolon = Words{En: "; ", Zh: "；"}
)

func isLabelled(t reflect.Type) bool { return t.Implements(reflect.TypeFor[Labelled]()) }

func writesText(t reflect.Type) bool { return t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) }

// counted renders a number of elements with the word for it.
func counted(n string, forms []string) string {
	switch {
	case n == "" || len(forms) == 0:
		return n
	case n == "1":
		return n + " " + forms[0]
	}
	return n + " " + forms[1]
}

// money renders an amount with at least the decimals of its currency: 5.00 EUR, 5 JPY, 1.2345 EUR.
func money(amount, currency string) string {
	d, err := ParseDecimal(amount)
	if err != nil {
		return ""
	}
	return d.StringFixed(max(Currency(currency).Decimals(), -d.Exponent())) + " " + currency
}

// fieldAt follows a place in a struct through pointers; false when one of them is nil.
func fieldAt(v reflect.Value, place []int) (reflect.Value, bool) {
	for _, i := range place {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	if v.Kind() == reflect.Pointer {
		return v.Elem(), !v.IsNil()
	}
	return v, true
}

// flatten writes a value into members, by path: each member of a struct and each element of a list on its own.
func flatten(members map[string]string, path string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		if v.Len() > 0 {
			members[path] = cut(v.String())
		}
	case reflect.Bool:
		if v.Bool() {
			members[path] = "true"
		}
	case reflect.Int:
		members[path] = strconv.FormatInt(v.Int(), 10)
	case reflect.Slice:
		for i := range v.Len() {
			flatten(members, path+"."+strconv.Itoa(i), v.Index(i))
		}
	case reflect.Struct:
		if text, ok := v.Interface().(encoding.TextMarshaler); ok { // an amount, a time
			if b, err := text.MarshalText(); err == nil {
				members[path] = string(b)
			}
			return
		}
		all := fieldsOf(v.Type())
		for _, name := range all.names {
			index := all.index[name]
			if value := v.FieldByIndex(index); !value.IsZero() || !mayBeAbsent(v.Type().FieldByIndex(index)) {
				flatten(members, path+"."+name, value)
			}
		}
	}
}

// cut shortens a text to MaxQuote characters.
func cut(s string) string {
	if utf8.RuneCountInString(s) > MaxQuote {
		return string([]rune(s)[:MaxQuote-1]) + "…"
	}
	return s
}

// capital makes the first letter a capital one.
func capital(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}
