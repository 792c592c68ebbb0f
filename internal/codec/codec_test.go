package codec_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

// opened is an event in its third schema: the first had a price without currency, the second a title called "name".
type opened struct {
	Title string            `json:"title"`
	Price domain.Money      `json:"price"`
	Due   domain.Date       `json:"due,omitempty"`
	Owner domain.ID         `json:"owner,omitempty"`
	Seen  time.Time         `json:"seen,omitzero"`
	Tags  map[string]string `json:"tags,omitempty"`
	Lines []line            `json:"lines,omitempty"`
}

type line struct {
	Product  string        `json:"product"`
	Quantity domain.Amount `json:"quantity"`
}

type opened1 struct {
	Name  string `json:"name"`
	Price string `json:"price"`
}

type opened2 struct {
	Name  string       `json:"name"`
	Price domain.Money `json:"price"`
}

type closed struct {
	Reason string `json:"reason" personal:"true"`
}

func (opened) EventType() string { return "ticket.opened" }
func (closed) EventType() string { return "ticket.closed" }

var openedSpec = domain.EventSpec{
	Example: opened{
		Title: "Printer on fire",
		Price: domain.MustMoney("12.50", "EUR"),
		Due:   "2026-03-01",
		Owner: "0190a000-0000-7000-8000-000000000001",
		Seen:  time.Date(2026, 2, 28, 12, 30, 0, 500, time.UTC),
		Tags:  map[string]string{"z": "last", "a": "first"},
		Lines: []line{{Product: "toner", Quantity: domain.NewAmount(domain.MustMoney("3", "EUR").Amount.Decimal)}},
	},
	Doc:    "A ticket was opened.",
	Schema: 3,
	Upcasts: []domain.Upcaster{
		domain.Upcast(2, func(o opened2) opened { return opened{Title: o.Name, Price: o.Price} }),
		domain.Upcast(1, func(o opened1) opened2 { return opened2{Name: o.Name, Price: domain.MustMoney(o.Price, "EUR")} }),
	},
}

var ticket = domain.Definition{
	Name: "ticket", Plural: "tickets", Doc: "A ticket.",
	Events: []domain.EventSpec{openedSpec, {Example: closed{Reason: "burnt down"}, Doc: "A ticket was closed."}},
}

