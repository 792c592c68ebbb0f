package pgtest

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rapport-crm/rapport/internal/localpg"
)

func TestMain(m *testing.M) { Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	const make = `create table once (id integer)`
	seen := map[string]bool{}
	for range 2 {
		u := Database(t)
		if seen[u] {
			t.Fatalf("%s was handed out twice", u)
		}
		seen[u] = true
		conn := connect(t, u)
		if _, err := conn.Exec(t.Context(), make); err != nil {
			t.Error(err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestDatabaseIsDroppedWithItsSessions(t *testing.T) {
	t.Parallel()
	var dropped string
	var conn *pgx.Conn
	t.Run("user", func(t *testing.T) {
		dropped = Database(t)
		conn = connect(t, dropped)
	})
	defer conn.Close(t.Context())
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the session outlived its database")
	}
	_, err := pgx.Connect(t.Context(), dropped)
	const noSuchDatabase = "3D000"
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != noSuchDatabase {
		t.Errorf("connecting to the dropped database: %v", err)
	}
}

func TestRunningServerIsUsed(t *testing.T) {
	given := Database(t)
	t.Setenv(serverVar, given)
	var s server
	s.start(t.Context())
	if s.err != nil || s.local != nil || s.url != given {
		t.Errorf("server %q (private: %v), %v; want %q", s.url, s.local != nil, s.err, given)
	}
	if u, err := url.Parse(given); err != nil || !strings.HasPrefix(u.Path, "/test_") {
		t.Errorf("database of %q: %v", given, err)
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	t.Parallel()
	Database(t) // skips where nothing is installed
	tmp, err := os.MkdirTemp("", "rapport-leftovers-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, 0o711); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	dead, alive := filepath.Join(tmp, dirPrefix+"dead"), filepath.Join(tmp, dirPrefix+"alive")
	if err := os.MkdirAll(filepath.Join(dead, "cluster", "data"), 0o711); err != nil {
		t.Fatal(err)
	}
	s, err := localpg.Start(t.Context(), localpg.Options{Dir: alive, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := removeLeftovers(context.Background(), tmp); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of a dead test: %v", err)
	}
	if _, err := os.Stat(s.DataDir()); err != nil {
		t.Errorf("the directory of a running test: %v", err)
	}
}
