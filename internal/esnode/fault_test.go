package esnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

// S7: the clock jumps by an hour and a day in both directions, and stands still.
// Revisions and positions go on as if nothing had happened, a repetition is found
// whatever the clock says, and after a restart too; only the times in events follow it.
func TestClockThatJumps(t *testing.T) {
	start := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
	var offset atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(offset.Load())) }
	dir := t.TempDir()
	n := openNodeAt(t, dir, now)
	c := connect(t, n)
	sub := subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.End{}})
	wantTold(t, sub, "caught up")

	type written struct {
		event  esdb.EventData
		result *esdb.WriteResult
	}
	var list []written
	jumps := []time.Duration{0, 0, time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, -24 * time.Hour, 0, 48 * time.Hour, -time.Hour}
	for i, jump := range jumps {
		offset.Add(int64(jump))
		for k := range 2 {
			revision := uint64(2*i + k)
			e := event("tested", fmt.Sprintf(`{"n":%d}`, revision))
			result := mustAppend(t, c, "s", esdb.Any{}, e)
			if result.NextExpectedVersion != revision || result.CommitPosition != revision+2 { // 1 is the log's identity
				t.Fatalf("after jump %s: %+v", jump, result)
			}
			list = append(list, written{e, result})
			told := sub.Recv().EventAppeared
			if told == nil || told.Event.Position.Commit != result.CommitPosition {
				t.Fatalf("the subscription got %+v", told)
			}
			if got, want := told.Event.CreatedDate, now().Truncate(100*time.Nanosecond); !got.Equal(want) {
				t.Errorf("created %s, want %s", got, want)
			}
		}
		for _, w := range list {
			if diff := cmp.Diff(w.result, mustAppend(t, c, "s", esdb.Any{}, w.event)); diff != "" {
				t.Fatalf("after jump %s a repetition differs:\n%s", jump, diff)
			}
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	offset.Store(-int64(365 * 24 * time.Hour)) // restarted with a clock of last year
	n = openNodeAt(t, dir, now)
	c = connect(t, n)
	for _, w := range list {
		if diff := cmp.Diff(w.result, mustAppend(t, c, "s", esdb.Any{}, w.event)); diff != "" {
			t.Fatalf("after a restart a repetition differs:\n%s", diff)
		}
	}
	if got := mustAppend(t, c, "s", esdb.Revision(uint64(len(list)-1)), event("tested", "{}")); got.CommitPosition != uint64(len(list)+2) {
		t.Errorf("the next event is at %+v", got)
	}
}

// S12: subscribers that are far behind and do not read hold a page each and not their
// backlog, while others read and write; none of them is dropped.
func TestSubscribersFarBehindHoldBoundedMemory(t *testing.T) {
	n, c := fresh(t)
	const appends, each, size = 16, 500, 1000 // 8 MB
	for range appends {
		list := make([]esdb.EventData, each)
		for i := range list {
			list[i] = esdb.EventData{EventType: "tested", ContentType: esdb.ContentTypeBinary, Data: bytes.Repeat([]byte("x"), size)}
		}
		mustAppend(t, c, "s", esdb.Any{}, list...)
	}
	readThrough := func() {
		t.Helper()
		if got := len(readAll(t, c, esdb.ReadAllOptions{}, everything)); got < appends*each {
			t.Fatalf("another client reads %d events", got)
		}
	}
	readThrough()
	before := heap()

	const behind = 16
	calls := make([]streams.Streams_ReadClient, behind)
	for i := range calls {
		// A window that does not grow: what is measured is what the node holds.
		conn, err := grpc.NewClient(n.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := conn.Close(); err != nil {
				t.Errorf("close connection: %v", err)
			}
		})
		options := fromAll()
		options.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
		if calls[i], err = streams.NewStreamsClient(conn).Read(testContext(t), &streams.ReadReq{Options: options}); err != nil {
			t.Fatal(err)
		}
		if resp := receive(t, calls[i]); resp.GetConfirmation() == nil {
			t.Fatalf("the first message is %v", resp)
		}
		receive(t, calls[i]) // the node is sending, and will be stuck
	}
	mustAppend(t, c, "s", esdb.Any{}, events(1)...)
	readThrough()
	const allowed = behind * 2 * pageBytes
	if grown := int64(heap()) - int64(before); grown > allowed {
		t.Errorf("%d subscribers that do not read hold %d KiB, %d are allowed for", behind, grown>>10, allowed>>10)
	}
	for position := uint64(1); ; {
		resp := receive(t, calls[0])
		if resp.GetCaughtUp() != nil {
			if position != appends*each+2 {
				t.Errorf("caught up at position %d", position)
			}
			return
		}
		if position++; resp.GetEvent().GetCommitPosition() != position {
			t.Fatalf("position %d where %d was due", resp.GetEvent().GetCommitPosition(), position)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// S15: a read shows the stream as it was when the read began, whatever happens to the
// stream meanwhile; revisions are never given twice.
func TestStreamDeletedWhileBeingRead(t *testing.T) {
	const total = 3 * pageMessages
	for name, change := range map[string]func(t *testing.T, c *esdb.Client){
		"truncated": func(t *testing.T, c *esdb.Client) {
			setMetadata(t, c, "s", func(m *esdb.StreamMetadata) { m.SetTruncateBefore(total - 1) })
		},
		"limited": func(t *testing.T, c *esdb.Client) {
			setMetadata(t, c, "s", func(m *esdb.StreamMetadata) { m.SetMaxCount(1) })
		},
		"soft-deleted": func(t *testing.T, c *esdb.Client) { mustDelete(t, c, "s", esdb.Any{}) },
		"tombstoned": func(t *testing.T, c *esdb.Client) {
			if _, err := c.TombstoneStream(testContext(t), "s", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, c := fresh(t)
			list := make([]esdb.EventData, total)
			for i := range list {
				list[i] = event("tested", fmt.Sprintf(`{"n":%d,"text":"%0500d"}`, i, i)) // beyond what the connection buffers
			}
			mustAppend(t, c, "s", esdb.NoStream{}, list...)
			read, err := connect(t, n).ReadStream(testContext(t), "s", esdb.ReadStreamOptions{From: esdb.Start{}}, everything)
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			if _, err := read.Recv(); err != nil {
				t.Fatal(err)
			}
			change(t, c)
			for next := uint64(1); ; next++ {
				got, err := read.Recv()
				if errors.Is(err, io.EOF) {
					if next != total {
						t.Errorf("the read ended at revision %d of %d", next, total)
					}
					break
				}
				if err != nil || got.Event.EventNumber != next {
					t.Fatalf("event %+v, error %v; revision %d was due", got, err, next)
				}
			}
			result, err := c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, events(1)...)
			if name == "tombstoned" {
				wantCode(t, err, esdb.ErrorCodeStreamDeleted)
			} else if err != nil || result.NextExpectedVersion != total {
				t.Errorf("the next event has revision %+v, error %v", result, err)
			}
		})
	}
}

// S16: stream names are bytes to the node and nothing else: no path, no pattern, no
// folding of letters that look alike. Each is a stream of its own.
func TestHostileStreamNames(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, filepath.Join(dir, "log"))
	c := connect(t, n)
	names := []string{
		"..", ".", "/", "../../escaped", "a/b", "a/../b", `..\..\escaped`, "/etc/passwd", "a\x00b", "a\x00", "a", "A", "\u0430", // Cyrillic a
		"e\u0301", "\u00e9", "\u202egnp", "ﬁ", "fi", "a\nb", "\x1b[31m", "%s%n", "'; drop table", "*", "a*", "$", "$a", "m|a", "s|",
		"$$", "$$$", "\ufeffa", " ", "a ", strings.Repeat("ы", MaxStreamNameBytes/2),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		name := make([]rune, 1+random.IntN(20))
		for i := range name {
			name[i] = rune(random.IntN(0x250))
		}
		names = append(names, string(name))
	}
	stored := map[string]string{}
	for i, name := range names {
		text := fmt.Sprintf(`{"n":%d}`, i)
		_, err := c.AppendToStream(testContext(t), name, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event("tested", text))
		if name == "$$" {
			wantCode(t, err, esdb.ErrorCodeUnknown)
			continue
		}
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		stored[name] = text
	}
	for name, text := range stored {
		list, err := readStream(t, c, name, esdb.ReadStreamOptions{}, everything)
		if err != nil || len(list) != 1 || list[0].Event.StreamID != name || string(list[0].Event.Data) != text {
			t.Errorf("%q: %d events, error %v", name, len(list), err)
		}
		// The name comes back in trailers, which carry ASCII only.
		_, err = c.DeleteStream(testContext(t), name, esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(7)})
		if err == nil {
			t.Errorf("%q was deleted at a revision that it does not have", name)
		}
	}
	for _, name := range []string{strings.Repeat("s", 10<<10), strings.Repeat("ы", MaxStreamNameBytes/2) + "s", "a\xffb"} {
		_, err := c.AppendToStream(testContext(t), name, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, events(1)...)
		wantCode(t, err, esdb.ErrorCodeUnknown)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the log lie %v, error %v", entries, err)
	}
}

