package party

import (
	"context"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/process"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// A merge writes into two streams: the survivor absorbs the duplicate, then the duplicate is closed. Two see to the second half, by
// one command with one key, so that it is written once whoever comes first:
//
//   - completeMerge, before the merge is answered. Whoever asked for it is told of success only when both halves are written: a
//     client that reads the duplicate next finds it closed.
//   - the process CompleteMerges, when the program ended between the halves and nobody asks again.

// CompleteMerges closes the duplicates of merges that were cut off between their halves, those of before the process existed, too.
var CompleteMerges = process.Process{
	Name:   "complete-merges",
	Doc:    "Closes each duplicate that a customer has absorbed, when the merge itself was cut off before it.",
	Events: []string{customer.Merged{}.EventType()},
	Start:  process.AtBeginning,
	React: func(e domain.Recorded) []commands.Request {
		absorbed := e.Event.(customer.Merged)
		half := secondHalf(e.Actor, e.CommandID, e.Stream.ID, absorbed.DuplicateID, e.OccurredAt)
		return []commands.Request{half}
	},
}

// completeMerge closes the duplicate once the survivor stands for it. The survivor's event is written: whoever asked is never told
// of a refusal from here on, at most that the end is not known, and that the client is gone stops nothing.
func completeMerge(ctx context.Context, b *commands.Bus, req commands.Request, c customer.Merge, r commands.Receipt) error {
	at := r.OccurredAt
	if r.Unchanged { // another command has begun the merge
		at = c.OccurredAt
	}
	half := secondHalf(req.Actor, req.CommandID(), req.Target, c.DuplicateID, at)
	half.Tenant, half.CorrelationID, half.TraceParent = req.Tenant, r.CorrelationID, req.TraceParent
	_, err := b.Submit(context.WithoutCancel(ctx), half)
	return err
}

// secondHalf is the command that closes a duplicate, which follows from the event that a merge has written into the survivor's
// stream. Its key and its content are the same whoever submits it.
func secondHalf(actor domain.Actor, merge string, survivor, duplicate domain.ID, at time.Time) commands.Request {
	return commands.Request{
		Actor:       actor,
		Key:         "complete-merge " + merge,
		Target:      duplicate,
		Command:     customer.MergeInto{When: domain.When{OccurredAt: at}, SurvivorID: survivor},
		CausationID: merge,
	}
}
