// Package bus carries the event log through Watermill. One message is one ordered batch of decoded events: Watermill's
// router runs messages in parallel when it can, so order within a subscription rests on there being one message in flight.
//
// What it promises to a handler:
//
//  1. Batches arrive in log order; positions within and across them only grow, and each begins where the one before ended.
//     A log that breaks this, or leaves an event of a stream out, ends the subscription with ErrOrder.
//  2. The next batch is sent after the one before was acknowledged. A refused one is sent again, as a new message, after a
//     pause that grows.
//  3. The next batch is read and decoded while the one before is being handled; no more than one is held ready.
//  4. An event that does not decode travels in its place with its error.
//
// Correctness of what handlers store rests on their own checkpoints, never on acknowledgements.
package bus

import (
	"context"
	"encoding/json"
	"errors"
	"iter"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// ErrOrder says that the log delivered an event at or before one that it had delivered already, or left one out.
var ErrOrder = errors.New("the log delivered events out of order")

// Source is a subscription: endless, in log order, from behind an event, of which it checks that it is still there. It yields
// an error only when it cannot ever go on or its context ends.
type Source func(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error]

// Decoder turns a stored event into what handlers understand. It must be safe for concurrent use.
type Decoder interface {
	Decode(codec.Raw) (domain.Recorded, error)
}

// Item is one event of a batch.
type Item struct {
	Raw   codec.Raw
	Event domain.Recorded // zero when Err is set
	Err   error           // the Decoder's
}

// Batch is a piece of the log without holes.
type Batch struct {
	Items    []Item
	After    domain.Position // where the piece begins: the end of the one before, or of what the subscriber has
	End      domain.Position // where the piece ends; there may be no event there. Zero when the batch only says CaughtUp
	CaughtUp bool            // everything written when the batch was closed has been delivered
}

// Last returns the last event of the batch, zero when it has none.
func (b *Batch) Last() domain.Mark {
	if len(b.Items) == 0 {
		return domain.Mark{}
	}
	return b.Items[len(b.Items)-1].Mark()
}

// Mark names the event.
func (i *Item) Mark() domain.Mark { return domain.Mark{Position: i.Raw.Position, ID: i.Raw.ID} }

// summary is the payload of a message: what a log line needs, never an event's content.
type summary struct {
	First    domain.Position `json:"first"`
	End      domain.Position `json:"end"`
	Events   int             `json:"events"`
	CaughtUp bool            `json:"caughtUp"`
}

func (b *Batch) payload() []byte {
	s := summary{First: b.End, End: b.End, Events: len(b.Items), CaughtUp: b.CaughtUp}
	if len(b.Items) > 0 {
		s.First = b.Items[0].Raw.Position
	}
	payload, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers and a flag always marshal
	}
	return payload
}

type batchKey struct{}

// BatchFrom returns the batch that a message of a Subscriber carries in its context, or nil.
func BatchFrom(ctx context.Context) *Batch {
	b, _ := ctx.Value(batchKey{}).(*Batch)
	return b
}
