package runner

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// Advisory locks choose who works: each version of a projection has one, so that processes of an older binary keep their
// tables up to date while a newer one builds its own. gateLock is held while locks are taken, so that of processes that start
// together one gets all. The numbers are arbitrary.
const (
	gateLock  = 0x7261_7070_6f72_7402
	ownerLock = 0x7261_7070
)

// lockID is the second number of a version's advisory lock. Two versions may share one: they are then owned together.
func lockID(c *projection.Compiled) int32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s v%d", c.Name, c.Version)
	return int32(h.Sum32())
}

// acquire takes those locks of projections that are free, and returns whose these are.
func acquire(ctx context.Context, conn *pgx.Conn, wanted []*projection.Compiled) (held []*projection.Compiled, err error) {
	ids := make([]int32, len(wanted))
	for i, c := range wanted {
		ids[i] = lockID(c)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(gateLock)); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "select pg_try_advisory_lock($1, id) from unnest($2::integer[]) with ordinality as l(id, n) order by n", int32(ownerLock), ids)
		if err != nil {
			return err
		}
		mine, err := pgx.CollectRows(rows, pgx.RowTo[bool])
		for i, got := range mine {
			if got {
				held = append(held, wanted[i])
			}
		}
		return err
	})
	return held, err
}

// wait is called before each pause while other processes have all the locks.
func (r *Runner) wait(ctx context.Context, lock *pgx.Conn, first bool) error {
	if first {
		r.recovered() // whoever works says what is wrong
		r.freeze(nil)
		r.log.InfoContext(ctx, "projections are run by another process; waiting")
	}
	return r.evict(ctx, lock)
}

// evictSQL ends the sessions that hold locks of projections without having given a sign of life for long: their process is
// stopped or hangs. Should it wake up, the epoch keeps it from writing.
const evictSQL = `select count(pg_terminate_backend(l.pid))
from unnest($2::integer[], $3::text[], $4::integer[]) as o(id, name, version)
join projection.owner w using (name, version)
join pg_locks l on l.locktype = 'advisory' and l.database = (select oid from pg_database where datname = current_database())
	and l.classid = $1::bigint::oid and l.objid = (o.id::bigint & 4294967295)::oid and l.objsubid = 2 and l.granted and l.pid <> pg_backend_pid()
where w.heartbeat_at < clock_timestamp() - $5::interval`

// evict takes the locks from a process that is frozen.
func (r *Runner) evict(ctx context.Context, conn *pgx.Conn) error {
	var ids, versions []int32
	var names []string
	for _, c := range r.projections {
		ids, names, versions = append(ids, lockID(c)), append(names, c.Name), append(versions, int32(c.Version))
	}
	var ended int
	if err := conn.QueryRow(ctx, evictSQL, int64(ownerLock), ids, names, versions, r.opts.Takeover).Scan(&ended); err != nil {
		return err
	}
	if ended > 0 {
		r.log.WarnContext(ctx, "the process that ran the projections has given no sign of life; taking over", "silent", r.opts.Takeover)
	}
	return nil
}

const (
	// firstBuildSQL makes the first build of a version, unless a newer version serves already: then this binary is the older one.
	// Where nothing serves yet there is nothing better either, so that poison is gone past.
	firstBuildSQL = `insert into projection.checkpoint (name, version, definition, parks)
select $1, $2, $3, not exists (select from projection.checkpoint where name = $1 and state = 'serving')
where not exists (select from projection.checkpoint where name = $1 and version = $2)
	and not exists (select from projection.checkpoint where name = $1 and version > $2 and state = 'serving')
on conflict do nothing`

	// takeSQL makes the caller the owner: whoever was it finds another epoch and writes nothing more. What was halted gets another
	// chance with this binary, unless its rows are not to be trusted. The search behind the last event begins anew.
	takeSQL = `update projection.checkpoint set epoch = $3, commit_position = event_commit, prepare_position = event_prepare, problem = case when distrusted then problem else '' end,
	state = case state when 'retired' then 'tailing' else state end,
	drop_at = case when state = 'retired' or ` + build.UnfinishedSQL + ` then null else drop_at end
where ` + build.OfVersions

	// adoptSQL takes builds that somebody has asked for.
	adoptSQL = `update projection.checkpoint set epoch = $3 where epoch = 0 and ` + build.OfVersions

	loadSQL = `select ` + build.Columns + ` from projection.checkpoint where ` + build.OfVersions + ` and state <> 'retired' order by name, version, build`
)

// take makes this process the owner of what it has the locks of, and makes what is missing.
func (t *term) take(ctx context.Context) error {
	names, versions := t.owned()
	return pgx.BeginFunc(ctx, t.runner.pool, func(tx pgx.Tx) error {
		for _, c := range t.projections {
			if _, err := tx.Exec(ctx, firstBuildSQL, c.Name, c.Version, c.Table.Definition()); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(ctx, "select nextval('projection.epoch')").Scan(&t.epoch); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, takeSQL, names, versions, t.epoch); err != nil {
			return err
		}
		if err := t.enlist(ctx, tx); err != nil {
			return err
		}
		return t.runner.step(stepTake)
	})
}

