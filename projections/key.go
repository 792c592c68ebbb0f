package projections

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// record is the key of a row that stands for one aggregate.
type record struct {
	Tenant domain.Tenant `db:"tenant"`
	ID     domain.ID     `db:"id"`
}

// byStream keys rows by the stream of the event.
func byStream(e domain.Recorded) []record { return []record{{e.Tenant, e.Stream.ID}} }

// beginsStream reports whether an event is the first of its stream: a row that is keyed by its stream cannot be there before.
func beginsStream[K any](_ K, e domain.Recorded) bool { return e.Revision == 0 }

// optionalID returns nil for no id.
func optionalID(id domain.ID) *domain.ID {
	if id == "" {
		return nil
	}
	return &id
}

// optionalDate returns nil for no date.
func optionalDate(d domain.Date) *domain.Date {
	if d == "" {
		return nil
	}
	return &d
}

// amountOf splits optional money into the columns that hold it.
func amountOf(m *domain.Money) (*domain.Amount, string) {
	if m == nil {
		return nil, ""
	}
	return new(m.Amount), string(m.Currency) // a copy: the event would be kept as long as the row
}

func sum(a domain.Amount, b domain.Amount) domain.Amount { return domain.NewAmount(a.Add(b.Decimal)) }

func difference(a domain.Amount, b domain.Amount) domain.Amount {
	return domain.NewAmount(a.Sub(b.Decimal))
}

// earlier returns the earlier of an optional time and another.
func earlier(a *time.Time, b time.Time) *time.Time {
	if a != nil && a.Before(b) {
		return a
	}
	return &b
}

// later returns the later of an optional time and another.
func later(a *time.Time, b time.Time) *time.Time {
	if a != nil && a.After(b) {
		return a
	}
	return &b
}
