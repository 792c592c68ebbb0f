package party

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
)

var interactionRules = []commands.Rule{
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c interaction.Log) (interaction.Log, error) {
		var err error
		if c.Customer, err = interactionCustomer(ctx, l, c.CustomerID); err != nil {
			return c, err
		}
		return c, checkLinks(ctx, l, c.Participants, c.RelatesTo)
	}),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c interaction.Correct) (interaction.Correct, error) {
		var err error
		if c.CustomerID != nil {
			if c.Customer, err = interactionCustomer(ctx, l, *c.CustomerID); err != nil {
				return c, err
			}
		}
		var participants []interaction.Participant
		if c.Participants != nil {
			participants = *c.Participants
		}
		return c, checkLinks(ctx, l, participants, c.RelatesTo)
	}),
}

func interactionCustomer(ctx context.Context, l *commands.Loader, id domain.ID) (interaction.CustomerFacts, error) {
	c, ok, err := commands.Load(ctx, l, customer.Aggregate, id)
	return interaction.CustomerFacts{Exists: ok, MergedInto: c.MergedInto}, err
}

// checkLinks rejects participants and a reference that name nothing.
func checkLinks(ctx context.Context, l *commands.Loader, participants []interaction.Participant, relatesTo *interaction.Reference) error {
	for i, p := range participants {
		at := fmt.Sprintf("/participants/%d/id", i)
		if p.Kind == interaction.ByUser {
			continue
		}
		id, err := domain.ParseID(p.ID)
		if err != nil {
			return domain.Invalid(at, "{reason}", err)
		}
		if p.Kind == interaction.ByContact {
			err = l.MustExist(ctx, contact.Aggregate.Name, id, at)
		} else {
			err = l.MustExist(ctx, customer.Aggregate.Name, id, at)
		}
		if err != nil {
			return err
		}
	}
	if relatesTo == nil {
		return nil
	}
	if !l.Knows(relatesTo.Aggregate) {
		return domain.Invalid("/relatesTo/aggregate", "\"{aggregate}\" is not a kind of aggregate", relatesTo.Aggregate)
	}
	return l.MustExist(ctx, relatesTo.Aggregate, relatesTo.ID, "/relatesTo/id")
}
