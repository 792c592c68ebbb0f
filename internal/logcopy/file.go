package logcopy

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// A file of a history is a line that names its version, and then frames:
//
//	kind      one byte: h, e or t
//	length    of the content, 4 bytes, big endian
//	content
//	sum       SHA-256 over the sum of the frame before, kind, length and content; before the first frame, that of the line
//
// The first frame is the header, in JSON. Frames of events follow: zstd over one event after the other, each as fields behind
// their lengths. The last frame is the trailer, in JSON, with the totals; nothing follows it. So a byte that was changed,
// frames that are missing, doubled or in another order, and an end that comes too early are all found: by the sum of the frame
// where it happened or of the next one, or because the trailer is missing.
const (
	fileMark    = "rapport log "
	fileVersion = "1\n"

	frameHeader  = 'h'
	frameEvents  = 'e'
	frameTrailer = 't'
	frameHead    = 1 + 4 // bytes of kind and length
)

// Bounds of a file.
const (
	// batchBytes is how many bytes of events, or a few more, are in one frame before they are compressed.
	batchBytes = 1 << 20
	// maxEventBytes bounds one event in a file; a log takes less in one append.
	maxEventBytes = 4 * eventlog.MaxAppendBytes
	// maxFrameBytes bounds the content of a frame. What says that it is longer is damaged.
	maxFrameBytes = batchBytes + 2*maxEventBytes
	// bufferBytes is how much of a file is read or written at once.
	bufferBytes = 64 << 10
)

var (
	// ErrDamagedFile says that a file is cut short or was changed.
	ErrDamagedFile = fmt.Errorf("the file is damaged: %w", domain.ErrCorrupt)
	// ErrOtherVersion says that a file was written by another version of the program, which knows another form of it.
	ErrOtherVersion = errors.New("the file is of another version")
	// ErrNoHistory says that a file was not written by Export.
	ErrNoHistory = errors.New("the file does not hold the history of a log")

	errCutEvent = fmt.Errorf("%w: an event ends too early", ErrDamagedFile)
)

// header is the content of the first frame.
type header struct {
	Origin eventlog.Identity `json:"origin"`
	Events uint64            `json:"events"`
}

// FileSource is the history in a file that Export wrote.
type FileSource struct {
	file    *os.File
	header  header
	trailer *Totals // nil until the file was read to its end
}

// OpenFile opens a file and reads its header. It returns ErrNoHistory, ErrOtherVersion or ErrDamagedFile for what is none or
// cannot be read. The rest of the file is checked while it is read; Read reads it whole. The caller calls Close.
func OpenFile(path string) (*FileSource, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &FileSource{file: file}
	if _, err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return s, nil
}

// open reads the header and returns what reads the rest.
func (s *FileSource) open() (*frameReader, error) {
	info, err := s.file.Stat()
	if err != nil {
		return nil, err
	}
	r := &frameReader{from: bufio.NewReaderSize(io.NewSectionReader(s.file, 0, info.Size()), bufferBytes)}
	line := make([]byte, len(fileMark)+len(fileVersion))
	_, err = io.ReadFull(r.from, line)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), err == nil && string(line[:len(fileMark)]) != fileMark:
		return nil, ErrNoHistory
	case err != nil:
		return nil, err
	case string(line[len(fileMark):]) != fileVersion:
		return nil, fmt.Errorf("%w: this program reads version %s", ErrOtherVersion, fileVersion[:len(fileVersion)-1])
	}
	r.sum = sha256.Sum256(line)
	kind, content, err := r.next()
	if err != nil {
		return nil, err
	}
	if kind != frameHeader {
		return nil, fmt.Errorf("%w: it does not begin with a header", ErrDamagedFile)
	}
	if err := json.Unmarshal(content, &s.header); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrDamagedFile, err)
	}
	return r, nil
}

// Close closes the file.
func (s *FileSource) Close() error { return s.file.Close() }

// Identity implements Source.
func (s *FileSource) Identity() eventlog.Identity { return s.header.Origin }

// Expected implements Source.
func (s *FileSource) Expected() uint64 { return s.header.Events }

// Agree implements Source: it compares with the trailer.
func (s *FileSource) Agree(read Totals) error {
	if s.trailer == nil || read != *s.trailer || read.Events != s.header.Events {
		return fmt.Errorf("%w: it holds %+v, and says otherwise in the end", ErrDamagedFile, read)
	}
	return nil
}

// Events implements Source. The place of an event is its number in the file, from 1 on.
func (s *FileSource) Events(ctx context.Context, after domain.Mark) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		if err := s.read(ctx, after, func(raw codec.Raw) bool { return yield(raw, nil) }); err != nil {
			yield(codec.Raw{}, fmt.Errorf("%s: %w", s.file.Name(), err))
		}
	}
}

