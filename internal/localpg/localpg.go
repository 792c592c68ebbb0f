// Package localpg runs a private PostgreSQL server, from binaries installed on
// this machine, for one directory. It is for development, tests and
// one-machine installations; anything else names a server of its own.
//
// What it promises:
//
//  1. One process owns a directory at a time: Start takes a lock that the
//     kernel releases when the process ends, however it ends.
//  2. A directory holds either no cluster or a complete one: a cluster is made
//     beside its place and renamed into it.
//  3. The server does not outlive its owner: on Linux the kernel asks it to
//     stop when the owner dies. Should one be found running all the same, the
//     next Start stops it; it is never adopted, because nobody could wait for
//     its exit and its settings may be another release's.
//  4. The server never runs as root: a root owner drops to the user postgres,
//     or nobody where that does not exist.
//  5. Only 127.0.0.1 is listened on, and only with the random password that
//     stands in a file of mode 0600.
//  6. A directory that was claimed as new is never given a cluster that another
//     one at its path has left elsewhere; that one is set aside, not deleted,
//     and comes back with the directory that it belongs to.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// Database is the database that URL names, and the name of its owner.
	Database = "rapport"

	// startTimeout bounds initialisation and start together. A start after a
	// crash replays up to max_wal_size of log, which takes a while on a slow disk.
	startTimeout = 3 * time.Minute
	// portAttempts bounds the starts when another process takes the free port
	// between our choosing it and the server's binding it.
	portAttempts = 3

	clusterName  = "cluster"    // the complete cluster: its data and its password
	unfinished   = ".new"       // suffix of a cluster that initdb has not finished
	dataName     = "data"       // PGDATA, in the cluster
	passwordName = "password"   // the owner's password, in the cluster
	lockName     = "lock"       // held by the owning process
	logName      = "server.log" // what the server prints
)

// ErrInUse is returned by Start and Remove when another process owns the directory.
var ErrInUse = errors.New("the PostgreSQL directory is in use by another process")

// Options says where and how a server runs.
type Options struct {
	// Dir holds the cluster, its password, its lock and its log; it is made when
	// missing. When the owner is root and the server's user cannot reach Dir,
	// the cluster lies below /var/lib/rapport instead; see Server.DataDir, and Claim.
	Dir string
	// Port is where the server listens on 127.0.0.1; zero means any that is free.
	// Whoever starts a server again gives the port of the one before, so that
	// connection strings stay true.
	Port int
	// Unsafe gives up durability for speed: a crash of the machine may corrupt the
	// cluster. For tests only. The zero value is durable.
	Unsafe bool
	// Logger hears of start, stop and unexpected exit. Nil means slog.Default.
	Logger *slog.Logger
}

// Server is one running PostgreSQL server. Its methods are safe for concurrent
// use. Whoever called Start calls Close.
type Server struct {
	url     string
	port    int
	dataDir string
	log     *slog.Logger
	lock    *os.File
	proc    *process

	closing   sync.Once
	closed    chan struct{} // closed when Close has been called
	done      chan struct{} // closed when the server has exited
	exitErr   error         // set before done is closed
	closeErr  error         // set inside closing
	watchDone chan struct{}
}

// Start runs a server on o.Dir and returns when it answers queries; the
// database it then serves exists. The first start on a directory initialises
// it. ctx bounds the start alone; the server runs until Close.
//
// Errors: ErrNotInstalled when no suitable binaries are found, ErrInUse when
// another process owns o.Dir. A server that does not come up is stopped, and
// the error ends with what it last printed.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("localpg: no directory given")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("localpg: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	acc, err := serverAccount()
	if err != nil {
		return nil, err
	}
	lock, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{log: o.Logger, lock: lock, closed: make(chan struct{}), done: make(chan struct{}), watchDone: make(chan struct{})}
	if err := s.start(ctx, dir, acc, o); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL in %s: %w", dir, err), lock.Close())
	}
	return s, nil
}

