// Package build knows the builds of projections: one table each, of one version, with a checkpoint that says how far it has come.
// It begins them, points views at them, keeps the way back and clears them away. How they are filled is the business of
// package apply.
package build

import (
	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
)

// States of a build, in the order of its life. A problem beside the state says that the build cannot go on there.
const (
	Building  = "building"  // the log is read into a table without indexes
	Indexing  = "indexing"  // the indexes are made
	Tailing   = "tailing"   // what came meanwhile is read
	Verifying = "verifying" // rows are compared with the fold of their events
	Ready     = "ready"     // waits for the switch
	Serving   = "serving"   // the view points at it
	Standby   = "standby"   // did serve, and is kept up to date so that it can again
	Retired   = "retired"   // nobody knows any more how to keep it up to date
)

// UnfinishedSQL is a condition on a checkpoint: its build has never been ready to serve.
const UnfinishedSQL = `state in ('building', 'indexing', 'tailing', 'verifying', 'ready')`

// Key names a build: one table of one version of a projection.
type Key struct {
	Name            string
	Version, Number int // the number counts the builds of the version, from 1
}

// Checkpoint is a row of projection.checkpoint.
type Checkpoint struct {
	Key
	State      string
	Problem    string // why the build cannot go on
	LogID      string
	At         domain.Position // how far the log was searched: everything up to here is in the rows
	Event      domain.Mark     // the last event in the rows, behind which the log is read on
	Epoch      int64
	Generation int64 // raised by whoever changes the build beside its owner
	Definition string
	Hold       bool    // not to be switched to by itself
	Parks      bool    // goes past poison
	Served     float64 // when it began to serve last, in Unix seconds; 0 when it never did
}

// Unfinished reports whether the build has never been switched to.
func (c Checkpoint) Unfinished() bool {
	switch c.State {
	case Serving, Standby, Retired:
		return false
	}
	return true
}

// Strict reports whether poison ends the build: beside a table that serves a worse one is of no use.
func (c Checkpoint) Strict() bool { return c.Unfinished() && !c.Parks }

// Columns are those that Scan reads.
const Columns = `name, version, build, state, problem, coalesce(log_id, ''), commit_position, prepare_position,
	event_commit, event_prepare, event_id, epoch, generation, definition, hold, parks,
	coalesce(extract(epoch from served_at), 0)::double precision`

// Scan reads a checkpoint.
func Scan(row pgx.CollectableRow) (c Checkpoint, err error) {
	var commit, prepare, eventCommit, eventPrepare int64
	err = row.Scan(&c.Name, &c.Version, &c.Number, &c.State, &c.Problem, &c.LogID, &commit, &prepare, &eventCommit, &eventPrepare,
		&c.Event.ID, &c.Epoch, &c.Generation, &c.Definition, &c.Hold, &c.Parks, &c.Served)
	c.At = domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
	c.Event.Position = domain.Position{Commit: uint64(eventCommit), Prepare: uint64(eventPrepare)}
	return c, err
}

// ofBuilds chooses rows by identity, OfVersions those of all builds of some versions.
const (
	ofBuilds   = `(name, version, build) in (select * from unnest($1::text[], $2::integer[], $3::integer[]))`
	OfVersions = `(name, version) in (select * from unnest($1::text[], $2::integer[]))`
)

// LockSQL locks the rows in one order, so that two transactions never wait for each other.
const LockSQL = `select ` + Columns + ` from projection.checkpoint where ` + ofBuilds + ` order by name, version, build for update`

// ReadSQL reads the rows of builds.
const ReadSQL = `select ` + Columns + ` from projection.checkpoint where ` + ofBuilds

// lockNameSQL locks every build of a projection, of whatever version.
const lockNameSQL = `select ` + Columns + ` from projection.checkpoint where name = $1 order by name, version, build for update`

// NotifySQL tells whoever waits for a position that a checkpoint has moved.
const NotifySQL = `select pg_notify('rapport_checkpoint', $1)`

// ScanKey reads the key of a checkpoint.
func ScanKey(row pgx.CollectableRow) (k Key, err error) {
	err = row.Scan(&k.Name, &k.Version, &k.Number)
	return k, err
}

// Points at which a test can make the work fail.
const (
	StepSwitch   = "switch"   // the view points at the new table; not committed
	StepSwitched = "switched" // committed, and the news of it may be lost
	StepDrop     = "drop"     // the table is dropped; not committed
	StepDropped  = "dropped"  // committed
)
