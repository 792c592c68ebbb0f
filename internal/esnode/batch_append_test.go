package esnode

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// batchClient is one call of BatchAppend, which the Go client never makes.
type batchClient struct {
	t    testing.TB
	call streams.Streams_BatchAppendClient
}

func openBatches(t testing.TB, n *Node) batchClient {
	t.Helper()
	call, err := streams.NewStreamsClient(dial(t, n)).BatchAppend(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return batchClient{t: t, call: call}
}

func (b batchClient) send(messages ...*streams.BatchAppendReq) {
	b.t.Helper()
	for _, m := range messages {
		if err := b.call.Send(m); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b batchClient) answer() *streams.BatchAppendResp {
	b.t.Helper()
	resp, err := b.call.Recv()
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

// end closes the client's side and wants no more answers.
func (b batchClient) end() {
	b.t.Helper()
	if err := b.call.CloseSend(); err != nil {
		b.t.Fatal(err)
	}
	if resp, err := b.call.Recv(); !errors.Is(err, io.EOF) {
		b.t.Errorf("answer %v, error %v, want the end", resp, err)
	}
}

func textID(id string) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_String_{String_: id}}
}

func batchOptions(stream string) *streams.BatchAppendReq_Options {
	return &streams.BatchAppendReq_Options{
		StreamIdentifier:       identifierOf(stream),
		ExpectedStreamPosition: &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}},
	}
}

const batchCustom = `{"by":"batch"}`

// batchEvents are events with the given data, and random ids.
func batchEvents(data ...string) []*streams.BatchAppendReq_ProposedMessage {
	list := make([]*streams.BatchAppendReq_ProposedMessage, len(data))
	for i, d := range data {
		list[i] = &streams.BatchAppendReq_ProposedMessage{
			Id:       textID(uuid.NewString()),
			Metadata: map[string]string{"type": "tested", "content-type": "application/json"},
			Data:     []byte(d), CustomMetadata: []byte(batchCustom),
		}
	}
	return list
}

// chunk is one message of a batch; options come with the first, final says it is the last.
func chunk(id string, options *streams.BatchAppendReq_Options, final bool, events ...*streams.BatchAppendReq_ProposedMessage) *streams.BatchAppendReq {
	return &streams.BatchAppendReq{CorrelationId: textID(id), Options: options, ProposedMessages: events, IsFinal: final}
}

func success(id, stream string, revision, position uint64) *streams.BatchAppendResp {
	return &streams.BatchAppendResp{
		CorrelationId: textID(id), StreamIdentifier: identifierOf(stream),
		Result: &streams.BatchAppendResp_Success_{Success: &streams.BatchAppendResp_Success{
			CurrentRevisionOption: &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: revision},
			PositionOption: &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{
				CommitPosition: position, PreparePosition: position,
			}},
		}},
	}
}

func failure(t testing.TB, id string, stream *shared.StreamIdentifier, code codes.Code, message string, detail proto.Message) *streams.BatchAppendResp {
	t.Helper()
	st, err := status.New(code, message).WithDetails(detail.(interface {
		proto.Message
		Reset()
		String() string
		ProtoMessage()
	}))
	if err != nil {
		t.Fatal(err)
	}
	return &streams.BatchAppendResp{
		CorrelationId: textID(id), StreamIdentifier: stream,
		Result: &streams.BatchAppendResp_Error{Error: st.Proto()},
	}
}

func (b batchClient) want(want *streams.BatchAppendResp) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.answer(), protocmp.Transform()); diff != "" {
		b.t.Errorf("answer (-want +got):\n%s", diff)
	}
}

var (
	first  = uuid.NewString()
	second = uuid.NewString()
	third  = uuid.NewString()
)

