package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/migrations"
)

// Tuning of the connection pool and of waits.
const (
	StatementTimeout = 10 * time.Second // of every query
	MaxConnections   = 16               // of a Store; the URL's pool_max_conns wins
	MaxWait          = 5 * time.Second  // for a position and for views that are being made, when the context allows as much
	connectTimeout   = 5 * time.Second
	listenRetry      = time.Second            // between attempts to listen for checkpoints
	waitPoll         = 250 * time.Millisecond // between looks at the checkpoints when no notification comes
)

// viewSchema holds the views. Queries name them without it, so that they run over rows of the past as well.
const viewSchema = "rapport"

// CheckpointChannel is the NOTIFY channel on which projectors tell that checkpoints have moved.
const CheckpointChannel = "rapport_checkpoint"

// Store answers queries from the read models as they stand, or as of a moment of the past. It is safe for concurrent use;
// Close the one that Open returned when done.
//
// A Store that Open returned is nobody's: For binds it to the caller of a request, and a query of one that is bound to nobody
// is an error, so that no query can be asked without saying for whom. ForLoops is the one exception: it is for loops of the
// product that work over all tenants.
type Store struct {
	*database
	caller domain.Caller // of tenant "" for nobody
	whole  bool          // made by ForLoops: queries see the rows of all tenants
	moment *AsOf         // nil means now
	past   Past          // of moment

	least domain.Position             // what queries wait for; zero means nothing
	late  func(context.Context) error // why it has not come; nil means that nobody knows more
}

// For returns the same store for a caller: its queries see the rows of the caller's tenant alone.
func (s *Store) For(c domain.Caller) *Store {
	bound := *s
	bound.caller, bound.whole = c, false
	return &bound
}

// ForLoops returns the same store for a loop of the product that works over the rows of all tenants, such as the one that wakes
// what is due. A query of the loop names no tenant; a row says whose it is, and a command that follows from the row carries that
// tenant. The store is of now: a query as of the past always has a caller. Lists and records, which requests read, are those of the
// caller's tenant, and there is none: they are empty. No store of a request comes from here: a test of internal/archtest names
// the one place that calls ForLoops.
func (s *Store) ForLoops() *Store {
	bound := *s
	bound.caller, bound.whole = domain.Caller{}, true
	return &bound
}

// Caller returns for whom the store answers.
func (s *Store) Caller() domain.Caller { return s.caller }

// Tenant returns whose rows the store's queries see.
func (s *Store) Tenant() domain.Tenant { return s.caller.Tenant }

// errNobody refuses a query of a store that is bound to no caller: a fault of the program.
var errNobody = errors.New("query: the store is bound to no caller")

// database is the connection to the read models as they stand.
type database struct {
	pool *pgxpool.Pool
	tag  [cursorTag]byte // of the log that the rows come from

	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex
	moved chan struct{} // closed and replaced whenever a checkpoint may have moved
}

// Option says more about the read models to Open.
type Option func(*database)

// OfLog names the event log that the rows come from by its identity: cursors made from another one are refused. Without it,
// the log is one without a name.
func OfLog(identity string) Option { return func(d *database) { d.tag = logTag(identity) } }

// Open connects to the database of the read models and brings its fixed tables up to date. An unreachable database is an
// *domain.UnavailableError.
func Open(ctx context.Context, url string, options ...Option) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read models: %w", err)
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if err := prepare(ctx, config); err != nil {
		return nil, unavailable(err)
	}
	parameters := config.ConnConfig.RuntimeParams
	if _, ok := parameters["statement_timeout"]; !ok {
		parameters["statement_timeout"] = fmt.Sprint(StatementTimeout.Milliseconds())
	}
	if _, ok := parameters["application_name"]; !ok {
		parameters["application_name"] = "rapport-readmodels"
	}
	parameters["timezone"] = "UTC"
	parameters["row_security"] = "off" // a user who is not the tables' owner fails instead of seeing the rows of some tenants
	parameters["search_path"] = viewSchema
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = MaxConnections
	}
	config.ConnConfig.Tracer = acquireTimeout{}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, unavailable(err)
	}
	s := &Store{database: &database{pool: pool, tag: logTag(""), moved: make(chan struct{})}}
	for _, o := range options {
		o(s.database)
	}
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.listen(listening) })
	return s, nil
}

