package asof

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/product"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/audit"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const tenant = domain.DefaultTenant

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// memoryLog is a log that counts how often it is scanned.
type memoryLog struct {
	mu     sync.Mutex
	events []domain.Recorded
	branch int // told by the ids of events
	scans  atomic.Int64
	gate   chan struct{} // scans wait for it; nil means none
}

// add records that a product is named so.
func (l *memoryLog) add(n int, name string, recorded, occurred time.Time) domain.Recorded {
	stream := domain.StreamID{Tenant: tenant, Aggregate: "product", ID: domain.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", n))}
	if slices.ContainsFunc(l.all(), func(e domain.Recorded) bool { return e.Stream == stream }) {
		return l.append(stream, product.Updated{To: product.Details{Name: name}}, recorded, occurred)
	}
	return l.append(stream, product.Added{Code: fmt.Sprint("P", n), Details: product.Details{Name: name}}, recorded, occurred)
}

func (l *memoryLog) append(stream domain.StreamID, event domain.Event, recorded, occurred time.Time) domain.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := uint64(10 * (len(l.events) + 1))
	e := domain.Recorded{
		ID: fmt.Sprintf("%08d-0000-7000-9000-%012d", l.branch, at), Stream: stream, Position: domain.Position{Commit: at, Prepare: at},
		Metadata: domain.Metadata{Schema: 1, Tenant: tenant, OccurredAt: occurred, RecordedAt: recorded},
		Event:    event,
	}
	for _, before := range l.events {
		if before.Stream == stream {
			e.Revision++
		}
	}
	l.events = append(l.events, e)
	return e
}

func (l *memoryLog) all() []domain.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

func (l *memoryLog) Read(_ context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range l.all() {
			if e.Stream == stream && e.Revision >= from && !yield(e, nil) {
				return
			}
		}
	}
}

func (l *memoryLog) ReadTypes(ctx context.Context, after domain.Position, wanted func(string) bool) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		l.scans.Add(1)
		if l.gate != nil {
			select {
			case <-l.gate:
			case <-ctx.Done():
				yield(domain.Recorded{}, ctx.Err())
				return
			}
		}
		for _, e := range l.all() {
			if after.Before(e.Position) && wanted(e.Type()) && !yield(e, nil) {
				return
			}
		}
	}
}

func (l *memoryLog) Head(context.Context) (domain.Mark, error) {
	all := l.all()
	if len(all) == 0 {
		return domain.Mark{}, nil
	}
	last := all[len(all)-1]
	return domain.Mark{Position: last.Position, ID: last.ID}, nil
}

func (l *memoryLog) Stands(_ context.Context, m domain.Mark) (bool, error) {
	return m.Position.IsZero() || slices.ContainsFunc(l.all(), func(e domain.Recorded) bool {
		return e.Position == m.Position && e.ID == m.ID
	}), nil
}

// fixture is an Evaluator with its database.
type fixture struct {
	*testing.T
	url   string
	log   *memoryLog
	reads *query.Store
	*Evaluator
}

func open(t *testing.T, o Options) *fixture {
	t.Helper()
	f := &fixture{T: t, url: pgtest.Database(t), log: &memoryLog{}}
	var err error
	if f.reads, err = query.Open(t.Context(), f.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.reads.Close)
	f.reads = f.reads.For(domain.Caller{Tenant: tenant})
	f.Evaluator = f.open(o)
	return f
}

func (f *fixture) open(o Options) *Evaluator {
	f.Helper()
	e, err := Open(f.Context(), f.url, f.log, f.reads, projections.All(), o)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(e.Close)
	return e
}

func (f *fixture) query(sql string, args ...any) (n int) {
	f.Helper()
	conn, err := pgx.Connect(f.Context(), f.url)
	if err == nil {
		defer conn.Close(context.Background())
		err = conn.QueryRow(f.Context(), sql, args...).Scan(&n)
	}
	if err != nil {
		f.Fatal(err)
	}
	return n
}

