// Package projection declares read models as pure functions of events. A declaration knows no database handle, clock or
// network; from it follow the table, the live batches, the rebuild, the evaluation in memory and the test that all of
// them agree.
package projection

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Projection is a declaration of either kind: values of Fold and Append are Projections as they stand.
type Projection interface {
	// Compile checks the declaration and derives everything else from it.
	Compile() (*Compiled, error)
}

// Fold declares one row per key: a row is the fold of the events that touch its key.
//
// R is a struct whose exported fields carry a db tag: `db:"name"` for a column, `db:"name,key"` for the columns of the
// primary key, which come first and begin with tenant. A pointer field is a nullable column. doc tags describe columns.
// A column that takes a personal member of an event carries the tags personal:"true" and of:"customer_id", the latter with the
// column that holds the id of whom the data tells.
// K is a comparable struct with the same db names as the key columns of R; the kernel copies it into every row, so
// Evolve need not set it.
//
// Keys, Evolve, Gone and Begins are pure. Evolve must not change slices or maps of the row it is given in place: the row may be
// kept elsewhere; it returns a row with fresh ones. Times are kept in UTC and in microseconds, as the table does.
type Fold[K comparable, R any] struct {
	Name    string   // of the table and of the view in schema rapport: singular, lower case
	Version int      // raised when rows would come out differently: a new table is built beside the old
	Doc     string   // one sentence for analysts
	Events  []string // the event types that matter; "order." stands for every type with that prefix, "*" for all
	Keys    func(domain.Recorded) []K
	Evolve  func(R, K, domain.Recorded) R // from the row before, zero but for its key columns when there is none
	Gone    func(R) bool                  // rows to remove; nil means never
	Begins  func(K, domain.Recorded) bool // whether no event before can have touched the key, so that no row is looked for; nil means unknown
	Untold  bool                          // as of Append
	Indexes []query.Index                 // of the table: those of the resource that shows it
	Derived []Derived                     // what a comparison of two tables shows beside the columns
}

// Append declares a table of which every event inserts zero or more rows that never change. The rules for R are those of
// Fold, but that its key may hold a time.
type Append[R any] struct {
	Name    string
	Version int
	Doc     string
	Events  []string
	Rows    func(domain.Recorded) []R
	Untold  bool // histories do not tell what changes in the rows: they gather what many streams say, or they repeat the events
	Indexes []query.Index
	Derived []Derived
}

// Derived is a value that follows from the columns of one row.
type Derived struct {
	Name string
	SQL  string // an expression over the columns
}
