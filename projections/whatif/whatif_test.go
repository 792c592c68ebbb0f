package whatif_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/whatif"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// history is a log in memory.
type history struct {
	events []domain.Recorded
	next   map[domain.StreamID]uint64
	read   func(n int) // told of each event read
}

func (h *history) add(aggregate string, id domain.ID, e domain.Event) {
	n := uint64(len(h.events) + 1)
	at := time.Date(2026, 1, 1, int(n), 0, 0, 0, time.UTC)
	r := domain.Recorded{
		ID:       fmt.Sprintf("00000000-0000-5000-8000-%012d", n),
		Stream:   domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: aggregate, ID: id},
		Position: domain.Position{Commit: n, Prepare: n},
		Metadata: domain.Metadata{Schema: 1, Tenant: domain.DefaultTenant, OccurredAt: at, RecordedAt: at},
		Event:    e,
	}
	r.Revision = h.next[r.Stream]
	h.next[r.Stream]++
	h.events = append(h.events, r)
}

// ReadTypes implements whatif.Log.
func (h *history) ReadTypes(ctx context.Context, after domain.Position, wanted func(string) bool) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for n, e := range h.events {
			if h.read != nil {
				h.read(n)
			}
			if err := ctx.Err(); err != nil {
				yield(domain.Recorded{}, err)
				return
			}
			if after.Before(e.Position) && wanted(e.Type()) && !yield(e, nil) {
				return
			}
		}
	}
}

// Head implements whatif.Log.
func (h *history) Head(context.Context) (domain.Mark, error) {
	n := uint64(len(h.events))
	return domain.Mark{Position: domain.Position{Commit: n, Prepare: n}}, nil
}

