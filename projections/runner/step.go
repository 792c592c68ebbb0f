package runner

// Points at which a test can make the work of a runner fail, in the order in which the life of a build passes them.
const (
	stepTake     = "take"     // the epoch is raised, missing tables are made; not committed
	stepReceive  = "receive"  // an event has come from the log, not decoded
	stepDecoded  = "decoded"  // a batch is decoded and handed over
	stepBegin    = "begin"    // before the transaction of a batch
	stepLocked   = "locked"   // the checkpoint rows are locked and checked, the rows loaded
	stepApplied  = "applied"  // everything is evaluated, nothing sent
	stepCopied   = "copied"   // what goes by COPY is stored, nothing else is sent
	stepMoved    = "moved"    // rows are stored, checkpoints moved, the commit is sent and its answer not read
	stepCommit   = "commit"   // committed, and the news of it may be lost
	stepAck      = "ack"      // done with the batch, which is not acknowledged
	stepIndex    = "index"    // the rows are loaded, before the indexes are made
	stepIndexed  = "indexed"  // the indexes are there, and nobody has noted so
	stepVerify   = "verify"   // before rows are compared
	stepVerified = "verified" // they are the same, and nobody has noted so
	stepSwitch   = "switch"   // the view points at the new table; not committed
	stepSwitched = "switched" // committed, and the news of it may be lost
	stepDrop     = "drop"     // the table is dropped; not committed
	stepDropped  = "dropped"  // committed
)

// Steps returns the points at which Options.Step is called, those of every batch apart from those of the life of a build.
func Steps() (batch, life []string) {
	return []string{stepReceive, stepDecoded, stepBegin, stepLocked, stepApplied, stepCopied, stepMoved, stepCommit, stepAck},
		[]string{stepTake, stepIndex, stepIndexed, stepVerify, stepVerified, stepSwitch, stepSwitched, stepDrop, stepDropped}
}
