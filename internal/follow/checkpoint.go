package follow

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
)

// sql puts the schema of the kind into a statement, where schema follower stands for it.
func (k Kind) sql(statement string) string {
	return strings.ReplaceAll(statement, " follower.", " "+k.Name+".")
}

const beatSQL = `update follower.checkpoint set heartbeat_at = clock_timestamp() where name = $1 and epoch = $2`

// The place to begin at is written only when there is no row: a first run begins there.
const takeSQL = `insert into follower.checkpoint as c (name, log_id, commit_position, prepare_position, event_commit, event_prepare, event_id, epoch, heartbeat_at)
values ($1, $2, $3, $4, $3, $4, $5, 1, clock_timestamp())
on conflict (name) do update set epoch = c.epoch + 1, heartbeat_at = clock_timestamp()
returning log_id, event_commit, event_prepare, event_id, epoch`

// term is the time during which this process owns the follower.
type term struct {
	after domain.Mark // the event behind which to go on
	logID string
	epoch int64
}

// take makes this process the owner.
func (f *Follower) take(ctx context.Context) (t term, err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	if t.logID, err = f.log.ID(ctx); err != nil {
		return t, fmt.Errorf("identity of the log: %w", err)
	}
	var start domain.Mark
	if f.opts.Start == AtEnd {
		if start, err = f.log.Head(ctx); err != nil {
			return t, fmt.Errorf("head of the log: %w", err)
		}
	}
	var stored string
	var commit, prepare int64
	err = f.pool.QueryRow(ctx, f.opts.Kind.sql(takeSQL), f.opts.Name, t.logID, int64(start.Position.Commit), int64(start.Position.Prepare), start.ID).
		Scan(&stored, &commit, &prepare, &t.after.ID, &t.epoch)
	if err != nil {
		return t, err
	}
	t.after.Position = position(commit, prepare)
	// From here on nobody else moves the checkpoint.
	return t, f.opts.Kind.belongs(ctx, f.log, t.logID, f.opts.Name, stored, t.after)
}

func position(commit, prepare int64) domain.Position {
	return domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
}

// What fails stays noted while the checkpoint is before it.
const settleSQL = `update follower.checkpoint set event_commit = $3, event_prepare = $4, event_id = $5, commit_position = $6, prepare_position = $7,
	problem = case when $8 then problem else '' end, failing_commit = case when $8 then failing_commit end,
	failing_prepare = case when $8 then failing_prepare end, failing_id = case when $8 then failing_id else '' end,
	failing_since = case when $8 then failing_since end, updated_at = now(), heartbeat_at = clock_timestamp()
where name = $1 and epoch = $2 and (event_commit, event_prepare) <= ($3, $4)`

// settle moves the checkpoint to the last event that was handled and to how far the log was searched, unless another
// process has taken over.
func (f *Follower) settle(ctx context.Context, epoch int64, event domain.Mark, searched domain.Position) error {
	if err := f.opts.Step(StepHandled); err != nil {
		return err
	}
	// What has been handled is better remembered, also when the process is asked to stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sqlBudget)
	defer cancel()
	moved, err := f.pool.Exec(ctx, f.opts.Kind.sql(settleSQL), f.opts.Name, epoch, int64(event.Position.Commit), int64(event.Position.Prepare), event.ID,
		int64(searched.Commit), int64(searched.Prepare), event.Position.Before(f.failingAt().Position))
	if err != nil {
		return fmt.Errorf("move the checkpoint to %s: %w", event.Position, err)
	}
	if moved.RowsAffected() == 0 {
		return errFenced
	}
	return f.opts.Step(StepSettled)
}

// fails says to other processes which event fails, unless another one has taken over; it does its best, because this one
// says the same.
func (f *Follower) fails(epoch int64, event domain.Mark, problem error) {
	const sql = `update follower.checkpoint set problem = $3, failing_commit = $4, failing_prepare = $5, failing_id = $6,
	failing_since = case when (failing_commit, failing_prepare, failing_id) = ($4, $5, $6) then failing_since else now() end
where name = $1 and epoch = $2`
	ctx, cancel := context.WithTimeout(context.Background(), sqlBudget)
	defer cancel()
	if _, err := f.pool.Exec(ctx, f.opts.Kind.sql(sql), f.opts.Name, epoch, Printable(problem.Error()), int64(event.Position.Commit), int64(event.Position.Prepare), event.ID); err != nil {
		f.logger.DebugContext(ctx, "failing event not noted", "err", err)
	}
}

// skipped reports whether somebody has decided that an event has no effect. Decisions of before name no event.
func (f *Follower) skipped(ctx context.Context, event domain.Mark) (skipped bool, err error) {
	const sql = `select exists (select from follower.decision
	where name = $1 and action = 'skipped' and commit_position = $2 and prepare_position = $3 and event_id in ('', $4))`
	ctx, cancel := context.WithTimeout(ctx, sqlBudget)
	defer cancel()
	err = f.pool.QueryRow(ctx, f.opts.Kind.sql(sql), f.opts.Name, int64(event.Position.Commit), int64(event.Position.Prepare), event.ID).Scan(&skipped)
	return skipped, err
}

