package domain

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// Date is a day of the calendar without a zone, "2006-01-02", years 1 to 9999. The zero value is no date.
type Date string

// ParseDate reads a day in the form 2006-01-02, or returns an *InvalidError.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil || t.Year() < 1 {
		return "", Invalid("", "\"{value}\" is not a day of the form YYYY-MM-DD", s)
	}
	return Date(s), nil
}

// DateOf returns the day of t in UTC.
func DateOf(t time.Time) Date { return Date(t.UTC().Format(time.DateOnly)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Date) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDate(string(b))
	return err
}

// Time returns midnight UTC of the day; the zero time for no date.
func (d Date) Time() time.Time {
	t, _ := time.Parse(time.DateOnly, string(d))
	return t
}

// Scan implements sql.Scanner, so that a date column reads into a Date.
func (d *Date) Scan(src any) error {
	t, ok := src.(time.Time)
	if !ok {
		return fmt.Errorf("domain: a Date does not scan from %T", src)
	}
	*d = Date(t.Format(time.DateOnly))
	return nil
}

// Value implements driver.Valuer; no date is NULL.
func (d Date) Value() (driver.Value, error) {
	if d == "" {
		return nil, nil
	}
	return d.Time(), nil
}