// start does the work of Start under the lock of dir.
func (s *Server) start(ctx context.Context, dir string, acc *account, o Options) error {
	home, err := placement(dir, elsewhere, acc)
	if err != nil {
		return err
	}
	if home != dir {
		s.log.WarnContext(ctx, "postgres data placed elsewhere: the server's user cannot reach the directory",
			"directory", dir, "placed", home, "user", acc.name)
	}
	c := cluster{root: filepath.Join(home, clusterName), acc: acc, unsafe: o.Unsafe}
	if err := stopLeftovers(ctx, c.dataDir(), s.log); err != nil {
		return err
	}
	if home != dir {
		if err := settle(ctx, dir, home, s.log); err != nil {
			return err
		}
	}
	bin, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	password, err := c.password()
	if err != nil {
		return err
	}
	s.dataDir = c.dataDir()

	for attempt := 1; ; attempt++ {
		port := o.Port
		if port == 0 {
			if port, err = freePort(ctx); err != nil {
				return err
			}
		}
		logPath := filepath.Join(dir, logName)
		proc, err := launch(bin, c, port, logPath)
		if err != nil {
			return err
		}
		s.proc, s.port, s.url = proc, port, serverURL(port, password)
		err = awaitReady(ctx, s.url, proc.exited)
		if err == nil {
			go s.watch()
			s.log.InfoContext(ctx, "postgres started", "version", bin.Version, "port", port, "data", s.dataDir)
			return nil
		}
		proc.stop()
		printed := proc.printed()
		// The log text alone tells a taken port from another failure to start;
		// a wrong guess costs two more attempts and nothing else.
		if attempt < portAttempts && ctx.Err() == nil && lostPort(printed) {
			continue
		}
		return fmt.Errorf("%w\nthe server printed:\n%s", err, printed)
	}
}

// watch waits for the server's exit and tells an expected one from a crash.
func (s *Server) watch() {
	defer close(s.watchDone)
	<-s.proc.exited
	select {
	case <-s.closed:
	default:
		s.exitErr = fmt.Errorf("PostgreSQL in %s exited unexpectedly: %w\nthe server printed:\n%s",
			s.dataDir, s.proc.exitError(), s.proc.printed())
		s.log.Error("postgres exited unexpectedly", "data", s.dataDir, "err", s.proc.exitError())
	}
	close(s.done)
}

// URL returns the connection string of Database, with the password of its
// owner, who is the server's superuser.
func (s *Server) URL() string { return s.url }

// Port returns where the server listens on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// DataDir returns the server's data directory (PGDATA).
func (s *Server) DataDir() string { return s.dataDir }

// Done is closed when the server has exited, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the server exited before Close asked it to; nil while it
// runs and after an orderly end.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.exitErr
	default:
		return nil
	}
}

// Close ends all sessions, stops the server and releases the directory. It
// waits for the exit; a server that does not stop in time is killed and
// recovers at the next Start. Only the first call does anything; each returns
// its result.
func (s *Server) Close() error {
	s.closing.Do(func() {
		close(s.closed)
		s.proc.stop()
		<-s.watchDone
		s.closeErr = s.lock.Close()
		s.log.Info("postgres stopped", "data", s.dataDir)
	})
	return s.closeErr
}

// Remove deletes dir and the clusters that Start made for it, also those that it
// has set aside, after stopping a server that was left running there. It returns ErrInUse when another process
// owns dir, and then deletes nothing of what that one has there. A missing dir
// is no error.
func Remove(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("localpg: %w", err)
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	acc, err := serverAccount()
	if err != nil {
		return err
	}
	lock, err := acquire(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	home, err := placement(dir, elsewhere, acc)
	if err != nil {
		return err
	}
	c := cluster{root: filepath.Join(home, clusterName), acc: acc}
	if err := stopLeftovers(ctx, c.dataDir(), slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if home != dir {
		kept, err := asides(home)
		if err != nil {
			return err
		}
		for _, path := range append(kept, home) {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("remove %s: %w", path, err)
			}
		}
	}
	if err := discard(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// discard deletes dir with all that is in it, the lock last: whoever comes then
// takes it anew, and what is made from then on is theirs.
func discard(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		return err
	}
	err = os.Remove(dir)
	switch {
	case errors.Is(err, syscall.ENOTEMPTY):
		return ErrInUse
	case errors.Is(err, os.ErrNotExist): // they had it removed as well
		return nil
	}
	return err
}

// serverURL is the connection string for a server on port.
func serverURL(port int, password string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(Database, password),
		Host:     fmt.Sprintf("127.0.0.1:%d", port),
		Path:     "/" + Database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
