package esnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// S14 of docs/faults.md.
func TestSecondNodeOnADirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := openNode(t, dir)
	_, err := Open(testContext(t), Options{Dir: dir})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v, want ErrLocked naming %s", err, dir)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openNode(t, dir)
}

func TestOnlyLoopbackIsServed(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.org:80", "nonsense", "127.0.0.1"} {
		n, err := Open(testContext(t), Options{Dir: t.TempDir(), Listen: listen})
		if err == nil {
			t.Errorf("%q was accepted", listen)
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, listen := range []string{"", "127.0.0.1:0", "localhost:0"} {
		n, err := Open(testContext(t), Options{Dir: t.TempDir(), Listen: listen})
		if err != nil {
			t.Errorf("%q: %v", listen, err)
			continue
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Open(testContext(t), Options{}); err == nil {
		t.Error("a node without a directory was opened")
	}
}

func TestLogIdentityIsReadableAndStays(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, dir)
	id := n.LogID()
	for range 2 {
		list, err := readStream(t, connect(t, n), "$rapport-log", esdb.ReadStreamOptions{}, everything)
		if err != nil || len(list) != 1 || list[0].Event.EventType != "$log-identity" {
			t.Fatalf("the log stream has %d events, error %v", len(list), err)
		}
		var identity struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(list[0].Event.Data, &identity); err != nil || identity.ID != id || n.LogID() != id {
			t.Errorf("identity %q, node %q, at first %q, error %v", identity.ID, n.LogID(), id, err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n = openNode(t, dir)
	}
	if other := openNode(t, t.TempDir()); other.LogID() == id {
		t.Error("two logs have one id")
	}
}

func TestLogOfAnotherFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, _ := manualWriter(t, dir)
	if err := s.db.Set(infoKey(infoFormat), []byte("3"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	err := s.loadIdentity()
	if err == nil || !strings.Contains(err.Error(), `format "3"`) {
		t.Errorf("error %v, want it to name the format", err)
	}
}

func TestEverythingSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, dir)
	c := connect(t, n)
	mustAppend(t, c, "s", esdb.NoStream{}, events(3)...)
	setMetadata(t, c, "s", func(m *esdb.StreamMetadata) { m.SetMaxCount(2) })
	before := data(readAll(t, c, esdb.ReadAllOptions{}, everything))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	c = connect(t, openNode(t, dir))
	if after := data(readAll(t, c, esdb.ReadAllOptions{}, everything)); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("$all was %v, is %v", before, after)
	}
	if got := mustAppend(t, c, "s", esdb.Revision(2), events(1)...); got.NextExpectedVersion != 3 {
		t.Errorf("revision %d after reopening, want 3", got.NextExpectedVersion)
	}
	// A stream made now must not share anything with one made before.
	mustAppend(t, c, "new", esdb.NoStream{}, events(1)...)
	if list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything); err != nil || len(list) != 2 {
		t.Errorf("read %d events, error %v", len(list), err)
	}
}

func TestDiscoveryFindsTheNode(t *testing.T) {
	n := openNode(t, t.TempDir())
	c := connectTo(t, "esdb+discover://"+n.Addr()+"?tls=false")
	mustAppend(t, c, "s", esdb.NoStream{}, events(1)...)
	version, err := c.GetServerVersion()
	if err != nil || version.Major != 24 || version.Minor != 10 {
		t.Errorf("version %+v, error %v", version, err)
	}
}

// What the node does not have is refused at once, and never hangs.
func TestTheRestOfTheProtocolIsUnimplemented(t *testing.T) {
	n, c := fresh(t)
	ctx := testContext(t)
	wantCode(t, c.CreatePersistentSubscription(ctx, "s", "group", esdb.PersistentStreamSubscriptionOptions{}), esdb.ErrorCodeUnsupportedFeature)
	wantCode(t, c.CreatePersistentSubscriptionToAll(ctx, "group", esdb.PersistentAllSubscriptionOptions{}), esdb.ErrorCodeUnsupportedFeature)
	// The client may meet the refusal while it still sends, and then cannot tell its reason.
	if _, err := c.SubscribeToPersistentSubscription(ctx, "s", "group", esdb.SubscribeToPersistentSubscriptionOptions{}); err == nil {
		t.Error("a persistent subscription was opened")
	}
	config, err := esdb.ParseConnectionString(n.ConnectionString())
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	projections, err := esdb.NewProjectionClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer projections.Close()
	if err := projections.Create(ctx, "p", "fromAll()", esdb.CreateProjectionOptions{}); err == nil {
		t.Error("a projection was created")
	}
	conn := dial(t, n)
	for _, method := range []string{
		"event_store.client.persistent_subscriptions.PersistentSubscriptions/List",
		"event_store.client.projections.Projections/Statistics",
		"event_store.client.users.Users/Details",
		"event_store.client.operations.Operations/StartScavenge",
		"event_store.client.monitoring.Monitoring/Stats",
		"event_store.client.redaction.Redaction/Lock",
		"kurrentdb.protocol.v2.streams.StreamsService/AppendSession",
		"grpc.health.v1.Health/Check",
	} {
		if err := conn.Invoke(ctx, "/"+method, &shared.Empty{}, &shared.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want Unimplemented", method, err)
		}
	}
	// Some clients look for users when they start.
	_, err = readStream(t, c, "$users", esdb.ReadStreamOptions{}, 1)
	wantCode(t, err, esdb.ErrorCodeResourceNotFound)
}

func TestRequestsToAStoreThatClosesAreRefused(t *testing.T) {
	s, _ := manualWriter(t, t.TempDir())
	if _, err := s.append(context.Background(), "s", expectAny, proposals("s", 1)); !errors.Is(err, errClosed) {
		t.Errorf("error %v, want errClosed", err)
	}
}

// S6: a disk that fails under a running node: no acknowledgement, no event for any reader,
// and the process is told to stop.
func TestFailingDiskStopsTheNode(t *testing.T) {
	var broken atomic.Bool
	fatal := make(chan error, 1)
	n, err := open(testContext(t), Options{Dir: "log", Fatal: func(err error) { fatal <- err }}, failingDisk(vfs.NewMem(), &broken), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err == nil {
			t.Error("closing a log that could not be synced reports nothing")
		}
	})
	c := connect(t, n)
	mustAppend(t, c, "s", esdb.NoStream{}, events(1)...)
	broken.Store(true)
	_, err = c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(0)}, events(1)...)
	wantCode(t, err, esdb.ErrorUnavailable)
	if err := <-fatal; err == nil {
		t.Error("fatal was called without an error")
	}
	// The process would be gone by now; until it is, nothing is read either.
	_, err = readStream(t, connect(t, n), "s", esdb.ReadStreamOptions{}, everything)
	wantCode(t, err, esdb.ErrorUnavailable)
}

