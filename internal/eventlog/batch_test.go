package eventlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/rapport-crm/rapport/domain"
)

// The embedded node takes BatchAppend, so that the other tests go that way. What they say of appends is true of the client's
// as well.
func TestAppendsThroughTheClient(t *testing.T) {
	way = []Option{WithoutBatchAppend()}
	defer func() { way = nil }()
	for name, test := range map[string]func(*testing.T){
		"read back":  TestAppendedEventsReadBack,
		"conflict":   TestConflictNamesWhereTheStreamStands,
		"one wins":   TestOneOfManyWritersWins,
		"repeated":   TestRepeatedAppendGivesTheSameAnswer,
		"refused":    TestRefusedAppendsWriteNothing,
		"largest":    TestLargestAppendIsAccepted,
		"mismatch":   TestSameIDsWithOtherContentAreAMismatch,
		"deleted":    TestDeletedStreamIsToldThroughWrappedErrors,
		"down":       TestNodeThatIsDownIsUnavailableAndComesBack,
		"closed":     TestClosedLogAnswersUnavailable,
		"cut":        TestCutConnectionsLoseAndRepeatNothing,
		"node stops": TestSubscriptionOutlivesTheNode,
	} {
		t.Run(name, test)
	}
}

func TestBatchAppendIsForTheNodeBeside(t *testing.T) {
	for given, want := range map[string]bool{
		"esdb://127.0.0.1:2113?tls=false":                true,
		"esdb://127.0.0.1:2113":                          false,
		"esdb://admin:changeit@127.0.0.1:2113?tls=false": false,
		"esdb+discover://localhost:2113?tls=false":       false,
		"esdb://127.0.0.1:2113,127.0.0.1:2114?tls=false": false,
	} {
		config, err := esdb.ParseConnectionString(given)
		if err != nil {
			t.Fatalf("%s: %v", given, err)
		}
		if got := beside(config); got != want {
			t.Errorf("%s: %v, want %v", given, got, want)
		}
	}
}

// committedAt answers an append with success.
func committedAt(revision, position uint64) []*streams.BatchAppendResp {
	return []*streams.BatchAppendResp{{Result: &streams.BatchAppendResp_Success_{Success: &streams.BatchAppendResp_Success{
		CurrentRevisionOption: &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: revision},
		PositionOption:        &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{CommitPosition: position, PreparePosition: position}},
	}}}}
}

// refusal answers an append with an error.
// refusal is an answer with an error of any code, also of none.
func refusal(t *testing.T, code codes.Code, details ...proto.Message) []*streams.BatchAppendResp {
	t.Helper()
	answer := status.New(code, "no").Proto()
	for _, d := range details {
		packed, err := anypb.New(d)
		if err != nil {
			t.Fatal(err)
		}
		answer.Details = append(answer.Details, packed)
	}
	return []*streams.BatchAppendResp{{Result: &streams.BatchAppendResp_Error{Error: answer}}}
}

func succeeded(s *streams.BatchAppendResp_Success) []*streams.BatchAppendResp {
	return []*streams.BatchAppendResp{{Result: &streams.BatchAppendResp_Success_{Success: s}}}
}

func TestBatchedAppendSaysAllThatItMeans(t *testing.T) {
	var seen []string
	node := &script{batch: func(r *streams.BatchAppendReq) ([]*streams.BatchAppendResp, error) {
		o := r.GetOptions()
		seen = append(seen, fmt.Sprintf("%T", o.GetExpectedStreamPosition()))
		if name := string(o.GetStreamIdentifier().GetStreamName()); name != scripted.prefix+"main.test-1" {
			t.Errorf("stream %q", name)
		}
		if limit := o.GetDeadline().AsDuration(); limit != appendDeadline {
			t.Errorf("deadline %s", limit)
		}
		e := r.GetProposedMessages()[1]
		if e.GetMetadata()["type"] != "test.happened" || e.GetMetadata()["content-type"] != "application/json" ||
			string(e.GetData()) != `{"n":1}` || string(e.GetCustomMetadata()) != `{"m":1}` || uuid.Validate(e.GetId().GetString_()) != nil {
			t.Errorf("event %v", e)
		}
		if !r.GetIsFinal() {
			t.Error("more is to come")
		}
		return committedAt(2*uint64(len(seen))-1, 9), nil
	}}
	log := dial(t, node.start(t))
	commit(t, log, "main.test-1", domain.Expected{}, newEvents(2)...)
	commit(t, log, "main.test-1", domain.AtRevision(1), newEvents(2)...)
	want := []string{"*streams.BatchAppendReq_Options_NoStream", "*streams.BatchAppendReq_Options_StreamPosition"}
	if !slices.Equal(seen, want) {
		t.Errorf("sent %v, want %v", seen, want)
	}
}

