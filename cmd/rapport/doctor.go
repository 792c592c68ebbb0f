package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/importer"
	"github.com/rapport-crm/rapport/internal/localpg"
)

// Bounds of the doctor's checks.
const (
	doctorPatience = 5 * time.Second // for each store to answer
	lowDiskBytes   = 1 << 30         // less free space than this is reported
)

type doctorCommand struct {
	stores
	Listen string `help:"Address that the API would listen on." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
}

// Help shows an example.
func (doctorCommand) Help() string { return "Example: rapport doctor --data data" }

// Run prints one line for each check; it changes nothing.
func (d doctorCommand) Run(ctx context.Context, c *console) error {
	lacking := 0
	check := func(what string, f func() (string, error)) {
		found, err := f()
		if err != nil {
			lacking++
			fmt.Fprintf(c.out, "LACKS  %-14s %v\n", what, err)
			return
		}
		fmt.Fprintf(c.out, "ok     %-14s %s\n", what, found)
	}
	server, runningErr := d.running()
	check("program", func() (string, error) {
		return fmt.Sprintf("%s, %s, %d cores", versionText(), runtime.Version(), runtime.GOMAXPROCS(0)), nil
	})
	check("data directory", d.checkData)
	check("server", func() (string, error) {
		if runningErr != nil {
			return "none runs on this data directory", nil
		}
		return fmt.Sprintf("process %d at %s", server.PID, server.API), nil
	})
	check("event log", func() (string, error) { return d.checkLog(ctx, server) })
	check("postgres", func() (string, error) { return d.checkPostgres(ctx, server) })
	check("listen", func() (string, error) {
		if runningErr == nil {
			return "in use by the running server", nil
		}
		l, err := net.Listen("tcp", d.Listen)
		if err != nil {
			return "", err
		}
		return d.Listen + " is free", l.Close()
	})
	check("mappings", func() (string, error) { return fmt.Sprint(importer.ShippedNames()), nil })
	if lacking > 0 {
		return errPartly
	}
	return nil
}

func (d doctorCommand) checkData() (string, error) {
	dir := d.Data
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		dir = filepath.Dir(dir)
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	free := disk.Bavail * uint64(disk.Bsize)
	if free < lowDiskBytes {
		return "", fmt.Errorf("%s has only %d MiB free", dir, free>>20)
	}
	return fmt.Sprintf("%s, %d GiB free", d.Data, free>>30), nil
}

func (d doctorCommand) checkLog(ctx context.Context, server running) (string, error) {
	url := d.EventStore
	if url == "" {
		url = server.EventStore
	}
	if url == "" {
		return "embedded, started with the server", nil
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	client, err := eventlog.Dial(ctx, url)
	if err != nil {
		return "", err
	}
	defer client.Close()
	head, err := client.Head(ctx)
	return fmt.Sprintf("%s answers, head at %s", url, head), err
}

func (d doctorCommand) checkPostgres(ctx context.Context, server running) (string, error) {
	url := d.Postgres
	if url == "" {
		url = server.Postgres
	}
	if url == "" {
		dir, version, err := localpg.Find()
		return fmt.Sprintf("version %s in %s, started with the server", version, dir), err
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var version string
	err = conn.QueryRow(ctx, "select current_setting('server_version')").Scan(&version)
	return "answers, version " + version, err
}