// read calls yield for each event after a place, until yield returns false.
func (s *FileSource) read(ctx context.Context, after domain.Mark, yield func(codec.Raw) bool) error {
	r, err := s.open()
	if err != nil {
		return err
	}
	unpack, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrameBytes))
	if err != nil {
		return err
	}
	defer unpack.Close()
	var plain []byte
	for place := uint64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		kind, content, err := r.next()
		if err != nil {
			return err
		}
		switch kind {
		case frameTrailer:
			return s.end(r, content)
		case frameEvents:
		default:
			return fmt.Errorf("%w: a frame of kind %q among the events", ErrDamagedFile, kind)
		}
		if plain, err = unpack.DecodeAll(content, plain[:0]); err != nil {
			return fmt.Errorf("%w: %w", ErrDamagedFile, err)
		}
		for rest := plain; len(rest) > 0; {
			var raw codec.Raw
			if raw, rest, err = unpackEvent(rest); err != nil {
				return err
			}
			place++
			raw.Position = domain.Position{Commit: place, Prepare: place}
			if after.Position.Before(raw.Position) && !yield(raw) {
				return nil
			}
		}
	}
}

// end takes up the trailer, behind which nothing follows.
func (s *FileSource) end(r *frameReader, content []byte) error {
	var t Totals
	if err := json.Unmarshal(content, &t); err != nil {
		return fmt.Errorf("%w: trailer: %w", ErrDamagedFile, err)
	}
	if _, err := r.from.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its end", ErrDamagedFile)
	}
	s.trailer = &t
	return nil
}

// frameReader reads frames and checks their sums.
type frameReader struct {
	from    *bufio.Reader
	sum     sum
	content []byte
}

// next returns a frame; its content is overwritten by the next one.
func (r *frameReader) next() (kind byte, content []byte, err error) {
	var head [frameHead]byte
	if err := r.full(head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > maxFrameBytes {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", ErrDamagedFile, length)
	}
	if uint32(cap(r.content)) < length {
		r.content = make([]byte, length)
	}
	r.content = r.content[:length]
	var stored sum
	if err := errors.Join(r.full(r.content), r.full(stored[:])); err != nil {
		return 0, nil, err
	}
	r.sum = frameSum(r.sum, head, r.content)
	if r.sum != stored {
		return 0, nil, fmt.Errorf("%w: a checksum is another", ErrDamagedFile)
	}
	return head[0], r.content, nil
}

// full fills b.
func (r *frameReader) full(b []byte) error {
	_, err := io.ReadFull(r.from, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrDamagedFile)
	}
	return err
}

func frameSum(before sum, head [frameHead]byte, content []byte) (s sum) {
	h := sha256.New()
	h.Write(before[:])
	h.Write(head[:])
	h.Write(content)
	h.Sum(s[:0])
	return s
}

