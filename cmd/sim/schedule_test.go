package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// Sizes of one run.
const (
	servers  = 3   // processes over the one log
	clients  = 6   // each with one command at a time, and sometimes a repetition beside it
	stepsRun = 900 // decisions of the scheduler in which faults happen
	maxSteps = 20_000
)

// secret of the installation that is simulated.
var secret = []byte("secret of the simulation")

// epoch is where the simulated clock begins.
var epoch = time.Date(2026, time.March, 2, 9, 0, 0, 0, time.UTC)

// simulation is one run: command buses over one log, clients that submit to them, and one scheduler that decides, by the
// seed alone, who goes on and what breaks. Everything else waits: at most one goroutine, and those that it wakes, runs
// between two decisions. So the same seed gives the same run, byte for byte.
type simulation struct {
	t        testing.TB
	seed     uint64
	rng      *rand.Rand
	registry *codec.Registry
	strict   bool // the log behaves as real engines do
	log      *memoryLog
	servers  []*server
	clients  []*client
	make     *generator
	trace    strings.Builder // every decision
	step     int
	down     int       // steps for which the log still does not answer
	unready  int       // steps for which a strict log still takes no calls
	hidden   []*commit // what a strict log has decided and not shown yet, in its order
	calm     bool
	landing  []*appending        // sent by somebody who did not wait for the answer: they may arrive late
	keys     int                 // idempotency keys given out
	history  []*request          // in the order of submission
	asked    map[string]bool     // commands that were asked for once more at the end
	probes   map[string]*request // what became of the last claim of each unique value

	remembered map[domain.StreamID]map[string]any // by stream and server, at the end
	counts     map[string]int

	mu      sync.Mutex
	now     time.Time
	waiting []*call
	late    []*call // whose deadline passed while they waited
}

// server is one process: a bus with all that it remembers.
type server struct {
	name string
	bus  *commands.Bus
	dead bool
}

// call is one call to the log that waits for the scheduler, and then its answer.
type call struct {
	server  *server
	request *request
	stream  string
	append  *appending // nil for a read
	commit  *commit    // what it waits for, once the log has decided
	from    uint64
	let     chan struct{}

	outcome domain.Outcome
	events  []codec.Raw
	err     error
	killed  bool
}

// appending is an append on its way.
type appending struct {
	stream   string
	expected domain.Expected
	batch    []eventlog.NewEvent
}

// newSimulation prepares a run; it belongs into a synctest bubble.
func newSimulation(t testing.TB, seed uint64) *simulation {
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		t.Fatal(err)
	}
	s := &simulation{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x51a)), registry: registry, now: epoch,
		strict: seed%2 == 0, counts: map[string]int{}, asked: map[string]bool{},
	}
	s.log = newMemoryLog(s.position)
	for i := range servers {
		s.servers = append(s.servers, nil)
		s.start(i)
	}
	s.make = newGenerator(s.rng, s.servers[0].bus.Definitions())
	for i := range clients {
		s.clients = append(s.clients, &client{name: fmt.Sprint("client-", i)})
	}
	return s
}

// start puts a new process in the place of the one before, with empty caches.
func (s *simulation) start(i int) {
	generation := 0
	if old := s.servers[i]; old != nil {
		_, _ = fmt.Sscanf(old.name, fmt.Sprintf("server-%d.%%d", i), &generation)
	}
	srv := &server{name: fmt.Sprintf("server-%d.%d", i, generation+1)}
	srv.bus = commands.NewBus(eventlog.NewStore(connection{s, srv}, s.registry), commands.Options{
		Clock: s.clock, Secret: secret, Process: srv.name, Spread: func(n time.Duration) time.Duration { return n / 2 },
	})
	areas.Register(srv.bus)
	s.servers[i] = srv
}

func (s *simulation) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *simulation) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// enter waits until the scheduler has answered the call. The goroutine of a server that has crashed ends here.
func (s *simulation) enter(ctx context.Context, k *call) {
	k.let = make(chan struct{})
	s.mu.Lock()
	if k.server.dead {
		s.mu.Unlock()
		runtime.Goexit()
	}
	s.waiting = append(s.waiting, k)
	s.mu.Unlock()
	select {
	case <-k.let:
	case <-ctx.Done():
		s.mu.Lock()
		s.waiting = slices.DeleteFunc(s.waiting, func(w *call) bool { return w == k })
		s.late = append(s.late, k)
		s.mu.Unlock()
		k.outcome, k.err = domain.Unknown{Err: ctx.Err()}, ctx.Err()
	}
	if k.killed {
		runtime.Goexit()
	}
}

