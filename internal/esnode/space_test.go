package esnode

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// S5: on a disk that is nearly full appends are refused and everything else goes on;
// when there is space again so do appends, without a restart. The log can be opened
// meanwhile.
func TestNearlyFullDiskRefusesWritesOnly(t *testing.T) {
	disk := vfs.NewMem()
	plenty := vfs.DiskUsage{AvailBytes: 2 * spareBytes}
	disk.TestingSetDiskUsage(plenty)
	n, err := open(testContext(t), Options{Dir: testLog, Fatal: func(err error) { t.Errorf("fatal: %v", err) }}, disk, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, n)
	mustAppend(t, c, "s", esdb.NoStream{}, events(2)...)
	retried := events(1)
	mustAppend(t, c, "s", esdb.Revision(1), retried...)

	disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: spareBytes - 1})
	_, err = c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(2)}, events(1)...)
	wantCode(t, err, esdb.ErrorAborted)
	if err == nil || !strings.Contains(err.Error(), "nearly full: 63 MiB are free, 64 MiB are needed") {
		t.Errorf("the refusal says %v", err)
	}
	mustAppend(t, c, "s", esdb.Revision(1), retried...) // was written already
	if list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything); err != nil || len(list) != 3 {
		t.Errorf("read %d events, error %v", len(list), err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n, err = open(testContext(t), Options{Dir: testLog, Fatal: func(err error) { t.Errorf("fatal: %v", err) }}, disk, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	c = connect(t, n)
	disk.TestingSetDiskUsage(plenty)
	mustAppend(t, c, "s", esdb.Revision(2), events(1)...)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	wantSound(t, disk)
}

// S5: a disk that is full at a write, a sync, a rename, or while tables are written
// behind the log, loses nothing that was acknowledged and has nothing in part. Either
// the store goes on when there is space again, or it has stopped and does so when it is
// opened anew.
func TestFullDisk(t *testing.T) {
	const appends, full = 200, 3 // full: how often there is no space
	isWrite := func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt
	}
	isSync := func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	}
	for name, hit := range map[string]func(errorfs.Op) bool{
		"the log at a write":     func(op errorfs.Op) bool { return isWrite(op) && strings.HasSuffix(op.Path, ".log") },
		"the log at a sync":      func(op errorfs.Op) bool { return isSync(op) && strings.HasSuffix(op.Path, ".log") },
		"a new table":            func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") },
		"a table at a write":     func(op errorfs.Op) bool { return isWrite(op) && strings.HasSuffix(op.Path, ".sst") },
		"a table at a sync":      func(op errorfs.Op) bool { return isSync(op) && strings.HasSuffix(op.Path, ".sst") },
		"the witness at a write": func(op errorfs.Op) bool { return isWrite(op) && strings.HasSuffix(op.Path, witnessFile) },
	} {
		t.Run(name, func(t *testing.T) {
			var h history
			disk := vfs.NewCrashableMem()
			var armed atomic.Bool
			var hits, fatal atomic.Int64
			s, err := tryOpen(watchedDisk(disk, func(op errorfs.Op) error {
				if armed.Load() && hit(op) && hits.Add(1) <= full {
					return syscall.ENOSPC
				}
				return nil
			}), func(error) { fatal.Add(1) })
			if err != nil {
				t.Fatal(err)
			}
			h.write(t, s, "s", 10)
			armed.Store(true)
			refused := 0
			for range appends {
				if !h.write(t, s, "s", 2000) {
					refused++
				}
				if refused > 3 {
					break
				}
			}
			if hits.Load() == 0 {
				t.Error("the disk was never full")
			}
			if stopped := fatal.Load() > 0; stopped != (refused > 0) || stopped != s.failed.Load() {
				t.Errorf("%d appends were refused; fatal was called %d times", refused, fatal.Load())
			}
			answered := h.soFar()
			crashed := disk.CrashClone(vfs.CrashCloneCfg{})
			if refused == 0 { // it went on
				h.check(t, s, answered)
				closeStore(t, s)
			} else {
				_ = s.close() // repeats the failure
			}
			s = openOn(t, crashed)
			h.check(t, s, answered)
			h.repeat(t, s)
			closeStore(t, s)
			wantSound(t, crashed)
			t.Logf("full %d times, %d appends refused", hits.Load(), refused)
		})
	}
}

// fullForTheEngine are the writes after whose failure the engine cannot go on.
var fullForTheEngine = map[string]func(errorfs.Op) bool{
	"a new log": func(op errorfs.Op) bool {
		return (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite) && strings.HasSuffix(op.Path, ".log")
	},
	"the manifest at a write": func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, "MANIFEST")
	},
	"the manifest at a sync": func(op errorfs.Op) bool {
		return (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && strings.Contains(op.Path, "MANIFEST")
	},
}

// S5: when there is no space for what the engine cannot do without, the process ends as
// after any other failed write; what it acknowledged is there when it starts again.
func TestFullDiskForTheEngineEndsTheProcess(t *testing.T) {
	const dirVariable, faultVariable = "RAPPORT_TEST_FULL_DIR", "RAPPORT_TEST_FULL"
	if dir := os.Getenv(dirVariable); dir != "" {
		appendUntilFull(t, dir, fullForTheEngine[os.Getenv(faultVariable)])
		return
	}
	for name := range fullForTheEngine {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			child := exec.Command(os.Args[0], "-test.run=^TestFullDiskForTheEngineEndsTheProcess$")
			child.Env = append(os.Environ(), dirVariable+"="+dir, faultVariable+"="+name)
			out, err := child.Output()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != exitSyncFailed {
				t.Fatalf("the process ended with %v, want status %d", err, exitSyncFailed)
			}
			acknowledged := uint64(bytes.Count(out, []byte("acknowledged\n")))
			report, err := Verify(testContext(t), dir, nil)
			if err != nil || report.Damaged != 0 || report.Head < 1+acknowledged || report.Head > 2+acknowledged {
				t.Errorf("%d appends were acknowledged; %+v, error %v", acknowledged, report, err)
			}
			mustAppend(t, connect(t, openNode(t, dir)), "s", esdb.StreamExists{}, events(1)...)
		})
	}
}

// appendUntilFull is that process: appends one by one, until the disk is full for hit.
func appendUntilFull(t *testing.T, dir string, hit func(errorfs.Op) bool) {
	var armed atomic.Bool
	s, err := openStore(testContext(t), storeOptions{
		dir: dir, now: time.Now, logger: slog.New(slog.DiscardHandler), memTable: smallMemTable,
		fatal: func(error) { os.Exit(exitSyncFailed) },
		fs: watchedDisk(vfs.Default, func(op errorfs.Op) error {
			if armed.Load() && hit(op) {
				return syscall.ENOSPC
			}
			return nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	for range 2000 {
		write(t, s, "s", 1)
		fmt.Println("acknowledged")
	}
}
