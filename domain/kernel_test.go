package domain_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

func TestExpectationsNeverMeanAnyRevision(t *testing.T) {
	var zero domain.Expected
	if _, ok := zero.Revision(); ok || zero != domain.NoStream || zero.String() != "no stream" {
		t.Errorf("the zero value is %s", zero)
	}
	for _, r := range []uint64{0, 1, 41} {
		e := domain.AtRevision(r)
		if got, ok := e.Revision(); !ok || got != r || e.String() != fmt.Sprint("revision ", r) {
			t.Errorf("at revision %d: %s", r, e)
		}
	}
}

type rename struct {
	domain.When
	Name string
}

func (rename) CommandType() string { return "thing.change_full_name" }

func TestCommandsNameTheirRouteAndTheirTime(t *testing.T) {
	spec := domain.CommandSpec{Example: rename{}}
	if spec.Type() != "thing.change_full_name" || spec.Verb() != "change-full-name" || spec.GoType().Name() != "rename" {
		t.Errorf("%s, %s, %s", spec.Type(), spec.Verb(), spec.GoType())
	}
	at := time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)
	if got := (rename{When: domain.When{OccurredAt: at}}).Occurred(); !got.Equal(at) {
		t.Errorf("got %s", got)
	}
}

type named struct{ Name string }

func (named) EventType() string { return "thing.named" }

func TestDefinitionsFoldsAndUpcasts(t *testing.T) {
	a := domain.Aggregate[string]{
		Name: "thing", Plural: "things", Doc: "A thing.",
		Decider: domain.Decider[string]{Evolve: func(s string, e domain.Event) string { return s + e.(named).Name }},
		Events: []domain.EventSpec{{Example: named{}, Schema: 2, Upcasts: []domain.Upcaster{
			domain.Upcast(1, func(old string) named { return named{Name: old} }),
		}}},
	}
	def := a.Definition()
	if def.Name != "thing" || def.Plural != "things" || def.Doc != "A thing." || len(def.Events) != 1 {
		t.Errorf("got %v", def)
	}
	if got := a.Decider.Fold(named{"a"}, named{"b"}); got != "ab" {
		t.Errorf("got %s", got)
	}
	spec := def.Events[0]
	old := spec.Upcasts[0].New().(*string)
	*old = "x"
	if got := spec.Upcasts[0].Upcast(old); got != any(named{"x"}) || spec.Version() != 2 || spec.Type() != "thing.named" {
		t.Errorf("got %v of schema %d", got, spec.Version())
	}
	if (domain.EventSpec{Example: named{}}).Version() != 1 {
		t.Error("schemas begin at 1")
	}
	if r := (domain.Recorded{Event: named{}}); r.Type() != "thing.named" {
		t.Errorf("got %s", r.Type())
	}
}

func TestErrorsAreFoundByKindThroughWrapping(t *testing.T) {
	cause := errors.New("connection refused")
	for _, err := range []error{
		domain.Invalid("/name", "is missing"),
		domain.Reject("closed", "it is closed").At("/name"),
		&domain.NotFoundError{Kind: "customer", ID: someID},
		&domain.ConflictError{Actual: domain.AtRevision(3)},
		&domain.DuplicateError{Key: "email", Existing: someID},
		&domain.IdempotencyError{CommandID: someID},
		&domain.UnavailableError{What: "event log", Err: cause},
		&domain.UnavailableError{What: "event log"},
	} {
		if err.Error() == "" || !errors.Is(fmt.Errorf("submit: %w", err), err) {
			t.Errorf("%T is not found again", err)
		}
	}
	if err := error(&domain.UnavailableError{What: "event log", Err: cause}); !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if got := domain.Invalid("", "is {what}", "wrong").Error(); got != "is {what}" {
		t.Errorf("got %q", got)
	}
	if got := domain.Reject("closed", "it is {what}", "closed").At("/name"); got.Pointer != "/name" || got.Error() != "closed: it is {what}" || got.Detail() != "closed: it is closed" {
		t.Errorf("got %v", got)
	}
}

func TestEmailAddressesAreBare(t *testing.T) {
	for s, ok := range map[string]bool{
		"a@b.example": true, "a.b+c@d.example": true, "": false, "a": false, "a@": false, "@b": false, "A <a@b.example>": false,
		"a@b.example, c@d.example": false, "a b@c.example": false, " a@b.example": false, "a@b.example\n": false,
	} {
		if domain.IsEmail(s) != ok {
			t.Errorf("%q: want %t", s, ok)
		}
	}
}

func TestE164Numbers(t *testing.T) {
	for s, ok := range map[string]bool{
		"+4930123456": true, "+12345": true, "+123456789012345": true, "": false, "4930123456": false, "+0301234": false,
		"+1234567890123456": false, "+49 30 123": false, "+49": false, "+4930123456\n": false,
	} {
		if domain.IsE164(s) != ok {
			t.Errorf("%q: want %t", s, ok)
		}
	}
}

func FuzzIsEmail(f *testing.F) {
	f.Add("a@b.example")
	f.Add(`"a b"@c`)
	f.Fuzz(func(t *testing.T, s string) { domain.IsEmail(s) })
}
