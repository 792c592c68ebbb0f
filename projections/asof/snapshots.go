package asof

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// key names one projection as of one moment.
type key struct {
	tenant     domain.Tenant
	projection string
	axis       query.Axis
	position   domain.Position
	time       string // on AxisOccurred; on AxisRecorded the position alone decides
}

func keyOf(tenant domain.Tenant, c *projection.Compiled, m query.AsOf) key {
	k := key{tenant: tenant, projection: c.Name, axis: m.Axis, position: m.Position}
	if m.Axis == query.AxisOccurred {
		k.time = m.Time.UTC().Format(time.RFC3339Nano)
	}
	return k
}

// snapshot is one projection as of one moment, in a schema of its own. Fields below made are set before made is closed.
//
// It was made from a log that had the event newest, at or behind its moment. While that stands where it stood, everything before
// it is what it was.
type snapshot struct {
	key   key
	users int       // requests that hold it; guarded by snapshots.mu
	used  time.Time // when the last let go; guarded by snapshots.mu

	made   chan struct{}
	err    error
	newest domain.Mark
	schema string
	owner  int32 // number of the lock under which it was begun
	bytes  int64
}

// snapshots keeps what was evaluated from the whole log.
//
//  1. A schema is filled in one transaction: nobody sees half of it, and a killed process leaves none half made.
//  2. One is dropped only when no request holds it and nobody can come to hold it.
//  3. The names of a process's schemas begin with its number, and a session of it holds the advisory lock of that number:
//     schemas whose lock is free belong to nobody.
//  4. A request reads schemas only after it has seen, in the same transaction, that the lock has been held ever since they
//     were begun. A crash of the server, which empties unlogged tables, ends the session that holds it.
type snapshots struct {
	evaluator *Evaluator

	ctx  context.Context // ends with close
	stop context.CancelFunc
	work sync.WaitGroup
	slot chan struct{} // held by the one snapshot that is being made

	claiming sync.Mutex // held while the lock is taken anew

	mu      sync.Mutex
	alive   *pgxpool.Conn // holds the lock
	owner   int32         // the number of the lock
	kept    map[key]*snapshot
	waiting int // to be made, or being made
	number  int // of the last schema
}

const (
	schemaPrefix  = "asof_"
	aliveLock     = 0x61736f66 // class of the advisory locks; arbitrary
	sweepInterval = time.Minute
	dropTimeout   = 10 * time.Second
)

func openSnapshots(ctx context.Context, e *Evaluator) (*snapshots, error) {
	s := &snapshots{evaluator: e, kept: map[key]*snapshot{}, slot: make(chan struct{}, 1)}
	if err := s.claim(ctx, 0); err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.work.Go(s.sweep)
	return s, nil
}

// claim takes the lock of a number of its own, unless somebody has done so since the number lost was the owner's, and drops
// what belongs to nobody: what was made under that number too.
func (s *snapshots) claim(ctx context.Context, lost int32) error {
	s.claiming.Lock()
	defer s.claiming.Unlock()
	s.mu.Lock()
	old, owner := s.alive, s.owner
	s.mu.Unlock()
	if owner != lost {
		return nil
	}
	if old != nil {
		old.Conn().Close(ctx) // it may hold the lock still, when only its schemas are gone
		old.Release()
	}
	alive, owner, err := claim(ctx, s.evaluator.pool)
	s.mu.Lock()
	s.alive, s.owner = alive, owner
	s.mu.Unlock()
	if err != nil {
		return &domain.UnavailableError{What: unavailable, Err: err}
	}
	return nil
}

// claim returns a connection that holds the lock of a number, after it has dropped what belongs to nobody.
func claim(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, int32, error) {
	alive, err := pool.Acquire(ctx)
	if err != nil {
		return nil, 0, err
	}
	err = dropLeftovers(ctx, alive)
	number := int32(0)
	for locked := false; err == nil && !locked; {
		number = 1 + rand.Int32N(math.MaxInt32)
		err = alive.QueryRow(ctx, "select pg_try_advisory_lock($1, $2)", int32(aliveLock), number).Scan(&locked)
	}
	if err != nil {
		alive.Release()
		return nil, 0, err
	}
	return alive, number, nil
}

// DropLeftovers drops the snapshots of processes that have ended without doing so.
func DropLeftovers(ctx context.Context, pool *pgxpool.Pool) error {
	return pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return dropLeftovers(ctx, conn) })
}

