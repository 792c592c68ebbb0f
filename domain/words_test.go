package domain_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
)

type mood string

func (mood) Labels() domain.Labels {
	return domain.Labels{"calm": {En: "calm", Zh: "平静"}, "very-cross": {En: "very cross", Zh: "很生气"}}
}

type look struct {
	FullName string       `json:"fullName,omitempty" zh:"全名"`
	Size     int          `json:"size,omitempty" zh:"尺寸"`
	Price    domain.Money `json:"price,omitzero" zh:"价格"`
	Seen     time.Time    `json:"seen,omitzero" zh:"所见时间"`
	Mood     mood         `json:"mood,omitempty" zh:"心情"`
	Place    *place       `json:"place,omitempty" zh:"地点"`
	Friends  []friend     `json:"friends,omitempty" zh:"朋友"`
}

type place struct {
	City    string `json:"city"`
	Country string `json:"country,omitempty"`
}

type friend struct {
	Name string `json:"name"`
	Mood mood   `json:"mood,omitempty"`
}

// base is embedded, so that its members are those of the event.
type base struct {
	By string `json:"by"`
}

type altered struct {
	base
	Field    string          `json:"field"`
	From     look            `json:"from"`
	To       look            `json:"to"`
	Reason   string          `json:"reason,omitempty"`
	Mood     mood            `json:"mood"`
	Since    domain.Date     `json:"since,omitempty"`
	Price    *domain.Money   `json:"price,omitempty"`
	Total    domain.Amount   `json:"total"`
	Currency domain.Currency `json:"currency"`
	Parts    []string        `json:"parts"`
	First    bool            `json:"first"`
}

func (altered) EventType() string { return "thing.was_altered" }

// book compiles a template for the event altered, the same in both languages.
func book(template string) (*domain.Phrasebook, error) {
	return bookOf(domain.Words{En: template, Zh: template})
}

func bookOf(words domain.Words) (*domain.Phrasebook, error) {
	return domain.NewPhrasebook(domain.Definition{Events: []domain.EventSpec{{Example: altered{}, Words: words}}})
}

func TestWordsThatDoNotFitTheEventAreRefused(t *testing.T) {
	for template, want := range map[string]string{
		"":                             "no words in language en",
		"{nobody}":                     "has no member nobody",
		"{to.nobody}":                  "has no member nobody",
		"{by.name}":                    "has no member name",
		"{By}":                         "has no member By",
		"{}":                           "names no member",
		"{by":                          "a brace is not closed",
		"[ by {by}":                    "a bracket is not closed",
		"by {by}]":                     "']' is out of place",
		"by }":                         "'}' is out of place",
		"by | to":                      "'|' is out of place",
		"[ by [{by}]]":                 "'[' is out of place",
		"{reason}":                     "{reason} may be absent",
		"{price}":                      "{price} may be absent",
		"{to.fullName}":                "{to.fullName} may be absent",
		"{from[field]}":                "{from} may be absent",
		"[{from[field}]":               "a bracket is not closed",
		"[{from[nobody]}]":             "has no member nobody",
		"[{from[first]}]":              "names no member of the first",
		"[{by[field]}]":                "names no member of the first",
		"{first}":                      "needs words for it",
		"{first|a|b|c}":                "needs words for it",
		"{by|a}":                       "takes no words",
		"{parts|part}":                 "needs the word for one element",
		"{by currency}":                "is no amount",
		"{total by}":                   "is no currency",
		"{total price.currency}":       "is no currency that is always there",
		"{total nobody}":               "has no member nobody",
		"[{price.amount}|{to.nobody}]": "has no member nobody",
	} {
		if _, err := book(template); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", template, err, want)
		}
	}
	if _, err := bookOf(domain.Words{En: "Altered"}); err == nil || !strings.Contains(err.Error(), "no words in language zh") {
		t.Errorf("one language only: %v", err)
	}
	type plain struct {
		Name string `json:"name,omitempty"`
	}
	type untagged struct {
		altered
		Field string `json:"field"`
		To    plain  `json:"to"`
	}
	spec := domain.EventSpec{Example: untagged{}, Words: domain.Words{En: "[{to[field]}]", Zh: "[{to[field]}]"}}
	if _, err := domain.NewPhrasebook(domain.Definition{Events: []domain.EventSpec{spec}}); err == nil || !strings.Contains(err.Error(), "member name") {
		t.Errorf("a member without a Chinese name: %v", err)
	}
}

