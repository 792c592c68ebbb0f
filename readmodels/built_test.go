package readmodels

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
	tries := 0
	err = s.within(t.Context(), domain.DefaultTenant, views("unbuilt"), func(q Querier) error {
		tries++
		rows, err := q.Query(t.Context(), "select n from unbuilt")
		if err != nil {
			return err
		}
		rows.Close()
		if rows.Err() != nil && tries == 1 { // the projectors make it meanwhile
			if _, err := s.pool.Exec(t.Context(), "create view rapport.unbuilt as select 1 as n"); err != nil {
				t.Error(err)
			}
		}
		return rows.Err()
	})
	if err != nil || tries != 2 {
		t.Errorf("%d tries: %v", tries, err)
	}
}

func TestQueryOfAViewThatNobodyMakesIsUnavailable(t *testing.T) {
	s, err := Open(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	err = s.within(ctx, domain.DefaultTenant, views("unbuilt"), func(q Querier) error {
		if tries++; tries == 2 {
			cancel() // the client has gone
		}
		rows, err := q.Query(t.Context(), "select n from unbuilt")
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	})
	var late *domain.UnavailableError
	if !errors.As(err, &late) || tries != 2 {
		t.Errorf("%d tries: %v", tries, err)
	}
}