// schemas returns how many schemas of snapshots there are.
func (f *fixture) schemas() int {
	f.Helper()
	return f.query("select count(*)::int from pg_namespace where nspname ~ '^asof_'")
}

func moment(p uint64) query.AsOf {
	return query.AsOf{Axis: query.AxisRecorded, Position: domain.Position{Commit: p, Prepare: p}, Time: noon}
}

// names returns the names of the products as of a moment, from a snapshot.
func names(ctx context.Context, e *Evaluator, m query.AsOf) ([]string, error) {
	page, err := sales.Products.List(ctx, e.At(m), query.Query{})
	var list []string
	for _, p := range page.Items {
		list = append(list, p.Name)
	}
	return list, err
}

func (f *fixture) expect(m query.AsOf, want ...string) {
	f.Helper()
	if got, err := names(f.Context(), f.Evaluator, m); err != nil || !slices.Equal(got, want) {
		f.Errorf("as of %+v: %v, %v; want %v", m, got, err, want)
	}
}

func TestARecordIsFoldedFromItsOwnStream(t *testing.T) {
	f := open(t, Options{})
	for n := range 50 {
		f.log.add(n, "bolt", noon, noon)
	}
	e := f.log.add(7, "screw", noon, noon)
	for m, want := range map[query.AsOf]string{moment(500): "bolt", moment(e.Position.Prepare): "screw"} {
		p, at, err := sales.ProductRecord.Read(t.Context(), f.At(m), e.Stream.ID)
		if err != nil || p.Name != want || at != m.Position {
			t.Errorf("as of %s: %q at %s, %v", m.Position, p.Name, at, err)
		}
	}
	var missing *domain.NotFoundError
	if _, _, err := sales.ProductRecord.Read(t.Context(), f.At(moment(70)), e.Stream.ID); !errors.As(err, &missing) {
		t.Errorf("before it was: %v", err)
	}
	if n := f.log.scans.Load(); n != 0 {
		t.Errorf("the log was scanned %d times", n)
	}
	if n := f.query("select count(*)::int from pg_class where relpersistence = 't'"); n != 0 {
		t.Errorf("%d temporary tables are left", n)
	}
}

func TestASnapshotIsMadeOnceAndShared(t *testing.T) {
	f := open(t, Options{})
	f.log.add(1, "bolt", noon, noon)
	f.log.add(2, "nut", noon, noon)
	f.log.gate = make(chan struct{})
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() { f.expect(moment(20), "bolt", "nut") })
	}
	close(f.log.gate)
	group.Wait()
	f.expect(moment(20), "bolt", "nut")
	if n := f.log.scans.Load(); n != 1 {
		t.Errorf("%d scans", n)
	}
	f.expect(moment(10), "bolt")
	f.expect(moment(9))
	if n := f.schemas(); n != 3 {
		t.Errorf("%d schemas", n)
	}
	f.Close()
	if n := f.schemas(); n != 0 {
		t.Errorf("%d schemas are left behind", n)
	}
}

func TestALongEvaluationGoesOnBehindTheRequest(t *testing.T) {
	f := open(t, Options{Wait: time.Millisecond})
	f.log.add(1, "bolt", noon, noon)
	f.log.gate = make(chan struct{})
	_, err := names(t.Context(), f.Evaluator, moment(10))
	var late *domain.UnavailableError
	if !errors.As(err, &late) {
		t.Fatalf("%v", err)
	}
	close(f.log.gate)
	for errors.As(err, &late) { // the client tries again
		_, err = names(t.Context(), f.Evaluator, moment(10))
	}
	f.expect(moment(10), "bolt")
	if n := f.log.scans.Load(); n != 1 {
		t.Errorf("%d scans", n)
	}
}

