package reactor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// lockClass is the first half of the advisory locks of reactors; the number is arbitrary.
const lockClass = 0x7265_6163

// LogMismatchError says that a reactor has worked on another log than the one connected. Run refuses to work.
type LogMismatchError struct{ Reactor, Stored, Actual string }

func (e *LogMismatchError) Error() string {
	return fmt.Sprintf("reactor %s has worked on log %s, but log %s is connected: connect the former, or run `rapport reactors begin %s`, which begins at the end of the latter",
		e.Reactor, e.Stored, e.Actual, e.Reactor)
}

// OtherHistoryError says that a reactor has had effects for events that the log does not have: the log was restored from an
// older copy, and may have grown since. Run refuses to work.
type OtherHistoryError struct {
	Reactor string
	Event   domain.Mark // the last that has had its effect
}

func (e *OtherHistoryError) Error() string {
	return fmt.Sprintf("reactor %s has come to event %s at position %s, which is not in this log: restore the newer log, or run `rapport reactors begin %s`, which begins at the end of this one",
		e.Reactor, e.Event.ID, e.Event.Position, e.Reactor)
}

// errFenced says that another process has taken over.
var errFenced = errors.New("another process has taken over the reactor")

// refused reports whether an error is one that Run returns.
func refused(err error) bool {
	var mismatch *LogMismatchError
	var history *OtherHistoryError
	return errors.As(err, &mismatch) || errors.As(err, &history) || errors.Is(err, bus.ErrOrder)
}

// belongs returns why a reactor that has worked on a log up to an event may not go on with the one connected, whose identity is
// id; nil when it may, or another error when the log does not answer.
func belongs(ctx context.Context, log Log, id, name, stored string, event domain.Mark) error {
	if stored != id {
		return &LogMismatchError{name, stored, id}
	}
	err := log.Check(ctx, event)
	if errors.Is(err, eventlog.ErrOtherLog) {
		return &OtherHistoryError{name, event}
	}
	return err
}

// The head is written only when there is no row: a first run begins there.
const takeSQL = `insert into reactor.checkpoint as c (name, log_id, commit_position, prepare_position, event_commit, event_prepare, event_id, epoch, heartbeat_at)
values ($1, $2, $3, $4, $3, $4, $5, 1, clock_timestamp())
on conflict (name) do update set epoch = c.epoch + 1, heartbeat_at = clock_timestamp()
returning log_id, event_commit, event_prepare, event_id, epoch`

// take makes this process the owner, and returns the event behind which to go on.
func (r *Reactor) take(ctx context.Context) (after domain.Mark, logID string, epoch int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	id, err := r.log.ID(ctx)
	if err != nil {
		return after, "", 0, fmt.Errorf("identity of the log: %w", err)
	}
	head, err := r.log.Head(ctx)
	if err != nil {
		return after, "", 0, fmt.Errorf("head of the log: %w", err)
	}
	var stored string
	var commit, prepare int64
	err = r.pool.QueryRow(ctx, takeSQL, r.opts.Name, id, int64(head.Position.Commit), int64(head.Position.Prepare), head.ID).
		Scan(&stored, &commit, &prepare, &after.ID, &epoch)
	if err != nil {
		return after, "", 0, err
	}
	after.Position = position(commit, prepare)
	// From here on nobody else moves the checkpoint.
	return after, id, epoch, belongs(ctx, r.log, id, r.opts.Name, stored, after)
}

func position(commit, prepare int64) domain.Position {
	return domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
}

// Step points, in order: where tests let a reactor fail.
const (
	stepPublished = "published" // the effects have happened, the checkpoint does not say so yet
	stepSettled   = "settled"   // it does
)

// What fails stays noted while the checkpoint is before it.
const settleSQL = `update reactor.checkpoint set event_commit = $3, event_prepare = $4, event_id = $5, commit_position = $6, prepare_position = $7,
	problem = case when $8 then problem else '' end, failing_commit = case when $8 then failing_commit end,
	failing_prepare = case when $8 then failing_prepare end, failing_id = case when $8 then failing_id else '' end,
	failing_since = case when $8 then failing_since end, updated_at = now(), heartbeat_at = clock_timestamp()
where name = $1 and epoch = $2 and (event_commit, event_prepare) <= ($3, $4)`

