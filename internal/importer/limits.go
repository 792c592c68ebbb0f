package importer

// Limits of an import.
const (
	MaxMappingBytes  = 1 << 20   // of a mapping file
	MaxRowBytes      = 1 << 20   // of one row; a reader's buffer more at most
	maxRawBytes      = 64 << 10  // of an unreadable row that are kept with its rejection
	MaxGroupRows     = 100_000   // rows of one group
	MaxOpenGroups    = 1_000     // groups that wait for further rows at the same time
	MaxTableRows     = 1_000_000 // rows of one look-up table
	MaxReportValues  = 1_000     // distinct values that a report counts one by one; the rest are counted together
	MaxKeysSeen      = 5_000_000 // keys remembered for `once` and for finished groups
	maxShift         = 100       // places by which a decimal number is shifted
	DefaultWriters   = 64        // units submitted at the same time
	maxSubmitRetries = 1         // of a unit while the event log is unavailable; each submission is patient itself
)
