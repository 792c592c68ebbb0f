package commands

import "github.com/rapport-crm/rapport/domain/product"

func registerProduct(b *Bus) { Register(b, product.Aggregate) }
