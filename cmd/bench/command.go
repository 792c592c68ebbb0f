package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
)

// serverGOGC is the value that rapport serve sets for itself when the environment does not name one.
const serverGOGC = 400

// commandGoal is the share of the bare appends that commands over HTTP are to reach.
const commandGoal = 0.5

// recentCustomers is how many customers are changed, the newest: dealings are with some at a time, not with all.
const recentCustomers = 5_000

// commandRig drives commands against a server.
type commandRig struct {
	server  *server
	clients []*client

	mu        sync.Mutex
	customers []string // their paths
}

func newCommandRig(s *server) (*commandRig, error) {
	clients, err := s.dialAll(writers)
	return &commandRig{server: s, clients: clients}, err
}

// last returns the position of the last command, by the last answer of each client: to decode every answer would cost the cores
// that are measured.
func (r *commandRig) last() (last domain.Position, err error) {
	for _, c := range r.clients {
		var got receipt
		if err := json.Unmarshal(c.answer.Bytes(), &got); err != nil {
			return last, err
		}
		if last.Before(got.Position) {
			last = got.Position
		}
	}
	return last, nil
}

// create registers a company with nothing that must be unique: one append.
func (r *commandRig) create(_ context.Context, worker int) error {
	return r.register(worker, rand.Uint64N(1e6), "")
}

// claim registers a company whose name is unique in its region: two appends, one after the other.
func (r *commandRig) claim(_ context.Context, worker int) error {
	return r.register(worker, rand.Uint64(), `"region":"West",`)
}

func (r *commandRig) register(worker int, number uint64, more string) error {
	body := fmt.Appendf(nil, `{"kind":"company","name":"Customer %d","legalName":"Customer Limited","industry":"retail",%s"owner":"ann","source":"bench","tags":["key account"]}`, number, more)
	c := r.clients[worker]
	if _, err := c.post("/v1/customers", uuid.NewString(), body); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.customers = append(r.customers, c.location)
	return nil
}

func (r *commandRig) change(_ context.Context, worker int) error {
	r.mu.Lock()
	recent := r.customers[max(0, len(r.customers)-recentCustomers):]
	path := recent[rand.IntN(len(recent))]
	r.mu.Unlock()
	body := fmt.Appendf(nil, `{"website":"https://example.org/%d"}`, rand.Uint32())
	_, err := r.clients[worker].post(path+"/update-profile", uuid.NewString(), body)
	return err
}

// comparison is what one setting of the server reaches beside bare appends.
type comparison struct {
	appends, create, claim, change             load
	appendsCPU, createCPU, claimCPU, changeCPU usage         // catching up included, when that is awaited
	behind                                     time.Duration // longest time that read models needed to catch up after a slice
}

// measure adds slices of appends, creating, claiming and changing in turns. After each slice it waits, when asked to, until the read
// models have caught up, so that slices do not disturb each other.
func (c *comparison) measure(ctx context.Context, appending *appendRig, commanding *commandRig, rounds int, d time.Duration, await bool) error {
	for range rounds {
		before := commanding.server.usage()
		l, err := appending.load(ctx, appending.client, writers, 1, d)
		if err != nil {
			return err
		}
		c.appends = c.appends.join(l)
		c.appendsCPU = c.appendsCPU.plus(commanding.server.usage().minus(before))
		for _, m := range []struct {
			into *load
			cpu  *usage
			do   func(context.Context, int) error
		}{{&c.create, &c.createCPU, commanding.create}, {&c.claim, &c.claimCPU, commanding.claim}, {&c.change, &c.changeCPU, commanding.change}} {
			before := commanding.server.usage()
			l, err := closedLoop(ctx, len(commanding.clients), d, m.do)
			if err != nil {
				return err
			}
			*m.into = m.into.join(l)
			if await {
				last, err := commanding.last()
				if err != nil {
					return err
				}
				behind, err := commanding.server.drained(ctx, last)
				if err != nil {
					return err
				}
				c.behind = max(c.behind, behind)
			}
			*m.cpu = m.cpu.plus(commanding.server.usage().minus(before))
		}
	}
	return nil
}

