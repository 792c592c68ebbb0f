package esnode

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func subscribeAll(t testing.TB, c *esdb.Client, opts esdb.SubscribeToAllOptions) *esdb.Subscription {
	t.Helper()
	sub, err := c.SubscribeToAll(testContext(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Close() })
	return sub
}

func subscribeStream(t testing.TB, c *esdb.Client, stream string, from esdb.StreamPosition) *esdb.Subscription {
	t.Helper()
	sub, err := c.SubscribeToStream(testContext(t), stream, esdb.SubscribeToStreamOptions{From: from})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Close() })
	return sub
}

// told is what a subscription says next, in words.
func told(t testing.TB, sub *esdb.Subscription) string {
	t.Helper()
	switch e := sub.Recv(); {
	case e.EventAppeared != nil:
		return string(e.EventAppeared.OriginalEvent().Data)
	case e.CheckPointReached != nil:
		return fmt.Sprintf("checkpoint %d", e.CheckPointReached.Commit)
	case e.CaughtUp != nil:
		return "caught up"
	case e.FellBehind != nil:
		return "fell behind"
	default:
		t.Fatalf("subscription dropped: %v", e.SubscriptionDropped.Error)
		return ""
	}
}

func wantTold(t testing.TB, sub *esdb.Subscription, want ...string) {
	t.Helper()
	for i, w := range want {
		if got := told(t, sub); got != w {
			t.Fatalf("message %d is %q, want %q", i, got, w)
		}
	}
}

// untilCaughtUp is what a subscription says before it has caught up.
func untilCaughtUp(t testing.TB, sub *esdb.Subscription) []string {
	t.Helper()
	list := []string{}
	for {
		message := told(t, sub)
		if message == "caught up" {
			return list
		}
		list = append(list, message)
	}
}

var excludeSystem = esdb.ExcludeSystemEventsFilter()

func TestSubscriptionCatchesUpSaysSoAndGoesOn(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(3)...)
	mustAppend(t, c, "other", esdb.NoStream{}, event("tested", `"other"`))

	stream := subscribeStream(t, c, "s", esdb.Start{})
	all := subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: excludeSystem, MaxSearchWindow: 1000})
	wantTold(t, stream, append(numbers(0, 2), "caught up")...)
	wantTold(t, all, append(numbers(0, 2), `"other"`, "caught up")...)

	mustAppend(t, c, "other", esdb.Revision(0), event("tested", `"more"`))
	mustAppend(t, c, "s", esdb.Revision(2), event("tested", `{"n":3}`))
	wantTold(t, stream, `{"n":3}`)
	wantTold(t, all, `"more"`, `{"n":3}`)
}

func TestSubscriptionStartsAfterItsPosition(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(4)...)
	list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything)
	if err != nil {
		t.Fatal(err)
	}
	wantTold(t, subscribeStream(t, c, "s", esdb.Revision(1)), append(numbers(2, 3), "caught up")...)
	wantTold(t, subscribeAll(t, c, esdb.SubscribeToAllOptions{From: list[1].Event.Position}), append(numbers(2, 3), "caught up")...)

	for name, sub := range map[string]*esdb.Subscription{
		"stream": subscribeStream(t, c, "s", esdb.End{}), "all": subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.End{}}),
	} {
		if before := untilCaughtUp(t, sub); len(before) != 0 {
			t.Errorf("%s: a subscription from the end was sent %v", name, before)
		}
		defer wantTold(t, sub, `{"n":4}`)
	}
	mustAppend(t, c, "s", esdb.Revision(3), event("tested", `{"n":4}`))
}

func TestSubscriptionToAStreamThatIsNotThereYet(t *testing.T) {
	_, c := fresh(t)
	sub := subscribeStream(t, c, "s", esdb.Start{})
	wantTold(t, sub, "caught up")
	mustAppend(t, c, "s", esdb.NoStream{}, events(2)...)
	wantTold(t, sub, numbers(0, 1)...)
}

func TestSubscriptionAcrossDeleteAndTombstone(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(2)...)
	mustDelete(t, c, "s", esdb.Any{})
	sub := subscribeStream(t, c, "s", esdb.Start{})
	wantTold(t, sub, "caught up")
	mustAppend(t, c, "s", esdb.NoStream{}, event("tested", `{"n":2}`))
	wantTold(t, sub, `{"n":2}`)
	if _, err := c.TombstoneStream(testContext(t), "s", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}}); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*esdb.Subscription{"live": sub, "new": subscribeStream(t, c, "s", esdb.Revision(2))} {
		dropped := s.Recv().SubscriptionDropped
		if dropped == nil || status.Code(dropped.Error) != codes.FailedPrecondition {
			t.Errorf("%s: after the tombstone the subscription said %+v", name, dropped)
		}
	}
}

