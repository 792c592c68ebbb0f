package sales

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/party"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/product"
)

var orderRules = []commands.Rule{commands.Prepare(preparePlace)}

func preparePlace(ctx context.Context, l *commands.Loader, _ commands.Request, c order.Place) (order.Place, error) {
	if c.CustomerID != "" {
		if err := party.Usable(ctx, l, c.CustomerID, "/customerId"); err != nil {
			return c, err
		}
	}
	if c.OpportunityID != "" {
		if err := l.MustExist(ctx, opportunity.Aggregate.Name, c.OpportunityID, "/opportunityId"); err != nil {
			return c, err
		}
	}
	for i, line := range c.Lines {
		if line.ProductID == "" {
			continue
		}
		if err := l.MustExist(ctx, product.Aggregate.Name, line.ProductID, fmt.Sprintf("/lines/%d/productId", i)); err != nil {
			return c, err
		}
	}
	return c, nil
}