// prepare brings the fixed tables up to date over a connection of its own, without the limits of queries: a start may wait for a
// database that is slow to take its first connection, and for another process that makes the tables.
func prepare(ctx context.Context, config *pgxpool.Config) error {
	pool, err := pgxpool.NewWithConfig(ctx, config.Copy())
	if err != nil {
		return err
	}
	defer pool.Close()
	return migrations.Apply(ctx, pool)
}

// Close ends the connections and waits for what the Store has started.
func (s *Store) Close() {
	s.stop()
	s.done.Wait()
	s.pool.Close()
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return unavailable(s.pool.Ping(ctx)) }

// eventsSQL and searchedSQL look at the builds that the views point at, halted ones too: queries read their rows. $1 names the
// views, null means all that are there. A view that is named and not there yet reflects nothing.
const (
	eventsSQL   = "select coalesce(event_commit, 0), coalesce(event_prepare, 0)" + servingSQL
	searchedSQL = "select coalesce(commit_position, 0), coalesce(prepare_position, 0)" + servingSQL
	servingSQL  = `
from (select * from projection.checkpoint where state = 'serving') serving
full join unnest($1::text[]) named on named = serving.name
where named is not null or $1 is null
order by 1, 2
limit 1`
)

// Position returns the place of the last event that the views, all of them when none is named, have: every query of them made
// later reflects it at least. It is zero when no projection serves. It waits as queries do: see AtLeast.
func (s *Store) Position(ctx context.Context, views ...string) (domain.Position, error) {
	if err := s.await(ctx, views); err != nil {
		return domain.Position{}, err
	}
	return position(ctx, s.pool, eventsSQL, views, &Reading{})
}

// WaitFor returns once the views, all of them when none is named, have everything up to p, whether or not an event stands there.
// It waits until ctx ends, MaxWait at most, and then returns an *domain.UnavailableError.
func (s *Store) WaitFor(ctx context.Context, p domain.Position, views ...string) error {
	ctx, cancel := context.WithTimeout(ctx, MaxWait)
	defer cancel()
	poll := time.NewTicker(waitPoll)
	defer poll.Stop()
	for {
		moved := s.movement() // before the look, so that no notification falls between the two
		at, err := position(ctx, s.pool, searchedSQL, views, &Reading{})
		switch {
		case err == nil && !at.Before(p):
			return nil
		case err != nil && ctx.Err() == nil:
			return err
		}
		select {
		case <-moved:
		case <-poll.C:
		case <-ctx.Done():
			return &domain.UnavailableError{What: "read models", Err: fmt.Errorf("position %s not reached: %w", p, ctx.Err())}
		}
	}
}

// AtLeast returns the same store, each query of which waits until the views that it reads have everything up to p, as WaitFor does:
// a projection that is behind holds up nobody who does not read it. When p does not come in time, late is asked for a better
// reason, which it may return; nil asks nobody.
func (s *Store) AtLeast(p domain.Position, late func(context.Context) error) *Store {
	waiting := *s
	waiting.least, waiting.late = p, late
	return &waiting
}

// await waits for what queries of the views are to reflect.
func (s *Store) await(ctx context.Context, views []string) error {
	if s.least.IsZero() {
		return nil
	}
	err := s.WaitFor(ctx, s.least, views...)
	if err != nil && s.late != nil {
		if reason := s.late(ctx); reason != nil {
			return reason
		}
	}
	return err
}

func (s *database) movement() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved
}

func (s *database) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.moved)
	s.moved = make(chan struct{})
}

// listen turns notifications into wake-ups of WaitFor until ctx ends. While it cannot, WaitFor polls.
func (s *database) listen(ctx context.Context) {
	for ctx.Err() == nil {
		s.listenOnce(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(listenRetry):
		}
	}
}

func (s *database) listenOnce(ctx context.Context) {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return // the queries report it; here only the retry matters
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "listen "+CheckpointChannel); err != nil {
		return
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return
		}
		s.announce()
	}
}

// Reading is a set of queries that go to the database in one round trip, again and again until their views are there: what
// takes their rows begins anew each time.
type Reading struct{ pgx.Batch }

