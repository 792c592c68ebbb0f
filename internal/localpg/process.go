package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// fastTimeout is how long a fast shutdown (SIGINT: sessions end, a checkpoint
	// is written) may take before an immediate one is asked for (SIGQUIT: no
	// checkpoint, recovery at the next start).
	fastTimeout = 30 * time.Second
	// immediateTimeout is how long an immediate shutdown may take before SIGKILL.
	immediateTimeout = 10 * time.Second
	// pollInterval is the pause between two looks at what nothing announces.
	pollInterval = 20 * time.Millisecond
	// connectTimeout bounds one attempt to connect while the server comes up.
	connectTimeout = 5 * time.Second

	// maxLog is the size in bytes beyond which a log is set aside at a start.
	maxLog = 8 << 20
	// maxPrinted is how many bytes of the log's end an error quotes.
	maxPrinted = 4 << 10
)

// process is one run of the server program.
type process struct {
	cmd     *exec.Cmd
	logPath string
	logFrom int64         // where this run's part of the log begins
	exited  chan struct{} // closed after waitErr is set
	waitErr error
}

// launch runs the server program and returns without waiting for it to be ready.
func launch(bin binaries, c cluster, port int, logPath string) (*process, error) {
	logFile, from, err := openLog(logPath)
	if err != nil {
		return nil, err
	}
	defer logFile.Close() // the child has its own descriptor
	args := []string{"-D", c.dataDir()}
	for _, s := range c.settings(port) {
		args = append(args, "-c", s)
	}
	cmd := exec.Command(filepath.Join(bin.Dir, "postgres"), args...)
	cmd.Dir = c.dataDir()
	cmd.Env = serverEnv()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = c.acc.attributes()
	dieWithParent(cmd.SysProcAttr)

	p := &process{cmd: cmd, logPath: logPath, logFrom: from, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel's "parent death" is the death of the thread that forked:
		// it must live as long as the server does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.waitErr = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// serverEnv is the whole environment of the programs: ours may hold settings
// (PG*, locale, time zone) that must not reach them.
func serverEnv() []string {
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

// stop ends the server, in three steps of growing force, and waits for its exit.
func (p *process) stop() {
	steps := []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGINT, fastTimeout}, {syscall.SIGQUIT, immediateTimeout}}
	for _, step := range steps {
		if p.cmd.Process.Signal(step.signal) != nil {
			break // it has exited
		}
		timeout := time.NewTimer(step.limit)
		select {
		case <-p.exited:
			timeout.Stop()
			return
		case <-timeout.C:
		}
	}
	// Fails only when the process has exited, which is what is wanted.
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// exitError says how the program ended. It is called after exited is closed.
func (p *process) exitError() error {
	if p.waitErr != nil {
		return p.waitErr
	}
	return errors.New("exit status 0")
}

// printed returns the end of what this run wrote to its log.
func (p *process) printed() string {
	f, err := os.Open(p.logPath)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, p.logFrom, maxLog))
	if err != nil {
		return err.Error()
	}
	if len(text) > maxPrinted {
		text = text[len(text)-maxPrinted:]
	}
	return string(bytes.TrimSpace(text))
}

// lostPort reports whether a run that printed this ended because its port was
// taken. The messages are English: see serverEnv.
func lostPort(printed string) bool {
	return strings.Contains(printed, "could not create any TCP/IP sockets") ||
		strings.Contains(printed, "could not bind IPv4 address")
}

// openLog opens the log for appending and returns its size. A log that has
// grown beyond maxLog is first set aside, replacing the one set aside before.
func openLog(path string) (*os.File, int64, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// freePort asks the kernel for a port that is free now.
func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// awaitReady returns when the server behind url answers a query, having made
// the database if it was missing. It gives up when ctx ends, when the program
// exits, or when the server refuses the password.
func awaitReady(ctx context.Context, url string, exited <-chan struct{}) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := ensureDatabase(ctx, url)
		if err == nil {
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && !passing(refused.Code) {
			return err
		}
		select {
		case <-exited:
			return errors.New("the server exited before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("the server was not ready in time: %w", errors.Join(context.Cause(ctx), err))
		case <-ticker.C:
		}
	}
}

// passing reports whether an SQLSTATE is a server's that is still coming up:
// class 57 is operator intervention, of which 57P03 is cannot_connect_now.
func passing(code string) bool { return strings.HasPrefix(code, "57") }

// ensureDatabase connects to the server and makes Database if it is missing. That
// takes as long as it takes: the next attempt would begin anew.
func ensureDatabase(ctx context.Context, url string) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	config.Database = "postgres"
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(connecting, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	const find = `select exists (select from pg_database where datname = $1)`
	if err := conn.QueryRow(ctx, find, Database).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, `create database `+pgx.Identifier{Database}.Sanitize())
	return err
}
