package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow"
)

// Rows are worth something for one history only: that of the log whose identity they carry, with the last event in them at its
// place. A log that was restored from an older copy has the same identity, and once it has grown another event there.

// RebuildAll is the way out when the log is to count and the rows come from another history.
const RebuildAll = "rapport projections rebuild --all"

// LogMismatchError says that rows were built from another log than the one connected. Run refuses to work.
type LogMismatchError struct {
	Projection string
	Stored     string // identity of the log that the rows come from
	Actual     string // identity of the log connected
}

func (e *LogMismatchError) Error() string {
	return fmt.Sprintf("the rows of %s come from log %s, but log %s is connected: connect the former, or build the rows anew with `%s`",
		e.Projection, e.Stored, e.Actual, RebuildAll)
}

// OtherHistoryError says that rows contain events that the log does not have: the log was restored from an older copy, and may
// have grown since. Run refuses to work.
type OtherHistoryError struct {
	Projection string
	Event      domain.Mark     // the last event in the rows
	Head       domain.Position // of the last event in the log
}

func (e *OtherHistoryError) Error() string {
	found := fmt.Sprintf("the log ends at %s", e.Head)
	if !e.Head.Before(e.Event.Position) {
		found = fmt.Sprintf("the log has another history: event %s does not stand there", cmp.Or(e.Event.ID, "of the rows"))
	}
	return fmt.Sprintf("the rows of %s contain events up to position %s, but %s: restore the newer log, or build the rows anew with `%s`",
		e.Projection, e.Event.Position, found, RebuildAll)
}

// lookup is what the log was asked about: an event of the log of an identity.
type lookup struct {
	logID string
	event domain.Mark
}

// Look is what was found in the log at one moment. It is not safe for concurrent use.
type Look struct {
	ID   string // of the log
	Head domain.Position

	log       Log
	standings map[lookup]follow.Standing // what was asked: most builds stand behind the same event
}

// NewLook looks at a log.
func NewLook(ctx context.Context, log Log) (*Look, error) {
	id, err := log.ID(ctx)
	if err != nil {
		return nil, fmt.Errorf("identity of the log: %w", err)
	}
	head, err := log.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("head of the log: %w", err)
	}
	return &Look{ID: id, Head: head.Position, log: log, standings: map[lookup]follow.Standing{}}, nil
}

// Refuse returns why the rows of a projection may not be built upon, which Refused tells, nil when they may be, or another error
// when the log does not answer.
func (l *Look) Refuse(ctx context.Context, projection, logID string, event domain.Mark) error {
	at := lookup{cmp.Or(logID, l.ID), event} // a build that was not begun yet belongs to any log
	standing, asked := l.standings[at]
	if !asked {
		var err error
		if standing, err = follow.Compare(ctx, l.log, l.ID, at.logID, event); err != nil {
			return err
		}
		l.standings[at] = standing
	}
	switch standing {
	case follow.OtherLog:
		return &LogMismatchError{Projection: projection, Stored: logID, Actual: l.ID}
	case follow.OtherHistory:
		return &OtherHistoryError{projection, event, l.Head}
	}
	return nil
}

// Admit returns a *domain.Rejection when a build may not be gone on with, because its rows come from another history than the
// log's. A build that is not there any more is left to whoever looks for it.
func (k *Keeper) Admit(ctx context.Context, key Key) error {
	look, err := NewLook(ctx, k.Log)
	if err != nil {
		return err
	}
	rows, err := k.Pool.Query(ctx, ReadSQL, []string{key.Name}, []int32{int32(key.Version)}, []int32{int32(key.Number)})
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, Scan)
	if err != nil || len(stored) == 0 {
		return err
	}
	err = look.Refuse(ctx, key.String(), stored[0].LogID, stored[0].Event)
	if Refused(err) {
		return domain.Reject("projection-of-another-history", "the rows do not belong to the log that is connected: {reason}", err)
	}
	return err
}

// Refused reports whether an error says that to go on would be wrong: the rows come from another history, or the log is out of
// order.
func Refused(err error) bool {
	var mismatch *LogMismatchError
	var history *OtherHistoryError
	return errors.As(err, &mismatch) || errors.As(err, &history) || errors.Is(err, bus.ErrOrder)
}
