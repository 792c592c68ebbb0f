package esnode

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// BatchAppend implements the Streams service: any number of appends over one call, each
// named by a correlation id and sent in as many messages as the client likes. Every
// append is answered once, refusals too; only the end of the node ends the call early.
func (s *streamsService) BatchAppend(stream streams.Streams_BatchAppendServer) error {
	if err := s.manners.enter(stream.Context()); err != nil {
		return err
	}
	c := &batchCall{
		service: s, stream: stream, ctx: stream.Context(),
		incoming: make(chan batchMessage), receiving: true, stop: s.store.stop,
		open: map[uuid.UUID]*batch{}, underWay: map[*request]*batch{},
		finished: make(chan *request, batchesUnderWay),
		timer:    time.NewTimer(maxBatchTime),
	}
	s.receivers.Go(c.receive)
	return c.serve()
}

// batchCall is one call of BatchAppend. All but receive runs in the call's goroutine.
type batchCall struct {
	service *streamsService
	stream  streams.Streams_BatchAppendServer
	ctx     context.Context

	incoming  chan batchMessage
	receiving bool
	stop      <-chan struct{} // nil once it was seen closed
	ending    error           // what the call ends with

	open     map[uuid.UUID]*batch // by correlation id; their last message is still to come
	underWay map[*request]*batch  // the writer has them
	bytes    int                  // of those under way
	finished chan *request

	timer *time.Timer
	alarm time.Time // when the timer fires; zero: nothing waits for it
}

// batchMessage is what came from the client: a message, or why there are no more.
type batchMessage struct {
	req *streams.BatchAppendReq
	err error
}

// batch is one append on its way.
type batch struct {
	correlation *shared.UUID
	stream      string
	expected    int64
	deadline    time.Time
	gathered    gathered
	size        int  // memory held, about
	answered    bool // with a timeout, while the writer had it
}

