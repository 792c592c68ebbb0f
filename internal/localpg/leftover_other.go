//go:build !linux

package localpg

import (
	"context"
	"log/slog"
	"syscall"
)

// dieWithParent does nothing where the kernel offers nothing.
func dieWithParent(*syscall.SysProcAttr) {}

// stopLeftovers does nothing: without /proc there is no telling whether a
// process id is still the server's. A server left running makes the new one
// refuse to start, and what it prints names the process.
func stopLeftovers(context.Context, string, *slog.Logger) error { return nil }
