package process_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/commands/process"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/internal/follow/followtest"
	"github.com/rapport-crm/rapport/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// welcome follows every registration by commands that would each have an effect again if the bus took them for new ones: into the
// stream of the event, into the same stream once more, and into one that the command makes.
var welcome = process.Process{
	Name: "welcome", Doc: "Welcomes each customer.", Events: []string{"customer.registered"}, Start: process.AtBeginning,
	React: func(e domain.Recorded) []commands.Request {
		said := customer.RecordFeedback{Polarity: customer.Praise, Topic: "welcome"}
		call := interaction.Log{Details: interaction.Details{
			CustomerID: e.Stream.ID, Channel: "phone", Direction: interaction.Outbound, StartedAt: e.OccurredAt,
		}}
		return []commands.Request{{Target: e.Stream.ID, Command: said}, {Target: e.Stream.ID, Command: said}, {Command: call}}
	},
}

var kind = follow.Kind{Name: "process", Plural: "processes", Lock: 7}

type fixture struct {
	*followtest.Fixture
	t testing.TB
}

func setUp(t testing.TB) *fixture {
	t.Helper()
	return &fixture{followtest.SetUp(t, aggregates.All()...), t}
}

// bus is that of a process of its own.
func (f *fixture) bus(store commands.EventStore, o commands.Options) *commands.Bus {
	o.Secret = []byte("test")
	b := commands.NewBus(store, o)
	areas.Register(b)
	return b
}

// clients is a bus whose events have the same ids in every run.
func (f *fixture) clients() *commands.Bus {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return f.bus(f.Store, commands.Options{Process: "clients", Clock: func() time.Time { return noon }})
}

// another is the bus of another process.
func (f *fixture) another() *commands.Bus { return f.bus(f.Store, commands.Options{}) }

// follower lets a process follow the log as cmd does.
func (f *fixture) follower(p process.Process, to process.Bus, change ...func(*follow.Options)) *follow.Follower {
	f.t.Helper()
	o := follow.Options{
		Kind: kind, Name: p.Name, Start: map[process.Start]follow.Start{process.AtBeginning: follow.AtBeginning, process.AtEnd: follow.AtEnd}[p.Start],
		Wants: p.Wants, Logger: followtest.Quiet,
		Handle: func(ctx context.Context, _ string, e *bus.Item) (*bus.Outgoing, error) {
			refused, err := p.Do(ctx, to, e.Event)
			if err := errors.Join(refused...); err != nil {
				f.t.Errorf("refused: %v", err)
			}
			return nil, err
		},
		Bus:       bus.Options{Linger: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, MaxEvents: 3},
		Heartbeat: 10 * time.Millisecond, LockRetry: 5 * time.Millisecond, Retry: time.Millisecond,
	}
	for _, c := range change {
		c(&o)
	}
	made, err := follow.New(f.Pool, f.Log, f.Registry, o)
	if err != nil {
		f.t.Fatal(err)
	}
	return made
}

// registered are customers, by clients.
func (f *fixture) registered(n int) (ids []domain.ID) {
	f.t.Helper()
	b := f.clients()
	for i := range n {
		r, err := b.Submit(f.t.Context(), commands.Request{
			Tenant: "main", Actor: domain.Actor{ID: "ann", Kind: domain.ActorHuman}, Key: fmt.Sprint("customer ", i),
			Command: customer.Register{Kind: customer.Group, Profile: customer.Profile{Name: fmt.Sprint("Group ", i)}},
		})
		if err != nil {
			f.t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

// reach waits until a process has handled everything that stands in the log, which grows by what it does.
func (f *fixture) reach(p *follow.Follower) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), followtest.Patience)
	defer cancel()
	for {
		s, err := p.Status(ctx)
		var never *domain.NotFoundError
		switch {
		case errors.As(err, &never):
		case err != nil:
			f.t.Fatalf("%v; %v", err, p.Err())
		case s.Head != nil && !s.Position.Before(*s.Head):
			return
		}
	}
}

// written is what stands in the log, by stream; what differs from run to run is left out.
func (f *fixture) written() map[string][]string {
	f.t.Helper()
	all := map[string][]string{}
	for raw, err := range f.Log.ReadAll(f.t.Context(), domain.Position{}) {
		if err != nil {
			f.t.Fatal(err)
		}
		e, err := f.Registry.Decode(raw)
		if err != nil {
			f.t.Fatal(err)
		}
		all[raw.Stream] = append(all[raw.Stream], fmt.Sprintf("%s %s by %s for %s because of %s", e.Type(), e.CommandID, e.Actor.ID, e.CorrelationID, e.Type()))
	}
	return all
}

