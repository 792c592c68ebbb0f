package runner

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// wake tells the keeper that there is something to do.
func (t *term) wake() {
	select {
	case t.due <- struct{}{}:
	default:
	}
}

// keep switches to what is ready, and clears away what is not needed any more, until ctx ends.
func (t *term) keep(ctx context.Context) error {
	r := t.runner
	for ctx.Err() == nil {
		wait := r.opts.Sweep
		left, err := t.switchReady(ctx)
		if err == nil {
			err = r.sweep(ctx)
		}
		if left || err != nil {
			wait = min(wait, r.opts.Heartbeat)
		}
		switch {
		case err == nil:
			r.health(keeperHealth, nil)
		case ctx.Err() == nil:
			_, class := classify(err)
			r.metrics.retry(class)
			r.health(keeperHealth, err)
			r.log.WarnContext(ctx, "builds are not cleared away; trying again", "err", err, "wait", wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-t.due:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

// keeperHealth is the name under which trouble with switches and leftovers is reported.
const keeperHealth = "builds"

const readySQL = `select ` + checkpointColumns + ` from projection.checkpoint where ` + ofVersions + ` and state = 'ready' and not hold and problem = ''
order by name, version, build`

// switchReady switches to the builds that are ready, and reports whether some have to wait. Those of projections of which
// nothing serves yet become visible together: their tables show the same moment.
func (t *term) switchReady(ctx context.Context) (left bool, err error) {
	r := t.runner
	names, versions := t.owned()
	rows, err := r.pool.Query(ctx, readySQL, names, versions)
	if err != nil {
		return false, err
	}
	ready, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil || len(ready) == 0 {
		return false, err
	}
	var first []buildKey
	for _, c := range ready {
		serving := false
		if err := r.pool.QueryRow(ctx, "select exists (select from projection.checkpoint where name = $1 and state = 'serving')", c.name).Scan(&serving); err != nil {
			return true, err
		}
		if !serving {
			first = append(first, c.buildKey)
			continue
		}
		err := r.turn(ctx, []buildKey{c.buildKey}, t.epoch)
		switch {
		case err == nil:
		case errors.Is(err, errBehind), lockTimeout(err):
			left = true
		default:
			return true, err
		}
	}
	if first == nil {
		return left, nil
	}
	if waiting, err := t.together(ctx); err != nil || waiting {
		return true, err
	}
	if err := t.show(ctx, first); err != nil {
		return true, err
	}
	if err := r.turn(ctx, first, t.epoch); err != nil {
		return true, err
	}
	return left, nil
}

// show makes the views of first builds. Sessions learn of a new view a moment after its transaction can be seen, so that the
// views come before what says that they are there.
func (t *term) show(ctx context.Context, builds []buildKey) error {
	r := t.runner
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		for _, key := range builds {
			c, err := r.find(key.name)
			if err == nil {
				err = pointView(ctx, tx, key, c.Doc)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// together reports whether other first builds are on their way: to wait for them is to show one moment.
func (t *term) together(ctx context.Context) (waiting bool, err error) {
	const sql = `select name, version, build from projection.checkpoint c where ` + ofVersions + ` and ` + unfinishedSQL + ` and problem = '' and not hold
	and state <> 'ready' and not exists (select from projection.checkpoint s where s.name = c.name and s.state = 'serving')`
	names, versions := t.owned()
	rows, err := t.runner.pool.Query(ctx, sql, names, versions)
	if err != nil {
		return false, err
	}
	others, err := pgx.CollectRows(rows, scanKey)
	return len(others) > 0, err
}

const (
	// leftoverSQL marks what nobody works on and nobody here knows how to: projections that are not declared any more, and
	// unfinished builds of other versions. What serves goes on doing so until it is dropped or replaced.
	leftoverSQL = `update projection.checkpoint c set drop_at = now() + $4::interval, problem = '',
	state = case when state in ('serving', 'standby') then 'retired' else state end
where drop_at is null and not ` + ofVersions + ` and (name <> all($3::text[]) or ` + unfinishedSQL + `)
	and not exists (select from projection.owner o where o.name = c.name and o.version = c.version and o.heartbeat_at > clock_timestamp() - $5::interval)`

	droppableSQL = `select name, version, build from projection.checkpoint where drop_at <= now() and state <> 'serving' order by name, version, build`

	dropLockSQL = `select from projection.checkpoint
where name = $1 and version = $2 and build = $3 and drop_at <= now() and state <> 'serving' for update`
)

// sweep marks leftovers and drops the builds of which the time is over.
func (r *Runner) sweep(ctx context.Context) error {
	var names []string
	var versions []int32
	for _, c := range r.projections {
		names, versions = append(names, c.Name), append(versions, int32(c.Version))
	}
	if _, err := r.pool.Exec(ctx, leftoverSQL, names, versions, names, r.opts.Grace, r.alive()); err != nil {
		return err
	}
	rows, err := r.pool.Query(ctx, droppableSQL)
	if err != nil {
		return err
	}
	due, err := pgx.CollectRows(rows, scanKey)
	if err != nil {
		return err
	}
	for _, key := range due {
		if err := r.drop(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a build of which the time is over: its table, its park and its checkpoint, in one transaction.
func (r *Runner) drop(ctx context.Context, key buildKey) error {
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTimeoutSQL); err != nil {
			return err
		}
		if tag, err := tx.Exec(ctx, dropLockSQL, key.name, key.version, key.build); err != nil || tag.RowsAffected() == 0 {
			return err // when there is none somebody was faster, or it serves again
		}
		if err := discard(ctx, tx, key, ""); err != nil {
			return err
		}
		r.log.InfoContext(ctx, "build dropped", "projection", key.name, "version", key.version, "build", key.build)
		return r.step(stepDrop)
	})
	if err != nil {
		return err
	}
	return r.step(stepDropped)
}

const auditSQL = `insert into projection.parked_audit (name, version, build, stream, action, first_revision, last_revision, events, actor)
select name, version, build, stream, 'rebuilt', min(revision), max(revision), count(*), $4
from projection.parked_event where name = $1 and version = $2 and build = $3 group by name, version, build, stream`

// discard removes a build whose row is locked. actor is who asked for that, for the audit of what was parked.
func discard(ctx context.Context, tx pgx.Tx, key buildKey, actor string) error {
	if _, err := tx.Exec(ctx, auditSQL, key.name, key.version, key.build, actor); err != nil {
		return err
	}
	for _, table := range []string{"parked_event", "parked_stream", "checkpoint"} {
		sql := "delete from projection." + table + " where name = $1 and version = $2 and build = $3"
		if _, err := tx.Exec(ctx, sql, key.name, key.version, key.build); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "drop table if exists projection."+key.table()+" cascade")
	return err
}
