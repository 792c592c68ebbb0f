// Package product decides what may happen to a product of the catalogue, from its listing to its end of sale.
package product

import (
	"fmt"

	"github.com/rapport-crm/rapport/domain"
)

// Product is what the rules below need to know of one product. The zero value has not been added yet.
type Product struct {
	Code         string
	Details      Details
	ListPrice    *domain.Money // nil when it has none
	Discontinued bool
}

// Aggregate declares the product.
var Aggregate = domain.Aggregate[Product]{
	Name:     "product",
	Plural:   "products",
	Doc:      "A product of the catalogue, with its list price.",
	Decider:  domain.Decider[Product]{Decide: decide, Evolve: evolve},
	Events:   events,
	Commands: commands,
	Exists:   exists,
	Keys:     keys,
}

func exists(p Product) bool { return p.Code != "" }

func keys(p Product) []domain.Key {
	if !exists(p) {
		return nil
	}
	return []domain.Key{{Kind: "product-code", Value: p.Code, Pointer: "/code"}}
}

func decide(p Product, cmd domain.Command, _ domain.Facts) ([]domain.Event, error) {
	switch c := cmd.(type) {
	case Add:
		return add(p, c)
	case Update:
		to := p.Details.with(c)
		if to == p.Details {
			return nil, nil
		}
		return []domain.Event{Updated{Code: p.Code, From: p.Details, To: to}}, nil
	case ChangePrice:
		if err := checkPrice(&c.ListPrice); err != nil {
			return nil, err
		}
		if p.ListPrice != nil && p.ListPrice.Equal(c.ListPrice) {
			return nil, nil
		}
		return []domain.Event{PriceChanged{Code: p.Code, From: p.ListPrice, To: c.ListPrice}}, nil
	case Discontinue:
		if p.Discontinued {
			return nil, nil
		}
		return []domain.Event{Discontinued{Code: p.Code, Reason: c.Reason}}, nil
	case Relist:
		if !p.Discontinued {
			return nil, nil
		}
		return []domain.Event{Relisted{Code: p.Code}}, nil
	}
	return nil, fmt.Errorf("product: no decision for command %T", cmd)
}

func add(p Product, c Add) ([]domain.Event, error) {
	if exists(p) {
		return nil, domain.Reject("product-exists", "the product was added before")
	}
	if err := checkPrice(c.ListPrice); err != nil {
		return nil, err
	}
	details := Details{Name: c.Name, Series: c.Series, Category: c.Category, Unit: c.Unit}
	return []domain.Event{Added{Code: c.Code, Details: details, ListPrice: c.ListPrice}}, nil
}

func checkPrice(price *domain.Money) error {
	if price != nil && price.Amount.IsNegative() {
		return domain.Invalid("/listPrice/amount", "a price is 0 or more")
	}
	return nil
}

// with returns the details after c.
func (d Details) with(c Update) Details {
	set := func(field *string, value *string) {
		if value != nil {
			*field = *value
		}
	}
	set(&d.Name, c.Name)
	set(&d.Series, c.Series)
	set(&d.Category, c.Category)
	set(&d.Unit, c.Unit)
	return d
}

func evolve(p Product, e domain.Event) Product {
	switch e := e.(type) {
	case Added:
		p.Code, p.Details, p.ListPrice = e.Code, e.Details, e.ListPrice
	case Updated:
		p.Details = e.To
	case PriceChanged:
		p.ListPrice = &e.To
	case Discontinued:
		p.Discontinued = true
	case Relisted:
		p.Discontinued = false
	}
	return p
}