func TestOutcomesOfBatchedAppends(t *testing.T) {
	stands := func(revision uint64) *shared.WrongExpectedVersion {
		return &shared.WrongExpectedVersion{CurrentStreamRevisionOption: &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: revision}}
	}
	meaningless := []string{"no revision", "an empty stream", "a nil success", "neither", "not ready, no code", "no code, no detail", "an empty error"}
	none := &shared.WrongExpectedVersion{CurrentStreamRevisionOption: &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}}
	for name, c := range map[string]struct {
		answer []*streams.BatchAppendResp
		err    error // ends the call; io.EOF without a complaint
		want   string
	}{
		"committed":             {answer: committedAt(0, 9), want: "domain.Committed"},
		"another revision":      {answer: committedAt(5, 9), want: "domain.Unknown"},
		"no revision":           {answer: succeeded(&streams.BatchAppendResp_Success{}), want: "domain.Unknown"},
		"an empty stream":       {answer: succeeded(&streams.BatchAppendResp_Success{CurrentRevisionOption: &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}}}), want: "domain.Unknown"},
		"a nil success":         {answer: []*streams.BatchAppendResp{{Result: &streams.BatchAppendResp_Success_{}}}, want: "domain.Unknown"},
		"neither":               {answer: []*streams.BatchAppendResp{{}}, want: "domain.Unknown"},
		"conflict":              {answer: refusal(t, codes.AlreadyExists, stands(7)), want: "domain.Conflict revision 7"},
		"conflict without code": {answer: refusal(t, codes.OK, stands(7)), want: "domain.Conflict revision 7"},
		"conflict, no stream":   {answer: refusal(t, codes.AlreadyExists, none), want: "domain.Conflict no stream"},
		"conflict, not where":   {answer: refusal(t, codes.AlreadyExists, &shared.WrongExpectedVersion{}), want: "domain.Unknown"}, // the tail cannot be read
		"deleted":               {answer: refusal(t, codes.NotFound, &shared.StreamDeleted{}), want: "domain.Refused"},
		"access denied":         {answer: refusal(t, codes.PermissionDenied, &shared.AccessDenied{}), want: "domain.Refused"},
		"bad request":           {answer: refusal(t, codes.InvalidArgument, &shared.BadRequest{Message: "no"}), want: "domain.Refused"},
		"too large":             {answer: refusal(t, codes.InvalidArgument, &shared.MaximumAppendSizeExceeded{}), want: "domain.Refused"},
		"timed out":             {answer: refusal(t, codes.DeadlineExceeded, &shared.Timeout{}), want: "domain.Unknown"},
		"unknown to the node":   {answer: refusal(t, codes.Unknown, &shared.Unknown{}), want: "domain.Unknown"},
		"busy":                  {answer: refusal(t, codes.ResourceExhausted, &emptypb.Empty{}), want: "domain.Unknown"},
		"not ready, no code":    {answer: refusal(t, codes.OK, &emptypb.Empty{}), want: "domain.Unknown"},
		"no code, no detail":    {answer: refusal(t, codes.OK), want: "domain.Unknown"},
		"an empty error":        {answer: []*streams.BatchAppendResp{{Result: &streams.BatchAppendResp_Error{}}}, want: "domain.Unknown"},
		"no detail":             {answer: refusal(t, codes.Internal), want: "domain.Unknown"},
		"a code without detail": {answer: refusal(t, codes.PermissionDenied), want: "domain.Unknown"},
		"call: gone":            {err: status.Error(codes.Unavailable, "bye"), want: "domain.Unknown"},
		"call: denied":          {err: status.Error(codes.PermissionDenied, "no"), want: "domain.Unknown"},
		"call: another's fault": {err: status.Error(codes.ResourceExhausted, "larger than max"), want: "domain.Unknown"},
		"call: ended":           {err: io.EOF, want: "domain.Unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			node := &script{
				batch: func(*streams.BatchAppendReq) ([]*streams.BatchAppendResp, error) { return c.answer, c.err },
				read: func(*streams.ReadReq_Options, streams.Streams_ReadServer) error {
					return status.Error(codes.Internal, "no")
				},
			}
			outcome := dial(t, node.start(t)).Append(t.Context(), "main.test-1", domain.NoStream, newEvents(1))
			got := fmt.Sprintf("%T", outcome)
			switch o := outcome.(type) {
			case domain.Conflict:
				got += " " + o.Actual.String()
			case domain.Unknown:
				var unavailable *domain.UnavailableError
				if name != "another revision" && !errors.As(o.Err, &unavailable) {
					t.Errorf("error %v", o.Err)
				}
				if slices.Contains(meaningless, name) && !errors.Is(o.Err, errNotASuccess) {
					t.Errorf("it was taken for a success, which nothing but a look at the stream has found out: %v", o.Err)
				}
			case domain.Refused:
				if name == "deleted" && !errors.Is(o.Err, ErrStreamDeleted) {
					t.Errorf("error %v", o.Err)
				}
			}
			if got != c.want {
				t.Errorf("got %s %+v, want %s", got, outcome, c.want)
			}
		})
	}
}

