package esnode

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
)

const (
	storeFormat      = "2"
	storeFormatPlain = "1" // before records had checksums; raised when it is opened
	infoFormat       = "format"
	infoLogID        = "log-id"
	blockCacheBytes  = 64 << 20
	memTableBytes    = 16 << 20
	bloomBitsPerKey  = 10

	// spareBytes is the free space below which nothing is written any more: enough for
	// the engine to bring what it holds in memory to the disk and to tidy up.
	spareBytes = 64 << 20

	logStream    = "$rapport-log"
	logEventType = "$log-identity"
)

// storeOptions are what a store needs from outside.
type storeOptions struct {
	dir      string
	fs       vfs.FS
	now      func() time.Time
	logger   *slog.Logger
	fatal    func(error) // called once, when a write could not be made durable
	memTable uint64      // bytes that the engine gathers before it writes a table; 0: memTableBytes
	late     lateness    // zero: commits are shown at once
	unnamed  bool        // its identity is not told to clients
	offsets  bool        // positions are offsets with gaps between them, as real engines have them; else ordinals
}

// store is the log itself, without any network: appends in groups, one sync each, and
// reads of what is synced. It keeps these invariants:
//
//  1. A position, once synced, is never given to another event; it follows from the event before.
//  2. No reader and no reply tells of anything that is not synced.
//  3. After a failed sync nothing is acknowledged any more.
//  4. A log that lacks the end of what was acknowledged is not opened.
//  5. Nothing is written to a disk that is nearly full; what is there can be read.
//
// It is safe for concurrent use. Reads must have ended before close.
type store struct {
	db     *pebble.DB
	lock   *pebble.Lock
	fs     vfs.FS
	dir    string
	now    func() time.Time
	logger *slog.Logger
	fatal  func(error)
	sync   func(*pebble.Batch) error // (*pebble.Batch).SyncWait; tests make it fail
	format byte                      // of the records that it writes
	late   lateness

	head    *head
	witness *witness
	logID   uuid.UUID
	failed  atomic.Bool

	stop     chan struct{} // closed when readers shall end
	stopOnce sync.Once

	mu       sync.RWMutex // held for reading while a request is handed to the writer
	closed   bool
	requests chan *request
	workers  sync.WaitGroup
}

// openStore opens or creates the log in a directory. It returns an error that is
// ErrLocked when the directory is in use. What the engine recovers from its own log is
// flushed to disk before it is served: a process that died may have left it unsynced.
func openStore(ctx context.Context, opts storeOptions) (_ *store, err error) {
	if err := opts.fs.MkdirAll(opts.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create event log directory: %w", err)
	}
	lock, err := pebble.LockDirectory(opts.dir, opts.fs)
	if err != nil {
		return nil, lockError(opts.dir, err)
	}
	s := &store{
		lock: lock, fs: opts.fs, dir: opts.dir, now: opts.now, logger: opts.logger, fatal: opts.fatal,
		sync: (*pebble.Batch).SyncWait, stop: make(chan struct{}),
		requests: make(chan *request, queuedRequests), format: recordFormat, late: opts.late,
	}
	if opts.offsets {
		s.format = recordFormatOffset
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.db, err = openPebble(s, opts, false); err != nil {
		return nil, engineError(opts.dir, err)
	}
	if err := s.loadIdentity(); err != nil {
		return nil, engineError(opts.dir, err)
	}
	w, err := newWriter(s)
	if err != nil {
		return nil, engineError(opts.dir, err)
	}
	if w.nextID-1 > w.last { // every id came with an event
		return nil, fmt.Errorf("open event log %s: %w: it has the stream id %d and ends at position %d", opts.dir, errCorrupt, w.nextID-1, w.last)
	}
	if err := s.openWitness(mark{w.last, w.lastID}); err != nil {
		return nil, fmt.Errorf("open event log %s: %w", opts.dir, err)
	}
	s.head = newHead(w.last)
	s.workers.Go(w.run)
	s.workers.Go(w.acknowledge)
	if opts.unnamed {
		return s, nil
	}
	if err := s.announceIdentity(ctx); err != nil {
		s.drain()
		return nil, fmt.Errorf("open event log %s: %w", opts.dir, err)
	}
	return s, nil
}

// lockError tells a directory in use from one that cannot be locked at all. A lock
// held by this very process comes without an error number.
func lockError(dir string, err error) error {
	var number syscall.Errno
	if !errors.As(err, &number) || number == syscall.EAGAIN {
		return fmt.Errorf("%w: %s (%v)", ErrLocked, dir, err)
	}
	return fmt.Errorf("lock event log directory %s: %w", dir, err)
}

func openPebble(s *store, opts storeOptions, readOnly bool) (*pebble.DB, error) {
	cache := pebble.NewCache(blockCacheBytes)
	defer cache.Unref()
	options := &pebble.Options{
		Cache:              cache,
		FS:                 manifestFS{opts.fs},
		Lock:               s.lock,
		ReadOnly:           readOnly,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       cmp.Or(opts.memTable, memTableBytes),
		Logger:             pebbleLog{store: s},
		EventListener: &pebble.EventListener{
			// A block that cannot be read fails its reads; all others go on.
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.logger.Error("the event log is damaged: stop, then rapport node verify", "file", info.Path, "err", info.Details)
			},
			// The engine panics next.
			WALCreated: func(info pebble.WALCreateInfo) {
				if info.Err != nil {
					s.fail(fmt.Errorf("write: %w", info.Err))
				}
			},
		},
	}
	options.EnsureDefaults()
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBitsPerKey)
	}
	return pebble.Open(opts.dir, options)
}

