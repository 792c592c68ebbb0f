package esnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// S13: a copy made under load has everything that was acknowledged before, whole and in its
// place, is sound, and is a log to go on with.
func TestBackupUnderLoad(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	n := openAnnounced(t, dir)
	const writers, enough = 4, 200
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	var acknowledged atomic.Int64
	attempts := make([][]attempted, writers)
	var group sync.WaitGroup
	for i := range writers {
		c := connect(t, n)
		group.Go(func() {
			attempts[i] = crashWriter(ctx, c, fmt.Sprintf("s-%d", i), &acknowledged)
		})
	}
	sub := subscribeAll(t, connect(t, n), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	for acknowledged.Load() < enough {
		sub.Recv()
	}
	before := n.store.synced()
	seen := readAll(t, connect(t, n), esdb.ReadAllOptions{}, everything)
	head, err := Backup(testContext(t), dir, target)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	group.Wait()
	if head < before {
		t.Errorf("the backup knows of %d acknowledged events, there were %d", head, before)
	}
	report, err := Verify(testContext(t), target, nil)
	if err != nil || report.Damaged != 0 || report.Head < head || report.LogID != n.LogID() {
		t.Fatalf("the copy: %+v, error %v", report, err)
	}
	restored := openNode(t, target)
	c := connect(t, restored)
	all := readAll(t, c, esdb.ReadAllOptions{}, everything)
	for i, e := range seen {
		if all[i].Event.EventID != e.Event.EventID {
			t.Fatalf("event %d of the copy is another one", i)
		}
	}
	for i := range attempts {
		wantWholeAppends(t, c, attempts[i])
		for _, a := range attempts[i] { // repeated, they are there once
			mustAppend(t, c, a.stream, a.expected, a.events...)
		}
	}
}

// openAnnounced opens a node as the program does.
func openAnnounced(t *testing.T, dir string) *Node {
	t.Helper()
	n, err := Open(testContext(t), Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
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

// wantWholeAppends reads the stream of one writer, which must end with a whole append.
func wantWholeAppends(t *testing.T, c *esdb.Client, list []attempted) {
	t.Helper()
	stored, err := readStream(t, c, list[0].stream, esdb.ReadStreamOptions{}, everything)
	if err != nil && codeOf(err) != esdb.ErrorCodeResourceNotFound {
		t.Fatal(err)
	}
	size := 0
	for _, a := range list {
		if size == len(stored) {
			return
		}
		size += len(a.events)
	}
	if size != len(stored) {
		t.Errorf("%s has %d events: an append in part", list[0].stream, len(stored))
	}
}

func TestBackupOfAStoppedLog(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	n := openAnnounced(t, dir)
	mustAppend(t, connect(t, n), "s", esdb.NoStream{}, events(3)...)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, controlFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a stopped node leaves its announcement: %v", err)
	}
	if head, err := Backup(testContext(t), dir, target); err != nil || head != 4 {
		t.Fatalf("head %d, error %v", head, err)
	}
	if report, err := Verify(testContext(t), target, nil); err != nil || report.Damaged != 0 || report.Head != 4 {
		t.Errorf("the copy: %+v, error %v", report, err)
	}
	if _, err := Backup(testContext(t), dir, target); err == nil {
		t.Error("a backup was written over another one")
	}
	if _, err := Backup(testContext(t), filepath.Join(dir, "nowhere"), target+"2"); err == nil {
		t.Error("a backup of nothing was made")
	}
}

// Who cannot read the log's directory cannot have it copied.
func TestBackupNeedsTheToken(t *testing.T) {
	dir := t.TempDir()
	n := openAnnounced(t, dir)
	info, err := os.Stat(filepath.Join(dir, controlFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the announcement is %v, error %v", info.Mode(), err)
	}
	conn, target := dial(t, n), filepath.Join(t.TempDir(), "copy")
	ask := func(token, target string) error {
		ctx := testContext(t)
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, tokenHeader, token)
		}
		return conn.Invoke(ctx, "/"+controlService+"/"+backupMethod, wrapperspb.String(target), &wrapperspb.UInt64Value{})
	}
	for _, token := range []string{"", "guess", n.control.token + "x"} {
		if err := ask(token, target); status.Code(err) != codes.PermissionDenied {
			t.Errorf("token %q: %v", token, err)
		}
	}
	if err := ask(n.control.token, "copy"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a relative directory: %v", err)
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

func TestBackupOfALogInUseByAnotherProgram(t *testing.T) {
	dir := t.TempDir()
	lock, err := vfs.Default.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := Backup(testContext(t), dir, dir+"-copy"); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v, want ErrLocked naming %s", err, dir)
	}
}

// S6: nothing is copied from a log that could not be made durable.
func TestNoBackupAfterAFailedSync(t *testing.T) {
	s, _ := manualWriter(t, t.TempDir())
	s.fatal = func(error) {}
	s.fail(errors.New("disk gone"))
	if _, err := s.backup(filepath.Join(t.TempDir(), "copy")); !errors.Is(err, errFailed) {
		t.Errorf("error %v, want errFailed", err)
	}
}
