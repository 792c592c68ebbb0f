package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/retry"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// lockTimeoutSQL bounds the wait for the lock of a view or table. Readers queue behind whoever waits for it, so the wait is
// short, and is tried again later.
const lockTimeoutSQL = "set local lock_timeout = '300ms'"

// lockTimeout reports whether a lock could not be had in time.
func lockTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
}

// errBehind says that a build has not all that the one that serves has: to switch would take readers back in time.
var errBehind = errors.New("it has not caught up with the build that serves")

// errUnknownHistory says that a build was not compared with the log yet.
var errUnknownHistory = errors.New("nobody has asked whether its rows come from this log")

const (
	// serveSQL and standSQL are the two halves of a switch. What is replaced by something newer is kept for the time of grace; what
	// is rolled back stays until it is replaced.
	serveSQL = `update projection.checkpoint set state = 'serving', served_at = clock_timestamp(), drop_at = null, hold = false, updated_at = now(),
	generation = generation + 1 where name = $1 and version = $2 and build = $3`
	standSQL = `update projection.checkpoint set state = 'standby', drop_at = $4, updated_at = now(), generation = generation + 1
where name = $1 and version = $2 and build = $3`
	// supersedeSQL lets go of what served before that: there is one way back.
	supersedeSQL = `update projection.checkpoint set drop_at = now() where name = $1 and state = 'standby' and (version, build) <> ($2, $3)`
)

// Turn points views at builds that are ready, all in one transaction. epoch is that of the owner, or 0 when somebody else asks.
func (k *Keeper) Turn(ctx context.Context, targets []Key, epoch int64) error {
	for _, key := range targets {
		if err := k.Admit(ctx, key); err != nil {
			return err
		}
	}
	err := pgx.BeginFunc(ctx, k.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTimeoutSQL); err != nil {
			return err
		}
		for _, key := range targets {
			builds, err := lockName(ctx, tx, key.Name)
			if err != nil {
				return err
			}
			target := slices.IndexFunc(builds, func(c Checkpoint) bool { return c.Key == key })
			if target < 0 || builds[target].State != Ready || epoch != 0 && builds[target].Epoch != epoch {
				return fault.ErrRegroup
			}
			if err := k.point(ctx, tx, builds, builds[target], true); err != nil {
				return err
			}
		}
		return k.Step(StepSwitch)
	})
	if err != nil {
		return err
	}
	for _, key := range targets {
		k.Logger.InfoContext(ctx, "switched", "projection", key.Name, "version", key.Version, "build", key.Number)
	}
	return k.Step(StepSwitched)
}

func lockName(ctx context.Context, tx pgx.Tx, name string) ([]Checkpoint, error) {
	rows, err := tx.Query(ctx, lockNameSQL, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, Scan)
}

// point makes a build the one that serves. All builds of the projection are locked.
func (k *Keeper) point(ctx context.Context, tx pgx.Tx, builds []Checkpoint, target Checkpoint, forward bool) error {
	for _, serving := range builds {
		if serving.State != Serving {
			continue
		}
		if target.Event.Position.Before(serving.Event.Position) && serving.Problem == "" && serving.LogID == target.LogID {
			return errBehind
		}
		var until *time.Time
		if forward {
			until = new(time.Now().Add(k.Grace))
		}
		if _, err := tx.Exec(ctx, standSQL, serving.Name, serving.Version, serving.Number, until); err != nil {
			return err
		}
		if forward {
			if _, err := tx.Exec(ctx, supersedeSQL, serving.Name, serving.Version, serving.Number); err != nil {
				return err
			}
		}
	}
	c, err := k.Find(target.Name)
	if err != nil {
		return err
	}
	if err := PointView(ctx, tx, target.Key, c.Doc); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, serveSQL, target.Name, target.Version, target.Number); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, NotifySQL, target.At.String())
	return err
}

// switchTimeout bounds how long Switch and Rollback try.
const switchTimeout = 10 * time.Second

// Switch points the view of a projection at the build that is ready: the one that Rebuild was asked to hold. It returns a
// *domain.Rejection when there is none, and works from any process.
func (k *Keeper) Switch(ctx context.Context, name, actor string) error {
	return k.choose(ctx, name, actor, true, func(builds []Checkpoint) (Checkpoint, error) {
		for _, c := range slices.Backward(builds) {
			if c.State == Ready && c.Problem == "" {
				return c, nil
			}
		}
		return Checkpoint{}, domain.Reject("projection-not-ready", "no build of {projection} is ready to be switched to", name)
	})
}

// Rollback points the view of a projection back at the build that served before, which was kept up to date since. It returns a
// *domain.Rejection when there is none, or it cannot be kept up to date any more. It works from any process.
func (k *Keeper) Rollback(ctx context.Context, name, actor string) error {
	return k.choose(ctx, name, actor, false, func(builds []Checkpoint) (Checkpoint, error) {
		standing := slices.DeleteFunc(slices.Clone(builds), func(c Checkpoint) bool { return c.State != Standby || c.Problem != "" })
		if len(standing) == 0 {
			return Checkpoint{}, domain.Reject("projection-without-predecessor", "no earlier build of {projection} is kept", name)
		}
		return slices.MaxFunc(standing, func(a, b Checkpoint) int { return cmp.Compare(a.Served, b.Served) }), nil
	})
}

// choose switches to a build in one transaction, and tries again for a while when it has not caught up or readers hold the view.
func (k *Keeper) choose(ctx context.Context, name, actor string, forward bool, which func([]Checkpoint) (Checkpoint, error)) error {
	if _, err := k.Find(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, switchTimeout)
	defer cancel()
	var admitted Key
	for {
		var target Checkpoint
		err := pgx.BeginFunc(ctx, k.Pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, lockTimeoutSQL); err != nil {
				return err
			}
			builds, err := lockName(ctx, tx, name)
			if err != nil {
				return err
			}
			if target, err = which(builds); err != nil {
				return err
			}
			if target.Key != admitted {
				return errUnknownHistory
			}
			if err := k.point(ctx, tx, builds, target, forward); err != nil {
				return err
			}
			return k.Step(StepSwitch)
		})
		switch {
		case err == nil:
			k.Logger.InfoContext(ctx, "switched", "projection", name, "version", target.Version, "build", target.Number, "actor", actor)
			return k.Step(StepSwitched)
		case errors.Is(err, errUnknownHistory): // the log is not asked while builds are locked
			if err := k.Admit(ctx, target.Key); err != nil {
				return fault.Unavailable(ctx, fmt.Errorf("switch %s: %w", name, err))
			}
			admitted = target.Key
		case errors.Is(err, errBehind):
			if !retry.Sleep(ctx, k.Retry) {
				return domain.Reject("projection-behind", "{projection} has not caught up with the build that serves", target.Key)
			}
		case lockTimeout(err):
			if !retry.Sleep(ctx, k.Retry) {
				return &domain.UnavailableError{What: "view of " + name, Err: err}
			}
		default:
			return fault.Unavailable(ctx, fmt.Errorf("switch %s: %w", name, err))
		}
	}
}
