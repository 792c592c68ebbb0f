package main

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// load is what a number of clients got done.
type load struct {
	took      time.Duration
	latencies []time.Duration // sorted
}

// closedLoop has workers call do back to back for a time. The first error ends it.
func closedLoop(ctx context.Context, workers int, d time.Duration, do func(ctx context.Context, worker int) error) (load, error) {
	each := make([][]time.Duration, workers)
	start := time.Now()
	end := start.Add(d)
	group, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		group.Go(func() error {
			for before := start; before.Before(end); {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(ctx, w); err != nil {
					return err
				}
				after := time.Now()
				each[w] = append(each[w], after.Sub(before))
				before = after
			}
			return nil
		})
	}
	err := group.Wait()
	l := load{took: time.Since(start), latencies: slices.Concat(each...)}
	slices.Sort(l.latencies)
	return l, err
}

// join adds what was got done in another slice of the same load.
func (l load) join(m load) load {
	all := load{took: l.took + m.took, latencies: slices.Concat(l.latencies, m.latencies)}
	slices.Sort(all.latencies)
	return all
}

// rate is per second.
func (l load) rate() float64 {
	if l.took == 0 {
		return 0
	}
	return float64(len(l.latencies)) / l.took.Seconds()
}

// quantile returns the latency that the share q of the calls did not exceed.
func (l load) quantile(q float64) time.Duration {
	if len(l.latencies) == 0 {
		return 0
	}
	return l.latencies[min(int(q*float64(len(l.latencies))), len(l.latencies)-1)]
}
