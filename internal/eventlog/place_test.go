package eventlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
)

// sparse is a node whose positions are offsets, as in a real engine: it refuses to read from a number at which no event
// stands, and tells of nothing beyond its end.
type sparse struct {
	mu     sync.Mutex
	events []*streams.ReadResp // in the order of their positions
	other  map[uint64]bool     // positions of events of others
	asked  int                 // reads of $all
}

func newSparse(random *rand.Rand, events int) *sparse {
	s := &sparse{other: map[uint64]bool{}}
	position, revision := uint64(0), uint64(0)
	for range events {
		position += 100 + random.Uint64N(900)
		if random.IntN(3) == 0 {
			s.other[position] = true
			s.events = append(s.events, event("other-1", "test.happened", 0, position, []byte(`x`)))
			continue
		}
		s.events = append(s.events, event("rapport.main.test-1", "test.happened", revision, position, []byte(`{}`)))
		revision++
	}
	return s
}

func positionIn(m *streams.ReadResp) uint64 { return m.GetEvent().GetEvent().GetCommitPosition() }

// passing returns the events that a request wants, in its order, or the refusal of its position.
func (s *sparse) passing(o *streams.ReadReq_Options) ([]*streams.ReadResp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	list := slices.Clone(s.events)
	if p := o.GetAll().GetPosition(); p != nil {
		last := positionIn(list[len(list)-1])
		i, found := slices.BinarySearchFunc(list, p.GetCommitPosition(), func(m *streams.ReadResp, p uint64) int { return int(positionIn(m)) - int(p) })
		switch {
		case p.GetCommitPosition() > last:
			return nil, nil
		case !found && o.GetSubscription() != nil:
			return nil, status.Error(codes.InvalidArgument, "Trying to read from an invalid position.")
		case !found:
			return nil, status.Error(codes.Unknown, "Unexpected ReadAllResult: InvalidPosition")
		case o.GetReadDirection() == streams.ReadReq_Options_Backwards:
			list = list[:i]
		case o.GetSubscription() != nil:
			list = list[i+1:]
		default:
			list = list[i:]
		}
	}
	if o.GetReadDirection() == streams.ReadReq_Options_Backwards {
		slices.Reverse(list)
	}
	if o.GetFilter() != nil {
		list = slices.DeleteFunc(list, func(m *streams.ReadResp) bool { return s.other[positionIn(m)] })
	}
	if n := o.GetCount(); o.GetSubscription() == nil && uint64(len(list)) > n {
		list = list[:n]
	}
	return list, nil
}

func (s *sparse) script() *script {
	return &script{
		read: func(o *streams.ReadReq_Options, stream streams.Streams_ReadServer) error {
			list, err := s.passing(o)
			return errors.Join(send(stream, list...), err)
		},
		subscribe: func(_ int, o *streams.ReadReq_Options, stream streams.Streams_ReadServer) error {
			list, err := s.passing(o)
			if err != nil {
				return err
			}
			return errors.Join(send(stream, append(list, caughtUp())...), hang(stream))
		},
	}
}

// Any number is a position to read on from: reading goes on at the next event of ours behind it, and no number makes an
// engine refuse.
func TestAnyNumberIsAPlaceToReadOnFrom(t *testing.T) {
	random := rand.New(rand.NewPCG(testSeed(t), 0))
	const events, tries = 300, 60
	node := newSparse(random, events)
	address := node.script().start(t)
	end := positionIn(node.events[events-1])
	for try := range tries {
		log := dial(t, address)
		if try%3 == 0 { // a log that has passed everything once knows places to begin at
			all(t, log.ReadAll(t.Context(), domain.Position{}))
		}
		n := random.Uint64N(end + 1)
		switch try % 4 {
		case 0:
			n = positionIn(node.events[random.IntN(events)]) // an event's, ours or another's
		case 1:
			n = min(end, positionIn(node.events[random.IntN(events)])+1)
		}
		var want, read, followed []uint64
		for _, m := range node.events {
			if p := positionIn(m); p > n && !node.other[p] {
				want = append(want, p)
			}
		}
		for _, raw := range all(t, log.ReadAll(t.Context(), at(n))) {
			read = append(read, raw.Position.Commit)
		}
		for m, err := range log.Subscribe(t.Context(), after(n)) {
			if err != nil {
				t.Fatalf("subscribe after %d: %v", n, err)
			}
			if m.Raw != nil {
				followed = append(followed, m.Raw.Position.Commit)
			}
			if m.CaughtUp {
				break
			}
		}
		if !slices.Equal(read, want) || !slices.Equal(followed, want) {
			t.Errorf("after %d: read %d events, followed %d, want %d", n, len(read), len(followed), len(want))
		}
	}
}

