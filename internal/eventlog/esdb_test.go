package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/porttest"
)

// These tests pin one trap of the client each.

func success(revision uint64, position *streams.AppendResp_Position) *streams.AppendResp {
	s := &streams.AppendResp_Success{CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: revision}}
	if position != nil {
		s.PositionOption = &streams.AppendResp_Success_Position{Position: position}
	} else {
		s.PositionOption = &streams.AppendResp_Success_NoPosition{NoPosition: &shared.Empty{}}
	}
	return &streams.AppendResp{Result: &streams.AppendResp_Success_{Success: s}}
}

func TestExpectedRevisionIsNeverAny(t *testing.T) {
	var seen []string
	node := &script{append: func(o *streams.AppendReq_Options, events []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
		seen = append(seen, fmt.Sprintf("%T", o.GetExpectedStreamRevision()))
		if got := events[0].GetMetadata()["content-type"]; got != "application/json" {
			t.Errorf("content type %q", got)
		}
		return success(o.GetRevision()+uint64(len(seen)-1), &streams.AppendResp_Position{CommitPosition: 9, PreparePosition: 9}), nil
	}}
	log := dial(t, node.start(t))
	commit(t, log, "main.test-1", domain.Expected{}, newEvents(1)...)
	commit(t, log, "main.test-1", domain.AtRevision(0), newEvents(1)...)
	want := []string{"*streams.AppendReq_Options_NoStream", "*streams.AppendReq_Options_Revision"}
	if !slices.Equal(seen, want) {
		t.Errorf("sent %v, want %v", seen, want)
	}
}

// S10b: a node may answer a repeated append without a position, which the client turns into 0; the receipt has it all the same.
func TestMissingPositionIsLookedUp(t *testing.T) {
	var sent []*streams.AppendReq_ProposedMessage
	node := &script{
		append: func(_ *streams.AppendReq_Options, events []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
			sent = events
			return success(1, nil), nil
		},
		read: func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
			for i, e := range sent {
				stored := event("rapport.main.test-1", "test.happened", uint64(i), 76+uint64(i), e.GetData())
				recorded := stored.GetEvent().GetEvent()
				recorded.Id, recorded.CustomMetadata = e.GetId(), e.GetCustomMetadata()
				if err := s.Send(stored); err != nil {
					return err
				}
			}
			return nil
		},
	}
	got := commit(t, dial(t, node.start(t)), "main.test-1", domain.NoStream, newEvents(2)...)
	if want := (domain.Committed{Revision: 1, Position: at(77)}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The client makes a success of an answer that holds none: revision 1, and no position. Only what can be seen to stand
// there is a success then.
func TestSuccessWithoutAPositionCountsWhenItStandsThere(t *testing.T) {
	missing := func(*streams.ReadReq_Options, streams.Streams_ReadServer) error { return nil }
	broken := func(*streams.ReadReq_Options, streams.Streams_ReadServer) error {
		return status.Error(codes.Internal, "no")
	}
	for name, c := range map[string]struct {
		answer *streams.AppendResp
		read   func(*streams.ReadReq_Options, streams.Streams_ReadServer) error
		want   domain.Outcome
	}{
		"no position, not there":        {success(1, nil), missing, domain.Unknown{}},
		"no position, cannot be read":   {success(1, nil), broken, domain.Unknown{}},
		"no result, not there":          {&streams.AppendResp{}, missing, domain.Unknown{}},
		"no result, cannot be read":     {&streams.AppendResp{}, broken, domain.Unknown{}},
		"empty success":                 {&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{}}}, missing, domain.Unknown{}},
		"whole success, not there":      {success(1, &streams.AppendResp_Position{CommitPosition: 9, PreparePosition: 9}), missing, domain.Unknown{}},
		"whole success, cannot be read": {success(1, &streams.AppendResp_Position{CommitPosition: 9, PreparePosition: 9}), broken, domain.Committed{Revision: 1, Position: at(9)}},
	} {
		t.Run(name, func(t *testing.T) {
			node := &script{
				append: func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
					return c.answer, nil
				},
				read: c.read,
			}
			got := dial(t, node.start(t)).Append(t.Context(), "main.test-1", domain.NoStream, newEvents(2))
			if _, unknown := got.(domain.Unknown); unknown {
				got = domain.Unknown{}
			}
			if got != c.want {
				t.Errorf("got %T %+v, want %T %+v", got, got, c.want, c.want)
			}
		})
	}
}

