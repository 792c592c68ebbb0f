package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/build"
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

// Status is how one projection stands: the build that serves, or else the one that will.
type Status struct {
	Name          string           `json:"name"`
	Version       int              `json:"version"`
	State         State            `json:"state"`
	Problem       string           `json:"problem,omitempty"`  // why it is halted
	Remedy        string           `json:"remedy,omitempty"`   // the command that heals that, where there is one that always does
	Retrying      string           `json:"retrying,omitempty"` // what this process is waiting for to heal
	Readable      bool             `json:"readable"`           // queries of this binary find the columns that they need
	Position      domain.Position  `json:"position"`           // of the last event in its rows
	Head          *domain.Position `json:"head,omitempty"`     // of the last event of the log, looked up now; nil when the log does not answer
	LagEvents     int              `json:"lagEvents"`          // MaxLagEvents means that many or more; -1 not known
	Lag           time.Duration    `json:"lag"`                // age of the first event that is not applied; 0 when there is none
	HeartbeatAge  time.Duration    `json:"heartbeatAge"`       // since an owner was seen working; -1 when there never was one
	ParkedStreams int              `json:"parkedStreams"`
	ParkedEvents  int              `json:"parkedEvents"`
	OldestParked  time.Duration    `json:"oldestParked"` // since the first stream still parked was parked; 0 when there is none
	Retries       map[string]int64 `json:"retries"`      // failed attempts of this process by class, of all projections
	Builds        []Build          `json:"builds"`       // all tables, the one that serves as well

	event domain.Mark // at Position
	logID string
}

// Build is how one table of a projection stands.
type Build struct {
	Version  int             `json:"version"`
	Build    int             `json:"build"`             // number within the version
	Stage    string          `json:"stage"`             // building, indexing, tailing, verifying, ready, serving, standby or retired
	Problem  string          `json:"problem,omitempty"` // why it cannot go on
	Hold     bool            `json:"hold,omitempty"`    // the switch is left to somebody
	Position domain.Position `json:"position"`          // of the last event in the rows
	Events   int64           `json:"events"`            // of the log, read since it began
	Rate     float64         `json:"rate"`              // of them per second, lately
	Percent  float64         `json:"percent"`           // of the log read, by the events that the tables that serve have seen; -1 not known
	Left     time.Duration   `json:"left"`              // until the log is read, at that rate; -1 not known, 0 when it is
	DropAt   *time.Time      `json:"dropAt,omitempty"`  // when the table may go; nil while nobody has said so

	event     domain.Mark // at Position
	logID     string
	heartbeat float64 // seconds since an owner was seen working; -1 when there never was one
	streams   int
	parked    int
	oldest    float64
}

// Unfinished reports whether the build has never served.
func (b Build) Unfinished() bool { return build.Checkpoint{State: b.Stage}.Unfinished() }

// Healthy reports whether the projection needs nobody's attention but time.
func (s Status) Healthy() bool {
	failed := slices.ContainsFunc(s.Builds, func(b Build) bool { return b.Problem != "" && b.Stage != build.Standby })
	return (s.State == Running || s.State == Rebuilding) && s.Retrying == "" && s.ParkedStreams == 0 && !failed
}

const statusSQL = `select c.name, c.version, c.build, c.state, c.problem, coalesce(c.log_id, ''), c.hold, c.event_commit, c.event_prepare, c.event_id, c.events, c.rate, c.drop_at,
	case when o.heartbeat_at is null then -1 else greatest(extract(epoch from now() - o.heartbeat_at), 0) end::double precision,
	(select count(*) from projection.parked_stream s where s.name = c.name and s.version = c.version and s.build = c.build),
	(select count(*) from projection.parked_event e where e.name = c.name and e.version = c.version and e.build = c.build),
	coalesce((select extract(epoch from now() - min(s.parked_at)) from projection.parked_stream s
		where s.name = c.name and s.version = c.version and s.build = c.build), 0)::double precision
from projection.checkpoint c left join projection.owner o using (name, version)
where c.name = any($1) order by c.name, c.version, c.build`