func registry(t testing.TB) *codec.Registry {
	t.Helper()
	r, err := codec.New(ticket)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func meta() domain.Metadata {
	return domain.Metadata{
		Tenant:        "main",
		Actor:         domain.Actor{ID: "ada", Kind: domain.ActorHuman, OnBehalfOf: "bob"},
		CorrelationID: "corr",
		CausationID:   "cause",
		CommandID:     "cmd",
		Fingerprint:   "fp",
		OccurredAt:    time.Date(2026, 2, 1, 8, 0, 0, 0, time.UTC),
		RecordedAt:    time.Date(2026, 2, 2, 9, 0, 0, 123456789, time.UTC),
		Subjects:      []domain.ID{"0190a000-0000-7000-8000-000000000002"},
		TraceParent:   "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

const stream = "main.ticket-0190a000-0000-7000-8000-000000000009"

func encode(t testing.TB, event domain.Event, m domain.Metadata) codec.Raw {
	t.Helper()
	data, metadata, err := registry(t).Encode(domain.Pending{ID: "0190a000-0000-7000-8000-00000000000a", Metadata: m, Event: event})
	if err != nil {
		t.Fatal(err)
	}
	return codec.Raw{
		ID: "0190a000-0000-7000-8000-00000000000a", Type: event.EventType(), Stream: stream, Revision: 4,
		Position: domain.Position{Commit: 77, Prepare: 77}, Data: data, Metadata: metadata,
	}
}

// D9 of docs/faults.md.
func TestGoldenFilesOfEverySchema(t *testing.T) {
	codectest.Golden(t, ticket, "testdata/events")
}

func TestEventReadsBackWhole(t *testing.T) {
	raw := encode(t, openedSpec.Example, meta())
	got, err := registry(t).Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	m := meta()
	m.Schema = 3
	want := domain.Recorded{
		ID: raw.ID, Stream: domain.StreamID{Tenant: "main", Aggregate: "ticket", ID: "0190a000-0000-7000-8000-000000000009"},
		Revision: 4, Position: raw.Position, Metadata: m, Event: openedSpec.Example,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMetadataNames(t *testing.T) {
	raw := encode(t, closed{}, meta())
	want := `{"schema":1,"tenant":"main","actor":{"id":"ada","kind":"human","onBehalfOf":"bob"},"$correlationId":"corr",` +
		`"$causationId":"cause","commandId":"cmd","fingerprint":"fp","occurredAt":"2026-02-01T08:00:00Z",` +
		`"recordedAt":"2026-02-02T09:00:00.123456789Z","subjects":["0190a000-0000-7000-8000-000000000002"],` +
		`"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`
	if string(raw.Metadata) != want {
		t.Errorf("got  %s\nwant %s", raw.Metadata, want)
	}
}

func TestTimesAreStoredInUTC(t *testing.T) {
	zone := time.FixedZone("", 2*60*60)
	m := meta()
	m.OccurredAt = m.OccurredAt.In(zone)
	at := time.Date(2026, 1, 1, 1, 0, 0, 0, zone)
	raw := encode(t, opened{Title: "x", Price: domain.MustMoney("1", "EUR"), Seen: at}, m)
	if !bytes.Contains(raw.Data, []byte(`"seen":"2025-12-31T23:00:00Z"`)) || !bytes.Contains(raw.Metadata, []byte(`"occurredAt":"2026-02-01T08:00:00Z"`)) {
		t.Errorf("got %s %s", raw.Data, raw.Metadata)
	}
}

// counted has every kind of field that may be left out.
type counted struct {
	Count  int     `json:"count,omitempty"`
	Rush   bool    `json:"rush,omitempty"`
	Before *string `json:"before,omitempty"`
	After  *string `json:"after,omitempty"`
}

func (counted) EventType() string { return "counter.counted" }

func TestOmitEmptyMeansWhatItMeansElsewhere(t *testing.T) {
	r, err := codec.New(domain.Definition{Name: "counter", Events: []domain.EventSpec{{Example: counted{}}}})
	if err != nil {
		t.Fatal(err)
	}
	data, _, err := r.Encode(domain.Pending{Metadata: meta(), Event: counted{After: new(string)}})
	if err != nil || string(data) != `{"after":""}` {
		t.Errorf("got %s, %v", data, err)
	}
}

// D6 of docs/faults.md.
func TestEncodingIsDeterministic(t *testing.T) {
	first := encode(t, openedSpec.Example, meta())
	for range 20 {
		if again := encode(t, openedSpec.Example, meta()); !bytes.Equal(first.Data, again.Data) || !bytes.Equal(first.Metadata, again.Metadata) {
			t.Fatalf("%s differs from %s", first.Data, again.Data)
		}
	}
}

func TestMembersOfANewerBinaryAreIgnored(t *testing.T) {
	raw := encode(t, closed{Reason: "done"}, meta())
	raw.Data = []byte(`{"reason":"done","addedLater":{"a":[1]}}`)
	raw.Metadata = bytes.Replace(raw.Metadata, []byte(`{"schema"`), []byte(`{"addedLater":1,"schema"`), 1)
	got, err := registry(t).Decode(raw)
	if err != nil || got.Event != (closed{Reason: "done"}) {
		t.Errorf("got %v, %v", got.Event, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	sound := encode(t, closed{Reason: "done"}, meta())
	swap := func(old, with string) func(*codec.Raw) {
		return func(r *codec.Raw) { r.Metadata = bytes.Replace(r.Metadata, []byte(old), []byte(with), 1) }
	}
	data := func(s string) func(*codec.Raw) { return func(r *codec.Raw) { r.Data = []byte(s) } }
	for name, damage := range map[string]func(*codec.Raw){
		"duplicate name":          data(`{"reason":"a","reason":"b"}`),
		"bad UTF-8":               data("{\"reason\":\"\xff\"}"),
		"wrong type":              data(`{"reason":1}`),
		"name in another case":    func(r *codec.Raw) { r.Type, r.Data = "ticket.opened", []byte(`{"Title":"a","price":1}`) },
		"truncated":               data(`{"reason":"a"`),
		"trailing":                data(`{"reason":"a"}{}`),
		"empty":                   data(``),
		"null":                    func(r *codec.Raw) { r.Metadata = nil },
		"schema zero":             swap(`"schema":1`, `"schema":0`),
		"negative schema":         swap(`"schema":1`, `"schema":-1`),
		"duplicate metadata":      swap(`"schema":1`, `"schema":1,"schema":1`),
		"tenant of other":         swap(`"tenant":"main"`, `"tenant":"other"`),
		"no actor":                swap(`"id":"ada"`, `"id":""`),
		"kind of actor":           swap(`"human"`, `"robot"`),
		"subject that is no UUID": swap(`"0190a000-0000-7000-8000-000000000002"`, `"x"`),
		"impossible time":         swap(`2026-02-01T`, `2026-02-31T`),
		"stream of no aggregate":  func(r *codec.Raw) { r.Stream = "main.ticket" },
	} {
		t.Run(name, func(t *testing.T) {
			raw := sound
			damage(&raw)
			_, err := registry(t).Decode(raw)
			var undecodable *codec.UndecodableError
			if !errors.As(err, &undecodable) || !errors.Is(err, domain.ErrCorrupt) {
				t.Fatalf("got %v, want an UndecodableError", err)
			}
			if undecodable.Stream != raw.Stream || undecodable.Revision != 4 || undecodable.Position.IsZero() {
				t.Errorf("the error does not say where: %+v", undecodable)
			}
		})
	}
}

// An event that cannot be opened is sound: its envelope is read, and it is none of the faults for which events are set aside.
func TestSealedEventHasAnEnvelopeAndNoPayload(t *testing.T) {
	raw := encode(t, closed{}, meta())
	whole, err := registry(t).Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	raw.Metadata = bytes.Replace(raw.Metadata, []byte(`{`), []byte(`{"sealed":{"reason":"c2VjcmV0"},`), 1)
	raw.Data = []byte(`"AAAA"`) // what is encrypted need not read as the event
	got, err := registry(t).Decode(raw)
	var sealed *codec.SealedError
	if !errors.As(err, &sealed) || !errors.Is(err, codec.ErrSealed) || errors.Is(err, domain.ErrCorrupt) || sealed.Stream != raw.Stream || sealed.Position != raw.Position {
		t.Errorf("got %v, want a SealedError", err)
	}
	whole.Event = nil
	if diff := cmp.Diff(whole, got); diff != "" {
		t.Errorf("the envelope: %s", diff)
	}
	raw.Metadata = bytes.Replace(raw.Metadata, []byte(`"tenant":"main"`), []byte(`"tenant":"other"`), 1)
	if _, err := registry(t).Decode(raw); !errors.Is(err, domain.ErrCorrupt) {
		t.Errorf("a sealed event of another tenant: %v", err)
	}
}

func TestEmptySealedIsNoSeal(t *testing.T) {
	raw := encode(t, closed{}, meta())
	raw.Metadata = bytes.Replace(raw.Metadata, []byte(`{`), []byte(`{"sealed":{},`), 1)
	if _, err := registry(t).Decode(raw); err != nil {
		t.Error(err)
	}
}

// P9 of docs/faults.md.
func TestUnknownTypeAndNewerSchemaAreToldApart(t *testing.T) {
	raw := encode(t, closed{}, meta())
	raw.Type = "ticket.burnt"
	var unknown *codec.UnknownTypeError
	if _, err := registry(t).Decode(raw); !errors.As(err, &unknown) || unknown.Type != "ticket.burnt" || errors.Is(err, domain.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	raw.Type = "ticket.closed"
	raw.Metadata = bytes.Replace(raw.Metadata, []byte(`"schema":1`), []byte(`"schema":2`), 1)
	var newer *codec.NewerSchemaError
	if _, err := registry(t).Decode(raw); !errors.As(err, &newer) || newer.Schema != 2 || newer.Known != 1 || errors.Is(err, domain.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// D9 of docs/faults.md.
func TestOldSchemasAreLiftedToTheNewest(t *testing.T) {
	want := opened{Title: "old", Price: domain.MustMoney("9.99", "EUR")}
	for schema, data := range map[int]string{
		1: `{"name":"old","price":"9.99"}`,
		2: `{"name":"old","price":{"amount":"9.99","currency":"EUR"}}`,
		3: `{"title":"old","price":{"amount":"9.99","currency":"EUR"}}`,
	} {
		got, err := registry(t).DecodePayload("ticket.opened", schema, []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("schema %d (-want +got):\n%s", schema, diff)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, p := range map[string]domain.Pending{
		"no event":                     {Metadata: meta()},
		"a pointer":                    {Metadata: meta(), Event: &closed{}},
		"money that does not read":     {Metadata: meta(), Event: opened{Title: "x"}},
		"an older schema":              {Metadata: func() domain.Metadata { m := meta(); m.Schema = 1; return m }(), Event: openedSpec.Example},
		"no tenant":                    {Metadata: func() domain.Metadata { m := meta(); m.Tenant = ""; return m }(), Event: closed{}},
		"no actor":                     {Metadata: func() domain.Metadata { m := meta(); m.Actor.ID = ""; return m }(), Event: closed{}},
		"no time of occurrence":        {Metadata: func() domain.Metadata { m := meta(); m.OccurredAt = time.Time{}; return m }(), Event: closed{}},
		"no time of recording":         {Metadata: func() domain.Metadata { m := meta(); m.RecordedAt = time.Time{}; return m }(), Event: closed{}},
		"bad UTF-8":                    {Metadata: meta(), Event: closed{Reason: "\xff"}},
		"a time after the year 9999":   {Metadata: meta(), Event: opened{Title: "x", Price: domain.MustMoney("1", "EUR"), Seen: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"a date that is not a day":     {Metadata: meta(), Event: opened{Title: "x", Price: domain.MustMoney("1", "EUR"), Due: "tomorrow"}},
		"an event of no aggregate":     {Metadata: meta(), Event: stranger{}},
		"a type taken by another type": {Metadata: meta(), Event: impostor{}},
	} {
		if data, _, err := registry(t).Encode(p); err == nil {
			t.Errorf("%s: encoded as %s", name, data)
		}
	}
}

type stranger struct{}

func (stranger) EventType() string { return "stranger.came" }

type impostor struct{}

func (impostor) EventType() string { return "ticket.closed" }

type unnamed struct{}

func (unnamed) EventType() string { return "" }

func TestNewRefuses(t *testing.T) {
	events := func(specs ...domain.EventSpec) []domain.Definition {
		return []domain.Definition{{Name: "ticket", Events: specs}}
	}
	lift := func(from int) domain.Upcaster { return domain.Upcast(from, func(c closed) closed { return c }) }
	for want, defs := range map[string][]domain.Definition{
		"event ticket.closed is registered twice":            events(domain.EventSpec{Example: closed{}}, domain.EventSpec{Example: impostor{}}),
		"aggregate ticket is registered twice":               {ticket, {Name: "ticket"}},
		`event name ""`:                                      events(domain.EventSpec{Example: unnamed{}}),
		`event name "stranger.came" is not of the form`:      events(domain.EventSpec{Example: stranger{}}),
		"want a struct value":                                events(domain.EventSpec{Example: &closed{}}),
		"the example of an event is <nil>":                   events(domain.EventSpec{}),
		"no upcaster lifts schema 1":                         events(domain.EventSpec{Example: closed{}, Schema: 2}),
		"no upcaster lifts schema 2":                         events(domain.EventSpec{Example: closed{}, Schema: 3, Upcasts: []domain.Upcaster{lift(1)}}),
		"two upcasters lift schema 1":                        events(domain.EventSpec{Example: closed{}, Schema: 2, Upcasts: []domain.Upcaster{lift(1), lift(1)}}),
		"an upcaster lifts schema 2, but the newest is 2":    events(domain.EventSpec{Example: closed{}, Schema: 2, Upcasts: []domain.Upcaster{lift(1), lift(2)}}),
		"an upcaster lifts schema 0, but the newest is 1":    events(domain.EventSpec{Example: closed{}, Upcasts: []domain.Upcaster{lift(0)}}),
		`"Bad Name" is not the name of an aggregate`:         {{Name: "Bad Name"}},
		`"" is not the name of an aggregate: lower-case let`: {{}},
	} {
		if _, err := codec.New(defs...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestBrokenChainOfUpcastersIsAnErrorNotAPanic(t *testing.T) {
	r, err := codec.New(domain.Definition{Name: "ticket", Events: []domain.EventSpec{{Example: opened{}, Schema: 3, Upcasts: []domain.Upcaster{
		domain.Upcast(1, func(o opened1) opened1 { return o }),
		domain.Upcast(2, func(o opened2) opened2 { return o }),
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, schema := range []int{1, 2} {
		if _, err := r.DecodePayload("ticket.opened", schema, []byte(`{"name":"x"}`)); !errors.Is(err, domain.ErrCorrupt) {
			t.Errorf("schema %d: got %v", schema, err)
		}
	}
}

// S18 of docs/faults.md.
func FuzzDecode(f *testing.F) {
	raw := encode(f, openedSpec.Example, meta())
	f.Add("ticket.opened", stream, raw.Data, raw.Metadata)
	f.Add("ticket.closed", stream, []byte(`{"reason":"a"}`), raw.Metadata)
	r := registry(f)
	f.Fuzz(func(t *testing.T, name, stream string, data, metadata []byte) {
		_, err := r.Decode(codec.Raw{Type: name, Stream: stream, Data: data, Metadata: metadata})
		var unknown *codec.UnknownTypeError
		var newer *codec.NewerSchemaError
		if err != nil && !errors.As(err, &unknown) && !errors.As(err, &newer) && !errors.Is(err, domain.ErrCorrupt) {
			t.Errorf("an error of no kind: %v", err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	r := registry(b)
	raw := encode(b, openedSpec.Example, meta())
	b.ReportAllocs()
	b.SetBytes(int64(len(raw.Data) + len(raw.Metadata)))
	for b.Loop() {
		if _, err := r.Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	r := registry(b)
	p := domain.Pending{Metadata: meta(), Event: openedSpec.Example}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Encode(p); err != nil {
			b.Fatal(err)
		}
	}
}
