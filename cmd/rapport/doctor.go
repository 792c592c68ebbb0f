package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/importer"
	"github.com/rapport-crm/rapport/internal/localpg"
)

// Bounds of the doctor's checks.
const (
	doctorPatience = 5 * time.Second // for each store to answer
	lowDiskBytes   = 1 << 30         // less free space than this is reported
)

// mayMakeFiles is what access(2) is asked about the data directory: W_OK and X_OK.
const mayMakeFiles = 2 | 1

type doctorCommand struct {
	stores
	writer
	Listen   address      `help:"Address that the API would listen on." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	Insecure bool         `help:"Serve would be told to listen on other addresses than loopback."`
	Tenants  []tenantName `name:"tenant" help:"The companies that serve would serve." default:"main" placeholder:"NAME"`
	Publish  []string     `help:"Brokers that serve would publish to." sep:" " placeholder:"URL"`
	JSON     bool         `name:"json" help:"Print the checks as JSON."`
}

// finding is the answer of one check.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Found string `json:"found"` // what is there, or what is lacking
}

// Help shows an example.
func (doctorCommand) Help() string { return "Example: rapport doctor --data data" }

// Run prints one line for each check, or all as one JSON array; it changes nothing.
func (d doctorCommand) Run(ctx context.Context, c *console) error {
	var findings []finding
	check := func(what string, f func() (string, error)) {
		found := finding{Check: what, OK: true}
		var err error
		if found.Found, err = f(); err != nil {
			found.OK, found.Found = false, domain.Shown(err)
		}
		findings = append(findings, found)
		if !d.JSON {
			fmt.Fprintf(c.out, "%-6s %-14s %s\n", map[bool]string{true: "ok", false: "LACKS"}[found.OK], what, found.Found)
		}
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
	check("secret", d.checkSecret)
	check("event log", func() (string, error) { return d.checkLog(ctx, server) })
	check("postgres", func() (string, error) { return d.checkPostgres(ctx, server) })
	check("listen", func() (string, error) {
		if runningErr == nil {
			return "in use by the running server", nil
		}
		if err := api.CheckListen(string(d.Listen), d.Insecure); err != nil {
			return "", err
		}
		l, err := net.Listen("tcp", string(d.Listen))
		if err != nil {
			return "", err
		}
		return string(d.Listen) + " is free", l.Close()
	})
	if len(d.Publish) > 0 {
		check("brokers", func() (string, error) { return d.checkBrokers(c) })
	}
	check("mappings", func() (string, error) { return fmt.Sprint(importer.ShippedNames()), nil })
	if d.JSON {
		if err := json.NewEncoder(c.out).Encode(findings); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(findings, func(f finding) bool { return !f.OK }) {
		return errPartly
	}
	return nil
}

func (d doctorCommand) checkData() (string, error) {
	dir := d.Data
	info, err := os.Stat(dir)
	for errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir) { // it would be made, with those above it
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is no directory", dir)
	}
	if err := syscall.Access(dir, mayMakeFiles); err != nil {
		return "", fmt.Errorf("%s cannot be written to: %w", dir, err)
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

// checkSecret looks for the key of reservations, and makes none.
func (d doctorCommand) checkSecret() (string, error) {
	_, err := os.Stat(filepath.Join(d.Data, secretFile))
	if d.Secret == "" && d.EventStore == "" && errors.Is(err, fs.ErrNotExist) {
		return "made at first use", nil
	}
	if _, err := d.secret(d.Secret); err != nil {
		return "", err
	}
	if d.Secret != "" {
		return "given", nil
	}
	return "in " + filepath.Join(d.Data, secretFile), nil
}

func (d doctorCommand) checkLog(ctx context.Context, server running) (string, error) {
	address := cmp.Or(d.EventStore, server.EventStore)
	if address == "" {
		return "embedded, started with the server", nil
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	client, err := eventlog.Dial(ctx, address, eventlog.WithNamespace(d.Namespace))
	if err != nil {
		return "", err
	}
	defer client.Close()
	if err := client.Probe(ctx); err != nil {
		return "", err
	}
	standing, err := client.Inspect(ctx)
	if err != nil {
		return "", err
	}
	if standing.Identity.ID == "" {
		return fmt.Sprintf("%s answers, namespace %s is new", withoutSecrets(address), d.Namespace), nil
	}
	head, err := client.Head(ctx)
	namespace := "namespace " + standing.Identity.Namespace
	if standing.Identity.Namespace == "" {
		namespace = "no namespace: it was begun before there were any"
	}
	return fmt.Sprintf("%s answers, %s, head at %s", withoutSecrets(address), namespace, head.Position), err
}

func (d doctorCommand) checkBrokers(c *console) (string, error) {
	destinations, err := openDestinations(d.Publish, tenantsOf(d.Tenants), c.log)
	if err != nil {
		return "", err
	}
	var names []string
	for _, to := range destinations {
		if err := errors.Join(to.broker.Connect(), to.broker.Close()); err != nil {
			return "", fmt.Errorf("%s: %w", to.name, err)
		}
		names = append(names, to.name)
	}
	return fmt.Sprintf("%v can be reached", names), nil
}

// withoutSecrets is a connection string as others may see it.
func withoutSecrets(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the log"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func (d doctorCommand) checkPostgres(ctx context.Context, server running) (string, error) {
	address := cmp.Or(d.Postgres, server.Postgres)
	if address == "" {
		dir, version, err := localpg.Find()
		return fmt.Sprintf("version %s in %s, started with the server", version, dir), err
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var version string
	err = conn.QueryRow(ctx, "select current_setting('server_version')").Scan(&version)
	return "answers, version " + version, err
}
