package query

import (
	"context"
	"errors"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/pgtest"
)

// past answers for no moment: that it is asked is what counts.
type past struct{ asked []domain.Tenant }

func (p *past) Within(_ context.Context, tenant domain.Tenant, _ AsOf, _ Reach, _ func(Querier) error) error {
	p.asked = append(p.asked, tenant)
	return nil
}

// Only a store that is bound to a caller, or made for loops, answers; and a store of loops is neither of the past nor left to a caller.
func TestWhoMayQuery(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ann := domain.Caller{Tenant: "main"}
	then := &past{}
	for name, tc := range map[string]struct {
		store *Store
		want  error
	}{
		"nobody":                      {s, errNobody},
		"a caller":                    {s.For(ann), nil},
		"a caller of no tenant":       {s.For(domain.Caller{}), errNobody},
		"a loop":                      {s.ForLoops(), nil},
		"a loop, from a caller":       {s.For(ann).ForLoops(), nil},
		"a caller, from a loop":       {s.ForLoops().For(ann), nil},
		"nobody, from a loop":         {s.ForLoops().For(domain.Caller{}), errNobody},
		"a caller as of the past":     {s.For(ann).AsOf(AsOf{}, then), nil},
		"nobody as of the past":       {s.AsOf(AsOf{}, then), errNobody},
		"a loop as of the past":       {s.ForLoops().AsOf(AsOf{}, then), errNobody},
		"the past, from a loop":       {s.AsOf(AsOf{}, then).ForLoops(), errNobody},
		"a caller that was not bound": {s.ForLoops().For(domain.Caller{Actor: domain.Actor{ID: "ann"}}), errNobody},
	} {
		if err := tc.store.Within(t.Context(), Views(), func(Querier) error { return nil }); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if len(then.asked) != 1 || then.asked[0] != ann.Tenant {
		t.Errorf("the past was asked for %v", then.asked)
	}
	if got := s.For(ann).ForLoops().Caller(); got != (domain.Caller{}) {
		t.Errorf("a loop's caller is %v", got)
	}
}
