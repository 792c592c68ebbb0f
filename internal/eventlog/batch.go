package eventlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/rapport-crm/rapport/domain"
)

// The client makes a call for each append, which costs both ends several times what the append itself does. The protocol has
// BatchAppend for that: one call for all appends, each with an answer of its own. The client does not offer it, so it is spoken
// here, over the client's messages, with the node beside us: one that is named alone, without TLS and without a user. With all
// others, and with nodes that do not know it, appends are the client's; discovery, leaders and credentials are its business.

// appendQueue is how many appends wait for the connection to take them.
const appendQueue = 64

// beside reports whether a configuration names a node that BatchAppend is spoken with.
func beside(config *esdb.Configuration) bool {
	return config.DisableTLS && !config.DnsDiscover && len(config.GossipSeeds) == 0 && config.Username == ""
}

// appendCall is one call of BatchAppend, on a connection of its own: they end together, and the next append begins anew.
type appendCall struct {
	ctx      context.Context // its cause is why the call ended
	end      context.CancelCauseFunc
	outgoing chan *streams.BatchAppendReq

	mu      sync.Mutex
	last    uint64 // correlation
	waiting map[uint64]chan *streams.BatchAppendResp
}

// appending returns the current call, a new one when there is none.
func (l *ESDB) appending() (*appendCall, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if l.appends == nil || l.appends.ctx.Err() != nil {
		c := &appendCall{outgoing: make(chan *streams.BatchAppendReq, appendQueue), waiting: map[uint64]chan *streams.BatchAppendResp{}}
		c.ctx, c.end = context.WithCancelCause(context.Background())
		l.appends = c
		l.work.Go(func() { c.end(guard(func() error { return l.exchange(c) })) })
	}
	return l.appends, nil
}

// exchange connects and carries appends and answers until the call ends.
func (l *ESDB) exchange(c *appendCall) error {
	address, err := l.leaderAddress(c.ctx)
	if err != nil {
		return err
	}
	conn, err := l.dialMember(address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is on its way any more
	call, err := streams.NewStreamsClient(conn).BatchAppend(leading(c.ctx))
	if err != nil {
		return err
	}
	var receiving sync.WaitGroup
	receiving.Go(func() {
		err := guard(func() error { return c.receive(call) })
		if leader, named := leaderIn(call.Trailer()); named {
			_, failed := l.connect(leader) // the next call goes there
			err = errors.Join(err, failed)
		}
		c.end(err)
	})
	defer receiving.Wait()
	for {
		select {
		case request := <-c.outgoing:
			if call.Send(request) != nil {
				<-c.ctx.Done() // receive is told why
				return nil
			}
		case <-c.ctx.Done():
			return nil
		}
	}
}

// receive hands the answers to those who wait for them, until the call ends, and returns why it did.
func (c *appendCall) receive(call streams.Streams_BatchAppendClient) error {
	for {
		answer, err := call.Recv()
		if err != nil {
			return err
		}
		id, err := correlationOf(answer.GetCorrelationId())
		if err != nil {
			return err
		}
		c.mu.Lock()
		waiting := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		if waiting != nil {
			waiting <- answer // has room
		}
	}
}

// roundTrip sends a request and waits for its answer, up to limit: a connection that is silent for so long is of no more use.
func (c *appendCall) roundTrip(ctx context.Context, limit time.Duration, request *streams.BatchAppendReq) (*streams.BatchAppendResp, error) {
	silent := time.NewTimer(limit) // cheaper than a context, and every append has one
	defer silent.Stop()
	waiting := make(chan *streams.BatchAppendResp, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	c.waiting[id] = waiting
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
	}()
	request.CorrelationId = correlationID(id)
	select {
	case c.outgoing <- request:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-silent.C:
		c.end(context.DeadlineExceeded)
		return nil, context.DeadlineExceeded
	case <-c.ctx.Done():
		return nil, c.ended()
	}
	select {
	case answer := <-waiting:
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-silent.C:
		c.end(context.DeadlineExceeded)
		return nil, context.DeadlineExceeded
	case <-c.ctx.Done():
	}
	select {
	case answer := <-waiting: // an answer that is there counts
		return answer, nil
	default:
		return nil, c.ended()
	}
}

// ended is what became of the appends of a call that ended: nobody knows, whatever ended it.
func (c *appendCall) ended() error {
	cause := context.Cause(c.ctx)
	switch {
	case errors.Is(cause, ErrClosed), status.Code(cause) == codes.Unimplemented:
		return cause
	case errors.Is(cause, io.EOF):
		cause = io.ErrUnexpectedEOF
	}
	return status.Errorf(codes.Unavailable, "the call that appends ended: %v", cause)
}

// correlationID names an append within its call.
func correlationID(id uint64) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{LeastSignificantBits: int64(id)}}}
}

