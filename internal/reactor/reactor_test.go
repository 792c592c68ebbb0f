package reactor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/internal/follow/followtest"
)

// open makes the publisher to a broker.
func (f *fixture) open(address string) *bus.Broker {
	f.t.Helper()
	b, err := bus.NewBroker(address, followtest.Quiet)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { b.Close() })
	return b
}

func TestHistoryHasNoEffect(t *testing.T) {
	t.Parallel()
	f, b := setUp(t), startBroker(t)
	f.Write(20)
	to := f.open(b.address())
	r, progress := f.reactor(options(to))
	stop := f.Start(r.Run)
	f.await(r)
	f.settled(r, progress)
	b.received(0)
	f.Written = nil
	f.Write(5)
	f.settled(r, progress)
	if diff := cmp.Diff(f.Written, b.received(5)); diff != "" {
		t.Error(diff)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// The same name goes on, another one begins anew.
	f.Write(3)
	again, progress := f.reactor(options(to))
	f.Start(again.Run)
	f.settled(again, progress)
	if diff := cmp.Diff(f.Written, b.received(8)); diff != "" {
		t.Error(diff)
	}
	opts := options(to)
	opts.Name = "other"
	other, progress := f.reactor(opts)
	f.Start(other.Run)
	f.await(other)
	f.settled(other, progress)
	b.received(8)
}

// await waits until a reactor has a row.
func (f *fixture) await(r *follow.Follower) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for {
		if _, err := r.Status(ctx); err == nil {
			return
		} else if ctx.Err() != nil {
			f.t.Fatal(err)
		}
	}
}

func TestCrashBetweenEffectAndCheckpointReachesTheReceiverOnce(t *testing.T) {
	t.Parallel()
	f, b := setUp(t), startBroker(t)
	to := observe(f.open(b.address()))
	f.begun(options(to))
	f.Write(10)
	crashed := errors.New("crash")
	died := make(chan struct{})
	var once atomic.Bool
	ctx, kill := context.WithCancel(t.Context())
	opts := options(to)
	opts.Step = func(point string) error {
		if point == follow.StepHandled && once.CompareAndSwap(false, true) {
			kill()
			close(died)
			return crashed
		}
		return nil
	}
	crashing, _ := f.reactor(opts)
	if err := crashing.Run(ctx); err != nil {
		t.Fatal(err)
	}
	<-died
	if to.times(f.Written[0]) != 1 {
		t.Fatal("nothing was published before the crash")
	}
	r, progress := f.reactor(options(to))
	f.Start(r.Run)
	f.settled(r, progress)
	if n := to.times(f.Written[0]); n != 2 {
		t.Errorf("the effect happened %d times, want a repetition", n)
	}
	if diff := cmp.Diff(f.Written, b.received(10)); diff != "" {
		t.Error(diff)
	}
}

func TestBrokerThatIsDownIsWaitedForInOrder(t *testing.T) {
	t.Parallel()
	f, b := setUp(t), startBroker(t)
	to := observe(f.open(b.address()))
	f.begun(options(to))
	r, progress := f.reactor(options(to))
	f.Start(r.Run)
	f.Write(10)
	f.settled(r, progress)
	b.received(10)
	b.stop()
	f.Write(20)
	failing := f.Written[10]
	for to.times(failing) < 3 {
		<-to.attempts
	}
	s, err := r.Status(t.Context())
	if r.Err() == nil || err != nil || s.Failing == nil || s.Healthy() || s.Problem == "" {
		t.Errorf("the broker is down: %+v, %v, %v", s, err, r.Err())
	}
	b.start()
	f.settled(r, progress)
	if diff := cmp.Diff(f.Written, b.received(30)); diff != "" {
		t.Error(diff)
	}
	if s, err := r.Status(t.Context()); r.Err() != nil || err != nil || !s.Healthy() {
		t.Errorf("the broker is back: %+v, %v, %v", s, err, r.Err())
	}
}

