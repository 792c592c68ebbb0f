package projection_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/query"
)

type noted struct {
	Text string
	Gone bool
}

func (noted) EventType() string { return "note.noted" }

type noteKey struct {
	Tenant domain.Tenant `db:"tenant"`
	ID     domain.ID     `db:"note_id"`
}

type note struct {
	Tenant   domain.Tenant  `db:"tenant,key" doc:"Whose data it is."`
	ID       domain.ID      `db:"note_id,key"`
	Text     string         `db:"text"`
	Tags     []string       `db:"tags"`
	Amount   domain.Amount  `db:"amount"`
	Due      *domain.Date   `db:"due"`
	At       time.Time      `db:"at"`
	Count    int            `db:"count"`
	Share    float64        `db:"share"`
	Open     bool           `db:"open"`
	Owner    *string        `db:"owner"`
	Price    *domain.Amount `db:"price"`
	Position int64          `db:"position"`
	gone     bool
}

var notes = projection.Fold[noteKey, note]{
	Name: "note", Version: 2, Doc: "Notes, it's said.", Events: []string{"note."},
	Keys: func(e domain.Recorded) []noteKey {
		k := noteKey{e.Tenant, e.Stream.ID}
		return []noteKey{k, k}
	},
	Evolve: func(r note, _ noteKey, e domain.Recorded) note {
		n := e.Event.(noted)
		if n.Text == "panic" {
			panic("no such note")
		}
		return note{Text: n.Text, Count: r.Count + 1, At: e.RecordedAt, gone: n.Gone, Position: e.Position.Order()}
	},
	Gone:    func(r note) bool { return r.gone },
	Indexes: []query.Index{{Name: "text", Columns: "tenant, text", Where: "open"}},
}

func record(n uint64, id domain.ID, e domain.Event) domain.Recorded {
	return domain.Recorded{
		ID: "x", Stream: domain.StreamID{Tenant: "main", Aggregate: "note", ID: id}, Position: domain.Position{Commit: n, Prepare: n},
		Metadata: domain.Metadata{Schema: 1, Tenant: "main", RecordedAt: time.Unix(int64(n), 123456789).In(time.FixedZone("CET", 3600))},
		Event:    e,
	}
}

const idA, idB domain.ID = "00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b"

func TestTableFollowsFromTheRowType(t *testing.T) {
	c, err := notes.Compile()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"create table if not exists projection.note_v2 (",
		"\ttenant text not null,", "\tnote_id uuid not null,", "\ttext text not null,", "\ttags jsonb not null,",
		"\tamount numeric not null,", "\tdue date,", "\tat timestamptz not null,", "\tcount bigint not null,",
		"\tshare double precision not null,", "\topen boolean not null,", "\towner text,", "\tprice numeric,",
		"\tposition bigint not null,", "\tprimary key (tenant, note_id)", ")",
	}, "\n")
	got := c.Table.CreateSQL()
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"comment on table projection.note_v2 is 'Notes, it''s said.'",
		"comment on column projection.note_v2.tenant is 'Whose data it is.'",
		"create index if not exists note_v2_text on projection.note_v2 (tenant, text) where open",
	}, append(got[1:], c.Table.IndexSQL()...)); diff != "" {
		t.Error(diff)
	}
}

func TestEventsMatchByNameAndByPrefix(t *testing.T) {
	exact := projection.Append[note]{Name: "log", Version: 1, Doc: "d", Events: []string{"note.noted"},
		Rows: func(domain.Recorded) []note { return nil }}
	c, err := exact.Compile()
	if err != nil {
		t.Fatal(err)
	}
	if !c.Matches("note.noted") || c.Matches("note.erased") || !c.Concerns("note.erased") || c.Concerns("order.placed") {
		t.Error("an exact name matches itself and concerns its aggregate")
	}
}

