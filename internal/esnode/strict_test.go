package esnode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// openStrict opens a node with strict manners, or an ordinary one, and closes it with
// the test.
func openStrict(t testing.TB, dir string, strict *Strict, now func() time.Time) *Node {
	t.Helper()
	n, err := open(testContext(t), Options{
		Dir: dir, Logger: slog.New(slog.DiscardHandler), Strict: strict,
		Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	}, vfs.Default, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

// stoppedClock moves when it is told to.
type stoppedClock struct{ passed atomic.Int64 }

func (c *stoppedClock) now() time.Time { return time.Unix(1_790_000_000, c.passed.Load()) }

func (c *stoppedClock) add(d time.Duration) { c.passed.Add(int64(d)) }

// batchOf is one append as a message of a batch.
func batchOf(stream string, expected any, n int) *streams.BatchAppendReq {
	options := &streams.BatchAppendReq_Options{StreamIdentifier: identifierOf(stream)}
	switch expected := expected.(type) {
	case uint64:
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: expected}
	case esdb.NoStream:
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
	default:
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}}
	}
	req := &streams.BatchAppendReq{CorrelationId: newUUID(), Options: options, IsFinal: true}
	for range n {
		req.ProposedMessages = append(req.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{
			Id: newUUID(), Metadata: map[string]string{metadataType: "tested", metadataContentType: contentTypeJSON}, Data: []byte(`{}`),
		})
	}
	return req
}

func newUUID() *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewString()}}
}

// appendBatch sends one append in a call of its own and returns the answer.
func appendBatch(t testing.TB, conn *grpc.ClientConn, req *streams.BatchAppendReq) (*streams.BatchAppendResp, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	call, err := streams.NewStreamsClient(conn).BatchAppend(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := call.Send(req); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return call.Recv()
}

// unaryAppend appends one event in a call of its own.
func unaryAppend(t testing.TB, conn *grpc.ClientConn, stream string) (*streams.AppendResp, error) {
	t.Helper()
	call, err := streams.NewStreamsClient(conn).Append(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*streams.AppendReq{
		{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
			StreamIdentifier: identifierOf(stream), ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
		}}},
		{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
			Id: newUUID(), Metadata: map[string]string{metadataType: "tested", metadataContentType: contentTypeJSON},
		}}},
	} {
		if err := call.Send(m); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	return call.CloseAndRecv()
}

// rawRead makes a read and returns its messages.
func rawRead(t testing.TB, conn *grpc.ClientConn, options *streams.ReadReq_Options, count uint64) ([]*streams.ReadResp, error) {
	t.Helper()
	call, err := streams.NewStreamsClient(conn).Read(testContext(t), &streams.ReadReq{Options: readOptions(options, count)})
	if err != nil {
		t.Fatal(err)
	}
	return received(call)
}

func received(call streams.Streams_ReadClient) (list []*streams.ReadResp, err error) {
	for {
		resp, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, resp)
	}
}

func fromPosition(position uint64) *streams.ReadReq_Options {
	return &streams.ReadReq_Options{StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_Position{Position: &streams.ReadReq_Options_Position{
			CommitPosition: position, PreparePosition: position,
		}},
	}}}
}

// A busy node writes nothing, and its answers have the form of those of one that is not
// ready; only the words differ.
func TestBusyNodeWritesNothing(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Busy: 1, NoIdentity: true}, time.Now)
	conn := dial(t, n)
	answer, err := appendBatch(t, conn, batchOf("s", nil, 1))
	if err != nil || answer.GetError() == nil || answer.GetError().GetCode() != 0 || answer.GetError().GetMessage() != textBusy ||
		len(answer.GetError().GetDetails()) != 1 || !answer.GetError().GetDetails()[0].MessageIs(&emptypb.Empty{}) {
		t.Errorf("a batch is answered with %v, %v", answer, err)
	}
	_, unary := unaryAppend(t, conn, "s")
	_, read := rawRead(t, conn, fromAll(), 1)
	_, deleted := streams.NewStreamsClient(conn).Delete(testContext(t), &streams.DeleteReq{Options: &streams.DeleteReq_Options{
		StreamIdentifier: identifierOf("s"), ExpectedStreamRevision: &streams.DeleteReq_Options_Any{Any: &shared.Empty{}},
	}})
	for what, err := range map[string]error{"append": unary, "read": read, "delete": deleted} {
		if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != textBusy {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n.store.synced() != 0 {
		t.Errorf("the log ends at %d", n.store.synced())
	}
}

func TestBlankAnswerIsNeitherSuccessNorError(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Blank: 1, NoIdentity: true}, time.Now)
	conn := dial(t, n)
	req := batchOf("s", nil, 1)
	answer, err := appendBatch(t, conn, req)
	if err != nil || answer.GetResult() != nil || answer.GetCorrelationId() == nil || string(answer.GetStreamIdentifier().GetStreamName()) != "s" {
		t.Errorf("a batch is answered with %v, %v", answer, err)
	}
	if resp, err := unaryAppend(t, conn, "s"); err != nil || resp.GetResult() != nil {
		t.Errorf("an append is answered with %v, %v", resp, err)
	}
	if n.store.synced() != 0 {
		t.Errorf("the log ends at %d", n.store.synced())
	}
}

