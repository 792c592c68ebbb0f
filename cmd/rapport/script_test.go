package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/localpg"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/internal/porttest"
	"github.com/rapport-crm/rapport/projections/runner"
)

// TestScripts runs the sessions in testdata/script against the real binary. Commands beyond testscript's own:
//
//	exits CODE COMMAND...   runs a command and checks its exit code
//	up DIR                  waits until the server on a data directory is ready and has caught up, and sets $API to its address
//	answers URL             waits until a URL answers with success
//	serves URL              waits until the event log of a connection string answers
//	get PATH                prints what the server that up found answers
func TestScripts(t *testing.T) {
	requirePostgres(t)
	// The private PostgreSQL runs as another user when the tests run as root, and must reach its directory.
	root, err := os.MkdirTemp("", "rapport-script-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { equal(t, "removing the sessions", os.RemoveAll(root), nil) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	nodetest.Tell(t)
	testscript.Run(t, testscript.Params{
		Dir:         "testdata/script",
		WorkdirRoot: root,
		Setup: func(env *testscript.Env) error {
			env.Setenv("POSTGRES", pgtest.Database(t))
			env.Vars = append(env.Vars, nodetest.Environ()...)
			for _, name := range []string{"PORT", "NODE_PORT"} {
				_, port, err := net.SplitHostPort(porttest.Address(t))
				if err != nil {
					return err
				}
				env.Setenv(name, port)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "up": up, "answers": answers, "serves": serves, "get": getAPI, "capture": capture},
	})
}

// requirePostgres skips a test that needs a private PostgreSQL where none is installed, but not in CI.
func requirePostgres(t *testing.T) {
	t.Helper()
	if _, _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// patience bounds the waits for another process; nothing is learned from how long they take.
const patience = 2 * time.Minute

func up(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: up DIR")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, err := ready(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("API", address)
}

// caughtUp reports whether the read models of a server are complete and have reached the end of the log.
func caughtUp(ctx context.Context, server string) bool {
	projections, err := fetch[list[api.ProjectionStatus]](ctx, server, "/v1/admin/projections")
	return err == nil && !slices.ContainsFunc(projections.Items, func(p api.ProjectionStatus) bool {
		// Rows that are ahead of a restored log are not halted before the projector has looked at them.
		return p.State != string(runner.Running) || p.LagEvents != 0 || p.Head.Before(p.Position)
	})
}

// ready waits until a server runs on the data directory, is ready and has caught up, and returns its address.
func ready(ctx context.Context, data string) (address string, err error) {
	err = until(ctx, func() bool {
		r, err := (stores{Data: data}).running()
		address = r.API
		return err == nil && ok(ctx, r.API+"/readyz") && caughtUp(ctx, r.API)
	})
	return address, err
}

// until asks again and again whether something that another process does has happened.
func until(ctx context.Context, happened func() bool) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !happened() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ok reports whether a URL answers with success.
func ok(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// answers waits until a URL answers with success.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: answers URL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(until(ctx, func() bool { return ok(ctx, args[0]) }))
}

// serves waits until an event log answers: a client gives a node that does not listen yet half a second.
func serves(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serves URL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := eventlog.Dial(ctx, args[0], eventlog.WithLogger(slog.New(slog.DiscardHandler)))
	ts.Check(err)
	err = until(ctx, func() bool {
		_, err := client.Head(ctx)
		return err == nil
	})
	ts.Check(errors.Join(err, client.Close()))
}

// capture sets a variable to what the first group of a pattern matches in the standard output of the last command.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME PATTERN")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	found := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) < 2 {
		ts.Fatalf("no match for %s", pattern)
	}
	ts.Setenv(args[0], found[1])
}

func getAPI(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: get PATH")
	}
	response, err := http.Get(ts.Getenv("API") + args[0])
	ts.Check(err)
	defer response.Body.Close()
	_, err = io.Copy(ts.Stdout(), response.Body)
	ts.Check(err)
}
