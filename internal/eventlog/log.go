// Package eventlog is the port to the event log and its adapter over the EventStoreDB client. It is the only package that
// knows the client: expected revisions are always explicit, every request has a deadline, an append whose outcome is not
// known is a value, and a subscription resumes by itself without loss or repetition.
package eventlog

import (
	"context"
	"errors"
	"iter"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// Log is an append-only log of streams. Implementations are safe for concurrent use. Errors of a log that does not answer
// are or wrap *domain.UnavailableError.
type Log interface {
	// Append writes all events or none. It never panics and always returns an outcome: domain.Committed, domain.Conflict,
	// domain.Unknown or domain.Refused. Repeating it with the same ids and the same expectation is safe. With the same ids
	// and other content it is a Conflict that says Mismatch.
	Append(ctx context.Context, stream string, expected domain.Expected, events []NewEvent) domain.Outcome
	// ReadStream yields the events of a stream from the given revision on. A stream that does not exist yields nothing.
	// An error is the last thing yielded.
	ReadStream(ctx context.Context, stream string, from uint64) iter.Seq2[codec.Raw, error]
	// ReadAll yields the events of all streams of the namespace after the given position, in the order of the log, and ends
	// where the log ended when it got there. Events whose type begins with "$" are left out. Any number is taken as a
	// position, also one where no event stands. An error is the last thing yielded.
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error]
	// Subscribe is ReadAll that never ends: it waits for new events, and resumes by itself when the log goes away and
	// comes back. Positions strictly increase. Before it begins, and after every interruption, it checks that the last
	// event that its reader has still stands where it stood. It yields an error, as its last element, only when it cannot
	// go on: the context ended, the log was closed, access is denied, or the history is another one than before
	// (ErrOtherLog).
	Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[Message, error]
	// Head returns the last event that ReadAll would yield, zero when there is none. It asks the log anew, over requests
	// of its own, however many events of others follow.
	Head(ctx context.Context) (domain.Mark, error)
	// Check returns an error that wraps ErrOtherLog when the event of a mark does not stand where it stood, because the
	// log was restored from a copy that never had the event. The zero mark is in every log. Of a mark without an id only
	// the place is checked.
	Check(ctx context.Context, m domain.Mark) error
	// ID returns the identity of the log: checkpoints are worth nothing for a log with another one.
	ID(ctx context.Context) (string, error)
	// Close ends all requests and subscriptions and waits for them.
	Close() error
}

// NewEvent is an event to append.
type NewEvent struct {
	ID       string // UUID
	Type     string
	Data     []byte // JSON
	Metadata []byte // JSON
}

// Message is one element of a subscription: exactly one of its fields is set.
type Message struct {
	Raw        *codec.Raw      // an event
	Checkpoint domain.Position // everything up to here was considered, nothing of it concerned the subscriber
	CaughtUp   bool            // what follows is live; said again after every interruption
}

// Limits of one append. They are below what an EventStoreDB node accepts without being configured, because the client does
// not tell an append that is too large from a connection that broke.
const (
	MaxAppendBytes     = 1 << 20 // data, metadata and type names of all events of an append, as the node counts them
	MaxStreamNameBytes = 1024
	MaxEventTypeBytes  = 512
)

var (
	// ErrStreamDeleted says that the stream was deleted for ever.
	ErrStreamDeleted = errors.New("the stream is deleted")
	// ErrClosed says that the log was closed by this process.
	ErrClosed = errors.New("the event log is closed")
	// ErrOtherLog says that the node serves another history than the one that was read before: a restored backup or a
	// wrong address.
	ErrOtherLog = errors.New("the event log is not the one that it was")
)

// unavailable is what UnavailableErrors of this package name.
const unavailable = "event log"