// A batch comes in as many messages as the client likes, between those of others, and
// is read back like any other append. Each is answered under its own correlation id.
func TestBatchesOfSeveralCorrelationsInterleave(t *testing.T) {
	n, c := fresh(t)
	b := openBatches(t, n)
	b.send(
		chunk(first, batchOptions("s-1"), false, batchEvents(`{"n":0}`)...),
		chunk(second, batchOptions("s-2"), false),
		chunk(first, nil, false, batchEvents(`{"n":1}`, `{"n":2}`)...),
		chunk(third, batchOptions("s-3"), true, batchEvents(`{"n":5}`)...),
	)
	b.want(success(third, "s-3", 0, 2)) // position 1 is the log's identity
	b.send(
		chunk(second, nil, true, batchEvents(`{"n":4}`)...),
		chunk(first, batchOptions("ignored"), true, batchEvents(`{"n":3}`)...),
	)
	b.want(success(second, "s-2", 0, 3))
	b.want(success(first, "s-1", 3, 7))
	b.end()

	list, err := readStream(t, c, "s-1", esdb.ReadStreamOptions{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`{"n":0}`, `{"n":1}`, `{"n":2}`, `{"n":3}`}, data(list)); diff != "" {
		t.Errorf("stream (-want +got):\n%s", diff)
	}
	e := list[0].Event
	if e.EventType != "tested" || e.ContentType != "application/json" || string(e.UserMetadata) != batchCustom {
		t.Errorf("event %+v", e)
	}
}

// A batch that is never finished is never written, nor answered when its call ends.
func TestUnfinishedBatchIsNotWritten(t *testing.T) {
	n, c := fresh(t)
	b := openBatches(t, n)
	b.send(chunk(first, batchOptions("s"), false, batchEvents("{}")...))
	b.end()
	_, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, 1)
	wantCode(t, err, esdb.ErrorCodeResourceNotFound)
	if held := n.members[0].streams.openBytes.Load(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

func TestBatchExpectations(t *testing.T) {
	n, c := fresh(t)
	mustAppend(t, c, "two", esdb.NoStream{}, events(2)...)
	mustAppend(t, c, "gone", esdb.NoStream{}, events(1)...)
	if _, err := c.TombstoneStream(testContext(t), "gone", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, c, "hidden", esdb.NoStream{}, events(1)...)
	mustDelete(t, c, "hidden", esdb.Any{})

	exact := func(revision uint64) func(*streams.BatchAppendReq_Options) {
		return func(o *streams.BatchAppendReq_Options) {
			o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: revision}
		}
	}
	noStream := func(o *streams.BatchAppendReq_Options) {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
	}
	exists := func(o *streams.BatchAppendReq_Options) {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamExists{StreamExists: &emptypb.Empty{}}
	}
	anyRevision := func(*streams.BatchAppendReq_Options) {}
	current := func(revision uint64) *shared.WrongExpectedVersion_CurrentStreamRevision {
		return &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: revision}
	}
	b := openBatches(t, n)
	for name, tc := range map[string]struct {
		stream string
		expect func(*streams.BatchAppendReq_Options)
		wrong  *shared.WrongExpectedVersion // nil: deleted
	}{
		"exact, too low": {"two", exact(0), &shared.WrongExpectedVersion{
			CurrentStreamRevisionOption:  current(1),
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: 0},
		}},
		"exact, too high": {"two", exact(7), &shared.WrongExpectedVersion{
			CurrentStreamRevisionOption:  current(1),
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: 7},
		}},
		"no stream, but there is": {"two", noStream, &shared.WrongExpectedVersion{
			CurrentStreamRevisionOption:  current(1),
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}},
		}},
		"stream exists, but does not": {"none", exists, &shared.WrongExpectedVersion{
			CurrentStreamRevisionOption:  &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}},
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}},
		}},
		"exact, but there is none": {"none", exact(0), &shared.WrongExpectedVersion{
			CurrentStreamRevisionOption:  &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}},
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: 0},
		}},
		"tombstoned":                  {"gone", anyRevision, nil},
		"soft-deleted, but to exist":  {"hidden", exists, nil},
		"tombstoned, but to be exact": {"gone", exact(0), nil},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			options := batchOptions(tc.stream)
			tc.expect(options)
			b.send(chunk(first, options, true, batchEvents("{}")...))
			id := identifierOf(tc.stream)
			if tc.wrong != nil {
				b.want(failure(t, first, id, codes.AlreadyExists, "WrongExpectedVersion", tc.wrong))
			} else {
				b.want(failure(t, first, id, codes.NotFound, "StreamDeleted", &shared.StreamDeleted{StreamIdentifier: id}))
			}
		})
	}

	// What is as expected is written.
	b.t = t
	for i, expect := range []func(*streams.BatchAppendReq_Options){noStream, exact(0), exists, anyRevision} {
		options := batchOptions("s")
		expect(options)
		b.send(chunk(first, options, true, batchEvents("{}")...))
		if got := b.answer().GetSuccess().GetCurrentRevision(); got != uint64(i) {
			t.Errorf("append %d: revision %d", i, got)
		}
	}
	b.end()
}

