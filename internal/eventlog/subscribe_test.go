package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
)

// follow subscribes and returns what arrives, in words, up to and with the one that says stop, or the error.
func follow(t *testing.T, log Log, after domain.Mark, stop string) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // far beyond what a sound subscription needs
	defer cancel()
	var got []string
	for m, err := range log.Subscribe(ctx, after) {
		switch {
		case err != nil:
			return got, err
		case m.Raw != nil:
			got = append(got, m.Raw.Position.String())
		case m.CaughtUp:
			got = append(got, "caught up")
		default:
			got = append(got, "checkpoint "+m.Checkpoint.String())
		}
		if got[len(got)-1] == stop {
			return got, nil
		}
	}
	return got, errors.New("ended without an error")
}

func from(o *streams.ReadReq_Options) string {
	switch all := o.GetAll(); {
	case all.GetStart() != nil:
		return "start"
	case all.GetEnd() != nil:
		return "end"
	default:
		return fmt.Sprint(all.GetPosition().GetCommitPosition())
	}
}

var errGone = status.Error(codes.Unavailable, "gone")

func TestSubscriptionResumesWithoutLossOrRepetition(t *testing.T) {
	var starts []string
	node := &script{subscribe: func(attempt int, o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		starts = append(starts, from(o))
		var err error
		switch attempt {
		case 1:
			err = send(s, happened(1), happened(2), checkpoint(5))
		case 2:
			err = send(s, happened(2), happened(6)) // one of them again
		case 3:
			err = send(s) // nothing at all
		default:
			return errors.Join(send(s, checkpoint(3), happened(8), caughtUp()), hang(s))
		}
		return errors.Join(err, errGone)
	}}
	got, err := follow(t, dial(t, node.start(t), withTiming(patient)), domain.Mark{}, "caught up")
	want := []string{"1", "2", "checkpoint 5", "6", "8", "caught up"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if want := []string{"start", "2", "6", "6"}; !slices.Equal(starts, want) {
		t.Errorf("subscribed from %v, want %v", starts, want)
	}
}

// What was searched without finding anything of ours is searched again after an interruption. An event that stands there now
// was not there before: an older copy of the log has grown in its own way.
func TestEventWhereNoneStoodBeforeIsAnotherHistory(t *testing.T) {
	node := &script{subscribe: func(attempt int, _ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		if attempt == 1 {
			return errors.Join(send(s, happened(2), checkpoint(5)), errGone)
		}
		return errors.Join(send(s, happened(4)), hang(s))
	}}
	got, err := follow(t, dial(t, node.start(t), withTiming(patient)), domain.Mark{}, "4")
	if want := []string{"2", "checkpoint 5"}; !errors.Is(err, ErrOtherLog) || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestSubscriptionAsksForOurStreamsAlone(t *testing.T) {
	node := &script{subscribe: func(_ int, o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		filter := o.GetFilter()
		if !slices.Equal(filter.GetStreamIdentifier().GetPrefix(), []string{"rapport."}) || filter.GetMax() != searchWindow || filter.GetCheckpointIntervalMultiplier() != checkpointInterval {
			t.Errorf("filter %v", filter)
		}
		return errors.Join(send(s, event("rapport.main.test-1", "$metadata", 0, 1, nil), event("rapport2.main.test-1", "test.happened", 0, 2, nil), happened(3)), hang(s))
	}}
	got, err := follow(t, dial(t, node.start(t)), domain.Mark{}, "3")
	if err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

// P6 of docs/faults.md.
func TestSilentSubscriptionIsReplacedWhenTheLogMovedOn(t *testing.T) {
	for name, node := range map[string]*script{
		"silent":        {subscribe: silentOnce},
		"not confirmed": {subscribe: silentOnce, mute: 1},
	} {
		t.Run(name, func(t *testing.T) {
			node.read = func(_ *streams.ReadReq_Options, s streams.Streams_ReadServer) error { return s.Send(happened(9)) }
			got, err := follow(t, dial(t, node.start(t), withTiming(watching)), after(3), "9")
			if err != nil || !slices.Equal(got, []string{"9"}) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func silentOnce(attempt int, _ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
	if attempt == 1 {
		return hang(s)
	}
	return errors.Join(send(s, happened(9)), hang(s))
}

// P6 of docs/faults.md.
func TestQuietLogIsLeftAlone(t *testing.T) {
	var probes atomic.Int32
	enough := make(chan struct{})
	node := &script{
		read: func(_ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
			if probes.Add(1) == 5 {
				close(enough)
			}
			return s.Send(happened(3))
		},
		subscribe: func(attempt int, _ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
			if attempt != 1 {
				t.Errorf("subscribed again")
			}
			<-enough
			return errors.Join(send(s, happened(9)), hang(s))
		},
	}
	got, err := follow(t, dial(t, node.start(t), withTiming(watching)), after(3), "9")
	if err != nil || !slices.Equal(got, []string{"9"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestEventsOutOfOrderStopTheSubscription(t *testing.T) {
	node := &script{subscribe: func(_ int, _ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		return errors.Join(send(s, happened(5), happened(7), happened(6)), hang(s))
	}}
	got, err := follow(t, dial(t, node.start(t)), domain.Mark{}, "6")
	if !errors.Is(err, domain.ErrCorrupt) || !slices.Equal(got, []string{"5", "7"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// S13 of docs/faults.md.
func TestSubscriptionDoesNotGoOnInAnotherLog(t *testing.T) {
	ids := make(chan string, 2)
	ids <- scriptedLog
	ids <- "8a1b2f60-6c1c-4f0e-9f3e-4b1f0d9f7c11"
	node := &script{
		logID: func() string { return <-ids },
		subscribe: func(_ int, _ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
			return errors.Join(send(s, happened(5)), errGone)
		},
	}
	got, err := follow(t, dial(t, node.start(t), withTiming(patient)), domain.Mark{}, "6")
	if !errors.Is(err, ErrOtherLog) || !slices.Equal(got, []string{"5"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSubscriptionEndsWhereItIsNotAllowed(t *testing.T) {
	for _, refusal := range []codes.Code{codes.PermissionDenied, codes.Unauthenticated} {
		node := &script{subscribe: func(int, *streams.ReadReq_Options, streams.Streams_ReadServer) error {
			return status.Error(refusal, "no")
		}}
		if got, err := follow(t, dial(t, node.start(t)), domain.Mark{}, ""); status.Code(err) != refusal || len(got) != 0 {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

func TestFallingBehindIsNoNews(t *testing.T) {
	node := &script{subscribe: func(_ int, _ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		behind := &streams.ReadResp{Content: &streams.ReadResp_FellBehind_{FellBehind: &streams.ReadResp_FellBehind{}}}
		unknown := &streams.ReadResp{Content: &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: 1}}
		return errors.Join(send(s, happened(1), behind, unknown, happened(2)), hang(s))
	}}
	got, err := follow(t, dial(t, node.start(t)), domain.Mark{}, "2")
	if err != nil || !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("got %v, %v", got, err)
	}
}
