package main

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/oracle"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner"
	"github.com/rapport-crm/rapport/readmodels/query"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// shakyLog is the log of a simulation as the runner sees it, on a line that breaks: subscriptions end early, at random
// places. spoil may change what one subscription delivers.
type shakyLog struct {
	events []codec.Raw
	spoil  func([]codec.Raw) []codec.Raw

	mu  sync.Mutex
	rng *rand.Rand
}

var errBroken = &domain.UnavailableError{What: "event log", Err: errors.New("the subscription broke")}

// cut decides after how many events a subscription breaks; one in three lasts.
func (l *shakyLog) cut() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rng.IntN(3) == 0 {
		return len(l.events) + 1
	}
	return l.rng.IntN(len(l.events))
}

func (l *shakyLog) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	return func(yield func(eventlog.Message, error) bool) {
		left, events := l.cut(), l.events
		if l.spoil != nil {
			left, events = len(events)+1, l.spoil(events)
		}
		for i := range events {
			if !after.Position.Before(events[i].Position) {
				continue
			}
			if left--; left < 0 {
				yield(eventlog.Message{}, errBroken)
				return
			}
			if !yield(eventlog.Message{Raw: &events[i]}, nil) {
				return
			}
		}
		if yield(eventlog.Message{CaughtUp: true}, nil) {
			<-ctx.Done()
			yield(eventlog.Message{}, ctx.Err())
		}
	}
}

func (l *shakyLog) ReadAll(_ context.Context, after domain.Position) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		for _, raw := range l.events {
			if after.Before(raw.Position) && !yield(raw, nil) {
				return
			}
		}
	}
}

func (l *shakyLog) Head(context.Context) (domain.Mark, error) {
	last := l.events[len(l.events)-1]
	return domain.Mark{Position: last.Position, ID: last.ID}, nil
}

// Check implements runner.Log: the log is the same for the whole of its life.
func (l *shakyLog) Check(context.Context, domain.Mark) error { return nil }

func (l *shakyLog) ID(context.Context) (string, error) { return logID, nil }

// project runs the real runner over a log into a database of its own until it ends or done is reached, and returns what
// Run returned and a connection.
func (s *simulation) project(t *testing.T, l *shakyLog, wait bool) (*pgx.Conn, error) {
	t.Helper()
	url := pgtest.Database(t)
	reads, err := query.Open(t.Context(), url) // makes the fixed tables, too
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reads.Close)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r, err := runner.New(pool, l, s.registry, projections.All(), runner.Options{
		Bus:       bus.Options{MaxEvents: 1 + l.rng.IntN(60), MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, Linger: time.Millisecond},
		Heartbeat: 20 * time.Millisecond, Retry: time.Millisecond, LockRetry: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if !wait {
		ctx, stop = context.WithTimeout(ctx, catchUp) // a projector that notices nothing goes on for ever
		defer stop()
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	if wait {
		s.await(t, conn, l)
		stop()
	}
	return conn, <-ended
}

// await returns when every projection serves and has the whole log.
func (s *simulation) await(t *testing.T, conn *pgx.Conn, l *shakyLog) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), "listen "+query.CheckpointChannel); err != nil {
		t.Fatal(err)
	}
	head, _ := l.Head(t.Context())
	for {
		const sql = `select count(*) from projection.checkpoint where state = 'serving' and commit_position >= $1`
		var serving int
		if err := conn.QueryRow(t.Context(), sql, int64(head.Position.Commit)).Scan(&serving); err != nil {
			t.Fatal(err)
		}
		if serving == len(projections.All()) {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), catchUp)
		_, err := conn.WaitForNotification(ctx)
		cancel()
		if err != nil {
			t.Fatalf("seed %d: %d projections serve at %s: %v", s.seed, serving, head.Position, err)
		}
	}
}

// catchUp bounds the wait for the next step of the projector, of which the first, all tables made and filled, takes longest, and
// for its end; nothing is learned from how long they take.
const catchUp = 2 * time.Minute

