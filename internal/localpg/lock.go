package localpg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// acquire makes dir when missing and takes its lock; closing the file, or the
// end of this process, releases it. The error wraps ErrInUse when another
// process holds it.
func acquire(dir string) (*os.File, error) {
	for {
		// Others may search, not list: the server of a root owner must get through.
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("localpg: %w", err)
		}
		path := filepath.Join(dir, lockName)
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since MkdirAll
		}
		if err != nil {
			return nil, fmt.Errorf("localpg: %w", err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// A Remove between our opening and our locking leaves us a lock that
		// nobody else will ever meet.
		if sameFile(f, path) {
			return f, nil
		}
		f.Close()
	}
}

func sameFile(f *os.File, path string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(held, named)
}
