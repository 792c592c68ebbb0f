package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/rapport-crm/rapport/internal/localpg"
)

// How a private PostgreSQL that has died is started again.
const (
	restartPause    = time.Second // before each start
	maxRestarts     = 5           // in a row, each after less than stableLife
	stableLife      = time.Minute // after which a server counts as having worked
	restartDeadline = 5 * time.Minute
)

// database is a PostgreSQL that is in use.
type database struct {
	URL     string
	options localpg.Options // of the private one
	logger  *slog.Logger

	mu    sync.Mutex
	local *localpg.Server // nil when somebody else runs it
}

// openPostgres connects to the database that the flags choose, by the same rule as openLog.
func (s stores) openPostgres(ctx context.Context, logger *slog.Logger, closing *closers) (*database, error) {
	if s.Postgres != "" {
		return &database{URL: s.Postgres}, nil
	}
	if r, err := s.running(); err == nil {
		return &database{URL: r.Postgres}, nil
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	d := &database{options: localpg.Options{Dir: filepath.Join(s.Data, postgresDir), Logger: logger}, logger: logger}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	closing.add(d.close)
	return d, nil
}

// start runs the private server, at the port of the one before if there was one.
func (d *database) start(ctx context.Context) error {
	server, err := localpg.Start(ctx, d.options)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.local, d.URL, d.options.Port = server, server.URL(), server.Port()
	return nil
}

func (d *database) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.local.Close()
}

// watch starts a private server that has died again, so that requests meanwhile are answered 503 and later ones as before.
// It returns when ctx ends, or with an error when the server does not stay up.
func (d *database) watch(ctx context.Context) error {
	if d.local == nil {
		return nil
	}
	for restarts := 0; ; {
		started := time.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-d.local.Done():
		}
		died := d.local.Err()
		if time.Since(started) > stableLife {
			restarts = 0
		}
		if restarts++; restarts > maxRestarts {
			return died
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartPause):
		}
		d.logger.WarnContext(ctx, "postgres is started again", "attempt", restarts)
		starting, cancel := context.WithTimeout(ctx, restartDeadline)
		err := errors.Join(d.close(), d.start(starting))
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return errors.Join(died, err)
		}
	}
}
