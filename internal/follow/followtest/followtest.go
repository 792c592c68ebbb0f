// Package followtest gives tests of followers a database, an event node and notes to write.
package followtest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/pgtest"
)

// Written is the event that tests write.
type Written struct {
	Text string `json:"text"`
}

// EventType implements domain.Event.
func (Written) EventType() string { return "note.written" }

// Read is another one, for those who want some events only.
type Read struct{}

// EventType implements domain.Event.
func (Read) EventType() string { return "note.read" }

// Patience bounds every wait of the tests.
const Patience = 30 * time.Second

// Quiet is a logger that says nothing.
var Quiet = slog.New(slog.DiscardHandler)

// Fixture is a database with the tables of followers and an event node.
type Fixture struct {
	Pool     *pgxpool.Pool
	Registry *codec.Registry
	Log      *eventlog.ESDB
	Store    *eventlog.Store
	Written  []string // ids of the events written, in order

	t    testing.TB
	next map[domain.StreamID]domain.Expected // of each note's stream
}

// SetUp opens what a fixture is made of, for the duration of a test. Its log takes the events of notes and of more aggregates.
func SetUp(t testing.TB, more ...domain.Definition) *Fixture {
	t.Helper()
	f := &Fixture{t: t, next: map[domain.StreamID]domain.Expected{}}
	var err error
	if f.Pool, err = pgxpool.New(t.Context(), pgtest.Database(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Pool.Close)
	for _, name := range []string{"003_reactor.sql", "005_reactor_mark.sql", "006_process.sql"} {
		migration, err := os.ReadFile("../../readmodels/migrations/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Pool.Exec(t.Context(), string(migration)); err != nil {
			t.Fatal(err)
		}
	}
	note := domain.Definition{
		Name: "note", Plural: "notes", Doc: "A note.",
		Events: []domain.EventSpec{{Example: Written{"a"}, Doc: "Somebody wrote something."}, {Example: Read{}, Doc: "Somebody read it."}},
	}
	if f.Registry, err = codec.New(append([]domain.Definition{note}, more...)...); err != nil {
		t.Fatal(err)
	}
	node := nodetest.Open(t, esnode.Options{Dir: t.TempDir(), Logger: Quiet})
	if f.Log, err = eventlog.Dial(t.Context(), node.ConnectionString(), eventlog.WithLogger(Quiet)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Log.Close() })
	f.Store = eventlog.NewStore(f.Log, f.Registry)
	return f
}

var recorded = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Append writes one event to the stream of a note, in the tenant that change names.
func (f *Fixture) Append(note int, e domain.Event, change ...func(*domain.Pending)) {
	f.t.Helper()
	p := domain.Pending{ID: uuid.NewString(), Event: e, Metadata: domain.Metadata{
		Tenant: "main", Actor: domain.Actor{ID: "ann", Kind: domain.ActorHuman}, CorrelationID: "conversation", CausationID: "cause",
		CommandID: "command", OccurredAt: recorded.Add(-time.Hour), RecordedAt: recorded,
	}}
	for _, c := range change {
		c(&p)
	}
	stream := domain.StreamID{Tenant: p.Tenant, Aggregate: "note", ID: domain.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", note))}
	var committed domain.Committed
	for done := false; !done; {
		switch outcome := f.Store.Append(f.t.Context(), stream, f.next[stream], []domain.Pending{p}).(type) {
		case domain.Committed:
			committed, done = outcome, true
		case domain.Unknown: // the node was busy: repeated under the same id
			if f.t.Context().Err() != nil {
				f.t.Fatal(outcome.Err)
			}
		default:
			f.t.Fatalf("append: %#v", outcome)
		}
	}
	f.next[stream] = domain.AtRevision(committed.Revision)
	f.Written = append(f.Written, p.ID)
}

// Write appends n events to the streams of some notes, by turns.
func (f *Fixture) Write(n int) {
	for i := range n {
		f.Append(i%5, Written{strconv.Itoa(i)})
	}
}

// Start runs what follows until the returned function is called, which returns run's error.
func (f *Fixture) Start(run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	f.t.Cleanup(func() { stop() })
	return stop
}
