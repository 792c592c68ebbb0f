// Command sim guards the guards: it breaks each promise of the product on purpose, in a copy of the source tree, and requires
// that a test fails. The tests of this package are the simulation itself: see doc_test.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, ".", strings.Join(os.Args[1:], " ")); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		stop()
		os.Exit(1)
	}
}

// errUnguarded says that a guard can be removed without a test failing for it.
var errUnguarded = errors.New("a guard is not guarded")

// run applies every mutation whose guard contains the words to a copy of the tree at root, one after the other, and prints a
// table.
func run(ctx context.Context, root, words string) error {
	dir, err := os.MkdirTemp("", "rapport-guards-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyTree(ctx, root, dir); err != nil {
		return err
	}
	var unguarded []string
	for i, m := range mutations {
		if !strings.Contains(m.guard, words) {
			continue
		}
		begun := time.Now()
		fmt.Printf("%2d/%d %-56s ", i+1, len(mutations), m.guard)
		v, err := m.try(ctx, dir)
		if err != nil {
			fmt.Println("cannot be tried")
			return fmt.Errorf("%s: %w", m.guard, err)
		}
		fmt.Printf("%-8s  %4.0fs  %s\n", v, time.Since(begun).Seconds(), strings.Join(m.test, " "))
		if v != noticed {
			unguarded = append(unguarded, m.guard)
		}
	}
	if len(unguarded) > 0 {
		return fmt.Errorf("%w: %s", errUnguarded, strings.Join(unguarded, "; "))
	}
	fmt.Println("all were noticed")
	return nil
}

// copyTree copies what git knows of a tree, as it stands in the working directory, and what is new there.
func copyTree(ctx context.Context, root, to string) error {
	list := exec.CommandContext(ctx, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("list the files of %s: %w", root, err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		body, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, body, 0o644); err != nil {
			return err
		}
	}
	return nil
}
