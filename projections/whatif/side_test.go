package whatif

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/projections/projection"
)

type counted struct{ Bad bool }

func (counted) EventType() string { return "thing.counted" }

type key struct {
	Tenant domain.Tenant `db:"tenant"`
	ID     domain.ID     `db:"id"`
}

type row struct {
	Tenant domain.Tenant `db:"tenant,key"`
	ID     domain.ID     `db:"id,key"`
	Count  int64         `db:"count"`
}

// TestAStreamIsLeftOutFromWhatCannotBeDigested folds streams of which one has an event on which the projection fails: as in
// the live read models, its row stays as it was before, and the others go on.
func TestAStreamIsLeftOutFromWhatCannotBeDigested(t *testing.T) {
	counts := projection.Fold[key, row]{
		Name: "count", Version: 1, Doc: "Events of each thing.", Events: []string{"thing."},
		Keys: func(e domain.Recorded) []key { return []key{{e.Tenant, e.Stream.ID}} },
		Evolve: func(r row, _ key, e domain.Recorded) row {
			if e.Event.(counted).Bad {
				panic("cannot be")
			}
			r.Count++
			return r
		},
	}
	compiled, err := counts.Compile()
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	side, err := s.side(t.Context(), compiled, "as_is", func(e domain.Recorded) domain.Recorded { return e })
	if err != nil {
		t.Fatal(err)
	}
	var events []domain.Recorded
	for n := range 12 {
		stream := domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: "thing", ID: domain.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", n%3))}
		events = append(events, domain.Recorded{
			Stream: stream, Revision: uint64(n / 3), Metadata: domain.Metadata{Tenant: stream.Tenant}, Event: counted{Bad: n == 7}, // the third of thing 1
		})
	}
	for batch := range slices.Chunk(events, 10) {
		if err := side.apply(t.Context(), s.conn, batch); err != nil {
			t.Fatal(err)
		}
	}
	var got []int64
	rows, err := s.conn.Query(t.Context(), "select count from "+side.table.Qualified()+" order by id")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if want := []int64{4, 2, 4}; !slices.Equal(got, want) || len(side.parked) != 1 {
		t.Errorf("counts %v with %d streams left out, want %v", got, len(side.parked), want)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