func TestWrongDeclarationsAreRefused(t *testing.T) {
	type untagged struct{ Tenant string }
	type keyless struct {
		Tenant string `db:"tenant"`
	}
	type moment struct {
		Tenant string    `db:"tenant,key"`
		At     time.Time `db:"at,key"`
	}
	type nobodys struct {
		Tenant string `db:"tenant,key"`
		Name   string `db:"name" personal:"true"`
	}
	type unmarked struct {
		Tenant domain.ID `db:"tenant,key"`
		Name   string    `db:"name" of:"tenant"`
	}
	type ofText struct {
		Tenant string `db:"tenant,key"`
		Name   string `db:"name" personal:"true" of:"tenant"`
	}
	for name, p := range map[string]projection.Projection{
		"personal of nobody":  projection.Append[nobodys]{Name: "a", Version: 1, Doc: "d", Events: []string{"*"}, Rows: func(domain.Recorded) []nobodys { return nil }},
		"of without personal": projection.Append[unmarked]{Name: "a", Version: 1, Doc: "d", Events: []string{"*"}, Rows: func(domain.Recorded) []unmarked { return nil }},
		"personal of no id":   projection.Append[ofText]{Name: "a", Version: 1, Doc: "d", Events: []string{"*"}, Rows: func(domain.Recorded) []ofText { return nil }},
		"fold by time": projection.Fold[moment, moment]{Name: "a", Version: 1, Doc: "d", Events: []string{"*"},
			Keys: func(domain.Recorded) []moment { return nil }, Evolve: func(m, _ moment, _ domain.Recorded) moment { return m }},
		"no db tag":        projection.Append[untagged]{Name: "a", Version: 1, Doc: "d", Events: []string{"*"}, Rows: func(domain.Recorded) []untagged { return nil }},
		"no key":           projection.Append[keyless]{Name: "a", Version: 1, Doc: "d", Events: []string{"*"}, Rows: func(domain.Recorded) []keyless { return nil }},
		"no rules":         projection.Append[note]{Name: "a", Version: 1, Doc: "d", Events: []string{"*"}},
		"no events":        projection.Append[note]{Name: "a", Version: 1, Doc: "d", Rows: func(domain.Recorded) []note { return nil }},
		"key without id":   projection.Fold[keyless, note]{Name: "a", Version: 1, Doc: "d", Events: []string{"*"}},
		"name in capitals": projection.Append[note]{Name: "A", Version: 1, Doc: "d", Events: []string{"*"}, Rows: func(domain.Recorded) []note { return nil }},
	} {
		if _, err := p.Compile(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMemoryFoldsOnceForEachKeyOfAnEvent(t *testing.T) {
	m, err := notes.Memory()
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range []domain.Recorded{
		record(1, idA, noted{Text: "a"}), record(2, idB, noted{Text: "b"}), record(3, idA, noted{Text: "c"}),
		record(4, idB, noted{Gone: true}),
	} {
		if err := m.Apply(e); err != nil {
			t.Fatal(i, err)
		}
	}
	row, ok := m.Row(noteKey{"main", idA})
	if !ok || row.Count != 2 || row.Text != "c" || row.ID != idA || len(m.Rows()) != 1 {
		t.Errorf("got %+v of %+v", row, m.Rows())
	}
	if want := time.Unix(3, 123456000).UTC(); row.At != want {
		t.Errorf("time %v, want microseconds in UTC: %v", row.At, want)
	}
}

func TestTheKeyOfAnAppendMayHoldATime(t *testing.T) {
	type moment struct {
		Tenant domain.Tenant `db:"tenant,key"`
		At     time.Time     `db:"at,key"`
		Text   string        `db:"text"`
	}
	m, err := projection.Append[moment]{Name: "moment", Version: 1, Doc: "d", Events: []string{"note."}, Rows: func(e domain.Recorded) []moment {
		return []moment{{e.Tenant, e.RecordedAt, e.Event.(noted).Text}}
	}}.Memory()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := record(1, idA, noted{Text: "the same moment elsewhere"})
	elsewhere.RecordedAt = elsewhere.RecordedAt.UTC()
	for _, e := range []domain.Recorded{record(30, idA, noted{Text: "c"}), record(1, idA, noted{Text: "a"}), elsewhere, record(2, idB, noted{Text: "b"})} {
		if err := m.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	var texts []string
	for _, row := range m.Rows() {
		texts = append(texts, row.Text)
	}
	if got := strings.Join(texts, " "); got != "a b c" {
		t.Errorf("got %q", got)
	}
}

// P7 of docs/faults.md.
func TestPanicNamesItsEventAndChangesNothing(t *testing.T) {
	m, err := notes.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(record(1, idA, noted{Text: "a"})); err != nil {
		t.Fatal(err)
	}
	var failed *projection.EventError
	if err := m.Apply(record(2, idA, noted{Text: "panic"})); !errors.As(err, &failed) || failed.Stack == "" {
		t.Errorf("got %v", err)
	}
	if row, _ := m.Row(noteKey{"main", idA}); row.Count != 1 {
		t.Errorf("got %+v", row)
	}
}

func TestRowsThatAnEventBeginsAreNotLookedFor(t *testing.T) {
	begun := notes
	begun.Begins = func(_ noteKey, e domain.Recorded) bool { return e.Revision == 0 }
	c, err := begun.Compile()
	if err != nil {
		t.Fatal(err)
	}
	engine := c.NewEngine(10)
	engine.Reset(false) // the table may have rows
	first, later := record(1, idA, noted{Text: "first"}), record(2, idB, noted{Text: "later"})
	later.Revision = 3
	step, err := engine.Begin([]domain.Recorded{first, later})
	if err != nil {
		t.Fatal(err)
	}
	missing := step.Missing()
	if len(missing) != 2 {
		t.Fatalf("the keys have two columns: %v", missing)
	}
	if diff := cmp.Diff([]string{string(idB)}, missing[1]); diff != "" {
		t.Error(diff)
	}
	w, err := step.Evaluate(0)
	if err != nil || w.Fresh != 2 {
		t.Errorf("%d rows are new, want both: nothing was loaded; %v", w.Fresh, err)
	}
}