// Status is how a follower stands, as its row tells.
type Status struct {
	Name         string           `json:"name"`
	Position     domain.Position  `json:"position"`          // of the last event that was handled
	Head         *domain.Position `json:"head,omitempty"`    // of the last event of the log; nil when it does not answer
	Lag          time.Duration    `json:"lag"`               // age of the first event behind Position; 0 when there is none
	Problem      string           `json:"problem,omitempty"` // why the next event is not handled, or why none will be
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
from follower.checkpoint`

// Status returns how the follower stands; it works from any process. It returns *domain.NotFoundError when the follower has
// never run.
func (f *Follower) Status(ctx context.Context) (Status, error) {
	kind := f.opts.Kind
	list, err := kind.statuses(ctx, f.pool, f.log, f.decode, statusSQL+" where name = $1", f.opts.Name)
	if err == nil && len(list) == 0 {
		err = &domain.NotFoundError{Kind: kind.Name, ID: f.opts.Name}
	}
	if err != nil {
		return Status{}, err
	}
	return list[0], nil
}

// Statuses returns how all followers of the kind stand that have ever run, in the order of their names.
func (k Kind) Statuses(ctx context.Context, pool *pgxpool.Pool, log Log, decode bus.Decoder) ([]Status, error) {
	return k.statuses(ctx, pool, log, decode, statusSQL+" order by name")
}

func (k Kind) statuses(ctx context.Context, pool *pgxpool.Pool, log Log, decode bus.Decoder, sql string, args ...any) ([]Status, error) {
	rows, err := pool.Query(ctx, k.sql(sql), args...)
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", k.Plural, err)
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
		if refusal := k.belongs(ctx, log, id, s.Name, s.logID, s.event); refused(refusal) {
			s.Problem = refusal.Error()
		}
		if s.Position.Before(head.Position) {
			s.Lag = Behind(ctx, log, decode, s.Position, 1).Age
		}
	}
	return list, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

const decideSQL = `insert into follower.decision (name, action, commit_position, prepare_position, event_id, actor, reason) values ($1, $2, $3, $4, $5, $6, $7)`

// Skip decides that the event that a follower fails at is passed over; who decided and why is kept. The follower goes on with
// its next attempt. It returns *domain.NotFoundError for a follower that never ran, and *domain.Rejection when position is
// not the event that fails.
func (k Kind) Skip(ctx context.Context, pool *pgxpool.Pool, name string, at domain.Position, actor, reason string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var failing bool
		var id string
		const sql = `select failing_commit is not distinct from $2 and failing_prepare is not distinct from $3, failing_id
from follower.checkpoint where name = $1 for update`
		err := tx.QueryRow(ctx, k.sql(sql), name, int64(at.Commit), int64(at.Prepare)).Scan(&failing, &id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return &domain.NotFoundError{Kind: k.Name, ID: name}
		case err != nil:
			return fmt.Errorf("skip an event of %s %s: %w", k.Name, name, err)
		case !failing:
			return domain.Reject("not-failing", "{kind} {name} does not fail at position {position}", k.Name, name, at)
		}
		_, err = tx.Exec(ctx, k.sql(decideSQL), name, "skipped", int64(at.Commit), int64(at.Prepare), id, actor, reason)
		return err
	})
}

// Begin lets a follower begin anew at the end of the log, which may be another one than before; whatever it had not handled yet
// it will not handle. Who decided and why is kept. Whoever works on it stops, and goes on from there.
func (k Kind) Begin(ctx context.Context, pool *pgxpool.Pool, log Log, name, actor, reason string) (domain.Position, error) {
	id, err := log.ID(ctx)
	if err != nil {
		return domain.Position{}, err
	}
	head, err := log.Head(ctx)
	if err != nil {
		return domain.Position{}, err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		const sql = `update follower.checkpoint set log_id = $2, commit_position = $3, prepare_position = $4, event_commit = $3, event_prepare = $4,
	event_id = $5, epoch = epoch + 1, problem = '', failing_commit = null, failing_prepare = null, failing_id = '', failing_since = null,
	begun_at = now(), updated_at = now()
where name = $1`
		begun, err := tx.Exec(ctx, k.sql(sql), name, id, int64(head.Position.Commit), int64(head.Position.Prepare), head.ID)
		if err != nil {
			return fmt.Errorf("begin %s %s: %w", k.Name, name, err)
		}
		if begun.RowsAffected() == 0 {
			return &domain.NotFoundError{Kind: k.Name, ID: name}
		}
		_, err = tx.Exec(ctx, k.sql(decideSQL), name, "begun", int64(head.Position.Commit), int64(head.Position.Prepare), head.ID, actor, reason)
		return err
	})
	return head.Position, err
}
