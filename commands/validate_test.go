package commands_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// form is a command with one field of every kind; its aggregate accepts whatever passes validation.
type (
	form struct {
		domain.When
		Name     string            `json:"name" minLength:"2" maxLength:"5"`
		Colour   string            `json:"colour,omitempty" enum:"red,blue"`
		Slug     string            `json:"slug,omitempty" pattern:"^[a-z]+$"`
		Mail     string            `json:"mail,omitempty" format:"email"`
		Site     string            `json:"site,omitempty" format:"uri"`
		Nick     *string           `json:"nick,omitempty" minLength:"1"`
		Memo     *string           `json:"memo,omitempty" enum:"a,b"`
		Count    int               `json:"count" minimum:"1" maximum:"9"`
		Ratio    float64           `json:"ratio,omitempty" exclusiveMinimum:"0" exclusiveMaximum:"1"`
		Friend   domain.ID         `json:"friend,omitempty"`
		Day      domain.Date       `json:"day,omitempty"`
		Price    domain.Money      `json:"price,omitzero"`
		Weight   domain.Amount     `json:"weight" minimum:"0"`
		Tags     []string          `json:"tags,omitempty" minItems:"2" maxItems:"3" maxLength:"4"`
		Free     []string          `json:"free,omitempty"`
		Labels   map[string]string `json:"labels,omitempty"`
		Parts    []part            `json:"parts,omitempty"`
		At       time.Time         `json:"at,omitzero"`
		Inner    part              `json:"in/ner" required:"false"`
		Demanded string            `json:"demanded,omitempty" required:"true"`
		Fact     func()            `json:"-"`
	}
	part    struct{ ID string }
	printed struct{}
)

func (form) CommandType() string  { return "form.print" }
func (printed) EventType() string { return "form.printed" }

var forms = domain.Aggregate[bool]{
	Name: "form",
	Decider: domain.Decider[bool]{
		Decide: func(bool, domain.Command, domain.Facts) ([]domain.Event, error) {
			return []domain.Event{printed{}}, nil
		},
		Evolve: func(bool, domain.Event) bool { return true },
	},
	Events:   []domain.EventSpec{{Example: printed{}}},
	Commands: []domain.CommandSpec{{Example: form{}, Creates: true}},
	Exists:   func(b bool) bool { return b },
}

func validate(t testing.TB, f form) []domain.FieldError {
	t.Helper()
	w := newWorld()
	b := w.bus()
	b.Register([]domain.Definition{forms.Definition()})
	_, err := b.Submit(t.Context(), request("k", "", f))
	var invalid *domain.InvalidError
	if err != nil && !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	if err == nil {
		return nil
	}
	if n := len(w.store.of("form")); n != 0 {
		t.Errorf("%d events of an invalid command", n)
	}
	return invalid.Fields
}

func goodForm() form {
	return form{Name: "Ann", Count: 3, Weight: domain.MustMoney("0", "EUR").Amount, Demanded: "x"}
}

