package follow

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow/followtest"
	"github.com/rapport-crm/rapport/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// process is a kind of followers beside the one that there is: it turns events into commands.
var process = Kind{Name: "process", Plural: "processes", Lock: 7}

type fixture struct {
	*followtest.Fixture
	t testing.TB
}

func setUp(t testing.TB) *fixture {
	t.Helper()
	return &fixture{followtest.SetUp(t), t}
}

// commands are what a process has sent: the ids of the events behind them, in order.
type commands struct {
	mu     sync.Mutex
	sent   []string
	change chan struct{} // holds a token when there is one more
}

func (c *commands) handle(_ context.Context, _ string, event *bus.Item) (*bus.Outgoing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, event.Raw.ID)
	select {
	case c.change <- struct{}{}:
	default:
	}
	return nil, nil
}

// ids returns what was sent, each once, in the order of the first time.
func (c *commands) ids() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.sent {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// options declare a process that begins at the beginning of the log.
func options(c *commands) Options {
	return Options{
		Kind: process, Name: "convert", Start: AtBeginning, Handle: c.handle, Logger: followtest.Quiet,
		Bus:       bus.Options{Linger: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond},
		Heartbeat: 10 * time.Millisecond, LockRetry: 5 * time.Millisecond, Retry: time.Millisecond,
	}
}

func newCommands() *commands { return &commands{change: make(chan struct{}, 1)} }

func (f *fixture) follower(opts Options) *Follower {
	f.t.Helper()
	p, err := New(f.Pool, f.Log, f.Registry, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// reach waits until every event written was handled, in order, and the checkpoint says so.
func (f *fixture) reach(p *Follower, c *commands) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), followtest.Patience)
	defer cancel()
	for len(c.ids()) < len(f.Written) {
		select {
		case <-c.change:
		case <-ctx.Done():
			f.t.Fatalf("%d of %d events are handled, %v", len(c.ids()), len(f.Written), p.Err())
		}
	}
	if diff := cmp.Diff(f.Written, c.ids()); diff != "" {
		f.t.Error(diff)
	}
	for {
		s, err := p.Status(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		if s.Head != nil && !s.Position.Before(*s.Head) {
			return
		}
	}
}

// A third kind of follower needs a name, a start and a handler, and the tables of its kind.
func TestProcessHandlesEveryEventFromTheBeginning(t *testing.T) {
	t.Parallel()
	f, c := setUp(t), newCommands()
	f.Write(20)
	p := f.follower(options(c))
	stop := f.Start(p.Run)
	f.reach(p, c)
	f.Write(5)
	f.reach(p, c)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// Once begun, a process goes on, whatever its declaration says of the start.
	f.Write(3)
	opts := options(c)
	opts.Start = AtEnd
	p = f.follower(opts)
	f.Start(p.Run)
	f.reach(p, c)
	if n := len(c.sent); n != len(f.Written) {
		t.Errorf("%d events were handled %d times", len(f.Written), n)
	}
	list, err := process.Statuses(t.Context(), f.Pool, f.Log, f.Registry)
	if err != nil || len(list) != 1 || list[0].Name != "convert" || !list[0].Healthy() || list[0].HeartbeatAge < 0 {
		t.Errorf("processes stand so: %+v, %v", list, err)
	}
}

// The kill table of followers: wherever one fails or ends, every event is handled, in order, and nothing but what the last
// batch held a second time.
func TestFollowersFailAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, point := range Steps() {
		for name, die := range map[string]bool{"error": false, "end": true} {
			t.Run(point+" "+name, func(t *testing.T) {
				t.Parallel()
				f, c := setUp(t), newCommands()
				f.Write(10)
				failed := errors.New("as the test wants")
				ctx, kill := context.WithCancel(t.Context())
				opts := options(c)
				opts.Bus.MaxEvents = 3
				met := make(chan struct{})
				var once sync.Once
				opts.Step = func(at string) (err error) {
					if at == point {
						once.Do(func() {
							if err = failed; die {
								kill()
							}
							close(met)
						})
					}
					return err
				}
				first := f.follower(opts)
				f.Start(func(context.Context) error { return first.Run(ctx) })
				<-met
				if die {
					second := f.follower(options(c))
					f.Start(second.Run)
					f.reach(second, c)
				} else {
					f.reach(first, c)
				}
				kill()
				if repeated := len(c.sent) - len(f.Written); repeated > opts.Bus.MaxEvents {
					t.Errorf("%d events were handled twice", repeated)
				}
			})
		}
	}
}

