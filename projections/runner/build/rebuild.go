package build

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// Ask says which projections are to be built anew, and how.
type Ask struct {
	Projections []string
	Actor       string // who asks
	Hold        bool   // leave the switch to Keeper.Switch
	Park        bool   // park what cannot be applied, instead of giving up there
}

const newBuildSQL = `insert into projection.checkpoint (name, version, build, definition, hold, parks, actor) values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing`

// Rebuild begins new builds of projections beside those that serve: the tables that readers see stay as they are until the
// new ones are switched to. It works while a runner runs, in this process or another; else the next that runs does the
// work. Projections asked for together share one scan of the log. One that is being built already, and is not halted, goes
// on. It returns a *domain.NotFoundError for a projection that is not declared, and a *domain.UnavailableError when the database
// cannot do it now; then it has done nothing.
func (k *Keeper) Rebuild(ctx context.Context, ask Ask) error {
	var list []*projection.Compiled
	for _, name := range ask.Projections {
		c, err := k.Find(name)
		if err != nil {
			return err
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *projection.Compiled) int { return strings.Compare(a.Name, b.Name) })
	return fault.Unavailable(ctx, pgx.BeginFunc(ctx, k.Pool, func(tx pgx.Tx) error {
		for _, c := range slices.Compact(list) {
			if err := Begin(ctx, tx, c, ask); err != nil {
				return fmt.Errorf("rebuild %s: %w", c, err)
			}
		}
		return nil
	}))
}

// Begin makes the checkpoint of a new build, as Keeper.Rebuild does for each projection; its owner makes the table.
func Begin(ctx context.Context, tx pgx.Tx, c *projection.Compiled, ask Ask) error {
	builds, err := lockName(ctx, tx, c.Name)
	if err != nil {
		return err
	}
	number, serving := 1, false
	for _, b := range builds {
		serving = serving || b.State == Serving
		if b.Version != c.Version {
			continue
		}
		number = max(number, b.Number+1)
		switch {
		case !b.Unfinished():
		case b.Problem == "" && b.Definition == c.Table.Definition():
			const join = `update projection.checkpoint set hold = $4, parks = parks or $5, generation = generation + 1
where name = $1 and version = $2 and build = $3`
			_, err := tx.Exec(ctx, join, b.Name, b.Version, b.Number, ask.Hold, ask.Park)
			return err
		default:
			if err := discard(ctx, tx, b.Key, ask.Actor); err != nil {
				return err
			}
		}
	}
	tag, err := tx.Exec(ctx, newBuildSQL, c.Name, c.Version, number, c.Table.Definition(), ask.Hold, ask.Park || !serving, ask.Actor)
	if err == nil && tag.RowsAffected() == 0 {
		return Begin(ctx, tx, c, ask) // somebody else has begun this build meanwhile: the next look sees it
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

	unfinishedLockSQL = `select ` + Columns + ` from projection.checkpoint where name = $1 and ` + UnfinishedSQL + `
order by name, version, build for update`
)

// Abandon drops the builds of a projection that have never served, whatever their version and however far they are: also one
// that is held, or cannot go on. What serves and what is kept for the way back stay as they are. It returns a *domain.Rejection
// when no build is on its way, or when nothing serves yet, a *domain.NotFoundError for a projection that is not declared, and a
// *domain.UnavailableError when the database cannot do it now; then it has done nothing. It works from any process. A newer
// version that is abandoned is begun again by the next process of that version that starts.
func (k *Keeper) Abandon(ctx context.Context, name, actor string) (dropped []Abandoned, err error) {
	if _, err := k.Find(name); err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, k.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, abandonLockSQL); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, unfinishedLockSQL, name)
		if err != nil {
			return err
		}
		builds, err := pgx.CollectRows(rows, Scan)
		if err != nil {
			return err
		}
		if len(builds) == 0 {
			return domain.Reject("projection-without-build", "no build of {projection} is on its way: what serves, and what is kept for the way back, is not abandoned", name)
		}
		serving := false
		const sql = "select exists (select from projection.checkpoint where name = $1 and state = 'serving')"
		if err := tx.QueryRow(ctx, sql, name).Scan(&serving); err != nil {
			return err
		}
		if !serving {
			return domain.Reject("projection-not-serving", "nothing of {projection} serves yet: its first build cannot be abandoned", name)
		}
		for _, b := range builds {
			if err := discard(ctx, tx, b.Key, actor); err != nil {
				return err
			}
			dropped = append(dropped, Abandoned{b.Version, b.Number, b.State})
		}
		return k.Step(StepDrop)
	})
	if err != nil {
		return nil, fault.Unavailable(ctx, fmt.Errorf("abandon the build of %s: %w", name, err))
	}
	for _, b := range dropped {
		k.Logger.InfoContext(ctx, "build abandoned", "projection", name, "version", b.Version, "build", b.Build, "stage", b.Stage, "actor", actor)
	}
	return dropped, k.Step(StepDropped)
}
