// Package areas puts every aggregate of the product on a bus, with the rules of its area.
package areas

import (
	"slices"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/party"
	"github.com/rapport-crm/rapport/commands/sales"
	"github.com/rapport-crm/rapport/domain/aggregates"
)

// Register registers the aggregates of the product.
func Register(b *commands.Bus) {
	b.Register(aggregates.All(), slices.Concat(party.Rules, sales.Rules)...)
}
