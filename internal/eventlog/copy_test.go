package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
)

// newNamespace returns a name that no other test uses: an external node keeps what earlier runs wrote.
func newNamespace() string { return "n" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20] }

var origin = Identity{ID: "0f8fad5b-d9cb-469f-a165-70867728950e", Secret: SecretCheck([]byte("a"))}

// steadily does something until it no longer fails with what passes: a node that behaves as real engines do is busy at times.
func steadily(t testing.TB, do func() error) error {
	t.Helper()
	for {
		err := do()
		var passing *domain.UnavailableError
		if err == nil || !errors.As(err, &passing) {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}

func beginCopy(t testing.TB, log *ESDB, origin Identity) (run *CopyRun, err error) {
	t.Helper()
	err = steadily(t, func() (err error) {
		run, err = log.BeginCopy(t.Context(), origin)
		return err
	})
	return run, err
}

func inspect(t testing.TB, log *ESDB) (standing Standing) {
	t.Helper()
	err := steadily(t, func() (err error) {
		standing, err = log.Inspect(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return standing
}

func TestCopyIsRefusedToEverybodyUntilItIsComplete(t *testing.T) {
	at, name := address(t), newNamespace()
	writer := dial(t, at, WithNamespace(name), WithSecret([]byte("a")))
	run, err := beginCopy(t, writer, origin)
	if err != nil {
		t.Fatal(err)
	}
	stream := newStream()
	events := newEvents(2)
	err = steadily(t, func() error {
		switch o := writer.Append(t.Context(), stream, domain.NoStream, events).(type) {
		case domain.Committed:
			return nil
		case domain.Unknown:
			return o.Err
		default:
			return fmt.Errorf("%T", o)
		}
	})
	if err != nil {
		t.Fatal(err)
	}

	reader := dial(t, at, WithNamespace(name))
	for what, use := range map[string]func() error{
		"identity": func() error { _, err := reader.Identity(t.Context()); return err },
		"head":     func() error { _, err := reader.Head(t.Context()); return err },
		"await":    func() error { return reader.Await(t.Context(), time.Hour, nil) },
		"read": func() (err error) {
			for _, err = range reader.ReadAll(t.Context(), domain.Position{}) {
			}
			return err
		},
		"subscribe": func() (err error) {
			for _, err = range reader.Subscribe(t.Context(), domain.Mark{}) {
			}
			return err
		},
		"append": func() error {
			switch o := reader.Append(t.Context(), stream, domain.AtRevision(1), newEvents(1)).(type) {
			case domain.Refused:
				return o.Err
			case domain.Unknown: // a strict node may refuse for the moment
				return o.Err
			}
			return nil
		},
	} {
		if err := steadily(t, use); !errors.Is(err, ErrUnfinishedCopy) {
			t.Errorf("%s of a copy that is not complete: %v", what, err)
		}
	}
	if standing := inspect(t, reader); !standing.Unfinished || !standing.Used || standing.Identity != run.Identity() {
		t.Errorf("it stands as %+v", standing)
	}

	for range 2 { // repeating it is safe
		if err := steadily(t, func() error { return run.Complete(t.Context(), 2, "abc") }); err != nil {
			t.Fatal(err)
		}
	}
	var got Identity
	err = steadily(t, func() (err error) {
		got, err = reader.Identity(t.Context())
		return err
	})
	want := Identity{ID: got.ID, Namespace: name, Origin: origin.ID, Secret: SecretCheck([]byte("a"))}
	if err != nil || got != want || got.ID == origin.ID {
		t.Errorf("identity %+v, %v, want %+v", got, err, want)
	}
	var read int
	err = steadily(t, func() error {
		read = 0
		for _, err := range reader.ReadAll(t.Context(), domain.Position{}) {
			if err != nil {
				return err
			}
			read++
		}
		return nil
	})
	if err != nil || read != 2 {
		t.Errorf("%d events, %v, want 2: what the copying notes is none", read, err)
	}
	if _, err := beginCopy(t, writer, origin); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("a run on a copy that is complete: %v", err)
	}
}

func TestLaterRunOfACopyEndsTheEarlierOnes(t *testing.T) {
	at, name := address(t), newNamespace()
	begin := func() *CopyRun {
		run, err := beginCopy(t, dial(t, at, WithNamespace(name)), origin)
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	var runs []*CopyRun
	for range 3 {
		runs = append(runs, begin())
	}
	for i, run := range runs[:2] {
		if err := steadily(t, func() error { return run.Hold(t.Context()) }); !errors.Is(err, ErrOtherCopy) {
			t.Errorf("run %d holds: %v", i, err)
		}
		if err := steadily(t, func() error { return run.Complete(t.Context(), 0, "") }); !errors.Is(err, ErrOtherCopy) {
			t.Errorf("run %d completes: %v", i, err)
		}
	}
	if err := steadily(t, func() error { return runs[2].Hold(t.Context()) }); err != nil {
		t.Errorf("the last run holds: %v", err)
	}
	if err := steadily(t, func() error { return runs[2].Complete(t.Context(), 0, "") }); err != nil {
		t.Errorf("the last run completes: %v", err)
	}
}

func TestCopyGoesIntoWhatIsEmpty(t *testing.T) {
	at := address(t)
	for what, c := range map[string]struct {
		prepare func(name string)
		want    error
	}{
		"nothing": {func(string) {}, nil},
		"a log that was begun": {func(name string) {
			log := dial(t, at, WithNamespace(name))
			if err := steadily(t, func() error { _, err := log.ID(t.Context()); return err }); err != nil {
				t.Fatal(err)
			}
		}, ErrNotEmpty},
		"streams of nobody": {func(name string) {
			log := dial(t, at)
			err := steadily(t, func() error {
				o, _ := log.append(t.Context(), name+".stray", domain.NoStream, happenings(1)).(domain.Unknown)
				return o.Err
			})
			if err != nil {
				t.Fatal(err)
			}
		}, ErrNotEmpty},
		"a copy of another log": {func(name string) {
			if _, err := beginCopy(t, dial(t, at, WithNamespace(name)), Identity{ID: uuid.NewString()}); err != nil {
				t.Fatal(err)
			}
		}, ErrNotEmpty},
		"the copy that is continued": {func(name string) {
			if _, err := beginCopy(t, dial(t, at, WithNamespace(name)), origin); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		name := newNamespace()
		c.prepare(name)
		if _, err := beginCopy(t, dial(t, at, WithNamespace(name)), origin); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

// The log of an installation without a namespace stands where the default namespace would begin.
func TestCopyDoesNotGoBesideALogOfBeforeByDefault(t *testing.T) {
	node, _ := former(t)
	if _, err := dial(t, node.ConnectionString()).BeginCopy(t.Context(), origin); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("with the default namespace: %v", err)
	}
	if _, err := dial(t, node.ConnectionString(), WithNamespace("other")).BeginCopy(t.Context(), origin); err != nil {
		t.Errorf("with another namespace: %v", err)
	}
}

func TestLookingBeginsNothing(t *testing.T) {
	at, name := address(t), newNamespace()
	log := dial(t, at, WithNamespace(name))
	for range 2 {
		standing, err := log.AwaitStanding(t.Context(), time.Hour, nil)
		if err != nil || standing != (Standing{}) {
			t.Errorf("an empty namespace stands as %+v, %v", standing, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.AwaitStanding(ctx, time.Hour, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("when nobody waits any more: %v", err)
	}
}

func TestCopyDemandsTheSecretOfItsOrigin(t *testing.T) {
	at, name := address(t), newNamespace()
	for _, c := range []struct {
		secret, noted string
		want          error
	}{
		{"b", origin.Secret, ErrOtherSecret}, // than that of the origin
		{"a", origin.Secret, nil},
		{"b", "", ErrOtherSecret}, // than that of the copy
		{"a", "", nil},
	} {
		from := Identity{ID: origin.ID, Secret: c.noted}
		if _, err := beginCopy(t, dial(t, at, WithNamespace(name), WithSecret([]byte(c.secret))), from); !errors.Is(err, c.want) {
			t.Errorf("secret %s, noted %q: %v, want %v", c.secret, c.noted, err, c.want)
		}
	}
}
