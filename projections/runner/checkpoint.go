package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
)

// States of a checkpoint.
const (
	stateServing    = "serving"    // has caught up since it was built
	stateRebuilding = "rebuilding" // has not
	stateHalted     = "halted"     // cannot go on without help
	stateRetired    = "retired"    // no longer declared
)

// checkpoint is a row of projection.checkpoint.
type checkpoint struct {
	name       string
	version    int
	state      string
	problem    string
	logID      string
	at         domain.Position // everything up to here is in the rows
	event      domain.Position // the last event up to there
	epoch      int64
	generation int64
	definition string
}

const checkpointColumns = `name, version, state, problem, coalesce(log_id, ''), commit_position, prepare_position,
	event_commit, event_prepare, epoch, generation, definition`

func scanCheckpoint(row pgx.CollectableRow) (c checkpoint, err error) {
	var commit, prepare, eventCommit, eventPrepare int64
	err = row.Scan(&c.name, &c.version, &c.state, &c.problem, &c.logID, &commit, &prepare, &eventCommit, &eventPrepare,
		&c.epoch, &c.generation, &c.definition)
	c.at = domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
	c.event = domain.Position{Commit: uint64(eventCommit), Prepare: uint64(eventPrepare)}
	return c, err
}

// lockSQL locks the rows in one order, so that two transactions never wait for each other.
const lockSQL = `select ` + checkpointColumns + ` from projection.checkpoint
where (name, version) in (select * from unnest($1::text[], $2::integer[])) order by name, version for update`

const readSQL = `select ` + checkpointColumns + ` from projection.checkpoint
where (name, version) in (select * from unnest($1::text[], $2::integer[])) order by name, version`

// takeSQL makes the caller the owner: whoever was it finds another epoch and writes nothing more. What was halted gets
// another chance with this binary.
const takeSQL = `update projection.checkpoint set epoch = epoch + 1, heartbeat_at = clock_timestamp(), problem = '',
	state = case when state in ('halted', 'retired') then 'rebuilding' else state end
where (name, version) in (select * from unnest($1::text[], $2::integer[]))
returning ` + checkpointColumns

const retireSQL = `update projection.checkpoint set state = 'retired', problem = ''
where state <> 'retired' and (name, version) not in (select * from unnest($1::text[], $2::integer[]))`

// moveSQL moves checkpoints that lockSQL has locked.
const moveSQL = `update projection.checkpoint c set commit_position = n.commit_position, prepare_position = n.prepare_position,
	event_commit = n.event_commit, event_prepare = n.event_prepare,
	event_recorded_at = coalesce(n.event_recorded_at, c.event_recorded_at),
	state = n.state, problem = n.problem, log_id = $10, updated_at = now(), heartbeat_at = clock_timestamp()
from unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::timestamptz[])
	as n(name, version, commit_position, prepare_position, event_commit, event_prepare, state, problem, event_recorded_at)
where c.name = n.name and c.version = n.version`

const notifySQL = `select pg_notify('rapport_checkpoint', $1)`

// heartbeatSQL passes over rows that are locked: whoever holds them is at work.
const heartbeatSQL = `with free as (
	select name, version from projection.checkpoint
	where (name, version) in (select * from unnest($1::text[], $2::integer[]))
	order by name, version for update skip locked)
update projection.checkpoint c set heartbeat_at = clock_timestamp() from free where c.name = free.name and c.version = free.version
returning c.name, c.version, c.epoch, c.generation`

// identity collects the names and versions of projections as parameters.
func identity(members []*member) (names []string, versions []int32) {
	for _, m := range members {
		names = append(names, m.Name)
		versions = append(versions, int32(m.Version))
	}
	return names, versions
}

// prepareTable makes a projection's checkpoint, table and view where they are missing. A table that is not as declared is
// left alone, and what is wrong with it is returned.
func prepareTable(ctx context.Context, tx pgx.Tx, c *projection.Compiled) (problem string, err error) {
	const insert = `insert into projection.checkpoint (name, version, definition) values ($1, $2, $3) on conflict do nothing`
	if _, err := tx.Exec(ctx, insert, c.Name, c.Version, c.Table.Definition()); err != nil {
		return "", err
	}
	const stored = `select definition, commit_position > 0 from projection.checkpoint where name = $1 and version = $2`
	var definition string
	var filled bool
	if err := tx.QueryRow(ctx, stored, c.Name, c.Version).Scan(&definition, &filled); err != nil {
		return "", err
	}
	if definition != c.Table.Definition() {
		return driftProblem(c.Name, declarationChanged), nil
	}
	difference, err := differs(ctx, tx, c.Table, filled)
	if err != nil || difference != "" {
		return driftProblem(c.Name, difference), err
	}
	if err := execAll(ctx, tx, c.Table.CreateSQL()); err != nil {
		return "", err
	}
	return "", prepareView(ctx, tx, c.Table)
}

