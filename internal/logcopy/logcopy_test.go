package logcopy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/leaktest"
	"github.com/rapport-crm/rapport/internal/nodetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// seedVariable names the environment variable that repeats a run of what is drawn at random.
const seedVariable = "RAPPORT_TEST_SEED"

// drawn is the randomness of a test, told so that the run can be repeated.
func drawn(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// openNode starts a node of its own.
func openNode(t testing.TB) string {
	t.Helper()
	return nodetest.Open(t, esnode.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}).ConnectionString()
}

// openStrict starts a node that behaves as real engines do.
func openStrict(t testing.TB, seed uint64) string {
	t.Helper()
	options := esnode.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Strict: nodetest.Manners(seed)}
	return openAs(t, options)
}

// openOrdinary starts an embedded node whatever the suite runs on.
func openOrdinary(t testing.TB) string {
	t.Helper()
	return openAs(t, esnode.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
}

func openAs(t testing.TB, options esnode.Options) string {
	t.Helper()
	node, err := esnode.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return node.ConnectionString()
}

func dial(t testing.TB, at, namespace string, options ...eventlog.Option) *eventlog.ESDB {
	t.Helper()
	options = append(options, eventlog.WithNamespace(namespace), eventlog.WithLogger(slog.New(slog.DiscardHandler)))
	log, err := eventlog.Dial(t.Context(), at, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Errorf("close log: %v", err)
		}
	})
	return log
}

// official connects the client of the engine, for what the product would never write.
func official(t testing.TB, at string) *esdb.Client {
	t.Helper()
	config, err := esdb.ParseConnectionString(at)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func streamName(aggregate string) string { return "main." + aggregate + "-" + uuid.NewString() }

// payloads are bodies and metadata of any form: they are carried as they are.
var payloads = [][]byte{nil, []byte(`{}`), []byte(`{"name":"Łukasz 客"}`), {0xff, 0, 0x0a}, []byte(" \n{\"a\" : 1}\n"), make([]byte, 9_000)}

// grow appends n events at random: to old streams and new ones, alone and several at once.
func grow(t testing.TB, log *eventlog.ESDB, random *rand.Rand, n int) {
	t.Helper()
	next := map[string]uint64{}
	for raw, err := range readOn(t.Context(), log, domain.Mark{}, soon) {
		if err != nil {
			t.Fatal(err)
		}
		next[raw.Stream] = raw.Revision + 1
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range next {
			if !yield(name) {
				return
			}
		}
	})
	for n > 0 {
		if len(names) == 0 || random.IntN(4) == 0 {
			names = append(names, streamName("customer"))
		}
		name := names[random.IntN(len(names))]
		events := make([]eventlog.NewEvent, min(n, 1+random.IntN(4)))
		for i := range events {
			events[i] = eventlog.NewEvent{
				ID: uuid.NewString(), Type: "customer." + strconv.Itoa(random.IntN(3)),
				Data: payloads[random.IntN(len(payloads))], Metadata: payloads[random.IntN(len(payloads))],
			}
		}
		expected := domain.NoStream
		if next[name] > 0 {
			expected = domain.AtRevision(next[name] - 1)
		}
		committed(t, log, name, expected, events...)
		next[name] += uint64(len(events))
		n -= len(events)
	}
}

// event is what a copy has to carry.
type event struct {
	Stream, ID, Type, Data, Metadata string
	Revision                         uint64
}

// content returns the events of a log in their order.
func content(t testing.TB, log *eventlog.ESDB) []event {
	return drain(t, log.ReadAll(t.Context(), domain.Position{}))
}

func drain(t testing.TB, events iter.Seq2[codec.Raw, error]) []event {
	t.Helper()
	var all []event
	for raw, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, event{raw.Stream, raw.ID, raw.Type, string(raw.Data), string(raw.Metadata), raw.Revision})
	}
	return all
}

// equal fails the test when two values differ.
func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		if len(d) > 2000 {
			d = d[:2000] + "…"
		}
		t.Errorf("%s differs (-want +got):\n%s", what, d)
	}
}

