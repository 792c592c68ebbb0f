// Package apply brings batches of the log into the tables of builds: rows, parked events and checkpoints in one transaction.
// An event that cannot be applied is found by halving and parked with its stream.
package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/build"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// Bounds of one transaction and of giving it up.
const (
	transactionTimeout = time.Minute
	buildTimeout       = 10 * time.Minute // of the large batches of a build
	rollbackTimeout    = 5 * time.Second
)

// BulkRows is the number of new rows of one projection from which on they are sent by COPY. Fewer travel faster with the
// other statements, in one round trip.
const BulkRows = 100

// Counts is what one batch was to one projection, in events.
type Counts struct {
	Projection string
	Applied    int
	Parked     int
	Skipped    int // delivered again and dropped
	Ignored    int // of types that nobody here knows, of aggregates that the projection does not read
}

// Group is a set of members that share one transaction for each batch. One batch at a time is applied, so its fields need no
// lock. All fields are required.
type Group struct {
	Pool     *pgxpool.Pool
	LogID    string // identity of the log that the batches come from
	Name     string // for logs
	Members  []*Member
	Building bool // they are all being built: their batches are large
	Logger   *slog.Logger
	Count    func(Counts)             // is told what each batch was to each member
	Step     func(point string) error // called at the points of this package; an error makes what is done there fail

	since  time.Time         // when the last batch was stored, or the subscription began
	events []domain.Recorded // room for those of a batch
}

// Begin says that a subscription begins: the rate of reading is counted from there.
func (g *Group) Begin() { g.since = time.Now() }

// Apply stores a batch for all members in one transaction. Poison is found and parked on the way. After an
// error the members must be loaded again before anything else: the transaction may have been committed.
func (g *Group) Apply(ctx context.Context, batch *bus.Batch) error {
	plans := make([]*plan, len(g.Members))
	shared := g.decoded(batch)
	for i, m := range g.Members {
		plans[i] = newPlan(m, batch, shared)
	}
	for bulk := BulkRows; ; bulk = 0 {
		if !anyChanges(plans) {
			for _, p := range plans {
				g.Count(p.counts()) // all of it was delivered again
			}
			return nil
		}
		err := g.transact(ctx, plans, bulk)
		if err == nil {
			g.committed(plans)
			return nil
		}
		// A failure with COPY judges nobody: rows that are there already fail it, and do no harm to the other statements.
		if kind, _ := fault.Classify(err); bulk > 0 && kind == fault.Poison {
			g.Logger.DebugContext(ctx, "rows are stored one by one", "projections", g.Name, "err", err)
		} else if err := g.judge(ctx, plans, err); err != nil {
			return err
		}
		for _, p := range plans {
			p.begin(batch) // all of them: what was evaluated is not to be evaluated again on top
		}
	}
}

// decoded returns the events of a batch side by side, for all members; nil when one does not decode.
func (g *Group) decoded(batch *bus.Batch) []domain.Recorded {
	clear(g.events)
	g.events = slices.Grow(g.events[:0], len(batch.Items))
	for i := range batch.Items {
		if batch.Items[i].Err != nil {
			return nil
		}
		g.events = append(g.events, batch.Items[i].Event)
	}
	return g.events
}

func anyChanges(plans []*plan) bool {
	for _, p := range plans {
		if p.changes() {
			return true
		}
	}
	return false
}

// transact runs the transaction: lock, check, load, evaluate, store, move, commit. The statements travel in two batches,
// and many new rows of one projection in a COPY between them.
func (g *Group) transact(ctx context.Context, plans []*plan, bulk int) error {
	if err := g.Step(StepBegin); err != nil {
		return err
	}
	return inTransaction(ctx, g.Pool, g.timeout(), func(ctx context.Context, conn *pgx.Conn) error {
		if err := g.load(ctx, conn, plans); err != nil {
			return err
		}
		if err := g.Step(StepLocked); err != nil {
			return err
		}
		var writes pgx.Batch
		var copies []bulkCopy
		var moved moves
		for _, p := range plans {
			w, err := queueStep(&writes, p.member.Table, p.step, bulk)
			if err != nil {
				return err
			}
			if w.Copied > 0 {
				copies = append(copies, bulkCopy{p.member.Table.CopySQL(), w.Copy})
			}
			if p.fresh, p.count = w.Fresh, p.member.outgrown(w.Fresh); p.count {
				queueCount(&writes, p.member.Table)
			}
			queueParking(&writes, p)
			moved.add(p)
		}
		writes.Queue(moveSQL, moved.args(g.rate(plans), g.LogID)...).Exec(func(pgconn.CommandTag) error {
			return g.Step(StepMoved)
		})
		writes.Queue(build.NotifySQL, plans[0].at.String())
		writes.Queue("commit")
		if err := g.Step(StepApplied); err != nil {
			return err
		}
		for _, c := range copies {
			if _, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(c.rows), c.sql); err != nil {
				return err
			}
		}
		if err := g.Step(StepCopied); err != nil {
			return err
		}
		if err := conn.SendBatch(ctx, &writes).Close(); err != nil {
			return err
		}
		return g.Step(StepCommit)
	})
}

