package domain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
)

func TestTextKeepsItsValuesBeside(t *testing.T) {
	_, tooLong := domain.ParseDecimal("12345678901234567890")
	for _, c := range []struct {
		got  domain.Text
		want domain.Text
	}{
		{domain.Say("is blank"), domain.Text{Message: "is blank"}},
		{domain.Say("is none of {allowed}", []string{"a", "b"}),
			domain.Text{Message: "is none of a, b", Template: "is none of {allowed}", Params: map[string]any{"allowed": []string{"a", "b"}}}},
		{domain.Say("{a} or {b}, rather {a}", 1, "x{a}"),
			domain.Text{Message: "1 or x{a}, rather 1", Template: "{a} or {b}, rather {a}", Params: map[string]any{"a": 1, "b": "x{a}"}}},
		{domain.Say("named {name}", "a\x1b[2Jb"),
			domain.Text{Message: `named a\x1b[2Jb`, Template: "named {name}", Params: map[string]any{"name": "a\x1b[2Jb"}}},
		{domain.Say("of {kind}: {reason}", "sale", errors.New("why")),
			domain.Text{Message: "of sale: why", Template: "of {kind}: {reason}", Params: map[string]any{"kind": "sale", "reason": "why"}}},
		{domain.Say("of {value}: {reason}", "sale", tooLong), domain.Text{
			Message:  `of sale: "12345678901234567890" has more than 18 digits before or 6 after the point`,
			Template: `of {value}: "{inner_value}" has more than {integerDigits} digits before or {fractionDigits} after the point`,
			Params:   map[string]any{"value": "sale", "inner_value": "12345678901234567890", "integerDigits": 18, "fractionDigits": 6}}},
		{domain.Say("the total: {reason}", domain.Invalid("", "is blank")), domain.Text{Message: "the total: is blank"}},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s", diff)
		}
	}
	for _, wrong := range []func(){
		func() { domain.Say("no {name}") }, func() { domain.Say("none", 1) }, func() { domain.Say("{a} {b}", 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a template without its values was taken")
				}
			}()
			wrong()
		}()
	}
}

// What Error returns ends in logs, of whatever was wrapped around it.
func TestErrorsLeaveTheirValuesOut(t *testing.T) {
	const secret = "ada@example.com"
	for _, err := range []error{
		domain.Invalid("/email", "{email} is taken", secret),
		&domain.InvalidError{Fields: []domain.FieldError{domain.Fault("/a", "is blank"), domain.Fault("/b", "not {b}", secret)}},
		domain.Reject("taken", "{email} is taken", secret),
		domain.Invalid("", "the second: {reason}", domain.Reject("taken", "{email} is taken", secret)),
	} {
		wrapped := fmt.Errorf("write: %w", errors.Join(errors.New("other"), fmt.Errorf("row 3: %w", err)))
		if strings.Contains(wrapped.Error(), secret) || strings.Contains(fmt.Sprintf("%v %s %q", err, err, err), secret) {
			t.Errorf("%v names the value", wrapped)
		}
		if shown := domain.Shown(wrapped); !strings.Contains(shown, secret) || !strings.HasPrefix(shown, "write: other\nrow 3: ") {
			t.Errorf("shown: %s", shown)
		}
	}
}

func TestMaskedTextsNameNoValue(t *testing.T) {
	text := domain.Say("{email} belongs to {id}", "ada@example.com", "7").Mask(func(name string, value any) any {
		if name == "email" {
			return "***"
		}
		return value
	})
	if text.Message != "*** belongs to 7" || text.Params["email"] != "***" || text.Params["id"] != "7" {
		t.Errorf("%+v", text)
	}
}
