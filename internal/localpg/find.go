package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MinMajor is the oldest PostgreSQL major version that may be used: the one
// of Debian 12, whose features (MERGE, NULLS NOT DISTINCT) the SQL may rely on.
const MinMajor = 15

// debianBins is where Debian and Ubuntu install one version beside another,
// out of PATH.
const debianBins = "/usr/lib/postgresql/*/bin"

// ErrNotInstalled is returned when no suitable PostgreSQL server binaries are
// found. The error that wraps it names the Debian package to install.
var ErrNotInstalled = errors.New("PostgreSQL is not installed")

// binaries are the programs of one installed PostgreSQL version.
type binaries struct {
	Dir     string
	Version string // as printed: "15.18"
	Major   int
}

// Find returns the directory of the PostgreSQL server binaries that a new
// cluster would be made with, and their version: those in PATH, else the newest
// below /usr/lib/postgresql. The error is or wraps ErrNotInstalled.
func Find() (binDir string, version string, err error) {
	b, err := find(os.Getenv("PATH"), debianBins, 0)
	return b.Dir, b.Version, err
}

// find looks for binaries of the given major version, or of any that is new
// enough when major is 0, in the directories of path and then in those that
// match pattern, newest first.
func find(path, pattern string, major int) (binaries, error) {
	var installed []binaries
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return binaries{}, fmt.Errorf("search %s: %w", pattern, err)
	}
	for _, dir := range dirs {
		if b, ok := inspect(dir); ok {
			installed = append(installed, b)
		}
	}
	slices.SortStableFunc(installed, func(a, b binaries) int { return b.Major - a.Major })

	var candidates []binaries
	for _, dir := range filepath.SplitList(path) {
		if b, ok := inspect(dir); ok {
			candidates = append(candidates, b)
		}
	}
	for _, b := range append(candidates, installed...) {
		if b.Major == major || major == 0 && b.Major >= MinMajor {
			return b, nil
		}
	}
	if major != 0 {
		return binaries{}, fmt.Errorf("%w in version %d, which wrote the data: install the Debian package postgresql-%d, or name a running server with --postgres",
			ErrNotInstalled, major, major)
	}
	return binaries{}, fmt.Errorf("%w in version %d or newer: install the Debian package postgresql (apt-get install postgresql), or name a running server with --postgres",
		ErrNotInstalled, MinMajor)
}

// inspect reports the binaries in dir, if both that are needed are there and run.
func inspect(dir string) (binaries, bool) {
	server, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return binaries{}, false
	}
	dir = filepath.Dir(server)
	if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, false
	}
	out, err := exec.Command(server, "--version").Output()
	if err != nil {
		return binaries{}, false
	}
	version, major, err := parseVersion(string(out))
	if err != nil {
		return binaries{}, false
	}
	return binaries{Dir: dir, Version: version, Major: major}, true
}

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian …)" or "… 18beta1".
func parseVersion(printed string) (version string, major int, err error) {
	_, rest, ok := strings.Cut(printed, "(PostgreSQL) ")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return "", 0, fmt.Errorf("no PostgreSQL version in %q", printed)
	}
	version = fields[0]
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	major, err = strconv.Atoi(version[:end])
	if err != nil {
		return "", 0, fmt.Errorf("PostgreSQL version %q: %w", version, err)
	}
	return version, major, nil
}
