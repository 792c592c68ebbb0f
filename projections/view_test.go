package projections_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/view"
	"github.com/rapport-crm/rapport/readmodels"
	"github.com/rapport-crm/rapport/readmodels/party"
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
		for _, r := range readmodels.Records() {
			aggregate := r.DeclaredRecord().Aggregate
			of, _ := view.Of(aggregate)
			f := shape.Fold(of.Needs()...)
			for _, e := range w.log.events {
				if err := f.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range idsOf(w.log.events, aggregate) {
				want, _, _, err := r.Get(t.Context(), s, id)
				if aggregate == "customer" {
					want, _, err = party.Read360(t.Context(), s, id, now)
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

// idsOf returns a few of the aggregates of a kind that events are about.
func idsOf(events []domain.Recorded, aggregate string) (ids []domain.ID) {
	const few = 3
	for _, e := range events {
		if e.Stream.Aggregate == aggregate && !slices.Contains(ids, e.Stream.ID) && len(ids) < few {
			ids = append(ids, e.Stream.ID)
		}
	}
	return ids
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
