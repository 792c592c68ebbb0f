// Package asof answers queries as of the past: it folds the events that were known at a moment, or had happened by it,
// through the very projections that fill the read models, and lays their rows out for the very queries that read these.
//
// Records, and everything about one customer, are folded from their own streams into temporary tables, for the one request:
// the cost follows the size of the record and not that of the log. Lists, boards and funnels rest on all streams: the log
// is folded into a snapshot, a schema of its own that is kept for a while and shared by all requests for the same moment.
package asof

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Limits that Options overrule.
const (
	DefaultMaxMemory  = 512 << 20        // bytes that the events and rows of one answer may take while it is made
	DefaultMaxStored  = 2 << 30          // bytes of the snapshots kept in the database
	DefaultMaxTables  = 200              // tables of snapshots kept
	DefaultMaxAge     = 10 * time.Minute // since the last use, after which a table of a snapshot goes
	DefaultWait       = 20 * time.Second // of a request for a snapshot that is being made
	maxWaiting        = 16               // snapshots that wait to be made or are being made
	buildTimeout      = 10 * time.Minute // to make a snapshot
	connections       = 3                // for making, dropping and the mark that the process lives
	copyRows          = 2_000            // rows of one piece of COPY
	temporary         = "pg_temp"        // schema of a session's temporary tables
	connectionTimeout = 5 * time.Second
)

// Options tunes an Evaluator. Zero values mean the defaults above.
type Options struct {
	MaxMemory int64         // bytes, estimated, that the events and rows of one answer may take while it is made; beyond: a *domain.Rejection
	MaxStored int64         // bytes of the snapshots kept in the database
	MaxTables int           // tables of snapshots kept
	MaxAge    time.Duration // after which a table of a snapshot that nobody uses goes
	Wait      time.Duration // of a request for a snapshot; beyond: a *domain.UnavailableError, while the snapshot is still being made
	Clock     func() time.Time
	Logger    *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.MaxMemory == 0 {
		o.MaxMemory = DefaultMaxMemory
	}
	if o.MaxStored == 0 {
		o.MaxStored = DefaultMaxStored
	}
	if o.MaxTables == 0 {
		o.MaxTables = DefaultMaxTables
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Evaluator answers queries as of the past. It is safe for concurrent use; Close it when done.
type Evaluator struct {
	log       Log
	reads     *query.Store // as they stand
	pool      *pgxpool.Pool
	declared  map[string]*projection.Compiled
	snapshots *snapshots
	opts      Options
}

// Open returns an Evaluator over the log and the database of the read models, and drops the snapshots that processes
// which live no more have left there. An unreachable database is an *domain.UnavailableError.
func Open(ctx context.Context, url string, log Log, reads *query.Store, declared []projection.Projection, o Options) (*Evaluator, error) {
	compiled, err := projection.Compile(declared...)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("as of the past: %w", err)
	}
	config.MaxConns = connections
	config.ConnConfig.ConnectTimeout = connectionTimeout
	config.ConnConfig.RuntimeParams["application_name"] = "rapport-asof"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.RuntimeParams["row_security"] = "off" // as in query.Open
	config.ConnConfig.RuntimeParams["client_min_messages"] = "warning"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, &domain.UnavailableError{What: unavailable, Err: err}
	}
	e := &Evaluator{log: log, reads: reads, pool: pool, declared: map[string]*projection.Compiled{}, opts: o.withDefaults()}
	for _, c := range compiled {
		e.declared[c.Name] = c
	}
	if e.snapshots, err = openSnapshots(ctx, e); err != nil {
		pool.Close()
		return nil, err
	}
	return e, nil
}

// unavailable is what UnavailableErrors of this package name.
const unavailable = "read models as of the past"

// Close drops the snapshots, and waits for what the Evaluator has started.
func (e *Evaluator) Close() {
	e.snapshots.close()
	e.pool.Close()
}

// readsOf returns the read models as they stand, of a tenant.
func (e *Evaluator) readsOf(tenant domain.Tenant) *query.Store {
	return e.reads.For(domain.Caller{Tenant: tenant})
}

// At returns the read models as of a moment, bound to nobody.
func (e *Evaluator) At(m query.AsOf) *query.Store { return e.reads.AsOf(m, e) }

// Within implements query.Past.
func (e *Evaluator) Within(ctx context.Context, tenant domain.Tenant, m query.AsOf, r query.Reach, f func(query.Querier) error) error {
	list, err := e.projections(r.Views)
	if err != nil {
		return err
	}
	if r.Streams == nil {
		return e.snapshots.within(ctx, tenant, m, list, f)
	}
	evaluation, err := e.evaluateStreams(ctx, r.Streams, m, list)
	if err != nil {
		return err
	}
	return e.over(ctx, evaluation, list, f)
}

func (e *Evaluator) projections(names []string) ([]*projection.Compiled, error) {
	list := make([]*projection.Compiled, len(names))
	for i, name := range names {
		if list[i] = e.declared[name]; list[i] == nil {
			return nil, fmt.Errorf("as of the past: no projection makes the view %q", name)
		}
	}
	return list, nil
}

// over lets f query the rows of an evaluation, which lie in temporary tables of a transaction that is rolled back.
func (e *Evaluator) over(ctx context.Context, evaluation *Evaluation, list []*projection.Compiled, f func(query.Querier) error) error {
	return e.reads.Borrow(ctx, temporary, func(tx pgx.Tx) error {
		var create strings.Builder
		for _, c := range list {
			create.WriteString(c.Table.In(temporary).CreateSQL()[0] + ";")
		}
		if _, err := tx.Exec(ctx, create.String()); err != nil {
			return err
		}
		for _, c := range list {
			if err := load(ctx, tx, c.Table.In(temporary), evaluation.Memory(c.Name)); err != nil {
				return err
			}
		}
		return f(tx)
	})
}

// load copies rows into a table.
func load(ctx context.Context, tx pgx.Tx, table *projection.Table, rows projection.Memory) error {
	for piece, err := range rows.Copy(copyRows) {
		if err != nil {
			return err
		}
		if _, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(piece), table.CopySQL()); err != nil {
			return fmt.Errorf("copy into %s: %w", table.Qualified(), err)
		}
	}
	return nil
}