// What is made is never refused, however late the request comes to look at it.
func TestReproASnapshotThatIsMadeIsNotRefused(t *testing.T) {
	f := open(t, Options{Wait: time.Nanosecond})
	f.log.add(1, "bolt", noon, noon)
	var late *domain.UnavailableError
	_, err := names(t.Context(), f.Evaluator, moment(10))
	for errors.As(err, &late) {
		_, err = names(t.Context(), f.Evaluator, moment(10))
	}
	for range 20 {
		f.expect(moment(10), "bolt")
	}
}

func TestTooManyMomentsAtOnceAreRefused(t *testing.T) {
	f := open(t, Options{Wait: time.Millisecond})
	f.log.add(1, "bolt", noon, noon)
	f.log.gate = make(chan struct{})
	for p := range uint64(2 * maxWaiting) {
		var late *domain.UnavailableError
		if _, err := names(t.Context(), f.Evaluator, moment(p)); !errors.As(err, &late) {
			t.Fatalf("as of %d: %v", p, err)
		}
	}
	f.snapshots.mu.Lock()
	waiting := f.snapshots.waiting
	f.snapshots.mu.Unlock()
	if waiting != maxWaiting {
		t.Errorf("%d wait", waiting)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	for _, axis := range []query.Axis{query.AxisRecorded, query.AxisOccurred} {
		f := open(t, Options{MaxMemory: 256 << 10})
		for n := range 2 * checkEvery {
			f.log.add(n, "bolt", noon, noon)
		}
		m := moment(40_000)
		m.Axis = axis
		var refused *domain.Rejection
		if _, err := names(t.Context(), f.Evaluator, m); !errors.As(err, &refused) || refused.Rule != "as-of-too-large" {
			t.Errorf("on axis %s: %v", axis, err)
		}
		m.Position = domain.Position{Commit: 100, Prepare: 100}
		if list, err := names(t.Context(), f.Evaluator, m); err != nil || len(list) != 10 {
			t.Errorf("less on axis %s: %v, %v", axis, list, err)
		}
	}
}

func TestMemoryOfARecordIsBounded(t *testing.T) {
	f := open(t, Options{MaxMemory: 100 << 10})
	var last domain.Recorded
	for range checkEvery {
		last = f.log.add(1, "bolt", noon, noon)
	}
	var refused *domain.Rejection
	if _, _, err := sales.ProductRecord.Read(t.Context(), f.At(moment(last.Position.Prepare)), last.Stream.ID); !errors.As(err, &refused) || refused.Rule != "as-of-too-large" {
		t.Errorf("%v", err)
	}
	if p, _, err := sales.ProductRecord.Read(t.Context(), f.At(moment(100)), last.Stream.ID); err != nil || p.Revision != 9 {
		t.Errorf("less: %+v, %v", p, err)
	}
}

func TestSnapshotsThatNobodyUsesGo(t *testing.T) {
	var now atomic.Int64
	clock := func() time.Time { return noon.Add(time.Duration(now.Load())) }
	for what, o := range map[string]Options{"number": {MaxTables: 2}, "bytes": {MaxStored: 1}, "age": {MaxAge: time.Minute}} {
		o.Clock = clock
		f := open(t, o)
		for n := range 5 {
			f.log.add(n, fmt.Sprint("product ", n), noon, noon)
			now.Add(int64(2 * time.Minute))
			f.expect(moment(10), "product 0")
			if list, err := names(t.Context(), f.Evaluator, moment(uint64(10*(n+1)))); err != nil || len(list) != n+1 {
				t.Errorf("%s: %v, %v", what, list, err)
			}
		}
		f.snapshots.mu.Lock()
		kept := len(f.snapshots.kept)
		f.snapshots.mu.Unlock()
		if kept > 2 {
			t.Errorf("%s: %d are kept", what, kept)
		}
		f.Evaluator.Close()
		if n := f.schemas(); n != 0 {
			t.Errorf("%s: %d schemas after Close", what, n)
		}
	}
}

// kill ends an Evaluator as the death of its process would: nothing is dropped. It returns when the server has noticed.
func (f *fixture) kill(e *Evaluator) {
	f.Helper()
	e.snapshots.stop()
	e.snapshots.work.Wait()
	e.snapshots.alive.Release()
	e.snapshots.alive = nil
	e.pool.Close()
	const held = "select count(*)::int from pg_locks where locktype = 'advisory' and classid = $1 and objid = $2"
	for f.query(held, uint32(aliveLock), uint32(e.snapshots.owner)) > 0 {
		continue // each look takes a session of its own
	}
}

func TestLeftoversOfTheDeadAreDroppedAndThoseOfTheLivingAreNot(t *testing.T) {
	f := open(t, Options{})
	f.log.add(1, "bolt", noon, noon)
	f.expect(moment(10), "bolt")
	dead := f.open(Options{})
	if list, err := names(t.Context(), dead, moment(10)); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if n := f.schemas(); n != 2 {
		t.Fatalf("%d schemas", n)
	}
	f.kill(dead)
	f.open(Options{}).Close()
	if n := f.schemas(); n != 1 {
		t.Errorf("%d schemas", n)
	}
	f.expect(moment(10), "bolt")
}

// S13: the log is replaced by an older copy that grows past the moment in another way.
func TestASnapshotOfAnotherHistoryIsMadeAnew(t *testing.T) {
	f := open(t, Options{})
	f.log.add(1, "bolt", noon, noon)
	f.log.add(2, "nut", noon, noon)
	f.log.add(3, "washer", noon, noon)
	f.expect(moment(20), "bolt", "nut")
	f.log.events, f.log.branch = f.log.events[:1], 1
	f.log.add(2, "screw", noon, noon)
	f.expect(moment(20), "bolt", "screw")
	scans := f.log.scans.Load()
	f.log.add(3, "washer", noon, noon) // what follows does not matter
	f.expect(moment(20), "bolt", "screw")
	if n := f.log.scans.Load(); n != scans {
		t.Errorf("made anew although nothing was replaced")
	}
}

func TestASnapshotThatWasDroppedIsMadeAnew(t *testing.T) {
	f := open(t, Options{})
	f.log.add(1, "bolt", noon, noon)
	f.expect(moment(10), "bolt")
	conn, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "drop schema "+schemaName(f.snapshots.owner, 1)+" cascade"); err != nil {
		t.Fatal(err)
	}
	f.expect(moment(10), "bolt")
}

