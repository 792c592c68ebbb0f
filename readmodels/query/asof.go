package query

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
)

// Axis says by which time a moment of the past divides events.
type Axis string

// The axes of time. The zero value is AxisRecorded.
const (
	AxisRecorded Axis = "recorded" // as known then: what had been recorded, in the order of the log
	AxisOccurred Axis = "occurred" // restated: what had happened, by what is known now, in the order in which it happened
)

// AsOf says what a query as of the past sees.
type AsOf struct {
	Axis     Axis
	Position domain.Position // nothing that was recorded after it is seen, on either axis
	Time     time.Time       // stands for now; on AxisOccurred nothing that happened after it is seen
}

// Point is a place on an axis as a client names it: a time or a position, or nothing.
type Point struct {
	Time     time.Time
	Position *domain.Position
}

// PastQuery names a moment as a client does.
type PastQuery struct {
	Axis    Axis
	AsOf    Point            // on AxisOccurred a time
	KnownAt Point            // on AxisOccurred: nothing that was recorded later is seen; nothing given: all that is known
	Pinned  *domain.Position // that the cursor of a list names; it stands for the position that a time led to, or for all that was known
}

// binding is what cursors of a list as of the moment are bound to.
func (m AsOf) binding() []string {
	return []string{string(m.Axis), m.Position.String(), m.Time.UTC().Format(time.RFC3339Nano)}
}

// Reach says which rows a query may touch: as of the past no others are made.
type Reach struct {
	Views   []string          // names of projections
	Streams []domain.StreamID // whose events make the rows; nil means every stream
}

// Querier runs queries that name views without their schema.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Past makes rows as they were at a moment.
type Past interface {
	// Within lets f query the rows of a tenant within reach as of a moment, and returns what f returns.
	Within(ctx context.Context, tenant domain.Tenant, m AsOf, r Reach, f func(Querier) error) error
}

// AsOf returns the same store as of a moment of the past: every query is answered as it would have been then. Its
// Position and WaitFor are those of s, which must stay open.
func (s *Store) AsOf(m AsOf, past Past) *Store {
	then := *s
	then.moment, then.past = &m, past
	return &then
}

// Borrow lets f work in a transaction on a connection of the store, where names without a schema are looked up in the
// schemas of searchPath, and takes everything back that f has done.
func (s *Store) Borrow(ctx context.Context, searchPath string, f func(pgx.Tx) error) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // what fails here has lost its connection
	if _, err := tx.Exec(ctx, "set local search_path to "+searchPath); err != nil {
		return err
	}
	return f(tx)
}

// Moment returns the moment that the store answers as of, nil for now.
func (s *Store) Moment() *AsOf { return s.moment }

// Within runs f over the rows within reach, those of now, once they reflect what AtLeast says, or of the store's moment.
func (s *Store) Within(ctx context.Context, r Reach, f func(Querier) error) error {
	if s.Tenant() == "" && (!s.whole || s.moment != nil) {
		return errNobody
	}
	if s.moment == nil {
		if err := s.await(ctx, r.Views); err != nil {
			return err
		}
		return s.whenBuilt(ctx, func() error { return unavailable(f(reader{s.pool, r.Views})) })
	}
	return unavailable(s.past.Within(ctx, s.Tenant(), *s.moment, r, f))
}

// Now returns the instant that a query calls now.
func (s *Store) Now(clock time.Time) time.Time {
	if s.moment == nil {
		return clock
	}
	return s.moment.Time
}

// Views is the reach of a query over whole views.
func Views(names ...string) Reach { return Reach{Views: names} }

// RecordOf is the reach of a query for a record that one stream of the store's tenant makes.
func (s *Store) RecordOf(aggregate string, id domain.ID, names ...string) Reach {
	return Reach{Views: names, Streams: []domain.StreamID{{Tenant: s.Tenant(), Aggregate: aggregate, ID: id}}}
}

// StreamsOf narrows a reach, as of the past, to the streams that sql finds in the read models of now.
func (s *Store) StreamsOf(ctx context.Context, r Reach, sql string, args ...any) (Reach, error) {
	if s.moment == nil {
		return r, nil
	}
	if err := s.WaitFor(ctx, s.moment.Position); err != nil {
		return r, err
	}
	var err error
	r.Streams, err = s.Streams(ctx, sql, args...)
	return r, err
}

// Streams returns streams of the store's tenant, as rows of aggregate and id, that sql finds in the read models of now; never nil.
func (s *Store) Streams(ctx context.Context, sql string, args ...any) ([]domain.StreamID, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, unavailable(err)
	}
	found := []domain.StreamID{} // never nil, which would mean all
	var aggregate, id string
	_, err = pgx.ForEachRow(rows, []any{&aggregate, &id}, func() error {
		found = append(found, domain.StreamID{Tenant: s.Tenant(), Aggregate: aggregate, ID: domain.ID(id)})
		return nil
	})
	return found, unavailable(err)
}

// pin puts the position of the moment before a cursor, so that the next page shows the same state however the moment was
// named.
func (m *AsOf) pin(cursor string) string {
	if m == nil || cursor == "" {
		return cursor
	}
	return m.Position.String() + pinned + cursor
}

// unpin takes off what pin put before a cursor.
func (m *AsOf) unpin(cursor string) (string, error) {
	if m == nil || cursor == "" {
		return cursor, nil
	}
	rest, ok := strings.CutPrefix(cursor, m.Position.String()+pinned)
	if !ok {
		return "", errCursor()
	}
	return rest, nil
}

const pinned = "." // no character of a cursor's own

// PinnedPosition returns the position of the moment that the cursor of a list as of the past belongs to, nil for any other
// cursor, or an *domain.InvalidError for one that was made from another log, where the position says nothing.
func (s *Store) PinnedPosition(cursor string) (*domain.Position, error) {
	head, rest, ok := strings.Cut(cursor, pinned)
	if !ok {
		return nil, nil
	}
	if _, _, err := openCursor(s.tag, rest); err != nil {
		return nil, err
	}
	p, err := domain.ParsePosition(head)
	if err != nil {
		return nil, errCursor()
	}
	return &p, nil
}