// onto adds the queries to a batch. Each attempt needs a batch of its own, because a batch that failed remembers statements
// that were never prepared, or only on the connection that it was sent by.
func (r *Reading) onto(batch *pgx.Batch) *pgx.Batch {
	for _, q := range r.QueuedQueries {
		batch.Queue(q.SQL, q.Arguments...).Fn = q.Fn
	}
	return batch
}

// Queue adds a query whose rows become *into, never nil.
func Queue[R any](b *Reading, into *[]R, sql string, args ...any) {
	b.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, pgx.RowToStructByName[R])
		return err
	})
}

// Read runs the queries over the rows within reach and returns the position that the rows reflect at least.
func (s *Store) Read(ctx context.Context, r Reach, queries *Reading) (at domain.Position, err error) {
	err = s.Within(ctx, r, func(q Querier) error {
		at, err = s.Send(ctx, q, queries)
		return err
	})
	return at, err
}

// reader runs queries of views over the rows of now.
type reader struct {
	*pgxpool.Pool
	views []string
}

// Send is Read by a querier that Within has given.
func (s *Store) Send(ctx context.Context, q Querier, queries *Reading) (domain.Position, error) {
	if s.moment == nil {
		return position(ctx, q, eventsSQL, q.(reader).views, queries)
	}
	return s.moment.Position, q.SendBatch(ctx, queries.onto(&pgx.Batch{})).Close()
}

// position runs the queries after it has read the position of views by sql, which the rows therefore reflect at least.
func position(ctx context.Context, q Querier, sql string, views []string, queries *Reading) (domain.Position, error) {
	var at domain.Position
	var batch pgx.Batch
	batch.Queue(sql, views).Query(func(rows pgx.Rows) error {
		var commit, prepare int64
		_, err := pgx.ForEachRow(rows, []any{&commit, &prepare}, func() error {
			at = domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
			return nil
		})
		return err
	})
	if err := q.SendBatch(ctx, queries.onto(&batch)).Close(); err != nil {
		return domain.Position{}, unavailable(err)
	}
	return at, nil
}

// whenBuilt runs a query, and again while a view that it reads is not there yet or changes, until MaxWait is over: on a first
// start the tables become complete one after the other, and at a switch a view changes under a prepared statement.
func (s *database) whenBuilt(ctx context.Context, query func() error) error {
	var state *pgconn.PgError
	var deadline <-chan time.Time
	for {
		moved := s.movement() // before the look, so that no notification falls between the two
		err := query()
		if !errors.As(err, &state) || !building[state.Code] {
			return err
		}
		if deadline == nil {
			deadline = time.After(MaxWait)
		}
		select {
		case <-moved:
		case <-time.After(waitPoll):
		case <-deadline:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

// SQLSTATEs of a query whose views the projectors are about to change.
var building = map[string]bool{
	"42P01": true, // undefined_table: a view that the projectors have not made yet, because its table is being built
	"3F000": true, // invalid_schema_name: the same, for the first of all
	"42703": true, // undefined_column: the view still has the columns of an older version, while the newer is being built
	"42883": true, // undefined_function: the same, for a column of another type
	"42804": true, // datatype_mismatch: the same
	"0A000": true, // feature_not_supported: a column has changed its type under a prepared statement, at the switch
}

// SQLSTATEs after which the same query may succeed later, beside those of building.
var transient = map[string]bool{
	"57P01": true, // admin_shutdown
	"57P02": true, // crash_shutdown
	"57P03": true, // cannot_connect_now
	"57014": true, // query_canceled: the statement timeout
	"53300": true, // too_many_connections
	"40001": true, // serialization_failure
	"40P01": true, // deadlock_detected
}

// unavailable wraps a lost or overloaded database as *domain.UnavailableError and returns everything else as it is.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	var state *pgconn.PgError
	var connect *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &connect):
	case errors.As(err, &state):
		if !transient[state.Code] && !building[state.Code] && state.Code[:2] != "08" {
			return err
		}
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
	case pgconn.SafeToRetry(err):
	default:
		return err
	}
	return &domain.UnavailableError{What: "read models", Err: err}
}
