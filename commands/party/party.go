// Package party has what commands of the area party need beyond their deciders: the facts of other aggregates that they are
// decided on, the form in which e-mail addresses and telephone numbers are kept, and the second half of a merge.
package party

import (
	"slices"

	"github.com/rapport-crm/rapport/commands/process"
)

// Rules are those of every command of the area that has one.
var Rules = slices.Concat(customerRules, contactRules, interactionRules)

// Processes are those of the area.
var Processes = []process.Process{CompleteMerges}
