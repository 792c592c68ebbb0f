package domain

import (
	"slices"
	"time"
)

// Deadline declares moments at which an aggregate is to be woken: what sets such a moment, what clears it, and the command that
// wakes. Rows, the loop that wakes what is due and its documentation follow from the declaration. Nothing rests on punctuality:
// the decider decides again whether it is due, and the event that it makes occurred at the moment itself, however late it was
// recorded. What has fired is armed again by a later moment alone.
//
// A decider refuses a moment that is not the aggregate's own any more, by a *Rejection: the bus forgets a refusal, and remembers
// under the key of the moment that nothing happened, while the same moment may be set again.
type Deadline struct {
	What   string                                // permanent, for keys of commands follow from it: kebab-case, unique in the product
	Doc    string                                // one sentence: what is due
	Events []string                              // types of the aggregate's events that move it
	Moves  func(e Recorded) (DeadlineMove, bool) // what an event of these types does; false: nothing
	Wake   func(key string, due time.Time) Command
}

// DeadlineMove is what an event does to one deadline of its stream.
type DeadlineMove struct {
	Key   string    // tells the deadlines of one stream apart; may be empty when there is one
	Due   time.Time // the moment, UTC, in whole microseconds, which are what rows keep; zero when there is none any more
	Fired bool      // the deadline is over because its command has had its effect; Due is zero
}

// ClockOnly refuses a command of a deadline that somebody else than an automation gives.
func ClockOnly(f Facts) error {
	if f.Actor.Kind != ActorAutomation {
		return Reject("automation-only", "the clock gives this command, nobody else")
	}
	return nil
}

// Overdue returns the moment at which a day is over, in UTC.
func (d Date) Overdue() time.Time { return d.Time().AddDate(0, 0, 1) }

// Follows reports whether events of a type move the deadline.
func (d Deadline) Follows(eventType string) bool { return slices.Contains(d.Events, eventType) }