// receive passes the client's messages on. It ends with the call, which ends its context.
func (c *batchCall) receive() {
	for {
		req, err := c.stream.Recv()
		select {
		case c.incoming <- batchMessage{req, err}:
		case <-c.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (c *batchCall) serve() error {
	defer c.dropOpen()
	defer c.timer.Stop()
	for c.receiving || len(c.underWay) > 0 {
		incoming := c.incoming
		if !c.receiving || len(c.underWay) == batchesUnderWay || c.bytes >= batchBytesUnderWay {
			incoming = nil // the client waits for the disk
		}
		var err error
		select {
		case m := <-incoming:
			err = c.take(m)
		case req := <-c.finished:
			err = c.finish(req)
		case <-c.timer.C:
			err = c.expire(time.Now())
		case <-c.stop:
			c.stop = nil
			c.end(errClosed)
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return c.ending
}

// end takes no more messages; what the writer has is still answered.
func (c *batchCall) end(err error) {
	c.receiving, c.ending = false, err
	c.dropOpen()
}

func (c *batchCall) dropOpen() {
	for id, b := range c.open {
		delete(c.open, id)
		c.service.openBytes.Add(-int64(b.size))
	}
}

func (c *batchCall) take(m batchMessage) error {
	if errors.Is(m.err, io.EOF) {
		c.end(nil)
		return nil
	}
	if m.err != nil {
		return m.err
	}
	req, options := m.req, m.req.GetOptions()
	id, err := uuidFromProto(req.GetCorrelationId())
	if err != nil {
		return c.refuse(req.GetCorrelationId(), options.GetStreamIdentifier(), err)
	}
	b := c.open[id]
	if b == nil {
		if options == nil {
			return nil // the rest of a batch that has been refused
		}
		if b, err = c.begin(req.GetCorrelationId(), options); err != nil {
			return c.refuse(req.GetCorrelationId(), options.GetStreamIdentifier(), err)
		}
		c.open[id] = b
	}
	if err = c.gather(b, req.GetProposedMessages()); err == nil && !req.GetIsFinal() {
		return nil
	}
	delete(c.open, id)
	c.service.openBytes.Add(-int64(b.size))
	if err != nil {
		return c.refuseBatch(b, err)
	}
	return c.submit(b)
}

// begin checks the options of a new batch.
func (c *batchCall) begin(correlation *shared.UUID, options *streams.BatchAppendReq_Options) (*batch, error) {
	if options.GetStreamIdentifier() == nil {
		return nil, invalid("Required field StreamIdentifier not set.")
	}
	name, err := writableName(options.GetStreamIdentifier())
	if err != nil {
		return nil, err
	}
	expected, err := batchExpectedVersion(options)
	if err != nil {
		return nil, err
	}
	timeout, err := batchTimeout(options, c.service.store.now())
	if err != nil {
		return nil, err
	}
	b := &batch{correlation: correlation, stream: name, expected: expected, deadline: time.Now().Add(timeout)}
	c.wakeAt(b.deadline)
	return b, nil
}

func batchExpectedVersion(options *streams.BatchAppendReq_Options) (int64, error) {
	switch expected := options.GetExpectedStreamPosition().(type) {
	case *streams.BatchAppendReq_Options_StreamPosition:
		return exactVersion(expected.StreamPosition)
	case *streams.BatchAppendReq_Options_NoStream:
		return expectNoStream, nil
	case *streams.BatchAppendReq_Options_Any:
		return expectAny, nil
	case *streams.BatchAppendReq_Options_StreamExists:
		return expectStreamExists, nil
	}
	return 0, invalid("the expected stream position is missing")
}

// batchTimeout is how long a batch may take. Clients before 21.10.1 name a time of day,
// later ones a duration; without either, and beyond it, the limit is the node's.
func batchTimeout(options *streams.BatchAppendReq_Options, now time.Time) (time.Duration, error) {
	timeout := maxBatchTime
	switch deadline := options.GetDeadlineOption().(type) {
	case *streams.BatchAppendReq_Options_Deadline:
		if deadline.Deadline.GetSeconds() < int64(maxBatchTime/time.Second) {
			timeout = deadline.Deadline.AsDuration()
		}
	case *streams.BatchAppendReq_Options_Deadline_21_10_0:
		timeout = min(timeout, deadline.Deadline_21_10_0.AsTime().Sub(now))
	}
	if timeout <= 0 {
		return 0, context.DeadlineExceeded
	}
	return timeout, nil
}

// gather adds events to an open batch, within the limits of one append and of what the
// node holds in open batches.
func (c *batchCall) gather(b *batch, messages []*streams.BatchAppendReq_ProposedMessage) error {
	cost := 0
	if b.size == 0 {
		cost = openBatchOverhead
	}
	before := len(b.gathered.events)
	var err error
	for _, m := range messages {
		if err = b.gathered.add(b.stream, m); err != nil {
			break
		}
	}
	for _, e := range b.gathered.events[before:] {
		cost += len(e.encoded) + len(e.data)
	}
	b.size += cost
	if c.service.openBytes.Add(int64(cost)) > openBatchBytes && err == nil {
		err = errBusy
	}
	return err
}

// submit hands a whole batch over to the writer.
func (c *batchCall) submit(b *batch) error {
	if err := c.service.manners.enter(c.ctx); err != nil { // the leader may be another one by now
		c.end(err)
		return nil
	}
	if err := c.service.manners.admitAppend(c.ctx, b.stream); err != nil {
		return c.refuseBatch(b, err)
	}
	req := &request{op: opAppend, stream: b.stream, expected: b.expected, events: b.gathered.events, finished: c.finished}
	err := c.service.store.enqueue(c.ctx, req)
	if errors.Is(err, errClosed) {
		c.end(err)
		return nil
	}
	if err != nil {
		return err
	}
	c.underWay[req] = b
	c.bytes += b.size
	return nil
}

// finish answers a batch that the writer is done with.
func (c *batchCall) finish(req *request) error {
	b := c.underWay[req]
	delete(c.underWay, req)
	c.bytes -= b.size
	switch {
	case errors.Is(req.err, errFailed):
		return req.err
	case b.answered:
		return nil
	}
	if err := c.service.manners.told(req.err); err != nil {
		return c.refuseBatch(b, err)
	}
	return c.stream.Send(&streams.BatchAppendResp{
		CorrelationId: b.correlation, StreamIdentifier: identifierOf(b.stream),
		Result: &streams.BatchAppendResp_Success_{Success: batchSuccess(req.outcome)},
	})
}

func batchSuccess(done outcome) *streams.BatchAppendResp_Success {
	success := &streams.BatchAppendResp_Success{
		CurrentRevisionOption: &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}},
		PositionOption:        &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}},
	}
	if done.revision >= 0 {
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(done.revision)}
	}
	if done.position > 0 {
		success.PositionOption = &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{
			CommitPosition: done.position, PreparePosition: done.position,
		}}
	}
	return success
}