func TestFilters(t *testing.T) {
	_, c := fresh(t)
	for _, s := range []string{"main.deal-1", "main.customer-1", "acme.deal-1"} {
		for _, kind := range []string{"opened", "won", "$internal"} {
			mustAppend(t, c, s, esdb.Any{}, event(kind, s+" "+kind))
		}
	}
	for name, tc := range map[string]struct {
		filter *esdb.SubscriptionFilter
		want   []string
	}{
		"stream prefixes": {&esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"main.deal-", "acme."}},
			[]string{"main.deal-1 opened", "main.deal-1 won", "main.deal-1 $internal", "acme.deal-1 opened", "acme.deal-1 won", "acme.deal-1 $internal"}},
		"stream regex": {&esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: `^\w+\.customer-`},
			[]string{"main.customer-1 opened", "main.customer-1 won", "main.customer-1 $internal"}},
		"type prefix": {&esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"wo"}},
			[]string{"main.deal-1 won", "main.customer-1 won", "acme.deal-1 won"}},
		"type regex": {&esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "^(opened|lost)$"},
			[]string{"main.deal-1 opened", "main.customer-1 opened", "acme.deal-1 opened"}},
		"no system events": {esdb.ExcludeSystemEventsFilter(),
			[]string{"main.deal-1 opened", "main.deal-1 won", "main.customer-1 opened", "main.customer-1 won", "acme.deal-1 opened", "acme.deal-1 won"}},
	} {
		t.Run(name, func(t *testing.T) {
			sub := subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: tc.filter, MaxSearchWindow: 1000})
			if diff := cmp.Diff(tc.want, untilCaughtUp(t, sub)); diff != "" {
				t.Errorf("events differ (-want +got):\n%s", diff)
			}
		})
	}
	_, err := c.SubscribeToAll(testContext(t), esdb.SubscribeToAllOptions{Filter: &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "("}})
	if err == nil {
		t.Error("a regex that does not compile was accepted")
	}
}

// Every interval of considered events ends in a checkpoint, behind the events it
// covers; what is considered after the last one is not reported until more is written.
func TestFilterCheckpoints(t *testing.T) {
	_, c := fresh(t) // one system event, at position 1
	skipped := func(n int) []esdb.EventData {
		list := make([]esdb.EventData, n)
		for i := range list {
			list[i] = event("skipped", "{}")
		}
		return list
	}
	mustAppend(t, c, "s", esdb.NoStream{}, skipped(6)...)     // 2..7
	mustAppend(t, c, "s", esdb.Any{}, event("wanted", `"8"`)) // 8
	mustAppend(t, c, "s", esdb.Any{}, skipped(3)...)          // 9..11
	filter := &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"wanted"}}
	sub := subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: filter, MaxSearchWindow: 2, CheckpointInterval: 2})
	wantTold(t, sub, "checkpoint 4", `"8"`, "checkpoint 8", "caught up")
	mustAppend(t, c, "s", esdb.Any{}, skipped(1)...)
	wantTold(t, sub, "checkpoint 12")
	mustAppend(t, c, "s", esdb.Any{}, event("wanted", `"13"`))
	wantTold(t, sub, `"13"`)

	// A subscription from a checkpoint gets what comes after it and nothing twice.
	again := subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.Position{Commit: 12, Prepare: 12}, Filter: filter})
	wantTold(t, again, `"13"`, "caught up")

	// Without a window the default one counts.
	mustAppend(t, c, "s", esdb.Any{}, skipped(60)...) // 14..73
	unbounded := subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: filter, MaxSearchWindow: esdb.NoMaxSearchWindow})
	wantTold(t, unbounded, `"8"`, `"13"`, "checkpoint 32", "checkpoint 64", "caught up")
}

// S11: subscriptions start while writers run: each event arrives exactly once, in order,
// across the change from catching up to live.
func TestHandOverFromCatchUpToLive(t *testing.T) {
	n, _ := fresh(t)
	const writers, each = 4, 150
	ctx := testContext(t)
	var group sync.WaitGroup
	for i := range writers {
		c := connect(t, n)
		group.Go(func() {
			for j := range each {
				mustAppend(t, c, fmt.Sprintf("s-%d", i), esdb.Any{}, event("tested", fmt.Sprintf(`{"n":%d}`, j)))
			}
		})
	}
	const subscribers = 4
	for i := range subscribers {
		c := connect(t, n)
		group.Go(func() {
			if i%2 == 0 {
				followAll(ctx, t, c, writers*each)
			} else {
				followStream(ctx, t, c, "s-0", each)
			}
		})
	}
	group.Wait()
}