// S16: a batch of 100,000 events is refused, and nothing of it is kept.
func TestHugeBatchIsRefused(t *testing.T) {
	n, c := fresh(t)
	before := n.store.synced()
	b := openBatches(t, n)
	b.send(chunk(first, batchOptions("s"), true, slices.Repeat(batchEvents("{}"), 100_000)...))
	b.want(failure(t, first, identifierOf("s"), codes.InvalidArgument, "MaximumAppendSizeExceeded",
		&shared.MaximumAppendSizeExceeded{MaxAppendSize: MaxAppendBytes}))
	b.end()
	if after := n.store.synced(); after != before {
		t.Errorf("%d events were written", after-before)
	}
	mustAppend(t, c, "s", esdb.NoStream{}, events(1)...)
}

// Links are resolved, on request, in every kind of read: of a stream and of $all, in both
// directions, and in subscriptions. Filters go by the link, not by what it leads to.
func TestLinksAreResolvedEverywhere(t *testing.T) {
	n, c := fresh(t)
	link := func(to string) esdb.EventData { return esdb.EventData{EventType: "$>", Data: []byte(to)} }
	mustAppend(t, c, "target@home", esdb.NoStream{}, events(3)...)
	mustAppend(t, c, "gone", esdb.NoStream{}, events(1)...)
	mustAppend(t, c, "links", esdb.NoStream{}, link("2@target@home"), link("0@gone"), link("0@target@home"), link("1@links"))
	setMetadata(t, c, "target@home", func(m *esdb.StreamMetadata) { m.SetTruncateBefore(1) })
	if _, err := c.TombstoneStream(testContext(t), "gone", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}}); err != nil {
		t.Fatal(err)
	}
	const toDeleted, toTruncated = "links 1 to nothing", "links 2 to nothing"
	want := []string{"links 0 to target@home 2", toDeleted, toTruncated, "links 3 to links 1"} // a link is followed once
	describe := func(e *esdb.ResolvedEvent) string {
		if e.Link == nil {
			return "no link"
		}
		if e.Event == nil {
			return fmt.Sprintf("%s %d to nothing", e.Link.StreamID, e.Link.EventNumber)
		}
		return fmt.Sprintf("%s %d to %s %d", e.Link.StreamID, e.Link.EventNumber, e.Event.StreamID, e.Event.EventNumber)
	}
	check := func(what string, list []*esdb.ResolvedEvent, reversed bool) {
		t.Helper()
		var got []string
		for _, e := range list {
			if text := describe(e); text != "no link" {
				got = append(got, text)
			}
		}
		if reversed {
			for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
				got[i], got[j] = got[j], got[i]
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	for _, d := range []esdb.Direction{esdb.Forwards, esdb.Backwards} {
		var fromStream esdb.StreamPosition = esdb.Start{}
		var from esdb.AllPosition = esdb.Start{}
		if d == esdb.Backwards {
			fromStream, from = esdb.End{}, esdb.End{}
		}
		list, err := readStream(t, c, "links", esdb.ReadStreamOptions{Direction: d, From: fromStream, ResolveLinkTos: true}, everything)
		if err != nil {
			t.Fatal(err)
		}
		check("stream", list, d == esdb.Backwards)
		check("$all", readAll(t, c, esdb.ReadAllOptions{Direction: d, From: from, ResolveLinkTos: true}, everything), d == esdb.Backwards)
	}
	collect := func(sub *esdb.Subscription) []*esdb.ResolvedEvent {
		var list []*esdb.ResolvedEvent
		for {
			switch message := sub.Recv(); {
			case message.EventAppeared != nil:
				list = append(list, message.EventAppeared)
			case message.CaughtUp != nil:
				return list
			case message.SubscriptionDropped != nil:
				t.Fatal(message.SubscriptionDropped.Error)
			}
		}
	}
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	stream, err := connect(t, n).SubscribeToStream(ctx, "links", esdb.SubscribeToStreamOptions{From: esdb.Start{}, ResolveLinkTos: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	check("subscription to the stream", collect(stream), false)
	all, err := connect(t, n).SubscribeToAll(ctx, esdb.SubscribeToAllOptions{
		From: esdb.Start{}, ResolveLinkTos: true,
		Filter: &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"$>"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	check("filtered subscription to $all", collect(all), false)
}