// compare measures with the projectors at work and, when elsewhere is not nil, with projectors that are elsewhere.
func (b *bench) compare(ctx context.Context, name string, rounds int, elsewhere *comparison, environment ...string) (c comparison, err error) {
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

	var warm comparison
	if err := warm.measure(ctx, appending, commanding, 1, warmUp, true); err != nil {
		return c, err
	}
	if err := c.measure(ctx, appending, commanding, rounds, b.slice, true); err != nil || elsewhere == nil {
		return c, err
	}
	release, err := s.holdProjectors(ctx)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, release()) }()
	return c, elsewhere.measure(ctx, appending, commanding, rounds, b.slice, false)
}

// projectorLocks is the first number of the advisory locks of projections/runner.
const projectorLocks = 0x7261_7070

// holdProjectors takes the locks by which one process at a time works on the projections, as if another one did. release
// gives them back. A process that only waits takes them again after a minute without a sign of life.
func (s *server) holdProjectors(ctx context.Context) (release func() error, err error) {
	conn, err := s.database(ctx)
	if err != nil {
		return nil, err
	}
	release = func() error { return conn.Close(context.Background()) }
	const sql = `select pid, objid from pg_locks where locktype = 'advisory' and granted and classid = $1 and objsubid = 2`
	rows, err := conn.Query(ctx, sql, uint32(projectorLocks))
	if err != nil {
		return nil, errors.Join(err, release())
	}
	type lock struct {
		PID    int32
		Object uint32
	}
	locks, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lock])
	if err == nil && len(locks) == 0 {
		err = errors.New("nobody holds the locks of the projections")
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	// Waiting is what the server does not do: it asks again after a while. So it is its turn to wait, once its session ends.
	if _, err = conn.Exec(ctx, "select pg_terminate_backend($1)", locks[0].PID); err != nil {
		return nil, errors.Join(err, release())
	}
	for _, l := range locks {
		if _, err := conn.Exec(ctx, "select pg_advisory_lock($1, $2)", int32(projectorLocks), int32(l.Object)); err != nil {
			return nil, errors.Join(err, release())
		}
	}
	return release, nil
}

// database connects to the PostgreSQL of a server.
func (s *server) database(ctx context.Context) (*pgx.Conn, error) {
	r, err := s.running()
	if err != nil {
		return nil, err
	}
	return pgx.Connect(ctx, r.Postgres)
}

func (b *bench) commands(ctx context.Context) error {
	var elsewhere comparison
	c, err := b.compare(ctx, "commands", b.rounds, &elsewhere)
	if err != nil {
		return err
	}
	t := table{head: []string{fmt.Sprintf("%d connections", writers), "per second", "p50", "p99", "share of appends", fmt.Sprintf("goal %s", percent(commandGoal))}}
	costs := table{head: []string{"CPU time of one", "all", "client", "server", "PostgreSQL"}}
	line := func(name string, l load, u usage, share string, verdict string) {
		t.add(name, rate(l.rate()), millis(l.quantile(.5)), millis(l.quantile(.99)), share, verdict)
		each := func(d time.Duration) string { return micros(d / time.Duration(max(len(l.latencies), 1))) }
		costs.add(name, each(u.sum()), each(u.client), each(u.server), each(u.postgres))
	}
	for _, m := range []struct {
		where string
		comparison
	}{{"", c}, {", projectors elsewhere", elsewhere}} {
		line("bare appends of one event", m.appends, m.appendsCPU, percent(1), "")
		for _, kind := range []struct {
			name string
			load load
			cpu  usage
		}{{"create: POST /v1/customers", m.create, m.createCPU}, {"create, of a name that must be unique", m.claim, m.claimCPU}, {"change: POST /v1/customers/{id}/update-profile", m.change, m.changeCPU}} {
			share := kind.load.rate() / m.appends.rate()
			line(kind.name+m.where, kind.load, kind.cpu, percent(share), verdict(share, commandGoal))
		}
	}
	t.print(b.out)
	fmt.Fprintf(b.out, "\nEach four take turns of %s, %d times. The bare appends are those of part (a) through the official client. A value that must be unique is claimed by an append of its own before; the other two lines claim none. The server is the real binary. In the first four lines its projectors and PostgreSQL work beside it on the same cores, "+
		"which the bare appends do not feed; after each turn they needed at most %s to catch up. In the others somebody else holds the projectors' lock.\n\n", b.slice, b.rounds, secs(c.behind))
	costs.print(b.out)
	fmt.Fprintf(b.out, "\nOf bare appends the client is this process, node included; of commands it has the connections alone, and the server has its node and projectors.\n")
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
		c, err := b.compare(ctx, "gogc-"+strconv.Itoa(value), 1, nil, "GOGC="+strconv.Itoa(value))
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
