package sales

import (
	"maps"
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// breakdowns sums what was won in the window by each dimension that was asked for.
func (c *calculation) breakdowns() []WonBreakdown {
	list := make([]WonBreakdown, len(c.GroupBy))
	for i, by := range c.GroupBy {
		groups := map[string]*WonGroup{}
		count := func(key string, amount domain.Amount) {
			if groups[key] == nil {
				groups[key] = &WonGroup{Key: key}
			}
			groups[key].Deals++
			groups[key].Value = add(groups[key].Value, amount)
		}
		for _, d := range c.deals {
			if d.outcome == OpportunityWon && c.inWindow(d.closed) {
				c.group(d, by, count)
			}
		}
		list[i] = WonBreakdown{By: by, Groups: []WonGroup{}}
		for _, key := range slices.Sorted(maps.Keys(groups)) {
			list[i].Groups = append(list[i].Groups, *groups[key])
		}
	}
	return list
}

// group tells to which groups of a dimension a won deal belongs, and with which value.
func (c *calculation) group(d dealView, by string, count func(string, domain.Amount)) {
	amount, _ := c.value(d.final)
	switch by {
	case "month":
		count(d.closed.In(c.zone).Format("2006-01"), amount)
	case "owner":
		count(d.Owner, amount)
	case "region":
		count(d.Region, amount)
	case "source":
		count(d.Source, amount)
	case "product":
		c.groupProducts(d, amount, count)
	}
}

// groupProducts divides the won value among products in proportion to their lines, so that the groups add up to what was
// won to the last digit: the last product takes what rounding leaves.
func (c *calculation) groupProducts(d dealView, amount domain.Amount, count func(string, domain.Amount)) {
	sum := domain.Amount{}
	values := map[string]domain.Amount{}
	for _, p := range d.Products {
		if value, ok := c.value(&p.Value); ok {
			values[p.Code] = value
			sum = add(sum, value)
		}
	}
	codes := slices.Sorted(maps.Keys(values))
	switch {
	case len(codes) == 0 && len(d.Products) == 1:
		count(d.Products[0].Code, amount)
		return
	case len(codes) == 0 || sum.IsZero() && len(codes) > 1:
		count("", amount)
		return
	}
	rest := amount
	for _, code := range codes[:len(codes)-1] {
		part := domain.NewAmount(amount.Mul(values[code].Decimal).DivRound(sum.Decimal, domain.MaxFractionDigits))
		count(code, part)
		rest = domain.NewAmount(rest.Sub(part.Decimal))
	}
	count(codes[len(codes)-1], rest)
}