// S6: without another instruction a node that cannot sync ends its process.
func TestFailingDiskEndsTheProcess(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), failVariable+"="+t.TempDir())
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitSyncFailed {
		t.Errorf("the process ended with %v, want status %d; it said:\n%s", err, exitSyncFailed, out)
	}
	if !strings.Contains(string(out), "disk gone") {
		t.Errorf("the process does not say why it ended: %s", out)
	}
}

// runFailChild is that process: an append to a node whose disk fails.
func runFailChild(dir string) int {
	var broken atomic.Bool
	n, err := open(context.Background(), Options{Dir: dir}, failingDisk(vfs.Default, &broken), time.Now)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	broken.Store(true)
	_, err = n.store.append(context.Background(), "s", expectAny, proposals("s", 1))
	fmt.Fprintln(os.Stderr, "answered:", err)
	return 1
}

// failVariable turns the test binary into runFailChild on the named directory.
const failVariable = "RAPPORT_TEST_FAIL_DIR"

// failingDisk fails to sync the engine's log once broken is set.
func failingDisk(fs vfs.FS, broken *atomic.Bool) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		isSync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
		if broken.Load() && isSync && strings.HasSuffix(op.Path, ".log") {
			return errors.New("disk gone")
		}
		return nil
	}))
}

// A14: appends that run while the node closes are either acknowledged, and then there, or
// refused; none is left without an answer.
func TestCloseUnderLoad(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, dir)
	const writers = 8
	attempts := make([][]attempted, writers)
	var acknowledged atomic.Int64
	started := make(chan struct{}, writers)
	var group sync.WaitGroup
	for i := range writers {
		c := connect(t, n)
		group.Go(func() {
			stream := fmt.Sprintf("s-%d", i)
			mustAppend(t, c, stream, esdb.NoStream{}, events(1)...)
			started <- struct{}{}
			attempts[i] = crashWriter(testContext(t), c, stream+"-load", &acknowledged)
		})
	}
	for range writers {
		<-started
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	c := connect(t, openNode(t, dir))
	for _, list := range attempts {
		checkSurvivors(t, c, list)
	}
}
