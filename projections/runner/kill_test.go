package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/internal/codec"
	auditprojections "github.com/rapport-crm/rapport/projections/audit"
	"github.com/rapport-crm/rapport/projections/oracle"
	partyprojections "github.com/rapport-crm/rapport/projections/party"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/apply"
	salesprojections "github.com/rapport-crm/rapport/projections/sales"
	"github.com/rapport-crm/rapport/readmodels/audit"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// product are projections of the product: of each kind, with rows that one stream changes, and with sums and counts over many
// streams, in which an event that takes effect twice shows.
var product = []struct {
	declared projection.Projection
	rows     func(*fixture, string) []any
}{
	{salesprojections.SalesOrder, anyRows[sales.Order]},
	{partyprojections.CustomerTimeline, anyRows[party.TimelineEntry]},
	{salesprojections.SalesOrderLine, anyRows[sales.OrderLine]},
	{salesprojections.CustomerSales, anyRows[sales.CustomerSales]},
	{salesprojections.ProductSales, anyRows[sales.ProductSales]},
	{auditprojections.LogTime, anyRows[audit.LogTime]},
}

// rebuilt is what is built anew where the life of a build is to be killed.
const rebuilt = "customer_sales"

func declaredProduct() (list []projection.Projection) {
	for _, p := range product {
		list = append(list, p.declared)
	}
	return list
}

// productNames returns the names of product, in order.
func productNames(t testing.TB) (names []string) {
	compiled, err := projection.Compile(declaredProduct()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range compiled {
		names = append(names, c.Name)
	}
	return names
}

func anyRows[R any](f *fixture, view string) (list []any) {
	f.t.Helper()
	rows, err := f.conn.Query(f.t.Context(), "select * from rapport."+view)
	if err != nil {
		f.t.Fatal(err)
	}
	typed, err := pgx.CollectRows(rows, pgx.RowToStructByName[R])
	if err != nil {
		f.t.Fatalf("%s: %v", view, err)
	}
	for _, r := range typed {
		list = append(list, r)
	}
	return list
}

// trade is a history of the product, decided by its deciders. The same rounds make the same log in every process.
type trade struct {
	log       *memoryLog
	rounds    int // written
	calls     int // of write
	customers []*record[customer.Customer]
}

func newTrade(t testing.TB) *trade {
	t.Helper()
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		t.Fatal(err)
	}
	return &trade{log: &memoryLog{registry: registry, id: "log", revision: map[string]uint64{}, more: make(chan struct{})}}
}

// record is one aggregate.
type record[S any] struct {
	aggregate domain.Aggregate[S]
	id        domain.ID
	state     S
}

func (r *record[S]) do(t testing.TB, log *memoryLog, cmd domain.Command) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, len(log.events)/3, 0, time.UTC) // several events in a second
	events, err := r.aggregate.Decider.Decide(r.state, cmd, domain.Facts{ID: r.id, Now: at, OccurredAt: at})
	if err != nil {
		t.Fatal(err)
	}
	stream := domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: r.aggregate.Name, ID: r.id}
	for _, e := range events {
		r.state = r.aggregate.Decider.Evolve(r.state, e)
		log.record(t, stream, at, e, r.aggregate.Subjects(r.id, r.state)...)
	}
}

