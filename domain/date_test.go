package domain_test

import (
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

func TestDatesAreDaysOfTheCalendar(t *testing.T) {
	for _, s := range []string{"2026-02-28", "2024-02-29", "0001-01-01", "9999-12-31"} {
		d, err := domain.ParseDate(s)
		if err != nil || string(d) != s || domain.DateOf(d.Time()) != d {
			t.Errorf("%s: got %s, %v", s, d, err)
		}
	}
	for _, s := range []string{
		"", "2026-2-8", "2026-02-30", "2023-02-29", "26-02-28", "2026-02-28T00:00:00Z", "2026/02/28", "0000-01-01", "10000-01-01", " 2026-02-28",
		"-2026-02-28", "2026-13-01", "2026-00-01",
	} {
		if d, err := domain.ParseDate(s); !invalid(err) {
			t.Errorf("%q: want it invalid, got %v, %v", s, d, err)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	f.Add("2026-02-28")
	f.Add("0000-01-01")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := domain.ParseDate(s)
		if err != nil {
			if !invalid(err) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if string(d) != s || domain.DateOf(d.Time()) != d {
			t.Fatalf("%q reads as %s", s, d)
		}
	})
}

func TestTheDayOfAnInstantIsThatOfUTC(t *testing.T) {
	late := time.Date(2026, time.March, 1, 0, 30, 0, 0, time.FixedZone("CET", 3600))
	if d := domain.DateOf(late); d != "2026-02-28" {
		t.Errorf("got %s", d)
	}
	if !domain.Date("").Time().IsZero() {
		t.Error("no date has a time")
	}
}

func TestDatesGoToAndFromColumns(t *testing.T) {
	v, err := domain.Date("2026-02-28").Value()
	var d domain.Date
	if err != nil || d.Scan(v) != nil || d != "2026-02-28" {
		t.Errorf("got %s from %v, %v", d, v, err)
	}
	if v, err := domain.Date("").Value(); v != nil || err != nil {
		t.Errorf("no date is %v, %v", v, err)
	}
	if d.Scan("2026-02-28") == nil {
		t.Error("a text column was taken for a date")
	}
}
