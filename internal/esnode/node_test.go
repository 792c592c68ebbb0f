package esnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rapport-crm/rapport/internal/leaktest"
)

// testTimeout ends a test that would hang; no test expects it to pass.
const testTimeout = time.Minute

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirVariable); dir != "" {
		os.Exit(runCrashChild(dir))
	}
	if dir := os.Getenv(failVariable); dir != "" {
		os.Exit(runFailChild(dir))
	}
	leaktest.Main(m)
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// openNode opens a node in the directory and closes it with the test.
func openNode(t testing.TB, dir string) *Node {
	t.Helper()
	return openNodeAt(t, dir, time.Now)
}

func openNodeAt(t testing.TB, dir string, now func() time.Time) *Node {
	t.Helper()
	n, err := open(testContext(t), Options{
		Dir: dir, Logger: slog.New(slog.DiscardHandler),
		Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	}, vfs.Default, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

// connect returns a client of the node, closed with the test.
func connect(t testing.TB, n *Node) *esdb.Client {
	t.Helper()
	return connectTo(t, n.ConnectionString())
}

func connectTo(t testing.TB, connection string) *esdb.Client {
	t.Helper()
	config, err := esdb.ParseConnectionString(connection)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	config.DefaultDeadline = new(testTimeout) // its own is 10 s
	client, err := esdb.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("close client: %v", err)
		}
	})
	return client
}

// fresh is a node in a new directory and a client of it.
func fresh(t testing.TB) (*Node, *esdb.Client) {
	t.Helper()
	n := openNode(t, t.TempDir())
	return n, connect(t, n)
}

// dial is a bare connection, for what the client hides.
func dial(t testing.TB, n *Node) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(n.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close connection: %v", err)
		}
	})
	return conn
}

func event(eventType, data string) esdb.EventData {
	return esdb.EventData{
		EventID: uuid.New(), EventType: eventType, ContentType: esdb.ContentTypeJson,
		Data: []byte(data), Metadata: []byte(`{"by":"test"}`),
	}
}

func events(n int) []esdb.EventData {
	list := make([]esdb.EventData, n)
	for i := range list {
		list[i] = event("tested", fmt.Sprintf(`{"n":%d}`, i))
	}
	return list
}

func mustAppend(t testing.TB, c *esdb.Client, stream string, expected esdb.ExpectedRevision, list ...esdb.EventData) *esdb.WriteResult {
	t.Helper()
	result, err := c.AppendToStream(testContext(t), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, list...)
	if err != nil {
		t.Fatalf("append to %s: %v", stream, err)
	}
	return result
}

func readStream(t testing.TB, c *esdb.Client, stream string, opts esdb.ReadStreamOptions, count uint64) ([]*esdb.ResolvedEvent, error) {
	t.Helper()
	s, err := c.ReadStream(testContext(t), stream, opts, count)
	if err != nil {
		t.Fatal(err)
	}
	return drain(s)
}

func readAll(t testing.TB, c *esdb.Client, opts esdb.ReadAllOptions, count uint64) []*esdb.ResolvedEvent {
	t.Helper()
	s, err := c.ReadAll(testContext(t), opts, count)
	if err != nil {
		t.Fatal(err)
	}
	list, err := drain(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func drain(s *esdb.ReadStream) ([]*esdb.ResolvedEvent, error) {
	defer s.Close()
	var list []*esdb.ResolvedEvent
	for {
		e, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
}

// data is the payloads of events, in order.
func data(list []*esdb.ResolvedEvent) []string {
	texts := make([]string, len(list))
	for i, e := range list {
		texts[i] = string(e.OriginalEvent().Data)
	}
	return texts
}

// codeOf is the client's error code, or -1 for an error that is not the client's.
func codeOf(err error) esdb.ErrorCode {
	var e *esdb.Error
	if !errors.As(err, &e) {
		return -1
	}
	return e.Code()
}

func wantCode(t testing.TB, err error, want esdb.ErrorCode) {
	t.Helper()
	if codeOf(err) != want {
		t.Errorf("error %v has code %d, want %d", err, codeOf(err), want)
	}
}

const everything = ^uint64(0) >> 1
