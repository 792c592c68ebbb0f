package runner

import (
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

// Points at which a test can make the work of a runner fail, beside those of packages apply and build.
const (
	stepTake     = "take"     // the epoch is raised, missing tables are made; not committed
	stepReceive  = "receive"  // an event has come from the log, not decoded
	stepDecoded  = "decoded"  // a batch is decoded and handed over
	stepAck      = "ack"      // done with the batch, which is not acknowledged
	stepIndex    = "index"    // the rows are loaded, before the indexes are made
	stepIndexed  = "indexed"  // the indexes are there, and nobody has noted so
	stepVerify   = "verify"   // before rows are compared
	stepVerified = "verified" // they are the same, and nobody has noted so
)

// Steps returns the points at which Options.Step is called, those of every batch apart from those of the life of a build, each in
// the order in which they are passed.
func Steps() (batch, life []string) {
	return []string{stepReceive, stepDecoded, apply.StepBegin, apply.StepLocked, apply.StepApplied, apply.StepCopied, apply.StepMoved, apply.StepCommit, stepAck},
		[]string{stepTake, stepIndex, stepIndexed, stepVerify, stepVerified, build.StepSwitch, build.StepSwitched, build.StepDrop, build.StepDropped}
}
