package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
)

// Log is what a keeper needs of the event log.
type Log interface {
	Head(ctx context.Context) (domain.Mark, error)
	Check(ctx context.Context, m domain.Mark) error
	ID(ctx context.Context) (string, error)
}

// Keeper does what is done with builds beside filling them, from any process. All fields are required. Its methods are safe for
// concurrent use.
type Keeper struct {
	Pool        *pgxpool.Pool
	Log         Log
	Projections []*projection.Compiled // declared
	Grace       time.Duration          // how long the build that was switched away from is kept up to date
	Alive       time.Duration          // how long an owner may be silent and still count as working
	Retry       time.Duration          // between attempts of Switch and Rollback
	Logger      *slog.Logger
	Step        func(point string) error // called at the points of this package; an error makes what is done there fail
}

// Find returns the declared projection of a name, or a *domain.NotFoundError.
func (k *Keeper) Find(name string) (*projection.Compiled, error) {
	var names []string
	for _, c := range k.Projections {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return nil, fmt.Errorf("%w; there are %s", &domain.NotFoundError{Kind: "projection", ID: name}, strings.Join(names, ", "))
}

const readySQL = `select ` + Columns + ` from projection.checkpoint where ` + OfVersions + ` and state = 'ready' and not hold and problem = ''
order by name, version, build`

// SwitchReady switches to the builds of some versions that are ready and have the epoch of their owner, and reports whether some have to wait. Those of projections of which
// nothing serves yet become visible together: their tables show the same moment.
func (k *Keeper) SwitchReady(ctx context.Context, names []string, versions []int32, epoch int64) (left bool, err error) {
	rows, err := k.Pool.Query(ctx, readySQL, names, versions)
	if err != nil {
		return false, err
	}
	ready, err := pgx.CollectRows(rows, Scan)
	if err != nil || len(ready) == 0 {
		return false, err
	}
	var first []Key
	for _, c := range ready {
		serving := false
		if err := k.Pool.QueryRow(ctx, "select exists (select from projection.checkpoint where name = $1 and state = 'serving')", c.Name).Scan(&serving); err != nil {
			return true, err
		}
		if !serving {
			first = append(first, c.Key)
			continue
		}
		err := k.Turn(ctx, []Key{c.Key}, epoch)
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
	if waiting, err := k.together(ctx, names, versions); err != nil || waiting {
		return true, err
	}
	if err := k.show(ctx, first); err != nil {
		return true, err
	}
	if err := k.Turn(ctx, first, epoch); err != nil {
		return true, err
	}
	return left, nil
}

// show makes the views of first builds. Sessions learn of a new view a moment after its transaction can be seen, so that the
// views come before what says that they are there.
func (k *Keeper) show(ctx context.Context, builds []Key) error {
	return pgx.BeginFunc(ctx, k.Pool, func(tx pgx.Tx) error {
		for _, key := range builds {
			c, err := k.Find(key.Name)
			if err == nil {
				err = PointView(ctx, tx, key, c.Doc)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// together reports whether other first builds are on their way: to wait for them is to show one moment.
func (k *Keeper) together(ctx context.Context, names []string, versions []int32) (waiting bool, err error) {
	const sql = `select name, version, build from projection.checkpoint c where ` + OfVersions + ` and ` + UnfinishedSQL + ` and problem = '' and not hold
	and state <> 'ready' and not exists (select from projection.checkpoint s where s.name = c.name and s.state = 'serving')`
	rows, err := k.Pool.Query(ctx, sql, names, versions)
	if err != nil {
		return false, err
	}
	others, err := pgx.CollectRows(rows, ScanKey)
	return len(others) > 0, err
}

const (
	// leftoverSQL marks what nobody works on and nobody here knows how to: projections that are not declared any more, and
	// unfinished builds of other versions. What serves goes on doing so until it is dropped or replaced.
	leftoverSQL = `update projection.checkpoint c set drop_at = now() + $4::interval, problem = '',
	state = case when state in ('serving', 'standby') then 'retired' else state end
where drop_at is null and not ` + OfVersions + ` and (name <> all($3::text[]) or ` + UnfinishedSQL + `)
	and not exists (select from projection.owner o where o.name = c.name and o.version = c.version and o.heartbeat_at > clock_timestamp() - $5::interval)`

	droppableSQL = `select name, version, build from projection.checkpoint where drop_at <= now() and state <> 'serving' order by name, version, build`

	dropLockSQL = `select from projection.checkpoint
where name = $1 and version = $2 and build = $3 and drop_at <= now() and state <> 'serving' for update`
)

// Sweep marks leftovers and drops the builds of which the time is over.
func (k *Keeper) Sweep(ctx context.Context) error {
	var names []string
	var versions []int32
	for _, c := range k.Projections {
		names, versions = append(names, c.Name), append(versions, int32(c.Version))
	}
	if _, err := k.Pool.Exec(ctx, leftoverSQL, names, versions, names, k.Grace, k.Alive); err != nil {
		return err
	}
	rows, err := k.Pool.Query(ctx, droppableSQL)
	if err != nil {
		return err
	}
	due, err := pgx.CollectRows(rows, ScanKey)
	if err != nil {
		return err
	}
	for _, key := range due {
		if err := k.drop(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a build of which the time is over: its table, its park and its checkpoint, in one transaction.
func (k *Keeper) drop(ctx context.Context, key Key) error {
	err := pgx.BeginFunc(ctx, k.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTimeoutSQL); err != nil {
			return err
		}
		if tag, err := tx.Exec(ctx, dropLockSQL, key.Name, key.Version, key.Number); err != nil || tag.RowsAffected() == 0 {
			return err // when there is none somebody was faster, or it serves again
		}
		if err := discard(ctx, tx, key, ""); err != nil {
			return err
		}
		k.Logger.InfoContext(ctx, "build dropped", "projection", key.Name, "version", key.Version, "build", key.Number)
		return k.Step(StepDrop)
	})
	if err != nil {
		return err
	}
	return k.Step(StepDropped)
}

const auditSQL = `insert into projection.parked_audit (name, version, build, stream, action, first_revision, last_revision, events, actor)
select name, version, build, stream, 'rebuilt', min(revision), max(revision), count(*), $4
from projection.parked_event where name = $1 and version = $2 and build = $3 group by name, version, build, stream`

// discard removes a build whose row is locked. actor is who asked for that, for the audit of what was parked.
func discard(ctx context.Context, tx pgx.Tx, key Key, actor string) error {
	if _, err := tx.Exec(ctx, auditSQL, key.Name, key.Version, key.Number, actor); err != nil {
		return err
	}
	for _, table := range []string{"parked_event", "parked_stream", "checkpoint"} {
		sql := "delete from projection." + table + " where name = $1 and version = $2 and build = $3"
		if _, err := tx.Exec(ctx, sql, key.Name, key.Version, key.Number); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "drop table if exists projection."+key.Table()+" cascade")
	return err
}
