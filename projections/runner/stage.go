package runner

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
)

// noPosition is behind every position of a log: a sample there is of no use and is begun anew.
var noPosition = domain.Position{Commit: math.MaxUint64, Prepare: math.MaxUint64}

// stages does what stands between two ways of reading the log: the indexes of tables that are loaded, and the comparison of
// those that have caught up. What fails for good halts its build, which leaves the lane.
func (l *lane) stages(ctx context.Context) error {
	l.handling.Store(true)
	defer l.handling.Store(false)
	if err := l.settle(ctx); err != nil {
		return err
	}
	l.building = false
	for _, m := range l.members {
		if m.state == stateBuilding {
			l.building = true
		}
		if m.state != stateIndexing {
			continue
		}
		if err := l.index(ctx, m); err != nil {
			return err
		}
	}
	if err := l.verify(ctx); err != nil {
		return err
	}
	l.leave()
	return nil
}

// index makes the indexes of a table that is loaded: that is faster than to load rows into them. The planner's statistics
// come last.
func (l *lane) index(ctx context.Context, m *member) error {
	t := l.term
	if err := t.runner.step(stepIndex); err != nil {
		return err
	}
	for _, sql := range append(m.Table.IndexSQL(), m.Table.AnalyzeSQL()) {
		_, err := t.runner.pool.Exec(ctx, sql)
		switch kind, _ := classify(err); {
		case err == nil:
		case kind == transient:
			return err
		default:
			return t.halt(ctx, t.runner.pool, m, driftProblem(m.Name, "an index cannot be made: "+err.Error()))
		}
	}
	m.counted = m.rows
	if err := t.runner.step(stepIndexed); err != nil {
		return err
	}
	return t.become(ctx, m, stateTailing)
}

// becomeSQL moves a build on to its next stage, if it is where its owner left it.
const becomeSQL = `with moved as (
	update projection.checkpoint set state = $6, updated_at = now()
	where name = $1 and version = $2 and build = $3 and epoch = $4 and state = $5 and problem = '' returning commit_position)
select pg_notify('rapport_checkpoint', commit_position::text) from moved`

// become moves a build on to its next stage.
func (t *term) become(ctx context.Context, m *member, state string) error {
	tag, err := t.runner.pool.Exec(ctx, becomeSQL, m.name, m.version, m.build, t.epoch, m.state, state)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return errRegroup
	}
	m.state = state
	return nil
}

// sync begins a sample of a build that is to be verified, unless there is one that stands where the rows stand.
func (m *member) sync() {
	switch {
	case !m.unfinished() || m.state == stateReady:
		m.sample = nil
	case m.sample == nil || m.sampled != m.event.Position:
		m.sample, m.sampled = m.NewSample(m.verifyKeys), domain.Position{}
	}
}

// observe lets the sample see what was stored. A sample that has missed something, such as one of a build that was resumed,
// is completed from the log when it is needed.
func (m *member) observe(p *plan) {
	if m.sample == nil || m.sampled != m.event.Position {
		return
	}
	if err := m.sample.Follow(p.step); err != nil {
		m.sampled = noPosition
		return
	}
	m.sampled = p.event.Position
}

// verify compares some rows of members that have caught up with the fold of their events.
func (l *lane) verify(ctx context.Context) error {
	var due, behind []*member
	for _, m := range l.members {
		if m.state != stateVerifying || m.problem != "" {
			continue
		}
		m.sync()
		due = append(due, m)
		if m.sampled != m.event.Position {
			behind = append(behind, m)
		}
	}
	t := l.term
	if len(due) > 0 {
		if err := t.runner.step(stepVerify); err != nil {
			return err
		}
	}
	if len(behind) > 0 {
		if err := l.resample(ctx, behind); err != nil {
			return err
		}
	}
	for _, m := range due {
		difference, err := l.difference(ctx, m)
		if err != nil {
			return err
		}
		if difference != "" {
			const problem = "verification: the row of %s is not the fold of its events; run `rapport projections rebuild %s`"
			if err := t.halt(ctx, t.runner.pool, m, fmt.Sprintf(problem, difference, m.Name)); err != nil {
				return err
			}
			continue
		}
		if err := t.runner.step(stepVerified); err != nil {
			return err
		}
		if err := t.become(ctx, m, stateReady); err != nil {
			return err
		}
		m.sync()
		t.wake()
	}
	return nil
}

// resample brings the samples of members to where their rows stand, from the log.
func (l *lane) resample(ctx context.Context, members []*member) error {
	r := l.term.runner
	parked := map[*member]map[string]uint64{}
	from, to := noPosition, domain.Position{}
	for _, m := range members {
		var err error
		if parked[m], err = l.parkedFrom(ctx, m); err != nil {
			return err
		}
		if m.sampled.Before(from) {
			from = m.sampled
		}
		if to.Before(m.event.Position) {
			to = m.event.Position
		}
	}
	begun := map[*member]domain.Position{}
	for _, m := range members {
		begun[m], m.sampled = m.sampled, noPosition // of no use unless all of it is read
	}
	for raw, err := range r.source.ReadAll(ctx, from) {
		if err != nil {
			return err
		}
		if to.Before(raw.Position) {
			break
		}
		event, undecodable := r.decode.Decode(raw)
		for _, m := range members {
			first, stopped := parked[m][raw.Stream]
			if m.problem != "" || !m.Matches(raw.Type) || !begun[m].Before(raw.Position) || m.event.Position.Before(raw.Position) || stopped && raw.Revision >= first {
				continue
			}
			err := undecodable
			if err == nil {
				err = m.sample.Apply(event)
			}
			if err == nil {
				continue
			}
			if err := l.term.halt(ctx, r.pool, m, fmt.Sprintf("verification: event %s at position %s: %v", raw.ID, raw.Position, err)); err != nil {
				return err
			}
		}
	}
	for _, m := range members {
		m.sampled = m.event.Position
	}
	return nil
}

// parkedFrom returns the first revision that is parked of each parked stream.
func (l *lane) parkedFrom(ctx context.Context, m *member) (map[string]uint64, error) {
	const sql = `select stream, min(revision) from projection.parked_event where name = $1 and version = $2 and build = $3 group by stream`
	rows, err := l.term.runner.pool.Query(ctx, sql, m.name, m.version, m.build)
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

// difference loads the rows of a sample and returns the key of one that is not as it should be, or "".
func (l *lane) difference(ctx context.Context, m *member) (key string, err error) {
	if m.problem != "" {
		return "", nil
	}
	err = inTransaction(ctx, l.term.runner.pool, buildTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		var reads pgx.Batch
		reads.Queue("begin")
		reads.Queue(lockSQL, []string{m.name}, []int32{int32(m.version)}, []int32{int32(m.build)}).Query(func(rows pgx.Rows) error {
			stored, err := pgx.CollectRows(rows, scanCheckpoint)
			switch {
			case err != nil:
				return err
			case len(stored) != 1 || stored[0].generation != m.generation || stored[0].event != m.event:
				return errRegroup
			case stored[0].epoch != m.epoch:
				return errFenced
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
