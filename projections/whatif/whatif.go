package whatif

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/projection"
)

// How the history is run through.
const (
	batchEvents    = 2_000            // folded between two writes
	cacheRows      = 50_000           // of each of the two tables, kept in memory between batches
	bulkRows       = 100              // new rows of a batch from which on they are sent by COPY
	cleanupTimeout = 30 * time.Second // to drop the schema after the run, however that ended
)

// Log is what a run needs of the event log.
type Log interface {
	ReadTypes(ctx context.Context, after domain.Position, wanted func(eventType string) bool) iter.Seq2[domain.Recorded, error]
	Head(ctx context.Context) (domain.Mark, error)
}

// Progress says how far a run has come.
type Progress struct {
	Events int64 // folded so far
	Seen   int64 // of the log, so far, whatever their types
	Total  int64 // in the log, as the read models have counted them; 0 when they have not yet
	Ended  bool  // this is the last word
}

// Change is one value that would be another.
type Change struct {
	Key    string // of the row: the columns of its key, the tenant left out
	Column string
	From   string // as JSON; empty for a row that is only there with the change
	To     string // as JSON; empty for a row that is not there with the change
}

// Summary counts what was compared.
type Summary struct {
	Projection string          `json:"projection"`
	Position   domain.Position `json:"position"`   // of the log up to which history was run through
	Events     int64           `json:"events"`     // folded
	Rows       int64           `json:"rows"`       // as it is
	Changed    int64           `json:"changed"`    // rows with at least one other value
	Added      int64           `json:"added"`      // rows that are only there with the change
	Removed    int64           `json:"removed"`    // rows that are not there with the change
	Values     int64           `json:"values"`     // differing values in changed rows
	Parked     int             `json:"parked"`     // streams with an event that the projection cannot digest, left out from there on
	Unaffected bool            `json:"unaffected"` // parameters are changed, and no event of the projection pins one
}

// Run is one what-if.
type Run struct {
	URL        string // of the database
	Log        Log
	Tenant     domain.Tenant
	Projection string // name
	Candidate  *Candidate
	Progress   func(Progress) // called now and then, and in the end; may be nil
}

// Do runs the projection over the history up to where the log ends now, once as it is and once with the candidate's
// parameters, calls each with every difference in the order of the rows' keys, and counts. It leaves nothing behind, also
// when ctx ends; what a killed process left is dropped by the next run. It returns a *FileError for parameters of what does
// not exist, and a *domain.NotFoundError for an unknown projection.
func (r Run) Do(ctx context.Context, each func(Change) error) (s Summary, err error) {
	compiled, err := r.compiled()
	if err != nil {
		return s, err
	}
	s.Projection, s.Unaffected = compiled.Name, len(r.Candidate.entries) > 0 && !r.Candidate.affects(compiled)
	reading, err := r.reading(ctx)
	if err != nil {
		return s, err
	}
	head, err := r.Log.Head(ctx)
	if err != nil {
		return s, err
	}
	s.Position = head.Position
	scratch, err := open(ctx, r.URL)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, scratch.close()) }()
	asIs, err := scratch.side(ctx, compiled, "as_is", func(e domain.Recorded) domain.Recorded { return e })
	if err != nil {
		return s, err
	}
	whatIf, err := scratch.side(ctx, compiled, "what_if", reading)
	if err != nil {
		return s, err
	}
	if err := r.fold(ctx, scratch, compiled, []*side{asIs, whatIf}, &s); err != nil {
		return s, err
	}
	s.Parked = max(len(asIs.parked), len(whatIf.parked))
	return s, scratch.compare(ctx, compiled, &s, each)
}

func (r Run) compiled() (*projection.Compiled, error) {
	list, err := projection.Compile(projections.All()...)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(c *projection.Compiled) bool { return c.Name == r.Projection })
	if i < 0 {
		return nil, &domain.NotFoundError{Kind: "projection", ID: r.Projection}
	}
	return list[i], nil
}