// rowsOf reads the rows behind a view into the projection's row type.
func rowsOf(t *testing.T, conn *pgx.Conn, c *projection.Compiled) (list []any) {
	t.Helper()
	typ := reflect.ValueOf(c.NewMemory()).MethodByName("Rows").Type().Out(0).Elem()
	field := map[string][]int{}
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("db"), ",")
		field[name] = f.Index
	}
	rows, err := conn.Query(t.Context(), "select * from rapport."+c.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		row := reflect.New(typ).Elem()
		var targets []any
		for _, d := range rows.FieldDescriptions() {
			targets = append(targets, row.FieldByIndex(field[d.Name]).Addr().Interface())
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		list = append(list, row.Interface())
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	return list
}

func compiled(t *testing.T) []*projection.Compiled {
	t.Helper()
	list, err := projection.Compile(projections.All()...)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// unlike returns the key of a row of a table that is not what the events fold to in memory, or "".
func unlike(t *testing.T, conn *pgx.Conn, c *projection.Compiled, events []domain.Recorded) string {
	t.Helper()
	all := c.NewSample(len(events) * len(events)) // more than there are rows
	for _, e := range events {
		if err := all.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	if keys := all.Keys(); keys != nil {
		rows, err := conn.Query(t.Context(), c.Table.SelectSQL(), keys...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := rows.Scan(all.Target()...); err != nil {
				t.Fatal(err)
			}
			all.Loaded()
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	key, err := all.Difference()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestTablesAreWhatTheOracleFinds lets the real projector fill PostgreSQL from simulated logs over a line that breaks, and
// compares every table with the fold in memory and, where the oracle knows it, with the oracle.
func TestTablesAreWhatTheOracleFinds(t *testing.T) {
	seeds := []uint64{1, 2}
	if seed, given := wanted(t, seedVariable); given {
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		s, ok := simulate(t, seed)
		if !ok {
			continue
		}
		l := &shakyLog{events: s.log.events, rng: rand.New(rand.NewPCG(seed, 0x9))}
		conn, err := s.project(t, l, true)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		found, err := oracle.Fold(s.decoded())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range compiled(t) {
			if key := unlike(t, conn, c, s.decoded()); key != "" {
				t.Errorf("seed %d: %s: the row %s is not the fold of its events", seed, c, key)
			}
			if !slices.Contains(oracle.Tables, c.Name) {
				continue
			}
			if diff := found.Diff(c.Name, rowsOf(t, conn, c)); diff != "" {
				t.Errorf("seed %d: %s", seed, diff)
			}
		}
		// The real projector has read a log with events in it, and left rows.
		if found.Len("commitment") == 0 || found.Len("customer_timeline") == 0 {
			t.Errorf("seed %d: nothing was simulated", seed)
		}
	}
}

// TestALogOutOfOrderStopsTheProjector breaks the order of what is delivered: an event before another, an event twice, an event
// left out. The projector stops with an alarm, and no table holds anything from there on.
func TestALogOutOfOrderStopsTheProjector(t *testing.T) {
	s, ok := simulate(t, 1)
	if !ok {
		return
	}
	second := -1 // the second event of a stream: without it the third cannot stand
	for i, raw := range s.log.events {
		if raw.Revision == 2 {
			for j := range i {
				if s.log.events[j].Stream == raw.Stream && s.log.events[j].Revision == 1 {
					second = j
				}
			}
			break
		}
	}
	if second < 0 {
		t.Fatal("no stream of the log has three events")
	}
	for name, spoil := range map[string]func([]codec.Raw) []codec.Raw{
		"swapped": func(e []codec.Raw) []codec.Raw {
			e[second], e[second-1] = e[second-1], e[second]
			return e
		},
		"twice": func(e []codec.Raw) []codec.Raw { return append(e[:second+1:second+1], e[second:]...) },
		"left out": func(e []codec.Raw) []codec.Raw {
			return append(e[:second:second], e[second+1:]...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := &shakyLog{events: s.log.events, rng: rand.New(rand.NewPCG(1, 0x9))}
			l.spoil = func(e []codec.Raw) []codec.Raw { return spoil(append([]codec.Raw(nil), e...)) }
			conn, err := s.project(t, l, false)
			if !errors.Is(err, bus.ErrOrder) {
				t.Errorf("the projector ended with %v", err)
			}
			var last int64
			if err := conn.QueryRow(t.Context(), "select coalesce(max(commit_position), 0) from projection.checkpoint").Scan(&last); err != nil {
				t.Fatal(err)
			}
			broken := s.log.events[second+1].Position.Commit
			if name == "left out" {
				broken = s.log.events[len(s.log.events)-1].Position.Commit
			}
			if last >= int64(broken) {
				t.Errorf("the checkpoint is at %d, the order breaks before %d", last, broken)
			}
		})
	}
}
