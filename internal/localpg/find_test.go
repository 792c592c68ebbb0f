package localpg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeBinaries makes programs that print a version and do nothing else.
func fakeBinaries(t *testing.T, dir, version string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s (Debian)'\n", name, version)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// It is not parallel: a process that another test starts meanwhile has the programs open for writing, as we have, until it
// becomes another program, and what is open for writing cannot be run.
func TestFindPrefersPathThenTheNewest(t *testing.T) {
	root := t.TempDir()
	pattern := filepath.Join(root, "*", "bin")
	fakeBinaries(t, filepath.Join(root, "9.6", "bin"), "9.6.24")
	fakeBinaries(t, filepath.Join(root, "15", "bin"), "15.18")
	fakeBinaries(t, filepath.Join(root, "17", "bin"), "17.2")
	inPath := t.TempDir()
	fakeBinaries(t, inPath, "16.4")
	tooOld := t.TempDir()
	fakeBinaries(t, tooOld, "14.9")

	for _, test := range []struct {
		name, path string
		major      int
		want       string
	}{
		{"in PATH", inPath, 0, "16.4"},
		{"too old in PATH", tooOld, 0, "17.2"},
		{"not in PATH", "", 0, "17.2"},
		{"the version that made the data", inPath, 15, "15.18"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := find(test.path, pattern, test.major)
			if err != nil || b.Version != test.want {
				t.Errorf("found %q, %v; want %q", b.Version, err, test.want)
			}
		})
	}
}

func TestFindNamesThePackageToInstall(t *testing.T) {
	t.Parallel()
	none := t.TempDir()
	for _, test := range []struct {
		major int
		want  []string
	}{
		{0, []string{"apt-get install postgresql", "--postgres"}},
		{15, []string{"postgresql-15", "--postgres"}},
	} {
		_, err := find(none, filepath.Join(none, "*"), test.major)
		if !errors.Is(err, ErrNotInstalled) {
			t.Errorf("%v, want ErrNotInstalled", err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q lacks %q", err, want)
			}
		}
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		printed, version string
		major            int
	}{
		{"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18", 15},
		{"postgres (PostgreSQL) 18beta1\n", "18beta1", 18},
		{"postgres (PostgreSQL) 17\n", "17", 17},
	} {
		version, major, err := parseVersion(test.printed)
		if err != nil || version != test.version || major != test.major {
			t.Errorf("%q: %q, %d, %v", test.printed, version, major, err)
		}
	}
	for _, printed := range []string{"", "postgres (PostgreSQL)", "postgres (PostgreSQL) devel", "psql 15"} {
		if version, _, err := parseVersion(printed); err == nil {
			t.Errorf("%q was read as %q", printed, version)
		}
	}
}