// wakeAt sees to it that expire is called when the deadline has passed.
func (c *batchCall) wakeAt(deadline time.Time) {
	if c.alarm.IsZero() || deadline.Before(c.alarm) {
		c.alarm = deadline
		c.timer.Reset(time.Until(deadline))
	}
}

// expire answers the batches whose deadline has passed. What became of those that the
// writer has is not known: they may still be written.
func (c *batchCall) expire(now time.Time) error {
	c.alarm = time.Time{}
	var late []*batch
	check := func(b *batch) (expired bool) {
		if expired = !b.deadline.After(now); expired {
			late = append(late, b)
		} else {
			c.wakeAt(b.deadline)
		}
		return expired
	}
	for id, b := range c.open {
		if check(b) {
			delete(c.open, id)
			c.service.openBytes.Add(-int64(b.size))
		}
	}
	for _, b := range c.underWay {
		if !b.answered {
			b.answered = check(b)
		}
	}
	for _, b := range late {
		if err := c.refuseBatch(b, context.DeadlineExceeded); err != nil {
			return err
		}
	}
	return nil
}

func (c *batchCall) refuseBatch(b *batch, refusal error) error {
	return c.refuse(b.correlation, identifierOf(b.stream), refusal)
}

// refuse answers one batch with an error; the call goes on.
func (c *batchCall) refuse(correlation *shared.UUID, stream *shared.StreamIdentifier, refusal error) error {
	answer := &streams.BatchAppendResp{CorrelationId: correlation, StreamIdentifier: stream}
	if errors.Is(refusal, blankAnswer{}) {
		return c.stream.Send(answer)
	}
	problem, err := batchStatus(refusal)
	if err != nil {
		return err
	}
	result := problem.Proto()
	if busy := (*refusedNow)(nil); errors.As(refusal, &busy) {
		result.Code = int32(codes.OK) // as real engines send it: without a code
	}
	answer.Result = &streams.BatchAppendResp_Error{Error: result}
	return c.stream.Send(answer)
}

// batchStatus turns an error into what a batch is answered with: clients go by the type
// of its detail.
func batchStatus(err error) (*status.Status, error) {
	var (
		wrong   *wrongVersionError
		deleted *streamDeletedError
		request *requestError
		busy    *refusedNow
	)
	switch {
	case errors.As(err, &busy):
		return status.New(codes.Unavailable, busy.message).WithDetails(&emptypb.Empty{})
	case errors.As(err, &wrong):
		return status.New(codes.AlreadyExists, "WrongExpectedVersion").WithDetails(wrongVersionDetail(wrong))
	case errors.As(err, &deleted):
		return status.New(codes.NotFound, "StreamDeleted").WithDetails(&shared.StreamDeleted{StreamIdentifier: identifierOf(deleted.stream)})
	case errors.As(err, &request):
		switch request.exception {
		case exceptionAccessDenied:
			return status.New(codes.PermissionDenied, "AccessDenied").WithDetails(&shared.AccessDenied{})
		case exceptionTooLarge:
			return status.New(codes.InvalidArgument, "MaximumAppendSizeExceeded").WithDetails(&shared.MaximumAppendSizeExceeded{MaxAppendSize: uint32(request.limit)})
		}
		return status.New(codes.InvalidArgument, "BadRequest").WithDetails(&shared.BadRequest{Message: request.message})
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, timedOut{}):
		return status.New(codes.DeadlineExceeded, "Timeout").WithDetails(&shared.Timeout{})
	case errors.Is(err, errBusy):
		return status.New(codes.ResourceExhausted, "Server Is Busy").WithDetails(&emptypb.Empty{})
	}
	_, err = statusOf(err)
	return status.New(status.Code(err), status.Convert(err).Message()).WithDetails(&shared.Unknown{})
}

func wrongVersionDetail(wrong *wrongVersionError) *shared.WrongExpectedVersion {
	detail := &shared.WrongExpectedVersion{}
	if wrong.actual < 0 {
		detail.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
	} else {
		detail.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(wrong.actual)}
	}
	switch wrong.expected {
	case expectNoStream:
		detail.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
	case expectAny:
		detail.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
	case expectStreamExists:
		detail.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
	default:
		detail.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: uint64(wrong.expected)}
	}
	return detail
}

func identifierOf(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}
