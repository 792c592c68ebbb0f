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
	Name: "interaction", Version: 2,
	Doc:    "Dealings with customers: calls, mails, visits, with corrections applied; retracted ones are marked.",
	Events: []string{"interaction."},
	Keys:   projection.ByStream,
	Begins: projection.BeginsStream[projection.StreamKey],
	Evolve: func(r party.Interaction, _ projection.StreamKey, e domain.Recorded) party.Interaction {
		switch ev := e.Event.(type) {
		case interaction.Logged:
			column.Fill(&r, ev.Details)
			if r.StartedAt.IsZero() {
				r.StartedAt = e.OccurredAt
			}
			r.Actor, r.Status, r.RecordedAt = e.Actor.ID, party.InteractionLogged, e.RecordedAt
		case interaction.Corrected:
			column.FillMember(&r, ev.Field, ev.To)
			r.Corrections++
		case interaction.NoteAdded:
			r.Notes = append(slices.Clone(r.Notes), party.Note{Text: ev.Text, By: e.Actor.ID, At: e.OccurredAt})
		case interaction.FollowUpDue:
			r.RemindedAt = &ev.FollowUpAt
		case interaction.Retracted:
			r.Status = party.InteractionRetracted
		}
		r.Revision, r.Position = int64(e.Revision), e.Position.Order()
		return r
	},
	Indexes: party.Interactions.Indexes,
}