// Export writes the history of a source into a new file, which gets its name when it is complete and has been read back. It
// returns an error that wraps fs.ErrExist when the file is there already.
func Export(ctx context.Context, from Source, path string, o Options) (Result, error) {
	result := Result{Source: from.Identity()}
	if _, err := os.Lstat(path); err == nil {
		return result, fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	source, err := Read(ctx, from, o)
	if err != nil {
		return result, err
	}
	partial, err := createPartial(path)
	if err != nil {
		return result, err
	}
	err = errors.Join(write(ctx, from, partial, source.Totals(), o), partial.Sync())
	if err == nil {
		result.Carried = source.events
		result.Proof, err = readBackFile(ctx, partial.Name(), source, o)
	}
	if err != nil {
		return result, errors.Join(err, os.Remove(partial.Name()), partial.Close())
	}
	err = errors.Join(os.Rename(partial.Name(), path), syncDir(filepath.Dir(path)), partial.Close())
	result.Complete = err == nil
	return result, err
}

// partialSuffix follows the name of a file that is not complete.
const partialSuffix = ".partial"

// createPartial makes the file that a history is written to, and takes over one that a killed run has left.
func createPartial(path string) (*os.File, error) {
	file, err := os.OpenFile(path+partialSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another export writes %s: %w", file.Name(), err), file.Close())
	}
	// Between opening and locking the other one may have given the file its name: then it is not to be touched.
	opened, err := file.Stat()
	if err == nil {
		var named os.FileInfo
		if named, err = os.Lstat(file.Name()); err == nil && !os.SameFile(opened, named) {
			err = fmt.Errorf("another export wrote %s just now", path)
		}
	}
	if err == nil {
		err = file.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// readBackFile reads the file and compares it with the source.
func readBackFile(ctx context.Context, path string, source *Digest, o Options) (c Comparison, err error) {
	written, err := OpenFile(path)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, written.Close()) }()
	d, err := digestOf(written.Events(ctx, domain.Mark{}), PartConfirm, source.events, o, nil)
	if err == nil {
		err = written.Agree(d.Totals())
	}
	if err != nil {
		return c, err
	}
	if c = compared(source, d); !c.Equal() {
		err = fmt.Errorf("%w: %s", ErrDamagedFile, c)
	}
	return c, err
}

// frameWriter writes frames.
type frameWriter struct {
	to  *bufio.Writer
	sum sum
}

func (w *frameWriter) frame(kind byte, content []byte) error {
	var head [frameHead]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(content)))
	w.sum = frameSum(w.sum, head, content)
	for _, part := range [][]byte{head[:], content, w.sum[:]} {
		if _, err := w.to.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// write writes a whole file.
func write(ctx context.Context, from Source, to io.Writer, totals Totals, o Options) error {
	w := &frameWriter{to: bufio.NewWriterSize(to, bufferBytes), sum: sha256.Sum256([]byte(fileMark + fileVersion))}
	if _, err := w.to.WriteString(fileMark + fileVersion); err != nil {
		return err
	}
	head, err := json.Marshal(header{Origin: from.Identity(), Events: totals.Events})
	if err != nil {
		return err
	}
	if err := w.frame(frameHeader, head); err != nil {
		return err
	}
	if err := w.events(ctx, from, totals.Events, o); err != nil {
		return err
	}
	tail, err := json.Marshal(totals)
	if err != nil {
		return err
	}
	return errors.Join(w.frame(frameTrailer, tail), w.to.Flush())
}

func (w *frameWriter) events(ctx context.Context, from Source, total uint64, o Options) error {
	pack, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer func() { _ = pack.Close() }() // nothing is streamed through it
	var plain, packed []byte
	flush := func() error {
		packed = pack.EncodeAll(plain, packed[:0])
		plain = plain[:0]
		return w.frame(frameEvents, packed)
	}
	done := uint64(0)
	tell(o, Progress{Part: PartCarry, Total: total}, 1)
	for raw, err := range from.Events(ctx, domain.Mark{}) {
		if err == nil {
			plain, err = packEvent(plain, raw)
		}
		if err == nil && len(plain) >= batchBytes {
			err = flush()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", PartCarry, err)
		}
		done++
		tell(o, Progress{Part: PartCarry, Done: done, Total: total}, progressEvery)
	}
	tell(o, Progress{Part: PartCarry, Done: done, Total: total, Ended: true}, 1)
	if len(plain) == 0 {
		return nil
	}
	return flush()
}

// packEvent appends an event to the content of a frame.
func packEvent(b []byte, raw codec.Raw) ([]byte, error) {
	id, err := uuid.Parse(raw.ID)
	if err != nil {
		return b, fmt.Errorf("stream %s, revision %d: id %q is not a UUID: %w", raw.Stream, raw.Revision, raw.ID, domain.ErrCorrupt)
	}
	if n := len(raw.Stream) + len(raw.Type) + len(raw.Data) + len(raw.Metadata); n > maxEventBytes {
		return b, fmt.Errorf("stream %s, revision %d: %d bytes, the limit is %d", raw.Stream, raw.Revision, n, maxEventBytes)
	}
	b = append(b, id[:]...)
	b = binary.AppendUvarint(b, raw.Revision)
	for _, field := range [][]byte{[]byte(raw.Stream), []byte(raw.Type), raw.Data, raw.Metadata} {
		b = append(binary.AppendUvarint(b, uint64(len(field))), field...)
	}
	return b, nil
}

// unpackEvent reads what packEvent wrote and returns what follows it. The payloads are copies.
func unpackEvent(b []byte) (raw codec.Raw, rest []byte, err error) {
	if len(b) < len(uuid.UUID{}) {
		return raw, nil, errCutEvent
	}
	raw.ID = uuid.UUID(b[:len(uuid.UUID{})]).String()
	b = b[len(uuid.UUID{}):]
	number := func() uint64 {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			err = errCutEvent
			return 0
		}
		b = b[size:]
		return n
	}
	field := func() []byte {
		n := number()
		if err != nil || n > uint64(len(b)) {
			err = errCutEvent
			return nil
		}
		f := append([]byte(nil), b[:n]...)
		b = b[n:]
		return f
	}
	raw.Revision = number()
	raw.Stream, raw.Type, raw.Data, raw.Metadata = string(field()), string(field()), field(), field()
	return raw, b, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
