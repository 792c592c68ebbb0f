package eventlog

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

type lit struct {
	Room string `json:"room"`
}

func (lit) EventType() string { return "lamp.lit" }

type broken struct{}

func (broken) EventType() string { return "lamp.broken" }

func lamps(t testing.TB) *codec.Registry {
	t.Helper()
	r, err := codec.New(domain.Definition{Name: "lamp", Plural: "lamps", Events: []domain.EventSpec{{Example: lit{Room: "hall"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pending(room string) domain.Pending {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	return domain.Pending{ID: uuid.NewString(), Event: lit{Room: room}, Metadata: domain.Metadata{
		Tenant: "main", Actor: domain.Actor{ID: "ada", Kind: domain.ActorHuman}, CommandID: "c", OccurredAt: now, RecordedAt: now,
	}}
}

func lamp() domain.StreamID {
	return domain.StreamID{Tenant: "main", Aggregate: "lamp", ID: domain.ID(uuid.NewString())}
}

func TestTypedEventsComeBackWithTheirEnvelope(t *testing.T) {
	store, stream := NewStore(dial(t, address(t)), lamps(t)), lamp()
	start, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := []domain.Pending{pending("hall"), pending("attic")}
	committed, ok := store.Append(t.Context(), stream, domain.NoStream, sent).(domain.Committed)
	if !ok {
		t.Fatal("not committed")
	}
	var want []domain.Recorded
	for i, p := range sent {
		p.Schema = 1
		want = append(want, domain.Recorded{ID: p.ID, Stream: stream, Revision: uint64(i), Metadata: p.Metadata, Event: p.Event})
	}
	check := func(what string, seq iter.Seq2[domain.Recorded, error]) {
		t.Helper()
		var got []domain.Recorded
		for e, err := range seq {
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if e.Stream != stream {
				continue // an external node may be in use by others
			}
			got = append(got, e)
			if len(got) == len(want) {
				break
			}
		}
		if len(got) == len(want) && got[1].Position != committed.Position {
			t.Errorf("%s: position %s, committed at %s", what, got[1].Position, committed.Position)
		}
		for i := range got {
			got[i].Position = domain.Position{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("read", store.Read(t.Context(), stream, 0))
	check("read all", store.ReadAll(t.Context(), start.Position))
	check("subscribe", store.Subscribe(t.Context(), start.Position))
	for e, err := range store.Read(t.Context(), stream, 1) {
		if err != nil || e.Event != (lit{Room: "attic"}) {
			t.Errorf("from revision 1: %+v, %v", e, err)
		}
	}
}

func TestStoreRefusesWhatDoesNotEncode(t *testing.T) {
	store, stream := NewStore(dial(t, address(t)), lamps(t)), lamp()
	unknown, foreign, noID := pending("hall"), pending("hall"), pending("hall")
	unknown.Event, foreign.Tenant, noID.ID = broken{}, "other", ""
	for _, p := range []domain.Pending{unknown, foreign, noID} {
		outcome := store.Append(t.Context(), stream, domain.NoStream, []domain.Pending{pending("hall"), p})
		if refused, ok := outcome.(domain.Refused); !ok || refused.Err == nil {
			t.Errorf("%+v: %T", p, outcome)
		}
	}
	for e := range store.Read(t.Context(), stream, 0) {
		t.Errorf("wrote %+v", e)
	}
}

// canned is a Log that holds given events.
type canned struct {
	Log
	events []codec.Raw
	err    error
}

func (c canned) ReadStream(context.Context, string, uint64) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		for _, e := range c.events {
			if !yield(e, nil) {
				return
			}
		}
		if c.err != nil {
			yield(codec.Raw{}, c.err)
		}
	}
}

func (c canned) ReadAll(ctx context.Context, _ domain.Position) iter.Seq2[codec.Raw, error] {
	return c.ReadStream(ctx, "", 0)
}

func (c canned) Subscribe(context.Context, domain.Mark) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for _, e := range c.events {
			if !yield(Message{Raw: &e}, nil) || !yield(Message{Checkpoint: e.Position}, nil) || !yield(Message{CaughtUp: true}, nil) {
				return
			}
		}
		yield(Message{}, c.err)
	}
}

// TestHistoryWithHolesOrStrangersIsNeverPassedOff: an error is the last thing that a read yields.
func TestHistoryWithHolesOrStrangersIsNeverPassedOff(t *testing.T) {
	stream := lamp()
	registry := lamps(t)
	raw := func(revision uint64) codec.Raw {
		data, metadata, err := registry.Encode(pending("hall"))
		if err != nil {
			t.Fatal(err)
		}
		return codec.Raw{ID: uuid.NewString(), Type: "lamp.lit", Stream: stream.String(), Revision: revision, Position: at(revision + 1), Data: data, Metadata: metadata}
	}
	stranger := raw(1)
	stranger.Type = "lamp.exploded"
	down := &domain.UnavailableError{What: "event log"}
	isUnknown := func(err error) bool {
		var unknown *codec.UnknownTypeError
		return errors.As(err, &unknown)
	}
	for name, c := range map[string]struct {
		log  canned
		fits func(error) bool
		read bool // shows in the read of a stream only
	}{
		"hole":          {canned{events: []codec.Raw{raw(0), raw(2)}}, func(err error) bool { return errors.Is(err, domain.ErrCorrupt) }, true},
		"beginning":     {canned{events: []codec.Raw{raw(1)}}, func(err error) bool { return errors.Is(err, domain.ErrCorrupt) }, true},
		"unknown event": {canned{events: []codec.Raw{raw(0), stranger, raw(2)}}, isUnknown, false},
		"log down":      {canned{events: []codec.Raw{raw(0)}, err: down}, func(err error) bool { return errors.Is(err, down) }, false},
	} {
		store := NewStore(c.log, registry)
		reads := []iter.Seq2[domain.Recorded, error]{store.Read(t.Context(), stream, 0)}
		if !c.read {
			reads = append(reads, store.ReadAll(t.Context(), domain.Position{}), store.Subscribe(t.Context(), domain.Position{}))
		}
		for i, read := range reads {
			var errs []error
			for _, err := range read {
				errs = append(errs, err)
			}
			if n := len(errs); n == 0 || !c.fits(errs[n-1]) || slices.ContainsFunc(errs[:n-1], func(err error) bool { return err != nil }) {
				t.Errorf("%s, read %d: %v", name, i, errs)
			}
		}
	}
}
