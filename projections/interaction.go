package projections

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels"
)

// Interaction keeps each dealing with a customer, corrections applied.
var Interaction = projection.Fold[record, readmodels.Interaction]{
	Name: "interaction", Version: 1,
	Doc:    "Dealings with customers: calls, mails, visits, with corrections applied; retracted ones are marked.",
	Events: []string{"interaction."},
	Keys:   byStream,
	Begins: beginsStream[record],
	Evolve: func(r readmodels.Interaction, _ record, e domain.Recorded) readmodels.Interaction {
		switch ev := e.Event.(type) {
		case interaction.Logged:
			setInteraction(&r, ev.Details)
			if r.StartedAt.IsZero() {
				r.StartedAt = e.OccurredAt
			}
			r.Actor, r.Status, r.RecordedAt = e.Actor.ID, readmodels.InteractionLogged, e.RecordedAt
		case interaction.Corrected:
			d := interactionOf(r)
			d.Take(ev.Field, ev.To)
			setInteraction(&r, d)
			r.Corrections++
		case interaction.NoteAdded:
			r.Notes = append(slices.Clone(r.Notes), readmodels.Note{Text: ev.Text, By: e.Actor.ID, At: e.OccurredAt})
		case interaction.Retracted:
			r.Status = readmodels.InteractionRetracted
		}
		r.Revision, r.Position = int64(e.Revision), e.Position.Order()
		return r
	},
	Indexes: []projection.Index{
		{Name: "customer", Columns: "tenant, customer_id, started_at desc, id"},
		{Name: "started", Columns: "tenant, started_at desc, id desc"},
		{Name: "relates_to", Columns: "tenant, relates_to_id", Where: "relates_to_id is not null"},
	},
}

func interactionOf(r readmodels.Interaction) interaction.Details {
	d := interaction.Details{
		Channel: interaction.Channel(r.Channel), Direction: interaction.Direction(r.Direction), Subject: r.Subject, Body: r.Body,
		Outcome: r.Outcome, DurationSeconds: int(r.DurationSeconds), StartedAt: r.StartedAt, Campaign: r.Campaign,
	}
	if r.CustomerID != nil {
		d.CustomerID = *r.CustomerID
	}
	if r.RelatesToID != nil {
		d.RelatesTo = &interaction.Reference{Aggregate: r.RelatesToAggregate, ID: *r.RelatesToID}
	}
	for _, p := range r.Participants {
		d.Participants = append(d.Participants, interaction.Participant{Kind: interaction.ParticipantKind(p.Kind), ID: p.ID, Name: p.Name})
	}
	return d
}

func setInteraction(r *readmodels.Interaction, d interaction.Details) {
	r.CustomerID = optionalID(d.CustomerID)
	r.Channel, r.Direction, r.Subject, r.Body = string(d.Channel), string(d.Direction), d.Subject, d.Body
	r.Outcome, r.DurationSeconds, r.Campaign = d.Outcome, int64(d.DurationSeconds), d.Campaign
	r.StartedAt = d.StartedAt
	r.RelatesToAggregate, r.RelatesToID = "", nil
	if d.RelatesTo != nil {
		r.RelatesToAggregate, r.RelatesToID = d.RelatesTo.Aggregate, optionalID(d.RelatesTo.ID)
	}
	r.Participants = nil
	for _, p := range d.Participants {
		r.Participants = append(r.Participants, readmodels.Participant{Kind: string(p.Kind), ID: p.ID, Name: p.Name})
	}
}
