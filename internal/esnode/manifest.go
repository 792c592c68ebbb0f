package esnode

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// manifestFS makes the name of a new manifest durable before the engine points to it.
// The engine syncs the manifest itself, but its directory only after the pointer: where
// names may reach the disk in another order than they were made, a crash between would
// leave a log that points to no manifest and cannot be opened.
type manifestFS struct{ vfs.FS }

// Create implements vfs.FS.
func (m manifestFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := m.FS.Create(name, category)
	if err != nil || !strings.HasPrefix(m.PathBase(name), "MANIFEST-") {
		return file, err
	}
	if err := syncDir(m.FS, m.PathDir(name)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Unwrap implements vfs.FS.
func (m manifestFS) Unwrap() vfs.FS { return m.FS }