// A place that was known of the log is asked for no longer when an older copy has taken the log's place, and grown past it.
func TestPlacesOfAnotherHistoryAreForgotten(t *testing.T) {
	for name, follow := range map[string]bool{"read": false, "followed": true} {
		t.Run(name, func(t *testing.T) {
			node := newSparse(rand.New(rand.NewPCG(4, 4)), 100)
			log := dial(t, node.script().start(t), withTiming(patient))
			known := all(t, log.ReadAll(t.Context(), domain.Position{}))
			place := known[len(known)-1].Position
			node.mu.Lock()
			last := positionIn(node.events[49])
			node.events = node.events[:50]
			for last <= place.Commit {
				last += 777
				node.events = append(node.events, event("rapport.main.test-2", "test.happened", last, last, []byte(`{}`)))
				delete(node.other, last)
			}
			node.mu.Unlock()
			var got []uint64
			if follow {
				for m, err := range log.Subscribe(t.Context(), domain.Mark{Position: place}) {
					if err != nil {
						t.Fatal(err)
					}
					if m.Raw != nil {
						got = append(got, m.Raw.Position.Commit)
					}
					if m.CaughtUp {
						break
					}
				}
			} else {
				for _, raw := range all(t, log.ReadAll(t.Context(), place)) {
					got = append(got, raw.Position.Commit)
				}
			}
			if !slices.Equal(got, []uint64{last}) {
				t.Errorf("got %v, want %d", got, last)
			}
		})
	}
}

// Where no place is known from before, one is looked up: the log is not read from its beginning.
func TestLandmarksAreAskedFor(t *testing.T) {
	node := newSparse(rand.New(rand.NewPCG(1, 1)), 400)
	var ours []uint64
	for _, m := range node.events {
		if !node.other[positionIn(m)] {
			ours = append(ours, positionIn(m))
		}
	}
	n := ours[100] + 1
	for name, c := range map[string]struct {
		find  Landmark
		start uint64
		err   bool
	}{
		"near":           {func(context.Context, domain.Position) (domain.Position, error) { return at(ours[99]), nil }, ours[99], false},
		"beyond":         {func(context.Context, domain.Position) (domain.Position, error) { return at(ours[200]), nil }, 0, false},
		"of another log": {func(context.Context, domain.Position) (domain.Position, error) { return at(ours[99] + 1), nil }, 0, false},
		"none":           {func(context.Context, domain.Position) (domain.Position, error) { return domain.Position{}, nil }, 0, false},
		"cannot be asked": {func(context.Context, domain.Position) (domain.Position, error) {
			return domain.Position{}, errors.New("no")
		}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			log := dial(t, node.script().start(t), WithLandmark(c.find))
			got, err := log.startOf(t.Context(), at(n))
			if (err != nil) != c.err || got.Commit != c.start {
				t.Errorf("begins at %s, %v, want %d", got, err, c.start)
			}
		})
	}
}

func TestLandmarksAreBoundedAndInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(testSeed(t), 1))
	var m landmarks
	passed := map[uint64]bool{}
	for range 3 * maxLandmarks {
		p := 1 + random.Uint64N(1<<40)
		passed[p] = true
		m.pass(at(p))
		if len(m.all) > maxLandmarks {
			t.Fatalf("%d are kept", len(m.all))
		}
	}
	if !slices.IsSortedFunc(m.all, domain.Position.Compare) {
		t.Error("they are not in order")
	}
	for range 1000 {
		p := at(random.Uint64N(1 << 40))
		if got := m.before(p); p.Before(got) || !got.IsZero() && !passed[got.Commit] {
			t.Fatalf("before %s: %s", p, got)
		}
	}
	if got := m.before(at(0)); !got.IsZero() {
		t.Errorf("before the first: %s", got)
	}
}

// An event that does not stand where it stood, or is another one there, tells another history, also when the log has grown
// past its place.
func TestCheckTellsAnotherHistory(t *testing.T) {
	node := newSparse(rand.New(rand.NewPCG(2, 2)), 50)
	log := dial(t, node.script().start(t))
	ours := all(t, log.ReadAll(t.Context(), domain.Position{}))
	mid, end := markOf(ours[len(ours)/2]), positionIn(node.events[49])
	for name, c := range map[string]struct {
		mark  domain.Mark
		other bool
	}{
		"none":              {domain.Mark{}, false},
		"there":             {mid, false},
		"there, without id": {domain.Mark{Position: mid.Position}, false},
		"another id":        {domain.Mark{Position: mid.Position, ID: ours[0].ID}, true},
		"no event":          {domain.Mark{Position: at(mid.Position.Commit + 1), ID: mid.ID}, true},
		"beyond the end":    {domain.Mark{Position: at(end + 1000), ID: mid.ID}, true},
	} {
		err := log.Check(t.Context(), c.mark)
		if errors.Is(err, ErrOtherLog) != c.other || err != nil && !c.other {
			t.Errorf("%s: %v", name, err)
		}
		subscribed := fmt.Errorf("none")
		for m, err := range log.Subscribe(t.Context(), c.mark) {
			if subscribed = err; err != nil || m.CaughtUp {
				break
			}
		}
		if errors.Is(subscribed, ErrOtherLog) != c.other || subscribed != nil && !c.other {
			t.Errorf("%s: subscription: %v", name, subscribed)
		}
	}
}

// The newest event of ours is found however many of others follow it, and without looking at these again.
func TestHeadIsSearchedForOnce(t *testing.T) {
	node := newSparse(rand.New(rand.NewPCG(3, 3)), 20)
	log := dial(t, node.script().start(t))
	grow := func(stream string) uint64 {
		node.mu.Lock()
		defer node.mu.Unlock()
		p := positionIn(node.events[len(node.events)-1]) + 500
		node.events = append(node.events, event(stream, "test.happened", p, p, []byte(`{}`)))
		node.other[p] = stream == "other-1"
		return p
	}
	want := uint64(0)
	check := func(what string, requests int) {
		t.Helper()
		node.mu.Lock()
		node.asked = 0
		node.mu.Unlock()
		if h := head(t, log); h.Position.Commit != want {
			t.Errorf("%s: head at %s, want %d", what, h.Position, want)
		}
		if node.asked > requests {
			t.Errorf("%s: %d requests, want %d at most", what, node.asked, requests)
		}
	}
	want = grow("rapport.main.test-1")
	check("ours is the last", 1)
	grow("other-1")
	check("another's is the last", 3)
	check("nothing new", 1)
	for range 5 {
		grow("other-1")
	}
	check("more of others", 3)
	want = grow("rapport.main.test-1")
	grow("other-1")
	check("ours among them", 3)

	// An older copy takes the place of the log, and grows past it.
	node.mu.Lock()
	node.events = node.events[:9]
	node.mu.Unlock()
	want = grow("rapport.main.test-1")
	for range 20 {
		grow("other-1")
	}
	check("an older copy that has grown", 5)
}