// A write whose outcome is not told is there all the same; a refused one is told.
func TestUnknownOutcomeIsWritten(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Unknown: 1, NoIdentity: true}, time.Now)
	conn := dial(t, n)
	answer, err := appendBatch(t, conn, batchOf("s", esdb.NoStream{}, 1))
	if err != nil || codes.Code(answer.GetError().GetCode()) != codes.DeadlineExceeded {
		t.Errorf("a batch is answered with %v, %v", answer, err)
	}
	if _, err := unaryAppend(t, conn, "s"); status.Code(err) != codes.Aborted {
		t.Errorf("an append is answered with %v", err)
	}
	if list, err := rawRead(t, conn, fromStream("s"), everything); err != nil || len(list) != 2 {
		t.Errorf("the stream has %d events, %v", len(list), err)
	}
	answer, err = appendBatch(t, conn, batchOf("s", esdb.NoStream{}, 1))
	if err != nil || codes.Code(answer.GetError().GetCode()) != codes.AlreadyExists {
		t.Errorf("a conflict is answered with %v, %v", answer, err)
	}
}

// Chance leaves both: with a share between, some appends are carried out and the others
// refused, and the same seed draws the same.
func TestShareOfBusyAnswersFollowsTheSeed(t *testing.T) {
	draw := func(seed uint64) (refused string) {
		n := openStrict(t, t.TempDir(), &Strict{Seed: seed, Busy: 0.5, NoIdentity: true}, time.Now)
		conn := dial(t, n)
		for range 32 {
			answer, err := appendBatch(t, conn, batchOf("s", nil, 1))
			if err != nil {
				t.Fatal(err)
			}
			refused += map[bool]string{true: "x", false: "."}[answer.GetSuccess() == nil]
		}
		return refused
	}
	first := draw(1)
	if !strings.Contains(first, "x") || !strings.Contains(first, ".") || draw(1) != first || draw(2) == first {
		t.Errorf("seed 1 refuses %s", first)
	}
}

// While a commit is not shown yet, readers see the log as it was before, and who loses
// against it is told at once that the stream is where it expected it.
func TestLoserIsToldWhatItExpected(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Late: time.Millisecond, Offsets: true, NoIdentity: true}, time.Now)
	conn := dial(t, n)
	if answer, err := appendBatch(t, conn, batchOf("s", esdb.NoStream{}, 1)); err != nil || answer.GetSuccess() == nil {
		t.Fatalf("%v, %v", answer, err)
	}
	writing, hold := make(chan struct{}), make(chan struct{})
	n.store.sync = func(b *pebble.Batch) error {
		writing <- struct{}{}
		<-hold
		return b.SyncWait()
	}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		if answer, err := appendBatch(t, conn, batchOf("s", uint64(0), 1)); err != nil || answer.GetSuccess().GetCurrentRevision() != 1 {
			t.Errorf("the winner is answered with %v, %v", answer, err)
		}
	})
	<-writing
	answer, err := appendBatch(t, conn, batchOf("s", uint64(0), 1))
	wrong := &shared.WrongExpectedVersion{}
	if err != nil || len(answer.GetError().GetDetails()) != 1 || answer.GetError().GetDetails()[0].UnmarshalTo(wrong) != nil ||
		wrong.GetCurrentStreamRevision() != 0 || wrong.GetExpectedStreamPosition() != 0 {
		t.Errorf("the loser is answered with %v, %v", answer, err)
	}
	for what, options := range map[string]*streams.ReadReq_Options{"the stream": fromStream("s"), "$all": fromAll()} {
		if list, err := rawRead(t, conn, options, everything); err != nil || len(list) != 1 {
			t.Errorf("%s shows %d events, %v", what, len(list), err)
		}
	}
	close(hold)
	group.Wait()
	n.store.sync = (*pebble.Batch).SyncWait
	answer, err = appendBatch(t, conn, batchOf("s", uint64(0), 1))
	if err != nil || len(answer.GetError().GetDetails()) != 1 || answer.GetError().GetDetails()[0].UnmarshalTo(wrong) != nil || wrong.GetCurrentStreamRevision() != 1 {
		t.Errorf("a later loser is answered with %v, %v", answer, err)
	}
	if list, err := rawRead(t, conn, fromStream("s"), everything); err != nil || len(list) != 2 {
		t.Errorf("the stream shows %d events, %v", len(list), err)
	}
}

