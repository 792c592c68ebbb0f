package runner

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/projections/runner/fault"
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
	builds := r.builds()
	for ctx.Err() == nil {
		wait := r.opts.Sweep
		names, versions := t.owned()
		left, err := builds.SwitchReady(ctx, names, versions, t.epoch)
		if err == nil {
			err = builds.Sweep(ctx)
		}
		if left || err != nil {
			wait = min(wait, r.opts.Heartbeat)
		}
		switch {
		case err == nil:
			r.health(keeperHealth, nil)
		case ctx.Err() == nil:
			_, class := fault.Classify(err)
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