// Err tells what a handler meets until it has healed, and the events behind wait.
func TestHandlerThatFailsIsToldAndNothingOvertakes(t *testing.T) {
	t.Parallel()
	f, c := setUp(t), newCommands()
	f.Write(4)
	healed, tried := make(chan struct{}), make(chan struct{}, 1)
	opts := options(c)
	opts.Handle = func(ctx context.Context, log string, event *bus.Item) (*bus.Outgoing, error) {
		select {
		case <-healed:
		default:
			if event.Raw.ID == f.Written[2] {
				select {
				case tried <- struct{}{}:
				default:
				}
				return nil, errors.New("the command is refused")
			}
		}
		return c.handle(ctx, log, event)
	}
	p := f.follower(opts)
	f.Start(p.Run)
	for range 3 { // so that the first attempt has been told
		<-tried
	}
	if err := p.Err(); err == nil || !strings.HasPrefix(err.Error(), "process convert: event at ") || !strings.HasSuffix(err.Error(), "the command is refused") {
		t.Errorf("Err is %v", err)
	}
	if s, err := p.Status(t.Context()); err != nil || s.Healthy() || s.Failing == nil {
		t.Errorf("the status is %+v, %v", s, err)
	}
	if got := c.ids(); !slices.Equal(got, f.Written[:2]) {
		t.Errorf("%v were handled of %v", got, f.Written)
	}
	close(healed)
	f.reach(p, c)
	if err := p.Err(); err != nil {
		t.Errorf("Err is still %v", err)
	}
}

// A message that goes nowhere is an error: it would be lost.
func TestMessageWithoutAPublisherFails(t *testing.T) {
	t.Parallel()
	f, c := setUp(t), newCommands()
	f.Write(1)
	tried := make(chan struct{}, 1)
	opts := options(c)
	opts.Handle = func(context.Context, string, *bus.Item) (*bus.Outgoing, error) {
		select {
		case tried <- struct{}{}:
		default:
		}
		return &bus.Outgoing{ID: "1"}, nil
	}
	p := f.follower(opts)
	f.Start(p.Run)
	for range 3 {
		<-tried
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "there is no publisher") {
		t.Errorf("Err is %v", err)
	}
}

func TestDeclarationsAreChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Options){
		"lower-case letters alone":       func(o *Options) { o.Kind.Name = "Process" },
		"a name has":                     func(o *Options) { o.Name = "a b" },
		"does not say where it begins":   func(o *Options) { o.Start = 0 },
		"process convert has no handler": func(o *Options) { o.Handle = nil },
	} {
		opts := options(newCommands())
		change(&opts)
		if _, err := New(nil, nil, nil, opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

func TestOwnerThatWasTakenForDeadMovesNoCheckpoint(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.Write(1)
	head, err := f.Log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	atEnd := options(newCommands())
	atEnd.Start = AtEnd
	old := f.follower(atEnd)
	before, err := old.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := f.follower(atEnd)
	after, err := now.take(t.Context())
	if err != nil || after.after != head {
		t.Fatalf("at %s, %v", after.after, err)
	}
	f.Write(1)
	end, err := f.Log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := old.settle(t.Context(), before.epoch, end, end.Position); !errors.Is(err, errFenced) {
		t.Errorf("the old owner moved it: %v", err)
	}
	old.fails(before.epoch, end, errors.New("the broker is down for the old owner"))
	if s, err := now.Status(t.Context()); err != nil || !s.Healthy() {
		t.Errorf("the old owner's trouble is said to be the new one's: %+v, %v", s, err)
	}
	if err := now.settle(t.Context(), after.epoch, end, end.Position); err != nil {
		t.Error(err)
	}
	if err := now.settle(t.Context(), after.epoch, head, end.Position); !errors.Is(err, errFenced) {
		t.Errorf("the checkpoint went back: %v", err)
	}
}

// A decision to skip is about one event, not about what another history has at its place.
func TestSkippedIsTheEventAndNotItsPlace(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.Write(1)
	p := f.follower(options(newCommands()))
	taken, err := p.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	event, err := f.Log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.fails(taken.epoch, event, errors.New("too large"))
	if err := process.Skip(t.Context(), f.Pool, "convert", event.Position, "ann", "too large"); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{event.ID: true, "00000000-0000-4000-8000-000000000001": false} {
		if got, err := p.skipped(t.Context(), domain.Mark{Position: event.Position, ID: id}); err != nil || got != want {
			t.Errorf("event %s: skipped %t, %v", id, got, err)
		}
	}
}
