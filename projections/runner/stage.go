package runner

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// stages does what stands between two ways of reading the log: the indexes of tables that are loaded, and the comparison of
// those that have caught up. What fails for good halts its build, which leaves the lane.
func (l *lane) stages(ctx context.Context) error {
	l.handling.Store(true)
	defer l.handling.Store(false)
	if err := l.settle(ctx); err != nil {
		return err
	}
	l.Building = false
	for _, m := range l.Members {
		if m.State == build.Building {
			l.Building = true
		}
		if m.State != build.Indexing {
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
func (l *lane) index(ctx context.Context, m *apply.Member) error {
	t := l.term
	if err := t.runner.step(stepIndex); err != nil {
		return err
	}
	for _, sql := range append(m.Table.IndexSQL(), m.Table.AnalyzeSQL()) {
		_, err := t.runner.pool.Exec(ctx, sql)
		switch kind, _ := fault.Classify(err); {
		case err == nil:
		case kind == fault.Transient:
			return err
		default:
			return t.halt(ctx, t.runner.pool, m, build.DriftProblem(m.Name, "an index cannot be made: "+err.Error()))
		}
	}
	m.Counted()
	if err := t.runner.step(stepIndexed); err != nil {
		return err
	}
	return t.become(ctx, m, build.Tailing)
}

// becomeSQL moves a build on to its next stage, if it is where its owner left it.
const becomeSQL = `with moved as (
	update projection.checkpoint set state = $6, updated_at = now()
	where name = $1 and version = $2 and build = $3 and epoch = $4 and state = $5 and problem = '' returning commit_position)
select pg_notify('rapport_checkpoint', commit_position::text) from moved`

// become moves a build on to its next stage.
func (t *term) become(ctx context.Context, m *apply.Member, state string) error {
	tag, err := t.runner.pool.Exec(ctx, becomeSQL, m.Name, m.Version, m.Number, t.epoch, m.State, state)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return fault.ErrRegroup
	}
	m.State = state
	return nil
}

// verify compares some rows of members that have caught up with the fold of their events.
func (l *lane) verify(ctx context.Context) error {
	var due, behind []*apply.Member
	for _, m := range l.Members {
		if m.State != build.Verifying || m.Problem != "" {
			continue
		}
		m.Sync()
		due = append(due, m)
		if !m.Sampled() {
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
		if err := l.Resample(ctx, behind, t.runner.source, t.runner.decode, func(ctx context.Context, m *apply.Member, problem string) error {
			return t.halt(ctx, t.runner.pool, m, problem)
		}); err != nil {
			return err
		}
	}
	for _, m := range due {
		difference, err := l.Difference(ctx, m)
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
		if err := t.become(ctx, m, build.Ready); err != nil {
			return err
		}
		m.Sync()
		t.wake()
	}
	return nil
}