func TestEventThatCannotBePublishedIsSaidAndSkippedOnlyByDecision(t *testing.T) {
	t.Parallel()
	f, kept := setUp(t), &memory{}
	to := observe(kept)
	opts := options(to)
	metrics := prometheus.NewRegistry()
	opts.Registerer = metrics
	f.begun(options(to))
	f.Write(6)
	poison := f.Written[2]
	to.refuse = func(out *bus.Outgoing) error {
		if out.ID == poison {
			return errors.New("too large")
		}
		return nil
	}
	r, progress := f.reactor(opts)
	f.Start(r.Run)
	for to.times(poison) < 4 {
		<-to.attempts
	}
	s, err := r.Status(t.Context())
	if err != nil || s.Failing == nil || !strings.Contains(s.Problem, "too large") || !strings.Contains(fmt.Sprint(r.Err()), "too large") {
		t.Fatalf("got %+v, %v, %v", s, err, r.Err())
	}
	if diff := cmp.Diff(f.Written[:2], kept.ids()); diff != "" {
		t.Errorf("something overtook it: %s", diff)
	}
	if n := gauge(t, metrics, "rapport_reactor_failing"); n != 1 {
		t.Errorf("failing is %v", n)
	}
	var rejected *domain.Rejection
	if err := Kind.Skip(t.Context(), f.Pool, "crm", domain.Position{Commit: 1, Prepare: 1}, "ann", "a guess"); !errors.As(err, &rejected) {
		t.Errorf("another event was skipped: %v", err)
	}
	if err := Kind.Skip(t.Context(), f.Pool, "crm", *s.Failing, "ann", "the receiver does not want it"); err != nil {
		t.Fatal(err)
	}
	f.settled(r, progress)
	if diff := cmp.Diff(append(f.Written[:2:2], f.Written[3:]...), kept.ids()); diff != "" {
		t.Error(diff)
	}
	if n := gauge(t, metrics, "rapport_reactor_skipped_total"); n != 1 || gauge(t, metrics, "rapport_reactor_failing") != 0 {
		t.Errorf("%v skipped", n)
	}
	var by, why string
	if err := f.Pool.QueryRow(t.Context(), "select actor, reason from reactor.decision").Scan(&by, &why); err != nil || by != "ann" || why == "" {
		t.Errorf("decided by %q because %q, %v", by, why, err)
	}
}

// What fails was noted once, at the first attempt: when that could not be stored, nobody saw it and nobody could decide about
// it, and a reason that came later was not told.
func TestReproWhatFailsIsToldAlsoWhenItCouldNotBeAtFirst(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	to := observe(&memory{})
	f.begun(options(to))
	const mute = `create function mute() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$;
create trigger mute before update on reactor.checkpoint for each row when (new.problem <> '') execute function mute()`
	if _, err := f.Pool.Exec(t.Context(), mute); err != nil {
		t.Fatal(err)
	}
	refuse := func(reason string) {
		to.mu.Lock()
		defer to.mu.Unlock()
		to.refuse = func(*bus.Outgoing) error { return errors.New(reason) }
	}
	refuse("the broker is away")
	f.Write(1)
	r, _ := f.reactor(options(to))
	f.Start(r.Run)
	attempt := func(n int) {
		for before := to.times(f.Written[0]); to.times(f.Written[0]) < before+n; {
			<-to.attempts
		}
	}
	told := func(reason string) (since time.Time) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			s, err := r.Status(ctx)
			if err != nil {
				t.Fatalf("the reason is not told: %v", err)
			}
			if s.Failing != nil && strings.Contains(s.Problem, reason) {
				break
			}
			attempt(1)
		}
		if err := f.Pool.QueryRow(ctx, "select failing_since from reactor.checkpoint").Scan(&since); err != nil {
			t.Fatal(err)
		}
		return since
	}
	attempt(2)
	if _, err := f.Pool.Exec(t.Context(), "drop trigger mute on reactor.checkpoint"); err != nil {
		t.Fatal(err)
	}
	since := told("the broker is away")
	refuse("too large: \x00\xff") // what PostgreSQL takes in no text
	if again := told("too large"); !again.Equal(since) {
		t.Errorf("it failed first at %s, and then at %s", since, again)
	}
}

// gauge returns the value of a metric that has one, such as a gauge or a counter.
func gauge(t testing.TB, metrics prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestOneProcessWorksAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	f, kept := setUp(t), &memory{}
	f.begun(options(kept))
	first, progress := f.reactor(options(kept))
	stop := f.Start(first.Run)
	f.Write(3)
	f.settled(first, progress)
	second, progress := f.reactor(options(kept))
	f.Start(second.Run)
	f.Write(4)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.settled(second, progress)
	if diff := cmp.Diff(f.Written, kept.ids()); diff != "" {
		t.Error(diff)
	}
}

