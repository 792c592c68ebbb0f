package esnode

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAppendedEventIsReadBackWhole(t *testing.T) {
	_, c := fresh(t)
	written := event("customer.registered", `{"name":"Ada"}`)
	before := time.Now().Add(-time.Second)
	result := mustAppend(t, c, "main.customer-1", esdb.NoStream{}, written)

	list, err := readStream(t, c, "main.customer-1", esdb.ReadStreamOptions{}, everything)
	if err != nil || len(list) != 1 {
		t.Fatalf("read %d events, error %v", len(list), err)
	}
	got := list[0].Event
	if got.EventID != written.EventID || got.EventType != written.EventType || got.ContentType != "application/json" ||
		got.StreamID != "main.customer-1" || got.EventNumber != 0 ||
		!bytes.Equal(got.Data, written.Data) || !bytes.Equal(got.UserMetadata, written.Metadata) {
		t.Errorf("read %+v, wrote %+v", got, written)
	}
	if got.CreatedDate.Before(before) || got.CreatedDate.After(time.Now().Add(time.Second)) {
		t.Errorf("created at %v", got.CreatedDate)
	}
	if got.Position.Commit != result.CommitPosition || got.Position.Prepare != result.PreparePosition {
		t.Errorf("position %+v, append said %+v", got.Position, result)
	}
	if list[0].Commit == nil || *list[0].Commit != result.CommitPosition {
		t.Errorf("commit position %v, want %d", list[0].Commit, result.CommitPosition)
	}
	all := readAll(t, c, esdb.ReadAllOptions{}, everything)
	if diff := cmp.Diff(list[0], all[len(all)-1]); diff != "" {
		t.Errorf("$all and the stream differ (-stream +all):\n%s", diff)
	}
}

func TestExpectedRevision(t *testing.T) {
	type step struct {
		expected esdb.ExpectedRevision
		revision uint64 // of the last event afterwards
		conflict bool
	}
	for name, steps := range map[string][]step{
		"any creates and extends":         {{expected: esdb.Any{}}, {expected: esdb.Any{}, revision: 1}},
		"no stream creates once":          {{expected: esdb.NoStream{}}, {expected: esdb.NoStream{}, conflict: true}},
		"exact revision extends":          {{expected: esdb.NoStream{}}, {expected: esdb.Revision(0), revision: 1}},
		"revision behind conflicts":       {{expected: esdb.Any{}}, {expected: esdb.Any{}, revision: 1}, {expected: esdb.Revision(0), conflict: true}},
		"revision ahead conflicts":        {{expected: esdb.Any{}}, {expected: esdb.Revision(1), conflict: true}},
		"revision of nothing conflicts":   {{expected: esdb.Revision(0), conflict: true}},
		"stream exists extends":           {{expected: esdb.Any{}}, {expected: esdb.StreamExists{}, revision: 1}},
		"stream exists refuses a new one": {{expected: esdb.StreamExists{}, conflict: true}},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := fresh(t)
			for i, s := range steps {
				result, err := c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: s.expected}, event("tested", "{}"))
				switch {
				case s.conflict:
					wantCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
				case err != nil:
					t.Fatalf("step %d: %v", i, err)
				case result.NextExpectedVersion != s.revision:
					t.Errorf("step %d: revision %d, want %d", i, result.NextExpectedVersion, s.revision)
				}
			}
		})
	}
}

func TestConflictNamesBothRevisions(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(3)...)
	for expected, want := range map[esdb.ExpectedRevision]string{
		esdb.NoStream{}:  "expecting 'no_stream' but got '2'",
		esdb.Revision(7): "expecting '7' but got '2'",
	} {
		_, err := c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: expected}, event("tested", "{}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to say %q", err, want)
		}
	}
	_, err := c.AppendToStream(testContext(t), "none", esdb.AppendToStreamOptions{ExpectedRevision: esdb.StreamExists{}}, event("tested", "{}"))
	if want := "expecting 'stream_exists' but got 'no_stream'"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want it to say %q", err, want)
	}
}

