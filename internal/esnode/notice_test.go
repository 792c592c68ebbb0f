package esnode

import (
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// rawSubscription is a subscription whose messages are seen as they come.
func rawSubscription(t testing.TB, n *Node, options *streams.ReadReq_Options) streams.Streams_ReadClient {
	t.Helper()
	options.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	call, err := streams.NewStreamsClient(dial(t, n)).Read(testContext(t), &streams.ReadReq{Options: options})
	if err != nil {
		t.Fatal(err)
	}
	if resp := receive(t, call); resp.GetConfirmation() == nil {
		t.Fatalf("the first message is %v", resp)
	}
	return call
}

func receive(t testing.TB, call streams.Streams_ReadClient) *streams.ReadResp {
	t.Helper()
	resp, err := call.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// noticed is what newer clients read in a notice; -1: the field is missing.
type noticed struct{ seconds, nanos, revision, position int64 }

// newFields reads the fields that the protocol files of our client do not know.
func newFields(t testing.TB, m protoreflect.ProtoMessage) noticed {
	t.Helper()
	got := noticed{-1, -1, -1, -1}
	var read func(message []byte, at map[protowire.Number]*int64, inner map[protowire.Number]map[protowire.Number]*int64)
	read = func(b []byte, at map[protowire.Number]*int64, inner map[protowire.Number]map[protowire.Number]*int64) {
		for len(b) > 0 {
			number, kind, size := protowire.ConsumeTag(b)
			b = b[max(size, 0):]
			switch kind {
			case protowire.VarintType:
				v, n := protowire.ConsumeVarint(b)
				if to := at[number]; to != nil {
					*to = int64(v)
				}
				size, b = n, b[max(n, 0):]
			case protowire.BytesType:
				v, n := protowire.ConsumeBytes(b)
				read(v, inner[number], nil)
				size, b = n, b[max(n, 0):]
			default:
				size = -1
			}
			if size < 0 {
				t.Fatalf("the notice cannot be read: %x", m.ProtoReflect().GetUnknown())
			}
		}
	}
	timestamp := map[protowire.Number]*int64{1: &got.seconds, 2: &got.nanos}
	inner := map[protowire.Number]map[protowire.Number]*int64{1: timestamp, 3: {1: &got.position, 2: &got.position}}
	if _, ok := m.(*streams.ReadResp_Checkpoint); ok {
		inner = map[protowire.Number]map[protowire.Number]*int64{3: timestamp}
	}
	read(m.ProtoReflect().GetUnknown(), map[protowire.Number]*int64{2: &got.revision}, inner)
	return got
}

func fromAll() *streams.ReadReq_Options {
	return &streams.ReadReq_Options{StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}},
	}}}
}

func fromStream(name string) *streams.ReadReq_Options {
	return &streams.ReadReq_Options{StreamOption: &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
		StreamIdentifier: identifierOf(name),
		RevisionOption:   &streams.ReadReq_Options_StreamOptions_Start{Start: &shared.Empty{}},
	}}}
}

// Reproduction: clients since KurrentDB 25.0 never saw that they had caught up, because
// they look for the time in the notice. It now says when it was sent and where the
// subscription stands.
func TestNoticesSayWhenAndWhere(t *testing.T) {
	moment := time.Date(2026, 3, 1, 9, 0, 0, 500, time.UTC)
	n := openNodeAt(t, t.TempDir(), func() time.Time { return moment })
	mustAppend(t, connect(t, n), "s", esdb.NoStream{}, events(3)...) // positions 2 to 4
	at := func(revision, position int64) noticed { return noticed{moment.Unix(), 500, revision, position} }
	filtered := fromAll()
	filtered.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_EventType{EventType: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: []string{"none"}}},
		Window: &streams.ReadReq_Options_FilterOptions_Max{Max: 2}, CheckpointIntervalMultiplier: 1,
	}}
	for name, tc := range map[string]struct {
		options *streams.ReadReq_Options
		want    noticed
	}{
		"$all":           {fromAll(), at(-1, 4)},
		"filtered":       {filtered, at(-1, 4)},
		"a stream":       {fromStream("s"), at(2, -1)},
		"an empty one":   {fromStream("none"), at(-1, 4)},
		"a metadata one": {fromStream("$$s"), at(-1, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			call := rawSubscription(t, n, tc.options)
			for {
				resp := receive(t, call)
				if checkpoint := resp.GetCheckpoint(); checkpoint != nil {
					if got := newFields(t, checkpoint); got.seconds != moment.Unix() || got.nanos != 500 {
						t.Errorf("checkpoint %+v", got)
					}
				}
				if resp.GetCaughtUp() == nil {
					continue
				}
				if got := newFields(t, resp.GetCaughtUp()); got != tc.want {
					t.Errorf("notice %+v, want %+v", got, tc.want)
				}
				return
			}
		})
	}
}

// Who resumes from where it fell behind misses nothing: the notice names the last event
// that was sent before it, not the last that was read.
func TestFallingBehindNamesTheLastEventSent(t *testing.T) {
	n, c := fresh(t)
	call := rawSubscription(t, n, fromAll())
	sent, behind := int64(0), false
	for appended := false; ; {
		resp := receive(t, call)
		switch {
		case resp.GetEvent() != nil:
			sent = int64(resp.GetEvent().GetCommitPosition())
		case resp.GetFellBehind() != nil:
			if got := newFields(t, resp.GetFellBehind()); got.position != sent {
				t.Errorf("fell behind at %d, the last event sent is %d", got.position, sent)
			}
			behind = true
		case resp.GetCaughtUp() != nil:
			if got := newFields(t, resp.GetCaughtUp()); got.position != sent {
				t.Errorf("caught up at %d, the last event sent is %d", got.position, sent)
			}
			if appended {
				if !behind {
					t.Error("it did not fall behind")
				}
				return
			}
			appended = true
			mustAppend(t, c, "s", esdb.NoStream{}, events(fellBehindEvents+2*pageMessages)...)
		}
	}
}
