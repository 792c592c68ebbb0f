// Package customer decides what may happen to a customer: a company, a person, or a group of customers.
package customer

import "github.com/rapport-crm/rapport/domain"

// Customer is what the rules need to know, folded from one stream. The zero value is a customer that does not exist.
type Customer struct {
	Kind Kind // empty until registered
	Profile
	Classification
	ParentID    domain.ID
	Tags        []string // in lower case, sorted
	Owner       string   // empty when nobody looks after the customer
	Inactive    bool
	Preferences map[string]Preference
	Commitments map[string]Commitment
	Members     map[domain.ID]Membership
	Absorbed    []domain.ID // the duplicates that this customer stands for
	MergedInto  domain.ID   // the survivor that stands for this customer; empty while it stands for itself
}

// Preference is what the customer prefers in one matter.
type Preference struct {
	Value    string
	Evidence []domain.ID // events that show it, sorted
}

// Commitment is a promise made to the customer.
type Commitment struct {
	Text   string
	Due    domain.Date
	By     string
	Status CommitmentStatus
}

// CommitmentStatus says what became of a promise. The zero value is open.
type CommitmentStatus string

// What can become of a promise.
const (
	Open   CommitmentStatus = ""
	Kept   CommitmentStatus = "kept"
	Broken CommitmentStatus = "broken"
)

// Membership is the newest stay of a member in a group.
type Membership struct {
	Since domain.Date
	Until domain.Date // empty while it lasts
}