func followAll(ctx context.Context, t *testing.T, c *esdb.Client, total int) {
	sub, err := c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: excludeSystem})
	if err != nil {
		t.Error(err)
		return
	}
	defer sub.Close()
	position, next := uint64(1), map[string]uint64{} // position 1 is the log's identity
	for seen := 0; seen < total; {
		message := sub.Recv()
		switch {
		case message.SubscriptionDropped != nil:
			t.Errorf("dropped after %d events: %v", seen, message.SubscriptionDropped.Error)
			return
		case message.CheckPointReached != nil:
			if message.CheckPointReached.Commit > position {
				t.Errorf("checkpoint %d after position %d", message.CheckPointReached.Commit, position)
				return
			}
		case message.EventAppeared != nil:
			e := message.EventAppeared.Event
			if e.Position.Commit != position+1 || e.EventNumber != next[e.StreamID] {
				t.Errorf("event %d of %s at %d follows position %d", e.EventNumber, e.StreamID, e.Position.Commit, position)
				return
			}
			position, seen = position+1, seen+1
			next[e.StreamID]++
		}
	}
}

func followStream(ctx context.Context, t *testing.T, c *esdb.Client, stream string, total uint64) {
	sub, err := c.SubscribeToStream(ctx, stream, esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	if err != nil {
		t.Error(err)
		return
	}
	defer sub.Close()
	for next := uint64(0); next < total; {
		message := sub.Recv()
		switch {
		case message.SubscriptionDropped != nil:
			t.Errorf("dropped before event %d: %v", next, message.SubscriptionDropped.Error)
			return
		case message.EventAppeared != nil:
			if e := message.EventAppeared.Event; e.EventNumber != next {
				t.Errorf("event %d of %s where %d was due", e.EventNumber, stream, next)
				return
			}
			next++
		}
	}
}

// S12: a subscriber that does not read holds up nobody, is told that it fell behind, and
// misses nothing.
func TestSlowSubscriber(t *testing.T) {
	n, c := fresh(t)
	sub := subscribeAll(t, connect(t, n), esdb.SubscribeToAllOptions{From: esdb.End{}})
	wantTold(t, sub, "caught up")
	const appends, each = 30, 400 // some 3 MB, far beyond what the connection buffers
	for range appends {
		list := make([]esdb.EventData, each)
		for i := range list {
			list[i] = event("tested", fmt.Sprintf(`{"text":"%0200d"}`, i))
		}
		mustAppend(t, c, "s", esdb.Any{}, list...)
	}
	if all := readAll(t, c, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1); len(all) != 1 {
		t.Fatal("another client cannot read")
	}
	notices, next := []string{}, uint64(0)
	for next < appends*each || len(notices) < 2 {
		message := sub.Recv()
		switch {
		case message.SubscriptionDropped != nil:
			t.Fatalf("dropped: %v", message.SubscriptionDropped.Error)
		case message.FellBehind != nil:
			notices = append(notices, "fell behind")
		case message.CaughtUp != nil:
			notices = append(notices, "caught up")
		default:
			if got := message.EventAppeared.Event.EventNumber; got != next {
				t.Fatalf("event %d where %d was due", got, next)
			}
			next++
		}
	}
	if diff := cmp.Diff([]string{"fell behind", "caught up"}, notices); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
}

// A subscription to one stream sleeps through the commits to all the others.
func TestCommitsWakeOnlyWhomTheyConcern(t *testing.T) {
	h := newHead(0)
	all, one, other := h.watch(""), h.watch("one"), h.watch("other")
	woken := func(s *signal) bool {
		select {
		case <-s.C:
			return true
		default:
			return false
		}
	}
	h.publish(1, []string{"one", "one"})
	h.publish(2, []string{"one"})
	if !woken(all) || !woken(one) || woken(other) {
		t.Error("a commit to one stream must wake its watchers and those of all, and no others")
	}
	if woken(all) || woken(one) {
		t.Error("several commits before a look are one notice")
	}
	for _, s := range []*signal{all, one, other} {
		h.unwatch(s)
	}
	h.publish(3, []string{"one"})
	if woken(one) || len(h.all)+len(h.streams) != 0 {
		t.Error("who no longer watches must be forgotten")
	}
}

func TestNodeEndsSubscriptionsWhenItCloses(t *testing.T) {
	n := openNode(t, t.TempDir())
	c := connect(t, n)
	sub := subscribeAll(t, c, esdb.SubscribeToAllOptions{From: esdb.End{}})
	wantTold(t, sub, "caught up")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	dropped := sub.Recv().SubscriptionDropped
	if dropped == nil || status.Code(dropped.Error) != codes.Unavailable {
		t.Errorf("the subscription said %+v, want Unavailable", dropped)
	}
}
