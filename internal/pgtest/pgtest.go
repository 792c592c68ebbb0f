// Package pgtest gives each test a fresh database on a real PostgreSQL server.
//
// The server is started by the first test that asks and shared by its test
// binary. Where no server is installed those tests are skipped, loudly; when
// the environment says CI they fail instead. RAPPORT_TEST_POSTGRES
// (postgres://…, a superuser or a role that may create databases) names a running
// server to use instead.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/internal/localpg"
)

// serverVar names the server to use instead of a private one.
const serverVar = "RAPPORT_TEST_POSTGRES"

// dirPrefix begins the names of the private servers' directories in os.TempDir.
const dirPrefix = "rapport-pgtest-"

// shared is this test binary's server. Nothing else can be handed from one
// test of a binary to the next.
var shared server

// server is started at most once.
type server struct {
	once  sync.Once
	url   string
	err   error
	local *localpg.Server // nil when the server is not ours
	dir   string          // of local
}

// Database returns the connection string of a new, empty database, which is
// dropped, with whatever sessions it still has, when t ends. Tests may call it in
// parallel.
func Database(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.start(t.Context()) })
	if errors.Is(shared.err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED, NOT TESTED: %v, or set %s", shared.err, serverVar)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	identifier := pgx.Identifier{name}.Sanitize()
	if err := shared.exec(t.Context(), "create database "+identifier+" template template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		if err := shared.exec(context.Background(), "drop database "+identifier+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(shared.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// Main runs the tests of a package, stops the server they used and exits. A
// package whose tests call Database says so in its TestMain:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// Without it, or when a test panics, the server still ends with the process, and
// the next test binary removes its files.
func Main(m *testing.M) {
	code := m.Run()
	if err := Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Stop stops the server and removes its files, for a TestMain that does more
// than Main. No test may call Database afterwards.
func Stop() error {
	if shared.local == nil {
		return nil
	}
	if err := shared.local.Close(); err != nil {
		return err
	}
	return localpg.Remove(context.Background(), shared.dir)
}

func (s *server) start(ctx context.Context) {
	if s.url = os.Getenv(serverVar); s.url != "" {
		return
	}
	s.err = removeLeftovers(ctx, os.TempDir())
	if s.err != nil {
		return
	}
	for {
		if s.dir, s.err = os.MkdirTemp("", dirPrefix); s.err != nil {
			return
		}
		s.local, s.err = localpg.Start(ctx, localpg.Options{Dir: s.dir, Unsafe: true, Logger: slog.New(slog.DiscardHandler)})
		if s.err == nil {
			s.url = s.local.URL()
			return
		}
		// Another test binary may take the new directory for a leftover in the
		// moment before we lock it, and is removing it.
		if !errors.Is(s.err, localpg.ErrInUse) {
			s.err = errors.Join(s.err, os.RemoveAll(s.dir))
			return
		}
	}
}

// exec runs a statement in a session of its own. An exit of the server explains
// the error better than the lost connection does.
func (s *server) exec(ctx context.Context, sql string) error {
	err := execOnce(ctx, s.url, sql)
	if err != nil && s.local != nil {
		err = errors.Join(err, s.local.Err())
	}
	if err != nil {
		return fmt.Errorf("pgtest: %s: %w", sql, err)
	}
	return nil
}

func execOnce(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// removeLeftovers removes the servers in tmp whose test binary has died.
func removeLeftovers(ctx context.Context, tmp string) error {
	dirs, err := filepath.Glob(filepath.Join(tmp, dirPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		err := localpg.Remove(ctx, dir)
		// Another test binary is at work there, or it is another user's.
		if errors.Is(err, localpg.ErrInUse) || errors.Is(err, os.ErrPermission) {
			continue
		}
		if err != nil {
			return fmt.Errorf("pgtest: remove what a killed test left: %w", err)
		}
	}
	return nil
}
