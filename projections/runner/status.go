package runner

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
)

// State says what a projection is doing.
type State string

// The states, as seen from outside.
const (
	Running    State = "running"    // its table is or was complete, and somebody keeps it up to date
	Rebuilding State = "rebuilding" // its table is being built
	Halted     State = "halted"     // it needs help: see Problem
	Waiting    State = "waiting"    // nobody works on it
)

// MaxLagEvents is where counting events that are not applied yet stops: that many or more are behind.
const MaxLagEvents = 1_000

// missedBeats is how many heartbeats may be missing before nobody works.
const missedBeats = 5

// Status is how one projection stands.
type Status struct {
	Name          string           `json:"name"`
	Version       int              `json:"version"`
	State         State            `json:"state"`
	Problem       string           `json:"problem,omitempty"`  // why it is halted
	Retrying      string           `json:"retrying,omitempty"` // what this process is waiting for to heal
	Position      domain.Position  `json:"position"`
	Head          *domain.Position `json:"head,omitempty"` // end of the log, looked up now; nil when the log does not answer
	LagEvents     int              `json:"lagEvents"`      // MaxLagEvents means that many or more; -1 not known
	Lag           time.Duration    `json:"lag"`            // age of the first event that is not applied; 0 when there is none
	HeartbeatAge  time.Duration    `json:"heartbeatAge"`   // since an owner was seen working; -1 when there never was one
	ParkedStreams int              `json:"parkedStreams"`
	ParkedEvents  int              `json:"parkedEvents"`
	OldestParked  time.Duration    `json:"oldestParked"` // since the first stream still parked was parked; 0 when there is none
	Retries       map[string]int64 `json:"retries"`      // failed attempts of this process by class, of all projections
}

// Healthy reports whether the projection needs nobody's attention but time.
func (s Status) Healthy() bool {
	return (s.State == Running || s.State == Rebuilding) && s.Retrying == "" && s.ParkedStreams == 0
}

const statusSQL = `select c.name, c.version, c.state, c.problem, c.commit_position, c.prepare_position,
	case when c.heartbeat_at is null then -1 else greatest(extract(epoch from now() - c.heartbeat_at), 0) end::double precision,
	(select count(*) from projection.parked_stream s where s.name = c.name and s.version = c.version),
	(select count(*) from projection.parked_event e where e.name = c.name and e.version = c.version),
	coalesce((select extract(epoch from now() - min(s.parked_at)) from projection.parked_stream s
		where s.name = c.name and s.version = c.version), 0)::double precision
from projection.checkpoint c where c.name = $1 and c.version = $2`

// Status returns how the declared projections stand, in the order of declaration. It works from any process.
func (r *Runner) Status(ctx context.Context) ([]Status, error) {
	list := make([]Status, len(r.projections))
	var queries pgx.Batch
	for i, c := range r.projections {
		s := &list[i]
		*s = Status{Name: c.Name, Version: c.Version, State: Waiting, LagEvents: -1, HeartbeatAge: -1}
		queries.Queue(statusSQL, c.Name, c.Version).Query(func(rows pgx.Rows) error { return r.scanStatus(rows, s) })
	}
	if err := r.pool.SendBatch(ctx, &queries).Close(); err != nil {
		return nil, fmt.Errorf("status of the projections: %w", err)
	}
	r.metrics.mu.Lock()
	retries := maps.Clone(r.metrics.classes)
	r.metrics.mu.Unlock()
	retrying := ""
	if err := r.Err(); err != nil {
		retrying = err.Error()
	}
	head, err := r.source.Head(ctx)
	behind := map[domain.Position]*backlog{}
	for i := range list {
		s := &list[i]
		s.Retries, s.Retrying = retries, retrying
		if err != nil {
			s.Retrying = err.Error()
			continue
		}
		s.Head = &head
		if !s.Position.Before(head) {
			s.LagEvents = 0
			continue
		}
		b := behind[s.Position]
		if b == nil {
			b = r.backlog(ctx, s.Position)
			behind[s.Position] = b
		}
		s.LagEvents, s.Lag = b.events, b.age
	}
	return list, nil
}

func (r *Runner) scanStatus(rows pgx.Rows, s *Status) error {
	var state string
	var commit, prepare int64
	var beat, oldest float64
	targets := []any{&s.Name, &s.Version, &state, &s.Problem, &commit, &prepare, &beat, &s.ParkedStreams, &s.ParkedEvents, &oldest}
	_, err := pgx.ForEachRow(rows, targets, func() error {
		s.Position = domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
		s.OldestParked = seconds(oldest)
		s.HeartbeatAge = -1
		if beat >= 0 {
			s.HeartbeatAge = seconds(beat)
		}
		switch {
		case state == stateHalted:
			s.State = Halted
		case beat < 0 || s.HeartbeatAge > missedBeats*r.opts.Heartbeat:
			s.State = Waiting
		case state == stateServing:
			s.State = Running
		default:
			s.State = Rebuilding
		}
		return nil
	})
	return err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// backlog is what stands in the log behind a position.
type backlog struct {
	events int
	age    time.Duration // of the first
}

// backlog counts events behind a position. What cannot be read counts as not known.
func (r *Runner) backlog(ctx context.Context, after domain.Position) *backlog {
	b := &backlog{}
	for raw, err := range r.source.ReadAll(ctx, after) {
		if err != nil {
			return &backlog{events: -1, age: b.age}
		}
		if b.events++; b.events == 1 {
			if event, err := r.decode.Decode(raw); err == nil {
				b.age = max(time.Since(event.RecordedAt), 0)
			}
		}
		if b.events >= MaxLagEvents {
			break
		}
	}
	return b
}
