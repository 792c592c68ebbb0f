package esnode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Backup copies the log in dir to the directory target, which must not exist; the
// directory it lies in must. A node may serve the log meanwhile. The copy is of one
// moment: what was acknowledged before the call is in it, and an append under way is in
// it whole or not at all. It is on disk when Backup returns the position up to which
// events had been acknowledged. What never changes is shared with the log where both lie
// on one file system. After an error the target may hold a part and is of no use.
func Backup(ctx context.Context, dir, target string) (head uint64, err error) {
	if target, err = filepath.Abs(target); err != nil {
		return 0, err
	}
	if err := logIn(vfs.Default, dir); err != nil {
		return 0, err
	}
	s, err := openStore(ctx, storeOptions{
		dir: dir, fs: vfs.Default, now: time.Now, logger: slog.New(slog.DiscardHandler),
		fatal: func(error) {}, // the copy fails with the same error
	})
	if errors.Is(err, ErrLocked) {
		return askForBackup(ctx, dir, target)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.backup(target)
}

// logIn returns an error when there is no such directory.
func logIn(disk vfs.FS, dir string) error {
	_, err := disk.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no event log in %s", dir)
	}
	return err
}

// openReadOnly opens a log that no node uses, and changes nothing in it. The store can
// be read and must be released; it has neither a writer nor a head.
func openReadOnly(disk vfs.FS, dir string) (*store, error) {
	if err := logIn(disk, dir); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(dir, disk)
	if err != nil {
		return nil, lockError(dir, err)
	}
	s := &store{lock: lock, fs: disk, dir: dir, logger: slog.New(slog.DiscardHandler)}
	if s.db, err = openPebble(s, storeOptions{dir: dir, fs: disk}, true); err != nil {
		return nil, errors.Join(engineError(dir, err), s.release())
	}
	return s, nil
}

// backup copies a log that may be written meanwhile.
func (s *store) backup(target string) (head uint64, err error) {
	if s.failed.Load() {
		return 0, errFailed
	}
	head = s.synced()
	last, err := s.markAt(head)
	if err != nil {
		return 0, err
	}
	if err := s.db.Checkpoint(target, pebble.WithFlushedWAL()); err != nil {
		return 0, fmt.Errorf("copy the event log to %s: %w", target, err)
	}
	w, err := openWitness(s.fs, target, last)
	if err != nil {
		return 0, fmt.Errorf("copy the event log to %s: %w", target, err)
	}
	return head, w.Close()
}
