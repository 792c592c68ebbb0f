package domaintest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
)

// historyLength bounds the number of commands in a random history.
const historyLength = 40

// Histories puts random commands to an aggregate, one after the other, and checks what holds for every decider: it knows
// each declared command, never panics, refuses with a *domain.Rejection or a *domain.InvalidError and without events, writes declared events only,
// never ceases to exist, holds each key once, and folding the whole history gives the state that the steps gave.
// invariant checks what holds for the aggregate; it sees the states before and after each event.
func Histories[S any](
	t *testing.T, a domain.Aggregate[S], commands *rapid.Generator[domain.Command], invariant func(before, after S) error,
) {
	t.Helper()
	declared := map[string]bool{}
	for _, e := range a.Events {
		declared[e.Type()] = true
	}
	creates := map[string]bool{}
	for _, c := range a.Commands {
		creates[c.Type()] = c.Creates
		var none S
		if _, err := a.Decider.Decide(none, c.Example, domain.Facts{ID: ID, Now: Now, OccurredAt: Now, Actor: Actor}); !refusal(err) {
			t.Errorf("%s is declared and not decided: %v", c.Type(), err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		var state S
		var past []domain.Event
		now := Now
		for range rapid.IntRange(1, historyLength).Draw(rt, "length") {
			cmd := commands.Draw(rt, "command")
			if !a.Exists(state) && !creates[cmd.CommandType()] {
				continue // the command bus answers that nothing is there
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 48).Draw(rt, "hours")) * time.Hour)
			events, err := a.Decider.Decide(state, cmd, domain.Facts{ID: ID, Now: now, OccurredAt: now, Actor: Actor})
			if err != nil {
				if !refusal(err) || len(events) > 0 {
					rt.Fatalf("%#v: events %v with error %v", cmd, events, err)
				}
				continue
			}
			for _, e := range events {
				if !declared[e.EventType()] {
					rt.Fatalf("%#v wrote %s, which is not declared", cmd, e.EventType())
				}
				next := a.Decider.Evolve(state, e)
				if !a.Exists(next) {
					rt.Fatalf("nothing exists after %#v", e)
				}
				if err := invariant(state, next); err != nil {
					rt.Fatalf("%#v\nled to %#v:\n%v", e, next, err)
				}
				state, past = next, append(past, e)
			}
			uniqueKeys(rt, a, state)
		}
		if diff := compare(state, a.Decider.Fold(past...)); diff != "" {
			rt.Fatalf("folding the history gives another state (-steps +fold):\n%s", diff)
		}
	})
}

// refusal reports whether err is nil or an answer that a decider may give.
func refusal(err error) bool {
	var rejection *domain.Rejection
	var invalid *domain.InvalidError
	return err == nil || errors.As(err, &rejection) || errors.As(err, &invalid)
}

func uniqueKeys[S any](rt *rapid.T, a domain.Aggregate[S], state S) {
	if a.Keys == nil {
		return
	}
	seen := map[domain.Key]bool{}
	for _, k := range a.Keys(state) {
		k.Pointer = ""
		if k.Kind == "" || strings.TrimSpace(k.Value) == "" || seen[k] {
			rt.Fatalf("key %#v is empty or there twice", k)
		}
		seen[k] = true
	}
}
