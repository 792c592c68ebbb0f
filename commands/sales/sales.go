// Package sales has what commands of the area sales need beyond their deciders: the facts of other aggregates that they are
// decided on, and what a tenant begins with.
package sales

import (
	"slices"
)

// Rules are those of every command of the area that has one.
var Rules = slices.Concat(pipelineRules, opportunityRules, orderRules)