// adopt takes builds that were asked for since.
func (t *term) adopt(ctx context.Context) error {
	names, versions := t.owned()
	return pgx.BeginFunc(ctx, t.runner.pool, func(tx pgx.Tx) error {
		if tag, err := tx.Exec(ctx, adoptSQL, names, versions, t.epoch); err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return t.enlist(ctx, tx)
	})
}

// owned returns the versions that this process has the locks of as parameters.
func (t *term) owned() (names []string, versions []int32) {
	for _, c := range t.projections {
		names, versions = append(names, c.Name), append(versions, int32(c.Version))
	}
	return names, versions
}

// enlist makes the members those builds that there are, and the tables that they miss.
func (t *term) enlist(ctx context.Context, tx pgx.Tx) error {
	stored, err := t.stored(ctx, tx)
	if err != nil {
		return err
	}
	known := map[build.Key]*apply.Member{}
	for _, m := range t.members {
		known[m.Key] = m
	}
	t.members = nil
	for _, c := range stored {
		if c.Epoch != t.epoch {
			return fault.ErrFenced
		}
		m := known[c.Key]
		if m == nil || c.At.IsZero() { // one that was dropped may have left its number to another
			i := slices.IndexFunc(t.projections, func(p *projection.Compiled) bool { return p.Name == c.Name })
			own := t.projections[i].Build(c.Number)
			m = apply.NewMember(own, c, t.runner.opts.CacheRows, t.runner.opts.VerifyKeys)
			problem, err := build.Prepare(ctx, tx, c, own)
			if err != nil {
				return fmt.Errorf("table of %s: %w", c, err)
			}
			if problem != "" {
				if err := t.halt(ctx, tx, m, problem); err != nil {
					return err
				}
			}
			if err := m.Measure(ctx, tx); err != nil {
				return err
			}
		}
		t.members = append(t.members, m)
	}
	return nil
}

// stored reads the checkpoints of all builds owned.
func (t *term) stored(ctx context.Context, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}) ([]build.Checkpoint, error) {
	names, versions := t.owned()
	rows, err := db.Query(ctx, loadSQL, names, versions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, build.Scan)
}

// beatSQL tells that this process works. It waits for no lock of a checkpoint.
const beatSQL = `with beat as (
	insert into projection.owner (name, version, heartbeat_at) select *, clock_timestamp() from unnest($1::text[], $2::integer[])
	on conflict (name, version) do update set heartbeat_at = excluded.heartbeat_at)
select name, version, build, epoch, generation from projection.checkpoint where ` + build.OfVersions + ` and state <> 'retired'`

// sign gives the first sign of life of a term: whoever waits counts from there.
func (t *term) sign(ctx context.Context) error {
	names, versions := t.owned()
	_, err := t.runner.pool.Exec(ctx, beatSQL, names, versions)
	return err
}

// beats returns what tells regularly that this process works, and notices when another has taken over, the lock is lost, or
// somebody has changed rows beside us.
func (t *term) beats(lock *pgx.Conn) func(context.Context) error {
	r := t.runner
	last := map[build.Key]int64{} // the generations that the members were loaded with
	for _, m := range t.members {
		last[m.Key] = m.Generation
	}
	var missing []*projection.Compiled
	for _, c := range r.projections {
		if !slices.Contains(t.projections, c) {
			missing = append(missing, c)
		}
	}
	beat := func(ctx context.Context) (err error) {
		if err := follow.Held(ctx, lock); err != nil {
			return err
		}
		if len(missing) > 0 {
			if more, err := acquire(ctx, lock, missing); err == nil && len(more) > 0 {
				return follow.ErrAnew // this process can have more now
			}
		}
		last, err = t.beat(ctx, last)
		return err
	}
	return func(ctx context.Context) error { return follow.Beat(ctx, r.opts.Heartbeat, beat) }
}

// beat is one beat. It returns the generations that the round in hand is told of, or is about to load.
func (t *term) beat(ctx context.Context, last map[build.Key]int64) (map[build.Key]int64, error) {
	names, versions := t.owned()
	rows, err := t.runner.pool.Query(ctx, beatSQL, names, versions)
	if err != nil {
		return last, nil // the lanes report the same
	}
	var key build.Key
	var epoch, generation int64
	seen, changed := map[build.Key]int64{}, false
	_, err = pgx.ForEachRow(rows, []any{&key.Name, &key.Version, &key.Number, &epoch, &generation}, func() error {
		if epoch != t.epoch && epoch != 0 {
			return fault.ErrFenced
		}
		at, known := last[key]
		changed = changed || !known || at != generation || epoch == 0 // a new one may have the number of one that is gone
		seen[key] = generation
		return nil
	})
	switch {
	case errors.Is(err, fault.ErrFenced):
		return last, err
	case err != nil:
		return last, nil
	case !changed && len(seen) == len(last) || t.interrupt(fault.ErrRegroup):
		return seen, nil
	}
	return last, nil
}

// alive is how long an owner may be silent and still count as working.
func (r *Runner) alive() time.Duration { return missedBeats * r.opts.Heartbeat }
