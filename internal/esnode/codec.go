package esnode

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that wireCodec falls back to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// encoded is a message that is already what goes over the wire. It must not be
// changed after it is sent: the transport keeps it.
type encoded []byte

// wireCodec is the protobuf codec, except that it passes encoded messages through.
type wireCodec struct{ encoding.CodecV2 }

func newWireCodec() wireCodec { return wireCodec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// arena hands out copies of short byte strings, many to one allocation.
type arena struct{ free []byte }

const arenaBytes = 64 << 10

func (a *arena) clone(b []byte) []byte {
	if len(b) > arenaBytes/4 {
		return append([]byte(nil), b...)
	}
	if len(b) > cap(a.free)-len(a.free) {
		a.free = make([]byte, 0, arenaBytes)
	}
	at := len(a.free)
	a.free = append(a.free, b...)
	return a.free[at:len(a.free):len(a.free)]
}

// Field numbers of ReadResp, and of its Checkpoint, CaughtUp and FellBehind as servers
// since 25.0 send them. Clients that know the older, empty notices skip what is new.
const (
	fieldRespCheckpoint      = 3
	fieldRespCaughtUp        = 8
	fieldRespFellBehind      = 9
	fieldCheckpointTimestamp = 3
	fieldNoticeTimestamp     = 1
	fieldNoticeRevision      = 2
	fieldNoticePosition      = 3
	fieldPositionCommit      = 1
	fieldPositionPrepare     = 2
	fieldTimestampSeconds    = 1
	fieldTimestampNanos      = 2
)

// encodeCheckpoint is the message that a filtered subscription has considered all
// events up to the position.
func encodeCheckpoint(position uint64, now time.Time) encoded {
	b := appendBytes(appendPosition(nil, position), fieldCheckpointTimestamp, encodeTimestamp(now))
	return appendBytes(nil, fieldRespCheckpoint, b)
}

// encodeNotice is the message that a subscription has caught up or fallen behind.
func encodeNotice(field protowire.Number, now time.Time, place []byte) encoded {
	b := appendBytes(nil, fieldNoticeTimestamp, encodeTimestamp(now))
	return appendBytes(nil, field, append(b, place...))
}

// positionPlace and revisionPlace are from where a subscription can be resumed.
func positionPlace(position uint64) []byte {
	return appendBytes(nil, fieldNoticePosition, appendPosition(nil, position))
}

func revisionPlace(revision int64) []byte {
	return appendVarint(nil, fieldNoticeRevision, uint64(revision))
}

func appendPosition(dst []byte, position uint64) []byte {
	return appendVarint(appendVarint(dst, fieldPositionCommit, position), fieldPositionPrepare, position)
}

func encodeTimestamp(t time.Time) []byte {
	return appendVarint(appendVarint(nil, fieldTimestampSeconds, uint64(t.Unix())), fieldTimestampNanos, uint64(t.Nanosecond()))
}

// eventData returns the data of an encoded ReadResp that holds an event.
func eventData(body []byte) ([]byte, error) {
	for _, field := range []protowire.Number{fieldRespEvent, fieldReadEvent, fieldEventData} {
		var err error
		if body, err = bytesField(body, field); err != nil {
			return nil, err
		}
	}
	return append([]byte(nil), body...), nil
}

// bytesField returns the first field of the given number in an encoded message; empty
// if there is none.
func bytesField(message []byte, want protowire.Number) ([]byte, error) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, errCorrupt
		}
		message = message[n:]
		if number == want && kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return nil, errCorrupt
			}
			return value, nil
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return nil, errCorrupt
		}
		message = message[n:]
	}
	return nil, nil
}

func decodeEvent(body []byte) (*streams.ReadResp_ReadEvent, error) {
	var resp streams.ReadResp
	if err := proto.Unmarshal(body, &resp); err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if resp.GetEvent() == nil {
		return nil, errCorrupt
	}
	return resp.GetEvent(), nil
}

func uuidFromProto(id *shared.UUID) (uuid.UUID, error) {
	switch v := id.GetValue().(type) {
	case *shared.UUID_Structured_:
		var u uuid.UUID
		binary.BigEndian.PutUint64(u[:8], uint64(v.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(u[8:], uint64(v.Structured.GetLeastSignificantBits()))
		return u, nil
	case *shared.UUID_String_:
		u, err := uuid.Parse(v.String_)
		if err != nil {
			return u, invalid("id: %v", err)
		}
		return u, nil
	}
	return uuid.UUID{}, invalid("an id is missing")
}

func stringUUID(id *shared.UUID) (*shared.UUID, error) {
	u, err := uuidFromProto(id)
	if err != nil {
		return nil, err
	}
	return &shared.UUID{Value: &shared.UUID_String_{String_: u.String()}}, nil
}
