package api

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// ReadyTimeout is when /readyz answers, whatever hangs: a check that has not answered by then is failing. It is well
	// within the second after which those who ask give up.
	ReadyTimeout = 750 * time.Millisecond
	// probeTimeout ends a check that hangs, so that the next one begins anew, over another connection if need be.
	probeTimeout = 3 * time.Second
)

// watch asks one probe, once at a time, however many want to know: whoever comes while a check is under way shares its answer.
// So a store that hangs holds one goroutine, not one for each request.
type watch struct {
	Probe
	running *sync.WaitGroup // of all checks

	mu    sync.Mutex
	round *round // nil while no check is under way
}

// round is one check.
type round struct {
	done chan struct{} // closed when err is there
	err  error
}

// ask returns what the probe says, or *silentError when ctx ends first; the check goes on then.
func (w *watch) ask(ctx context.Context) error {
	r := w.join()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return &silentError{w.Name}
	}
}

// join returns the check under way, which it begins when there is none.
func (w *watch) join() *round {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.round == nil {
		r := &round{done: make(chan struct{})}
		w.round = r
		w.running.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
			defer cancel()
			r.err = w.Check(ctx)
			w.mu.Lock()
			w.round = nil
			w.mu.Unlock()
			close(r.done)
		})
	}
	return w.round
}

// silentError says that a check has not answered in time.
type silentError struct{ name string }

func (e *silentError) Error() string {
	return fmt.Sprintf("%s: no answer within %s", e.name, ReadyTimeout)
}