func TestWordsTellWhatTheEventHolds(t *testing.T) {
	amount := func(s string) domain.Amount { return domain.MustMoney(s, "EUR").Amount }
	long := strings.Repeat("é", domain.MaxQuote)
	change := func(field string, from, to look) altered { return altered{Field: field, From: from, To: to} }
	for _, c := range []struct {
		template string
		event    altered
		en, zh   string
	}{
		{"by {by}[, “{reason}”]", altered{base: base{By: "ann"}, Reason: "late"}, "by ann, “late”", "by ann, “late”"},
		{"by {by}[, “{reason}”].", altered{base: base{By: "ann"}}, "by ann.", "by ann."},
		{"by {by}", altered{}, "by (unknown)", "by （未知）"},
		{"[a {reason} {since}|b {since}|c]", altered{Since: "2026-01-01"}, "b 2026-01-01", "b 2026-01-01"},
		{"[a {reason}|b {since}|c]", altered{}, "c", "c"},
		{"“{by}”", altered{base: base{By: long}}, "“" + long + "”", "“" + long + "”"},
		{"“{by}”", altered{base: base{By: long + "é"}}, "“" + long[:len(long)-len("é")] + "…”", "“" + long[:len(long)-len("é")] + "…”"},
		{"{mood}: {mood} {mood}", altered{Mood: "very-cross"}, "Very cross: Very cross very cross", "很生气: 很生气 很生气"},
		{"is {mood}", altered{Mood: "of-before"}, "is of-before", "is of-before"},
		{"{by}", altered{base: base{By: "ann"}}, "ann", "ann"},
		{"at[ {price}]", altered{Price: new(domain.MustMoney("5", "EUR"))}, "at 5.00 EUR", "at 5.00 EUR"},
		{"at[ {price}]", altered{Price: new(domain.MustMoney("0", "JPY"))}, "at 0 JPY", "at 0 JPY"},
		{"at[ {price}]", altered{Price: new(domain.MustMoney("1.2345", "KWD"))}, "at 1.2345 KWD", "at 1.2345 KWD"},
		{"at[ {price}]", altered{}, "at", "at"},
		{"{total currency}, {total}", altered{Total: amount("-7.5"), Currency: "KWD"}, "-7.500 KWD, -7.5", "-7.500 KWD, -7.5"},
		{"{parts|part|parts}", altered{Parts: []string{"a"}}, "1 part", "1 part"},
		{"{parts|part|parts}, {parts}", altered{Parts: []string{"a", "b"}}, "2 parts, 2", "2 parts, 2"},
		{"[{parts} parts|whole]", altered{}, "whole", "whole"},
		{"a{first| first}{first|| other}", altered{First: true}, "a first", "a first"},
		{"a{first| first}{first|| other}", altered{}, "a other", "a other"},
		{"It: " + domain.ChangeWords.En, change("fullName", look{}, look{FullName: "Ada"}), "It: Full name is “Ada”", "It: 全名 is “Ada”"},
		{domain.ChangeWords.En, change("fullName", look{FullName: "Ada"}, look{}), "Full name is no longer known, before “Ada”", "全名 is no longer known, before “Ada”"},
		{domain.ChangeWords.Zh, change("size", look{Size: 1}, look{Size: 2}), "Size由1改为2", "尺寸由1改为2"},
		{domain.ChangeWords.Zh, change("price", look{}, look{Price: domain.MustMoney("3", "EUR")}), "Price为3.00 EUR", "价格为3.00 EUR"},
		{domain.ChangeWords.Zh, change("seen", look{}, look{Seen: time.Date(2026, 3, 2, 9, 15, 0, 0, time.UTC)}), "Seen为2026-03-02 09:15:00 UTC", "所见时间为2026-03-02 09:15:00 UTC"},
		{domain.ChangeWords.Zh, change("mood", look{Mood: "calm"}, look{Mood: "very-cross"}), "Mood由“calm”改为“very cross”", "心情由“平静”改为“很生气”"},
		{domain.ChangeWords.Zh, change("place", look{Place: &place{"Bonn", "DE"}}, look{Place: &place{City: "Ulm"}}), "Place由“Bonn, DE”改为“Ulm”", "地点由“Bonn，DE”改为“Ulm”"},
		{domain.ChangeWords.Zh, change("friends", look{}, look{Friends: []friend{{"ann", "calm"}, {"bob", ""}}}), "Friends为“ann, calm; bob”", "朋友为“ann，平静；bob”"},
		{domain.ChangeWords.Zh, change("nameOfBefore", look{}, look{Size: 1}), "nameOfBefore", "nameOfBefore"},
	} {
		b, err := book(c.template)
		if err != nil {
			t.Errorf("%q: %v", c.template, err)
			continue
		}
		for l, want := range map[domain.Language]string{"": c.en, domain.English: c.en, domain.Chinese: c.zh} {
			if got := b.Tell(domain.Reader{Language: l}, c.event); got != want {
				t.Errorf("%q in %q: got %q, want %q", c.template, l, got, want)
			}
		}
	}
}

