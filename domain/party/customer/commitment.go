package customer

import (
	"strconv"

	"github.com/rapport-crm/rapport/domain"
)

// Commitment is a promise made to the customer.
type Commitment struct {
	Text   string
	Due    domain.Date
	By     string
	Status CommitmentStatus

	Overdue bool // its day was over while it was open
}

// CommitmentStatus says what became of a promise. The zero value is open.
type CommitmentStatus string

// What can become of a promise.
const (
	Open   CommitmentStatus = ""
	Kept   CommitmentStatus = "kept"
	Broken CommitmentStatus = "broken"
)

func recordCommitment(c Customer, cmd RecordCommitment, f domain.Facts) ([]domain.Event, error) {
	switch {
	case domain.IsBlank(cmd.Text):
		return nil, domain.Invalid("/text", "is blank")
	case domain.IsBlank(cmd.By):
		return nil, domain.Invalid("/by", "is blank")
	case cmd.Due < domain.DateOf(f.OccurredAt):
		return nil, domain.Invalid("/due", "lies before the day of the promise")
	}
	if before, ok := c.Commitments[cmd.CommitmentID]; ok && cmd.CommitmentID != "" {
		if before.Text == cmd.Text && before.Due == cmd.Due && before.By == cmd.By {
			return nil, nil
		}
		return nil, domain.Reject("commitment-exists", "commitment {commitmentId} is another promise", cmd.CommitmentID).At("/commitmentId")
	}
	open := 0
	for _, p := range c.Commitments {
		if p.Status == Open {
			open++
		}
	}
	switch {
	case c.Inactive:
		return nil, inactive()
	case open >= MaxOpenCommitments:
		return nil, tooMany("open commitments", MaxOpenCommitments)
	}
	id := cmd.CommitmentID
	for n := len(c.Commitments) + 1; id == ""; n++ {
		if _, taken := c.Commitments[strconv.Itoa(n)]; !taken {
			id = strconv.Itoa(n)
		}
	}
	return one(CommitmentRecorded{CommitmentID: id, Text: cmd.Text, Due: cmd.Due, By: cmd.By})
}

// openCommitment returns the promise that is to end as the status says; nil when it has ended so before, or with an error.
func openCommitment(c Customer, id string, as CommitmentStatus) (*Commitment, error) {
	p, ok := c.Commitments[id]
	switch {
	case !ok:
		return nil, domain.Reject("commitment-unknown", "there is no commitment \"{commitmentId}\" to this customer", id).At("/commitmentId")
	case p.Status == as:
		return nil, nil
	case p.Status != Open:
		return nil, domain.Reject("commitment-closed", "commitment {commitmentId} is {status} already", id, p.Status).At("/commitmentId")
	}
	return &p, nil
}

func closed(m map[string]Commitment, id string, as CommitmentStatus) map[string]Commitment {
	p := m[id]
	p.Status = as
	return domain.With(m, id, p)
}

// settles reports whether cmd says what became of a promise that was made to c, or that it is overdue.
func settles(cmd domain.Command, c Customer) bool {
	var id string
	switch cmd := cmd.(type) {
	case KeepCommitment:
		id = cmd.CommitmentID
	case BreakCommitment:
		id = cmd.CommitmentID
	case MarkCommitmentOverdue:
		id = cmd.CommitmentID
	}
	_, promised := c.Commitments[id]
	return promised
}
