package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// visibility tells how soon rows reflect commands.
func (b *bench) visibility(ctx context.Context) error {
	l, err := b.load(ctx)
	if err != nil {
		return err
	}
	accepted, visible, err := l.follow(ctx, b.rate, b.visible)
	if err != nil {
		return err
	}
	t := table{head: []string{fmt.Sprintf("at %.0f commands a second", accepted.rate()), "p50", "p99", "ratio of p50"}}
	for _, line := range []struct {
		name string
		load load
	}{{"command sent, until its receipt", accepted}, {"receipt, until the row is read back", visible}} {
		t.add(line.name, millis(line.load.quantile(.5)), millis(line.load.quantile(.99)), fmt.Sprintf("%.1f", float64(line.load.quantile(.5))/float64(accepted.quantile(.5))))
	}
	t.print(b.out)
	fmt.Fprintf(b.out, "\nThe row is read with the receipt's position as minPosition: until all read models have committed it, the reading itself included.\n")
	return nil
}

// follow submits commands at a fixed rate and reads each one's row back.
func (s *server) follow(ctx context.Context, perSecond int, d time.Duration) (accepted, visible load, err error) {
	ids, err := s.customers()
	if err != nil {
		return accepted, visible, err
	}
	clients, err := s.dialAll(writers)
	if err != nil {
		return accepted, visible, err
	}
	defer closeAll(clients)

	var mu sync.Mutex
	began := make(chan time.Time, writers)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(began)
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for end := time.Now().Add(d); time.Now().Before(end); {
			select {
			case at := <-tick.C:
				select {
				case began <- at:
				case <-ctx.Done():
					return ctx.Err()
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for w, c := range clients {
		group.Go(func() error {
			for at := range began {
				id := ids[(w*7+at.Nanosecond())%len(ids)]
				body := fmt.Appendf(nil, `{"customerId":%q,"channel":"phone","direction":"inbound","subject":"Delivery date","outcome":"reached"}`, id)
				answer, err := c.post("/v1/interactions", uuid.NewString(), body)
				if err != nil {
					return err
				}
				var got receipt
				if err := json.Unmarshal(answer, &got); err != nil {
					return err
				}
				returned := time.Now()
				if _, err := c.get(fmt.Sprintf("/v1/interactions/%s?minPosition=%s", got.ID, got.Position)); err != nil {
					return err
				}
				seen := time.Now()
				mu.Lock()
				accepted.latencies = append(accepted.latencies, returned.Sub(at))
				visible.latencies = append(visible.latencies, seen.Sub(returned))
				mu.Unlock()
			}
			return nil
		})
	}
	start := time.Now()
	err = group.Wait()
	accepted.took, visible.took = time.Since(start), time.Since(start)
	slices.Sort(accepted.latencies)
	slices.Sort(visible.latencies)
	return accepted, visible, err
}
