// Package opportunity decides what may happen to a chance to sell, from opening to won or lost and back.
package opportunity

// Status says whether an opportunity is worked on or how it ended.
type Status string

// The statuses of an opportunity. The zero value is that of one that was not opened yet.
const (
	StatusOpen Status = "open"
	StatusWon  Status = "won"
	StatusLost Status = "lost"
)