func headOf(t testing.TB, log *eventlog.ESDB) (head domain.Mark) {
	t.Helper()
	must(t, func() (err error) {
		head, err = log.Head(t.Context())
		return err
	})
	return head
}

// source opens a log for copying.
func source(t testing.TB, log *eventlog.ESDB) *LogSource {
	t.Helper()
	s, err := Open(t.Context(), log, standing(t, log).Identity)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// soon is a pause for tests.
func soon(ctx context.Context, n int) error {
	select {
	case <-time.After(time.Millisecond << min(n, 8)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// must does something that fails for a while on a node that behaves as real engines do.
func must(t testing.TB, do func() error) {
	t.Helper()
	if err := patiently(t.Context(), soon, do); err != nil {
		t.Fatal(err)
	}
}

// standing is how a log stands.
func standing(t testing.TB, log *eventlog.ESDB) (s eventlog.Standing) {
	t.Helper()
	must(t, func() (err error) {
		s, err = log.Inspect(t.Context())
		return err
	})
	return s
}

// identified returns what a log answers to who asks for its identity.
func identified(t testing.TB, log *eventlog.ESDB) (i eventlog.Identity, err error) {
	t.Helper()
	err = patiently(t.Context(), soon, func() (err error) {
		i, err = log.Identity(t.Context())
		return err
	})
	return i, err
}

// committed appends until it is known what became of it.
func committed(t testing.TB, log *eventlog.ESDB, stream string, expected domain.Expected, events ...eventlog.NewEvent) {
	t.Helper()
	must(t, func() error {
		switch o := log.Append(t.Context(), stream, expected, events).(type) {
		case domain.Committed:
			return nil
		case domain.Unknown:
			return o.Err
		default:
			return fmt.Errorf("append to %s: %T %+v", stream, o, o)
		}
	})
}

// stray writes what the product would never write.
func stray(t testing.TB, client *esdb.Client, stream string, expected esdb.ExpectedRevision, data string) {
	t.Helper()
	event := esdb.EventData{EventID: uuid.New(), EventType: "customer.registered", ContentType: esdb.ContentTypeBinary, Data: []byte(data)}
	must(t, func() error {
		_, err := client.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, event)
		if err != nil {
			err = &domain.UnavailableError{What: "event log", Err: err}
		}
		return err
	})
}

func TestCopyCarriesEveryEventByteForByte(t *testing.T) {
	random := drawn(t)
	at := openNode(t)
	from, to := dial(t, at, "here", eventlog.WithSecret([]byte("s"))), dial(t, openNode(t), "there", eventlog.WithSecret([]byte("s")))
	stranger := dial(t, at, "stranger")
	for range 10 { // with others' events between
		grow(t, from, random, 60)
		grow(t, stranger, random, 5)
	}
	want := content(t, from)

	parts := map[Part]Progress{}
	s := source(t, from)
	result, err := Copy(t.Context(), s, to, Options{Progress: func(p Progress) { parts[p.Part] = p }})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the copy", content(t, to), want)
	if !result.Complete || result.Carried != 600 || !result.Proof.Equal() || result.Proof.From.Totals() != result.Proof.To.Totals() || result.Proof.To.Totals().Events != 600 {
		t.Errorf("result %+v", result)
	}
	equal(t, "the streams of the proof", result.Proof.From.Streams(), result.Proof.To.Streams())
	equal(t, "the progress", parts, map[Part]Progress{
		PartSurvey:  {PartSurvey, 600, 600, true},
		PartCarry:   {PartCarry, 600, 600, true},
		PartConfirm: {PartConfirm, 600, 600, true},
	})
	identity, err := identified(t, to)
	if err != nil || identity != result.Copy || identity.Origin != result.Source.ID || identity.ID == result.Source.ID ||
		identity.Namespace != "there" || identity.Secret != eventlog.SecretCheck([]byte("s")) {
		t.Errorf("identity %+v, %v", identity, err)
	}

	head := headOf(t, to)
	again, err := Copy(t.Context(), s, to, Options{})
	if err != nil || !again.Complete || again.Carried != 0 || !again.Proof.Equal() || again.Copy != identity {
		t.Errorf("a second run: %+v, %v", again, err)
	}
	if now := headOf(t, to); now != head {
		t.Errorf("the second run moved the head from %v to %v", head, now)
	}

	// In use it grows, and the comparison says so.
	grow(t, to, random, 1)
	c, err := Compare(t.Context(), s, to, Options{})
	if err != nil || c.Equal() || c.Differing != 1 || c.From.Totals().Events != 600 || c.To.Totals().Events != 601 {
		t.Errorf("compared with a copy that is in use: %s, %v", c, err)
	}
}

func TestCopyOfALogOfBeforeThereWereNamespaces(t *testing.T) {
	at := openOrdinary(t) // which has an identity as nodes of before had
	client := official(t, at)
	names := []string{streamName("customer"), streamName("deal")}
	for i := range 6 {
		for _, name := range append(names, "main.report", "main.customer") { // the last two are strangers'
			expected := esdb.ExpectedRevision(esdb.NoStream{})
			if i > 0 {
				expected = esdb.Revision(uint64(i) - 1)
			}
			stray(t, client, name, expected, fmt.Sprintf(`{"n":%d}`, i))
		}
	}
	from := dial(t, at, eventlog.DefaultNamespace)
	want := content(t, from)
	if len(want) != 12 {
		t.Fatalf("%d events, want those of two streams", len(want))
	}
	if _, err := Copy(t.Context(), source(t, from), dial(t, at, eventlog.DefaultNamespace), Options{}); !errors.Is(err, eventlog.ErrNotEmpty) {
		t.Errorf("into itself: %v", err)
	}
	for what, to := range map[string]*eventlog.ESDB{"another store": dial(t, openNode(t), eventlog.DefaultNamespace), "the same store": dial(t, at, "anew")} {
		if _, err := Copy(t.Context(), source(t, from), to, Options{}); err != nil {
			t.Fatalf("into %s: %v", what, err)
		}
		equal(t, "the copy in "+what, content(t, to), want)
		committed(t, to, "acme.customer-"+uuid.NewString(), domain.NoStream, eventlog.NewEvent{ID: uuid.NewString(), Type: "t"}) // another tenant
	}
}

// faults makes a log fail at random: before or after it did what was asked. Every operation counts, and at one of them the
// run is killed.
type faults struct {
	Target
	random *rand.Rand
	kill   context.CancelFunc
	left   int // operations until the run is killed
}

var errFault = &domain.UnavailableError{What: "event log", Err: errors.New("a fault of the test")}

// strike counts an operation and draws its fault.
func (f *faults) strike() bool {
	if f.left--; f.left == 0 {
		f.kill()
	}
	return f.random.IntN(6) == 0
}

func (f *faults) Inspect(ctx context.Context) (eventlog.Standing, error) {
	if f.strike() {
		return eventlog.Standing{}, errFault
	}
	return f.Target.Inspect(ctx)
}

func (f *faults) BeginCopy(ctx context.Context, origin eventlog.Identity) (*eventlog.CopyRun, error) {
	if f.strike() {
		return nil, errFault
	}
	run, err := f.Target.BeginCopy(ctx, origin)
	if f.strike() {
		return nil, errFault // it has begun all the same
	}
	return run, err
}

func (f *faults) Append(ctx context.Context, stream string, expected domain.Expected, events []eventlog.NewEvent) domain.Outcome {
	if f.strike() {
		if f.random.IntN(2) == 0 {
			return domain.Conflict{Actual: expected} // told too early
		}
		return domain.Unknown{Err: errFault}
	}
	if n := f.random.IntN(len(events) + 1); n > 0 && n < len(events) { // what a run before had sent arrives late
		f.Target.Append(context.WithoutCancel(ctx), stream, expected, events[:n])
	}
	o := f.Target.Append(ctx, stream, expected, events)
	if f.strike() {
		return domain.Unknown{Err: errFault}
	}
	return o
}

func (f *faults) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error] {
	return f.broken(f.Target.ReadAll(ctx, after))
}

func (f *faults) ReadStream(ctx context.Context, stream string, from uint64) iter.Seq2[codec.Raw, error] {
	return f.broken(f.Target.ReadStream(ctx, stream, from))
}

// broken breaks a read after some of its events.
func (f *faults) broken(events iter.Seq2[codec.Raw, error]) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		at := -1
		if f.strike() {
			at = f.random.IntN(20)
		}
		for raw, err := range events {
			if at == 0 {
				yield(codec.Raw{}, errFault)
				return
			}
			at--
			if !yield(raw, err) {
				return
			}
		}
	}
}

