package runner

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/projections/projection"
)

// Rebuild empties a projection's table and starts it from the beginning of the log, in a lane of its own. Its readers see
// the table grow. It works while a runner runs, in this process or another; actor is who asks, for the audit of what was
// parked. It also accepts rows that come from another log, and a table of another shape than declared: only such a one is
// dropped, with the views that users have put on it.
func (r *Runner) Rebuild(ctx context.Context, name, actor string) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, lockSQL, []string{c.Name}, []int32{int32(c.Version)})
		if err != nil {
			return err
		}
		stored, err := pgx.CollectRows(rows, scanCheckpoint)
		if err != nil {
			return err
		}
		streams, err := r.parked(ctx, tx, c, "")
		if err != nil {
			return err
		}
		for _, s := range streams {
			if err := unpark(ctx, tx, s, "rebuilt", actor, ""); err != nil {
				return err
			}
		}
		asDeclared := len(stored) == 1 && stored[0].definition == c.Table.Definition()
		if err := clearTable(ctx, tx, c.Table, asDeclared); err != nil {
			return err
		}
		const reset = `update projection.checkpoint set state = 'rebuilding', problem = '', log_id = null, definition = $3,
	commit_position = 0, prepare_position = 0, event_commit = 0, event_prepare = 0, event_recorded_at = null,
	generation = generation + 1, updated_at = now() where name = $1 and version = $2`
		if _, err := tx.Exec(ctx, reset, c.Name, c.Version, c.Table.Definition()); err != nil {
			return err
		}
		_, err = prepareTable(ctx, tx, c) // it cannot differ: it is made here
		return err
	})
	if err != nil {
		return fmt.Errorf("rebuild %s: %w", c, err)
	}
	return nil
}

// clearTable empties a table that is as declared, by its checkpoint and by the catalogue, and drops any other.
func clearTable(ctx context.Context, tx pgx.Tx, t *projection.Table, asDeclared bool) error {
	if asDeclared {
		difference, err := differs(ctx, tx, t, true)
		if err != nil {
			return err
		}
		if difference == "" {
			return execAll(ctx, tx, t.EmptySQL())
		}
	}
	_, err := tx.Exec(ctx, t.DropSQL())
	return err
}
