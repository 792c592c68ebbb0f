package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/localpg"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/runner"
	"github.com/rapport-crm/rapport/readmodels"
)

// Names below the data directory.
const (
	nodeDir     = "events"       // the embedded node's store
	postgresDir = "postgres"     // the private PostgreSQL
	importsDir  = "imports"      // rejects files
	secretFile  = "secret"       // key of the hashes that name reservations
	runFile     = "running.json" // where a running server listens, for the other verbs
)

// stores are the flags that choose where the truth and the read models live.
type stores struct {
	Data       string `help:"Directory of everything that this installation keeps." default:"data" type:"path" placeholder:"DIR"`
	EventStore string `name:"eventstore" help:"Connection string of an EventStoreDB, esdb://…; the embedded node when left out." placeholder:"URL"`
	Postgres   string `help:"Connection string of a PostgreSQL, postgres://…; a private one when left out." placeholder:"URL"`
}

// running says where a server that uses a data directory can be reached.
type running struct {
	PID        int    `json:"pid"`
	EventStore string `json:"eventstore"`
	Postgres   string `json:"postgres"`
	API        string `json:"api"`
}

// closers closes what was opened, in reverse order.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

// Close closes everything and joins the errors.
func (c closers) Close() error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		errs = append(errs, c[i]())
	}
	return errors.Join(errs...)
}

// prepare makes the data directory.
func (s stores) prepare() error { return os.MkdirAll(s.Data, 0o755) }

// log is the event log and what is built directly on it.
type log struct {
	eventlog.Log
	URL      string
	Registry *codec.Registry
	Store    *eventlog.Store
}

// openLog connects to the event log that the flags choose: the one named, else that of a server running on the data
// directory, else the embedded node, started here.
func (s stores) openLog(ctx context.Context, logger *slog.Logger, closing *closers) (*log, error) {
	url := s.EventStore
	if url == "" {
		var err error
		if url, err = s.startNode(ctx, logger, closing); err != nil {
			return nil, err
		}
	}
	registry, err := codec.New(commands.Definitions()...)
	if err != nil {
		return nil, err
	}
	client, err := eventlog.Dial(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to the event log: %w", err)
	}
	closing.add(client.Close)
	return &log{Log: client, URL: url, Registry: registry, Store: eventlog.NewStore(client, registry)}, nil
}

func (s stores) startNode(ctx context.Context, logger *slog.Logger, closing *closers) (string, error) {
	if err := s.prepare(); err != nil {
		return "", err
	}
	node, err := esnode.Open(ctx, esnode.Options{Dir: filepath.Join(s.Data, nodeDir), Logger: logger})
	if errors.Is(err, esnode.ErrLocked) {
		r, readErr := s.running()
		if readErr != nil {
			return "", fmt.Errorf("%w, and no running server says where it listens: %w", err, readErr)
		}
		return r.EventStore, nil
	}
	if err != nil {
		return "", fmt.Errorf("open the embedded event node: %w", err)
	}
	closing.add(node.Close)
	return node.ConnectionString(), nil
}

// openPostgres returns the connection string of the database that the flags choose, by the same rule as openLog.
func (s stores) openPostgres(ctx context.Context, logger *slog.Logger, closing *closers) (string, error) {
	if s.Postgres != "" {
		return s.Postgres, nil
	}
	if err := s.prepare(); err != nil {
		return "", err
	}
	server, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(s.Data, postgresDir), Logger: logger})
	if errors.Is(err, localpg.ErrInUse) {
		r, readErr := s.running()
		if readErr != nil {
			return "", fmt.Errorf("%w, and no running server says where it listens: %w", err, readErr)
		}
		return r.Postgres, nil
	}
	if err != nil {
		return "", err
	}
	closing.add(server.Close)
	return server.URL(), nil
}

// running reads where a server on the data directory listens.
func (s stores) running() (running, error) {
	var r running
	text, err := os.ReadFile(filepath.Join(s.Data, runFile))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// announce writes where this server listens; the returned function takes it back.
func (s stores) announce(r running) (func() error, error) {
	path := filepath.Join(s.Data, runFile)
	text, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	return func() error { return os.Remove(path) }, err
}

// secret returns the installation's key, made at first use. Installations with several data directories on one event
// store must share the file.
func (s stores) secret() ([]byte, error) {
	path := filepath.Join(s.Data, secretFile)
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.prepare(); err != nil {
			return nil, err
		}
		fresh := make([]byte, 32)
		rand.Read(fresh)
		file, createErr := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(createErr, fs.ErrExist) { // another process was faster
			return os.ReadFile(path)
		}
		if createErr != nil {
			return nil, createErr
		}
		_, writeErr := file.Write(fresh)
		return fresh, errors.Join(writeErr, file.Sync(), file.Close())
	}
	if err == nil && len(key) < 32 {
		return nil, fmt.Errorf("%s holds %d bytes, not a key of 32", path, len(key))
	}
	return key, err
}

// newBus makes the command bus over the log.
func (s stores) newBus(l *log, logger *slog.Logger) (*commands.Bus, error) {
	key, err := s.secret()
	if err != nil {
		return nil, err
	}
	bus := commands.NewBus(l.Store, commands.Options{Secret: key, Logger: logger})
	commands.All(bus)
	return bus, nil
}

// newRunner makes the engine of the projections on the database, without running it.
func newRunner(ctx context.Context, postgres string, l *log, o runner.Options, closing *closers) (*runner.Runner, error) {
	pool, err := pgxpool.New(ctx, postgres)
	if err != nil {
		return nil, err
	}
	closing.add(func() error { pool.Close(); return nil })
	if err := readmodels.Migrate(ctx, pool); err != nil {
		return nil, err
	}
	return runner.New(pool, l.Log, l.Registry, projections.All(), o)
}
