package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/leaktest"
	"github.com/rapport-crm/rapport/internal/nodetest"
)

// external names the environment variable with the connection string of a real EventStoreDB to test against.
const external = "RAPPORT_TEST_EVENTSTORE"

func TestMain(m *testing.M) { leaktest.Main(m) }

// address returns the connection string of the node to test against: a fresh embedded one, or the external one.
func address(t testing.TB) string {
	t.Helper()
	if s := os.Getenv(external); s != "" {
		return s
	}
	return nodetest.Open(t, esnode.Options{Dir: t.TempDir()}).ConnectionString()
}

// plain is address with an ordinary node: the tests of the protocol itself ask what it answers when all is well, and those of
// its strict manner stand with the node.
func plain(t testing.TB) string {
	t.Helper()
	if s := os.Getenv(external); s != "" {
		return s
	}
	node, err := esnode.Open(t.Context(), esnode.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return node.ConnectionString()
}

// way holds options of every log that is dialled; see TestAppendsThroughTheClient.
var way []Option

// dial opens a log and closes it at the end of the test.
func dial(t testing.TB, connectionString string, options ...Option) *ESDB {
	t.Helper()
	options = slices.Concat([]Option{WithLogger(slog.New(slog.DiscardHandler))}, way, options)
	log, err := Dial(t.Context(), connectionString, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Errorf("close log: %v", err)
		}
	})
	return log
}

// seedVariable names the environment variable that repeats a run of what is drawn at random.
const seedVariable = "RAPPORT_TEST_SEED"

// testSeed is the seed of a test, told so that the run can be repeated.
func testSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	return seed
}

// newStream returns a name that no other test uses: an external node keeps what earlier runs wrote.
func newStream() string { return "main.test-" + uuid.NewString() }

func newEvents(n int) []NewEvent {
	events := make([]NewEvent, n)
	for i := range events {
		events[i] = NewEvent{ID: uuid.NewString(), Type: "test.happened", Data: fmt.Appendf(nil, `{"n":%d}`, i), Metadata: []byte(`{"m":1}`)}
	}
	return events
}

// commit appends and fails the test for anything but success.
func commit(t testing.TB, log Log, stream string, expected domain.Expected, events ...NewEvent) domain.Committed {
	t.Helper()
	outcome := settle(t, log, stream, expected, events)
	c, ok := outcome.(domain.Committed)
	if !ok {
		t.Fatalf("append to %s at %s: %T %+v", stream, expected, outcome, outcome)
	}
	return c
}

// settle appends, and on a strict node again while the outcome is unknown, as everybody has to.
func settle(t testing.TB, log Log, stream string, expected domain.Expected, events []NewEvent) domain.Outcome {
	t.Helper()
	for {
		outcome := log.Append(t.Context(), stream, expected, events)
		if _, unknown := outcome.(domain.Unknown); !unknown || !nodetest.Strict() || t.Context().Err() != nil {
			return outcome
		}
	}
}

// other writes a stream of any name, as another application does, whose stream is new.
func other(t testing.TB, at, stream string, events ...esdb.EventData) {
	t.Helper()
	log := dial(t, at)
	for {
		switch o := log.append(t.Context(), stream, domain.NoStream, events).(type) {
		case domain.Committed:
			return
		case domain.Unknown:
			if !nodetest.Strict() || t.Context().Err() != nil {
				t.Fatalf("append to %s: %v", stream, o.Err)
			}
		default:
			t.Fatalf("append to %s: %T %+v", stream, o, o)
		}
	}
}

// all drains a read.
func all(t testing.TB, read func(func(codec.Raw, error) bool)) []codec.Raw {
	t.Helper()
	var got []codec.Raw
	for raw, err := range read {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, raw)
	}
	return got
}

func head(t testing.TB, log Log) domain.Mark {
	t.Helper()
	m, err := log.Head(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}
