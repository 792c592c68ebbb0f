package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/rapport-crm/rapport/internal/localpg"
)

// PostgreSQL's user cannot reach the data directory, so that its cluster lies elsewhere and outlived the directory: the next
// server found read models of another log and ended.
func TestReproServerWhoseDataDirectoryWasDeletedHasNoReadModels(t *testing.T) {
	t.Parallel()
	requirePostgres(t)
	if os.Geteuid() != 0 {
		t.Skip("not root: PostgreSQL runs as this user, below the data directory")
	}
	closed := t.TempDir()
	equal(t, "closing the directory", os.Chmod(closed, 0o700), nil)
	data := filepath.Join(closed, "data")
	postgres := filepath.Join(data, postgresDir)
	t.Cleanup(func() {
		equal(t, "removing the clusters", localpg.Remove(context.WithoutCancel(t.Context()), postgres), nil)
	})
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	diagnostics := newBuffer()
	code := make(chan int, 1)
	go func() {
		defer stop()
		code <- run(ctx, []string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--sample"}, newBuffer(), diagnostics)
	}()
	_, err := ready(ctx, data)
	stop()
	if code := <-code; err != nil || code != exitDone {
		t.Fatalf("serve ended with %d (%v):\n%s", code, err, diagnostics)
	}
	equal(t, "deleting the data directory", os.RemoveAll(data), nil)
	for range 2 { // on a new directory, and again on the same
		diagnostics := newBuffer()
		if code := run(t.Context(), []string{"projections", "rebuild", "customer", "--wait", "--data", data}, newBuffer(), diagnostics); code != exitDone {
			t.Fatalf("the projector ended with %d:\n%s", code, diagnostics)
		}
	}
}