// settle moves the checkpoint to the last event that has had its effect and to how far the log was searched, unless another
// process has taken over.
func (r *Reactor) settle(ctx context.Context, epoch int64, event domain.Mark, searched domain.Position) error {
	if err := r.step(stepPublished); err != nil {
		return err
	}
	// What has been published is better remembered, also when the process is asked to stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sqlBudget)
	defer cancel()
	moved, err := r.pool.Exec(ctx, settleSQL, r.opts.Name, epoch, int64(event.Position.Commit), int64(event.Position.Prepare), event.ID,
		int64(searched.Commit), int64(searched.Prepare), event.Position.Before(r.failingAt().Position))
	if err != nil {
		return fmt.Errorf("move the checkpoint to %s: %w", event.Position, err)
	}
	if moved.RowsAffected() == 0 {
		return errFenced
	}
	return r.step(stepSettled)
}

// fails says to other processes which event fails, unless another one has taken over; it does its best, because this one
// says the same.
func (r *Reactor) fails(epoch int64, event domain.Mark, problem error) {
	const sql = `update reactor.checkpoint set problem = $3, failing_commit = $4, failing_prepare = $5, failing_id = $6,
	failing_since = case when (failing_commit, failing_prepare, failing_id) = ($4, $5, $6) then failing_since else now() end
where name = $1 and epoch = $2`
	ctx, cancel := context.WithTimeout(context.Background(), sqlBudget)
	defer cancel()
	if _, err := r.pool.Exec(ctx, sql, r.opts.Name, epoch, printable(problem.Error()), int64(event.Position.Commit), int64(event.Position.Prepare), event.ID); err != nil {
		r.logger.DebugContext(ctx, "failing event not noted", "reactor", r.opts.Name, "err", err)
	}
}

// printable makes a text that PostgreSQL stores.
func printable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// skipped reports whether somebody has decided that an event has no effect. Decisions of before name no event.
func (r *Reactor) skipped(ctx context.Context, event domain.Mark) (skipped bool, err error) {
	const sql = `select exists (select from reactor.decision
	where name = $1 and action = 'skipped' and commit_position = $2 and prepare_position = $3 and event_id in ('', $4))`
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	err = r.pool.QueryRow(ctx, sql, r.opts.Name, int64(event.Position.Commit), int64(event.Position.Prepare), event.ID).Scan(&skipped)
	return skipped, err
}

// Status is how a reactor stands, as its row tells.
type Status struct {
	Name         string           `json:"name"`
	Position     domain.Position  `json:"position"`          // of the last event that has had its effect
	Head         *domain.Position `json:"head,omitempty"`    // of the last event of the log; nil when it does not answer
	Lag          time.Duration    `json:"lag"`               // age of the first event behind Position; 0 when there is none
	Problem      string           `json:"problem,omitempty"` // why the next event has not had its effect, or why none will
	Failing      *domain.Position `json:"failing,omitempty"` // which that is; nil when nothing fails
	FailingFor   time.Duration    `json:"failingFor"`        // since it failed first
	HeartbeatAge time.Duration    `json:"heartbeatAge"`      // since an owner was seen working; -1 when there never was one

	event domain.Mark // at Position
	logID string
}

// Healthy reports whether nobody's attention is needed.
func (s Status) Healthy() bool { return s.Failing == nil && s.Problem == "" }

const statusSQL = `select name, log_id, event_commit, event_prepare, event_id, problem, failing_commit, failing_prepare,
	coalesce(greatest(extract(epoch from now() - failing_since), 0), 0)::double precision,
	case when heartbeat_at is null then -1 else greatest(extract(epoch from now() - heartbeat_at), 0) end::double precision
from reactor.checkpoint`

// Status returns how the reactor stands; it works from any process. It returns *domain.NotFoundError when the reactor has
// never run.
func (r *Reactor) Status(ctx context.Context) (Status, error) {
	list, err := statuses(ctx, r.pool, r.log, r.decode, statusSQL+" where name = $1", r.opts.Name)
	if err == nil && len(list) == 0 {
		err = &domain.NotFoundError{Kind: "reactor", ID: r.opts.Name}
	}
	if err != nil {
		return Status{}, err
	}
	return list[0], nil
}

// Statuses returns how all reactors stand that have ever run, in the order of their names.
func Statuses(ctx context.Context, pool *pgxpool.Pool, log Log, decode bus.Decoder) ([]Status, error) {
	return statuses(ctx, pool, log, decode, statusSQL+" order by name")
}

