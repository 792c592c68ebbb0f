// Package areas puts every aggregate of the product on a bus, with the rules of its area, and lists the processes of all areas.
package areas

import (
	"slices"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/party"
	"github.com/rapport-crm/rapport/commands/process"
	"github.com/rapport-crm/rapport/commands/sales"
	"github.com/rapport-crm/rapport/domain/aggregates"
)

// Register registers the aggregates of the product.
func Register(b *commands.Bus) {
	b.Register(aggregates.All(), slices.Concat(party.Rules, sales.Rules)...)
}

// Processes returns the processes of the product.
func Processes() []process.Process { return slices.Concat(party.Processes) }
