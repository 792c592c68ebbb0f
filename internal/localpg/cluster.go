package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// locale knows the letters of every script, so that lower() works on names; it is
// part of glibc and needs no locale package. collation orders by code point as it
// does, by comparing bytes instead of calling glibc, which every index entry pays.
const (
	locale    = "C.UTF-8"
	collation = "C"
)

// cluster is the directory that holds a server's data and its password.
type cluster struct {
	root   string
	acc    *account // nil: the server runs as this process's user
	unsafe bool
}

func (c cluster) dataDir() string { return filepath.Join(c.root, dataName) }

// prepare makes the cluster if there is none and returns the binaries it needs:
// those of the version that made it.
func (c cluster) prepare(ctx context.Context) (binaries, error) {
	text, err := os.ReadFile(filepath.Join(c.dataDir(), "PG_VERSION"))
	switch {
	case err == nil:
		major, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return binaries{}, fmt.Errorf("version of the data in %s: %w", c.dataDir(), err)
		}
		return find(os.Getenv("PATH"), debianBins, major)
	case !errors.Is(err, os.ErrNotExist):
		return binaries{}, err
	}
	if _, err := os.Stat(c.root); err == nil {
		return binaries{}, fmt.Errorf("%s is not a PostgreSQL cluster: its PG_VERSION is missing", c.dataDir())
	}
	bin, err := find(os.Getenv("PATH"), debianBins, 0)
	if err != nil {
		return binaries{}, err
	}
	return bin, c.create(ctx, bin)
}

// create initialises a cluster beside its place and moves it there, so that an
// interrupted initialisation leaves nothing that looks like a cluster.
func (c cluster) create(ctx context.Context, bin binaries) error {
	draft := cluster{root: c.root + unfinished, acc: c.acc, unsafe: c.unsafe}
	if err := os.RemoveAll(draft.root); err != nil {
		return err
	}
	if err := os.Mkdir(draft.root, 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(draft.dataDir(), 0o700); err != nil {
		return err
	}
	if err := c.acc.own(draft.dataDir()); err != nil {
		return err
	}
	password := rand.Text()
	if err := os.WriteFile(draft.passwordPath(), []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	if err := draft.initdb(ctx, bin, password); err != nil {
		return err
	}
	if err := persist(draft.passwordPath(), draft.root); err != nil {
		return err
	}
	if err := os.Rename(draft.root, c.root); err != nil {
		return err
	}
	return persist(filepath.Dir(c.root))
}

// persist makes files and directories survive a power cut; initdb does so for
// what it writes.
func persist(paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", path, err)
		}
	}
	return nil
}

// initdb runs the program of that name. The password goes to it in a file of
// its own, because the server's user may not read the one we keep.
func (c cluster) initdb(ctx context.Context, bin binaries, password string) error {
	passed := filepath.Join(c.root, "initdb-password")
	if err := os.WriteFile(passed, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	if err := c.acc.own(passed); err != nil {
		return err
	}
	args := []string{
		"--pgdata=" + c.dataDir(), "--username=" + Database, "--pwfile=" + passed,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=" + locale, "--lc-collate=" + collation,
	}
	if c.unsafe {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin.Dir, "initdb"), args...)
	cmd.Dir = c.dataDir()
	cmd.Env = serverEnv()
	cmd.SysProcAttr = c.acc.attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initialise %s: %w\n%s", c.dataDir(), err, out)
	}
	return os.Remove(passed)
}

func (c cluster) passwordPath() string { return filepath.Join(c.root, passwordName) }

// password returns what create chose.
func (c cluster) password() (string, error) {
	text, err := os.ReadFile(c.passwordPath())
	if err != nil {
		return "", fmt.Errorf("password of the cluster: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// settings are given on the command line, so that a new release changes them
// for clusters that an older one made. They suit one machine with a few GB of
// memory that runs the other parts too.
func (c cluster) settings(port int) []string {
	s := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(port),
		"unix_socket_directories=",
		"timezone=UTC",
		"log_timezone=UTC",
		"shared_buffers=256MB",
		"work_mem=16MB",
		"maintenance_work_mem=128MB",
		"max_wal_size=2GB",
		"checkpoint_timeout=15min",
		"random_page_cost=1.1", // SSD
		"jit=off",              // compiling costs more than these queries
		// Nobody replicates from a private server: loading a table made in the
		// same transaction then needs no log of its rows.
		"wal_level=minimal",
		"max_wal_senders=0",
		// Values of rows are personal data and have no place in a log.
		"log_error_verbosity=terse",
		"log_min_error_statement=panic",
	}
	if c.unsafe {
		return append(s, "fsync=off", "full_page_writes=off", "synchronous_commit=off")
	}
	return append(s, "fsync=on", "full_page_writes=on", "synchronous_commit=on")
}