// correlationOf reads what correlationID made: nodes may answer with another form of it.
func correlationOf(id *shared.UUID) (uint64, error) {
	parsed, err := uuidOf(id)
	if err != nil {
		return 0, fmt.Errorf("the log answered an append without a name: %w", err)
	}
	return binary.BigEndian.Uint64(parsed[8:]), nil
}

// appendBatched appends through BatchAppend.
func (l *ESDB) appendBatched(ctx context.Context, stream string, expected domain.Expected, batch []esdb.EventData) (domain.Committed, error) {
	c, err := l.appending()
	if err != nil {
		return domain.Committed{}, err
	}
	answer, err := c.roundTrip(ctx, l.timing.append, batchRequest(stream, expected, batch, l.timing.append))
	if err != nil {
		return domain.Committed{}, err
	}
	return committedBy(answer)
}

// errNotASuccess marks an answer that is neither a success that names its revision nor a refusal that is understood. Nobody
// knows what became of the append.
var errNotASuccess = errors.New("the log answered an append with neither success nor a refusal that is understood")

// committedBy reads the answer to one append. Only an explicit success that names the revision is a success; an answer
// without a result, or a refusal whose code is left out, must not become one by a default of the protocol.
func committedBy(answer *streams.BatchAppendResp) (domain.Committed, error) {
	switch result := answer.GetResult().(type) {
	case *streams.BatchAppendResp_Error:
		return domain.Committed{}, refused(status.FromProto(result.Error))
	case *streams.BatchAppendResp_Success_:
		revision, named := result.Success.GetCurrentRevisionOption().(*streams.BatchAppendResp_Success_CurrentRevision)
		if !named {
			return domain.Committed{}, fmt.Errorf("%w: it names no revision", errNotASuccess)
		}
		committed := domain.Committed{Revision: revision.CurrentRevision}
		if p := result.Success.GetPosition(); p != nil {
			committed.Position = positionOf(esdb.Position{Commit: p.GetCommitPosition(), Prepare: p.GetPreparePosition()})
		}
		return committed, nil
	}
	return domain.Committed{}, fmt.Errorf("%w: it holds neither", errNotASuccess)
}

func batchRequest(stream string, expected domain.Expected, batch []esdb.EventData, limit time.Duration) *streams.BatchAppendReq {
	options := &streams.BatchAppendReq_Options{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
		DeadlineOption:   &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(limit)},
	}
	if revision, exists := expected.Revision(); exists {
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: revision}
	} else {
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
	}
	events := make([]*streams.BatchAppendReq_ProposedMessage, len(batch))
	for i, e := range batch {
		events[i] = &streams.BatchAppendReq_ProposedMessage{
			Id:             &shared.UUID{Value: &shared.UUID_String_{String_: e.EventID.String()}},
			Metadata:       map[string]string{"type": e.EventType, "content-type": "application/json"},
			CustomMetadata: e.Metadata,
			Data:           e.Data,
		}
	}
	return &streams.BatchAppendReq{Options: options, ProposedMessages: events, IsFinal: true}
}

// wrongRevisionError says where the stream stands that an append expected elsewhere, as far as the log told.
type wrongRevisionError struct {
	actual domain.Expected
	told   bool
}

func (e *wrongRevisionError) Error() string {
	if !e.told {
		return "the stream stands elsewhere"
	}
	return fmt.Sprintf("the stream stands at %s", e.actual)
}

// refused makes an error of the refusal of one append: by its detail where that is known, and otherwise one that is no
// refusal. Engines leave the code out when they are not ready or busy, and then nothing at all may be concluded from it.
func refused(refusal *status.Status) error {
	for _, detail := range refusal.Details() {
		switch d := detail.(type) {
		case *shared.WrongExpectedVersion:
			switch d.GetCurrentStreamRevisionOption().(type) {
			case *shared.WrongExpectedVersion_CurrentStreamRevision:
				return &wrongRevisionError{domain.AtRevision(d.GetCurrentStreamRevision()), true}
			case *shared.WrongExpectedVersion_CurrentNoStream:
				return &wrongRevisionError{domain.NoStream, true}
			}
			return &wrongRevisionError{}
		case *shared.StreamDeleted:
			return ErrStreamDeleted
		case *shared.AccessDenied:
			return status.Error(codes.PermissionDenied, refusal.Message())
		case *shared.BadRequest:
			return status.Error(codes.InvalidArgument, d.GetMessage())
		case *shared.MaximumAppendSizeExceeded:
			return status.Errorf(codes.InvalidArgument, "the node takes %d bytes in one append", d.GetMaxAppendSize())
		}
	}
	return fmt.Errorf("%w: code %d, %q", errNotASuccess, refusal.Code(), refusal.Message())
}
