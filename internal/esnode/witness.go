package esnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
)

const (
	// witnessFile lies beside the engine's files.
	witnessFile = "acknowledged"
	// The file holds the position with its checksum and, since there are marks, the event's id with one of both.
	witnessPositionBytes = 8 + checksumSize
	witnessBytes         = witnessPositionBytes + 16 + checksumSize
	// witnessWrites is the class under which the file system accounts the file's writes.
	witnessWrites vfs.DiskWriteCategory = "acknowledged"
)

// mark names an event by its position and its id. The id is zero where a file of before
// does not tell it; the position is zero where there is no event.
type mark struct {
	position uint64
	id       uuid.UUID
}

// witness is a small file with the last event that has been acknowledged.
// The engine takes a damaged end of its log for a write that was under way, and cuts
// it off; by the witness an open notices when that cut off what had been acknowledged.
// It also notices files of an older copy, put in place of the log's own, however far
// they have grown since: another event stands where the acknowledged one stood.
// It is written after each sync and before the replies, and is not synced itself: it
// survives the process at once, and the machine after the kernel's next write-back. An
// older or a lost one notices less and never refuses a sound log.
type witness struct{ file vfs.File }

// openWitness opens the file for writing, and makes it durable with the given event.
func openWitness(disk vfs.FS, dir string, last mark) (_ *witness, err error) {
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
	if err := w.advance(last); err != nil {
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

func (w *witness) advance(last mark) error {
	var b [witnessBytes]byte
	binary.BigEndian.PutUint64(b[:], last.position)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	copy(b[witnessPositionBytes:], last.id[:])
	binary.BigEndian.PutUint32(b[witnessBytes-checksumSize:], crc32.Checksum(b[:witnessBytes-checksumSize], castagnoli))
	_, err := w.file.WriteAt(b[:], 0)
	return err
}

func (w *witness) Close() error { return w.file.Close() }

// acknowledged reads the witness; zero if there is none or it is not whole.
func acknowledged(disk vfs.FS, dir string) (last mark, err error) {
	file, err := disk.Open(disk.PathJoin(dir, witnessFile))
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var b [witnessBytes]byte
	n, _ := file.ReadAt(b[:], 0)
	if n < witnessPositionBytes || binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[:8], castagnoli) {
		return mark{}, nil
	}
	last.position = binary.BigEndian.Uint64(b[:])
	if n == witnessBytes && binary.BigEndian.Uint32(b[witnessBytes-checksumSize:]) == crc32.Checksum(b[:witnessBytes-checksumSize], castagnoli) {
		copy(last.id[:], b[witnessPositionBytes:])
	}
	return last, nil
}

// markAt names the event at a position; zero when that is the beginning of the log.
func (s *store) markAt(position uint64) (mark, error) {
	if position == 0 {
		return mark{}, nil
	}
	value, closer, err := s.db.Get(eventKey(nil, position))
	if err != nil {
		return mark{}, missingEvent(position, err)
	}
	rec, err := decodeRecord(position, value)
	return mark{position, rec.id}, errors.Join(err, closer.Close())
}

// keeps returns an error that says what of the acknowledged events the log, which ends
// at a position, does not have. Damage of the event itself is told by whoever reads it.
func (s *store) keeps(promised mark, last uint64, file string) error {
	if last < promised.position {
		return fmt.Errorf("%w: it ends at position %d, but events up to %d had been acknowledged; restore a backup, or delete %s to go on without them",
			errCorrupt, last, promised.position, file)
	}
	if promised.id == uuid.Nil {
		return nil
	}
	there, err := s.hasEvent(promised.position)
	switch {
	case err != nil:
		return nil
	case !there:
		return otherCopy(promised, "none", file)
	}
	found, err := s.markAt(promised.position)
	if err != nil || found == promised {
		return nil
	}
	return otherCopy(promised, found.id.String(), file)
}

func otherCopy(promised mark, found, file string) error {
	return fmt.Errorf("%w: at position %d event %s had been acknowledged, and %s stands there: this is an older copy, which has grown since; restore a backup, or delete %s to go on with this copy",
		errCorrupt, promised.position, promised.id, found, file)
}