// timeout bounds one transaction.
func (g *Group) timeout() time.Duration {
	if g.Building {
		return buildTimeout
	}
	return transactionTimeout
}

// rate returns how many events of the log are read in a second, by the batch in hand.
func (g *Group) rate(plans []*plan) float64 {
	most := 0
	for _, p := range plans {
		most = max(most, p.read)
	}
	return float64(most) / max(time.Since(g.since), time.Millisecond).Seconds()
}

// bulkCopy is one COPY with its rows.
type bulkCopy struct {
	sql  string
	rows []byte
}

// inTransaction gives work a connection on which it begins and commits a transaction itself, so that both travel with
// other statements. Whatever is left open is rolled back.
func inTransaction(ctx context.Context, pool *pgxpool.Pool, timeout time.Duration, work func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		conn := c.Conn()
		err := work(ctx, conn)
		if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
			return err
		}
		rolling, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if _, failed := conn.Exec(rolling, "rollback"); failed != nil {
			return errors.Join(err, failed)
		}
		return err
	})
}

// load begins the transaction, locks and checks the checkpoints, and loads the rows that the steps miss.
func (g *Group) load(ctx context.Context, conn *pgx.Conn, plans []*plan) error {
	var reads pgx.Batch
	reads.Queue("begin")
	names, versions, builds := Identity(g.Members)
	reads.Queue(build.LockSQL, names, versions, builds).Query(func(rows pgx.Rows) error {
		stored, err := pgx.CollectRows(rows, build.Scan)
		if err != nil {
			return err
		}
		return g.check(stored)
	})
	for _, p := range plans {
		queueLoad(&reads, p.member.Table, p.step)
	}
	return conn.SendBatch(ctx, &reads).Close()
}

// check holds the stored checkpoints against what the members believe.
func (g *Group) check(stored []build.Checkpoint) error {
	if len(stored) != len(g.Members) {
		return fault.ErrRegroup // one was dropped
	}
	found := map[build.Key]build.Checkpoint{}
	for _, c := range stored {
		found[c.Key] = c
	}
	for _, m := range g.Members {
		c := found[m.Key]
		switch {
		case c.Epoch != m.Epoch:
			return fault.ErrFenced
		case c.Generation != m.Generation:
			return fault.ErrRegroup
		case c.At != m.At, c.Event != m.Event:
			return fault.ErrStale
		case c.LogID != "" && c.LogID != g.LogID:
			return &build.LogMismatchError{Projection: m.Label(), Stored: c.LogID, Actual: g.LogID}
		}
	}
	return nil
}

// queueLoad asks for the rows that a step misses.
func queueLoad(b *pgx.Batch, t *projection.Table, step projection.Step) {
	missing := step.Missing()
	if missing == nil {
		return
	}
	b.Queue(t.SelectSQL(), missing...).Query(func(rows pgx.Rows) error {
		defer rows.Close()
		for rows.Next() {
			if err := rows.Scan(step.Target()...); err != nil {
				return err
			}
			step.Loaded()
		}
		return rows.Err()
	})
}

// queueStep evaluates a step and queues what it changes, but for the rows in Copy.
func queueStep(b *pgx.Batch, t *projection.Table, step projection.Step, bulk int) (projection.Writes, error) {
	w, err := step.Evaluate(bulk)
	var code *projection.EventError
	switch {
	case errors.As(err, &code):
		return w, err
	case err != nil:
		return w, fmt.Errorf("%w: %w", errUnstorable, err)
	}
	if w.Upserts > 0 {
		b.Queue(t.UpsertSQL(), w.Upsert...)
	}
	if w.Deletes > 0 {
		b.Queue(t.DeleteSQL(), w.Delete...)
	}
	return w, nil
}

const (
	parkStreamSQL = `insert into projection.parked_stream (name, version, build, stream, error, stack) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing`
	parkEventSQL = `insert into projection.parked_event
	(name, version, build, stream, revision, commit_position, prepare_position, event_id, event_type, data, metadata)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing`
)

