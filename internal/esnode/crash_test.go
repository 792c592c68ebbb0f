package esnode

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
)

const (
	// crashDirVariable turns the test binary into a node on the named directory, to be killed.
	crashDirVariable = "RAPPORT_TEST_CRASH_DIR"
	// crashStrictVariable makes that node a strict one.
	crashStrictVariable = "RAPPORT_TEST_CRASH_STRICT"
)

// crashManners are the strict manners under which an append is never refused.
var crashManners = Strict{Offsets: true, InvalidPositions: true, Late: 3 * time.Millisecond, Foreign: 0.5, Deletion: true}

// runCrashChild serves the directory until the process is killed or its input ends.
func runCrashChild(dir string) int {
	opts := Options{Dir: dir}
	if os.Getenv(crashStrictVariable) != "" {
		opts.Strict = &crashManners
	}
	n, err := Open(context.Background(), opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(n.ConnectionString())
	// Input ends with the parent, however that ends.
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	if err := n.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startCrashChild returns a running process and a connection string of its node.
func startCrashChild(t *testing.T, dir string, strict bool) (*exec.Cmd, string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDirVariable+"="+dir)
	if strict {
		child.Env = append(child.Env, crashStrictVariable+"=yes")
	}
	child.Stderr = os.Stderr
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said nothing: %v", err)
	}
	return child, strings.TrimSpace(line)
}

// attempted is an append whose outcome a writer of the crash test knows, or does not.
type attempted struct {
	stream   string
	expected esdb.ExpectedRevision
	events   []esdb.EventData
	result   *esdb.WriteResult // nil: not acknowledged
}

// crashWriter appends to its own stream, one or a few events at a time, each at the
// exact revision, until the node is gone.
func crashWriter(ctx context.Context, c *esdb.Client, stream string, acknowledged *atomic.Int64) []attempted {
	var list []attempted
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	for i := 0; ; i++ {
		a := attempted{stream: stream, expected: expected, events: events(1 + i%3)}
		result, err := c.AppendToStream(ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, a.events...)
		a.result = result
		list = append(list, a)
		if err != nil {
			return list
		}
		expected = esdb.Revision(result.NextExpectedVersion)
		acknowledged.Add(1)
	}
}

// S1, D1: a node killed under load has every acknowledged append afterwards, whole and at the
// place it was acknowledged, and none in part; what was not acknowledged can be
// repeated and is then there once.
func TestKilledNodeHasWhatItAcknowledged(t *testing.T) {
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict=%v", strict), func(t *testing.T) { killUnderLoad(t, strict) })
	}
}

func killUnderLoad(t *testing.T, strict bool) {
	dir := t.TempDir()
	child, connection := startCrashChild(t, dir, strict)
	const writers, enough = 8, 400
	var acknowledged atomic.Int64
	attempts := make([][]attempted, writers)
	var group sync.WaitGroup
	for i := range writers {
		c := connectTo(t, connection)
		group.Go(func() {
			attempts[i] = crashWriter(testContext(t), c, fmt.Sprintf("crash-%d", i), &acknowledged)
		})
	}
	watcher := connectTo(t, connection)
	sub, err := watcher.SubscribeToAll(testContext(t), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	if err != nil {
		t.Fatal(err)
	}
	var seen []*esdb.RecordedEvent // whatever a subscriber was shown must stay true
	for acknowledged.Load() < enough {
		if e := sub.Recv().EventAppeared; e != nil {
			seen = append(seen, e.Event)
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	_ = child.Wait() // killed
	_ = sub.Close()

	n := openNode(t, dir)
	c := connect(t, n)
	for _, list := range attempts {
		checkSurvivors(t, c, list)
	}
	all := map[uint64]uuid.UUID{}
	for _, e := range readAll(t, c, esdb.ReadAllOptions{}, everything) {
		all[e.Event.Position.Commit] = e.Event.EventID
	}
	for _, e := range seen {
		if all[e.Position.Commit] != e.EventID {
			t.Fatalf("position %d was %s, is %s", e.Position.Commit, e.EventID, all[e.Position.Commit])
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := Verify(testContext(t), dir, nil); err != nil || report.Damaged != 0 {
		t.Errorf("the log is not sound: %+v, %v", report, err)
	}
}

// checkSurvivors repeats one writer's appends and compares the stream with them.
func checkSurvivors(t *testing.T, c *esdb.Client, list []attempted) {
	t.Helper()
	stored, err := readStream(t, c, list[0].stream, esdb.ReadStreamOptions{}, everything)
	if err != nil && codeOf(err) != esdb.ErrorCodeResourceNotFound { // not found: nothing was stored
		t.Fatal(err)
	}
	sent, durable := 0, 0
	for _, a := range list {
		sent += len(a.events)
		if a.result != nil {
			durable = sent
		}
	}
	if len(stored) != durable && len(stored) != sent {
		t.Fatalf("%s has %d events; %d were acknowledged, %d sent", list[0].stream, len(stored), durable, sent)
	}
	var want []esdb.EventData
	for _, a := range list {
		result := mustAppend(t, c, a.stream, a.expected, a.events...)
		if a.result != nil && *result != *a.result {
			t.Errorf("%s: acknowledged as %+v, repeated as %+v", a.stream, a.result, result)
		}
		want = append(want, a.events...)
	}
	if stored, err = readStream(t, c, list[0].stream, esdb.ReadStreamOptions{}, everything); err != nil {
		t.Fatal(err)
	}
	if len(stored) != len(want) {
		t.Fatalf("%s has %d events after the repetition, want %d", list[0].stream, len(stored), len(want))
	}
	for i, e := range stored {
		if e.Event.EventID != want[i].EventID || string(e.Event.Data) != string(want[i].Data) {
			t.Fatalf("event %d of %s is not the one sent", i, list[0].stream)
		}
	}
}