// What is not shown yet of a stream is left out, whatever it is: its first event, later
// ones, its tombstone.
func TestStateAsOfTheHead(t *testing.T) {
	s, w := manualWriter(t, t.TempDir())
	list := proposals("s", 3)
	var heads []uint64
	for i := range list {
		commitGroup(w, &request{op: opAppend, stream: "s", expected: int64(i) - 1, events: list[i : i+1]})
		heads = append(heads, s.synced())
	}
	commitGroup(w, &request{op: opTombstone, stream: "s", expected: 2})
	for i, head := range append([]uint64{1}, heads...) {
		st, err := s.shownState(testContext(t), "s", newHead(head))
		if err != nil || st.last != int64(i)-1 || st.tombstoned {
			t.Errorf("at %d the stream is at %+v, %v", head, st, err)
		}
	}
	if st, err := s.shownState(testContext(t), "s", s.head); err != nil || !st.tombstoned {
		t.Errorf("at the end the stream is at %+v, %v", st, err)
	}
}

// $all is read from events only: forwards, backwards, and by subscriptions. A number
// inside the last event is refused or empty; beyond the end is empty.
func TestPositionsThatAreNone(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Offsets: true, InvalidPositions: true, NoIdentity: true}, time.Now)
	conn := dial(t, n)
	written := write(t, n.store, "s", 3)
	all, err := scanned(n.store, 1, written.position, forwards)
	if err != nil {
		t.Fatal(err)
	}
	last, err := n.store.eventAt(written.position)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range all {
		if list, err := rawRead(t, conn, fromPosition(e.position), everything); err != nil || len(list) != len(all)-i {
			t.Errorf("from event %d: %d events, %v", i, len(list), err)
		}
		for _, none := range []uint64{e.position - 1, e.position + 1} {
			for _, d := range []streams.ReadReq_Options_ReadDirection{streams.ReadReq_Options_Forwards, streams.ReadReq_Options_Backwards} {
				options := fromPosition(none)
				options.ReadDirection = d
				list, err := rawRead(t, conn, options, everything)
				inside := none > written.position
				if refused := status.Code(err) == codes.Unknown && strings.HasPrefix(status.Convert(err).Message(), textInvalidPosition); !refused && (!inside || err != nil) {
					t.Errorf("from %d, %v: %d events, %v", none, d, len(list), err)
				}
			}
		}
	}
	if list, err := rawRead(t, conn, fromPosition(last.next+1), everything); err != nil || len(list) != 0 {
		t.Errorf("from beyond the end: %d events, %v", len(list), err)
	}
	if list, err := rawRead(t, conn, fromPosition(0), everything); err != nil || len(list) != len(all) {
		t.Errorf("from 0: %d events, %v", len(list), err)
	}
	call := rawSubscription(t, n, fromPosition(all[1].position-1))
	if resp, err := call.Recv(); status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != textFromInvalid {
		t.Errorf("the subscription goes on with %v, %v", resp, err)
	}
}

// A subscription from beyond the end looks well and brings nothing until the log has
// grown past it.
func TestSubscriptionFromBeyondTheEnd(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Offsets: true, InvalidPositions: true, NoIdentity: true}, time.Now)
	written := write(t, n.store, "s", 1)
	last, err := n.store.eventAt(written.position)
	if err != nil {
		t.Fatal(err)
	}
	call := rawSubscription(t, n, fromPosition(last.next+1)) // the next event begins before it
	if resp := receive(t, call); resp.GetCaughtUp() == nil {
		t.Fatalf("the subscription begins with %v", resp)
	}
	write(t, n.store, "s", 1)
	after := write(t, n.store, "s", 1)
	if resp := receive(t, call); resp.GetEvent().GetCommitPosition() != after.position {
		t.Errorf("the first event is %v, not the one at %d", resp, after.position)
	}
}

