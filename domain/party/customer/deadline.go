package customer

import (
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// deadlines of a customer: each open promise has one, at the end of its day in UTC.
var deadlines = []domain.Deadline{{
	What: "commitment",
	Doc:  "The day by which something was promised is over.",
	Events: []string{
		CommitmentRecorded{}.EventType(), CommitmentKept{}.EventType(), CommitmentBroken{}.EventType(), CommitmentOverdue{}.EventType(),
	},
	Moves: func(e domain.Recorded) (domain.DeadlineMove, bool) {
		switch e := e.Event.(type) {
		case CommitmentRecorded:
			return domain.DeadlineMove{Key: e.CommitmentID, Due: e.Due.Overdue()}, true
		case CommitmentKept:
			return domain.DeadlineMove{Key: e.CommitmentID}, true
		case CommitmentBroken:
			return domain.DeadlineMove{Key: e.CommitmentID}, true
		case CommitmentOverdue:
			return domain.DeadlineMove{Key: e.CommitmentID, Fired: true}, true
		}
		return domain.DeadlineMove{}, false
	},
	Wake: func(key string, due time.Time) domain.Command {
		return MarkCommitmentOverdue{When: domain.When{OccurredAt: due}, CommitmentID: key}
	},
}}

func markCommitmentOverdue(c Customer, cmd MarkCommitmentOverdue, f domain.Facts) ([]domain.Event, error) {
	if err := domain.ClockOnly(f); err != nil {
		return nil, err
	}
	p, ok := c.Commitments[cmd.CommitmentID]
	switch {
	case !ok:
		return nil, domain.Reject("commitment-unknown", "there is no commitment \"{commitmentId}\" to this customer", cmd.CommitmentID).At("/commitmentId")
	case p.Status != Open || p.Overdue: // settled in time, or told before
		return nil, nil
	case f.Now.Before(p.Due.Overdue()) || f.OccurredAt.Before(p.Due.Overdue()):
		return nil, domain.Reject("commitment-not-due", "commitment {commitmentId} is due {due}", cmd.CommitmentID, p.Due)
	}
	return one(CommitmentOverdue{CommitmentID: cmd.CommitmentID, Due: p.Due, By: p.By})
}
