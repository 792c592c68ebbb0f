package eventlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/esnode"
)

// openStrict opens a node with manners of its own, closes it with the test, and returns when it takes calls.
func openStrict(t testing.TB, manners *esnode.Strict) *esnode.Node {
	t.Helper()
	node, err := esnode.Open(t.Context(), esnode.Options{Dir: t.TempDir(), Strict: manners, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	if err := node.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return node
}

// ways are connection strings to a leader and its follower: those that find the leader by gossip, and those that name one
// member, with which appends are batched, and follow to the leader that it names.
func ways(n *esnode.Node) map[string]string {
	return map[string]string{
		"the cluster":                "esdb://" + n.Addr() + "," + n.FollowerAddr() + "?tls=false",
		"the cluster, the followers": "esdb://" + n.Addr() + "," + n.FollowerAddr() + "?tls=false&nodePreference=follower",
		"the leader":                 "esdb://" + n.Addr() + "?tls=false",
		"the follower":               "esdb://" + n.FollowerAddr() + "?tls=false",
	}
}

// Whatever is asked of a log is asked of the leader, also of one that was the follower before: what was acknowledged is
// read at once, though the follower will not show it within the test.
func TestNothingIsAskedOfAFollower(t *testing.T) {
	n := openStrict(t, &esnode.Strict{Offsets: true, InvalidPositions: true, NoIdentity: true, Follower: true, FollowerLag: 24 * time.Hour})
	for way, at := range ways(n) {
		t.Run(way, func(t *testing.T) {
			log := dial(t, at)
			if err := log.Probe(t.Context()); err != nil {
				t.Errorf("probe: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, expected, seen := newStream(), domain.NoStream, domain.Mark{}
			for range 3 { // the leader, the other one, and the first again
				events := newEvents(2)
				done, err := persist(t.Context(), log, stream, expected, events...)
				if err != nil {
					t.Fatal(err)
				}
				expected = domain.AtRevision(done.Revision)
				if got := all(t, log.ReadStream(t.Context(), stream, 0)); len(got) != int(done.Revision)+1 {
					t.Errorf("the stream has %d events, want %d", len(got), done.Revision+1)
				}
				if h := head(t, log); h.Position != done.Position {
					t.Errorf("the head is %s, want %s", h.Position, done.Position)
				}
				if got := all(t, log.ReadAll(t.Context(), seen.Position)); len(got) == 0 || got[len(got)-1].ID != events[1].ID {
					t.Errorf("the last of %d events is not the one appended", len(got))
				}
				for m, err := range log.Subscribe(ctx, seen) {
					if err != nil {
						t.Fatalf("subscribe: %v", err)
					}
					if m.Raw != nil && m.Raw.ID == events[1].ID {
						seen = domain.Mark{Position: m.Raw.Position, ID: m.Raw.ID}
						break
					}
				}
				if err := log.Check(t.Context(), seen); err != nil {
					t.Errorf("check: %v", err)
				}
				n.ChangeLeader()
			}
		})
	}
}

// Writers go on while the leader changes again and again. All that they were told is in the log afterwards, once, where they
// were told; and each finds in its stream what it has just appended.
func TestAcknowledgedAppendsOutliveChangesOfLeader(t *testing.T) {
	const writers, each, changeAfter = 6, 30, 12
	n := openStrict(t, &esnode.Strict{
		Seed: testSeed(t), Offsets: true, InvalidPositions: true, NoIdentity: true, Foreign: 0.3,
		Late: 2 * time.Millisecond, Follower: true, FollowerLag: 20 * time.Millisecond,
	})
	for way, at := range ways(n) {
		t.Run(way, func(t *testing.T) {
			log := dial(t, at)
			acknowledged := make(chan domain.Committed, writers*each)
			told := make([][]domain.Committed, writers)
			sent := make([][]NewEvent, writers)
			streams := make([]string, writers)
			var writing sync.WaitGroup
			for w := range writers {
				streams[w], sent[w] = newStream(), newEvents(each)
				writing.Go(func() {
					expected := domain.NoStream
					for i, e := range sent[w] {
						o, err := persist(t.Context(), log, streams[w], expected, e)
						if err != nil {
							t.Errorf("append %d to %s: %v", i, streams[w], err)
							return
						}
						told[w] = append(told[w], o)
						acknowledged <- o
						expected = domain.AtRevision(o.Revision)
						found := 0
						for _, err := range log.ReadStream(t.Context(), streams[w], 0) {
							if err != nil {
								t.Errorf("read %s: %v", streams[w], err)
								return
							}
							found++
						}
						if found != i+1 {
							t.Errorf("%s has %d events after the append of %d", streams[w], found, i+1)
						}
					}
				})
			}
			finished := make(chan struct{})
			go func() {
				defer close(finished)
				writing.Wait()
				close(acknowledged)
			}()
			changes, count := 0, 0
			for range acknowledged {
				if count++; count%changeAfter == 0 {
					n.ChangeLeader()
					changes++
				}
			}
			<-finished
			if want := writers * each / changeAfter; changes != want {
				t.Errorf("the leader has changed %d times, want %d", changes, want)
			}
			for w, stream := range streams {
				got := all(t, log.ReadStream(t.Context(), stream, 0))
				if len(got) != each {
					t.Errorf("%s has %d events, want %d", stream, len(got), each)
					continue
				}
				for i, raw := range got {
					if o := told[w][i]; raw.ID != sent[w][i].ID || raw.Revision != o.Revision || raw.Position != o.Position {
						t.Errorf("%s has %s at %d, %s; told were %d, %s", stream, raw.ID, raw.Revision, raw.Position, o.Revision, o.Position)
					}
				}
			}
		})
	}
}

// persist appends, and again while the outcome is unknown.
func persist(ctx context.Context, log Log, stream string, expected domain.Expected, events ...NewEvent) (domain.Committed, error) {
	for {
		switch o := log.Append(ctx, stream, expected, events).(type) {
		case domain.Committed:
			return o, nil
		case domain.Unknown:
			if ctx.Err() != nil {
				return domain.Committed{}, o.Err
			}
		default:
			return domain.Committed{}, fmt.Errorf("%T %+v", o, o)
		}
	}
}