func TestPositionOfOlderServersIsNone(t *testing.T) {
	end := ^uint64(0) // what they say of events read from a stream
	if got := positionOf(esdb.Position{Commit: end, Prepare: end}); !got.IsZero() {
		t.Errorf("got %s", got)
	}
}

func TestReproMalformedConnectionStringIsNotRepeated(t *testing.T) {
	_, err := Dial(t.Context(), "esdb://admin:hidden@host:%zz?tls=false")
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestOutcomesOfFailedAppends(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"unavailable":       {status.Error(codes.Unavailable, "not ready"), "domain.Unknown"},
		"internal":          {status.Error(codes.Internal, "?"), "domain.Unknown"},
		"aborted":           {status.Error(codes.Aborted, "?"), "domain.Unknown"},
		"server timed out":  {status.Error(codes.DeadlineExceeded, "commit timeout"), "domain.Unknown"},
		"unknown":           {errors.New("?"), "domain.Unknown"},
		"invalid":           {status.Error(codes.InvalidArgument, "Maximum Append Size of 1 Exceeded."), "domain.Refused"},
		"message too large": {status.Error(codes.ResourceExhausted, "larger than max"), "domain.Refused"},
		"access denied":     {status.Error(codes.PermissionDenied, "no"), "domain.Refused"},
		"unauthenticated":   {status.Error(codes.Unauthenticated, "no"), "domain.Refused"},
	} {
		t.Run(name, func(t *testing.T) {
			node := &script{append: func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
				return nil, c.err
			}}
			outcome := dial(t, node.start(t)).Append(t.Context(), "main.test-1", domain.NoStream, newEvents(1))
			if got := fmt.Sprintf("%T", outcome); got != c.want {
				t.Fatalf("got %s %+v, want %s", got, outcome, c.want)
			}
			if unknown, ok := outcome.(domain.Unknown); ok {
				var unavailable *domain.UnavailableError
				if !errors.As(unknown.Err, &unavailable) || unavailable.What != "event log" {
					t.Errorf("error %v", unknown.Err)
				}
			}
		})
	}
}

func TestWrongRevisionInTheAnswerIsUnknown(t *testing.T) {
	node := &script{append: func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
		return success(5, &streams.AppendResp_Position{CommitPosition: 9, PreparePosition: 9}), nil
	}}
	outcome := dial(t, node.start(t)).Append(t.Context(), "main.test-1", domain.NoStream, newEvents(1))
	if _, ok := outcome.(domain.Unknown); !ok {
		t.Errorf("got %T %+v", outcome, outcome)
	}
}

func TestAppendThatIsNotAnsweredIsUnknown(t *testing.T) {
	release := make(chan struct{})
	node := &script{append: func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
		<-release
		return nil, errors.New("too late")
	}}
	log := dial(t, node.start(t), withTiming(impatient))
	defer close(release)
	outcome := log.Append(t.Context(), "main.test-1", domain.NoStream, newEvents(1))
	var unavailable *domain.UnavailableError
	if unknown, ok := outcome.(domain.Unknown); !ok || !errors.As(unknown.Err, &unavailable) {
		t.Errorf("got %T %+v", outcome, outcome)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	outcome = log.Append(ctx, "main.test-1", domain.NoStream, newEvents(1))
	if unknown, ok := outcome.(domain.Unknown); !ok || !errors.Is(unknown.Err, context.Canceled) {
		t.Errorf("cancelled: got %T %+v", outcome, outcome)
	}
}

func TestReadThatIsNotAnsweredFails(t *testing.T) {
	node := &script{read: func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		if o.GetCount() > 1 {
			if err := s.Send(happened(1)); err != nil {
				return err
			}
		}
		return hang(s)
	}}
	log := dial(t, node.start(t), withTiming(impatient))
	var unavailable *domain.UnavailableError
	for raw, err := range log.ReadStream(t.Context(), "main.test-1", 0) {
		if !errors.As(err, &unavailable) {
			t.Errorf("stream: got %+v, %v", raw, err)
		}
	}
	if _, err := log.Head(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("head: %v", err)
	}
}