func id(n int) domain.ID { return domain.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", n)) }

const own = 900 // the pipeline of the golden set

// golden is a small set of deals of which the outcome can be computed by hand.
func golden() *history {
	h := &history{next: map[domain.StreamID]uint64{}}
	stages := []pipeline.Stage{{Key: "q", Name: "Q", Probability: 10}, {Key: "p", Name: "P", Probability: 50}}
	h.add("pipeline", id(own), pipeline.Defined{Name: "New business", Version: 1, Stages: stages})
	standing := opportunity.Standing{Owner: "ann", PipelineID: id(own), PipelineVersion: 1}
	worth := func(amount string) *domain.Money { return new(domain.MustMoney(amount, "EUR")) }
	open := func(n int, stage string, probability int, amount *domain.Money) {
		h.add("opportunity", id(n), opportunity.Opened{Name: fmt.Sprint("Deal ", n), Standing: standing, Stage: stage, Visit: 1, Probability: probability, Amount: amount})
	}
	open(1, "q", 10, worth("1000")) // stays in q
	open(2, "q", 10, worth("200"))  // moves on to p
	h.add("opportunity", id(2), opportunity.StageMoved{From: "q", To: "p", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: standing, Amount: worth("200")})
	open(3, "p", 50, worth("400")) // won: what it was worth before plays no part
	h.add("opportunity", id(3), opportunity.Won{Stage: "p", Visit: 1, Standing: standing, Amount: *worth("390")})
	open(4, "p", 50, nil)                                                                                                   // nobody estimated it
	other := opportunity.Standing{Owner: "ann", PipelineID: pipeline.DefaultID, PipelineVersion: 1}                         // another pipeline with a stage
	h.add("opportunity", id(5), opportunity.Opened{Name: "Deal 5", Standing: other, Stage: "p", Visit: 1, Probability: 50}) // of the same key
	return h
}

// run returns the differences as "key column from → to".
func run(t *testing.T, url string, log whatif.Log, projection, file string) ([]string, whatif.Summary) {
	t.Helper()
	candidate, err := whatif.Parse(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	r := whatif.Run{URL: url, Log: log, Tenant: domain.DefaultTenant, Projection: projection, Candidate: candidate}
	summary, err := r.Do(t.Context(), func(c whatif.Change) error {
		lines = append(lines, fmt.Sprintf("%s %s %s → %s", c.Key, c.Column, c.From, c.To))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, summary
}

func TestAChangedProbabilityGivesTheDifferenceComputedByHand(t *testing.T) {
	url := pgtest.Database(t)
	const file = "probabilities:\n  New business:\n    p: 60\n    q: 10 # as it was\n"
	at := domain.Position{Commit: 8, Prepare: 8}
	for _, c := range []struct {
		projection string
		want       []string
		summary    whatif.Summary
	}{
		{"opportunity", []string{
			string(id(2)) + " probability 50 → 60", string(id(2)) + " weighted 100 → 120",
			string(id(4)) + " probability 50 → 60",
		}, whatif.Summary{Projection: "opportunity", Position: at, Events: 7, Rows: 5, Changed: 2, Values: 3}},
		{"opportunity_stage_visit", []string{
			string(id(2)) + " 2 probability 50 → 60", string(id(2)) + " 2 weighted 100 → 120",
			string(id(3)) + " 1 probability 50 → 60", string(id(3)) + " 1 weighted 200 → 240",
			string(id(4)) + " 1 probability 50 → 60",
		}, whatif.Summary{Projection: "opportunity_stage_visit", Position: at, Events: 7, Rows: 6, Changed: 3, Values: 5}},
		{"pipeline", []string{
			string(id(own)) + ` stages [{"key": "q", "name": "Q", "probability": 10}, {"key": "p", "name": "P", "probability": 50}] → ` +
				`[{"key": "q", "name": "Q", "probability": 10}, {"key": "p", "name": "P", "probability": 60}]`,
		}, whatif.Summary{Projection: "pipeline", Position: at, Events: 1, Rows: 1, Changed: 1, Values: 1}},
		{"opportunity_line", []string{}, whatif.Summary{Projection: "opportunity_line", Position: at, Events: 5}},
		{"customer", []string{}, whatif.Summary{Projection: "customer", Position: at, Unaffected: true}},
	} {
		lines, summary := run(t, url, golden(), c.projection, file)
		if diff := cmp.Diff(c.want, lines); diff != "" {
			t.Errorf("%s: %s", c.projection, diff)
		}
		if diff := cmp.Diff(c.summary, summary); diff != "" {
			t.Errorf("%s: %s", c.projection, diff)
		}
	}
	if left := schemas(t, url); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestManyDealsInManyBatches moves deals on in other batches than those that opened them.
func TestManyDealsInManyBatches(t *testing.T) {
	const deals = 1_500
	h := golden()
	standing := opportunity.Standing{Owner: "ann", PipelineID: id(own), PipelineVersion: 1}
	worth := domain.MustMoney("10", "EUR")
	for n := range deals {
		h.add("opportunity", id(1000+n), opportunity.Opened{Name: "Deal", Standing: standing, Stage: "q", Visit: 1, Probability: 10, Amount: &worth})
	}
	for n := range deals {
		h.add("opportunity", id(1000+n), opportunity.StageMoved{From: "q", To: "p", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: standing, Amount: &worth})
	}
	url := pgtest.Database(t)
	lines, summary := run(t, url, h, "opportunity", "probabilities: {New business: {p: 60}}")
	if len(lines) != 2*deals+3 || summary.Changed != deals+2 || summary.Values != 2*deals+3 || summary.Rows != deals+5 || summary.Events != 2*deals+7 {
		t.Errorf("%d lines, %+v", len(lines), summary)
	}
	if lines, summary = run(t, url, h, "opportunity_stage_visit", "probabilities: {New business: {p: 50, q: 10}}"); len(lines) != 0 || summary.Rows != 2*deals+6 {
		t.Errorf("unchanged: %d lines, %+v", len(lines), summary)
	}
}

// D6: TestUnchangedParametersGiveNoDifference runs every projection with the parameters that events pinned.
func TestUnchangedParametersGiveNoDifference(t *testing.T) {
	url := pgtest.Database(t)
	compiled, err := projection.Compile(projections.All()...)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range compiled {
		file := []string{"", "probabilities:\n", "probabilities: {" + string(id(own)) + ": {q: 10, p: 50}}"}[i%3]
		if c.Name == "opportunity" {
			file = "probabilities: {" + string(id(own)) + ": {q: 10, p: 50}}"
		}
		lines, summary := run(t, url, golden(), c.Name, file)
		if len(lines) != 0 || summary.Changed+summary.Added+summary.Removed+summary.Values != 0 || i%3 < 2 && c.Name != "opportunity" && summary.Unaffected {
			t.Errorf("%s: %v, %+v", c, lines, summary)
		}
	}
}

// TestFilesAreReadStrictly names the place of everything that is wrong with a file.
func TestFilesAreReadStrictly(t *testing.T) {
	for file, want := range map[string]string{
		"scores:\n  a: {b: 1}":                                        `line 1, column 1: "scores" is no parameter; there are probabilities`,
		"probabilities: 7":                                            "line 1, column 16: probabilities is no mapping of names to values",
		"probabilities:\n  Sales: [1]":                                "line 2, column 10: Sales is no mapping of names to values",
		"probabilities:\n  Sales:\n    engaging: high":                "line 3, column 15: is not a whole number from 0 to 100",
		"probabilities:\n  Sales:\n    engaging: 101":                 "line 3, column 15: is not a whole number from 0 to 100",
		"probabilities:\n  Sales:\n    engaging: 10.5":                "line 3, column 15: is not a whole number from 0 to 100",
		"probabilities:\n  Sales:\n    engaging:":                     "line 3, column 14: is not a whole number from 0 to 100",
		"probabilities:\n  Sales: {engaging: 1, engaging: 2}":         `line 2, column 24: "engaging" stands there twice`,
		"probabilities:\n  Sales: {}\nprobabilities:\n  S: {}":        `line 3, column 1: "probabilities" stands there twice`,
		"probabilities:\n\tSales: {}":                                 "line 2, column 1:",
		"probabilities: {}\n---\nmore: {}":                            "line 2, column 1: the file holds more than one document",
		"- probabilities":                                             "line 1, column 1: parameters is no mapping of names to values",
		"probabilities: {" + strings.Repeat("x", whatif.MaxFileBytes): "larger than 1048576 bytes",
	} {
		_, err := whatif.Parse(strings.NewReader(file))
		var wrong *whatif.FileError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", file, err, want)
		}
	}
}

func TestWhatDoesNotExistIsRefused(t *testing.T) {
	url := pgtest.Database(t)
	for file, want := range map[string]string{
		"probabilities:\n  Nonsense: {q: 1}":                                        `line 2, column 3: "Nonsense" is unknown; there are New business (` + string(id(own)) + `), Sales (` + string(pipeline.DefaultID) + `)`,
		"probabilities:\n  Sales:\n    q: 1":                                        `line 3, column 5: "q" is unknown in Sales; there are engaging, negotiation, proposal, prospecting`,
		"probabilities:\n  New business:\n    engaging: 1":                          `line 3, column 5: "engaging" is unknown in New business; there are p, q`,
		"probabilities:\n  New business: {q: 1}\n  " + string(id(own)) + ": {q: 2}": `"q" is set under the id and under the name`,
	} {
		candidate, err := whatif.Parse(strings.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		_, err = whatif.Run{URL: url, Log: golden(), Tenant: domain.DefaultTenant, Projection: "opportunity", Candidate: candidate}.Do(t.Context(), nil)
		var wrong *whatif.FileError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", file, err, want)
		}
	}
	var none *domain.NotFoundError
	_, err := whatif.Run{URL: url, Log: golden(), Tenant: domain.DefaultTenant, Projection: "scores", Candidate: &whatif.Candidate{}}.Do(t.Context(), nil)
	if !errors.As(err, &none) || none.Kind != "projection" {
		t.Errorf("an unknown projection: %v", err)
	}
}

// TestARunThatIsStoppedLeavesNothing ends a run while it reads, and looks for what killed ones have left.
func TestARunThatIsStoppedLeavesNothing(t *testing.T) {
	url := pgtest.Database(t)
	conn := connect(t, url)
	living := connect(t, url)
	// A killed process leaves a schema whose lock nobody holds; the other one is at work.
	for _, sql := range []string{"create schema whatif_killedkilledkill", "create table whatif_killedkilledkill.as_is (a int)", "create schema whatif_livinglivinglivi"} {
		exec(t, conn, sql)
	}
	exec(t, living, "select pg_advisory_lock(2003331430, hashtext('whatif_livinglivinglivi'))")
	ctx, cancel := context.WithCancel(t.Context())
	log := golden()
	log.read = func(n int) {
		if n == 4 {
			if left := schemas(t, url); len(left) != 2 {
				t.Errorf("while it runs: %v", left)
			}
			cancel()
		}
	}
	_, err := whatif.Run{URL: url, Log: log, Tenant: domain.DefaultTenant, Projection: "opportunity", Candidate: &whatif.Candidate{}}.Do(ctx, func(whatif.Change) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a run that was stopped: %v", err)
	}
	if left := schemas(t, url); len(left) != 1 || left[0] != "whatif_livinglivinglivi" {
		t.Errorf("left behind: %v", left)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func schemas(t *testing.T, url string) []string {
	t.Helper()
	rows, err := connect(t, url).Query(t.Context(), "select nspname from pg_namespace where nspname like 'whatif%' order by 1")
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestProgressIsCountedInEvents holds that positions, which may lie hundreds apart, say nothing about how far a run is.
func TestProgressIsCountedInEvents(t *testing.T) {
	url := pgtest.Database(t)
	log := golden()
	for i := range log.events {
		place := uint64(1_000 + 700*i*i)
		log.events[i].Position = domain.Position{Commit: place, Prepare: place}
	}
	last := func() whatif.Progress {
		candidate, err := whatif.Parse(strings.NewReader("probabilities:\n  New business:\n    p: 60\n"))
		if err != nil {
			t.Fatal(err)
		}
		var p whatif.Progress
		r := whatif.Run{
			URL: url, Log: ending{log}, Tenant: domain.DefaultTenant, Projection: "opportunity", Candidate: candidate,
			Progress: func(next whatif.Progress) { p = next },
		}
		if _, err := r.Do(t.Context(), func(whatif.Change) error { return nil }); err != nil {
			t.Fatal(err)
		}
		return p
	}
	want := whatif.Progress{Events: 7, Seen: 8, Ended: true}
	if diff := cmp.Diff(want, last()); diff != "" {
		t.Errorf("without read models:\n%s", diff)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "create schema rapport; create view rapport.log_time as select * from (values (3::bigint), (5)) v (events)"); err != nil {
		t.Fatal(err)
	}
	want.Total = 8
	if diff := cmp.Diff(want, last()); diff != "" {
		t.Errorf("with read models:\n%s", diff)
	}
}

// ending is a history whose head is where its last event stands.
type ending struct{ *history }

func (e ending) Head(context.Context) (domain.Mark, error) {
	return domain.Mark{Position: e.events[len(e.events)-1].Position}, nil
}