// A stream that is deleted while it is read ends with StreamNotFound, one that is
// tombstoned with the error of that.
func TestDeletionDuringARead(t *testing.T) {
	const many, size = 400, 4 << 10
	for _, op := range []operation{opDelete, opTombstone} {
		n := openStrict(t, t.TempDir(), &Strict{Deletion: true}, time.Now)
		var list []proposed
		for range many {
			list = append(list, newProposed("s", uuid.New(), "tested", false, make([]byte, size), nil))
		}
		if _, err := n.store.append(testContext(t), "s", expectNoStream, list); err != nil {
			t.Fatal(err)
		}
		// With a window that does not grow the node cannot be far ahead of what was received.
		conn, err := grpc.NewClient(n.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
		if err != nil {
			t.Fatal(err)
		}
		call, err := streams.NewStreamsClient(conn).Read(testContext(t), &streams.ReadReq{Options: readOptions(fromStream("s"), everything)})
		if err != nil {
			t.Fatal(err)
		}
		receive(t, call)
		if _, err := n.store.submit(testContext(t), &request{op: op, stream: "s", expected: expectAny}); err != nil {
			t.Fatal(err)
		}
		rest, err := received(call)
		if len(rest) == 0 || len(rest) >= many {
			t.Fatalf("%d messages and %v", len(rest), err)
		}
		notFound := rest[len(rest)-1].GetStreamNotFound() != nil
		if op == opDelete && (err != nil || !notFound) || op == opTombstone && status.Code(err) != codes.FailedPrecondition {
			t.Errorf("operation %v: %d messages, the last is StreamNotFound: %v, and %v", op, len(rest), notFound, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Foreign applications write beside the clients and never in streams of ours, end when
// nobody else writes, and do the same with the same seed.
func TestForeignApplications(t *testing.T) {
	const enough = 300 // to meet every kind
	names := func(seed uint64, namespaces []string) []string {
		n := openStrict(t, t.TempDir(), &Strict{Seed: seed, Foreign: 0.9, Offsets: true, NoIdentity: true, Namespaces: namespaces}, time.Now)
		var list []string
		for len(list) < enough {
			for range 20 { // each a commit that may be followed by others
				write(t, n.store, "ours", 1)
			}
			list = nil
			err := n.store.scan(1, n.store.synced(), forwards, func(rec record) (bool, error) {
				if string(rec.stream) != "ours" {
					list = append(list, string(rec.stream)+" "+string(rec.eventType))
				}
				return true, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return list[:enough]
	}
	first := names(1, nil)
	if diff := cmp.Diff(first, names(1, nil)); diff != "" {
		t.Errorf("the same seed writes something else:\n%s", diff)
	}
	met := map[string]bool{}
	for _, name := range first {
		stream, _, _ := strings.Cut(name, " ")
		if strings.HasPrefix(stream, "rapport.") || exactlyOurs(stream) {
			t.Errorf("a foreign application writes to %s", stream)
		}
		for _, kind := range []string{"rapportx.main.customer-", "other.main.customer-", "main.customer-", "$", "customer.registered", "$>"} {
			met[kind] = met[kind] || strings.Contains(name, kind)
		}
	}
	if len(met) != 6 {
		t.Errorf("of the kinds there are %v", met)
	}
	for _, name := range names(2, []string{"o", "main"}) {
		if strings.HasPrefix(name, "o") || strings.HasPrefix(name, "main") {
			t.Errorf("a foreign application writes to %s", name)
		}
	}
}

// exactlyOurs says whether a stream has the form of those of a log without a namespace.
func exactlyOurs(stream string) bool {
	rest, ok := strings.CutPrefix(stream, "main.")
	aggregate, id, dashed := strings.Cut(rest, "-")
	_, err := uuid.Parse(id)
	return ok && dashed && err == nil && aggregate != "" && strings.Trim(aggregate, "abcdefghijklmnopqrstuvwxyz") == ""
}

// A strict node can be stopped and opened again on its directory, with the same options,
// and by an ordinary node.
func TestStrictNodeIsOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	strict := &Strict{Seed: 1, Offsets: true, InvalidPositions: true, Late: time.Millisecond, Foreign: 0.5, Deletion: true, SparseCheckpoints: true}
	want := 0
	for _, manners := range []*Strict{strict, strict, nil, strict} {
		n := openStrict(t, dir, manners, time.Now)
		c := connect(t, n)
		if want > 0 {
			if list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything); err != nil || len(list) != want {
				t.Fatalf("%d events of %d, %v", len(list), want, err)
			}
		}
		for range 20 {
			mustAppend(t, c, "s", esdb.Any{}, events(1)...)
			want++
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if report, err := Verify(testContext(t), dir, nil); err != nil || report.Damaged != 0 {
			t.Fatalf("%+v, %v", report, err)
		}
	}
}
