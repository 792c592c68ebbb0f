package query

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

type visited struct {
	Tenant    domain.Tenant  `db:"tenant,key" json:"-"`
	ID        domain.ID      `db:"id,key" json:"id"`
	Visit     int64          `db:"visit,key" json:"visit"`
	Owner     string         `db:"owner" json:"owner"`
	Amount    *domain.Amount `db:"amount" json:"amount"`
	EnteredAt time.Time      `db:"entered_at" json:"enteredAt"`
	Text      string         `db:"text" json:"text" sort:"-"`
}

func TestSortsAppendTheKeyAndRefuseWhatIsNoField(t *testing.T) {
	row, err := (&Resource[visited]{}).row()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := row.order("-amount,owner")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := orderBy(keys), "amount desc nulls last, owner, id, visit"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, sort := range []string{"nothing", "amount,amount", "-", ",", "amount;", "a,b,c,d,e,f", "tenant", "-text"} {
		_, err := row.order(sort)
		var invalid *domain.InvalidError
		if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != "sort" {
			t.Errorf("%q: %v", sort, err)
		}
	}
}

// A resource offers the orders that its indexes serve: without the key that every order ends with, and none of an index that
// leaves rows out.
func TestOfferedSortsAreThoseOfTheIndexes(t *testing.T) {
	r := &Resource[visited]{Indexes: []Index{
		{Name: "entered", Columns: "tenant, entered_at desc, id desc, visit desc"},
		{Name: "owner", Columns: "tenant, owner, amount"},
		{Name: "one", Columns: "tenant, id, visit"},
		{Name: "some", Columns: "tenant, amount", Where: "owner <> ''"},
		{Name: "said", Columns: "tenant, lower(owner) text_pattern_ops"},
		{Name: "words", Columns: "text", Using: "gin"},
	}}
	if got, want := r.Declared().Sorts, []string{"-enteredAt", "owner,amount", "id"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