func queueParking(b *pgx.Batch, p *plan) {
	m := p.member
	for _, e := range p.park {
		if e.first != nil {
			b.Queue(parkStreamSQL, m.Name, m.Version, m.Number, e.raw.Stream, follow.Printable(e.first.message), follow.Printable(e.first.stack))
		}
		b.Queue(parkEventSQL, m.Name, m.Version, m.Number, e.raw.Stream, int64(e.raw.Revision), int64(e.raw.Position.Commit),
			int64(e.raw.Position.Prepare), e.raw.ID, e.raw.Type, e.raw.Data, e.raw.Metadata)
	}
}

// judge decides what a failed transaction means. It returns nil when the plans now know better and are to be begun again.
func (g *Group) judge(ctx context.Context, plans []*plan, err error) error {
	var code *projection.EventError
	if kind, _ := fault.Classify(err); kind == fault.Transient && !errors.As(err, &code) && !errors.Is(err, errUnstorable) {
		return err
	}
	// In general the error does not say whose it is: each member is tried alone.
	found := false
	for _, p := range plans {
		alone := g.try(ctx, p, len(p.events))
		if alone == nil {
			continue
		}
		if err := g.convict(ctx, p, alone); err != nil {
			return err
		}
		found = true
	}
	if !found {
		return err
	}
	return nil
}

// convict finds out what a member's failure is about: its table, or one event.
func (g *Group) convict(ctx context.Context, p *plan, failure error) error {
	var code *projection.EventError
	if errors.As(failure, &code) {
		p.blame(failure)
		return nil
	}
	switch kind, _ := fault.Classify(failure); {
	case kind == fault.Drift:
		p.drift = build.DriftProblem(p.member.Name, "the table is not as declared: "+failure.Error())
		return nil
	case kind == fault.Transient && !errors.Is(failure, errUnstorable):
		return failure
	}
	// The first good events succeed, the first bad do not: halve the distance.
	good, bad := 0, len(p.events)
	for bad-good > 1 {
		middle := (good + bad) / 2
		err := g.try(ctx, p, middle)
		switch kind, _ := fault.Classify(err); {
		case err == nil:
			good = middle
		case kind == fault.Poison || errors.Is(err, errUnstorable):
			bad, failure = middle, err
		default:
			return err
		}
	}
	if bad == 0 {
		return failure
	}
	p.poison[p.events[bad-1].Position] = cause{message: failure.Error()}
	return nil
}

// errUnstorable marks a row that does not become a parameter.
var errUnstorable = errors.New("a row cannot be stored")

var errTried = errors.New("tried")

// try applies a member's first events in a transaction that is rolled back.
func (g *Group) try(ctx context.Context, p *plan, events int) error {
	step, err := p.member.engine.Begin(p.events[:events])
	if err != nil {
		return err
	}
	err = inTransaction(ctx, g.Pool, g.timeout(), func(ctx context.Context, conn *pgx.Conn) error {
		var reads, writes pgx.Batch
		reads.Queue("begin")
		queueLoad(&reads, p.member.Table, step)
		if err := conn.SendBatch(ctx, &reads).Close(); err != nil {
			return err
		}
		if _, err := queueStep(&writes, p.member.Table, step, 0); err != nil {
			return err
		}
		if err := conn.SendBatch(ctx, &writes).Close(); err != nil {
			return err
		}
		return errTried
	})
	if errors.Is(err, errTried) {
		return nil
	}
	return err
}

// committed takes what the transaction has made true.
func (g *Group) committed(plans []*plan) {
	g.since = time.Now()
	for _, p := range plans {
		m := p.member
		m.observe(p)
		p.step.Committed()
		m.grow(p.fresh, p.count)
		for _, e := range p.park {
			m.parked[e.raw.Stream] = true
			if e.first != nil {
				// The error stands in the park, not here: it may quote what somebody wrote.
				g.Logger.Error("stream parked", "projection", m.Name, "stream", e.raw.Stream, "position", e.raw.Position,
					"next", "rapport projections parked "+m.Name)
			}
		}
		m.At, m.Event, m.State, m.Problem = p.at, p.event, p.state, p.problem
		m.Sealed.Store(p.sealed)
		if m.Problem != "" {
			g.Logger.Error("projection halted", "projection", m.Name, "version", m.Version, "build", m.Number, "position", m.Event.Position, "problem", m.Problem,
				"next", "rapport projections status")
		}
		g.Count(p.counts())
	}
}

// Points at which a test can make the work fail, in the order in which a batch passes them.
const (
	StepBegin   = "begin"   // before the transaction of a batch
	StepLocked  = "locked"  // the checkpoint rows are locked and checked, the rows loaded
	StepApplied = "applied" // everything is evaluated, nothing sent
	StepCopied  = "copied"  // what goes by COPY is stored, nothing else is sent
	StepMoved   = "moved"   // rows are stored, checkpoints moved, the commit is sent and its answer not read
	StepCommit  = "commit"  // committed, and the news of it may be lost
)
