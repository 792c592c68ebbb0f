package esnode

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// witnessFile lies beside the engine's files.
	witnessFile  = "acknowledged"
	witnessBytes = 8 + checksumSize
	// witnessWrites is the class under which the file system accounts the file's writes.
	witnessWrites vfs.DiskWriteCategory = "acknowledged"
)

// witness is a small file with the position up to which events have been acknowledged.
// The engine takes a damaged end of its log for a write that was under way, and cuts
// it off; by the witness an open notices when that cut off what had been acknowledged.
// It is written after each sync and before the replies, and is not synced itself: it
// survives the process at once, and the machine after the kernel's next write-back. An
// older or a lost one notices less and never refuses a sound log.
type witness struct{ file vfs.File }

// openWitness opens the file for writing, and makes it durable with the given position.
func openWitness(disk vfs.FS, dir string, position uint64) (_ *witness, err error) {
	file, err := disk.OpenReadWrite(disk.PathJoin(dir, witnessFile), witnessWrites)
	if err != nil {
		return nil, err
	}
	w := &witness{file: file}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := w.advance(position); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	return w, syncDir(disk, dir)
}

func syncDir(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (w *witness) advance(position uint64) error {
	var b [witnessBytes]byte
	binary.BigEndian.PutUint64(b[:], position)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	_, err := w.file.WriteAt(b[:], 0)
	return err
}

func (w *witness) Close() error { return w.file.Close() }

// acknowledged reads the witness; 0 if there is none or it is not whole.
func acknowledged(disk vfs.FS, dir string) (position uint64, err error) {
	file, err := disk.Open(disk.PathJoin(dir, witnessFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var b [witnessBytes]byte
	if n, _ := file.ReadAt(b[:], 0); n < witnessBytes || binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[:8], castagnoli) {
		return 0, nil
	}
	return binary.BigEndian.Uint64(b[:]), nil
}
