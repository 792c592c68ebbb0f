package domain

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Text is what an error says. Its words are constant, and the values that the words speak of stand beside them by name: a
// program acts on the values, another language says them in its own words, and whoever may not see a value is not shown it.
// The template "there is no customer {customerId}" has the one parameter customerId.
type Text struct {
	Message  string         `json:"message" doc:"The template with its values, in English." example:"is longer than 200 characters"`
	Template string         `json:"template,omitempty" doc:"The message with the names of its values in braces; absent when the message has none. It is the same for all values, and may be looked up for another language." example:"is longer than {limit} characters"`
	Params   map[string]any `json:"params,omitempty" doc:"The values of the template, by name."`
}

// Say makes a Text of a template and the values of its placeholders, in the order in which each name first stands there. The
// template is a constant: a value in it would reach the logs. A value that is an error with a text of its own stands there
// with the words and values of that text. Say panics when there are more or fewer values than names.
func Say(template string, values ...any) Text {
	names := placeholders(template)
	if len(names) != len(values) {
		panic(fmt.Sprintf("domain: %d values for the template %q", len(values), template))
	}
	if len(names) == 0 {
		return Text{Message: template}
	}
	t := Text{Template: template, Params: make(map[string]any, len(names))}
	for i, name := range names {
		err, ok := values[i].(error)
		if !ok {
			t.Params[name] = values[i]
			continue
		}
		inner, ok := TextOf(err)
		if !ok {
			t.Params[name] = err.Error()
			continue
		}
		inner = inner.apart(names)
		t.Template = strings.ReplaceAll(t.Template, "{"+name+"}", inner.words())
		maps.Copy(t.Params, inner.Params)
	}
	return t.rendered()
}

// TextOf returns what an error of a kind that has a text says: an InvalidError (of several faults the first) or a Rejection.
func TextOf(err error) (Text, bool) {
	var invalid *InvalidError
	var rejection *Rejection
	switch {
	case errors.As(err, &invalid) && len(invalid.Fields) > 0:
		return invalid.Fields[0].Text, true
	case errors.As(err, &rejection):
		return rejection.Text, true
	}
	return Text{}, false
}

// apart gives the placeholders that have one of the names others.
func (t Text) apart(taken []string) Text {
	if len(t.Params) == 0 {
		return t
	}
	params := make(map[string]any, len(t.Params))
	for name, v := range t.Params {
		other := name
		for slices.Contains(taken, other) {
			other = "inner_" + other
		}
		t.Template = strings.ReplaceAll(t.Template, "{"+name+"}", "{"+other+"}")
		params[other] = v
	}
	t.Params = params
	return t
}

// Mask returns the text with other values: what hide returns stands in the place of each value.
func (t Text) Mask(hide func(name string, value any) any) Text {
	if t.Template == "" {
		return t
	}
	params := make(map[string]any, len(t.Params))
	for name, v := range t.Params {
		params[name] = hide(name, v)
	}
	t.Params = params
	return t.rendered()
}

// words are what a text says without its values: what may stand in a log.
func (t Text) words() string {
	if t.Template == "" {
		return t.Message
	}
	return t.Template
}

func (t Text) rendered() Text {
	if len(t.Params) == 0 {
		t.Message, t.Template, t.Params = t.words(), "", nil
		return t
	}
	pairs := make([]string, 0, 2*len(t.Params))
	for name, v := range t.Params {
		pairs = append(pairs, "{"+name+"}", inWords(v))
	}
	t.Message = strings.NewReplacer(pairs...).Replace(t.Template)
	return t
}

// inWords writes a value as it stands in a sentence. What no terminal should be sent is escaped.
func inWords(v any) string {
	s := fmt.Sprint(v)
	if list, ok := v.([]string); ok {
		s = strings.Join(list, ", ")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		quoted := strconv.Quote(s)
		s = quoted[1 : len(quoted)-1]
	}
	return s
}

// placeholders returns the names that stand in braces, each once, in the order in which they first stand there.
func placeholders(template string) (names []string) {
	for {
		_, rest, found := strings.Cut(template, "{")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return names
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		template = after
	}
}

// Shown returns what an error says to whoever caused it: with the values that Error leaves out of errors with a text, for they
// may be personal, and what Error returns ends in logs.
func Shown(err error) string {
	shown := err.Error()
	for _, e := range withText(err) {
		shown = strings.Replace(shown, e.Error(), e.Detail(), 1)
	}
	return shown
}

// texted is an error whose text has values.
type texted interface {
	error
	Detail() string
}

// withText returns the outermost errors with a text in the tree of err.
func withText(err error) (found []texted) {
	if t, ok := err.(texted); ok {
		return []texted{t}
	}
	switch wrapped := err.(type) {
	case interface{ Unwrap() error }:
		if inner := wrapped.Unwrap(); inner != nil {
			return withText(inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapped.Unwrap() {
			found = append(found, withText(inner)...)
		}
	}
	return found
}
