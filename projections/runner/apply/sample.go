package apply

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// noPosition is behind every position of a log: a sample there is of no use and is begun anew.
var noPosition = domain.Position{Commit: math.MaxUint64, Prepare: math.MaxUint64}

// Reader is what is needed of the event log.
type Reader interface {
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error]
}

// Sync begins a sample of a build that is to be verified, unless there is one that stands where the rows stand.
func (m *Member) Sync() {
	switch {
	case !m.Unfinished() || m.State == build.Ready:
		m.sample = nil
	case m.sample == nil || m.sampled != m.Event.Position:
		m.sample, m.sampled = m.NewSample(m.verifyKeys), domain.Position{}
	}
}

// observe lets the sample see what was stored. A sample that has missed something, such as one of a build that was resumed,
// is completed from the log when it is needed.
func (m *Member) observe(p *plan) {
	if m.sample == nil || m.sampled != m.Event.Position {
		return
	}
	if err := m.sample.Follow(p.step); err != nil {
		m.sampled = noPosition
		return
	}
	m.sampled = p.event.Position
}

// Resample brings the samples of members to where their rows stand, from the log. It calls halt for each that an event cannot be
// part of, with the problem.
func (g *Group) Resample(ctx context.Context, members []*Member, log Reader, decode Decoder, halt func(context.Context, *Member, string) error) error {
	parked := map[*Member]map[string]uint64{}
	from, to := noPosition, domain.Position{}
	for _, m := range members {
		var err error
		if parked[m], err = g.parkedFrom(ctx, m); err != nil {
			return err
		}
		if m.sampled.Before(from) {
			from = m.sampled
		}
		if to.Before(m.Event.Position) {
			to = m.Event.Position
		}
	}
	begun := map[*Member]domain.Position{}
	for _, m := range members {
		begun[m], m.sampled = m.sampled, noPosition // of no use unless all of it is read
	}
	for raw, err := range log.ReadAll(ctx, from) {
		if err != nil {
			return err
		}
		if to.Before(raw.Position) {
			break
		}
		event, undecodable := decode.Decode(raw)
		for _, m := range members {
			first, stopped := parked[m][raw.Stream]
			if m.Problem != "" || !m.Matches(raw.Type) || !begun[m].Before(raw.Position) || m.Event.Position.Before(raw.Position) || stopped && raw.Revision >= first {
				continue
			}
			err := undecodable
			if err == nil {
				err = m.sample.Apply(event)
			}
			if err == nil {
				continue
			}
			if err := halt(ctx, m, fmt.Sprintf("verification: event %s at position %s: %v", raw.ID, raw.Position, err)); err != nil {
				return err
			}
		}
	}
	for _, m := range members {
		m.sampled = m.Event.Position
	}
	return nil
}

// parkedFrom returns the first revision that is parked of each parked stream.
func (g *Group) parkedFrom(ctx context.Context, m *Member) (map[string]uint64, error) {
	const sql = `select stream, min(revision) from projection.parked_event where name = $1 and version = $2 and build = $3 group by stream`
	rows, err := g.Pool.Query(ctx, sql, m.Name, m.Version, m.Number)
	if err != nil {
		return nil, err
	}
	first := map[string]uint64{}
	var stream string
	var revision int64
	_, err = pgx.ForEachRow(rows, []any{&stream, &revision}, func() error {
		first[stream] = uint64(revision)
		return nil
	})
	return first, err
}

// errSampled ends the transaction in which rows are compared: it has changed nothing.
var errSampled = errors.New("compared")

// Difference loads the rows of a sample and returns the key of one that is not as it should be, or "".
func (g *Group) Difference(ctx context.Context, m *Member) (key string, err error) {
	if m.Problem != "" {
		return "", nil
	}
	err = inTransaction(ctx, g.Pool, buildTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		var reads pgx.Batch
		reads.Queue("begin")
		reads.Queue(build.LockSQL, []string{m.Name}, []int32{int32(m.Version)}, []int32{int32(m.Number)}).Query(func(rows pgx.Rows) error {
			stored, err := pgx.CollectRows(rows, build.Scan)
			switch {
			case err != nil:
				return err
			case len(stored) != 1 || stored[0].Generation != m.Generation || stored[0].Event != m.Event:
				return fault.ErrRegroup
			case stored[0].Epoch != m.Epoch:
				return fault.ErrFenced
			}
			return nil
		})
		if keys := m.sample.Keys(); keys != nil {
			reads.Queue(m.Table.SelectSQL(), keys...).Query(func(rows pgx.Rows) error {
				defer rows.Close()
				for rows.Next() {
					if err := rows.Scan(m.sample.Target()...); err != nil {
						return err
					}
					m.sample.Loaded()
				}
				return rows.Err()
			})
		}
		if err := conn.SendBatch(ctx, &reads).Close(); err != nil {
			return err
		}
		if key, err = m.sample.Difference(); err != nil {
			return err
		}
		return errSampled
	})
	if errors.Is(err, errSampled) {
		return key, nil
	}
	return "", err
}

// Sampled reports whether the sample stands where the rows stand.
func (m *Member) Sampled() bool { return m.sampled == m.Event.Position }