// dying is a store that loses its process at the n-th append: before it is written, or before the answer comes.
type dying struct {
	commands.EventStore
	mu      sync.Mutex
	left    int
	written bool
	die     func()
}

func (d *dying) Append(ctx context.Context, stream domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	d.mu.Lock()
	d.left--
	now, dead := d.left == 0, d.left < 0
	d.mu.Unlock()
	if dead || now && !d.written {
		d.die()
		return domain.Refused{Err: errors.New("the process has ended")}
	}
	o := d.EventStore.Append(ctx, stream, expected, events)
	if now {
		d.die()
		return domain.Refused{Err: errors.New("the process has ended")}
	}
	return o
}

// The kill table of processes: wherever one fails or ends, at each step of its follower and at each append of its commands, the
// log holds in the end what one run without any fault writes.
func TestProcessesTakeEffectOnceThroughCrashesAtEveryStep(t *testing.T) {
	t.Parallel()
	const customers = 4
	whole := setUp(t)
	whole.registered(customers)
	run := whole.follower(welcome, whole.another())
	whole.Start(run.Run)
	whole.reach(run)
	want := whole.written()
	if n := len(slices.Concat(slices.Collect(maps.Values(want))...)); n != customers*4 {
		t.Fatalf("one run writes %d events", n)
	}
	type crash struct {
		step    string // of the follower; empty: at an append
		die     bool   // the process ends; else the step fails
		append  int
		written bool
	}
	var table []crash
	for _, step := range follow.Steps() {
		table = append(table, crash{step: step}, crash{step: step, die: true})
	}
	for n := range 3 * 2 { // of the first two customers
		table = append(table, crash{append: n + 1}, crash{append: n + 1, written: true})
	}
	for _, c := range table {
		t.Run(strings.ReplaceAll(fmt.Sprintf("%+v", c), " ", ","), func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			f.registered(customers)
			ctx, kill := context.WithCancel(t.Context())
			met := make(chan struct{})
			var once sync.Once
			meet := func(end bool) (first bool) {
				once.Do(func() {
					if first = true; end {
						kill()
					}
					close(met)
				})
				return first
			}
			var store commands.EventStore = f.Store
			if c.step == "" {
				store = &dying{EventStore: f.Store, left: c.append, written: c.written, die: func() { meet(true) }}
			}
			p := f.follower(welcome, f.bus(store, commands.Options{}), func(o *follow.Options) {
				o.Step = func(at string) error {
					if at == c.step && meet(c.die) {
						return errors.New("as the test wants")
					}
					return nil
				}
			})
			stop := f.Start(func(context.Context) error { return p.Run(ctx) })
			<-met
			if c.die || c.step == "" {
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				p = f.follower(welcome, f.another())
				f.Start(p.Run)
			}
			f.reach(p)
			kill()
			if diff := cmp.Diff(want, f.written()); diff != "" {
				t.Errorf("the log differs from that of one run:\n%s", diff)
			}
		})
	}
}

// asked is a bus that counts what it is asked.
type asked struct {
	process.Bus
	mu   sync.Mutex
	keys []string
}

func (a *asked) Submit(ctx context.Context, r commands.Request) (commands.Receipt, error) {
	a.mu.Lock()
	a.keys = append(a.keys, r.Key)
	a.mu.Unlock()
	return a.Bus.Submit(ctx, r)
}

// A process that runs again asks for nothing that it has asked for before: its checkpoint is its own, whatever is rebuilt beside it.
func TestProcessesGoOnWhereTheyWere(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.registered(3)
	to := &asked{Bus: f.another()}
	p := f.follower(welcome, to)
	stop := f.Start(p.Run)
	f.reach(p)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.registered(4) // three of them again
	p = f.follower(welcome, to)
	f.Start(p.Run)
	f.reach(p)
	if n := len(to.keys); n != 4*3 {
		t.Errorf("4 customers had %d commands", n)
	}
	slices.Sort(to.keys)
	if n := len(slices.Compact(to.keys)); n != 4*3 {
		t.Errorf("4 customers had commands with %d keys", n)
	}
}