// A process that was asked to stop in the middle of a batch forgot what it had published of it, and the next one repeated that.
func TestReproStopInTheMiddleOfABatchRepeatsNothing(t *testing.T) {
	t.Parallel()
	f, kept := setUp(t), &memory{}
	to := observe(kept)
	opts := options(to)
	f.begun(opts)
	f.Write(4)
	opts.Bus.MaxEvents, opts.Bus.Linger = len(f.Written), time.Hour // all of them are one batch
	failing := f.Written[2]
	to.refuse = func(out *bus.Outgoing) error {
		if out.ID == failing {
			return errors.New("not now")
		}
		return nil
	}
	first, _ := f.reactor(opts)
	stop := f.Start(first.Run)
	for to.times(failing) < 2 {
		<-to.attempts
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s, err := first.Status(t.Context()); err != nil || s.Failing == nil || s.Healthy() || s.Position.IsZero() || !s.Position.Before(*s.Failing) {
		t.Errorf("after the stop: %+v, %v", s, err)
	}
	second, progress := f.reactor(options(kept))
	f.Start(second.Run)
	f.settled(second, progress)
	if diff := cmp.Diff(f.Written, kept.ids()); diff != "" {
		t.Error(diff)
	}
}

func TestOtherLogIsRefusedUntilSomebodyBegins(t *testing.T) {
	t.Parallel()
	f, kept := setUp(t), &memory{}
	f.begun(options(kept))
	if _, err := f.Pool.Exec(t.Context(), "update reactor.checkpoint set log_id = 'another'"); err != nil {
		t.Fatal(err)
	}
	r, progress := f.reactor(options(kept))
	var mismatch *follow.LogMismatchError
	refusal, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Run(refusal); !errors.As(err, &mismatch) {
		t.Fatalf("got %v", err)
	}
	f.Write(2)
	head, err := Kind.Begin(t.Context(), f.Pool, f.Log, "crm", "ann", "restored")
	if err != nil {
		t.Fatal(err)
	}
	f.Start(r.Run)
	f.settled(r, progress)
	if s, err := r.Status(t.Context()); err != nil || s.Position != head || len(kept.ids()) > 0 {
		t.Errorf("began at %+v with %d effects, %v", s, len(kept.ids()), err)
	}
}

// S13: a log that was restored from an older copy has another event, or none, where the reactor stands, however far it has grown.
func TestRestoredCopyIsRefusedUntilSomebodyBegins(t *testing.T) {
	t.Parallel()
	const setEvent = "update reactor.checkpoint set event_commit = event_commit + $1, event_prepare = event_prepare + $1, event_id = $2"
	for name, c := range map[string]struct {
		beyond int
		id     string
	}{
		"another event":                  {0, "00000000-0000-4000-8000-000000000001"},
		"beyond the end":                 {1 << 40, "00000000-0000-4000-8000-000000000001"},
		"a checkpoint of before, beyond": {1 << 40, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, kept := setUp(t), &memory{}
			f.Write(3)
			f.begun(options(kept))
			f.Write(3)
			if _, err := f.Pool.Exec(t.Context(), setEvent, c.beyond, c.id); err != nil {
				t.Fatal(err)
			}
			r, progress := f.reactor(options(kept))
			if s, err := r.Status(t.Context()); err != nil || s.Healthy() || !strings.Contains(s.Problem, "rapport reactors begin crm") {
				t.Errorf("%+v, %v", s, err)
			}
			refusal, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var history *follow.OtherHistoryError
			if err := r.Run(refusal); !errors.As(err, &history) || r.Err() == nil {
				t.Fatalf("got %v", err)
			}
			head, err := Kind.Begin(t.Context(), f.Pool, f.Log, "crm", "ann", "restored")
			if err != nil {
				t.Fatal(err)
			}
			f.Start(r.Run)
			f.settled(r, progress)
			if s, err := r.Status(t.Context()); err != nil || !s.Healthy() || s.Position != head || len(kept.ids()) > 0 {
				t.Errorf("began at %+v with %d effects, %v", s, len(kept.ids()), err)
			}
		})
	}
}

// The reactor goes on behind its event, not behind what was searched: a restored log may have other events there.
func TestSearchBeginsAtTheLastEvent(t *testing.T) {
	t.Parallel()
	f, kept := setUp(t), &memory{}
	f.Write(1)
	f.begun(options(kept))
	const ahead = "update reactor.checkpoint set commit_position = 1 << 40, prepare_position = 1 << 40"
	if _, err := f.Pool.Exec(t.Context(), ahead); err != nil {
		t.Fatal(err)
	}
	f.Write(3)
	r, progress := f.reactor(options(kept))
	f.Start(r.Run)
	f.settled(r, progress)
	if got := kept.ids(); !slices.Equal(got, f.Written[1:]) {
		t.Errorf("published %v of %v", got, f.Written)
	}
}

func TestOnlyWantedTypesArePublished(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		types []string
		want  string
	}{
		{nil, "note.written note.read"},
		{[]string{"note."}, "note.written note.read"},
		{[]string{"note.read"}, "note.read"},
		{[]string{"note"}, ""},
		{[]string{"reservation."}, "reservation.claimed"},
	} {
		opts := options(&memory{})
		opts.Types = c.types
		var got []string
		for _, name := range []string{"note.written", "note.read", "reservation.claimed"} {
			if opts.wants(name) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v: %v", c.types, got)
		}
	}
}