// An empty batch tells where the stream stands and has no position.
func TestEmptyBatch(t *testing.T) {
	n, c := fresh(t)
	mustAppend(t, c, "two", esdb.NoStream{}, events(2)...)
	b := openBatches(t, n)
	for stream, want := range map[string]*streams.BatchAppendResp_Success{
		"two": {
			CurrentRevisionOption: &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: 1},
			PositionOption:        &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}},
		},
		"none": {
			CurrentRevisionOption: &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}},
			PositionOption:        &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}},
		},
	} {
		b.send(chunk(first, batchOptions(stream), true))
		if diff := cmp.Diff(want, b.answer().GetSuccess(), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", stream, diff)
		}
	}
	b.end()
}

// S9: a batch sent again is answered with where it stands, whether it came as a batch or as
// an append the first time: there is one writer.
func TestRepeatedBatchReturnsTheOriginalOutcome(t *testing.T) {
	n, c := fresh(t)
	b := openBatches(t, n)
	list := batchEvents(`{"n":0}`, `{"n":1}`)
	ids := make([]esdb.EventData, len(list))
	for i, m := range list {
		ids[i] = event("tested", string(m.GetData()))
		ids[i].EventID = uuid.MustParse(m.GetId().GetString_())
	}
	b.send(chunk(first, batchOptions("s"), true, list...))
	b.want(success(first, "s", 1, 3))
	mustAppend(t, c, "s", esdb.Any{}, events(3)...)
	b.send(chunk(second, batchOptions("s"), true, list...))
	b.want(success(second, "s", 1, 3))
	for _, expected := range []esdb.ExpectedRevision{esdb.NoStream{}, esdb.Any{}} {
		done := mustAppend(t, c, "s", expected, ids...)
		if done.NextExpectedVersion != 1 || done.CommitPosition != 3 {
			t.Errorf("append of the same: %+v", done)
		}
	}
	b.end()
}

// Clients name a duration or, older ones, a time of day. When it has passed the batch is
// answered with a timeout, once, and what still comes of it is ignored.
func TestBatchDeadlines(t *testing.T) {
	noon := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	n := openNodeAt(t, t.TempDir(), func() time.Time { return noon })
	b := openBatches(t, n)
	timeout := func(options *streams.BatchAppendReq_Options) *streams.BatchAppendResp {
		return failure(t, first, options.StreamIdentifier, codes.DeadlineExceeded, "Timeout", &shared.Timeout{})
	}
	for name, tc := range map[string]struct {
		options *streams.BatchAppendReq_Options
		final   bool // the deadline has passed when the batch arrives
	}{
		"duration of none":      {&streams.BatchAppendReq_Options{DeadlineOption: &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(0)}}, true},
		"duration below zero":   {&streams.BatchAppendReq_Options{DeadlineOption: &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(-time.Hour)}}, true},
		"duration, unfinished":  {&streams.BatchAppendReq_Options{DeadlineOption: &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(time.Millisecond)}}, false},
		"time now":              {&streams.BatchAppendReq_Options{DeadlineOption: &streams.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(noon)}}, true},
		"time in another year":  {&streams.BatchAppendReq_Options{DeadlineOption: &streams.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(noon.AddDate(-5, 0, 0))}}, true},
		"time soon, unfinished": {&streams.BatchAppendReq_Options{DeadlineOption: &streams.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(noon.Add(time.Millisecond))}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			tc.options.StreamIdentifier, tc.options.ExpectedStreamPosition = batchOptions("s").StreamIdentifier, batchOptions("s").ExpectedStreamPosition
			b.send(chunk(first, tc.options, tc.final, batchEvents("{}")...))
			b.want(timeout(tc.options))
			b.send(chunk(first, nil, true, batchEvents("{}")...))
		})
	}
	b.t = t
	generous := batchOptions("t")
	generous.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: &durationpb.Duration{Seconds: 1_900_000_000}}
	b.send(chunk(second, generous, true, batchEvents("{}")...))
	b.want(success(second, "t", 0, 2)) // nothing was written to s
	generous.DeadlineOption = &streams.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(noon.AddDate(9, 0, 0))}
	b.send(chunk(second, generous, true, batchEvents("{}")...))
	b.want(success(second, "t", 1, 3))
	b.end()
}