func (f *faults) Head(ctx context.Context) (domain.Mark, error) {
	if f.strike() {
		return domain.Mark{}, errFault
	}
	return f.Target.Head(ctx)
}

func (f *faults) Check(ctx context.Context, m domain.Mark) error {
	if f.strike() {
		return errFault
	}
	return f.Target.Check(ctx, m)
}

// killed runs a copy until it ends by itself, and kills it at random before; each run has faults of its own in the source and
// in the copy. After each of them nobody else may use the copy, and it is the beginning of the source.
func killed(t *testing.T, random *rand.Rand, open func(*faults) (Source, error), from Target, to *eventlog.ESDB, witness *eventlog.ESDB, want []event) {
	t.Helper()
	for runs := 1; ; runs++ {
		ctx, cancel := context.WithCancel(t.Context())
		read := &faults{Target: from, random: random, kill: cancel, left: -1}
		s, err := open(read)
		if err != nil {
			t.Fatal(err)
		}
		write := &faults{Target: to, random: random, kill: cancel, left: 1 + random.IntN(40*runs)}
		result, err := Copy(ctx, s, write, Options{pause: soon})
		cancel()
		if err == nil {
			t.Logf("complete after %d runs", runs)
			if !result.Complete || !result.Proof.Equal() {
				t.Errorf("result %+v", result)
			}
			equal(t, "the copy", content(t, witness), want)
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("run %d: %v", runs, err)
		}
		now := standing(t, witness)
		if now.Identity.ID == "" {
			continue
		}
		if _, err := identified(t, witness); errors.Is(err, eventlog.ErrUnfinishedCopy) != now.Unfinished {
			t.Fatalf("after run %d, with the copy standing as %+v, others are told %v", runs, now, err)
		}
	}
}

