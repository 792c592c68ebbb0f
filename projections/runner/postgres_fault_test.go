package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/projections/runner/apply"
)

// retried holds that a class of failures was retried, and nothing parked.
func (f *fixture) retried(r *Runner, class string) {
	f.t.Helper()
	list, err := r.Status(f.t.Context())
	if err != nil || list[0].Retries[class] == 0 {
		f.t.Errorf("retries %v, %v; want some of class %s", list[0].Retries, err, class)
	}
	for _, s := range list {
		if s.ParkedStreams != 0 || s.State == Halted {
			f.t.Errorf("%s is %s with %d streams parked", s.Name, s.State, s.ParkedStreams)
		}
	}
	if r.Err() != nil {
		f.t.Errorf("still unhealthy: %v", r.Err())
	}
}

// P5: what passes is waited for, whatever the server calls it: nothing is parked, and the order stays.
func TestFailuresThatPassAreWaitedFor(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.catchUp(f.runner(quick(8), all()...))
	const faulty = `
create sequence attempts;
create function fail() returns trigger language plpgsql as $$ begin
	if nextval('attempts') <= 3 then -- which no rollback takes back
		raise exception 'injected' using errcode = current_setting('test.code');
	end if;
	return null;
end $$;
create trigger fail after insert or update on projection.note_v1 for each statement execute function fail()`
	if _, err := f.conn.Exec(t.Context(), faulty, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	for code, class := range map[string]string{
		"40001": "serialization", "40P01": "serialization", "53100": "resources", "53200": "resources", "53300": "resources",
		"55P03": "lock", "57014": "timeout", "58030": "database", "XX000": "database",
	} {
		story(t, f.log, 30)
		config := f.pool.Config()
		config.ConnConfig.RuntimeParams["test.code"] = code
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.conn.Exec(t.Context(), "select setval('attempts', 1, false)"); err != nil {
			t.Fatal(err)
		}
		r := f.runner(quick(8), all()...)
		r.pool = pool
		f.catchUp(r)
		f.retried(r, class)
		f.same()
		pool.Close()
	}
}

// configured runs a runner over a pool whose sessions have a setting, and waits until it has applied something.
func (f *fixture) configured(opts Options, setting, value string) (r *Runner, stop func() error) {
	f.t.Helper()
	config := f.pool.Config()
	config.ConnConfig.RuntimeParams[setting] = value
	pool, err := pgxpool.NewWithConfig(f.t.Context(), config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(pool.Close)
	r = f.runner(opts, all()...)
	r.pool = pool
	stop = f.start(r)
	story(f.t, f.log, 1)
	f.caughtUp("note", "total", "line")
	return r, stop
}

// hold takes a table away from whoever wants to write to it, until rolled back.
func (f *fixture) hold(prelude string) pgx.Tx {
	f.t.Helper()
	holder, err := f.pool.Begin(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = holder.Rollback(context.Background()) }) // done already, unless the test has failed
	if _, err := holder.Exec(f.t.Context(), prelude+"lock table projection.note_v1 in share mode", pgx.QueryExecModeSimpleProtocol); err != nil {
		f.t.Fatal(err)
	}
	return holder
}

// P5: a statement takes too long, because somebody holds the table.
func TestStatementTimeoutIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.catchUp(f.runner(quick(8), all()...))
	r, stop := f.configured(quick(8), "statement_timeout", "500")
	holder := f.hold("")
	story(t, f.log, 30)
	f.eventually("a timeout", func() bool { return f.retries(r, "timeout") > 0 })
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.caughtUp("note", "total", "line")
	f.healed(r)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.retried(r, "timeout")
	f.same()
}

// retries returns how often a class of failures was retried.
func (f *fixture) retries(r *Runner, class string) int64 {
	r.metrics.mu.Lock()
	defer r.metrics.mu.Unlock()
	return r.metrics.classes[class]
}

// P5: a deadlock with somebody who holds a table and wants a checkpoint.
func TestDeadlockIsResolved(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.catchUp(f.runner(quick(8), all()...))
	var armed atomic.Bool
	var other pgx.Tx
	wants := make(chan error, 1)
	opts := quick(8)
	opts.Step = func(at string) error {
		if at != apply.StepCopied || !armed.CompareAndSwap(true, false) {
			return nil
		}
		// The runner holds the checkpoints, and goes on to the table.
		go func() {
			_, err := other.Exec(t.Context(), "select from projection.checkpoint for update")
			wants <- errors.Join(err, other.Rollback(t.Context()))
		}()
		const sql = "select coalesce(wait_event_type, '') = 'Lock' from pg_stat_activity where pid = $1"
		pid := other.Conn().PgConn().PID()
		for waits := false; !waits; {
			if err := f.pool.QueryRow(t.Context(), sql, pid).Scan(&waits); err != nil {
				return err
			}
		}
		return nil
	}
	r, stop := f.configured(opts, "deadlock_timeout", "20") // the runner notices, and gives way
	other = f.hold("set local deadlock_timeout = '1h'; ")
	armed.Store(true)
	story(t, f.log, 30)
	if err := <-wants; err != nil {
		t.Errorf("the other gave way: %v", err)
	}
	f.caughtUp("note", "total", "line")
	f.healed(r)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.retried(r, "serialization")
	f.same()
}