func TestStreamExistsAcceptsAStreamWithMetadataOnly(t *testing.T) {
	_, c := fresh(t)
	var meta esdb.StreamMetadata
	meta.SetMaxCount(5)
	if _, err := c.SetStreamMetadata(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, meta); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, c, "s", esdb.StreamExists{}, event("tested", "{}"))
}

func TestEmptyAppendReturnsTheCurrentRevision(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(3)...)
	if got := mustAppend(t, c, "s", esdb.Any{}); got.NextExpectedVersion != 2 {
		t.Errorf("any: revision %d, want 2", got.NextExpectedVersion)
	}
	if got := mustAppend(t, c, "s", esdb.Revision(2)); got.NextExpectedVersion != 2 {
		t.Errorf("exact: revision %d, want 2", got.NextExpectedVersion)
	}
	_, err := c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}})
	wantCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
}

func TestAppendIsAtomic(t *testing.T) {
	_, c := fresh(t)
	first := events(2)
	mustAppend(t, c, "s", esdb.NoStream{}, first...)
	// The first id is known and the second is not: neither a repetition nor new.
	_, err := c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, first[0], event("tested", "{}"))
	wantCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
	list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything)
	if err != nil || len(list) != 2 {
		t.Errorf("the stream has %d events, error %v", len(list), err)
	}
}

// S9: an append whose answer was lost is sent again, after other events were written and
// after a restart: one copy is stored, and the answer is that of the first time.
func TestRepeatedAppendReturnsTheOriginalOutcome(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, dir)
	c := connect(t, n)
	originals := events(3)
	type attempt struct {
		name     string
		expected esdb.ExpectedRevision
		stream   string
	}
	attempts := []attempt{
		{"no stream", esdb.NoStream{}, "no-stream"}, {"any", esdb.Any{}, "any"},
		{"exact", esdb.Revision(0), "exact"}, {"exists", esdb.StreamExists{}, "exists"},
	}
	want := map[string]*esdb.WriteResult{}
	sent := map[string][]esdb.EventData{}
	for _, a := range attempts {
		if a.name == "exact" || a.name == "exists" {
			mustAppend(t, c, a.stream, esdb.NoStream{}, event("first", "{}"))
		}
		list := make([]esdb.EventData, len(originals))
		for i := range list {
			list[i] = event("tested", "{}")
		}
		sent[a.name] = list
		want[a.name] = mustAppend(t, c, a.stream, a.expected, list...)
		mustAppend(t, c, a.stream, esdb.Any{}, event("later", "{}"))
	}
	check := func(t *testing.T, c *esdb.Client) {
		for _, a := range attempts {
			got := mustAppend(t, c, a.stream, a.expected, sent[a.name]...)
			if diff := cmp.Diff(want[a.name], got); diff != "" {
				t.Errorf("%s: repetition differs (-original +repeated):\n%s", a.name, diff)
			}
		}
	}
	check(t, c)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, dir)
	t.Run("after reopening", func(t *testing.T) { check(t, connect(t, n)) })
	before := n.store.synced()
	check(t, connect(t, n))
	if after := n.store.synced(); after != before {
		t.Errorf("repetitions wrote %d events", after-before)
	}
}

// S8: of many writers that expect the same, one wins.
func TestOneWinnerCreatesAStream(t *testing.T) {
	n, _ := fresh(t)
	const writers, rounds = 8, 10
	clients := make([]*esdb.Client, writers)
	for i := range clients {
		clients[i] = connect(t, n)
	}
	for round := range rounds {
		stream := fmt.Sprintf("contested-%d", round)
		var wins atomic.Int64
		var group sync.WaitGroup
		for _, c := range clients {
			group.Go(func() {
				_, err := c.AppendToStream(testContext(t), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event("won", "{}"))
				if err == nil {
					wins.Add(1)
				} else {
					wantCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
				}
			})
		}
		group.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%s has %d winners", stream, wins.Load())
		}
	}
}

