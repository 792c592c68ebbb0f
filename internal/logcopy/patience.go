package logcopy

import (
	"context"
	"errors"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/retry"
)

// A cluster changes its leader, a node is started again, a connection breaks: what may pass is tried again, maxTries times
// without getting any further. With the pauses between them that is about two minutes.
const (
	maxTries   = 30
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// pause waits before the n-th repetition. It returns the error of a context that has ended.
type pause func(ctx context.Context, n int) error

// wait is the pause outside of tests: twice as long each time, up to lastPause, with a part that is drawn.
func wait(ctx context.Context, n int) error {
	long := lastPause
	if n < 16 { // beyond, the shift would say nothing
		long = min(firstPause<<n, lastPause)
	}
	if !retry.Sleep(ctx, retry.Spread(long)) {
		return ctx.Err()
	}
	return nil
}

// advanced is a failure after some progress.
type advanced struct{ error }

// Unwrap returns the failure.
func (a advanced) Unwrap() error { return a.error }

// patiently does something again and again while it fails with what may pass.
func patiently(ctx context.Context, pause pause, do func() error) error {
	for n := 0; ; n++ {
		err := do()
		var passing *domain.UnavailableError
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err == nil || !errors.As(err, &passing):
			return err
		}
		if errors.As(err, new(advanced)) {
			n = 0
		}
		if n == maxTries {
			return err
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}