// P5: the server takes no more connections.
func TestTooManyConnectionsAreWaitedFor(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.catchUp(f.runner(quick(8), all()...))
	story(t, f.log, 30)
	config := f.pool.Config()
	role := pgx.Identifier{config.ConnConfig.Database + "_crowd"}.Sanitize() // superusers are always let in
	exec := func(format string, args ...any) {
		t.Helper()
		if _, err := f.conn.Exec(context.WithoutCancel(t.Context()), fmt.Sprintf(format, args...)); err != nil {
			t.Fatal(err)
		}
	}
	const password = "crowd"
	exec("create role %s login password '%s' connection limit 1 in role %s", role, password, pgx.Identifier{config.ConnConfig.User}.Sanitize())
	address, err := url.Parse(config.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(config.ConnConfig.Database+"_crowd", password)
	pool, err := pgxpool.New(t.Context(), address.String())
	if err != nil {
		t.Fatal(err)
	}
	r := f.runner(quick(8), all()...)
	r.pool = pool
	stop := f.start(r)
	f.eventually("a connection to be refused", func() bool { return f.retries(r, "resources") > 0 })
	exec("alter role %s connection limit -1", role)
	f.caughtUp("note", "total", "line")
	f.healed(r)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.retried(r, "resources")
	f.same()
	pool.Close()
	f.eventually("its sessions to end", func() bool {
		_, err := f.conn.Exec(context.WithoutCancel(t.Context()), "drop role "+role)
		return err == nil
	})
}

// wire is the network between a runner and PostgreSQL. When armed, it fails with the statements that end the next
// transaction: before they arrive, or after they are done and before anybody is told.
type wire struct {
	armed   atomic.Bool
	swallow bool
	hits    atomic.Int32
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &wired{Conn: conn, wire: w}, err
}

// ready is the message with which the server ends an answer; the state of the transaction follows.
const ready = "Z\x00\x00\x00\x05"

// wired is one connection. Its reader and its writer are the same goroutine, or take turns.
type wired struct {
	net.Conn
	wire    *wire
	tail    []byte // of what the server has sent
	ending  atomic.Bool
	inBlock atomic.Bool // a transaction is open
}

var errCut = &net.OpError{Op: "cut", Err: errInjected}

func (c *wired) Write(b []byte) (int, error) {
	if c.inBlock.Load() && c.wire.armed.CompareAndSwap(true, false) {
		c.wire.hits.Add(1)
		if !c.wire.swallow {
			return 0, errors.Join(errCut, c.Close())
		}
		c.ending.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *wired) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tail = append(c.tail, b[:n]...)
	c.tail = c.tail[max(0, len(c.tail)-len(ready)-1):]
	if state, ok := bytes.CutPrefix(c.tail, []byte(ready)); ok && len(state) == 1 {
		c.inBlock.Store(state[0] == 'T')
		if state[0] == 'I' && c.ending.Load() {
			return 0, errors.Join(errCut, c.Close())
		}
	}
	return n, err
}

// skipped returns how many events were delivered again to a projection.
func skipped(t testing.TB, metrics *prometheus.Registry, projection string) float64 {
	t.Helper()
	return counted(t, metrics, "skipped_duplicates_total", projection)
}

// counted returns a counter of a projection.
func counted(t testing.TB, metrics *prometheus.Registry, name, projection string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			if family.GetName() == metricPrefix+name && m.Label[0].GetValue() == projection {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() // of which it has one
			}
		}
	}
	return -1
}

// P4: the connection is lost with the COMMIT. Whether it was done is found out by reading the checkpoint: a batch that was
// stored is passed over, one that was not is stored, and both once.
func TestUnknownCommitIsResolved(t *testing.T) {
	t.Parallel()
	for _, swallow := range []bool{false, true} {
		t.Run(fmt.Sprintf("committed=%t", swallow), func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			f.catchUp(f.runner(quick(8), all()...))
			story(t, f.log, 30)
			network := &wire{swallow: swallow}
			config := f.pool.Config()
			config.ConnConfig.DialFunc = network.dial
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close) // after the runner has ended, however the test does
			opts, batch := quick(8), 0
			opts.Bus.Linger = time.Minute // batches are full, or the last
			metrics := prometheus.NewRegistry()
			opts.Registerer = metrics
			opts.Step = func(at string) error {
				if at == apply.StepCopied { // what follows is stored and committed in one go
					if batch++; batch == 2 {
						network.armed.Store(true)
					}
				}
				return nil
			}
			r := f.runner(opts, all()...)
			r.pool = pool
			f.catchUp(r)
			if network.hits.Load() != 1 {
				t.Fatal("the connection was never cut")
			}
			f.retried(r, "connection")
			want := 0.0
			if swallow {
				want = 8
			}
			if got := skipped(t, metrics, "note"); got != want {
				t.Errorf("%v events were passed over, want %v", got, want)
			}
			f.same()
		})
	}
}
