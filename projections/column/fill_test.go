package column_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/column"
)

type mood string

type guest struct {
	Name string `json:"name"`
	Mood mood   `json:"mood"`
}

type place struct {
	City string `json:"city"`
}

type details struct {
	Title  string       `json:"title"`
	Mood   mood         `json:"mood"`
	Seats  int          `json:"seats"`
	Host   domain.ID    `json:"host"`
	On     domain.Date  `json:"on"`
	At     time.Time    `json:"at"`
	Price  domain.Money `json:"price"`
	Place  *place       `json:"place"`
	Guests []guest      `json:"guests"`
	Tags   []string     `json:"tags"`
}

type guestColumn struct{ Name, Mood string }

type row struct {
	Title    string         `json:"title"`
	Mood     string         `json:"mood"`
	Seats    int64          `json:"seats"`
	Host     *domain.ID     `json:"host"`
	On       *domain.Date   `json:"on"`
	At       *time.Time     `json:"at"`
	Price    *domain.Amount `json:"price" member:"price.amount"`
	Currency string         `json:"currency" member:"price.currency"`
	City     string         `json:"city" member:"place.city"`
	Guests   []guestColumn  `json:"guests"`
	Tags     []string       `json:"tags"`
	Revision int64          `json:"revision"`
}

func TestRowsTakeTheMembersOfEvents(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	price, err := domain.ParseDecimal("12.50")
	if err != nil {
		t.Fatal(err)
	}
	full := details{
		Title: "Tasting", Mood: "merry", Seats: 8, Host: "h", On: "2026-03-01", At: at,
		Price: domain.Money{Amount: domain.NewAmount(price), Currency: "EUR"}, Place: &place{"Rome"}, Guests: []guest{{"Ann", "calm"}}, Tags: []string{"wine"},
	}
	want := row{
		Title: "Tasting", Mood: "merry", Seats: 8, Host: new(domain.ID("h")), On: new(domain.Date("2026-03-01")), At: &at,
		Price: new(domain.NewAmount(price)), Currency: "EUR", City: "Rome", Guests: []guestColumn{{"Ann", "calm"}}, Tags: []string{"wine"}, Revision: 7,
	}
	r := row{Revision: 7}
	column.Fill(&r, full)
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("filled (-want +got):\n%s", diff)
	}
	if full.Tags[0] = "beer"; r.Tags[0] != "wine" {
		t.Error("the row shares a list with the event")
	}

	// One member at a time gives the same row, and takes everything away again.
	empty, byMember := row{Revision: 7}, row{Revision: 7}
	full.Tags[0] = "wine"
	members := []string{"title", "mood", "seats", "host", "on", "at", "price", "place", "guests", "tags"}
	for _, member := range members {
		column.FillMember(&byMember, member, full)
	}
	if diff := cmp.Diff(want, byMember); diff != "" {
		t.Errorf("filled by member (-want +got):\n%s", diff)
	}
	before := byMember
	column.FillMember(&byMember, "city", details{})
	if diff := cmp.Diff(before, byMember); diff != "" {
		t.Errorf("city is no member, but the row changed (-want +got):\n%s", diff)
	}
	for _, member := range members {
		column.FillMember(&byMember, member, details{})
	}
	if diff := cmp.Diff(empty, byMember); diff != "" {
		t.Errorf("emptied (-want +got):\n%s", diff)
	}
}

func TestColumnsThatCannotHoldAMemberAreFound(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a number was put into a text")
		}
	}()
	var r struct {
		Seats string `json:"seats"`
	}
	column.Fill(&r, details{Seats: 8})
}
