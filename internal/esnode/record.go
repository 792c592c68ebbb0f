package esnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
)

// The store's keys. Numbers are big-endian, so that keys sort as they do.
//
//	a|position            an event: checksum, header and the encoded ReadResp
//	i|name                facts about the log itself: format, id
//	m|stream name         the state of a stream
//	s|stream id|revision  the position of an event of a stream
const (
	keyEvent  = 'a'
	keyInfo   = 'i'
	keyStream = 'm'
	keyIndex  = 's'
)

func eventKey(dst []byte, position uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, keyEvent), position)
}

func streamKey(dst []byte, name string) []byte {
	return append(append(dst, keyStream), name...)
}

func indexKey(dst []byte, streamID uint64, revision int64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, keyIndex), streamID)
	return binary.BigEndian.AppendUint64(dst, uint64(revision))
}

func infoKey(name string) []byte { return append([]byte{keyInfo}, name...) }

const (
	// noRevision is the last revision of a stream without events.
	noRevision int64 = -1
	// deletedRevision is the revision of a tombstone, and as $tb the mark of a soft delete.
	deletedRevision int64 = math.MaxInt64

	recordFormat       = 2
	recordFormatPlain  = 1 // without a checksum: logs written before format 2 have such records
	recordFormatOffset = 3 // as format 2; the position is an offset, see successor
	checksumSize       = 4
	recordHeaderSize   = 16 + 8 + 8 + 8 // behind the format and, since format 2, the checksum
	stateFormat        = 1
	stateSize          = 2 + 6*8
	flagTombstone      = 1

	// firstOrdinal and firstOffset are the positions of the first event of a log, as
	// positions are ordinals or offsets. Offsets leave room for what an engine writes
	// before the first event.
	firstOrdinal uint64 = 1
	firstOffset  uint64 = 548
)

// successor is the position of the event behind the one with the given position and
// stored value. A log may hold records of all formats, so every record says how far
// the next one is: one further, or, where positions are offsets, as far as it is long.
// Whoever walks the log sees by it that no event is missing.
func successor(position uint64, value []byte) uint64 {
	if len(value) > 0 && value[0] == recordFormatOffset {
		return position + uint64(len(value))
	}
	return position + 1
}

// beginsLog says whether a log may begin with an event at the position.
func beginsLog(position uint64) bool { return position == firstOrdinal || position == firstOffset }

// errCorrupt is all damage that is found in the log.
var errCorrupt = errors.New("the event log is damaged")