// What has happened before a process that begins at the end existed has no commands.
func TestProcessAtTheEndLeavesHistoryAlone(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.registered(2)
	late := welcome
	late.Start = process.AtEnd
	to := &asked{Bus: f.another()}
	p := f.follower(late, to)
	f.Start(p.Run)
	f.reach(p)
	f.registered(3)
	f.reach(p)
	if len(to.keys) != 3 {
		t.Errorf("one customer had %d commands", len(to.keys))
	}
}

// silent is a bus that answers as it is told.
type silent func(commands.Request) error

func (s silent) Submit(_ context.Context, r commands.Request) (commands.Receipt, error) {
	return commands.Receipt{}, s(r)
}

func TestRefusalsAreAnswersAndFaultsAreNot(t *testing.T) {
	t.Parallel()
	event := domain.Recorded{ID: "e1", Stream: domain.StreamID{Tenant: "main", Aggregate: "customer", ID: "c1"}, Metadata: domain.Metadata{Tenant: "main"}}
	for name, tc := range map[string]struct {
		err     error
		refused int
		failed  bool
	}{
		"rejection":      {domain.Reject("customer-merged", "it was a duplicate"), 3, false},
		"value taken":    {&domain.DuplicateError{Key: "email"}, 3, false},
		"log away":       {&domain.UnavailableError{What: "event log"}, 0, true},
		"not found":      {&domain.NotFoundError{Kind: "customer", ID: "c1"}, 0, true},
		"invalid":        {domain.Invalid("/topic", "is blank"), 0, true},
		"another's key":  {&domain.IdempotencyError{CommandID: "x"}, 0, true},
		"context's end":  {context.Canceled, 0, true},
		"nothing at all": {nil, 0, false},
	} {
		n := 0
		refused, err := welcome.Do(t.Context(), silent(func(commands.Request) error { n++; return tc.err }), event)
		if len(refused) != tc.refused || (err != nil) != tc.failed || tc.err != nil && tc.failed && !errors.Is(err, tc.err) {
			t.Errorf("%s: refused %v, failed %v", name, refused, err)
		}
		if want := map[bool]int{true: 1, false: 3}[tc.failed]; n != want {
			t.Errorf("%s: %d commands were submitted, want %d", name, n, want)
		}
	}
}

// The key of a command names the process, the event and the place, so that no two commands share one.
func TestKeysNameProcessEventAndPlace(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, name := range []string{"welcome", "welcome-again"} {
		for _, id := range []string{"e1", "e2"} {
			p := welcome
			p.Name = name
			e := domain.Recorded{ID: id, Stream: domain.StreamID{Tenant: "main", Aggregate: "customer", ID: "c1"}, Metadata: domain.Metadata{Tenant: "main", CorrelationID: "talk", TraceParent: "00-a-b-01"}}
			for i, r := range p.Requests(e) {
				at := fmt.Sprint(name, id, i)
				if other, taken := seen[r.Key]; taken {
					t.Errorf("%s and %s have the key %q", other, at, r.Key)
				}
				seen[r.Key] = at
				if r.Actor != commands.System || r.Tenant != "main" || r.CorrelationID != "talk" || r.CausationID != id || r.TraceParent != "00-a-b-01" {
					t.Errorf("%s: %+v", at, r)
				}
				if again := p.Requests(e)[i]; again.Key != r.Key {
					t.Errorf("%s has another key the second time", at)
				}
			}
		}
	}
}

func TestProcessesAreChecked(t *testing.T) {
	t.Parallel()
	if err := process.Check(append(areas.Processes(), welcome), aggregates.All()); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*process.Process){
		"has no name":                         func(p *process.Process) { p.Name = "A b" },
		"says nothing":                        func(p *process.Process) { p.Doc = "" },
		"does not say where it begins":        func(p *process.Process) { p.Start = 0 },
		"does nothing":                        func(p *process.Process) { p.React = nil },
		"follows no events":                   func(p *process.Process) { p.Events = nil },
		`follows "customer.forgotten"`:        func(p *process.Process) { p.Events = []string{"customer.forgotten"} },
		`process "welcome" is declared twice`: func(p *process.Process) {},
	} {
		p, all := welcome, []process.Process{}
		change(&p)
		if p.Name == welcome.Name && strings.Contains(want, "twice") {
			all = append(all, welcome)
		}
		if err := process.Check(append(all, p), aggregates.All()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}
