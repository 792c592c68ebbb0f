package commands

import "github.com/rapport-crm/rapport/domain/sales/product"

func registerProduct(b *Bus) { Register(b, product.Aggregate) }
