// Package column has the small conversions from the values of events to the columns of rows.
package column

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// ID returns nil for no id.
func ID(id domain.ID) *domain.ID {
	if id == "" {
		return nil
	}
	return &id
}

// Date returns nil for no date.
func Date(d domain.Date) *domain.Date {
	if d == "" {
		return nil
	}
	return &d
}

// Amount splits optional money into the columns that hold it.
func Amount(m *domain.Money) (*domain.Amount, string) {
	if m == nil {
		return nil, ""
	}
	return new(m.Amount), string(m.Currency) // a copy: the event would be kept as long as the row
}

// Sum returns a + b.
func Sum(a, b domain.Amount) domain.Amount { return domain.NewAmount(a.Add(b.Decimal)) }

// Difference returns a - b.
func Difference(a, b domain.Amount) domain.Amount {
	return domain.NewAmount(a.Sub(b.Decimal))
}

// Earlier returns the earlier of an optional time and another.
func Earlier(a *time.Time, b time.Time) *time.Time {
	if a != nil && a.Before(b) {
		return a
	}
	return &b
}

// Later returns the later of an optional time and another.
func Later(a *time.Time, b time.Time) *time.Time {
	if a != nil && a.After(b) {
		return a
	}
	return &b
}