func TestCommandsAreValidatedByTheirTags(t *testing.T) {
	if faults := validate(t, goodForm()); faults != nil {
		t.Fatalf("a good form: %v", faults)
	}
	full := goodForm()
	full.OccurredAt, full.At = noon.Add(23*time.Hour), noon.AddDate(50, 0, 0)
	full.Colour, full.Slug, full.Mail, full.Site, full.Ratio = "red", "abc", "a@b.example", "https://b.example", 0.5
	full.Nick, full.Memo = new("n"), new("")
	full.Friend, full.Day, full.Price = "0197a3f0-5c1e-7d3a-9b7e-2f6a1c4d8e90", "2024-02-29", domain.MustMoney("-1.5", "EUR")
	full.Tags, full.Labels, full.Parts = []string{"a", "ümlö"}, map[string]string{"k": "v"}, []part{{ID: "line\n\ttab\r"}}
	if faults := validate(t, full); faults != nil {
		t.Fatalf("a full form: %v", faults)
	}

	for pointer, spoil := range map[string]func(*form){
		"/name":            func(f *form) { f.Name = "A" },
		"/name ":           func(f *form) { f.Name = "" },
		"/name  ":          func(f *form) { f.Name = "Anneli" },
		"/name   ":         func(f *form) { f.Name = "a\x00b" },
		"/name    ":        func(f *form) { f.Name = "a\xff" },
		"/name     ":       func(f *form) { f.Name = "a\x1b" },
		"/name      ":      func(f *form) { f.Name = " \t " },
		"/demanded":        func(f *form) { f.Demanded = "" },
		"/demanded ":       func(f *form) { f.Demanded = strings.Repeat("x", commands.MaxTextLength+1) },
		"/colour":          func(f *form) { f.Colour = "green" },
		"/slug":            func(f *form) { f.Slug = "A1" },
		"/mail":            func(f *form) { f.Mail = "nobody" },
		"/site":            func(f *form) { f.Site = "//x" },
		"/nick":            func(f *form) { f.Nick = new("") },
		"/nick ":           func(f *form) { f.Nick = new(" ") },
		"/memo":            func(f *form) { f.Memo = new("c") },
		"/count":           func(f *form) { f.Count = 0 },
		"/count ":          func(f *form) { f.Count = 10 },
		"/ratio":           func(f *form) { f.Ratio = 1 },
		"/ratio ":          func(f *form) { f.Ratio = math.NaN() },
		"/friend":          func(f *form) { f.Friend = "bob" },
		"/friend ":         func(f *form) { f.Friend = "0197A3F0-5c1e-7d3a-9b7e-2f6a1c4d8e90" },
		"/day":             func(f *form) { f.Day = "2023-02-29" },
		"/day ":            func(f *form) { f.Day = "1799-12-31" },
		"/price/currency":  func(f *form) { f.Price = domain.Money{Amount: domain.NewAmount(decimal.New(1, 0)), Currency: "EUX"} },
		"/price/currency ": func(f *form) { f.Price = domain.Money{Amount: domain.NewAmount(decimal.New(1, 0))} },
		"/price/amount": func(f *form) {
			f.Price = domain.Money{Amount: domain.NewAmount(decimal.New(1, 1_000_000)), Currency: "EUR"}
		},
		"/price/amount ":  func(f *form) { f.Price = domain.Money{Amount: domain.NewAmount(decimal.New(1, -7)), Currency: "EUR"} },
		"/price/amount  ": func(f *form) { f.Price = domain.Money{Currency: "EUR"} },
		"/weight":         func(f *form) { f.Weight = domain.NewAmount(decimal.New(-1, 0)) },
		"/weight ":        func(f *form) { f.Weight = domain.Amount{} },
		"/tags":           func(f *form) { f.Tags = []string{"a"} },
		"/tags ":          func(f *form) { f.Tags = []string{"a", "b", "c", "d"} },
		"/tags/1":         func(f *form) { f.Tags = []string{"a", "bbbbb"} },
		"/free":           func(f *form) { f.Free = make([]string, commands.MaxItems+1) },
		"/labels/a~1b":    func(f *form) { f.Labels = map[string]string{"a/b": "\x00"} },
		"/parts/1/ID":     func(f *form) { f.Parts = []part{{"x"}, {""}} },
		"/in~1ner/ID":     func(f *form) { f.Inner = part{ID: "\x07"} },
		"/at":             func(f *form) { f.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"/occurredAt":     func(f *form) { f.OccurredAt = noon.Add(25 * time.Hour) },
		"/occurredAt ":    func(f *form) { f.OccurredAt = time.Date(1899, 12, 31, 0, 0, 0, 0, time.UTC) },
	} {
		f := goodForm()
		spoil(&f)
		faults := validate(t, f)
		if len(faults) != 1 || faults[0].Pointer != strings.TrimSpace(pointer) || faults[0].Message == "" {
			t.Errorf("%s: %v", pointer, faults)
		}
	}
}

func TestAllFaultsAreReportedAtOnce(t *testing.T) {
	faults := validate(t, form{Colour: "green", Tags: []string{"bbbbb", "ok", "\x00"}})
	var got []string
	for _, f := range faults {
		got = append(got, f.Pointer)
	}
	want := []string{"/name", "/colour", "/count", "/weight", "/tags/0", "/tags/2", "/demanded"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFaultyDeclarationsAreRefused(t *testing.T) {
	for name, agg := range map[string]domain.Aggregate[bool]{
		"unknown format": {Name: "a", Commands: []domain.CommandSpec{{Example: badFormat{}}}},
		"odd type":       {Name: "a", Commands: []domain.CommandSpec{{Example: badType{}}}},
		"event twice":    {Name: "a", Events: []domain.EventSpec{{Example: printed{}}, {Example: printed{}}}},
		"aggregate":      {Name: "member"},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			newWorld().bus().Register([]domain.Definition{agg.Definition()})
		}()
	}
}

type badFormat struct {
	domain.When
	X string `json:"x" format:"horoscope"`
}

type badType struct {
	domain.When
	X chan int `json:"x"`
}

func (badFormat) CommandType() string { return "a.x" }
func (badType) CommandType() string   { return "a.x" }