// affects reports whether a projection reads events that pin what is changed.
func (c *Candidate) affects(p *projection.Compiled) bool {
	return slices.ContainsFunc(c.entries, func(e entry) bool { return slices.ContainsFunc(e.parameter.Events, p.Matches) })
}

// reading returns how events are read with the candidate's parameters, once the log has told which there are.
func (r Run) reading(ctx context.Context) (func(domain.Recorded) domain.Recorded, error) {
	catalogues := map[string]*projection.Catalogue{}
	for _, p := range projections.Parameters() {
		catalogue := projection.NewCatalogue(p)
		catalogues[p.Name] = catalogue
		if len(r.Candidate.entries) == 0 {
			continue
		}
		declares := func(eventType string) bool { return slices.Contains(p.Declare, eventType) }
		for e, err := range r.Log.ReadTypes(ctx, domain.Position{}, declares) {
			if err != nil {
				return nil, err
			}
			if e.Tenant == r.Tenant {
				catalogue.Add(e, p)
			}
		}
	}
	return r.Candidate.resolve(catalogues)
}

// fold runs the history through both sides.
func (r Run) fold(ctx context.Context, s *scratch, c *projection.Compiled, sides []*side, sum *Summary) error {
	var batch []domain.Recorded
	now := Progress{}
	if r.Progress != nil {
		var err error
		if now.Total, err = s.counted(ctx); err != nil {
			return err
		}
	}
	tell := func(ended bool) {
		if r.Progress != nil {
			now.Events, now.Ended = sum.Events, ended
			r.Progress(now)
		}
	}
	flush := func() error {
		for _, side := range sides {
			if err := side.apply(ctx, s.conn, batch); err != nil {
				return err
			}
		}
		sum.Events += int64(len(batch))
		batch = batch[:0]
		tell(false)
		return nil
	}
	wanted := func(eventType string) bool {
		now.Seen++
		return c.Matches(eventType)
	}
	for e, err := range r.Log.ReadTypes(ctx, domain.Position{}, wanted) {
		if err != nil {
			return err
		}
		if sum.Position.Before(e.Position) {
			break
		}
		if e.Tenant != r.Tenant {
			continue
		}
		if batch = append(batch, e); len(batch) == batchEvents {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	tell(true)
	return nil
}

// side is one of the two tables that are compared.
type side struct {
	table   *projection.Table
	engine  projection.Engine
	reading func(domain.Recorded) domain.Recorded
	parked  map[domain.StreamID]bool
	scratch []domain.Recorded // room for a batch
}

// apply folds a batch into the table. As in the live read models, a stream with an event that cannot be digested is left
// out from there on.
func (s *side) apply(ctx context.Context, conn *pgx.Conn, batch []domain.Recorded) error {
	for from := map[domain.StreamID]uint64{}; ; {
		s.scratch = s.scratch[:0]
		for _, e := range batch {
			revision, failing := from[e.Stream]
			if s.parked[e.Stream] && !failing || failing && e.Revision >= revision {
				continue
			}
			s.scratch = append(s.scratch, s.reading(e))
		}
		err := s.store(ctx, conn)
		var poison *projection.EventError
		if !errors.As(err, &poison) {
			return err
		}
		s.parked[poison.Event.Stream] = true
		from[poison.Event.Stream] = poison.Event.Revision
	}
}

// store evaluates the events and writes what they change.
func (s *side) store(ctx context.Context, conn *pgx.Conn) error {
	step, err := s.engine.Begin(s.scratch)
	if err != nil {
		return err
	}
	if missing := step.Missing(); missing != nil {
		rows, err := conn.Query(ctx, s.table.SelectSQL(), missing...)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := rows.Scan(step.Target()...); err != nil {
				rows.Close()
				return err
			}
			step.Loaded()
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	writes, err := step.Evaluate(bulkRows)
	if err != nil {
		return err
	}
	if writes.Copied > 0 {
		if _, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(writes.Copy), s.table.CopySQL()); err != nil {
			return err
		}
	}
	if writes.Upserts > 0 {
		if _, err := conn.Exec(ctx, s.table.UpsertSQL(), writes.Upsert...); err != nil {
			return err
		}
	}
	if writes.Deletes > 0 {
		if _, err := conn.Exec(ctx, s.table.DeleteSQL(), writes.Delete...); err != nil {
			return err
		}
	}
	step.Committed()
	return nil
}

// scratch is a schema of its own, which goes with the run.
type scratch struct {
	conn   *pgx.Conn
	schema string
}

const (
	schemaPrefix = "whatif_"
	lockClass    = 0x77686966 // of the advisory lock that says that a schema's process lives; arbitrary
)

// open connects, drops the schemas of processes that live no more, and makes a new one.
func open(ctx context.Context, url string) (*scratch, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("what-if: %w", err)
	}
	config.RuntimeParams["application_name"] = "rapport-what-if"
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["synchronous_commit"] = "off"
	config.RuntimeParams["client_min_messages"] = "warning"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, &domain.UnavailableError{What: "read models", Err: err}
	}
	s := &scratch{conn: conn, schema: schemaPrefix + strings.ToLower(rand.Text()[:16])}
	err = DropLeftovers(ctx, conn)
	if err == nil {
		_, err = conn.Exec(ctx, "select pg_advisory_lock($1, hashtext($2))", int32(lockClass), s.schema)
	}
	if err == nil {
		_, err = conn.Exec(ctx, "create schema "+s.schema)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// counted returns how many events the log holds, as the read models have counted them: somewhat fewer while they are behind,
// and 0 before they have counted at all. Positions do not tell: what lies between two is the business of the log.
func (s *scratch) counted(ctx context.Context) (events int64, err error) {
	const view = projection.ViewSchema + ".log_time"
	var there bool
	if err := s.conn.QueryRow(ctx, "select to_regclass($1) is not null", view).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = s.conn.QueryRow(ctx, "select coalesce(sum(events), 0)::bigint from "+view).Scan(&events)
	return events, err
}

// DropLeftovers drops the schemas whose processes were killed: nobody holds their lock.
func DropLeftovers(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "select nspname from pg_namespace where nspname ~ $1", "^"+schemaPrefix+"[a-z0-9]{16}$")
	if err != nil {
		return err
	}
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, schema := range left {
		var free bool
		if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1, hashtext($2))", int32(lockClass), schema).Scan(&free); err != nil {
			return err
		}
		if !free {
			continue
		}
		_, err := conn.Exec(ctx, "drop schema if exists "+schema+" cascade")
		_, unlock := conn.Exec(ctx, "select pg_advisory_unlock($1, hashtext($2))", int32(lockClass), schema)
		if err := errors.Join(err, unlock); err != nil {
			return err
		}
	}
	return nil
}

// close drops the schema and disconnects. A query that was given up has closed the connection; another one drops then.
func (s *scratch) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	config := s.conn.Config()
	err := s.conn.Close(ctx)
	conn, connecting := pgx.ConnectConfig(ctx, config)
	if connecting != nil {
		return errors.Join(err, connecting)
	}
	_, drop := conn.Exec(ctx, "drop schema if exists "+s.schema+" cascade")
	return errors.Join(err, drop, conn.Close(ctx))
}

// side makes an empty table, which need not survive a crash of the server.
func (s *scratch) side(ctx context.Context, c *projection.Compiled, name string, reading func(domain.Recorded) domain.Recorded) (*side, error) {
	table := c.Table.In(s.schema)
	table.Name = name
	for _, sql := range []string{table.CreateSQL()[0], "alter table " + table.Qualified() + " set unlogged"} {
		if _, err := s.conn.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	engine := c.NewEngine(cacheRows)
	engine.Reset(true)
	return &side{table: table, engine: engine, reading: reading, parked: map[domain.StreamID]bool{}}, nil
}