// TestASnapshotDoesNotOutliveACrashOfTheDatabase holds that tables which a crash has emptied are never read: what ends the
// session that protects them is all that is left of a crash in the eyes of a client.
func TestASnapshotDoesNotOutliveACrashOfTheDatabase(t *testing.T) {
	f := open(t, Options{})
	f.log.add(1, "bolt", noon, noon)
	f.log.add(2, "nut", noon, noon)
	f.expect(moment(10), "bolt")
	f.expect(moment(20), "bolt", "nut")
	lost := schemaName(f.snapshots.owner, 2)
	const end = `select count(*)::int from (select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory' and classid = $1
	and database = (select oid from pg_database where datname = current_database())) x`
	f.query(end, uint32(aliveLock))
	conn, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "truncate "+lost+".product"); err != nil {
		t.Fatal(err)
	}
	f.expect(moment(20), "bolt", "nut")
	f.expect(moment(10), "bolt")
	if n := f.query("select count(*)::int from pg_namespace where nspname = $1", lost); n != 0 {
		t.Error("what is lost was not dropped")
	}
}

func TestRestatedEventsAreFoldedAsTheyHappened(t *testing.T) {
	f := open(t, Options{})
	hour := func(h int) time.Time { return noon.Add(time.Duration(h) * time.Hour) }
	f.log.add(1, "first", hour(0), hour(0))
	f.log.add(1, "third", hour(5), hour(3))
	f.log.add(1, "second", hour(6), hour(2))     // dated back before the third
	f.log.add(1, "beginning", hour(7), hour(-9)) // dated back before the product was there
	at := func(h int, p uint64) query.AsOf {
		m := moment(p)
		m.Axis, m.Time = query.AxisOccurred, hour(h)
		return m
	}
	f.expect(at(-1, 40))
	f.expect(at(0, 40), "beginning")
	f.expect(at(2, 40), "second")
	f.expect(at(4, 40), "third")
	f.expect(at(4, 20), "third")
	f.expect(at(2, 20), "first")
	f.expect(moment(40), "beginning")
	for m, want := range map[query.AsOf]string{at(2, 40): "second", at(0, 40): "beginning", at(2, 30): "second"} {
		if p, _, err := sales.ProductRecord.Read(t.Context(), f.At(m), f.log.events[0].Stream.ID); err != nil || p.Name != want {
			t.Errorf("record as of %+v: %q, %v", m, p.Name, err)
		}
	}
}