// dropLeftovers drops the schemas of processes that live no more: those whose lock the connection, which must hold none,
// can have.
func dropLeftovers(ctx context.Context, conn *pgxpool.Conn) error {
	rows, err := conn.Query(ctx, `select nspname from pg_namespace where nspname ~ $1`, "^"+schemaPrefix+"[0-9a-f]{8}_[0-9]+$")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		var number uint32
		if _, err := fmt.Sscanf(name, schemaPrefix+"%08x_", &number); err != nil {
			continue
		}
		var free bool
		if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1, $2)", int32(aliveLock), int32(number)).Scan(&free); err != nil {
			return err
		}
		if !free {
			continue
		}
		_, err := conn.Exec(ctx, "drop schema if exists "+name+" cascade")
		if _, unlock := conn.Exec(ctx, "select pg_advisory_unlock($1, $2)", int32(aliveLock), int32(number)); err == nil {
			err = unlock
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// close ends what is being made, drops what is kept and waits for both.
func (s *snapshots) close() {
	s.mu.Lock()
	s.stop() // whoever begins work looks at ctx under the same lock
	s.mu.Unlock()
	s.work.Wait()
	s.mu.Lock()
	all, alive := s.kept, s.alive
	s.kept, s.alive = nil, nil
	s.mu.Unlock()
	for _, made := range all {
		s.drop(made)
	}
	if alive != nil {
		alive.Release()
	}
}

// sweep drops what has become too old, until close.
func (s *snapshots) sweep() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.evict()
		case <-s.ctx.Done():
			return
		}
	}
}

// errLost says that snapshots are not what they were: the session that protected them has ended, somebody dropped them, or the
// log that they were made from was replaced by another.
var errLost = errors.New("the snapshots are lost")

// within lets f query the rows of the projections as of a moment, which it has made when they are not kept.
func (s *snapshots) within(ctx context.Context, tenant domain.Tenant, m query.AsOf, list []*projection.Compiled, f func(query.Querier) error) error {
	s.mu.Lock()
	owner := s.owner
	s.mu.Unlock()
	err := s.try(ctx, tenant, m, list, f)
	if !errors.Is(err, errLost) {
		return err
	}
	if err := s.claim(ctx, owner); err != nil {
		return err
	}
	if err = s.try(ctx, tenant, m, list, f); errors.Is(err, errLost) {
		return &domain.UnavailableError{What: unavailable, Err: err}
	}
	return err
}

// ownSQL tells whether the lock of a number is held and all of so many schemas are there.
const ownSQL = `
select exists (
	select from pg_locks
	where locktype = 'advisory' and granted and classid = $1 and objid = $2 and objsubid = 2
		and database = (select oid from pg_database where datname = current_database())
) and (select count(*) from pg_namespace where nspname = any($3)) = cardinality($3)`

// try is within that returns errLost, before it has called f, when the snapshots kept are not what they were.
func (s *snapshots) try(ctx context.Context, tenant domain.Tenant, m query.AsOf, list []*projection.Compiled, f func(query.Querier) error) error {
	held, err := s.hold(tenant, m, list)
	if err != nil {
		return err
	}
	defer s.release(held)
	waiting, cancel := context.WithTimeout(ctx, s.evaluator.opts.Wait)
	defer cancel()
	path := make([]string, len(held))
	for i, one := range held {
		select {
		case <-one.made:
		case <-waiting.Done():
		}
		switch {
		case one.isMade(): // perhaps at the same time
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return &domain.UnavailableError{What: unavailable, RetryAfter: s.evaluator.opts.Wait / 2, Err: fmt.Errorf("%s as of %s is still being made", one.key.projection, m.Position)}
		}
		if one.err != nil {
			return one.err
		}
		path[i] = one.schema
	}
	if err := s.current(ctx, held); err != nil {
		return err
	}
	for _, one := range held[1:] {
		if one.owner != held[0].owner { // one was made before the lock was lost, the other since
			s.forget(held)
			return errLost
		}
	}
	return s.evaluator.reads.Borrow(ctx, strings.Join(path, ", "), func(tx pgx.Tx) error {
		own := false
		if err := tx.QueryRow(ctx, ownSQL, uint32(aliveLock), uint32(held[0].owner), path).Scan(&own); err != nil {
			return err
		}
		if !own {
			s.forget(held)
			return errLost
		}
		return f(tx)
	})
}

// current returns errLost when the log has another history than one of the snapshots was made from.
func (s *snapshots) current(ctx context.Context, held []*snapshot) error {
	for i, one := range held {
		if i > 0 && one.newest == held[i-1].newest {
			continue
		}
		stands, err := s.evaluator.log.Stands(ctx, one.newest)
		if err != nil {
			return err
		}
		if !stands {
			s.forget(held)
			return errLost
		}
	}
	return nil
}

// hold returns the snapshots of the projections, made, being made, or begun now.
func (s *snapshots) hold(tenant domain.Tenant, m query.AsOf, list []*projection.Compiled) ([]*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing []*projection.Compiled
	for _, c := range list {
		if s.kept[keyOf(tenant, c, m)] == nil {
			missing = append(missing, c)
		}
	}
	if s.owner == 0 {
		return nil, errLost // the lock could not be taken anew
	}
	if s.ctx.Err() != nil || len(missing) > 0 && s.waiting >= maxWaiting {
		return nil, &domain.UnavailableError{What: unavailable, RetryAfter: s.evaluator.opts.Wait, Err: errors.New("too many moments of the past are asked for at the same time")}
	}
	begun := make([]*snapshot, len(missing))
	for i, c := range missing {
		s.number++
		begun[i] = &snapshot{key: keyOf(tenant, c, m), made: make(chan struct{}), owner: s.owner, schema: schemaName(s.owner, s.number)}
		s.kept[begun[i].key] = begun[i]
	}
	if len(missing) > 0 {
		s.waiting++
		s.work.Go(func() { s.makeAll(tenant, m, missing, begun) })
	}
	held := make([]*snapshot, len(list))
	for i, c := range list {
		held[i] = s.kept[keyOf(tenant, c, m)]
		held[i].users++
	}
	return held, nil
}

