package esnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/protobuf/proto"
)

const allStream = "$all"

// streamsService is the Streams service over a store.
type streamsService struct {
	streams.UnimplementedStreamsServer
	store     *store
	manners   *manners
	receivers sync.WaitGroup // of calls of BatchAppend; they end soon after their calls
	openBytes atomic.Int64   // what the batches hold whose last message has not come yet
}

// Append implements the Streams service.
func (s *streamsService) Append(stream streams.Streams_AppendServer) error {
	if err := s.manners.enter(stream.Context()); err != nil {
		return drained(stream, err)
	}
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	options := first.GetOptions()
	if options == nil {
		return drained(stream, invalid("an append begins with its options"))
	}
	name, err := writableName(options.GetStreamIdentifier())
	if err != nil {
		return drained(stream, err)
	}
	expected, err := expectedVersion(options)
	if err != nil {
		return drained(stream, err)
	}
	if err := s.manners.admitAppend(stream.Context(), name); err != nil {
		if errors.Is(err, blankAnswer{}) {
			return stream.SendAndClose(&streams.AppendResp{})
		}
		return drained(stream, err)
	}
	events, err := receiveEvents(stream, name)
	if err != nil {
		return drained(stream, err)
	}
	done, err := s.store.append(stream.Context(), name, expected, events)
	err = s.manners.told(err)
	var wrong *wrongVersionError
	if errors.As(err, &wrong) {
		return stream.SendAndClose(wrongVersionResp(options, wrong))
	}
	if err != nil {
		return err
	}
	return stream.SendAndClose(appendedResp(done))
}

// drained reads the rest of a refused append, so that a client that is still sending
// meets the refusal and not a broken stream.
func drained(stream streams.Streams_AppendServer, refusal error) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return refusal
		}
	}
}

func receiveEvents(stream streams.Streams_AppendServer, name string) ([]proposed, error) {
	var g gathered
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return g.events, nil
		}
		if err != nil {
			return nil, err
		}
		message := req.GetProposedMessage()
		if message == nil {
			return nil, invalid("an append consists of its options and events")
		}
		if err := g.add(name, message); err != nil {
			return nil, err
		}
	}
}

// gathered are the events of an append as far as they have come.
type gathered struct {
	events []proposed
	size   int // their data and custom metadata, bytes
}

// proposedMessage is an event as the client sends it, alone or in a batch.
type proposedMessage interface {
	GetId() *shared.UUID
	GetMetadata() map[string]string
	GetCustomMetadata() []byte
	GetData() []byte
}

// add takes one more event, within the limits of one append.
func (g *gathered) add(stream string, m proposedMessage) error {
	size := len(m.GetData()) + len(m.GetCustomMetadata())
	g.size += size
	switch {
	case size > MaxEventBytes:
		return appendTooLarge(MaxEventBytes)
	case g.size > MaxAppendBytes:
		return appendTooLarge(MaxAppendBytes)
	case len(g.events) == MaxAppendEvents:
		return tooLarge(MaxAppendBytes, fmt.Sprintf("an append holds at most %d events", MaxAppendEvents))
	}
	event, err := proposedFromProto(stream, m)
	if err != nil {
		return err
	}
	g.events = append(g.events, event)
	return nil
}

func proposedFromProto(stream string, m proposedMessage) (proposed, error) {
	id, err := uuidFromProto(m.GetId())
	if err != nil {
		return proposed{}, err
	}
	eventType, ok := m.GetMetadata()[metadataType]
	if !ok || eventType == "" {
		return proposed{}, missingMetadata(metadataType)
	}
	if len(eventType) > MaxEventTypeBytes {
		return proposed{}, invalid("the event type is longer than %d bytes", MaxEventTypeBytes)
	}
	contentType, ok := m.GetMetadata()[metadataContentType]
	if !ok {
		return proposed{}, missingMetadata(metadataContentType)
	}
	return newProposed(stream, id, eventType, contentType == contentTypeJSON, m.GetData(), m.GetCustomMetadata()), nil
}

// Delete implements the Streams service: a soft delete.
func (s *streamsService) Delete(ctx context.Context, req *streams.DeleteReq) (*streams.DeleteResp, error) {
	if err := s.manners.enter(ctx); err != nil {
		return nil, err
	}
	name, err := writableName(req.GetOptions().GetStreamIdentifier())
	if err != nil {
		return nil, err
	}
	expected, err := expectedVersion(req.GetOptions())
	if err != nil {
		return nil, err
	}
	if err := s.manners.admit(ctx, toWrite, name); err != nil {
		return nil, err
	}
	done, err := s.store.delete(ctx, name, expected)
	if err != nil {
		return nil, err
	}
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{
		Position: &streams.DeleteResp_Position{CommitPosition: done.position, PreparePosition: done.position},
	}}, nil
}