// record appends an event of any aggregate.
func (l *memoryLog) record(t testing.TB, stream domain.StreamID, at time.Time, e domain.Event, subjects ...domain.ID) {
	t.Helper()
	id := string(stream.ID) // of anything; the log gives the event its own
	data, metadata, err := l.registry.Encode(domain.Pending{ID: id, Event: e, Metadata: domain.Metadata{
		Tenant: stream.Tenant, Actor: domain.Actor{ID: "ann", Kind: domain.ActorHuman},
		CommandID: id, CorrelationID: id, CausationID: id, Fingerprint: "f", OccurredAt: at, RecordedAt: at, Subjects: subjects,
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw(codec.Raw{Type: e.EventType(), Stream: stream.String(), Data: data, Metadata: metadata})
}

// write appends rounds: somebody sells something to one of a few customers. The first order of some calls has enough lines for
// COPY, of that before apply.StepCopied for one.
func (h *trade) write(t testing.TB, rounds int) {
	t.Helper()
	const customers, many = 4, apply.BulkRows + 10
	for i := range rounds {
		if len(h.customers) < customers {
			c := &record[customer.Customer]{aggregate: customer.Aggregate, id: noteID(1000 + len(h.customers))}
			h.customers = append(h.customers, c)
			c.do(t, h.log, customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: fmt.Sprint("Customer ", h.rounds)}, Owner: "ann"})
		}
		buyer := h.customers[h.rounds%len(h.customers)]
		o := &record[order.Order]{aggregate: order.Aggregate, id: noteID(2000 + h.rounds)}
		lines := make([]order.NewLine, 2)
		if i == 0 && h.calls%6 == 0 {
			lines = make([]order.NewLine, many)
		}
		for n := range lines {
			lines[n] = order.NewLine{ProductCode: fmt.Sprint("P", n%7), Quantity: domain.MustMoney("2.5", "EUR").Amount, UnitPrice: domain.MustMoney("0.333", "EUR").Amount}
		}
		o.do(t, h.log, order.Place{Number: fmt.Sprint("SO-", h.rounds), Kind: order.KindSale, CustomerID: buyer.id, Currency: "EUR", Lines: lines})
		buyer.do(t, h.log, customer.Tag{Tag: fmt.Sprint("round ", h.rounds)})
		o.do(t, h.log, order.Confirm{})
		o.do(t, h.log, order.ReceivePayment{PaymentID: "1", Amount: domain.MustMoney("1.5", "EUR")})
		h.rounds++
	}
	h.calls++
}

// likeTheOracle compares every row of every projection with the oracle's fold of the events up to its checkpoint.
func (f *fixture) likeTheOracle() {
	f.t.Helper()
	events, _ := f.log.after(domain.Position{})
	folds := map[uint64]*oracle.World{}
	for i, name := range productNames(f.t) {
		const sql = "select commit_position from projection.checkpoint where name = $1 and state = 'serving'"
		var at uint64
		if err := f.conn.QueryRow(f.t.Context(), sql, name).Scan(&at); err != nil {
			f.t.Fatal(err)
		}
		if folds[at] == nil {
			folds[at] = f.fold(events, at)
		}
		if diff := folds[at].Diff(name, product[i].rows(f, name)); diff != "" {
			f.t.Error(diff)
		}
	}
}

// fold is what the oracle makes of the events up to a position.
func (f *fixture) fold(events []codec.Raw, at uint64) *oracle.World {
	f.t.Helper()
	world := oracle.New()
	for _, raw := range events {
		if raw.Position.Commit > at {
			break
		}
		event, err := f.log.registry.Decode(raw)
		if err == nil {
			err = world.Apply(event)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	return world
}

// What the kill table does to a runner at each step point.
const (
	killExit   = "process exit"
	killError  = "returned error"
	killCut    = "connection cut"
	killCancel = "context cancelled"
)

const (
	roundsOfCase = 4 // that are written before each case
	caseTimeout  = 20 * time.Second
	childTimeout = 2 * time.Minute // of a process that nobody kills, stopped or not
)

// TestKillTable is P1: at each step point that the runner declares, on the way of a batch and in the life of a build, the
// process is killed, an error returned, every connection to PostgreSQL cut or the context cancelled. It is run again, or goes
// on by itself; then every row is what the oracle finds, so that each event has taken effect once. A point that is never
// reached fails the test.
func TestKillTable(t *testing.T) {
	t.Parallel()
	if os.Getenv(childURL) != "" {
		dieThere(t)
	}
	batch, life := Steps()
	for _, kind := range []string{killExit, killError, killCut, killCancel} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			h := newTrade(t)
			f.log = h.log
			h.write(t, roundsOfCase)
			f.catchUp(f.runner(killOptions(nil), declaredProduct()...))
			build := 1
			for _, point := range append(batch, life...) {
				h.write(t, roundsOfCase)
				r := f.runner(killOptions(nil), declaredProduct()...)
				if slices.Contains(life, point) {
					f.rebuild(r, rebuilt)
					build++
				}
				if kind == killExit {
					f.killProcess(point, h.rounds)
				} else {
					f.killHere(point, kind)
				}
				stop := f.start(r)
				f.awaitBuild(rebuilt, 1, build)
				f.caughtUp(productNames(t)...)
				f.eventually("what was replaced to be dropped", func() bool { found, _ := f.tables(); return len(found) == len(product) })
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				f.likeTheOracle()
				if t.Failed() {
					t.Fatalf("at %s", point)
				}
			}
			f.clean()
		})
	}
}

