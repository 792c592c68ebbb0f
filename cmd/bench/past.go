package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

const (
	buildPatience = 15 * time.Minute       // for all read models to be built from a large log
	buildPoll     = 100 * time.Millisecond // between looks at how builds stand
	recordEvents  = 1_000                  // of the record that is asked for as of the past
)

// aged is a server over a generated log, in parts g to j.
type aged struct {
	*server
	events        int // of the log, when the read models were first built
	opportunities int
	built         time.Duration // that the first build took
	effort        effort        // meanwhile
	head          domain.Position
	moments       []domain.Position // places of coldMoments events, spread over the log
	record        domain.ID         // a customer with recordEvents
}

// aged generates a log and has a server build its read models from it, once.
func (b *bench) aged(ctx context.Context) (*aged, error) {
	if b.past != nil {
		return b.past, nil
	}
	const name = "aged"
	a := &aged{}
	var err error
	b.say("generating %s events", grouped(int64(b.history)))
	err = b.extend(ctx, name, func(ctx context.Context, store *eventlog.Store) error {
		count := func(e entry) {
			a.events += len(e.events)
			if e.stream.Aggregate == opportunity.Aggregate.Name && e.expected == domain.NoStream {
				a.opportunities++
			}
		}
		if err := fill(ctx, store, b.seed, b.history, count); err != nil {
			return err
		}
		veteran, err := oldCustomer(b.seed, recordEvents)
		if err != nil {
			return err
		}
		count(veteran)
		done, ok := store.Append(ctx, veteran.stream, veteran.expected, veteran.events).(domain.Committed)
		if !ok {
			return errors.New("fill the log: the customer with many events was not written")
		}
		a.record, a.head = veteran.stream.ID, done.Position
		a.moments, err = spread(ctx, store, a.events, coldMoments)
		return err
	})
	if err != nil {
		return nil, err
	}
	b.say("building the read models of %s events", grouped(int64(a.events)))
	if a.server, err = b.start(ctx, name); err != nil {
		return nil, err
	}
	b.past = a
	stop := a.watch()
	a.built, err = a.settled(ctx)
	a.effort = stop()
	return a, err
}

// spread returns the places of n events, each in the middle of one n-th of a log of so many events.
func spread(ctx context.Context, store *eventlog.Store, events, n int) (places []domain.Position, err error) {
	passed, next := 0, 0
	middle := func(string) bool {
		passed++
		wanted := next < n && passed > events*(2*next+1)/(2*n)
		if wanted {
			next++
		}
		return wanted
	}
	for e, err := range store.ReadTypes(ctx, domain.Position{}, middle) {
		if err != nil {
			return nil, err
		}
		places = append(places, e.Position)
	}
	return places, nil
}

// extend writes into the log of a server that does not run.
func (b *bench) extend(ctx context.Context, name string, write func(context.Context, *eventlog.Store) error) (err error) {
	dir, err := b.folder(name)
	if err != nil {
		return err
	}
	node, err := esnode.Open(ctx, esnode.Options{Dir: filepath.Join(dir, "events"), Logger: quiet})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	log, err := eventlog.Dial(ctx, node.ConnectionString(), eventlog.WithLogger(quiet))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		return err
	}
	return write(ctx, eventlog.NewStore(log, registry))
}

// oldCustomer generates one customer of whom so many things were learned.
func oldCustomer(seed uint64, events int) (entry, error) {
	var out entry
	w := newWorld(^seed, events, func(e entry) error { out = e; return nil })
	var a account
	err := decide(w, customer.Aggregate, &a.record, w.registration(), 0)
	for n := 0; err == nil && len(a.pending) < events; n++ {
		err = decide(w, customer.Aggregate, &a.record, customer.UpdateProfile{Website: new(fmt.Sprintf("https://example.org/%d", n))}, 0)
	}
	if err == nil {
		err = write(w, customer.Aggregate, &a.record)
	}
	return out, err
}

// builds says what part of the read models is complete and up to date: all, when nothing is left to be done.
func (c *client) builds() (done bool, err error) {
	text, err := c.get("/v1/admin/projections")
	if err != nil {
		return false, err
	}
	var answer struct {
		Items []struct {
			State     string `json:"state"`
			Problem   string `json:"problem"`
			LagEvents int    `json:"lagEvents"`
			Builds    []struct {
				Stage   string `json:"stage"`
				Problem string `json:"problem"`
			} `json:"builds"`
		} `json:"items"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return false, err
	}
	done = len(answer.Items) > 0
	for _, p := range answer.Items {
		if p.Problem != "" {
			return false, errors.New(p.Problem)
		}
		done = done && p.State == "running" && p.LagEvents == 0
		for _, b := range p.Builds {
			if b.Problem != "" {
				return false, errors.New(b.Problem)
			}
			done = done && (b.Stage == "serving" || b.Stage == "standby" || b.Stage == "retired")
		}
	}
	return done, nil
}

// settled waits until all read models are built and up to date, and returns how long that took.
func (s *server) settled(ctx context.Context) (time.Duration, error) {
	c, err := s.dial()
	if err != nil {
		return 0, err
	}
	defer c.conn.Close()
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, buildPatience)
	defer cancel()
	for {
		done, err := c.builds()
		var status *statusError
		switch {
		case err == nil && done:
			return time.Since(start), nil
		case err != nil && !(errors.As(err, &status) && status.status == 503):
			return 0, err
		}
		select {
		case <-time.After(buildPoll):
		case <-ctx.Done():
			return 0, fmt.Errorf("the read models are not built: %w", ctx.Err())
		}
	}
}
