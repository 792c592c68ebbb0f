package commands

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
)

func registerInteraction(b *Bus) {
	Register(b, interaction.Aggregate,
		Prepare(func(ctx context.Context, l *Loader, _ Request, c interaction.Log) (interaction.Log, error) {
			var err error
			if c.Customer, err = interactionCustomer(ctx, l, c.CustomerID); err != nil {
				return c, err
			}
			return c, checkLinks(ctx, l, c.Participants, c.RelatesTo)
		}),
		Prepare(func(ctx context.Context, l *Loader, _ Request, c interaction.Correct) (interaction.Correct, error) {
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
	)
}

func interactionCustomer(ctx context.Context, l *Loader, id domain.ID) (interaction.CustomerFacts, error) {
	c, ok, err := Load(ctx, l, customer.Aggregate, id)
	return interaction.CustomerFacts{Exists: ok, MergedInto: c.MergedInto}, err
}

// checkLinks rejects participants and a reference that name nothing.
func checkLinks(ctx context.Context, l *Loader, participants []interaction.Participant, relatesTo *interaction.Reference) error {
	for i, p := range participants {
		at := fmt.Sprintf("/participants/%d/id", i)
		if p.Kind == interaction.ByUser {
			continue
		}
		id, err := domain.ParseID(p.ID)
		if err != nil {
			return domain.Invalid(at, "%s", err)
		}
		if p.Kind == interaction.ByContact {
			err = mustExist(ctx, l, contact.Aggregate, id, at)
		} else {
			err = mustExist(ctx, l, customer.Aggregate, id, at)
		}
		if err != nil {
			return err
		}
	}
	if relatesTo == nil {
		return nil
	}
	return l.mustExist(ctx, relatesTo.Aggregate, relatesTo.ID, "/relatesTo")
}