// Status returns how the declared projections stand, in the order of declaration. It works from any process.
func (r *Runner) Status(ctx context.Context) ([]Status, error) {
	builds, err := r.stored(ctx)
	if err != nil {
		return nil, fmt.Errorf("status of the projections: %w", err)
	}
	r.metrics.mu.Lock()
	retries := maps.Clone(r.metrics.classes)
	r.metrics.mu.Unlock()
	retrying := ""
	if err := r.Err(); err != nil {
		retrying = err.Error()
	}
	look, failed := build.NewLook(ctx, r.source)
	if failed != nil {
		retrying = failed.Error()
	}
	total := seen(builds)
	backlogs := map[domain.Position]follow.Backlog{} // most stand at the same position
	behind := func(p domain.Position) follow.Backlog {
		if !p.Before(look.Head) {
			return follow.Backlog{}
		}
		b, known := backlogs[p]
		if !known {
			b = follow.Behind(ctx, r.source, r.decode, p, MaxLagEvents)
			backlogs[p] = b
		}
		return b
	}
	list := make([]Status, len(r.projections))
	for i, c := range r.projections {
		s := &list[i]
		*s = Status{Name: c.Name, Version: c.Version, State: Waiting, LagEvents: -1, HeartbeatAge: -1, Builds: builds[c.Name], Retries: retries, Retrying: retrying}
		s.lead(r.alive())
		if s.Readable, err = r.readable(ctx, c, s); err != nil {
			return nil, fmt.Errorf("status of the projections: %w", err)
		}
		if failed != nil {
			continue
		}
		s.Head = &look.Head
		// The owner finds that too, when it next takes over or the log interrupts it; until then nobody is to build upon the rows.
		if refusal := look.Refuse(ctx, c.Name, s.logID, s.event); build.Refused(refusal) {
			s.State, s.Problem = Halted, refusal.Error()
			if !s.coming() {
				s.Remedy = build.RebuildAll
			}
		} else if refusal != nil {
			s.Retrying = refusal.Error()
			continue
		}
		for j := range s.Builds {
			s.Builds[j].progress(look.Head, total)
		}
		b := behind(s.Position)
		s.LagEvents, s.Lag = b.Events, b.Age
	}
	return list, nil
}

// seen returns how many events the log has, as far as the builds that serve have read it; 0 when nothing serves.
func seen(builds map[string][]Build) (events int64) {
	for _, list := range builds {
		for _, b := range list {
			if b.Stage == build.Serving {
				events = max(events, b.Events)
			}
		}
	}
	return events
}

// stored reads the builds of all declared projections.
func (r *Runner) stored(ctx context.Context) (map[string][]Build, error) {
	rows, err := r.pool.Query(ctx, statusSQL, r.Names())
	if err != nil {
		return nil, err
	}
	builds := map[string][]Build{}
	var name string
	var b Build
	var commit, prepare int64
	targets := []any{&name, &b.Version, &b.Build, &b.Stage, &b.Problem, &b.logID, &b.Hold, &commit, &prepare, &b.event.ID, &b.Events, &b.Rate, &b.DropAt,
		&b.heartbeat, &b.streams, &b.parked, &b.oldest}
	_, err = pgx.ForEachRow(rows, targets, func() error {
		b.Position = domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
		b.event.Position = b.Position
		builds[name] = append(builds[name], b)
		return nil
	})
	return builds, err
}

// lead takes over what is to be said of the projection from the build that serves, or else from the newest of its version.
func (s *Status) lead(alive time.Duration) {
	var lead, coming *Build
	for i := range s.Builds {
		b := &s.Builds[i]
		if b.Stage == build.Serving {
			lead = b
		} else if b.Version == s.Version && b.Unfinished() {
			coming = b
		}
	}
	works := func(b *Build) bool { return b.heartbeat >= 0 && seconds(b.heartbeat) <= alive }
	if lead == nil {
		lead = coming
	}
	if lead == nil {
		return
	}
	s.Version, s.Problem, s.Position, s.event, s.logID = lead.Version, lead.Problem, lead.Position, lead.event, lead.logID
	s.ParkedStreams, s.ParkedEvents, s.OldestParked = lead.streams, lead.parked, seconds(lead.oldest)
	if lead.heartbeat >= 0 {
		s.HeartbeatAge = seconds(lead.heartbeat)
	}
	switch {
	case lead.Problem != "":
		s.State = Halted
	case works(lead) && lead.Stage == build.Serving:
		s.State = Running
	case works(lead), coming != nil && coming.Problem == "" && works(coming): // what serves stands still until then
		s.State = Rebuilding
	default:
		s.State = Waiting
	}
}

// coming reports whether a build that can go on is on its way to take the place of the one that serves.
func (s *Status) coming() bool {
	return slices.ContainsFunc(s.Builds, func(b Build) bool { return b.Unfinished() && b.Problem == "" })
}

// readable reports whether the view has the columns that this binary reads. It has, when its own version serves.
func (r *Runner) readable(ctx context.Context, c *projection.Compiled, s *Status) (bool, error) {
	serves := slices.ContainsFunc(s.Builds, func(b Build) bool { return b.Stage == build.Serving })
	if !serves || s.Version == c.Version {
		return serves, nil
	}
	var shown []projection.Column
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		shown, err = build.Catalogued(ctx, tx, projection.ViewSchema+"."+c.Table.View)
		return err
	})
	for _, want := range c.Table.Columns {
		if !slices.ContainsFunc(shown, func(have projection.Column) bool { return have.Name == want.Name && have.Type == want.Type }) {
			return false, err
		}
	}
	return true, err
}

// progress computes how far the build is on its way to the head of the log, of which total events are known.
func (b *Build) progress(head domain.Position, total int64) {
	if !b.Position.Before(head) {
		b.Percent = 100
		return
	}
	b.Percent, b.Left = -1, -1
	if total <= 0 || b.Events > total { // nothing serves yet, or what serves counts since a later moment
		return
	}
	b.Percent = 100 * float64(b.Events) / float64(total)
	if b.Rate > 0 && b.Unfinished() {
		b.Left = seconds(float64(total-b.Events) / b.Rate)
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