// What happens to the neighbours of those whose events are published reaches no receiver, and moves the reactor on.
func TestOnlyTheTenantsNamedArePublished(t *testing.T) {
	t.Parallel()
	for _, tenants := range [][]domain.Tenant{{"main"}, {"neighbour"}, {"main", "neighbour"}, {"nobody"}} {
		f, kept := setUp(t), &memory{}
		opts := options(kept)
		opts.Tenants = tenants
		f.begun(opts)
		var want []string
		for i := range 12 {
			tenant := []domain.Tenant{"main", "neighbour", "third"}[i%3]
			f.Append(1, followtest.Written{Text: "of " + string(tenant)}, func(p *domain.Pending) { p.Tenant = tenant })
			if slices.Contains(tenants, tenant) {
				want = append(want, f.Written[len(f.Written)-1])
			}
		}
		r, progress := f.reactor(opts)
		f.Start(r.Run)
		f.settled(r, progress)
		if got := kept.ids(); !slices.Equal(got, want) {
			t.Errorf("%v: published %v, want %v", tenants, got, want)
		}
		for _, out := range kept.took {
			var ce event.Event
			if err := json.Unmarshal(out.Body, &ce); err != nil {
				t.Fatal(err)
			}
			tenant, _ := ce.Extensions()["tenant"].(string)
			if !slices.Contains(tenants, domain.Tenant(tenant)) || !strings.HasPrefix(out.Topic, tenant+".") || !strings.Contains(string(out.Body), `"of `+tenant+`"`) {
				t.Errorf("%v: on %s: %s", tenants, out.Topic, out.Body)
			}
		}
	}
}

func TestPublishedEventIsACloudEvent(t *testing.T) {
	t.Parallel()
	f, kept := setUp(t), &memory{}
	f.begun(options(kept))
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f.Append(1, followtest.Written{Text: "first"})
	f.Append(1, followtest.Read{})
	f.Append(1, followtest.Written{Text: "a <text>"}, func(p *domain.Pending) {
		p.TraceParent, p.Actor = trace, domain.Actor{ID: "Zoë", Kind: domain.ActorAutomation, OnBehalfOf: "ann"}
	})
	r, progress := f.reactor(options(kept))
	f.Start(r.Run)
	f.settled(r, progress)
	if len(kept.took) != 2 {
		t.Fatalf("%d messages", len(kept.took))
	}
	out := kept.took[1]
	var ce event.Event
	if err := json.Unmarshal(out.Body, &ce); err != nil {
		t.Fatal(err)
	}
	if err := ce.Validate(); err != nil {
		t.Error(err)
	}
	id, err := f.Log.ID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head, err := f.Log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Body, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"specversion": "1.0", "id": f.Written[2], "source": "urn:uuid:" + id, "type": "note.written",
		"subject": "main.note-00000000-0000-7000-8000-000000000001", "time": "2026-03-01T11:00:00Z",
		"dataschema":      "https://github.com/rapport-crm/rapport/blob/main/docs/events/schemas/note.written.1.json",
		"datacontenttype": "application/json", "data": map[string]any{"text": "a <text>"},
		"position": head.Position.String(), "revision": "2", "recordedtime": "2026-03-01T12:00:00Z", "correlationid": "conversation",
		"causationid": "cause", "tenant": "main", "actor": "Zoë", "actorkind": "automation", "onbehalfof": "ann", "traceparent": trace,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	headers := map[string]string{"content-type": "application/cloudevents+json", "traceparent": trace, "correlation_id": "conversation"}
	if diff := cmp.Diff(headers, out.Headers); diff != "" || out.ID != f.Written[2] || out.Key != ce.Subject() || out.Topic != "main.note.written" {
		t.Errorf("%+v: %s", out, diff)
	}
}

func TestNamesAndPlacesAreChecked(t *testing.T) {
	main := []domain.Tenant{"main"}
	t.Parallel()
	for _, o := range []Options{
		{To: &memory{}, Tenants: main}, {Name: "a b", To: &memory{}, Tenants: main}, {Name: strings.Repeat("a", 61), To: &memory{}, Tenants: main},
		{Name: "crm", Tenants: main}, {Name: "crm", To: &memory{}},
	} {
		if _, err := New(nil, nil, nil, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestReactorsOfAProcessShareItsMetrics(t *testing.T) {
	t.Parallel()
	f, metrics := setUp(t), prometheus.NewRegistry()
	for _, name := range []string{"one", "two"} {
		opts := options(&memory{})
		opts.Name = name
		f.begun(opts)
		opts.Registerer = metrics
		f.reactor(opts)
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if n := len(family.GetMetric()); n != 2 {
			t.Errorf("%s is there %d times", family.GetName(), n)
		}
	}
	if len(families) != 8 {
		t.Errorf("%d metrics", len(families))
	}
}
