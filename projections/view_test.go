package projections_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/view"
)

// TestViewsInMemoryAreTheAnswersOfTheDatabase assembles every record of random histories from rows in memory, and asks the
// read models for it.
func TestViewsInMemoryAreTheAnswersOfTheDatabase(t *testing.T) {
	shape, err := view.New(projections.All())
	if err != nil {
		t.Fatal(err)
	}
	now, compared := day("12-31"), 0
	for seed := range 6 {
		w := rapid.Custom(randomWorld).Example(seed)
		s := store(t, w.log.events)
		for aggregate, kind := range map[string]int{"customer": 0xc, "opportunity": 0xd, "order": 0xf, "contact": 0xb} {
			of, _ := view.Of(aggregate)
			f := shape.Fold(of.Needs()...)
			for _, e := range w.log.events {
				if err := f.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 3 {
				id := number(n, kind)
				var want any
				var err error
				switch aggregate {
				case "customer":
					want, _, err = s.Customer360(t.Context(), domain.DefaultTenant, id, now)
				case "opportunity":
					want, _, err = s.Opportunity(t.Context(), domain.DefaultTenant, id)
				case "order":
					want, _, err = s.Order(t.Context(), domain.DefaultTenant, id)
				default:
					want, _, err = s.Contact(t.Context(), domain.DefaultTenant, id)
				}
				var none *domain.NotFoundError
				if errors.As(err, &none) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(generic(t, want), generic(t, of.State(f, id, now))); diff != "" {
					t.Errorf("seed %d: %s %s (-database +memory):\n%s", seed, aggregate, id, diff)
				}
				compared++
			}
		}
	}
	if compared < 15 {
		t.Errorf("only %d records were compared", compared)
	}
}

// generic returns a value as a client sees it.
func generic(t *testing.T, v any) (out any) {
	t.Helper()
	text, err := view.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}