// TestNothingIsRestatedBeforeItsBeginning: what is dated back before its customer was there counts from when the customer
// came, also where a list is made of events among which the first ones of the streams are not.
func TestNothingIsRestatedBeforeItsBeginning(t *testing.T) {
	f := open(t, Options{})
	hour := func(h int) time.Time { return noon.Add(time.Duration(h) * time.Hour) }
	acme := domain.StreamID{Tenant: tenant, Aggregate: "customer", ID: "00000000-0000-7000-8000-000000000001"}
	f.log.append(acme, customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Acme"}, Owner: "ann"}, hour(0), hour(0))
	f.log.append(acme, customer.CommitmentRecorded{CommitmentID: "c", Text: "call back", Due: "2026-04-01", By: "ann"}, hour(1), hour(-9))
	for h, want := range map[int]int{-1: 0, 0: 1} {
		m := query.AsOf{Axis: query.AxisOccurred, Position: moment(20).Position, Time: hour(h)}
		list, err := party.Commitments.List(t.Context(), f.At(m), query.Query{})
		if err != nil || len(list.Items) != want {
			t.Errorf("at hour %d the list has %d, want %d: %v", h, len(list.Items), want, err)
		}
		digest, _, err := party.ReadHandover(t.Context(), f.At(m), "ann")
		if err != nil || len(digest.OpenCommitments) != want {
			t.Errorf("at hour %d the digest has %d, want %d: %v", h, len(digest.OpenCommitments), want, err)
		}
	}
}

func TestAnEvaluationParksWhatTheReadModelsPark(t *testing.T) {
	strict := projection.Fold[productKey, sales.Product]{
		Name: "product", Version: 1, Doc: "Products.", Events: []string{"product."},
		Keys: func(e domain.Recorded) []productKey { return []productKey{{e.Tenant, e.Stream.ID}} },
		Evolve: func(r sales.Product, _ productKey, e domain.Recorded) sales.Product {
			changed, ok := e.Event.(product.Updated)
			if ok && changed.To.Name == "poison" {
				panic("a name that nothing can be called")
			}
			r.Revision = int64(e.Revision)
			return r
		},
	}
	c, err := strict.Compile()
	if err != nil {
		t.Fatal(err)
	}
	log := &memoryLog{}
	log.add(1, "bolt", noon, noon)
	log.add(2, "nut", noon, noon)
	log.add(1, "poison", noon, noon)
	log.add(1, "too late", noon, noon)
	log.add(2, "still here", noon, noon)
	e := NewEvaluation(c)
	for _, event := range log.events {
		if err := e.Apply(event); err != nil {
			t.Fatal(err)
		}
	}
	var revisions []int64
	for _, row := range e.Memory("product").All() {
		revisions = append(revisions, row.(sales.Product).Revision)
	}
	if !slices.Equal(revisions, []int64{0, 1}) {
		t.Errorf("revisions %v", revisions)
	}
}

type productKey struct {
	Tenant domain.Tenant `db:"tenant"`
	ID     domain.ID     `db:"id"`
}

// TestATimeIsTheLongestBeginningRecordedByIt compares with the definition, read event by event, under clocks that are set
// back, and read models that know all, some or nothing of the log.
func TestATimeIsTheLongestBeginningRecordedByIt(t *testing.T) {
	f := open(t, Options{Clock: func() time.Time { return noon.Add(time.Hour) }})
	conn, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	compiled, err := audit.LogTime.Compile()
	if err != nil {
		t.Fatal(err)
	}
	table := compiled.Table.In("rapport")
	if _, err := conn.Exec(t.Context(), table.CreateSQL()[0]); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 30 {
		f.log.events = nil
		at := noon
		for n := range random.IntN(40) {
			at = at.Add(time.Duration(random.IntN(4_000)-800) * time.Millisecond)
			f.log.add(n, "x", at, at)
		}
		known := f.log.all()[:random.IntN(len(f.log.events)+1)]
		if round%2 == 0 {
			known = f.log.all()
		}
		memory := compiled.NewMemory()
		for _, e := range known {
			if err := memory.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "truncate "+table.Qualified()); err != nil {
				return err
			}
			return load(t.Context(), tx, table, memory)
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			when := noon.Add(time.Duration(random.IntN(60_000)-5_000) * time.Millisecond)
			if all := f.log.all(); len(all) > 0 && random.IntN(3) == 0 {
				when = all[random.IntN(len(all))].RecordedAt
			}
			seen := 0
			for _, e := range f.log.all() {
				if e.RecordedAt.After(when) {
					break
				}
				seen++
			}
			m, err := f.Resolve(t.Context(), tenant, query.PastQuery{AsOf: query.Point{Time: when}})
			got := 0
			for _, e := range f.log.all() {
				if !m.Position.Before(e.Position) {
					got++
				}
			}
			if err != nil || got != seen {
				t.Fatalf("seed %d, round %d: at %s %d events are seen, not %d (%v)", seed, round, when, got, seen, err)
			}
			if !m.Position.IsZero() && !slices.ContainsFunc(f.log.all(), func(e domain.Recorded) bool { return e.Position == m.Position }) {
				t.Fatalf("seed %d, round %d: at %s stands position %s, where no event is", seed, round, when, m.Position)
			}
			if len(f.log.events) == 0 {
				continue
			}
			e := f.log.events[random.IntN(len(f.log.events))]
			back, err := f.Resolve(t.Context(), tenant, query.PastQuery{AsOf: query.Point{Position: &e.Position}})
			if err != nil || !back.Time.Equal(e.RecordedAt) || back.Position != e.Position {
				t.Fatalf("seed %d, round %d: position %s is at %s, not %s (%v)", seed, round, e.Position, back.Time, e.RecordedAt, err)
			}
			f.resolvesAnyNumber(random)
		}
	}
}

// resolvesAnyNumber fails the test unless a number up to the last event stands for the last event at or before it, and one beyond
// is refused.
func (f *fixture) resolvesAnyNumber(random *rand.Rand) {
	f.Helper()
	all := f.log.all()
	head := all[len(all)-1].Position
	number := random.Uint64N(head.Commit + 20)
	at := domain.Position{Commit: number, Prepare: number}
	m, err := f.Resolve(f.Context(), tenant, query.PastQuery{AsOf: query.Point{Position: &at}})
	if head.Before(at) {
		var invalid *domain.InvalidError
		if !errors.As(err, &invalid) {
			f.Fatalf("position %s beyond %s: %v", at, head, err)
		}
		return
	}
	var want time.Time
	for _, e := range all {
		if !at.Before(e.Position) {
			want = e.RecordedAt
		}
	}
	if err != nil || m.Position != at || !m.Time.Equal(want) {
		f.Fatalf("position %s became %s at %s, not %s (%v)", at, m.Position, m.Time, want, err)
	}
}