func TestHistoryCutShortIsAnErrorNotAnEnd(t *testing.T) {
	node := &script{read: func(_ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		return errors.Join(s.Send(happened(0)), status.Error(codes.Aborted, "shutting down"))
	}}
	var got []error
	for _, err := range dial(t, node.start(t)).ReadStream(t.Context(), "main.test-1", 0) {
		got = append(got, err)
	}
	if len(got) != 1 || got[0] == nil {
		t.Errorf("got %v, want one error and no event", got)
	}
}

// A stream that is deleted while it is read ends with an error, within a page or between two: a short history makes a wrong
// decision.
func TestStreamDeletedWhileItIsReadIsAnError(t *testing.T) {
	for name, events := range map[string]uint64{"within a page": 3, "between pages": pageEvents} {
		t.Run(name, func(t *testing.T) {
			node := &script{read: func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
				if from := o.GetStream().GetRevision(); from > 0 {
					return s.Send(notFound("rapport.main.test-1"))
				}
				for i := range events {
					if err := s.Send(happened(i)); err != nil {
						return err
					}
				}
				if events < pageEvents {
					return s.Send(notFound("rapport.main.test-1"))
				}
				return nil
			}}
			var last error
			for _, err := range dial(t, node.start(t)).ReadStream(t.Context(), "main.test-1", 0) {
				last = err
			}
			if !errors.Is(last, errDeletedMeanwhile) {
				t.Errorf("ended with %v", last)
			}
		})
	}
}

func TestMessagesThatAReadDoesNotKnowArePassedOver(t *testing.T) {
	node := &script{read: func(_ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		return send(s, happened(0), caughtUp(), happened(1))
	}}
	if got := all(t, dial(t, node.start(t)).ReadStream(t.Context(), "main.test-1", 0)); len(got) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestDeletedStreamIsToldThroughWrappedErrors(t *testing.T) {
	at := address(t)
	log, stream := dial(t, at), newStream()
	commit(t, log, stream, domain.NoStream, newEvents(1)...)
	config, err := esdb.ParseConnectionString(at)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for done := false; !done; { // a strict node is busy at times, and has then not done it
		_, err := client.TombstoneStream(t.Context(), scripted.prefix+stream, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(0)})
		if done = err == nil; !done && (!nodetest.Strict() || t.Context().Err() != nil) {
			t.Fatal(err)
		}
	}
	for _, err := range log.ReadStream(t.Context(), stream, 0) {
		if !errors.Is(err, ErrStreamDeleted) {
			t.Errorf("read: %v", err)
		}
	}
	for _, expected := range []domain.Expected{domain.NoStream, domain.AtRevision(0)} {
		outcome := settle(t, log, stream, expected, newEvents(1))
		if refused, ok := outcome.(domain.Refused); !ok || !errors.Is(refused.Err, ErrStreamDeleted) {
			t.Errorf("append at %s: %T %+v", expected, outcome, outcome)
		}
	}
}

func TestCodesAreFoundThroughWrapping(t *testing.T) {
	inner := fmt.Errorf("failed to construct subscription. Reason: %w", status.Error(codes.Unavailable, "gone"))
	if !lostConnection(inner) || lostConnection(nil) || lostConnection(errors.New("x")) {
		t.Error("a lost connection is not told from others")
	}
}

func TestNodeThatIsDownIsUnavailableAndComesBack(t *testing.T) {
	where := porttest.Address(t)
	log := dial(t, "esdb://"+where+"?tls=false")
	var unavailable *domain.UnavailableError
	for range 3 { // a client whose discovery failed would answer "connection closed" for ever
		outcome := log.Append(t.Context(), "main.test-1", domain.NoStream, newEvents(1))
		if unknown, ok := outcome.(domain.Unknown); !ok || !errors.As(unknown.Err, &unavailable) {
			t.Fatalf("got %T %+v", outcome, outcome)
		}
	}
	if _, err := log.Head(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("head: %v", err)
	}
	nodetest.Open(t, esnode.Options{Dir: t.TempDir(), Listen: where})
	commit(t, log, "main.test-1", domain.NoStream, newEvents(1)...)
}

func TestClosedLogAnswersUnavailable(t *testing.T) {
	log := dial(t, address(t))
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Head(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("head: %v", err)
	}
	outcome := log.Append(t.Context(), "main.test-1", domain.NoStream, newEvents(1))
	if unknown, ok := outcome.(domain.Unknown); !ok || !errors.Is(unknown.Err, ErrClosed) {
		t.Errorf("append: %T %+v", outcome, outcome)
	}
	for _, err := range log.Subscribe(t.Context(), domain.Mark{}) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("subscribe: %v", err)
		}
	}
}