func TestBatchesThatAreRefused(t *testing.T) {
	n, c := fresh(t)
	b := openBatches(t, n)
	large := strings.Repeat("x", MaxEventBytes-len(batchCustom))
	withoutType := batchEvents("{}")
	delete(withoutType[0].Metadata, "type")
	withoutID := batchEvents("{}")
	withoutID[0].Id = nil
	unexpecting := batchOptions("s")
	unexpecting.ExpectedStreamPosition = nil
	unnamed := batchOptions("s")
	unnamed.StreamIdentifier = nil
	bad := func(message string) proto.Message { return &shared.BadRequest{Message: message} }
	for name, tc := range map[string]struct {
		options *streams.BatchAppendReq_Options
		events  []*streams.BatchAppendReq_ProposedMessage
		code    codes.Code
		message string
		detail  proto.Message
	}{
		"an event too large": {batchOptions("s"), batchEvents(large + "x"), codes.InvalidArgument, "MaximumAppendSizeExceeded", &shared.MaximumAppendSizeExceeded{MaxAppendSize: MaxEventBytes}},
		"a batch too large": {
			batchOptions("s"), batchEvents(large, large, large, large, "x"), codes.InvalidArgument,
			"MaximumAppendSizeExceeded", &shared.MaximumAppendSizeExceeded{MaxAppendSize: MaxAppendBytes},
		},
		"too many events": {
			batchOptions("s"), batchEvents(make([]string, MaxAppendEvents+1)...), codes.InvalidArgument,
			"MaximumAppendSizeExceeded", &shared.MaximumAppendSizeExceeded{MaxAppendSize: MaxAppendBytes},
		},
		"no stream":       {unnamed, batchEvents("{}"), codes.InvalidArgument, "BadRequest", bad("Required field StreamIdentifier not set.")},
		"empty stream":    {batchOptions(""), batchEvents("{}"), codes.InvalidArgument, "BadRequest", bad(`the stream name "" is not valid`)},
		"no expectation":  {unexpecting, batchEvents("{}"), codes.InvalidArgument, "BadRequest", bad("the expected stream position is missing")},
		"no event type":   {batchOptions("s"), withoutType, codes.InvalidArgument, "BadRequest", bad("Required Metadata Property 'type' is missing")},
		"no event id":     {batchOptions("s"), withoutID, codes.InvalidArgument, "BadRequest", bad("an id is missing")},
		"the stream $all": {batchOptions("$all"), batchEvents("{}"), codes.PermissionDenied, "AccessDenied", &shared.AccessDenied{}},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			b.send(chunk(first, tc.options, false, tc.events...))
			b.want(failure(t, first, tc.options.GetStreamIdentifier(), tc.code, tc.message, tc.detail))
			b.send(chunk(first, nil, true, batchEvents("{}")...)) // belongs to what has been refused
		})
	}
	b.t = t
	b.send(&streams.BatchAppendReq{Options: batchOptions("s"), IsFinal: true})
	if got := b.answer(); got.GetCorrelationId() != nil || got.GetError().GetMessage() != "BadRequest" {
		t.Errorf("a batch without correlation id is answered %v", got)
	}
	b.end()
	_, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, 1)
	wantCode(t, err, esdb.ErrorCodeResourceNotFound)
	if held := n.members[0].streams.openBytes.Load(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

// Batches that are never finished do not fill the memory: what exceeds the node's
// budget is refused, and room is made when their call ends.
func TestOpenBatchesAreBounded(t *testing.T) {
	n, _ := fresh(t)
	hoarder := openBatches(t, n)
	large := strings.Repeat("x", MaxEventBytes-len(batchCustom))
	load := batchEvents(large, large)
	begun := 0
	for refused := false; !refused; {
		hoarder.send(chunk(uuid.NewString(), batchOptions("s"), false, load...))
		// A second batch tells that the first was taken in, or that there is no room.
		hoarder.send(chunk(first, batchOptions("s"), true))
		begun++
		if resp := hoarder.answer(); resp.GetError() != nil {
			refused = resp.GetError().GetCode() == int32(codes.ResourceExhausted)
			if !refused {
				t.Fatalf("answer %v", resp)
			}
		}
		if begun > openBatchBytes/MaxEventBytes {
			t.Fatalf("%d open batches were taken in", begun)
		}
	}
	if err := hoarder.call.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := hoarder.call.Recv(); err != nil {
			break
		}
	}
	if held := n.members[0].streams.openBytes.Load(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
	other := openBatches(t, n)
	other.send(chunk(second, batchOptions("s"), true, batchEvents("{}")...))
	other.want(success(second, "s", 0, 2))
	other.end()
}

// Thousands of batches in one call, sent without waiting for answers: each is answered
// once, and they were written in the order in which they were finished.
func TestManyBatchesInOneCall(t *testing.T) {
	n, c := fresh(t)
	b := openBatches(t, n)
	const total = 3 * batchesUnderWay
	ids := map[string]uint64{}
	order := make([]string, total)
	for i := range order {
		order[i] = uuid.NewString()
		ids[order[i]] = uint64(i)
	}
	sent := make(chan error, 1)
	go func() {
		var err error
		for _, id := range order {
			err = errors.Join(err, b.call.Send(chunk(id, batchOptions("s"), true, batchEvents("{}")...)))
		}
		sent <- errors.Join(err, b.call.CloseSend())
	}()
	for range total {
		resp := b.answer()
		id := resp.GetCorrelationId().GetString_()
		if want, ok := ids[id]; !ok || resp.GetSuccess().GetCurrentRevision() != want {
			t.Fatalf("answer %v, want revision %d", resp, want)
		}
		delete(ids, id)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, err := b.call.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want the end", err)
	}
	if all := readAll(t, c, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1); all[0].Event.EventNumber != total-1 {
		t.Errorf("the last event is %d", all[0].Event.EventNumber)
	}
}

// A node that stops answers what it has written and ends the call; it does not wait for
// clients that keep theirs open.
func TestNodeEndsBatchCallsWhenItCloses(t *testing.T) {
	n, _ := fresh(t)
	b := openBatches(t, n)
	b.send(chunk(first, batchOptions("s"), true, batchEvents("{}")...))
	b.want(success(first, "s", 0, 2))
	b.send(chunk(second, batchOptions("s"), false, batchEvents("{}")...))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.call.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want Unavailable", err)
	}
}

