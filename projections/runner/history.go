package runner

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
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

// look is what was found in the log at one moment. It is not safe for concurrent use.
type look struct {
	runner    *Runner
	id        string
	head      domain.Position
	standings map[lookup]follow.Standing // what was asked: most builds stand behind the same event
	backlogs  map[domain.Position]follow.Backlog
}

func (r *Runner) look(ctx context.Context) (*look, error) {
	id, err := r.source.ID(ctx)
	if err != nil {
		return nil, fmt.Errorf("identity of the log: %w", err)
	}
	head, err := r.source.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("head of the log: %w", err)
	}
	return &look{r, id, head.Position, map[lookup]follow.Standing{}, map[domain.Position]follow.Backlog{}}, nil
}

// refuse returns why the rows of a projection may not be built upon, which refused tells, nil when they may be, or another error
// when the log does not answer.
func (l *look) refuse(ctx context.Context, projection, logID string, event domain.Mark) error {
	at := lookup{cmp.Or(logID, l.id), event} // a build that was not begun yet belongs to any log
	standing, asked := l.standings[at]
	if !asked {
		var err error
		if standing, err = follow.Compare(ctx, l.runner.source, l.id, at.logID, event); err != nil {
			return err
		}
		l.standings[at] = standing
	}
	switch standing {
	case follow.OtherLog:
		return &LogMismatchError{Projection: projection, Stored: logID, Actual: l.id}
	case follow.OtherHistory:
		return &OtherHistoryError{projection, event, l.head}
	}
	return nil
}

// admit returns a *domain.Rejection when a build may not be gone on with, because its rows come from another history than the
// log's. A build that is not there any more is left to whoever looks for it.
func (r *Runner) admit(ctx context.Context, key buildKey) error {
	look, err := r.look(ctx)
	if err != nil {
		return err
	}
	rows, err := r.pool.Query(ctx, readSQL, []string{key.name}, []int32{int32(key.version)}, []int32{int32(key.build)})
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil || len(stored) == 0 {
		return err
	}
	err = look.refuse(ctx, key.String(), stored[0].logID, stored[0].event)
	if refused(err) {
		return domain.Reject("projection-of-another-history", "the rows do not belong to the log that is connected: %s", err)
	}
	return err
}
