package party

import (
	"slices"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/projections/column"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/party"
)

// Interaction keeps each dealing with a customer, corrections applied.
var Interaction = projection.Fold[projection.StreamKey, party.Interaction]{
	Name: "interaction", Version: 1,
	Doc:    "Dealings with customers: calls, mails, visits, with corrections applied; retracted ones are marked.",
	Events: []string{"interaction."},
	Keys:   projection.ByStream,
	Begins: projection.BeginsStream[projection.StreamKey],
	Evolve: func(r party.Interaction, _ projection.StreamKey, e domain.Recorded) party.Interaction {
		switch ev := e.Event.(type) {
		case interaction.Logged:
			setInteraction(&r, ev.Details)
			if r.StartedAt.IsZero() {
				r.StartedAt = e.OccurredAt
			}
			r.Actor, r.Status, r.RecordedAt = e.Actor.ID, party.InteractionLogged, e.RecordedAt
		case interaction.Corrected:
			d := interactionOf(r)
			d.Take(ev.Field, ev.To)
			setInteraction(&r, d)
			r.Corrections++
		case interaction.NoteAdded:
			r.Notes = append(slices.Clone(r.Notes), party.Note{Text: ev.Text, By: e.Actor.ID, At: e.OccurredAt})
		case interaction.Retracted:
			r.Status = party.InteractionRetracted
		}
		r.Revision, r.Position = int64(e.Revision), e.Position.Order()
		return r
	},
	Indexes: party.Interactions.Indexes,
}

func interactionOf(r party.Interaction) interaction.Details {
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

func setInteraction(r *party.Interaction, d interaction.Details) {
	r.CustomerID = column.ID(d.CustomerID)
	r.Channel, r.Direction, r.Subject, r.Body = string(d.Channel), string(d.Direction), d.Subject, d.Body
	r.Outcome, r.DurationSeconds, r.Campaign = d.Outcome, int64(d.DurationSeconds), d.Campaign
	r.StartedAt = d.StartedAt
	r.RelatesToAggregate, r.RelatesToID = "", nil
	if d.RelatesTo != nil {
		r.RelatesToAggregate, r.RelatesToID = d.RelatesTo.Aggregate, column.ID(d.RelatesTo.ID)
	}
	r.Participants = nil
	for _, p := range d.Participants {
		r.Participants = append(r.Participants, party.Participant{Kind: string(p.Kind), ID: p.ID, Name: p.Name})
	}
}