// engineError says what of a log could not be opened. Damage is errCorrupt: a file that is missing, too, because the list of
// files names it, or was cut short and goes back to when it was there.
func engineError(dir string, err error) error {
	switch {
	case errors.Is(err, errCorrupt):
		return fmt.Errorf("open event log %s: %w; restore a backup", dir, err)
	case !pebble.IsCorruptionError(err) && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open event log %s: %w", dir, err)
	}
	where := ""
	var detailed interface{ ErrorDetail() string }
	if errors.As(err, &detailed) {
		where = " (" + detailed.ErrorDetail() + ")"
	}
	return fmt.Errorf("open event log %s: %w: %w%s; restore a backup", dir, errCorrupt, err, where)
}

// openWitness refuses a log that does not have what was acknowledged.
func (s *store) openWitness(last mark) error {
	promised, err := acknowledged(s.fs, s.dir)
	if err != nil {
		return err
	}
	if err := s.keeps(promised, last.position, s.fs.PathJoin(s.dir, witnessFile)); err != nil {
		return err
	}
	s.witness, err = openWitness(s.fs, s.dir, last)
	return err
}

// room returns an error when the disk is too full to write to. A file system that does
// not say how full it is has room.
func (s *store) room() error {
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err == nil && usage.AvailBytes < spareBytes {
		return fmt.Errorf("%w: %d MiB are free, %d MiB are needed; reads go on", errDiskFull, usage.AvailBytes>>20, spareBytes>>20)
	}
	return nil
}

// loadIdentity reads the log's id and checks its format, or sets both in a new log.
func (s *store) loadIdentity() error {
	format, err := s.info(infoFormat)
	if errors.Is(err, pebble.ErrNotFound) {
		return s.createIdentity()
	}
	if err != nil {
		return err
	}
	switch format {
	case storeFormat:
	case storeFormatPlain:
		if err := s.db.Set(infoKey(infoFormat), []byte(storeFormat), pebble.Sync); err != nil {
			return err
		}
	default:
		return unknownFormat(format)
	}
	id, err := s.info(infoLogID)
	if err != nil {
		return fmt.Errorf("read log id: %w", err)
	}
	s.logID, err = uuid.Parse(id)
	return err
}

func unknownFormat(format string) error {
	return fmt.Errorf("the log has format %q, this program reads format %q", format, storeFormat)
}

func (s *store) createIdentity() error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	s.logID = id
	batch := s.db.NewBatch()
	if err := batch.Set(infoKey(infoFormat), []byte(storeFormat), nil); err != nil {
		return err
	}
	if err := batch.Set(infoKey(infoLogID), []byte(id.String()), nil); err != nil {
		return err
	}
	return batch.Commit(pebble.Sync)
}

func (s *store) info(name string) (string, error) {
	value, closer, err := s.db.Get(infoKey(name))
	if err != nil {
		return "", err
	}
	text := string(value)
	return text, closer.Close()
}

// announceIdentity makes the log's id readable to clients: one event, written at the
// first open, or at a later one if that was cut short.
func (s *store) announceIdentity(ctx context.Context) error {
	data := []byte(`{"id":"` + s.logID.String() + `"}`)
	_, err := s.append(ctx, logStream, expectNoStream,
		[]proposed{newProposed(logStream, s.logID, logEventType, true, data, nil)})
	var wrong *wrongVersionError
	var deleted *streamDeletedError
	if errors.As(err, &wrong) || errors.As(err, &deleted) {
		return nil // someone has written more to the stream; the id is there
	}
	return err
}

// fail stops the log: what is in memory may not be on disk, so nothing may be
// acknowledged or read from it any more.
func (s *store) fail(err error) {
	if s.failed.CompareAndSwap(false, true) {
		s.stopReaders()
		s.fatal(fmt.Errorf("event log: %w", err))
	}
}

// stopReaders ends subscriptions and reads; it comes before close.
func (s *store) stopReaders() { s.stopOnce.Do(func() { close(s.stop) }) }

// close ends the writer after the requests it has, and closes the store. Idempotency
// is the Node's business.
func (s *store) close() error {
	s.drain()
	return s.release()
}

// drain refuses new requests and waits for those the writer has.
func (s *store) drain() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.requests)
	s.workers.Wait()
}

func (s *store) release() error {
	var closers []io.Closer
	if s.witness != nil {
		closers = append(closers, s.witness)
	}
	if s.db != nil {
		closers = append(closers, s.db)
	}
	var err error
	for _, c := range append(closers, s.lock) {
		err = errors.Join(err, c.Close())
	}
	return err
}

// lastEvent returns the position of the last event in the store, 0 if there is none.
func (s *store) lastEvent() (uint64, error) {
	key, err := s.lastKey(keyEvent)
	if err != nil || key == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

// lastStreamID returns the highest stream id given so far, 0 if there is none.
func (s *store) lastStreamID() (uint64, error) {
	key, err := s.lastKey(keyIndex)
	if err != nil || key == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

func (s *store) lastKey(kind byte) (_ []byte, err error) {
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	if !iter.Last() {
		return nil, iter.Error()
	}
	return append([]byte(nil), iter.Key()...), nil
}

// pebbleLog passes on what the storage engine has to say.
type pebbleLog struct{ store *store }

func (l pebbleLog) Infof(format string, args ...any) {
	l.store.logger.Debug("storage engine", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.store.logger.Error("storage engine", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Fatalf(format string, args ...any) {
	l.store.fail(fmt.Errorf(format, args...))
}
