package localpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockFile is the server's own lock file in its data directory; the main
// process's id is on its first line.
const lockFile = "postmaster.pid"

// dieWithParent asks the kernel to send the child a fast shutdown when the
// thread that started it dies.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// stopLeftovers stops every server process still at work in dataDir and removes
// the lock file that a killed server leaves behind. The caller holds the
// directory's lock, so their owner is gone.
func stopLeftovers(ctx context.Context, dataDir string, log *slog.Logger) error {
	if err := stopProcesses(ctx, dataDir, log); err != nil {
		return err
	}
	// PostgreSQL removes a stale lock file itself, unless the kernel has given
	// the process id in it to another process of the same user (likely where
	// process ids are few, as in a container): then it refuses to start.
	err := os.Remove(filepath.Join(dataDir, lockFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func stopProcesses(ctx context.Context, dataDir string, log *slog.Logger) error {
	pids, err := serverProcesses(dataDir)
	if err != nil || len(pids) == 0 {
		return err
	}
	log.WarnContext(ctx, "stopping a postgres server whose owner has died", "data", dataDir)
	main := mainProcess(dataDir)
	// The children of a main process that was killed end by themselves, usually
	// at once; they get the same time.
	steps := []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGINT, fastTimeout}, {syscall.SIGQUIT, immediateTimeout}, {syscall.SIGKILL, immediateTimeout}}
	for _, step := range steps {
		for _, pid := range pids {
			// A child takes SIGINT as "cancel the query", so only the main
			// process is asked; SIGKILL is for all.
			if pid == main || step.signal == syscall.SIGKILL {
				if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("stop the server left running in %s (process %d): %w", dataDir, pid, err)
				}
			}
		}
		if pids, err = awaitNone(ctx, dataDir, step.limit); err != nil || len(pids) == 0 {
			return err
		}
	}
	return fmt.Errorf("the server left running in %s (processes %v) does not end", dataDir, pids)
}

// awaitNone waits until dataDir has no server processes, at most limit, and
// returns those that remain.
func awaitNone(ctx context.Context, dataDir string, limit time.Duration) ([]int, error) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		pids, err := serverProcesses(dataDir)
		if err != nil || len(pids) == 0 {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("stop the server left running in %s: %w", dataDir, context.Cause(ctx))
		case <-timeout.C:
			return pids, nil
		case <-ticker.C:
		}
	}
}

// mainProcess returns the process id on the first line of the server's own
// lock file; 0 when there is none. It may be stale: compare it with
// serverProcesses before use.
func mainProcess(dataDir string) int {
	text, err := os.ReadFile(filepath.Join(dataDir, lockFile))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	return pid
}

// serverProcesses returns the processes of the server program that work in
// dataDir: the main process and its children all make it their working
// directory. A stale process id that the kernel has given to another program
// is therefore never mistaken for the server.
func serverProcesses(dataDir string) ([]int, error) {
	dataDir, err := filepath.EvalSymlinks(dataDir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Unreadable means another user's process, or one that has just ended.
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err != nil || cwd != dataDir {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		// An upgraded package leaves "… (deleted)" behind the name.
		if err == nil && strings.HasPrefix(filepath.Base(exe), "postgres") {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