func damagedEvent(position uint64, problem string) error {
	return fmt.Errorf("%w: event at position %d: %s", errCorrupt, position, problem)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum begins with the position, so that an event is not taken for another one.
func checksum(position uint64, rest []byte) uint32 {
	return crc32.Update(uint32(position)^uint32(position>>32), castagnoli, rest)
}

// record is a stored event. Its slices alias the store's memory.
type record struct {
	position  uint64
	next      uint64 // position of the event behind it, whether or not there is one yet
	id        uuid.UUID
	created   int64 // ticks, see ticksOf
	revision  int64
	streamID  uint64
	stream    []byte
	eventType []byte
	body      []byte // an encoded streams.ReadResp
}

// decodeRecord reads a stored event. The error is errCorrupt and names the position.
func decodeRecord(position uint64, value []byte) (record, error) {
	rest, err := checkRecord(position, value)
	if err != nil {
		return record{}, err
	}
	rec := record{position: position, next: successor(position, value)}
	copy(rec.id[:], rest)
	rec.created = int64(binary.BigEndian.Uint64(rest[16:]))
	rec.revision = int64(binary.BigEndian.Uint64(rest[24:]))
	rec.streamID = binary.BigEndian.Uint64(rest[32:])
	rest = rest[recordHeaderSize:]
	var streamOK, typeOK bool
	rec.stream, rest, streamOK = cutField(rest)
	rec.eventType, rest, typeOK = cutField(rest)
	if !streamOK || !typeOK {
		return record{}, damagedEvent(position, "it ends too early")
	}
	rec.body = rest
	return rec, nil
}

// cutField takes one field off, which has its size before it.
func cutField(b []byte) (field, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return b[n:end:end], b[end:], true
}

// checkRecord returns what follows the format and the checksum: at least a header.
func checkRecord(position uint64, value []byte) ([]byte, error) {
	switch {
	case len(value) >= 1+checksumSize+recordHeaderSize && (value[0] == recordFormat || value[0] == recordFormatOffset):
		rest := value[1+checksumSize:]
		if binary.BigEndian.Uint32(value[1:]) != checksum(position, rest) {
			return nil, damagedEvent(position, "its checksum is wrong")
		}
		return rest, nil
	case len(value) >= 1+recordHeaderSize && value[0] == recordFormatPlain:
		return value[1:], nil
	}
	return nil, damagedEvent(position, "it is not of a format that this program knows")
}

// proposed is an event to be written, with what is known before its turn comes
// already encoded.
type proposed struct {
	id        uuid.UUID
	eventType string
	data      []byte
	encoded   []byte // RecordedEvent without revision, positions and creation time
}

// Field numbers of shared.UUID, ReadResp and RecordedEvent.
const (
	fieldRespEvent         = 1
	fieldReadEvent         = 1
	fieldReadCommit        = 3
	fieldEventID           = 1
	fieldEventStream       = 2
	fieldEventRevision     = 3
	fieldEventPrepare      = 4
	fieldEventCommit       = 5
	fieldEventMetadata     = 6
	fieldEventCustom       = 7
	fieldEventData         = 8
	fieldStreamName        = 3
	fieldUUIDStructured    = 1
	fieldUUIDMost          = 1
	fieldUUIDLeast         = 2
	fieldMapKey            = 1
	fieldMapValue          = 2
	contentTypeJSON        = "application/json"
	contentTypeBinary      = "application/octet-stream"
	metadataType           = "type"
	metadataContentType    = "content-type"
	metadataCreated        = "created"
	eventTypeMetadata      = "$metadata"
	eventTypeTombstone     = "$streamDeleted"
	eventTypeLink          = "$>"
	metastreamPrefix       = "$$"
	estimatedEventOverhead = 160
)

func newProposed(stream string, id uuid.UUID, eventType string, isJSON bool, data, custom []byte) proposed {
	contentType := contentTypeBinary
	if isJSON {
		contentType = contentTypeJSON
	}
	var structured []byte
	structured = appendVarint(structured, fieldUUIDMost, binary.BigEndian.Uint64(id[:8]))
	structured = appendVarint(structured, fieldUUIDLeast, binary.BigEndian.Uint64(id[8:]))

	b := make([]byte, 0, len(stream)+len(eventType)+len(data)+len(custom)+estimatedEventOverhead)
	b = appendBytes(b, fieldEventID, appendBytes(nil, fieldUUIDStructured, structured))
	b = appendBytes(b, fieldEventStream, appendBytes(nil, fieldStreamName, []byte(stream)))
	b = appendMetadata(b, metadataType, eventType)
	b = appendMetadata(b, metadataContentType, contentType)
	b = appendBytes(b, fieldEventCustom, custom)
	b = appendBytes(b, fieldEventData, data)
	return proposed{id: id, eventType: eventType, data: data, encoded: b}
}

// appendRecord encodes the stored value of an event that has got its place in the log,
// in recordFormat or recordFormatOffset.
func appendRecord(dst []byte, format byte, stream string, streamID uint64, e *proposed, revision int64, position uint64, created int64) []byte {
	start := len(dst)
	dst = append(dst, format, 0, 0, 0, 0) // the checksum comes last
	dst = append(dst, e.id[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(created))
	dst = binary.BigEndian.AppendUint64(dst, uint64(revision))
	dst = binary.BigEndian.AppendUint64(dst, streamID)
	dst = binary.AppendUvarint(dst, uint64(len(stream)))
	dst = append(dst, stream...)
	dst = binary.AppendUvarint(dst, uint64(len(e.eventType)))
	dst = append(dst, e.eventType...)

	var late [96]byte // revision, positions and creation time take at most 75 bytes
	tail := appendVarint(late[:0], fieldEventRevision, uint64(revision))
	tail = appendVarint(tail, fieldEventPrepare, position)
	tail = appendVarint(tail, fieldEventCommit, position)
	var digits [20]byte
	tail = appendMetadata(tail, metadataCreated, string(strconv.AppendInt(digits[:0], created, 10)))

	recorded := len(e.encoded) + len(tail)
	read := protowire.SizeTag(fieldReadEvent) + protowire.SizeBytes(recorded) +
		protowire.SizeTag(fieldReadCommit) + protowire.SizeVarint(position)
	dst = protowire.AppendTag(dst, fieldRespEvent, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(read))
	dst = protowire.AppendTag(dst, fieldReadEvent, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(recorded))
	dst = append(dst, e.encoded...)
	dst = append(dst, tail...)
	dst = appendVarint(dst, fieldReadCommit, position)
	binary.BigEndian.PutUint32(dst[start+1:], checksum(position, dst[start+1+checksumSize:]))
	return dst
}

func appendVarint(dst []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendBytes(dst []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), v)
}

func appendMetadata(dst []byte, key, value string) []byte {
	size := protowire.SizeTag(fieldMapKey) + protowire.SizeBytes(len(key)) +
		protowire.SizeTag(fieldMapValue) + protowire.SizeBytes(len(value))
	dst = protowire.AppendTag(dst, fieldEventMetadata, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	dst = protowire.AppendString(protowire.AppendTag(dst, fieldMapKey, protowire.BytesType), key)
	return protowire.AppendString(protowire.AppendTag(dst, fieldMapValue, protowire.BytesType), value)
}

// ticksOf is the protocol's notion of time: units of 100 ns since the Unix epoch.
func ticksOf(t time.Time) int64 { return t.UnixNano() / 100 }