func killOptions(step func(string) error) Options {
	opts := quick(8)
	opts.Grace, opts.Sweep, opts.Step = -1, 10*time.Millisecond, step
	return opts
}

// killHere runs a runner of this process into the fault, and stops it then.
func (f *fixture) killHere(point, kind string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), caseTimeout)
	defer cancel()
	var once sync.Once
	hit := make(chan struct{})
	r := f.runner(killOptions(func(at string) (err error) {
		if at != point {
			return nil
		}
		once.Do(func() {
			defer close(hit)
			switch kind {
			case killError:
				err = errInjected
			case killCut:
				err = f.cut()
			case killCancel:
				cancel()
			}
		})
		return err
	}), declaredProduct()...)
	if kind != killCancel {
		// It has to go on by itself as well: stop it when it has.
		stop := f.start(r)
		select {
		case <-hit:
		case <-ctx.Done():
			f.t.Fatalf("%s was never reached", point)
		}
		f.caughtUp(productNames(f.t)...)
		if err := stop(); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	if err := r.Run(ctx); err != nil {
		f.t.Fatal(err)
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		f.t.Fatalf("%s was never reached", point)
	}
}

// cut ends every session with the database but the one that listens.
func (f *fixture) cut() error {
	admin, err := pgx.ConnectConfig(f.t.Context(), f.conn.Config())
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(f.t.Context()))
	const sql = `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and backend_type = 'client backend' and pid not in (pg_backend_pid(), $1)`
	_, err = admin.Exec(f.t.Context(), sql, f.conn.PgConn().PID())
	return err
}

// Variables that make this test binary a process that meets a fault.
const (
	childURL    = "RAPPORT_TEST_CHILD_URL"
	childPoint  = "RAPPORT_TEST_CHILD_POINT"
	childRounds = "RAPPORT_TEST_CHILD_ROUNDS" // of the history in its log
)

// child is a process of this test binary that runs a runner into a point, in the test that starts it.
func (f *fixture) child(test, point string, rounds int) *exec.Cmd {
	c := exec.CommandContext(f.t.Context(), os.Args[0], "-test.run=^"+test+"$")
	c.Env = append(os.Environ(), childURL+"="+f.pool.Config().ConnString(), childPoint+"="+point, childRounds+"="+strconv.Itoa(rounds))
	return c
}

// asChild does in that process what child has asked for. At the point it calls meet.
func asChild(t *testing.T, adjust func(*pgxpool.Config, *Options), meet func() error) error {
	rounds, err := strconv.Atoi(os.Getenv(childRounds))
	if err != nil {
		t.Fatal(err)
	}
	h := newTrade(t)
	for range rounds / roundsOfCase {
		h.write(t, roundsOfCase)
	}
	config, err := pgxpool.ParseConfig(os.Getenv(childURL))
	if err != nil {
		t.Fatal(err)
	}
	opts := killOptions(func(at string) error {
		if at == os.Getenv(childPoint) {
			return meet()
		}
		return nil
	})
	opts.Logger = slog.New(slog.NewTextHandler(os.Stdout, nil))
	adjust(config, &opts)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(pool, h.log, h.log.registry, declaredProduct(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), childTimeout)
	defer cancel()
	return r.Run(ctx)
}