// Clients use what the node announces under the server's own names.
func TestAnnouncedMethods(t *testing.T) {
	n, _ := fresh(t)
	methods, err := serverfeatures.NewServerFeaturesClient(dial(t, n)).GetSupportedMethods(testContext(t), &shared.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, m := range methods.GetMethods() {
		got[m.GetServiceName()+"/"+m.GetMethodName()] = m.GetFeatures()
	}
	want := map[string][]string{
		"event_store.client.streams.streams/read":                               {"position", "events"},
		"event_store.client.streams.streams/append":                             nil,
		"event_store.client.streams.streams/batchappend":                        {"deadline_duration"},
		"event_store.client.streams.streams/delete":                             nil,
		"event_store.client.streams.streams/tombstone":                          nil,
		"event_store.client.gossip.gossip/read":                                 nil,
		"event_store.client.server_features.serverfeatures/getsupportedmethods": nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
}

// S5: batches meet a disk that is nearly full as appends do, and their call goes on.
func TestNearlyFullDiskRefusesBatches(t *testing.T) {
	disk := vfs.NewMem()
	disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 2 * spareBytes})
	n, err := open(testContext(t), Options{
		Dir: testLog, Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	}, disk, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	b := openBatches(t, n)
	disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: spareBytes - 1})
	b.send(chunk(first, batchOptions("s"), true, batchEvents("{}")...))
	if refusal := b.answer().GetError(); refusal.GetCode() != int32(codes.Aborted) || !strings.Contains(refusal.GetMessage(), "nearly full") {
		t.Errorf("the refusal says %v", refusal)
	}
	disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 2 * spareBytes})
	b.send(chunk(second, batchOptions("s"), true, batchEvents("{}")...))
	b.want(success(second, "s", 0, 2))
	b.end()
}

// A batch whose deadline passes while the disk works is answered with a timeout, which
// says nothing of what became of it: it is written, found again when it is repeated,
// and not answered a second time.
func TestBatchTimesOutWhileItIsSynced(t *testing.T) {
	n, _ := fresh(t)
	release := make(chan struct{})
	sync := n.store.sync
	n.store.sync = func(batch *pebble.Batch) error {
		<-release
		return sync(batch)
	}
	b := openBatches(t, n)
	options := batchOptions("s")
	options.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(time.Millisecond)}
	list := batchEvents("{}")
	b.send(chunk(first, options, true, list...))
	b.want(failure(t, first, options.StreamIdentifier, codes.DeadlineExceeded, "Timeout", &shared.Timeout{}))
	close(release)
	b.send(chunk(second, batchOptions("s"), true, list...))
	b.want(success(second, "s", 0, 2))
	b.end()
}
