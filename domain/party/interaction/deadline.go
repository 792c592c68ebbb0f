package interaction

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// deadlines of an interaction: the moment to come back to it.
var deadlines = []domain.Deadline{{
	What:   "follow-up",
	Doc:    "The moment to come back to an interaction has come.",
	Events: []string{Logged{}.EventType(), Corrected{}.EventType(), Retracted{}.EventType(), FollowUpDue{}.EventType()},
	Moves: func(e domain.Recorded) (domain.DeadlineMove, bool) {
		switch e := e.Event.(type) {
		case Logged:
			return domain.DeadlineMove{Due: e.FollowUpAt}, !e.FollowUpAt.IsZero()
		case Corrected:
			return domain.DeadlineMove{Due: e.To.FollowUpAt}, e.Field == "followUpAt"
		case Retracted:
			return domain.DeadlineMove{}, !e.Details.FollowUpAt.IsZero()
		case FollowUpDue:
			return domain.DeadlineMove{Fired: true}, true
		}
		return domain.DeadlineMove{}, false
	},
	Wake: func(_ string, due time.Time) domain.Command {
		return MarkFollowUpDue{When: domain.When{OccurredAt: due}, FollowUpAt: due}
	},
}}

// markFollowUpDue decides again what a row, which may lag behind, has said: a moment that was put off is refused, so that the bus
// forgets that it was asked, and one that has been told makes nothing.
func markFollowUpDue(i Interaction, cmd MarkFollowUpDue, f domain.Facts) ([]domain.Event, error) {
	if err := domain.ClockOnly(f); err != nil {
		return nil, err
	}
	switch {
	case i.FollowUpAt.IsZero() || !cmd.FollowUpAt.Equal(i.FollowUpAt):
		return nil, domain.Reject("follow-up-moved", "the follow-up of the interaction is not at this moment").At("/followUpAt")
	case !i.FollowUpAt.After(i.Reminded): // told before; only a later moment is told again
		return nil, nil
	case f.Now.Before(i.FollowUpAt) || f.OccurredAt.Before(i.FollowUpAt):
		return nil, domain.Reject("follow-up-not-due", "the follow-up of the interaction is not due yet")
	}
	return []domain.Event{FollowUpDue{FollowUpAt: i.FollowUpAt}}, nil
}
