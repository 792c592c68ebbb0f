package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
)

// serverGOGC is the value that rapport serve sets for itself when the environment does not name one.
const serverGOGC = 100

// commandGoal is the share of the bare appends that commands over HTTP are to reach.
const commandGoal = 0.5

// commandRig drives commands against a server.
type commandRig struct {
	server  *server
	clients []*client

	mu        sync.Mutex
	customers []domain.ID
	last      domain.Position
}

func newCommandRig(s *server) (*commandRig, error) {
	clients, err := s.dialAll(writers)
	return &commandRig{server: s, clients: clients}, err
}

func (r *commandRig) note(answer []byte, created bool) error {
	var got receipt
	if err := json.Unmarshal(answer, &got); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if created {
		r.customers = append(r.customers, got.ID)
	}
	if r.last.Before(got.Position) {
		r.last = got.Position
	}
	return nil
}

func (r *commandRig) create(_ context.Context, worker int) error {
	body := fmt.Appendf(nil, `{"kind":"company","name":"Customer %d","legalName":"Customer Limited","industry":"retail","region":"West","owner":"ann","source":"bench","tags":["key account"]}`, rand.IntN(1e6))
	answer, err := r.clients[worker].post("/v1/customers", uuid.NewString(), body)
	if err != nil {
		return err
	}
	return r.note(answer, true)
}

func (r *commandRig) change(_ context.Context, worker int) error {
	r.mu.Lock()
	id := r.customers[rand.IntN(len(r.customers))]
	r.mu.Unlock()
	body := fmt.Appendf(nil, `{"website":"https://example.org/%d"}`, rand.Uint32())
	answer, err := r.clients[worker].post("/v1/customers/"+string(id)+"/update-profile", uuid.NewString(), body)
	if err != nil {
		return err
	}
	return r.note(answer, false)
}

// slice applies one kind of load and waits until the read models have caught up, so that slices do not disturb each other.
func (r *commandRig) slice(ctx context.Context, d time.Duration, do func(context.Context, int) error) (load, time.Duration, error) {
	l, err := closedLoop(ctx, len(r.clients), d, do)
	if err != nil {
		return l, 0, err
	}
	behind, err := r.server.drained(ctx, r.last)
	return l, behind, err
}

// comparison is what one setting of the server reaches beside bare appends.
type comparison struct {
	appends, create, change load
	behind                  time.Duration // longest time that read models needed to catch up after a slice
}

// compare measures appends, creating and changing in turns.
func (b *bench) compare(ctx context.Context, name string, rounds int, environment ...string) (c comparison, err error) {
	appending, err := b.newAppendRig(ctx, name+"-node")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, appending.Close()) }()
	s, err := b.serve(ctx, name, environment...)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	commanding, err := newCommandRig(s)
	if err != nil {
		return c, err
	}
	defer closeAll(commanding.clients)

	if _, err := appending.load(ctx, writers, warmUp); err != nil {
		return c, err
	}
	for _, do := range []func(context.Context, int) error{commanding.create, commanding.change} {
		if _, _, err := commanding.slice(ctx, warmUp, do); err != nil {
			return c, err
		}
	}
	for range rounds {
		l, err := appending.load(ctx, writers, b.slice)
		if err != nil {
			return c, err
		}
		c.appends = c.appends.join(l)
		for _, m := range []struct {
			into *load
			do   func(context.Context, int) error
		}{{&c.create, commanding.create}, {&c.change, commanding.change}} {
			l, behind, err := commanding.slice(ctx, b.slice, m.do)
			if err != nil {
				return c, err
			}
			*m.into = m.into.join(l)
			c.behind = max(c.behind, behind)
		}
	}
	return c, nil
}

func (b *bench) commands(ctx context.Context) error {
	c, err := b.compare(ctx, "commands", b.rounds)
	if err != nil {
		return err
	}
	t := table{head: []string{fmt.Sprintf("%d connections", writers), "per second", "p50", "p99", "share of appends", fmt.Sprintf("goal %s", percent(commandGoal))}}
	for _, line := range []struct {
		name string
		load load
	}{{"bare appends of one event", c.appends}, {"create: POST /v1/customers", c.create}, {"change: POST /v1/customers/{id}/update-profile", c.change}} {
		share := line.load.rate() / c.appends.rate()
		t.add(line.name, rate(line.load.rate()), millis(line.load.quantile(.5)), millis(line.load.quantile(.99)), percent(share), verdict(share, commandGoal))
	}
	t.rows[0][5] = ""
	t.print(b.out)
	fmt.Fprintf(b.out, "\nThe three take turns of %s, %d times. The server is the real binary with its projectors at work, which the bare appends do not feed; "+
		"after each turn they needed at most %s to catch up.\n", b.slice, b.rounds, secs(c.behind))
	return b.collect(ctx)
}

// collect compares settings of the garbage collector.
func (b *bench) collect(ctx context.Context) error {
	if len(b.gogc) == 0 {
		return nil
	}
	t := table{head: []string{"GOGC of the server", "create per second", "change per second", "create p99", "change p99", "against the first"}}
	var first float64
	for _, value := range b.gogc {
		b.say("GOGC=%d", value)
		c, err := b.compare(ctx, "gogc-"+strconv.Itoa(value), 1, "GOGC="+strconv.Itoa(value))
		if err != nil {
			return err
		}
		sum := c.create.rate()/c.appends.rate() + c.change.rate()/c.appends.rate() // relative to what the disk gave at the time
		if first == 0 {
			first = sum
		}
		t.add(strconv.Itoa(value), rate(c.create.rate()), rate(c.change.rate()), millis(c.create.quantile(.99)), millis(c.change.quantile(.99)), fmt.Sprintf("%.2f", sum/first))
	}
	fmt.Fprintln(b.out)
	t.print(b.out)
	fmt.Fprintf(b.out, "\nThe last column sets the share of bare appends against that of the first line. Unless GOGC is in its environment, the server runs with %d.\n", serverGOGC)
	return nil
}