// killProcess runs a runner in a process of its own, which is killed at the point.
func (f *fixture) killProcess(point string, rounds int) {
	f.t.Helper()
	out, err := f.child("TestKillTable", point, rounds).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		f.t.Fatalf("%s: the process ended with %v:\n%s", point, err, out)
	}
}

// dieThere is that process.
func dieThere(t *testing.T) {
	err := asChild(t, func(*pgxpool.Config, *Options) {}, func() error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			return err
		}
		select {} // it takes a moment
	})
	t.Fatalf("the point was never reached: %v", err)
}

// P11, with processes: one is stopped by SIGSTOP at a point of a batch, another takes its locks and its work over, and when
// the first goes on it writes nothing. What it had in hand is in the rows once.
func TestStoppedProcessWritesNothingWhenItGoesOn(t *testing.T) {
	t.Parallel()
	if os.Getenv(childURL) != "" {
		stopThere(t)
		return
	}
	for _, point := range []string{stepDecoded, apply.StepLocked, apply.StepCopied, apply.StepMoved, stepAck} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			h := newTrade(t)
			f.log = h.log
			h.write(t, roundsOfCase)
			f.catchUp(f.runner(killOptions(nil), declaredProduct()...))
			h.write(t, roundsOfCase)

			old := f.child("TestStoppedProcessWritesNothingWhenItGoesOn", point, h.rounds)
			var out, ours printed
			old.Stdout, old.Stderr = &out, &out
			if err := old.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if t.Failed() {
					t.Logf("the process:\n%s\nthis one:\n%s", &out, &ours)
				}
			}()
			defer func() { old.Process.Kill(); old.Wait() }()
			f.eventually("the process to stop at "+point, func() bool {
				var status syscall.WaitStatus
				pid, err := syscall.Wait4(old.Process.Pid, &status, syscall.WUNTRACED|syscall.WNOHANG, nil)
				return err == nil && pid == old.Process.Pid && status.Stopped()
			})

			opts := killOptions(nil)
			opts.Takeover = 50 * time.Millisecond
			opts.Logger = slog.New(slog.NewTextHandler(&ours, nil))
			stop := f.start(f.runner(opts, declaredProduct()...))
			defer stop()
			f.caughtUp(productNames(t)...)
			f.likeTheOracle()
			before, said := f.checkpoints(), len(out.String())
			if err := old.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			f.eventually("the old one to notice", func() bool {
				return strings.Contains(out.String()[said:], "projections are run by another process; waiting")
			})
			if after := f.checkpoints(); after != before {
				t.Errorf("checkpoints have changed:\n%s\n%s", before, after)
			}
			f.likeTheOracle()
		})
	}
}

// stopThere is the process that is stopped, once.
func stopThere(t *testing.T) {
	var once sync.Once
	err := asChild(t, func(c *pgxpool.Config, o *Options) {
		o.Heartbeat = time.Hour // its keeper and its lane are stopped together, and so is what it says
		// A stopped process holds its transaction open until the server gives up on it, as cmd/rapport asks the server to.
		c.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "300"
	}, func() (err error) {
		once.Do(func() {
			// Another thread than this one may take the signal: this one would go on for some milliseconds, past the point and
			// through everything that it has in hand. It goes on when the process is told to.
			goOn := make(chan os.Signal, 1)
			signal.Notify(goOn, syscall.SIGCONT)
			defer signal.Stop(goOn)
			if err = syscall.Kill(os.Getpid(), syscall.SIGSTOP); err == nil {
				<-goOn
			}
		})
		return err
	})
	t.Logf("ended with %v", err)
}

// checkpoints renders what a projector writes beside rows.
func (f *fixture) checkpoints() (all string) {
	f.t.Helper()
	const sql = "select string_agg(concat_ws(' ', name, version, build, state, problem, commit_position, epoch, events), ', ' order by name, build) from projection.checkpoint"
	if err := f.conn.QueryRow(f.t.Context(), sql).Scan(&all); err != nil {
		f.t.Fatal(err)
	}
	return all
}

// printed is what a process prints, to be read while it runs.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
