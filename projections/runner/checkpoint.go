package runner

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
)

// States of a build, in the order of its life. A problem beside the state says that the build cannot go on there.
const (
	stateBuilding  = "building"  // the log is read into a table without indexes
	stateIndexing  = "indexing"  // the indexes are made
	stateTailing   = "tailing"   // what came meanwhile is read
	stateVerifying = "verifying" // rows are compared with the fold of their events
	stateReady     = "ready"     // waits for the switch
	stateServing   = "serving"   // the view points at it
	stateStandby   = "standby"   // did serve, and is kept up to date so that it can again
	stateRetired   = "retired"   // nobody knows any more how to keep it up to date
)

// unfinishedSQL is a condition on a checkpoint: its build has never been ready to serve.
const unfinishedSQL = `state in ('building', 'indexing', 'tailing', 'verifying', 'ready')`

// buildKey names a build: one table of one version of a projection.
type buildKey struct {
	name           string
	version, build int
}

// checkpoint is a row of projection.checkpoint.
type checkpoint struct {
	buildKey
	state      string
	problem    string
	logID      string
	at         domain.Position // how far the log was searched: everything up to here is in the rows
	event      domain.Mark     // the last event in the rows, behind which the log is read on
	epoch      int64
	generation int64
	definition string
	hold       bool    // not to be switched to by itself
	parks      bool    // goes past poison
	served     float64 // when it began to serve last, in Unix seconds; 0 when it never did
}

// unfinished reports whether the build has never been switched to.
func (c checkpoint) unfinished() bool {
	switch c.state {
	case stateServing, stateStandby, stateRetired:
		return false
	}
	return true
}

// strict reports whether poison ends the build: beside a table that serves a worse one is of no use.
func (c checkpoint) strict() bool { return c.unfinished() && !c.parks }

const checkpointColumns = `name, version, build, state, problem, coalesce(log_id, ''), commit_position, prepare_position,
	event_commit, event_prepare, event_id, epoch, generation, definition, hold, parks,
	coalesce(extract(epoch from served_at), 0)::double precision`

func scanCheckpoint(row pgx.CollectableRow) (c checkpoint, err error) {
	var commit, prepare, eventCommit, eventPrepare int64
	err = row.Scan(&c.name, &c.version, &c.build, &c.state, &c.problem, &c.logID, &commit, &prepare, &eventCommit, &eventPrepare,
		&c.event.ID, &c.epoch, &c.generation, &c.definition, &c.hold, &c.parks, &c.served)
	c.at = domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
	c.event.Position = domain.Position{Commit: uint64(eventCommit), Prepare: uint64(eventPrepare)}
	return c, err
}

// ofBuilds chooses rows by identity, ofVersions those of all builds of some versions.
const (
	ofBuilds   = `(name, version, build) in (select * from unnest($1::text[], $2::integer[], $3::integer[]))`
	ofVersions = `(name, version) in (select * from unnest($1::text[], $2::integer[]))`
)

// lockSQL locks the rows in one order, so that two transactions never wait for each other.
const lockSQL = `select ` + checkpointColumns + ` from projection.checkpoint where ` + ofBuilds + ` order by name, version, build for update`

const readSQL = `select ` + checkpointColumns + ` from projection.checkpoint where ` + ofBuilds

// lockNameSQL locks every build of a projection, of whatever version.
const lockNameSQL = `select ` + checkpointColumns + ` from projection.checkpoint where name = $1 order by name, version, build for update`

// moveSQL moves checkpoints that lockSQL has locked.
const moveSQL = `update projection.checkpoint c set commit_position = n.commit_position, prepare_position = n.prepare_position,
	event_commit = n.event_commit, event_prepare = n.event_prepare, event_id = n.event_id,
	event_recorded_at = coalesce(n.event_recorded_at, c.event_recorded_at),
	state = n.state, problem = n.problem, events = c.events + n.events, rate = $13, log_id = $14, updated_at = now()
from unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[],
	$10::timestamptz[], $11::bigint[], $12::text[])
	as n(name, version, build, commit_position, prepare_position, event_commit, event_prepare, state, problem, event_recorded_at, events, event_id)
where c.name = n.name and c.version = n.version and c.build = n.build`

const notifySQL = `select pg_notify('rapport_checkpoint', $1)`

// identity collects the keys of builds as parameters.
func identity(members []*member) (names []string, versions, builds []int32) {
	for _, m := range members {
		names = append(names, m.name)
		versions = append(versions, int32(m.version))
		builds = append(builds, int32(m.build))
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
	v.names = append(v.names, p.member.name)
	v.versions = append(v.versions, int32(p.member.version))
	v.builds = append(v.builds, int32(p.member.build))
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

func scanKey(row pgx.CollectableRow) (k buildKey, err error) {
	err = row.Scan(&k.name, &k.version, &k.build)
	return k, err
}
