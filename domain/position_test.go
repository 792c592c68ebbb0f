package domain_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
)

func TestPositionsPrintAndReadBack(t *testing.T) {
	for text, p := range map[string]domain.Position{
		"0":                   {},
		"42":                  {Commit: 42, Prepare: 42},
		"42-7":                {Commit: 42, Prepare: 7},
		"9223372036854775807": {Commit: math.MaxInt64, Prepare: math.MaxInt64},
	} {
		if got := p.String(); got != text {
			t.Errorf("%v prints as %s", p, got)
		}
		if got, err := domain.ParsePosition(text); err != nil || got != p {
			t.Errorf("%s reads as %v, %v", text, got, err)
		}
	}
	for _, s := range []string{
		"", "-", "1-", "-1", "+1", "1-+1", "1-2", "1-1-1", "x", " 1", "0x1", "1_0", "1.0", "9223372036854775808", "18446744073709551616",
	} {
		if got, err := domain.ParsePosition(s); !invalid(err) {
			t.Errorf("%q: want it invalid, got %v, %v", s, got, err)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("42")
	f.Add("42-7")
	f.Add("1-+1")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := domain.ParsePosition(s)
		if err != nil {
			if !invalid(err) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		text, _ := p.MarshalText()
		var again domain.Position
		if err := again.UnmarshalText(text); err != nil || again != p {
			t.Fatalf("%q reads as %v, which reads as %v, %v", s, p, again, err)
		}
	})
}

func TestPositionsAreOrderedByCommitThenPrepare(t *testing.T) {
	position := rapid.Custom(func(t *rapid.T) domain.Position {
		c := rapid.Uint64Range(0, 3).Draw(t, "commit")
		return domain.Position{Commit: c, Prepare: rapid.Uint64Range(0, c).Draw(t, "prepare")}
	})
	rapid.Check(t, func(t *rapid.T) {
		p, q, r := position.Draw(t, "p"), position.Draw(t, "q"), position.Draw(t, "r")
		switch {
		case p.Compare(q) != -q.Compare(p), (p.Compare(q) == 0) != (p == q), p.Before(q) != (p.Compare(q) < 0):
			t.Fatalf("%v and %v", p, q)
		case p.Before(q) && q.Before(r) && !p.Before(r):
			t.Fatalf("%v, %v and %v", p, q, r)
		case p.IsZero() != (p == domain.Position{}), q.Before(domain.Position{}):
			t.Fatalf("%v before everything", q)
		}
	})
	if (domain.Position{Commit: 9, Prepare: 7}).Order() != 7 {
		t.Error("rows are ordered by the prepare position")
	}
}
