package party

import (
	"cmp"
	"context"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

var customerRules = []commands.Rule{
	commands.Prepare(prepareRegister),
	commands.Prepare(prepareUpdateProfile),
	commands.Prepare(prepareSetParent),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c customer.AddMember) (customer.AddMember, error) {
		m, _, err := commands.Load(ctx, l, customer.Aggregate, c.MemberID)
		c.Member = m
		return c, err
	}),
	commands.Prepare(prepareMerge),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c customer.MergeInto) (customer.MergeInto, error) {
		s, _, err := commands.Load(ctx, l, customer.Aggregate, c.SurvivorID)
		c.Survivor = s
		return c, err
	}),
	commands.Alone[customer.SetParent](), // two companies each put under the other at once would make a cycle
	commands.Unclaimed[customer.Merge](customer.DuplicateKey, func(by domain.ID) error {
		return domain.Reject("customer-merging", "the customer is being merged into {survivorId}", by)
	}),
	commands.Then(completeMerge),
}

func prepareRegister(ctx context.Context, l *commands.Loader, _ commands.Request, c customer.Register) (customer.Register, error) {
	var err error
	if c.Email, err = normalEmail(c.Email, "/email"); err != nil {
		return c, err
	}
	if c.Phone, err = normalPhone(c.Phone, c.Address.Country, "/phone"); err != nil {
		return c, err
	}
	if c.ParentID != "" {
		c.Parent, _, err = commands.Load(ctx, l, customer.Aggregate, c.ParentID)
	}
	return c, err
}

func prepareUpdateProfile(ctx context.Context, l *commands.Loader, req commands.Request, c customer.UpdateProfile) (customer.UpdateProfile, error) {
	self, _, err := commands.Load(ctx, l, customer.Aggregate, req.Target)
	if err != nil {
		return c, err
	}
	country := self.Address.Country
	if c.Address != nil {
		country = c.Address.Country
	}
	if err := normal(&c.Email, func(s string) (string, error) { return normalEmail(s, "/email") }); err != nil {
		return c, err
	}
	err = normal(&c.Phone, func(s string) (string, error) { return normalPhone(s, country, "/phone") })
	return c, err
}

func prepareSetParent(ctx context.Context, l *commands.Loader, _ commands.Request, c customer.SetParent) (customer.SetParent, error) {
	parent, ok, err := commands.Load(ctx, l, customer.Aggregate, c.ParentID)
	if err != nil || !ok {
		return c, err
	}
	c.Parent = parent
	c.Ancestors, err = ancestors(ctx, l, parent)
	return c, err
}

func prepareMerge(ctx context.Context, l *commands.Loader, req commands.Request, c customer.Merge) (customer.Merge, error) {
	var err error
	if c.Duplicate, _, err = commands.Load(ctx, l, customer.Aggregate, c.DuplicateID); err != nil {
		return c, err
	}
	self, _, err := commands.Load(ctx, l, customer.Aggregate, req.Target)
	if err != nil {
		return c, err
	}
	c.Ancestors, err = ancestors(ctx, l, self)
	return c, err
}

// ancestors returns the companies above a customer, nearest first, as many as a decision needs to see. One that was a
// duplicate is followed by its survivor, which stands for it, and the chain goes on above that.
func ancestors(ctx context.Context, l *commands.Loader, c customer.Customer) (above []domain.ID, err error) {
	for id := c.ParentID; id != "" && len(above) <= customer.MaxAncestors; {
		above = append(above, id)
		next, _, err := commands.Load(ctx, l, customer.Aggregate, id)
		if err != nil {
			return nil, err
		}
		id = cmp.Or(next.MergedInto, next.ParentID)
	}
	return above, nil
}

// Usable refuses the id at pointer when it names no customer, or one that was a duplicate, in the words of the aggregates that
// decide it themselves.
func Usable(ctx context.Context, l *commands.Loader, id domain.ID, pointer string) error {
	c, ok, err := commands.Load(ctx, l, customer.Aggregate, id)
	switch {
	case err != nil:
		return err
	case !ok:
		return domain.Reject("customer-unknown", "there is no customer {customerId}", id).At(pointer)
	case c.MergedInto != "":
		return domain.Reject("customer-merged", "the customer was a duplicate; {survivorId} stands for it", c.MergedInto).At(pointer)
	}
	return nil
}
