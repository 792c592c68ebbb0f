package localpg

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// idName is the file with the id of a directory, which stands beside the
	// cluster too when that lies elsewhere.
	idName = "id"
	// aside begins what is added to the name of a place when what it holds is set
	// aside; the time and the id follow.
	aside = ".aside-"
	// asideTime writes the time so that names sort by it.
	asideTime = "20060102T150405.000000000Z"
	// maxAside is how many clusters are kept aside for one directory.
	maxAside = 3
)

// Claim gives dir an id of its own, unless it has one or a server has run there.
// Whoever makes the directory above says so that dir is new: Start then does not
// take up a cluster that lies elsewhere and belonged to a directory that was
// deleted. A directory without an id keeps what it finds, because it may be
// older than the ids, or restored from a backup. Several processes may claim a
// directory at once.
func Claim(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("localpg: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, logName)); err == nil {
		return nil
	}
	if err := mark(dir, rand.Text()); err != nil {
		return fmt.Errorf("claim %s: %w", dir, err)
	}
	return nil
}

// mark writes the id of dir, unless it has one.
func mark(dir, id string) error {
	f, err := os.CreateTemp(dir, idName+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(id + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// A link either makes the whole file or finds that there is one.
	if err := os.Link(f.Name(), filepath.Join(dir, idName)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return persist(dir)
}

// idOf returns the id of dir, "" when it has none.
func idOf(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, idName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}

// settle sees to it that home, where the cluster of dir lies elsewhere, holds
// that of dir and no other: what belonged to a directory that was at the same
// path before is set aside, and what was set aside for this one comes back. The
// caller holds dir's lock, and no server runs in home.
func settle(ctx context.Context, dir, home string, log *slog.Logger) error {
	want, err := idOf(dir)
	if err != nil {
		return err
	}
	have, err := idOf(home)
	if err != nil {
		return err
	}
	if want == "" { // what it finds is its own
		want = cmp.Or(have, rand.Text())
		if err := mark(home, want); err != nil { // first: dir is not to name what home does not hold
			return err
		}
		return mark(dir, want)
	}
	if have == want {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(home, clusterName)); err == nil {
		away := home + aside + time.Now().UTC().Format(asideTime) + "-" + cmp.Or(have, rand.Text())
		if err := os.Rename(home, away); err != nil {
			return err
		}
		log.WarnContext(ctx, "postgres data of another directory at the same path set aside", "directory", dir, "aside", away)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	kept, err := asides(home)
	if err != nil {
		return err
	}
	// There is no cluster in home now; what else there is was never finished.
	if err := os.RemoveAll(home); err != nil {
		return err
	}
	own := slices.IndexFunc(kept, func(path string) bool { return strings.HasSuffix(path, "-"+want) })
	if own >= 0 {
		if err := os.Rename(kept[own], home); err != nil {
			return err
		}
		log.WarnContext(ctx, "postgres data that was set aside is back", "directory", dir, "placed", home)
		kept = slices.Delete(kept, own, own+1)
	} else if err := furnish(home, want); err != nil {
		return err
	}
	for len(kept) > maxAside {
		if err := os.RemoveAll(kept[0]); err != nil {
			return err
		}
		log.WarnContext(ctx, "postgres data that was set aside long ago deleted", "directory", dir, "aside", kept[0])
		kept = kept[1:]
	}
	return persist(filepath.Dir(home))
}

// furnish makes home anew, for the directory of an id.
func furnish(home, id string) error {
	if err := os.Mkdir(home, 0o711); err != nil {
		return err
	}
	if err := os.Chmod(home, 0o711); err != nil { // whatever the umask
		return err
	}
	return mark(home, id)
}

// asides returns what was set aside from home, oldest first.
func asides(home string) ([]string, error) {
	return filepath.Glob(home + aside + "*") // sorted; home has no special characters
}