// TestMembersAreNoMoreThanWordsName: who keeps them keeps no text that is not told, and no more of one than is told.
func TestMembersAreNoMoreThanWordsName(t *testing.T) {
	b, err := bookOf(domain.Words{En: "{field}[ is {to[field]}] by {by}, {parts}", Zh: "[{since}]{total currency}"})
	if err != nil {
		t.Fatal(err)
	}
	e := altered{
		base: base{By: "ann"}, Field: "fullName", From: look{FullName: "Ada"}, To: look{FullName: strings.Repeat("x", 1000), Size: 1},
		Reason: "secret", Currency: "EUR", Parts: []string{"secret"},
	}
	want := map[string]string{
		"by": "ann", "field": "fullName", "to.fullName": strings.Repeat("x", domain.MaxQuote-1) + "…", "parts": "1", "total": "0", "currency": "EUR",
	}
	if diff := cmp.Diff(want, b.Members(e)); diff != "" {
		t.Error(diff)
	}
}

func TestAnEventOfNoBookIsToldByItsName(t *testing.T) {
	b, err := domain.NewPhrasebook()
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Tell(domain.Reader{}, altered{}); got != "Thing was altered" || b.Members(altered{}) != nil {
		t.Errorf("got %q", got)
	}
}

// TestNoTemplateMakesAPanic: whatever is written as words, they are refused or tell any event.
func TestNoTemplateMakesAPanic(t *testing.T) {
	pieces := rapid.SampledFrom([]string{
		"{", "}", "[", "]", "|", " ", "“", "a", "by", "field", "from", "to", "parts", "first", "total", "currency", ".", "{by}", "[{to[field]}]", "{parts|a|b}",
	})
	rapid.Check(t, func(rt *rapid.T) {
		b, err := book(strings.Join(rapid.SliceOf(pieces).Draw(rt, "template"), ""))
		if err != nil {
			return
		}
		for _, l := range domain.Languages {
			b.Tell(domain.Reader{Language: l}, altered{Field: "size", To: look{Size: 1}})
			b.Say(domain.Reader{Language: l}, altered{}.EventType(), nil)
		}
	})
}

func TestCurrenciesHaveTheirDecimals(t *testing.T) {
	for currency, want := range map[domain.Currency]int32{"EUR": 2, "USD": 2, "CNY": 2, "JPY": 0, "KRW": 0, "KWD": 3, "CLF": 4, "XXX": 0} {
		if got := currency.Decimals(); got != want {
			t.Errorf("%s has %d decimals, not %d", currency, got, want)
		}
	}
}
