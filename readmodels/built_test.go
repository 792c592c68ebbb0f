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
		failure := readUnbuilt(t.Context(), q)
		if tries == 1 { // the projectors make it meanwhile
			if _, err := s.pool.Exec(t.Context(), "create view rapport.unbuilt as select 1 as n"); err != nil {
				t.Error(err)
			}
		}
		return failure
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