func TestCopyKilledAtRandomIsResumed(t *testing.T) {
	random := drawn(t)
	for range 4 {
		first, second, third := openOrdinary(t), openStrict(t, random.Uint64()), openOrdinary(t)
		from := dial(t, first, "rapport")
		grow(t, from, random, 150+random.IntN(200))
		want := content(t, from)
		fromLog := func(identity eventlog.Identity) func(*faults) (Source, error) {
			return func(f *faults) (Source, error) {
				s := &LogSource{log: f, identity: identity, pause: soon}
				return s, patiently(t.Context(), soon, func() (err error) {
					s.head, err = f.Head(t.Context())
					return err
				})
			}
		}
		// From one log into another, and on from there through a file into a third one.
		killed(t, random, fromLog(source(t, from).Identity()), from, dial(t, second, "b"), dial(t, second, "b"), want)
		between := dial(t, second, "b")
		path := t.TempDir() + "/history"
		if _, err := Export(t.Context(), source(t, between), path, Options{}); err != nil {
			t.Fatal(err)
		}
		file, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		killed(t, random, func(*faults) (Source, error) { return file, nil }, nil, dial(t, third, "c"), dial(t, third, "c"), want)
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// interfering does something before the n-th append.
type interfering struct {
	Target
	n  int
	do func()
}

func (i *interfering) Append(ctx context.Context, stream string, expected domain.Expected, events []eventlog.NewEvent) domain.Outcome {
	if i.n--; i.n == 0 {
		i.do()
	}
	return i.Target.Append(ctx, stream, expected, events)
}

// A second run begins while the first one is at work: wherever that is, the later one ends well and the earlier one is told.
func TestTwoRunsOnOneCopy(t *testing.T) {
	random := drawn(t)
	from := dial(t, openNode(t), "rapport")
	grow(t, from, random, 200)
	want := content(t, from)
	for _, stop := range []int{1, 2, 10, 25} {
		at := openNode(t)
		to := dial(t, at, "rapport")
		var other Result
		second := func() {
			grow(t, from, random, stop%2) // its source may have grown
			want = content(t, from)
			var err error
			if other, err = Copy(t.Context(), source(t, from), dial(t, at, "rapport"), Options{}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Copy(t.Context(), source(t, from), &interfering{to, stop, second}, Options{pause: soon})
		if !errors.Is(err, eventlog.ErrOtherCopy) || !other.Complete {
			t.Errorf("a second run before append %d: the first one says %v, the second one is complete: %v", stop, err, other.Complete)
		}
		equal(t, "the copy", content(t, to), want)
	}
}

// The second run only begins, and ends before it has done anything: the first one finds out long before its end, and a third
// one ends the copy.
func TestRunThatWasOvertakenDoesNotComplete(t *testing.T) {
	from := invented(2 * holdEvery) // in two streams by turns, so that each event is an append
	at := openNode(t)
	to := dial(t, at, "rapport")
	overtake := func() {
		other := dial(t, at, "rapport")
		must(t, func() error {
			_, err := other.BeginCopy(t.Context(), from.Identity())
			return err
		})
	}
	r, err := Copy(t.Context(), from, &interfering{to, 5, overtake}, Options{pause: soon})
	if !errors.Is(err, eventlog.ErrOtherCopy) || r.Complete || r.Carried >= holdEvery {
		t.Errorf("it was overtaken, and says %v after %d events", err, r.Carried)
	}
	if r, err := Copy(t.Context(), from, to, Options{}); err != nil || !r.Complete {
		t.Errorf("the next one: %+v, %v", r, err)
	}
	equal(t, "the copy", content(t, to), drain(t, from.Events(t.Context(), domain.Mark{})))
}

// What somebody else writes into the copy while it is made is found, before or behind what was copied.
func TestDisturbedCopyIsNotComplete(t *testing.T) {
	random := drawn(t)
	from := dial(t, openNode(t), "rapport")
	grow(t, from, random, 100)
	names := content(t, from)
	for what, stream := range map[string]string{"a stream of its own": streamName("stray"), "a stream of the source": names[len(names)-1].Stream} {
		at := openOrdinary(t) // the engine's client is not made for another one
		client, to := official(t, at), dial(t, at, "rapport")
		disturb := func() {
			stray(t, client, "rapport."+stream, esdb.Any{}, `{}`)
		}
		if r, err := Copy(t.Context(), source(t, from), &interfering{to, 3, disturb}, Options{pause: soon}); !errors.Is(err, ErrDisturbed) || r.Complete {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := Copy(t.Context(), source(t, from), to, Options{pause: soon}); !errors.Is(err, ErrOtherHistory) {
			t.Errorf("%s: the next run: %v", what, err)
		}
		if _, err := identified(t, dial(t, at, "rapport")); !errors.Is(err, eventlog.ErrUnfinishedCopy) {
			t.Errorf("%s: others are told %v", what, err)
		}
	}
}

// A copy of the source as it was before a restore is not continued with what it became.
func TestOtherHistoryOfTheSameLogIsRefused(t *testing.T) {
	identity, raws := invented(20).identity, invented(20).events
	changed := slices.Clone(raws)
	changed[3].Data = []byte(`{"other":true}`)
	for what, c := range map[string]struct {
		second history
		want   error
	}{
		"the same":            {history{identity, raws}, nil},
		"one event is other":  {history{identity, changed}, ErrOtherHistory},
		"an older copy":       {history{identity, raws[:5]}, ErrOtherHistory},
		"two are exchanged":   {history{identity, exchanged(raws)}, ErrOtherHistory},
		"another log's":       {history{eventlog.Identity{ID: uuid.NewString()}, raws}, eventlog.ErrNotEmpty},
		"a stream has a hole": {history{identity, without(raws, 0)}, domain.ErrCorrupt},
	} {
		to := dial(t, openNode(t), "rapport")
		first := history{identity, raws[:10]}
		if r, err := Copy(t.Context(), first, to, Options{LeaveOpen: true}); err != nil || r.Complete || !r.Proof.Equal() {
			t.Fatalf("%s: %+v, %v", what, r, err)
		}
		if _, err := Copy(t.Context(), c.second, to, Options{pause: soon}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func TestNothingIsBegunWithADamagedSource(t *testing.T) {
	identity, raws := invented(40).identity, invented(40).events
	bad := slices.Clone(raws)
	bad[7].ID = "x"
	for what, h := range map[string]history{
		"the first event of a stream is missing": {identity, without(raws, 0)},
		"an event comes twice":                   {identity, append(slices.Clone(raws), raws[len(raws)-1])},
		"an id is none":                          {identity, bad},
	} {
		to := dial(t, openNode(t), "rapport")
		if _, err := Copy(t.Context(), h, to, Options{pause: soon}); !errors.Is(err, domain.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		if now := standing(t, to); now != (eventlog.Standing{}) {
			t.Errorf("%s: %+v was begun", what, now)
		}
	}
}

// What is written to the source while it is copied is carried by the last run.
func TestSourceInUseIsCopiedInTwoRuns(t *testing.T) {
	random := drawn(t)
	from, to := dial(t, openNode(t), "rapport"), dial(t, openNode(t), "rapport")
	grow(t, from, random, 100)
	write := func() { grow(t, from, random, 10) }
	r, err := Copy(t.Context(), source(t, from), &interfering{to, 5, write}, Options{LeaveOpen: true})
	if err != nil || r.Complete || r.Proof.To.Totals().Events != 100 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err = Copy(t.Context(), source(t, from), to, Options{}); err != nil || !r.Complete || r.Carried != 10 {
		t.Fatalf("%+v, %v", r, err)
	}
	equal(t, "the copy", content(t, to), content(t, from))
}

// history is a source in memory.
type history struct {
	identity eventlog.Identity
	events   []codec.Raw
}

func (h history) Identity() eventlog.Identity { return h.identity }
func (h history) Expected() uint64            { return uint64(len(h.events)) }
func (h history) Agree(Totals) error          { return nil }

func (h history) Events(_ context.Context, after domain.Mark) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		for i, raw := range h.events {
			raw.Position = domain.Position{Commit: uint64(i) + 1, Prepare: uint64(i) + 1}
			if after.Position.Before(raw.Position) && !yield(raw, nil) {
				return
			}
		}
	}
}

func without(raws []codec.Raw, i int) []codec.Raw { return slices.Delete(slices.Clone(raws), i, i+1) }

// exchanged changes the order of the first two, which are of different streams.
func exchanged(raws []codec.Raw) []codec.Raw {
	raws = slices.Clone(raws)
	raws[0], raws[1] = raws[1], raws[0]
	return raws
}

func TestPatienceEnds(t *testing.T) {
	pauses := 0
	pause := func(context.Context, int) error { pauses++; return nil }
	if err := patiently(t.Context(), pause, func() error { return errFault }); !errors.Is(err, errFault) || pauses != maxTries {
		t.Errorf("%v after %d pauses", err, pauses)
	}
	pauses = 0
	if err := patiently(t.Context(), pause, func() error { return domain.ErrCorrupt }); !errors.Is(err, domain.ErrCorrupt) || pauses != 0 {
		t.Errorf("%v after %d pauses: it does not pass", err, pauses)
	}
	pauses = 0
	tries := 0
	err := patiently(t.Context(), pause, func() error { // it gets further each time
		if tries++; tries > 3*maxTries {
			return nil
		}
		return advanced{errFault}
	})
	if err != nil || pauses != 3*maxTries {
		t.Errorf("%v after %d pauses", err, pauses)
	}
}
