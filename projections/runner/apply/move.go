package apply

import "time"

// moveSQL moves checkpoints that build.LockSQL has locked.
const moveSQL = `update projection.checkpoint c set commit_position = n.commit_position, prepare_position = n.prepare_position,
	event_commit = n.event_commit, event_prepare = n.event_prepare, event_id = n.event_id,
	event_recorded_at = coalesce(n.event_recorded_at, c.event_recorded_at),
	state = n.state, problem = n.problem, events = c.events + n.events, rate = $13, log_id = $14, updated_at = now()
from unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[],
	$10::timestamptz[], $11::bigint[], $12::text[])
	as n(name, version, build, commit_position, prepare_position, event_commit, event_prepare, state, problem, event_recorded_at, events, event_id)
where c.name = n.name and c.version = n.version and c.build = n.build`

// Identity collects the keys of members as parameters.
func Identity(members []*Member) (names []string, versions, builds []int32) {
	for _, m := range members {
		names = append(names, m.Name)
		versions = append(versions, int32(m.Version))
		builds = append(builds, int32(m.Number))
	}
	return names, versions, builds
}

// moves collects the parameters of moveSQL.
type moves struct {
	names                                          []string
	versions, builds                               []int32
	commits, prepares, eventCommits, eventPrepares []int64
	states, problems                               []string
	recorded                                       []*time.Time
	events                                         []int64
	eventIDs                                       []string
}

func (v *moves) add(p *plan) {
	v.names = append(v.names, p.member.Name)
	v.versions = append(v.versions, int32(p.member.Version))
	v.builds = append(v.builds, int32(p.member.Number))
	v.commits = append(v.commits, int64(p.at.Commit))
	v.prepares = append(v.prepares, int64(p.at.Prepare))
	v.eventCommits = append(v.eventCommits, int64(p.event.Position.Commit))
	v.eventPrepares = append(v.eventPrepares, int64(p.event.Position.Prepare))
	v.eventIDs = append(v.eventIDs, p.event.ID)
	v.states = append(v.states, p.state)
	v.problems = append(v.problems, p.problem)
	v.events = append(v.events, int64(p.read))
	var recorded *time.Time
	if !p.recorded.IsZero() {
		recorded = &p.recorded
	}
	v.recorded = append(v.recorded, recorded)
}

func (v *moves) args(rate float64, logID string) []any {
	return []any{v.names, v.versions, v.builds, v.commits, v.prepares, v.eventCommits, v.eventPrepares, v.states, v.problems, v.recorded,
		v.events, v.eventIDs, rate, logID}
}