// Tombstone implements the Streams service: a delete for ever.
func (s *streamsService) Tombstone(ctx context.Context, req *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	if err := s.manners.enter(ctx); err != nil {
		return nil, err
	}
	name, err := writableName(req.GetOptions().GetStreamIdentifier())
	if err != nil {
		return nil, err
	}
	expected, err := expectedVersion(req.GetOptions())
	if err != nil {
		return nil, err
	}
	if err := s.manners.admit(ctx, toWrite, name); err != nil {
		return nil, err
	}
	done, err := s.store.tombstone(ctx, name, expected)
	if err != nil {
		return nil, err
	}
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{
		Position: &streams.TombstoneResp_Position{CommitPosition: done.position, PreparePosition: done.position},
	}}, nil
}

// writableName checks the name of a stream to be written.
func writableName(id *shared.StreamIdentifier) (string, error) {
	name, err := streamName(id)
	if err == nil && name == allStream {
		err = accessDenied(name)
	}
	return name, err
}

func streamName(id *shared.StreamIdentifier) (string, error) {
	name := string(id.GetStreamName())
	switch {
	case name == "" || name == metastreamPrefix:
		return "", invalid("the stream name %q is not valid", name)
	case len(name) > MaxStreamNameBytes:
		return "", invalid("the stream name is longer than %d bytes", MaxStreamNameBytes)
	case !utf8.ValidString(name):
		return "", invalid("the stream name is not valid UTF-8")
	}
	return name, nil
}

// versioned is what the options of append, delete and tombstone have in common. Each
// has its own type for every alternative, all with the same getters.
type versioned interface {
	proto.Message
	GetRevision() uint64
	GetNoStream() *shared.Empty
	GetAny() *shared.Empty
	GetStreamExists() *shared.Empty
}

func expectedVersion(options versioned) (int64, error) {
	message := options.ProtoReflect()
	alternatives := message.Descriptor().Oneofs().ByName("expected_stream_revision")
	switch {
	case message.WhichOneof(alternatives) == nil:
		return 0, invalid("the expected revision is missing") // its zero value would be revision 0
	case options.GetNoStream() != nil:
		return expectNoStream, nil
	case options.GetAny() != nil:
		return expectAny, nil
	case options.GetStreamExists() != nil:
		return expectStreamExists, nil
	}
	return exactVersion(options.GetRevision())
}

func exactVersion(revision uint64) (int64, error) {
	if revision > math.MaxInt64 {
		return 0, invalid("the expected revision %d is out of range", revision)
	}
	return int64(revision), nil
}

func appendedResp(done outcome) *streams.AppendResp {
	success := &streams.AppendResp_Success{}
	if done.revision < 0 {
		success.CurrentRevisionOption = &streams.AppendResp_Success_NoStream{NoStream: &shared.Empty{}}
	} else {
		success.CurrentRevisionOption = &streams.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(done.revision)}
	}
	if done.position == 0 {
		success.PositionOption = &streams.AppendResp_Success_NoPosition{NoPosition: &shared.Empty{}}
	} else {
		success.PositionOption = &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{
			CommitPosition: done.position, PreparePosition: done.position,
		}}
	}
	return &streams.AppendResp{Result: &streams.AppendResp_Success_{Success: success}}
}

// wrongVersionResp is a conflict, which is an answer and not an error to an append. It
// fills the fields of clients before and since 20.6.1.
func wrongVersionResp(options *streams.AppendReq_Options, wrong *wrongVersionError) *streams.AppendResp {
	resp := &streams.AppendResp_WrongExpectedVersion{}
	if wrong.actual < 0 {
		resp.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &shared.Empty{}}
		resp.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: &shared.Empty{}}
	} else {
		actual := uint64(wrong.actual)
		resp.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: actual}
		resp.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: actual}
	}
	switch wrong.expected {
	case expectNoStream:
		resp.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &shared.Empty{}}
		resp.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: math.MaxUint64}
	case expectAny:
		resp.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: &shared.Empty{}}
		resp.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: &shared.Empty{}}
	case expectStreamExists:
		resp.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &shared.Empty{}}
		resp.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: &shared.Empty{}}
	default:
		expected := options.GetRevision()
		resp.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: expected}
		resp.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: expected}
	}
	return &streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: resp}}
}
