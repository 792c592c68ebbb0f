package localpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rapport-crm/rapport/internal/leaktest"
)

// ownerDir names, in the environment of a child of this test, the directory on
// which the child starts a server and then waits to be killed.
const ownerDir = "RAPPORT_LOCALPG_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerDir); dir != "" {
		ownUntilKilled(dir)
	}
	leaktest.Main(m)
}

func ownUntilKilled(dir string) {
	s, err := Start(context.Background(), Options{Dir: dir, Unsafe: true})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(s.DataDir())
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1) // the test ended first
}

// serverDir returns a directory that the server's user can reach, which
// t.TempDir is not when the tests run as root.
func serverDir(t *testing.T) string {
	t.Helper()
	if _, _, err := Find(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "rapport-localpg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query[T any](t *testing.T, url, sql string, args ...any) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func exec1(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestDataOutlivesTheServer(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)

	first := start(t, Options{Dir: dir})
	for setting, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
		"server_encoding": "UTF8", "lc_ctype": "C.UTF-8", "lc_collate": "C", "TimeZone": "UTC", "listen_addresses": "127.0.0.1",
	} {
		if got := query[string](t, first.URL(), `select current_setting($1)`, setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if got := query[string](t, first.URL(), `select lower('ÄÖŞ')`); got != "äöş" {
		t.Errorf("lower('ÄÖŞ') is %q", got)
	}
	exec1(t, first.URL(), `create table note (text text); insert into note values ('kept')`)
	const read = `select text from note`

	// A second owner is refused and does no harm.
	if _, err := Start(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("second Start: %v, want ErrInUse", err)
	}
	if err := Remove(t.Context(), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove of a directory in use: %v, want ErrInUse", err)
	}

	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	if err := first.Err(); err != nil {
		t.Errorf("Err after Close: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}

	// A lock file whose process id has since been given to another process.
	stale := filepath.Join(first.DataDir(), lockFile)
	if err := os.WriteFile(stale, fmt.Appendf(nil, "%d\n%s\n", os.Getpid(), first.DataDir()), 0o600); err != nil {
		t.Fatal(err)
	}
	second := start(t, Options{Dir: dir})
	if got := query[string](t, second.URL(), read); got != "kept" {
		t.Errorf("after a restart the note says %q", got)
	}

	// The server is killed; its children need not have ended when we start again.
	if err := syscall.Kill(mainProcess(second.DataDir()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-second.Done()
	if err := second.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("Err after a kill: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	third := start(t, Options{Dir: dir})
	if got := query[string](t, third.URL(), read); got != "kept" {
		t.Errorf("after a kill the note says %q", got)
	}

	// The owner is gone without having stopped its server.
	if err := syscall.Flock(int(third.lock.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	fourth := start(t, Options{Dir: dir})
	<-third.Done()
	if got := query[string](t, fourth.URL(), read); got != "kept" {
		t.Errorf("after taking over from a dead owner the note says %q", got)
	}
}

func TestServerEndsWithItsOwner(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.CommandContext(t.Context(), self)
	owner.Env = append(os.Environ(), ownerDir+"="+dir)
	if _, err := owner.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dataDir := strings.TrimSpace(line)
	if pids, err := serverProcesses(dataDir); err != nil || len(pids) == 0 {
		t.Fatalf("server processes of %s: %v, %v", dataDir, pids, err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // "signal: killed"
	if left, err := awaitNone(t.Context(), dataDir, fastTimeout); err != nil || len(left) > 0 {
		t.Errorf("processes %v outlived their owner (%v)", left, err)
	}
}

func TestServerIsPrivate(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	// What an initialisation leaves behind when it is interrupted.
	if err := os.MkdirAll(filepath.Join(dir, clusterName+unfinished, dataName, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Dir: dir, Unsafe: true})

	config, err := pgx.ParseConfig(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	password, err := os.Stat(filepath.Join(filepath.Dir(s.DataDir()), passwordName))
	if err != nil {
		t.Fatal(err)
	}
	if password.Mode().Perm() != 0o600 {
		t.Errorf("the password's file has mode %v", password.Mode())
	}
	config.Password = "guess"
	_, err = pgx.ConnectConfig(t.Context(), config)
	const invalidPassword = "28P01"
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != invalidPassword {
		t.Errorf("connecting with a wrong password: %v", err)
	}

	acc, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	if acc == nil {
		t.Skip("not root: the server runs as this user")
	}
	proc, err := os.Stat(fmt.Sprintf("/proc/%d", mainProcess(s.DataDir())))
	if err != nil {
		t.Fatal(err)
	}
	if uid := proc.Sys().(*syscall.Stat_t).Uid; uid != acc.uid || uid == 0 {
		t.Errorf("the server runs as user %d, want %d (%s)", uid, acc.uid, acc.name)
	}
}

func TestStartReportsWhatTheServerPrinted(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	s := start(t, Options{Dir: dir, Unsafe: true})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(s.DataDir(), "postgresql.conf")
	if err := os.WriteFile(conf, []byte("no_such_setting = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: dir, Unsafe: true})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("Start with a broken configuration: %v", err)
	}
	// The failure released the directory.
	lock, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

func TestPlacementOutOfReach(t *testing.T) {
	t.Parallel()
	acc, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	if acc == nil {
		t.Skip("not root: every directory we can use is within the server's reach")
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	base, err := os.MkdirTemp("", "rapport-localpg-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	if _, err := placement(dir, base, acc); err == nil || !strings.Contains(err.Error(), "--postgres") {
		t.Errorf("neither place is within reach: %v", err)
	}
	if err := os.Chmod(base, 0o711); err != nil {
		t.Fatal(err)
	}
	home, err := placement(dir, base, acc)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(home) != base {
		t.Errorf("placed in %s, want below %s", home, base)
	}
	again, err := placement(dir, base, acc)
	if err != nil || again != home {
		t.Errorf("placed in %s, then in %s (%v)", home, again, err)
	}
}

func TestPasswordStaysOutOfErrors(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	s := start(t, Options{Dir: dir, Unsafe: true})
	config, err := pgx.ParseConfig(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(mainProcess(s.DataDir()), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if err := s.Err(); err == nil || strings.Contains(err.Error(), config.Password) {
		t.Errorf("Err: %v", err)
	}
}

// Two processes find the same leftover: while one removed it, the lock's file was gone before its directory was, and the other
// took the lock anew. The first then met a directory that is not empty.
func TestReproTwoProcessesRemoveOneDirectory(t *testing.T) {
	t.Parallel()
	base, err := os.MkdirTemp("", "rapport-localpg-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	if err := os.Chmod(base, 0o711); err != nil { // within the server's reach
		t.Fatal(err)
	}
	for range 20 {
		dir := filepath.Join(base, "left")
		data := filepath.Join(dir, clusterName, dataName)
		if err := os.MkdirAll(data, 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if err := os.WriteFile(filepath.Join(data, fmt.Sprint(i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var removing sync.WaitGroup
		for range 4 {
			removing.Go(func() {
				if err := Remove(t.Context(), dir); err != nil && !errors.Is(err, ErrInUse) {
					t.Error(err)
				}
			})
		}
		removing.Wait()
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	}
}

// A database that took longer to make than an attempt to connect may was given up and begun anew, for as long as the disk was slow.
func TestReproSlowCreationOfTheDatabaseIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: serverDir(t), Unsafe: true})
	config, err := pgx.ParseConfig(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "postgres"
	connect := func() *pgx.Conn {
		t.Helper()
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	holder, watcher := connect(), connect()
	for _, sql := range []string{"drop database " + Database, "begin", "comment on database template1 is 'held'"} {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	made := make(chan error, 1)
	go func() { made <- ensureDatabase(t.Context(), s.URL()) }()
	const waits = `select exists (select from pg_stat_activity where query like 'create database%' and wait_event_type = 'Lock'
	and clock_timestamp() - query_start > make_interval(secs => $1)), pg_sleep(0.1)`
	for slow := false; !slow; {
		if err := watcher.QueryRow(t.Context(), waits, connectTimeout.Seconds()).Scan(&slow, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-made:
			t.Fatalf("it ended while the server could not make it: %v", err)
		default:
		}
	}
	if _, err := holder.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	if err := <-made; err != nil {
		t.Error(err)
	}
}
