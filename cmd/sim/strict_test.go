package main

import (
	"slices"
	"testing/synctest"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// How often a strict log does what it does, in a thousand, and for how many steps at most.
const (
	perMilleBusy     = 25  // of calls
	perMilleLate     = 500 // of appends
	perMilleLost     = 15  // of steps in which something is decided and not shown yet
	perMilleForeign  = 300 // of appends: others have written before
	perMilleTimedOut = 200 // of appends that are shown late: their end is not told
	perMilleRebuffed = 500 // of repetitions of what is not shown yet: they are told that they have lost
	mostLate         = 30
	mostUnready      = 20
	mostForeign      = 3   // events
	mostGap          = 700 // between two positions
)

// commit is an append that a strict log has decided on and shows to nobody yet. It stands in the log once it is shown, and
// whoever waits for it is told then. Until then it can be lost with the leader.
type commit struct {
	*appending
	due  int     // the step at which it is shown
	told []*call // who waits
}

// position returns where the next event stands. In a strict log positions have gaps of any size, and others write between
// appends.
func (s *simulation) position(first bool) domain.Position {
	if !s.strict {
		return at(uint64(len(s.log.events)+1) * 100)
	}
	if first && s.chance(perMilleForeign) {
		for range 1 + s.rng.IntN(mostForeign) {
			s.log.end = at(s.log.end.Commit + 1 + s.rng.Uint64N(mostGap))
			s.log.foreign = append(s.log.foreign, s.log.end)
			s.say("foreign", "an event of others at %s", s.log.end)
		}
	}
	s.log.end = at(s.log.end.Commit + 1 + s.rng.Uint64N(mostGap))
	return s.log.end
}

func at(n uint64) domain.Position { return domain.Position{Commit: n, Prepare: n} }

// arrive lets the log decide on an append. A strict log may tell the outcome later, or never: then there is a commit.
func (s *simulation) arrive(a *appending) (domain.Outcome, *commit) {
	if !s.strict {
		return s.log.append(a.stream, a.expected, a.batch), nil
	}
	for _, c := range s.hidden {
		switch {
		case c.stream != a.stream || a.expected != c.expected:
			continue
		case c.batch[0].ID == a.batch[0].ID && !s.chance(perMilleRebuffed):
			return nil, c // whoever repeats it waits for it, too
		}
		s.say("loser", "of %s is told what it expected, %s", a.stream, a.expected)
		return domain.Conflict{Actual: a.expected}, nil
	}
	if o := s.log.decide(a.stream, a.expected, a.batch); o != nil {
		return o, nil
	}
	if len(s.hidden) == 0 && (s.calm || !s.chance(perMilleLate)) {
		return s.log.append(a.stream, a.expected, a.batch), nil
	}
	c := &commit{appending: a, due: s.step + 1 + s.rng.IntN(mostLate)}
	if n := len(s.hidden); n > 0 {
		c.due = max(c.due, s.hidden[n-1].due) // one order for all
	}
	s.hidden = append(s.hidden, c)
	s.say("late", "%s at %s is shown at step %d", a.stream, a.expected, c.due)
	return nil, c
}

// show shows what is due, and tells those who wait for it.
func (s *simulation) show() {
	for len(s.hidden) > 0 && s.hidden[0].due <= s.step {
		c := s.hidden[0]
		s.hidden = s.hidden[1:]
		outcome := s.log.append(c.stream, c.expected, c.batch)
		s.say("shown", "%s: %s", c.stream, told(outcome))
		s.tell(c, outcome)
	}
}

// tell answers those who still wait for a commit, one after the other, so that the same seed gives the same run.
func (s *simulation) tell(c *commit, outcome domain.Outcome) {
	for _, k := range c.told {
		s.mu.Lock()
		waits := slices.Contains(s.waiting, k)
		s.waiting = slices.DeleteFunc(s.waiting, func(w *call) bool { return w == k })
		s.mu.Unlock()
		if waits {
			k.outcome = outcome
			close(k.let)
			synctest.Wait()
		}
	}
}

// change puts another leader in the place of the one before, which takes with it what it has not shown. The new one is not
// ready at once.
func (s *simulation) change() {
	vanished := s.hidden
	s.hidden, s.unready = nil, 1+s.rng.IntN(mostUnready)
	s.say("vanished", "%d appends, with their leader", len(vanished))
	for _, c := range vanished {
		s.tell(c, domain.Unknown{Err: errLost})
	}
}

// turnsAway reports whether a strict log does not take a call, nothing of which is carried out then.
func (s *simulation) turnsAway(k *call) bool {
	kind := "busy"
	switch {
	case !s.strict || s.calm:
		return false
	case s.unready > 0:
		kind = "not ready"
	case !s.chance(perMilleBusy):
		return false
	}
	k.outcome, k.err = domain.Unknown{Err: errTurnedAway}, errTurnedAway
	s.say(kind, "%s: %s", k.request, k.stream)
	return true
}

// unseen reports whether the log has decided on something in a stream that it does not show yet.
func (s *simulation) unseen(stream string) bool {
	return slices.ContainsFunc(s.hidden, func(c *commit) bool { return c.stream == stream })
}

// messages is what a subscription to the log brings: its events, and how far it was searched where others have written.
func (l *memoryLog) messages() (list []eventlog.Message) {
	foreign := l.foreign
	for i := range l.events {
		for len(foreign) > 0 && foreign[0].Before(l.events[i].Position) {
			list, foreign = append(list, eventlog.Message{Checkpoint: foreign[0]}), foreign[1:]
		}
		list = append(list, eventlog.Message{Raw: &l.events[i]})
	}
	return list
}
