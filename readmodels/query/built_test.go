package query

import (
	"context"
	"errors"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/pgtest"
)

func TestQueryWaitsForItsView(t *testing.T) {
	s, err := Open(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s = s.For(domain.Caller{Tenant: domain.DefaultTenant})
	tries := 0
	var found []number
	var read Reading
	Queue(&read, &found, "select n from unbuilt where n = $1", 1)
	err = s.Within(t.Context(), Views("unbuilt"), func(q Querier) error {
		tries++
		_, failure := s.Send(t.Context(), q, &read)
		if tries == 1 { // the projectors make it meanwhile
			if _, err := s.pool.Exec(t.Context(), "create view rapport.unbuilt as select 1 as n"); err != nil {
				t.Error(err)
			}
		}
		return failure
	})
	if err != nil || tries != 2 || len(found) != 1 {
		t.Errorf("%d tries, found %v: %v", tries, found, err)
	}
}

type number struct {
	N any `db:"n"`
}

func TestQueryGoesOnWithAViewOfOtherTypes(t *testing.T) {
	s, err := Open(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s = s.For(domain.Caller{Tenant: domain.DefaultTenant})
	for _, view := range []string{"select 1 as n", "select 'one' as n"} {
		if _, err := s.pool.Exec(t.Context(), "drop view if exists rapport.built; create view rapport.built as "+view); err != nil {
			t.Fatal(err)
		}
		var found []number
		var read Reading
		Queue(&read, &found, "select n from built where $1", true)
		if _, err := s.Read(t.Context(), Views("built"), &read); err != nil || len(found) != 1 {
			t.Errorf("%s: %v, %v", view, found, err)
		}
	}
}

func TestQueryOfAViewThatNobodyMakesIsUnavailable(t *testing.T) {
	s, err := Open(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s = s.For(domain.Caller{Tenant: domain.DefaultTenant})
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	err = s.Within(ctx, Views("unbuilt"), func(q Querier) error {
		if tries++; tries == 2 {
			cancel() // the client has gone
		}
		return readUnbuilt(t.Context(), q)
	})
	var late *domain.UnavailableError
	if !errors.As(err, &late) || tries != 2 {
		t.Errorf("%d tries: %v", tries, err)
	}
}

func readUnbuilt(ctx context.Context, q Querier) error {
	rows, err := q.Query(ctx, "select n from unbuilt")
	if err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}
