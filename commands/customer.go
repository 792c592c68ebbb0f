package commands

import (
	"cmp"
	"context"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

func registerCustomer(b *Bus) {
	Register(b, customer.Aggregate,
		Prepare(prepareRegister),
		Prepare(prepareUpdateProfile),
		Prepare(prepareSetParent),
		Prepare(func(ctx context.Context, l *Loader, _ Request, c customer.AddMember) (customer.AddMember, error) {
			m, _, err := Load(ctx, l, customer.Aggregate, c.MemberID)
			c.Member = m
			return c, err
		}),
		Prepare(prepareMerge),
		Prepare(func(ctx context.Context, l *Loader, _ Request, c customer.MergeInto) (customer.MergeInto, error) {
			s, _, err := Load(ctx, l, customer.Aggregate, c.SurvivorID)
			c.Survivor = s
			return c, err
		}),
		Alone[customer.SetParent](), // two companies each put under the other at once would make a cycle
		Unclaimed[customer.Merge](customer.DuplicateKey, func(by domain.ID) error {
			return domain.Reject("customer-merging", "the customer is being merged into %s", by)
		}),
		Then(completeMerge),
	)
}

func prepareRegister(ctx context.Context, l *Loader, _ Request, c customer.Register) (customer.Register, error) {
	var err error
	if c.Email, err = normalEmail(c.Email, "/email"); err != nil {
		return c, err
	}
	if c.Phone, err = normalPhone(c.Phone, c.Address.Country, "/phone"); err != nil {
		return c, err
	}
	if c.ParentID != "" {
		c.Parent, _, err = Load(ctx, l, customer.Aggregate, c.ParentID)
	}
	return c, err
}

func prepareUpdateProfile(ctx context.Context, l *Loader, req Request, c customer.UpdateProfile) (customer.UpdateProfile, error) {
	self, _, err := Load(ctx, l, customer.Aggregate, req.Target)
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

func prepareSetParent(ctx context.Context, l *Loader, _ Request, c customer.SetParent) (customer.SetParent, error) {
	parent, ok, err := Load(ctx, l, customer.Aggregate, c.ParentID)
	if err != nil || !ok {
		return c, err
	}
	c.Parent = parent
	c.Ancestors, err = ancestors(ctx, l, parent)
	return c, err
}

func prepareMerge(ctx context.Context, l *Loader, req Request, c customer.Merge) (customer.Merge, error) {
	var err error
	if c.Duplicate, _, err = Load(ctx, l, customer.Aggregate, c.DuplicateID); err != nil {
		return c, err
	}
	self, _, err := Load(ctx, l, customer.Aggregate, req.Target)
	if err != nil {
		return c, err
	}
	c.Ancestors, err = ancestors(ctx, l, self)
	return c, err
}

// ancestors returns the companies above a customer, nearest first, as many as a decision needs to see. One that was a
// duplicate is followed by its survivor, which stands for it, and the chain goes on above that.
func ancestors(ctx context.Context, l *Loader, c customer.Customer) (above []domain.ID, err error) {
	for id := c.ParentID; id != "" && len(above) <= customer.MaxAncestors; {
		above = append(above, id)
		next, _, err := Load(ctx, l, customer.Aggregate, id)
		if err != nil {
			return nil, err
		}
		id = cmp.Or(next.MergedInto, next.ParentID)
	}
	return above, nil
}

// completeMerge closes the duplicate once the survivor stands for it. Were the process to end in between, repeating the
// merge, with the same key or another, would come here again. The survivor's event is written: whoever asked is never told
// of a refusal from here on, at most that the end is not known, and that the client is gone stops nothing.
func completeMerge(ctx context.Context, b *Bus, req Request, c customer.Merge, r Receipt) error {
	into := customer.MergeInto{When: c.When, SurvivorID: req.Target}
	_, err := b.Submit(context.WithoutCancel(ctx), Request{
		Tenant:        req.Tenant,
		Actor:         req.Actor,
		Key:           "merge-into " + commandID(req.Tenant, req.Actor, req.Key),
		Target:        c.DuplicateID,
		Command:       into,
		CorrelationID: r.CorrelationID,
		CausationID:   commandID(req.Tenant, req.Actor, req.Key),
		TraceParent:   req.TraceParent,
	})
	return err
}

// usable rejects a customer that does not exist or that was a duplicate, in the words of the aggregates that decide it
// themselves.
func usable(ctx context.Context, l *Loader, id domain.ID, pointer string) error {
	c, ok, err := Load(ctx, l, customer.Aggregate, id)
	switch {
	case err != nil:
		return err
	case !ok:
		return domain.Reject("customer-unknown", "there is no customer %s", id).At(pointer)
	case c.MergedInto != "":
		return domain.Reject("customer-merged", "the customer was a duplicate; %s stands for it", c.MergedInto).At(pointer)
	}
	return nil
}

// mustExist rejects an id that names no aggregate of the kind.
func mustExist[S any](ctx context.Context, l *Loader, agg domain.Aggregate[S], id domain.ID, pointer string) error {
	_, ok, err := Load(ctx, l, agg, id)
	if err == nil && !ok {
		return domain.Reject(agg.Name+"-unknown", "there is no %s %s", agg.Name, id).At(pointer)
	}
	return err
}
