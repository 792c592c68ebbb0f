package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
)

// script is a node that does what a test says: faults that a sound node does not show.
type script struct {
	streams.UnimplementedStreamsServer
	serverfeatures.UnimplementedServerFeaturesServer

	append    func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error)
	batch     func(*streams.BatchAppendReq) ([]*streams.BatchAppendResp, error)                 // answers of this request unless they say of which; nil means that the node does not know it
	read      func(*streams.ReadReq_Options, streams.Streams_ReadServer) error                  // of one stream but the identity's, or of $all; nil means that $all holds what happened at every position
	subscribe func(attempt int, o *streams.ReadReq_Options, s streams.Streams_ReadServer) error // after its confirmation
	logID     func() string                                                                     // identity; nil means always the same, "" that there is none
	features  func() (*serverfeatures.SupportedMethods, error)                                  // nil means that the node does not know the call
	mute      int                                                                               // so many subscriptions are not even confirmed

	mu       sync.Mutex
	attempts int
	batches  int // calls of BatchAppend
}

const scriptedLog = "5f0c7a52-0f4e-4c51-8d43-4ad9c5b9f8f1"

// start serves the script and returns its connection string.
func (s *script) start(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	streams.RegisterStreamsServer(server, s)
	serverfeatures.RegisterServerFeaturesServer(server, s)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return "esdb://" + listener.Addr().String() + "?tls=false"
}

func (s *script) Append(stream streams.Streams_AppendServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	var events []*streams.AppendReq_ProposedMessage
	for {
		m, err := stream.Recv()
		if err != nil {
			break
		}
		events = append(events, m.GetProposedMessage())
	}
	response, err := s.append(first.GetOptions(), events)
	if err != nil {
		return err
	}
	return stream.SendAndClose(response)
}

func (s *script) BatchAppend(stream streams.Streams_BatchAppendServer) error {
	s.mu.Lock()
	s.batches++
	s.mu.Unlock()
	if s.batch == nil {
		return status.Error(codes.Unimplemented, "not known")
	}
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		s.mu.Lock()
		answers, err := s.batch(request)
		s.mu.Unlock()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, answer := range answers {
			if answer.CorrelationId == nil {
				answer.CorrelationId = request.GetCorrelationId()
			}
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
	}
}

func (s *script) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	if s.features == nil {
		return nil, status.Error(codes.Unimplemented, "not known")
	}
	return s.features()
}

// calls returns how often BatchAppend was called.
func (s *script) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

func (s *script) Read(request *streams.ReadReq, stream streams.Streams_ReadServer) error {
	o := request.GetOptions()
	switch {
	case o.GetSubscription() != nil:
		s.mu.Lock()
		s.attempts++
		attempt := s.attempts
		s.mu.Unlock()
		if attempt <= s.mute {
			return hang(stream)
		}
		if err := stream.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: "s"}}}); err != nil {
			return err
		}
		return s.subscribe(attempt, o, stream)
	case string(o.GetStream().GetStreamIdentifier().GetStreamName()) == formerIdentityStream:
		return stream.Send(notFound(formerIdentityStream))
	case string(o.GetStream().GetStreamIdentifier().GetStreamName()) == scripted.identity:
		id := scriptedLog
		if s.logID != nil {
			id = s.logID()
		}
		if id == "" {
			return stream.Send(notFound(scripted.identity))
		}
		return stream.Send(event(scripted.identity, identityType, 0, 1, fmt.Appendf(nil, `{"id":%q}`, id)))
	}
	if p := o.GetAll().GetPosition(); s.read == nil && p != nil {
		return stream.Send(happened(p.GetCommitPosition()))
	}
	if s.read == nil {
		return status.Error(codes.Unimplemented, "the script has no reads")
	}
	return s.read(o, stream)
}

// scripted is the part of the scripted node's store that is ours.
var scripted = spaceOf(DefaultNamespace)

func notFound(stream string) *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{StreamNotFound: &streams.ReadResp_StreamNotFound{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
	}}}
}

// event makes the message of one event at a position, always the same.
func event(stream, eventType string, revision, position uint64, data []byte) *streams.ReadResp {
	id := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s@%d at %d", stream, revision, position))
	return &streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{
		Event: &streams.ReadResp_ReadEvent_RecordedEvent{
			Id:               &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}},
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
			StreamRevision:   revision,
			CommitPosition:   position,
			PreparePosition:  position,
			Metadata:         map[string]string{"type": eventType, "created": "17900000000000000", "content-type": "application/json"},
			Data:             data,
		},
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: position},
	}}}
}

// happened is an event of ours at a position.
func happened(position uint64) *streams.ReadResp {
	return event("rapport.main.test-1", "test.happened", position, position, []byte(`{}`))
}

func checkpoint(position uint64) *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{Checkpoint: &streams.ReadResp_Checkpoint{CommitPosition: position, PreparePosition: position}}}
}

func caughtUp() *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: &streams.ReadResp_CaughtUp{}}}
}

// send sends messages one after the other.
func send(stream streams.Streams_ReadServer, messages ...*streams.ReadResp) error {
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// hang holds a request until the client gives it up.
func hang(stream grpc.ServerStream) error {
	<-stream.Context().Done()
	return stream.Context().Err()
}

// impatient is a timing under which faults are noticed at once, and under which whatever is slow is taken for a fault: for
// tests that mind neither how often something was tried nor that a sound answer came too late.
var impatient = timing{
	append: 200 * time.Millisecond, read: 200 * time.Millisecond, patience: 0, watchdog: 20 * time.Millisecond,
	firstBackoff: time.Millisecond, lastBackoff: 20 * time.Millisecond,
}

// patient is a timing under which nothing that comes is too late, and what broke is tried again at once.
var patient = timing{
	append: time.Minute, read: time.Minute, patience: time.Minute, watchdog: time.Minute, firstBackoff: time.Millisecond, lastBackoff: 20 * time.Millisecond,
}

// watching is patient, but looks at once whether a silent subscription has missed something.
var watching = timing{
	append: patient.append, read: patient.read, patience: patient.patience, watchdog: impatient.watchdog, firstBackoff: patient.firstBackoff, lastBackoff: patient.lastBackoff,
}

func after(position uint64) domain.Mark { return domain.Mark{Position: at(position)} }

func at(position uint64) domain.Position { return domain.Position{Commit: position, Prepare: position} }