func TestCloseEndsSubscriptions(t *testing.T) {
	log := dial(t, address(t))
	for m, err := range log.Subscribe(t.Context(), domain.Mark{}) {
		if m.CaughtUp {
			go log.Close()
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestDialRefuses(t *testing.T) {
	for given, want := range map[string]string{
		"":                                    "scheme",
		"http://127.0.0.1:2113":               "scheme",
		"esdb://":                             "host",
		"esdb://127.0.0.1:x":                  "port",
		"esdb://127.0.0.1:1?tsl=false":        `unknown setting "tsl"`,
		"esdb://127.0.0.1:1?tls=maybe":        "tls",
		"esdb://127.0.0.1:1?userCertFile=/x":  "userKeyFile",
		"esdb://127.0.0.1:1?tls=false&tls=%z": "escape",
	} {
		log, err := Dial(t.Context(), given)
		if err == nil {
			log.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", given, err, want)
		}
	}
}

func TestDiscoveryIsBounded(t *testing.T) {
	log := dial(t, "esdb+discover://localhost:1?tls=false&maxDiscoverAttempts=1000000&gossipTimeout=1000")
	if log.config.MaxDiscoverAttempts != maxDiscoverAttempts || log.config.GossipTimeout != maxGossipTimeout {
		t.Errorf("%d attempts of %d s", log.config.MaxDiscoverAttempts, log.config.GossipTimeout)
	}
}

func TestIdentityThatIsDamagedIsCorrupt(t *testing.T) {
	node := &script{logID: func() string { return "not a uuid" }}
	if _, err := dial(t, node.start(t)).ID(t.Context()); !errors.Is(err, domain.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestReadPayloadsDoNotShareMemory(t *testing.T) {
	log, stream := dial(t, address(t)), newStream()
	events := newEvents(300)
	for i := range events {
		events[i].Data = fmt.Appendf(nil, `{"id":%q}`, events[i].ID)
	}
	commit(t, log, stream, domain.NoStream, events...)
	got := all(t, log.ReadStream(t.Context(), stream, 0))
	for i, raw := range got {
		if want := fmt.Sprintf(`{"id":%q}`, raw.ID); string(raw.Data) != want {
			t.Fatalf("event %d holds %s, want %s", i, raw.Data, want)
		}
	}
}

func TestIdentityIsCreatedWhereTheNodeHasNone(t *testing.T) {
	var stored atomic.Value
	stored.Store("")
	node := &script{
		logID: func() string { return stored.Load().(string) },
		append: func(o *streams.AppendReq_Options, events []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
			var i Identity
			if err := json.Unmarshal(events[0].GetData(), &i); err != nil {
				return nil, err
			}
			if name := string(o.GetStreamIdentifier().GetStreamName()); name != scripted.identity || o.GetNoStream() == nil || !stored.CompareAndSwap("", i.ID) {
				return nil, fmt.Errorf("appended to %s again", name)
			}
			return success(0, &streams.AppendResp_Position{CommitPosition: 1, PreparePosition: 1}), nil
		},
	}
	log := dial(t, node.start(t))
	for range 2 {
		id, err := log.ID(t.Context())
		if err != nil || id == "" || id != stored.Load() {
			t.Errorf("got %q, %v, stored is %q", id, err, stored.Load())
		}
	}
}

// TestPagesEndByBytesAndStillMoveOn: a page that begins with the last event of the one before must hold another one.
func TestPagesEndByBytesAndStillMoveOn(t *testing.T) {
	huge := make([]byte, pageBytes+1)
	var requests atomic.Int32
	node := &script{read: func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		requests.Add(1)
		for position := max(1, o.GetAll().GetPosition().GetCommitPosition()); position <= 5; position++ {
			if err := s.Send(event("rapport.main.test-1", "test.happened", position, position, huge)); err != nil {
				return err
			}
		}
		return nil
	}}
	var got []uint64
	for raw, err := range dial(t, node.start(t)).ReadAll(t.Context(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, raw.Position.Commit)
	}
	if want := []uint64{1, 2, 3, 4, 5}; !slices.Equal(got, want) || requests.Load() < 3 {
		t.Errorf("got %v in %d requests", got, requests.Load())
	}
}