func statuses(ctx context.Context, pool *pgxpool.Pool, log Log, decode bus.Decoder, sql string, args ...any) ([]Status, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("status of reactors: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Status, err error) {
		var commit, prepare int64
		var failingCommit, failingPrepare *int64
		var failing, beat float64
		err = row.Scan(&s.Name, &s.logID, &commit, &prepare, &s.event.ID, &s.Problem, &failingCommit, &failingPrepare, &failing, &beat)
		s.Position = position(commit, prepare)
		s.event.Position = s.Position
		if failingCommit != nil && failingPrepare != nil {
			s.Failing = new(position(*failingCommit, *failingPrepare))
		}
		s.FailingFor, s.HeartbeatAge = seconds(failing), -1
		if beat >= 0 {
			s.HeartbeatAge = seconds(beat)
		}
		return s, err
	})
	if err != nil || len(list) == 0 {
		return list, err
	}
	id, failed := log.ID(ctx)
	head, err := log.Head(ctx)
	if failed != nil || err != nil {
		return list, nil // the rows are true all the same; Head is missing
	}
	for i := range list {
		s := &list[i]
		s.Head = &head.Position
		if refusal := belongs(ctx, log, id, s.Name, s.logID, s.event); refused(refusal) {
			s.Problem = refusal.Error()
		}
		if s.Position.Before(head.Position) {
			s.Lag = age(ctx, log, decode, s.Position)
		}
	}
	return list, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// age returns how long ago the first event behind a position was recorded; 0 when it cannot be read.
func age(ctx context.Context, log Log, decode bus.Decoder, after domain.Position) time.Duration {
	for raw, err := range log.ReadAll(ctx, after) {
		if err != nil {
			return 0
		}
		event, err := decode.Decode(raw)
		if err != nil {
			return 0
		}
		return max(time.Since(event.RecordedAt), 0)
	}
	return 0
}

const decideSQL = `insert into reactor.decision (name, action, commit_position, prepare_position, event_id, actor, reason) values ($1, $2, $3, $4, $5, $6, $7)`

// Skip decides that the event that a reactor fails at has no effect; who decided and why is kept. The reactor goes on with
// its next attempt. It returns *domain.NotFoundError for a reactor that never ran, and *domain.Rejection when position is
// not the event that fails.
func Skip(ctx context.Context, pool *pgxpool.Pool, name string, at domain.Position, actor, reason string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var failing bool
		var id string
		const sql = `select failing_commit is not distinct from $2 and failing_prepare is not distinct from $3, failing_id
from reactor.checkpoint where name = $1 for update`
		err := tx.QueryRow(ctx, sql, name, int64(at.Commit), int64(at.Prepare)).Scan(&failing, &id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return &domain.NotFoundError{Kind: "reactor", ID: name}
		case err != nil:
			return fmt.Errorf("skip an event of reactor %s: %w", name, err)
		case !failing:
			return domain.Reject("not-failing", "reactor %s does not fail at position %s", name, at)
		}
		_, err = tx.Exec(ctx, decideSQL, name, "skipped", int64(at.Commit), int64(at.Prepare), id, actor, reason)
		return err
	})
}

// Begin lets a reactor begin anew at the end of the log, which may be another one than before; whatever it had not done yet
// it will not do. Who decided and why is kept. Whoever works on it stops, and goes on from there.
func Begin(ctx context.Context, pool *pgxpool.Pool, log Log, name, actor, reason string) (domain.Position, error) {
	id, err := log.ID(ctx)
	if err != nil {
		return domain.Position{}, err
	}
	head, err := log.Head(ctx)
	if err != nil {
		return domain.Position{}, err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		const sql = `update reactor.checkpoint set log_id = $2, commit_position = $3, prepare_position = $4, event_commit = $3, event_prepare = $4,
	event_id = $5, epoch = epoch + 1, problem = '', failing_commit = null, failing_prepare = null, failing_id = '', failing_since = null,
	begun_at = now(), updated_at = now()
where name = $1`
		begun, err := tx.Exec(ctx, sql, name, id, int64(head.Position.Commit), int64(head.Position.Prepare), head.ID)
		if err != nil {
			return fmt.Errorf("begin reactor %s: %w", name, err)
		}
		if begun.RowsAffected() == 0 {
			return &domain.NotFoundError{Kind: "reactor", ID: name}
		}
		_, err = tx.Exec(ctx, decideSQL, name, "begun", int64(head.Position.Commit), int64(head.Position.Prepare), head.ID, actor, reason)
		return err
	})
	return head.Position, err
}
