// Package work has the read models of what is to be done and when.
package work

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// The states of a deadline.
const (
	DeadlineWaiting = "waiting" // for its moment, or to be woken
	DeadlineCleared = "cleared" // what it was set for has been done, or is not to be done any more
	DeadlineFired   = "fired"   // its moment has come, and an event says so
)

// Deadline is a moment at which an aggregate is woken.
type Deadline struct {
	Tenant      domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	Aggregate   string        `db:"aggregate,key" json:"aggregate" doc:"Kind of the record that is woken."`
	AggregateID domain.ID     `db:"aggregate_id,key" json:"aggregateId" doc:"The record that is woken."`
	What        string        `db:"what,key" json:"what" doc:"What is due, such as commitment."`
	Key         string        `db:"key,key" json:"key" doc:"Tells the deadlines of one record apart; empty where there is one."`
	DueAt       time.Time     `db:"due_at" json:"dueAt" doc:"The moment; of a deadline that is over the last one."`
	FiredFor    *time.Time    `db:"fired_for" json:"firedFor,omitempty" doc:"The last moment that has fired; nothing up to it fires again. Null when none has."`
	State       string        `db:"state" json:"state" doc:"waiting, cleared when what it was set for was done before, or fired when its moment has come."`
	Position    int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// Deadlines lists the moments at which records are woken.
var Deadlines = &query.Resource[Deadline]{
	Name: "deadlines", Path: "/v1/deadlines", About: "deadline", View: "deadline",
	Doc:  "Lists the moments at which records are woken, by when they are due.",
	Sort: "dueAt",
	Indexes: []query.Index{
		{Name: "due", Columns: "tenant, due_at, aggregate, aggregate_id, what, key"},
		{Name: "waiting", Columns: "due_at, tenant, aggregate, aggregate_id, what, key", Where: "state = 'waiting'"},
	},
	Example: query.Example{Filter: `state == "waiting" && what == "commitment"`, Sort: "dueAt"},
}

const dueSQL = "state = 'waiting' and due_at <= $1"

// Due returns what waits and is due at a moment, of all tenants, the oldest first, behind a row of it; the zero row is before all.
func Due(ctx context.Context, s *query.Store, now time.Time, after Deadline, limit int) ([]Deadline, error) {
	rows, _, err := Deadlines.Many(ctx, s, query.Views(Deadlines.View), dueSQL+`
	and (due_at, tenant, aggregate, aggregate_id, what, key) > ($2, $3, $4, $5::uuid, $6, $7)
order by due_at, tenant, aggregate, aggregate_id, what, key
limit $8`, now, after.DueAt, string(after.Tenant), after.Aggregate, idOrZero(after.AggregateID), after.What, after.Key, limit)
	return rows, err
}

// idOrZero is the least id for none.
func idOrZero(id domain.ID) string {
	if id == "" {
		return "00000000-0000-0000-0000-000000000000"
	}
	return string(id)
}

// CountDue returns how much waits and is due at a moment.
func CountDue(ctx context.Context, s *query.Store, now time.Time) (n int, err error) {
	var read query.Reading
	read.Queue("select count(*) from deadline where "+dueSQL, now).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	_, err = s.Read(ctx, query.Views(Deadlines.View), &read)
	return n, err
}
