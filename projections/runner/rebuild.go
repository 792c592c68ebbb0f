package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
)

// Rebuild says which projections are to be built anew, and how.
type Rebuild struct {
	Projections []string
	Actor       string // who asks
	Hold        bool   // leave the switch to Runner.Switch
	Park        bool   // park what cannot be applied, instead of giving up there
}

const newBuildSQL = `insert into projection.checkpoint (name, version, build, definition, hold, parks, actor) values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing`

// Rebuild begins new builds of projections beside those that serve: the tables that readers see stay as they are until the
// new ones are switched to. It works while a runner runs, in this process or another; else the next that runs does the
// work. Projections asked for together share one scan of the log. One that is being built already, and is not halted, goes
// on. It returns a *domain.NotFoundError for a projection that is not declared, and a *domain.UnavailableError when the database
// cannot do it now; then it has done nothing.
func (r *Runner) Rebuild(ctx context.Context, ask Rebuild) error {
	var list []*projection.Compiled
	for _, name := range ask.Projections {
		c, err := r.find(name)
		if err != nil {
			return err
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *projection.Compiled) int { return strings.Compare(a.Name, b.Name) })
	return unavailable(ctx, pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		for _, c := range slices.Compact(list) {
			if err := begin(ctx, tx, c, ask); err != nil {
				return fmt.Errorf("rebuild %s: %w", c, err)
			}
		}
		return nil
	}))
}

// begin makes the checkpoint of a new build; its owner makes the table.
func begin(ctx context.Context, tx pgx.Tx, c *projection.Compiled, ask Rebuild) error {
	builds, err := lockName(ctx, tx, c.Name)
	if err != nil {
		return err
	}
	number, serving := 1, false
	for _, b := range builds {
		serving = serving || b.state == stateServing
		if b.version != c.Version {
			continue
		}
		number = max(number, b.build+1)
		switch {
		case !b.unfinished():
		case b.problem == "" && b.definition == c.Table.Definition():
			const join = `update projection.checkpoint set hold = $4, parks = parks or $5, generation = generation + 1
where name = $1 and version = $2 and build = $3`
			_, err := tx.Exec(ctx, join, b.name, b.version, b.build, ask.Hold, ask.Park)
			return err
		default:
			if err := discard(ctx, tx, b.buildKey, ask.Actor); err != nil {
				return err
			}
		}
	}
	tag, err := tx.Exec(ctx, newBuildSQL, c.Name, c.Version, number, c.Table.Definition(), ask.Hold, ask.Park || !serving, ask.Actor)
	if err == nil && tag.RowsAffected() == 0 {
		return begin(ctx, tx, c, ask) // somebody else has begun this build meanwhile: the next look sees it
	}
	return err
}

// Abandoned is a build that Abandon has dropped.
type Abandoned struct {
	Version int    `json:"version"`
	Build   int    `json:"build"` // number within the version
	Stage   string `json:"stage"` // how far it was
}

const (
	// abandonLockSQL bounds the wait for what is done with a build at the moment: a batch, or the making of an index. Nobody
	// reads its table, so that nobody queues behind the wait.
	abandonLockSQL = "set local lock_timeout = '10s'"

	unfinishedLockSQL = `select ` + checkpointColumns + ` from projection.checkpoint where name = $1 and ` + unfinishedSQL + `
order by name, version, build for update`
)

// Abandon drops the builds of a projection that have never served, whatever their version and however far they are: also one
// that is held, or cannot go on. What serves and what is kept for the way back stay as they are. It returns a *domain.Rejection
// when no build is on its way, or when nothing serves yet, a *domain.NotFoundError for a projection that is not declared, and a
// *domain.UnavailableError when the database cannot do it now; then it has done nothing. It works from any process. A newer
// version that is abandoned is begun again by the next process of that version that starts.
func (r *Runner) Abandon(ctx context.Context, name, actor string) (dropped []Abandoned, err error) {
	if _, err := r.find(name); err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, abandonLockSQL); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, unfinishedLockSQL, name)
		if err != nil {
			return err
		}
		builds, err := pgx.CollectRows(rows, scanCheckpoint)
		if err != nil {
			return err
		}
		if len(builds) == 0 {
			return domain.Reject("projection-without-build", "no build of %s is on its way: what serves, and what is kept for the way back, is not abandoned", name)
		}
		serving := false
		const sql = "select exists (select from projection.checkpoint where name = $1 and state = 'serving')"
		if err := tx.QueryRow(ctx, sql, name).Scan(&serving); err != nil {
			return err
		}
		if !serving {
			return domain.Reject("projection-not-serving", "nothing of %s serves yet: its first build cannot be abandoned", name)
		}
		for _, b := range builds {
			if err := discard(ctx, tx, b.buildKey, actor); err != nil {
				return err
			}
			dropped = append(dropped, Abandoned{b.version, b.build, b.state})
		}
		return r.step(stepDrop)
	})
	if err != nil {
		return nil, unavailable(ctx, fmt.Errorf("abandon the build of %s: %w", name, err))
	}
	for _, b := range dropped {
		r.log.InfoContext(ctx, "build abandoned", "projection", name, "version", b.Version, "build", b.Build, "stage", b.Stage, "actor", actor)
	}
	return dropped, r.step(stepDropped)
}
