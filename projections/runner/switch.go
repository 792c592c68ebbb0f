package runner

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

// turn points views at builds that are ready, all in one transaction. epoch is that of the owner, or 0 when somebody else asks.
func (r *Runner) turn(ctx context.Context, targets []buildKey, epoch int64) error {
	for _, key := range targets {
		if err := r.admit(ctx, key); err != nil {
			return err
		}
	}
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTimeoutSQL); err != nil {
			return err
		}
		for _, key := range targets {
			builds, err := lockName(ctx, tx, key.name)
			if err != nil {
				return err
			}
			target := slices.IndexFunc(builds, func(c checkpoint) bool { return c.buildKey == key })
			if target < 0 || builds[target].state != stateReady || epoch != 0 && builds[target].epoch != epoch {
				return errRegroup
			}
			if err := r.point(ctx, tx, builds, builds[target], true); err != nil {
				return err
			}
		}
		return r.step(stepSwitch)
	})
	if err != nil {
		return err
	}
	for _, key := range targets {
		r.log.InfoContext(ctx, "switched", "projection", key.name, "version", key.version, "build", key.build)
	}
	return r.step(stepSwitched)
}

func lockName(ctx context.Context, tx pgx.Tx, name string) ([]checkpoint, error) {
	rows, err := tx.Query(ctx, lockNameSQL, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanCheckpoint)
}

// point makes a build the one that serves. All builds of the projection are locked.
func (r *Runner) point(ctx context.Context, tx pgx.Tx, builds []checkpoint, target checkpoint, forward bool) error {
	for _, serving := range builds {
		if serving.state != stateServing {
			continue
		}
		if target.event.Position.Before(serving.event.Position) && serving.problem == "" && serving.logID == target.logID {
			return errBehind
		}
		var until *time.Time
		if forward {
			until = new(time.Now().Add(r.opts.Grace))
		}
		if _, err := tx.Exec(ctx, standSQL, serving.name, serving.version, serving.build, until); err != nil {
			return err
		}
		if forward {
			if _, err := tx.Exec(ctx, supersedeSQL, serving.name, serving.version, serving.build); err != nil {
				return err
			}
		}
	}
	c, err := r.find(target.name)
	if err != nil {
		return err
	}
	if err := pointView(ctx, tx, target.buildKey, c.Doc); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, serveSQL, target.name, target.version, target.build); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, notifySQL, target.at.String())
	return err
}

// switchTimeout bounds how long Switch and Rollback try.
const switchTimeout = 10 * time.Second

// Switch points the view of a projection at the build that is ready: the one that Rebuild was asked to hold. It returns a
// *domain.Rejection when there is none, and works from any process.
func (r *Runner) Switch(ctx context.Context, name, actor string) error {
	return r.choose(ctx, name, actor, true, func(builds []checkpoint) (checkpoint, error) {
		for _, c := range slices.Backward(builds) {
			if c.state == stateReady && c.problem == "" {
				return c, nil
			}
		}
		return checkpoint{}, domain.Reject("projection-not-ready", "no build of %s is ready to be switched to", name)
	})
}

// Rollback points the view of a projection back at the build that served before, which was kept up to date since. It returns a
// *domain.Rejection when there is none, or it cannot be kept up to date any more. It works from any process.
func (r *Runner) Rollback(ctx context.Context, name, actor string) error {
	return r.choose(ctx, name, actor, false, func(builds []checkpoint) (checkpoint, error) {
		standing := slices.DeleteFunc(slices.Clone(builds), func(c checkpoint) bool { return c.state != stateStandby || c.problem != "" })
		if len(standing) == 0 {
			return checkpoint{}, domain.Reject("projection-without-predecessor", "no earlier build of %s is kept", name)
		}
		return slices.MaxFunc(standing, func(a, b checkpoint) int { return cmp.Compare(a.served, b.served) }), nil
	})
}

// choose switches to a build in one transaction, and tries again for a while when it has not caught up or readers hold the view.
func (r *Runner) choose(ctx context.Context, name, actor string, forward bool, which func([]checkpoint) (checkpoint, error)) error {
	if _, err := r.find(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, switchTimeout)
	defer cancel()
	var admitted buildKey
	for {
		var target checkpoint
		err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
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
			if target.buildKey != admitted {
				return errUnknownHistory
			}
			if err := r.point(ctx, tx, builds, target, forward); err != nil {
				return err
			}
			return r.step(stepSwitch)
		})
		switch {
		case err == nil:
			r.log.InfoContext(ctx, "switched", "projection", name, "version", target.version, "build", target.build, "actor", actor)
			return r.step(stepSwitched)
		case errors.Is(err, errUnknownHistory): // the log is not asked while builds are locked
			if err := r.admit(ctx, target.buildKey); err != nil {
				return unavailable(ctx, fmt.Errorf("switch %s: %w", name, err))
			}
			admitted = target.buildKey
		case errors.Is(err, errBehind):
			if !retry.Sleep(ctx, r.opts.Retry) {
				return domain.Reject("projection-behind", "%s has not caught up with the build that serves", target.buildKey)
			}
		case lockTimeout(err):
			if !retry.Sleep(ctx, r.opts.Retry) {
				return &domain.UnavailableError{What: "view of " + name, Err: err}
			}
		default:
			return unavailable(ctx, fmt.Errorf("switch %s: %w", name, err))
		}
	}
}