// calls returns the calls that wait, in an order that does not depend on who came first.
func (s *simulation) calls() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.waiting, func(a, b *call) int { return cmp.Compare(a.request.number, b.request.number) })
	slices.SortFunc(s.late, func(a, b *call) int { return cmp.Compare(a.request.number, b.request.number) })
	for _, k := range s.late {
		if k.append != nil && k.commit == nil {
			s.landing = append(s.landing, k.append)
		}
	}
	s.late = nil
	return slices.DeleteFunc(slices.Clone(s.waiting), func(k *call) bool { return k.commit != nil })
}

// say writes a decision down.
func (s *simulation) say(kind, format string, args ...any) {
	s.counts[kind]++
	fmt.Fprintf(&s.trace, "%5d %-10s %s\n", s.step, kind, fmt.Sprintf(format, args...))
}

// run lets clients work under faults, then heals everything and lets them finish.
func (s *simulation) run() {
	for s.step = 1; s.step <= stepsRun; s.step++ {
		s.tick()
		s.decide()
	}
	s.calm, s.down, s.unready = true, 0, 0
	for ; ; s.step++ {
		if s.step > maxSteps {
			s.t.Errorf("seed %d: commands are still in execution after %d steps", s.seed, s.step)
			return
		}
		s.tick()
		if !s.finish() {
			time.Sleep(2 * commands.CommandDeadline) // what is left of processes that have crashed ends
			synctest.Wait()
			return
		}
	}
}

func (s *simulation) tick() {
	synctest.Wait()
	s.advance(time.Millisecond)
	s.show()
	s.harvest()
}

// chance reports whether something happens that happens so often in a thousand.
func (s *simulation) chance(perMille int) bool { return s.rng.IntN(1000) < perMille }

// decide makes one step of the run.
func (s *simulation) decide() {
	calls := s.calls()
	switch {
	case s.chance(5):
		s.crash(s.rng.IntN(servers))
		return
	case s.chance(10):
		d := []time.Duration{time.Minute, 3 * time.Minute, time.Hour, 24 * time.Hour, -time.Minute, -time.Hour}[s.rng.IntN(6)]
		s.say("clock", "jumps by %s", d)
		s.advance(d)
		return
	case s.down == 0 && s.chance(5):
		s.down = 1 + s.rng.IntN(60)
		s.say("outage", "for %d steps", s.down)
		return
	case len(s.landing) > 0 && s.chance(20):
		s.land()
		return
	case s.chance(8):
		s.disconnect()
		return
	case len(s.hidden) > 0 && s.chance(perMilleLost):
		s.change()
		return
	}
	s.down, s.unready = max(0, s.down-1), max(0, s.unready-1)
	if len(calls) > 0 && (s.chance(750) || !s.idle()) {
		s.answer(calls[s.rng.IntN(len(calls))])
		return
	}
	if s.idle() {
		s.submitSomething()
		return
	}
	s.sleep()
}

// finish makes one step without faults, and reports false when nothing is left to do.
func (s *simulation) finish() bool {
	calls := s.calls()
	switch {
	case len(calls) > 0:
		s.answer(calls[s.rng.IntN(len(calls))])
	case len(s.landing) > 0:
		s.land()
	case len(s.hidden) > 0: // the next step may show it
	case s.busy():
		s.sleep()
	default:
		return s.settle()
	}
	return true
}

// sleep lets time pass: commands that wait before they repeat an append go on.
func (s *simulation) sleep() {
	d := commands.CommandDeadline / 10
	if s.strict && s.rng.IntN(4) > 0 {
		d = commands.CommandDeadline / 200 // about as long as a command that has lost waits before it looks again
	}
	s.say("sleep", "for %s", d)
	time.Sleep(d)
	s.advance(d)
}

// answer lets one call through, or spoils it.
func (s *simulation) answer(k *call) {
	s.mu.Lock()
	s.waiting = slices.DeleteFunc(s.waiting, func(w *call) bool { return w == k })
	s.mu.Unlock()
	if k.append == nil {
		s.answerRead(k)
	} else {
		s.answerAppend(k)
	}
	if k.commit != nil {
		k.commit.told = append(k.commit.told, k)
		s.mu.Lock()
		s.waiting = append(s.waiting, k)
		s.mu.Unlock()
		return
	}
	close(k.let)
}