// Answers come in any order, and in another form of the name than was sent.
func TestAnswersFindTheirAppends(t *testing.T) {
	const appends = 8
	var held []*streams.BatchAppendResp
	node := &script{batch: func(r *streams.BatchAppendReq) ([]*streams.BatchAppendResp, error) {
		answer := committedAt(r.GetOptions().GetStreamPosition()+1, 9)[0]
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[8:], uint64(r.GetCorrelationId().GetStructured().GetLeastSignificantBits()))
		answer.CorrelationId = &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}}
		if held = append(held, answer); len(held) < appends {
			return nil, nil
		}
		slices.Reverse(held)
		return held, nil
	}}
	log := dial(t, node.start(t))
	outcomes := make(chan error, appends)
	for i := range appends {
		go func() {
			stream, expected := fmt.Sprintf("main.test-%d", i), domain.AtRevision(uint64(i))
			done, ok := log.Append(context.WithoutCancel(t.Context()), stream, expected, newEvents(1)).(domain.Committed)
			if !ok || done.Revision != uint64(i)+1 {
				outcomes <- fmt.Errorf("append %d: %+v", i, done)
				return
			}
			outcomes <- nil
		}()
	}
	for range appends {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
}

// A call that ends leaves what became of its appends unknown; the next append begins another.
func TestBrokenCallIsReplaced(t *testing.T) {
	broken := false
	node := &script{batch: func(*streams.BatchAppendReq) ([]*streams.BatchAppendResp, error) {
		if !broken {
			broken = true
			return nil, status.Error(codes.Unavailable, "bye")
		}
		return committedAt(0, 9), nil
	}}
	log := dial(t, node.start(t))
	if outcome, ok := log.Append(t.Context(), "main.test-1", domain.NoStream, newEvents(1)).(domain.Unknown); !ok {
		t.Errorf("got %+v", outcome)
	}
	commit(t, log, "main.test-1", domain.NoStream, newEvents(1)...)
	if n := node.calls(); n != 2 {
		t.Errorf("%d calls", n)
	}
}

func TestSilentCallIsReplaced(t *testing.T) {
	const silent = "main.test-silent"
	node := &script{batch: func(r *streams.BatchAppendReq) ([]*streams.BatchAppendResp, error) {
		if string(r.GetOptions().GetStreamIdentifier().GetStreamName()) == scripted.prefix+silent {
			return nil, nil
		}
		return committedAt(0, 9), nil
	}}
	log := dial(t, node.start(t), withTiming(patient))
	commit(t, log, "main.test-1", domain.NoStream, newEvents(1)...) // over the call that falls silent
	log.timing.append = impatient.append
	var unavailable *domain.UnavailableError
	outcome := log.Append(t.Context(), silent, domain.NoStream, newEvents(1))
	if unknown, ok := outcome.(domain.Unknown); !ok || !errors.As(unknown.Err, &unavailable) {
		t.Errorf("got %T %+v", outcome, outcome)
	}
	log.timing.append = patient.append
	commit(t, log, "main.test-2", domain.NoStream, newEvents(1)...)
	if n := node.calls(); n != 2 {
		t.Errorf("%d calls", n)
	}
}

// Whoever gives an append up leaves the call to the others.
func TestAbandonedAppendHarmsNoOther(t *testing.T) {
	arrived := make(chan struct{})
	node := &script{batch: func(r *streams.BatchAppendReq) ([]*streams.BatchAppendResp, error) {
		if string(r.GetOptions().GetStreamIdentifier().GetStreamName()) == scripted.prefix+"main.test-1" {
			close(arrived)
			return nil, nil
		}
		return committedAt(0, 9), nil
	}}
	log := dial(t, node.start(t))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	outcome := log.Append(ctx, "main.test-1", domain.NoStream, newEvents(1))
	if unknown, ok := outcome.(domain.Unknown); !ok || !errors.Is(unknown.Err, context.Canceled) {
		t.Errorf("got %T %+v", outcome, outcome)
	}
	commit(t, log, "main.test-2", domain.NoStream, newEvents(1)...)
	if n := node.calls(); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestCloseEndsAppends(t *testing.T) {
	arrived := make(chan struct{})
	node := &script{batch: func(*streams.BatchAppendReq) ([]*streams.BatchAppendResp, error) {
		close(arrived)
		return nil, nil
	}}
	log := dial(t, node.start(t))
	closed := make(chan error)
	go func() {
		<-arrived
		closed <- log.Close()
	}()
	outcome := log.Append(t.Context(), "main.test-1", domain.NoStream, newEvents(1))
	if unknown, ok := outcome.(domain.Unknown); !ok || !errors.Is(unknown.Err, ErrClosed) {
		t.Errorf("got %T %+v", outcome, outcome)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestNodeWithoutBatchAppendIsAskedOnce(t *testing.T) {
	revision := uint64(0)
	node := &script{append: func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
		revision++
		return success(revision-1, &streams.AppendResp_Position{CommitPosition: 9 * revision, PreparePosition: 9 * revision}), nil
	}}
	log := dial(t, node.start(t), withTiming(patient))
	expected := domain.NoStream
	for range 3 {
		expected = domain.AtRevision(commit(t, log, "main.test-1", expected, newEvents(1)...).Revision)
	}
	if n := node.calls(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