const declarationChanged = "the declared columns, key or indexes are not those that the table was made with"

// differs returns how the columns of a table differ from those declared, or "". A table that is missing differs only if
// it should hold rows.
func differs(ctx context.Context, tx pgx.Tx, t *projection.Table, filled bool) (string, error) {
	const catalogue = `select attname::text, format_type(atttypid, atttypmod), not attnotnull from pg_attribute
where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum`
	rows, err := tx.Query(ctx, catalogue, t.Qualified())
	if err != nil {
		return "", err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c projection.Column, err error) {
		err = row.Scan(&c.Name, &c.Type, &c.Nullable)
		if c.Type == "timestamp with time zone" {
			c.Type = "timestamptz"
		}
		return c, err
	})
	switch {
	case err != nil:
		return "", err
	case len(found) == 0 && filled:
		return "the table is missing", nil
	case len(found) == 0:
		return "", nil
	case len(found) != len(t.Columns):
		return fmt.Sprintf("the table has %d columns, %d are declared", len(found), len(t.Columns)), nil
	}
	for i, c := range t.Columns {
		if f := found[i]; f.Name != c.Name || f.Type != c.Type || f.Nullable != c.Nullable {
			return fmt.Sprintf("column %s %s of the table is declared as %s %s", f.Name, f.Type, c.Name, c.Type), nil
		}
	}
	return "", nil
}

// prepareView points the stable view at the table unless it does already: views that users have put on top survive.
func prepareView(ctx context.Context, tx pgx.Tx, t *projection.Table) error {
	const points = `select exists (
		select from pg_depend d join pg_rewrite w on w.oid = d.objid
		where d.classid = 'pg_rewrite'::regclass and w.ev_class = to_regclass($1) and d.refobjid = to_regclass($2))`
	var done bool
	if err := tx.QueryRow(ctx, points, projection.ViewSchema+"."+t.View, t.Qualified()).Scan(&done); err != nil || done {
		return err
	}
	return execAll(ctx, tx, t.ViewSQL())
}

func execAll(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%w in %q", err, sql)
		}
	}
	return nil
}

// driftProblem is what a projection whose table has another shape than declared is halted with.
func driftProblem(name, detail string) string {
	return fmt.Sprintf("%s: raise the projection's version, or run `rapport projections rebuild %s`", detail, name)
}

// heartbeat is what one beat finds in a checkpoint row.
type heartbeat struct {
	name              string
	version           int
	epoch, generation int64
}

func scanHeartbeat(row pgx.CollectableRow) (h heartbeat, err error) {
	err = row.Scan(&h.name, &h.version, &h.epoch, &h.generation)
	return h, err
}

// moves collects the parameters of moveSQL.
type moves struct {
	names                                          []string
	versions                                       []int32
	commits, prepares, eventCommits, eventPrepares []int64
	states, problems                               []string
	recorded                                       []*time.Time
}

func (v *moves) add(p *plan) {
	v.names = append(v.names, p.member.Name)
	v.versions = append(v.versions, int32(p.member.Version))
	v.commits = append(v.commits, int64(p.at.Commit))
	v.prepares = append(v.prepares, int64(p.at.Prepare))
	v.eventCommits = append(v.eventCommits, int64(p.event.Commit))
	v.eventPrepares = append(v.eventPrepares, int64(p.event.Prepare))
	v.states = append(v.states, p.state)
	v.problems = append(v.problems, p.problem)
	var recorded *time.Time
	if !p.recorded.IsZero() {
		recorded = &p.recorded
	}
	v.recorded = append(v.recorded, recorded)
}

func (v *moves) args(logID string) []any {
	return []any{v.names, v.versions, v.commits, v.prepares, v.eventCommits, v.eventPrepares, v.states, v.problems, v.recorded, logID}
}
