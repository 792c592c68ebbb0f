// Package work declares the read models of what is to be done and when.
package work

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/work"
)

type deadlineKey struct {
	Tenant      domain.Tenant `db:"tenant"`
	Aggregate   string        `db:"aggregate"`
	AggregateID domain.ID     `db:"aggregate_id"`
	What        string        `db:"what"`
	Key         string        `db:"key"`
}

// Deadline keeps the moments that the aggregates declare: see domain.Deadline.
var Deadline = projection.Fold[deadlineKey, work.Deadline]{
	Name: "deadline", Version: 2,
	Doc:    "Moments at which records are woken, and whether their moment has come.",
	Events: deadlineEvents(),
	Keys: func(e domain.Recorded) (keys []deadlineKey) {
		for _, d := range deadlines(e) {
			if move, moves := d.Moves(e); moves {
				keys = append(keys, deadlineKey{e.Tenant, e.Stream.Aggregate, e.Stream.ID, d.What, move.Key})
			}
		}
		return keys
	},
	Evolve: func(r work.Deadline, k deadlineKey, e domain.Recorded) work.Deadline {
		for _, d := range deadlines(e) {
			move, moves := d.Moves(e)
			if !moves || d.What != k.What || move.Key != k.Key {
				continue
			}
			switch {
			case move.Fired:
				r.FiredFor, r.State = new(r.DueAt), work.DeadlineFired
			case !move.Due.IsZero() && r.FiredFor != nil && !move.Due.After(*r.FiredFor):
				r.DueAt, r.State = move.Due, work.DeadlineFired // only a later moment arms it anew
			case !move.Due.IsZero():
				r.DueAt, r.State = move.Due, work.DeadlineWaiting
			case r.State != work.DeadlineFired:
				r.State = work.DeadlineCleared
			}
		}
		r.Position = e.Position.Order()
		return r
	},
	Gone:    func(r work.Deadline) bool { return r.DueAt.IsZero() }, // cleared, and never set
	Untold:  true,
	Indexes: work.Deadlines.Indexes,
}

// declared are the deadlines of each aggregate.
var declared = func() map[string][]domain.Deadline {
	all := map[string][]domain.Deadline{}
	for _, a := range aggregates.All() {
		all[a.Name] = a.Deadlines
	}
	return all
}()

// deadlines are those that an event may move.
func deadlines(e domain.Recorded) []domain.Deadline {
	return slices.DeleteFunc(slices.Clone(declared[e.Stream.Aggregate]), func(d domain.Deadline) bool { return !d.Follows(e.Type()) })
}

func deadlineEvents() (types []string) {
	for _, a := range aggregates.All() {
		for _, d := range a.Deadlines {
			types = append(types, d.Events...)
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}
