// Package domaintest reads tests of deciders as sentences: given these events, when this command comes, then these events
// follow, or it is refused. It checks on the way that deciding is pure: the same question has the same answer, and
// neither deciding nor folding changes the state it was given.
package domaintest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rapport-crm/rapport/domain"
)

// ID is the aggregate that scenarios address unless they say otherwise.
const ID domain.ID = "01900000-0000-7000-8000-000000000001"

// Now is the clock of scenarios unless they say otherwise.
var Now = time.Date(2026, time.March, 2, 9, 30, 0, 0, time.UTC)

// Actor is who acts in scenarios unless they say otherwise.
var Actor = domain.Actor{ID: "ann", Kind: domain.ActorHuman}

// OtherID returns the n-th of a family of ids that differ from ID and from each other.
func OtherID(n int) domain.ID {
	return domain.ID(fmt.Sprintf("01900000-0000-7000-8000-%012d", 1000+n))
}

// Scenario is a stream with a past. Its methods return changed copies.
type Scenario[S any] struct {
	decider domain.Decider[S]
	past    []domain.Event
	facts   domain.Facts
}

// Given starts a scenario: the stream of one aggregate holds the events.
func Given[S any](d domain.Decider[S], events ...domain.Event) Scenario[S] {
	return Scenario[S]{decider: d, past: events, facts: domain.Facts{ID: ID, Now: Now, Actor: Actor}}
}

// Of says which aggregate the stream belongs to, instead of ID.
func (s Scenario[S]) Of(id domain.ID) Scenario[S] {
	s.facts.ID = id
	return s
}

// At sets the server's clock, instead of Now.
func (s Scenario[S]) At(now time.Time) Scenario[S] {
	s.facts.Now = now
	return s
}

// By says who acts, instead of Actor.
func (s Scenario[S]) By(a domain.Actor) Scenario[S] {
	s.facts.Actor = a
	return s
}

// When puts the command to the decider. As on the command bus, it occurred now unless it says otherwise.
func (s Scenario[S]) When(c domain.Command) Decision[S] {
	f := s.facts
	if f.OccurredAt = c.Occurred().UTC(); c.Occurred().IsZero() {
		f.OccurredAt = f.Now
	}
	before := s.decider.Fold(s.past...)
	events, err := s.decider.Decide(before, c, f)
	d := Decision[S]{command: c, events: events, err: err}

	untouched := s.decider.Fold(s.past...)
	if diff := compare(untouched, before); diff != "" {
		d.impure = "Decide changed the state it was given (-before +after):\n" + diff
	}
	d.State = before
	for _, e := range events {
		d.State = s.decider.Evolve(d.State, e)
	}
	if diff := compare(untouched, before); diff != "" && d.impure == "" {
		d.impure = "Evolve changed the state it was given (-before +after):\n" + diff
	}
	again, err2 := s.decider.Decide(untouched, c, f)
	if diff := compare(events, again); (diff != "" || (err == nil) != (err2 == nil)) && d.impure == "" {
		d.impure = "the same question had two answers (-first +second):\n" + diff
	}
	return d
}

// Decision is what the decider made of a command.
type Decision[S any] struct {
	State   S // after the events that the decision caused
	command domain.Command
	events  []domain.Event
	err     error
	impure  string
}

// Then demands that the command was accepted and caused exactly these events, none when it changes nothing.
func (d Decision[S]) Then(t testing.TB, want ...domain.Event) {
	t.Helper()
	d.pure(t)
	if d.err != nil {
		t.Fatalf("%s was refused: %v", d.command.CommandType(), d.err)
	}
	if diff := compare(want, d.events); diff != "" {
		t.Fatalf("%s caused other events (-want +got):\n%s", d.command.CommandType(), diff)
	}
}

// Accepted demands that the command was accepted, and returns the events that it caused.
func (d Decision[S]) Accepted(t testing.TB) []domain.Event {
	t.Helper()
	d.pure(t)
	if d.err != nil {
		t.Fatalf("%s was refused: %v", d.command.CommandType(), d.err)
	}
	return d.events
}

// Rejected demands that the rule forbade the command, and returns the rejection.
func (d Decision[S]) Rejected(t testing.TB, rule string) *domain.Rejection {
	t.Helper()
	d.pure(t)
	var r *domain.Rejection
	if !errors.As(d.err, &r) {
		t.Fatalf("%s: want rejection %q, got %v, %v", d.command.CommandType(), rule, d.events, d.err)
	}
	if r.Rule != rule || r.Message == "" || len(d.events) > 0 {
		t.Fatalf("%s: want rejection %q with a message and no event, got %v, %v", d.command.CommandType(), rule, d.events, r)
	}
	return r
}

// Invalid demands that the command was refused as malformed, with a fault at each of the JSON pointers and nowhere else.
func (d Decision[S]) Invalid(t testing.TB, pointers ...string) {
	t.Helper()
	d.pure(t)
	var e *domain.InvalidError
	if !errors.As(d.err, &e) {
		t.Fatalf("%s: want it invalid at %q, got %v, %v", d.command.CommandType(), pointers, d.events, d.err)
	}
	var got []string
	for _, f := range e.Fields {
		if f.Message == "" {
			t.Errorf("%s: the fault at %q has no message", d.command.CommandType(), f.Pointer)
		}
		got = append(got, f.Pointer)
	}
	if diff := compare(pointers, got); diff != "" {
		t.Fatalf("%s is invalid elsewhere (-want +got):\n%s\n%v", d.command.CommandType(), diff, e)
	}
}

func (d Decision[S]) pure(t testing.TB) {
	t.Helper()
	if d.impure != "" {
		t.Fatalf("%s: %s", d.command.CommandType(), d.impure)
	}
}

func compare(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}
