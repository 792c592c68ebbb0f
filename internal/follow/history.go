package follow

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// A checkpoint is worth something for one history only: that of the log whose identity stands in it, with the event that it
// names at its place. A log that was restored from an older copy has the same identity, and once it has grown another event
// there.

// Standing says how a checkpoint stands to the log connected.
type Standing int

// The standings.
const (
	SameHistory  Standing = iota // the follower may go on
	OtherLog                     // the checkpoint is of a log with another identity
	OtherHistory                 // the log lacks the event at the checkpoint
)

// Compare says how a checkpoint in the log of identity stored, behind an event, stands to the log connected, whose identity is
// id. It returns an error when the log does not answer.
func Compare(ctx context.Context, log interface {
	Check(context.Context, domain.Mark) error
}, id, stored string, event domain.Mark,
) (Standing, error) {
	if stored != id {
		return OtherLog, nil
	}
	err := log.Check(ctx, event)
	if errors.Is(err, eventlog.ErrOtherLog) {
		return OtherHistory, nil
	}
	return SameHistory, err
}

// LogMismatchError says that a follower has worked on another log than the one connected. Run refuses to work.
type LogMismatchError struct {
	Kind                 Kind
	Name, Stored, Actual string
}

func (e *LogMismatchError) Error() string {
	return fmt.Sprintf("%s %s has worked on log %s, but log %s is connected: connect the former, or run `rapport %s begin %s`, which begins at the end of the latter",
		e.Kind.Name, e.Name, e.Stored, e.Actual, e.Kind.Plural, e.Name)
}

// OtherHistoryError says that a follower has handled events that the log does not have: the log was restored from an older
// copy, and may have grown since. Run refuses to work.
type OtherHistoryError struct {
	Kind  Kind
	Name  string
	Event domain.Mark // the last that was handled
}

func (e *OtherHistoryError) Error() string {
	return fmt.Sprintf("%s %s has come to event %s at position %s, which is not in this log: restore the newer log, or run `rapport %s begin %s`, which begins at the end of this one",
		e.Kind.Name, e.Name, e.Event.ID, e.Event.Position, e.Kind.Plural, e.Name)
}

// errFenced says that another process has taken over.
var errFenced = errors.New("another process has taken over")

// refused reports whether an error is one that Run returns.
func refused(err error) bool {
	var mismatch *LogMismatchError
	var history *OtherHistoryError
	return errors.As(err, &mismatch) || errors.As(err, &history) || errors.Is(err, bus.ErrOrder)
}

// belongs returns why a follower that has worked on the log of identity stored up to an event may not go on with the one
// connected, whose identity is id; nil when it may, or another error when the log does not answer.
func (k Kind) belongs(ctx context.Context, log Log, id, name, stored string, event domain.Mark) error {
	standing, err := Compare(ctx, log, id, stored, event)
	switch {
	case err != nil:
		return err
	case standing == OtherLog:
		return &LogMismatchError{k, name, stored, id}
	case standing == OtherHistory:
		return &OtherHistoryError{k, name, event}
	}
	return nil
}

// Backlog is what stands in the log behind a position.
type Backlog struct {
	Events int           // -1 when they could not be counted
	Age    time.Duration // of the first; 0 when there is none, or its time is not known
}

// Behind counts the events behind a position, and stops at most.
func Behind(ctx context.Context, log interface {
	ReadAll(context.Context, domain.Position) iter.Seq2[codec.Raw, error]
}, decode bus.Decoder, after domain.Position, most int,
) (b Backlog) {
	for raw, err := range log.ReadAll(ctx, after) {
		if err != nil {
			return Backlog{Events: -1, Age: b.Age}
		}
		if b.Events++; b.Events == 1 {
			if event, err := decode.Decode(raw); err == nil {
				b.Age = max(time.Since(event.RecordedAt), 0)
			}
		}
		if b.Events >= most {
			break
		}
	}
	return b
}