// D2 of docs/faults.md.
func TestConcurrentAppendsKeepPositionsDense(t *testing.T) {
	n, _ := fresh(t)
	const writers, each = 8, 40
	var group sync.WaitGroup
	for i := range writers {
		c := connect(t, n)
		group.Go(func() {
			for range each {
				mustAppend(t, c, fmt.Sprintf("s-%d", i%3), esdb.Any{}, event("tested", "{}"))
			}
		})
	}
	group.Wait()
	all := readAll(t, connect(t, n), esdb.ReadAllOptions{}, everything)
	if want := writers*each + 1; len(all) != want { // and the log's identity
		t.Fatalf("$all has %d events, want %d", len(all), want)
	}
	next := map[string]uint64{}
	for i, e := range all {
		if e.Event.Position.Commit != uint64(i+1) || e.Event.EventNumber != next[e.Event.StreamID] {
			t.Fatalf("event %d of $all is %s at %+v", e.Event.EventNumber, e.Event.StreamID, e.Event.Position)
		}
		next[e.Event.StreamID]++
	}
}

// S16: what is larger than a limit is refused whole.
func TestLimits(t *testing.T) {
	_, c := fresh(t)
	large := esdb.EventData{EventType: "large", Data: make([]byte, MaxEventBytes)}
	oversize := large
	oversize.Metadata = []byte{1}
	huge := esdb.EventData{EventType: "huge", Data: make([]byte, 6<<20)}
	for name, tc := range map[string]struct {
		stream string
		events []esdb.EventData
		want   string
	}{
		"event":             {"s", []esdb.EventData{oversize}, "Maximum Append Size of 1048576 Exceeded."},
		"event, far over":   {"s", []esdb.EventData{huge}, "Maximum Append Size of 1048576 Exceeded."},
		"append":            {"s", []esdb.EventData{large, large, large, large, large, large, large}, "Maximum Append Size of 4194304 Exceeded."},
		"number of events":  {"s", events(MaxAppendEvents + 1), "at most 10000 events"},
		"stream name":       {strings.Repeat("s", MaxStreamNameBytes+1), events(1), "longer than 1024 bytes"},
		"empty stream name": {"", events(1), "not valid"},
		"stream name bytes": {"\xff", events(1), "not valid UTF-8"},
		"event type":        {"s", []esdb.EventData{event(strings.Repeat("t", MaxEventTypeBytes+1), "{}")}, "longer than 512 bytes"},
		"no event type":     {"s", []esdb.EventData{event("", "{}")}, "'type' is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.AppendToStream(testContext(t), tc.stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, tc.events...)
			wantCode(t, err, esdb.ErrorCodeUnknown)
			if status.Code(errors.Unwrap(err)) != codes.InvalidArgument || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want InvalidArgument with %q", err, tc.want)
			}
		})
	}
	_, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, 1)
	wantCode(t, err, esdb.ErrorCodeResourceNotFound)

	// What lies exactly at the limits is accepted.
	mustAppend(t, c, "s", esdb.NoStream{}, large, large, large, large)
	mustAppend(t, c, strings.Repeat("s", MaxStreamNameBytes), esdb.NoStream{}, events(MaxAppendEvents)...)

	_, err = c.AppendToStream(testContext(t), "$all", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, events(1)...)
	wantCode(t, err, esdb.ErrorCodeAccessDenied)
}

func TestOversizedAppendNamesTheException(t *testing.T) {
	n, _ := fresh(t)
	raw := streams.NewStreamsClient(dial(t, n))
	call, err := raw.Append(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []*streams.AppendReq{
		{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("s")},
			ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
		}}},
		{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
			Id:       &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewString()}},
			Metadata: map[string]string{"type": "t", "content-type": "application/json"},
			Data:     make([]byte, MaxEventBytes+1),
		}}},
	} {
		if err := call.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	_, err = call.CloseAndRecv()
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("error %v, want InvalidArgument", err)
	}
	if got := call.Trailer().Get("exception"); len(got) != 1 || got[0] != "maximum-append-size-exceeded" {
		t.Errorf("exception trailer %q", got)
	}
	if got := call.Trailer().Get("maximum-append-size"); len(got) != 1 || got[0] != "1048576" {
		t.Errorf("maximum-append-size trailer %q", got)
	}
}