func schemaName(owner int32, number int) string {
	return fmt.Sprintf("%s%08x_%d", schemaPrefix, owner, number)
}

func (s *snapshots) release(held []*snapshot) {
	now := s.evaluator.opts.Clock()
	s.mu.Lock()
	for _, one := range held {
		one.users--
		one.used = now
		if one.users == 0 && s.kept[one.key] != one && one.isMade() && one.err == nil && s.ctx.Err() == nil { // forgotten
			s.work.Go(func() { s.drop(one) })
		}
	}
	s.mu.Unlock()
	s.evict()
}

// forget makes room for snapshots to be made anew.
func (s *snapshots) forget(list []*snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range list {
		if s.kept[one.key] == one {
			delete(s.kept, one.key)
		}
	}
}

// evict drops what nobody holds and is too old, or too much.
func (s *snapshots) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.evaluator.opts
	for {
		var bytes int64
		var oldest *snapshot
		for _, one := range s.kept {
			bytes += one.size()
			if one.users == 0 && one.isMade() && (oldest == nil || one.used.Before(oldest.used)) {
				oldest = one
			}
		}
		full := bytes > o.MaxStored || len(s.kept) > o.MaxTables
		if oldest == nil || s.ctx.Err() != nil || !full && o.Clock().Sub(oldest.used) < o.MaxAge {
			return
		}
		delete(s.kept, oldest.key)
		s.work.Go(func() { s.drop(oldest) })
	}
}

func (s *snapshot) isMade() bool {
	select {
	case <-s.made:
		return true
	default:
		return false
	}
}

// size returns the bytes that a snapshot takes, 0 while it is being made.
func (s *snapshot) size() int64 {
	if s.isMade() {
		return s.bytes
	}
	return 0
}

// drop removes a snapshot from the database. What it cannot drop goes at the next start of a process.
func (s *snapshots) drop(one *snapshot) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), dropTimeout)
	defer cancel()
	if _, err := s.evaluator.pool.Exec(ctx, "drop schema if exists "+one.schema+" cascade"); err != nil {
		s.evaluator.opts.Logger.WarnContext(ctx, "snapshot not dropped", "schema", one.schema, "err", err)
	}
}

// makeAll makes snapshots of several projections from one pass over the log.
func (s *snapshots) makeAll(tenant domain.Tenant, m query.AsOf, list []*projection.Compiled, begun []*snapshot) {
	ctx, cancel := context.WithTimeout(s.ctx, buildTimeout)
	defer cancel()
	err := s.makeOne(ctx, tenant, m, list, begun)
	if err != nil {
		s.forget(begun)
	}
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
	for _, one := range begun {
		one.err = err
		close(one.made)
	}
}

func (s *snapshots) makeOne(ctx context.Context, tenant domain.Tenant, m query.AsOf, list []*projection.Compiled, begun []*snapshot) error {
	select {
	case s.slot <- struct{}{}:
		defer func() { <-s.slot }()
	case <-ctx.Done():
		return &domain.UnavailableError{What: unavailable, Err: ctx.Err()}
	}
	start := s.evaluator.opts.Clock()
	newest, err := s.evaluator.log.Head(ctx)
	if err != nil {
		return err
	}
	for _, one := range begun {
		one.newest = newest
	}
	evaluation, events, err := s.evaluator.evaluate(ctx, tenant, m, list)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, s.evaluator.pool, func(tx pgx.Tx) error {
		for i, c := range list {
			if err := store(ctx, tx, c.Table.In(begun[i].schema), evaluation.Memory(c.Name)); err != nil {
				return err
			}
			const sizeSQL = "select pg_total_relation_size($1::regclass)"
			if err := tx.QueryRow(ctx, sizeSQL, c.Table.In(begun[i].schema).Qualified()).Scan(&begun[i].bytes); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store rows as of %s: %w", m.Position, err)
	}
	s.evaluator.opts.Logger.InfoContext(ctx, "snapshot made", "tenant", tenant, "axis", m.Axis, "position", m.Position,
		"projections", len(list), "events", events, "took", s.evaluator.opts.Clock().Sub(start))
	return nil
}

// store makes a table in a schema of its own. Nothing of it needs to survive a crash of the server.
func store(ctx context.Context, tx pgx.Tx, table *projection.Table, rows projection.Memory) error {
	statements := []string{"create schema " + table.Schema, table.CreateSQL()[0], "alter table " + table.Qualified() + " set unlogged"}
	if _, err := tx.Exec(ctx, strings.Join(statements, ";")); err != nil {
		return err
	}
	if err := load(ctx, tx, table, rows); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, strings.Join(append(table.IndexSQL(), table.AnalyzeSQL()), ";"))
	return err
}
