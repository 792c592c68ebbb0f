package party

import (
	"context"
	"maps"
	"slices"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

var contactRules = []commands.Rule{
	commands.Prepare(prepareCreateContact),
	commands.Prepare(prepareUpdateContact),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c contact.LinkCustomer) (contact.LinkCustomer, error) {
		cust, ok, err := commands.Load(ctx, l, customer.Aggregate, c.CustomerID)
		c.Customer = contact.CustomerFacts{Exists: ok, MergedInto: cust.MergedInto}
		return c, err
	}),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c contact.Relate) (contact.Relate, error) {
		_, ok, err := commands.Load(ctx, l, contact.Aggregate, c.ContactID)
		c.OtherExists = ok
		return c, err
	}),
}

func prepareCreateContact(ctx context.Context, l *commands.Loader, _ commands.Request, c contact.Create) (contact.Create, error) {
	country := ""
	c.Customers = make(map[domain.ID]contact.CustomerFacts, len(c.Links))
	for _, link := range c.Links {
		cust, ok, err := commands.Load(ctx, l, customer.Aggregate, link.CustomerID)
		if err != nil {
			return c, err
		}
		if ok {
			c.Customers[link.CustomerID] = contact.CustomerFacts{Exists: true, MergedInto: cust.MergedInto}
		}
		if country == "" {
			country = cust.Address.Country
		}
	}
	var err error
	if c.Email, err = normalEmail(c.Email, "/email"); err != nil {
		return c, err
	}
	c.Phone, err = normalPhone(c.Phone, country, "/phone")
	return c, err
}

func prepareUpdateContact(ctx context.Context, l *commands.Loader, req commands.Request, c contact.Update) (contact.Update, error) {
	if err := normal(&c.Email, func(s string) (string, error) { return normalEmail(s, "/email") }); err != nil {
		return c, err
	}
	if c.Phone == nil {
		return c, nil
	}
	country := ""
	if !isInternational(*c.Phone) {
		var err error
		if country, err = contactCountry(ctx, l, req.Target); err != nil {
			return c, err
		}
	}
	err := normal(&c.Phone, func(s string) (string, error) { return normalPhone(s, country, "/phone") })
	return c, err
}

// contactCountry returns the country of the first customer linked now that has one; ids order them, so that a command
// decided twice comes out the same.
func contactCountry(ctx context.Context, l *commands.Loader, id domain.ID) (string, error) {
	self, _, err := commands.Load(ctx, l, contact.Aggregate, id)
	if err != nil {
		return "", err
	}
	for _, at := range slices.Sorted(maps.Keys(self.Links)) {
		if self.Links[at].Over() {
			continue
		}
		cust, _, err := commands.Load(ctx, l, customer.Aggregate, at)
		if err != nil || cust.Address.Country != "" {
			return cust.Address.Country, err
		}
	}
	return "", nil
}