func (s *simulation) answerRead(k *call) {
	if s.turnsAway(k) {
		return
	}
	k.events = s.log.read(k.stream, k.from)
	if !s.calm && (s.down > 0 || s.chance(10)) {
		k.err = errLost
		k.events = k.events[:s.rng.IntN(len(k.events)+1)] // it broke in the middle
		s.say("read", "%s: %s from %d breaks after %d events", k.request, k.stream, k.from, len(k.events))
		return
	}
	kind := "read"
	if s.unseen(k.stream) {
		kind = "blind read"
	}
	s.say(kind, "%s: %s from %d, %d events", k.request, k.stream, k.from, len(k.events))
}

func (s *simulation) answerAppend(k *call) {
	if s.turnsAway(k) {
		return
	}
	fate := s.rng.IntN(1000)
	switch {
	case s.calm:
		fate = 1000
	case s.down > 0:
		fate = 30 + fate%60 // never told, perhaps there
	}
	describe := fmt.Sprintf("%s: %s at %s, %s", k.request, k.stream, k.append.expected, types(k.append.batch))
	switch {
	case fate < 30:
		outcome, _ := s.arrive(k.append)
		s.say("lost", "%s: %s, and the answer is lost", describe, told(outcome))
		k.outcome = domain.Unknown{Err: errLost}
	case fate < 60:
		s.say("unsent", "%s: never arrives", describe)
		k.outcome = domain.Unknown{Err: errNotSent}
	case fate < 90:
		s.say("delayed", "%s: may arrive later", describe)
		s.landing = append(s.landing, k.append)
		k.outcome = domain.Unknown{Err: errLost}
	default:
		before := len(s.log.events)
		k.outcome, k.commit = s.arrive(k.append)
		if c, ok := k.outcome.(domain.Committed); ok && len(s.log.events) == before && s.rng.IntN(2) == 0 {
			c.Position = domain.Position{} // a repetition recognised; the log need not tell where the first one went
			k.outcome = c
		}
		if k.commit != nil && s.chance(perMilleTimedOut) {
			k.outcome, k.commit = domain.Unknown{Err: errLost}, nil
			s.say("timed out", "%s: decided, and never told", describe)
			return
		}
		s.say("append", "%s: %s", describe, told(k.outcome))
	}
}

// land lets an append arrive that nobody waits for any more.
func (s *simulation) land() {
	i := s.rng.IntN(len(s.landing))
	a := s.landing[i]
	s.landing = slices.Delete(s.landing, i, i+1)
	outcome, _ := s.arrive(a)
	s.say("arrives", "%s at %s, %s: %s", a.stream, a.expected, types(a.batch), told(outcome))
}

// crash ends a process at whatever it is doing and starts a new one. What it had sent may arrive.
func (s *simulation) crash(i int) {
	srv := s.servers[i]
	s.say("crash", "%s", srv.name)
	s.mu.Lock()
	srv.dead = true
	var killed []*call
	s.waiting = slices.DeleteFunc(s.waiting, func(k *call) bool {
		if k.server == srv {
			killed = append(killed, k)
		}
		return k.server == srv
	})
	s.mu.Unlock()
	for _, k := range killed {
		if k.append != nil && k.commit == nil && s.rng.IntN(2) == 0 {
			s.landing = append(s.landing, k.append)
		}
		k.killed = true
		close(k.let)
	}
	for _, r := range s.history {
		if r.server == srv && !r.over() {
			r.lose(s.step)
		}
	}
	s.start(i)
}

func types(batch []eventlog.NewEvent) string {
	var list []string
	for _, e := range batch {
		list = append(list, e.Type)
	}
	return strings.Join(list, " ")
}

// told renders an outcome.
func told(o domain.Outcome) string {
	switch o := o.(type) {
	case nil:
		return "decided, and not yet shown"
	case domain.Committed:
		return fmt.Sprintf("revision %d, position %s", o.Revision, o.Position)
	case domain.Conflict:
		return fmt.Sprintf("conflict, stands at %s", o.Actual)
	}
	return fmt.Sprintf("%T", o)
}
