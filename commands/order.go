package commands

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/product"
)

func registerOrder(b *Bus) {
	Register(b, order.Aggregate, Prepare(preparePlace))
}

func preparePlace(ctx context.Context, l *Loader, _ Request, c order.Place) (order.Place, error) {
	if c.CustomerID != "" {
		if err := usable(ctx, l, c.CustomerID, "/customerId"); err != nil {
			return c, err
		}
	}
	if c.OpportunityID != "" {
		if err := mustExist(ctx, l, opportunity.Aggregate, c.OpportunityID, "/opportunityId"); err != nil {
			return c, err
		}
	}
	for i, line := range c.Lines {
		if line.ProductID == "" {
			continue
		}
		if err := mustExist(ctx, l, product.Aggregate, line.ProductID, fmt.Sprintf("/lines/%d/productId", i)); err != nil {
			return c, err
		}
	}
	return c, nil
}
