// Package interaction decides what may be recorded of a dealing with a customer: a call, a mail, a visit. Each has a
// stream of its own, so that logging one needs no load of a long history.
package interaction

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// ClockSkew is how far in the future an interaction may seem to have begun, because clocks differ.
const ClockSkew = 5 * time.Minute

// Aggregate declares the interaction.
var Aggregate = domain.Aggregate[Interaction]{
	Name:     "interaction",
	Plural:   "interactions",
	Doc:      "A dealing with a customer: a call, a mail, a visit.",
	Decider:  domain.Decider[Interaction]{Decide: decide, Evolve: evolve},
	Events:   eventSpecs,
	Commands: commandSpecs,

	Deadlines: deadlines,

	Exists:   func(i Interaction) bool { return i.CustomerID != "" },
	Subjects: subjects,
}

// Interaction is what the rules need to know, folded from one stream. The zero value is one that was not logged.
type Interaction struct {
	Details
	Retracted bool

	Reminded time.Time // the last moment of a follow-up that was said to be due; zero when none was
}

// subjects returns the customer and the customers who took part.
func subjects(_ domain.ID, i Interaction) []domain.ID {
	if i.CustomerID == "" {
		return nil
	}
	ids := []domain.ID{i.CustomerID}
	for _, p := range i.Participants {
		if id := domain.ID(p.ID); p.Kind == ByCustomer && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// decide returns the events that cmd causes in i. What was retracted takes no command but the repetition of retracting.
func decide(i Interaction, cmd domain.Command, f domain.Facts) ([]domain.Event, error) {
	if i.Retracted {
		if _, again := cmd.(Retract); again {
			return nil, nil
		}
		return nil, domain.Reject("interaction-retracted", "the interaction was retracted")
	}
	switch cmd := cmd.(type) {
	case Log:
		return log(i, cmd, f)
	case Correct:
		return correct(i, cmd, f)
	case AddNote:
		if domain.IsBlank(cmd.Text) {
			return nil, domain.Invalid("/text", "is blank")
		}
		return []domain.Event{NoteAdded{Text: cmd.Text}}, nil
	case Retract:
		if domain.IsBlank(cmd.Reason) {
			return nil, domain.Invalid("/reason", "is blank")
		}
		return []domain.Event{Retracted{Details: i.Details, Reason: cmd.Reason}}, nil
	case MarkFollowUpDue:
		return markFollowUpDue(i, cmd, f)
	}
	return nil, fmt.Errorf("interaction: no decision for command %T", cmd)
}

func log(i Interaction, cmd Log, f domain.Facts) ([]domain.Event, error) {
	if i.CustomerID != "" {
		return nil, domain.Reject("interaction-exists", "the interaction is logged already")
	}
	d := cmd.Details
	if d.StartedAt.IsZero() {
		if f.OccurredAt.After(f.Now.Add(ClockSkew)) {
			return nil, domain.Invalid("/occurredAt", "lies in the future: the interaction has not begun")
		}
		d.StartedAt = f.OccurredAt
	}
	d = d.normal()
	if err := check(d, f); err != nil {
		return nil, err
	}
	if err := mayConcern(d.CustomerID, cmd.Customer); err != nil {
		return nil, err
	}
	return []domain.Event{Logged{Details: d}}, nil
}

func correct(i Interaction, cmd Correct, f domain.Facts) ([]domain.Event, error) {
	if domain.IsBlank(cmd.Reason) {
		return nil, domain.Invalid("/reason", "is blank")
	}
	to, err := cmd.apply(i.Details)
	if err != nil {
		return nil, err
	}
	var events []domain.Event
	same := func(from, to Details) bool { return reflect.DeepEqual(from, to) }
	for _, change := range domain.FieldChanges(i.Details, to, same) {
		events = append(events, Corrected{Field: change.Field, From: change.From, To: change.To, Reason: cmd.Reason})
	}
	if len(events) == 0 {
		return nil, nil
	}
	if err := check(to, f); err != nil {
		return nil, err
	}
	if to.CustomerID != i.CustomerID {
		if err := mayConcern(to.CustomerID, cmd.Customer); err != nil {
			return nil, err
		}
	}
	return events, nil
}

func mayConcern(id domain.ID, c CustomerFacts) error {
	switch {
	case !c.Exists:
		return domain.Reject("customer-unknown", "there is no customer {customerId}", id).At("/customerId")
	case c.MergedInto != "":
		return domain.Reject("customer-merged", "the customer was a duplicate; {survivorId} stands for it", c.MergedInto).At("/customerId")
	}
	return nil
}

// evolve folds one recorded event into i.
func evolve(i Interaction, e domain.Event) Interaction {
	switch e := e.(type) {
	case Logged:
		i.Details = e.Details
	case Corrected:
		i.Details.Take(e.Field, e.To)
	case Retracted:
		i.Retracted = true
	case FollowUpDue:
		i.Reminded = e.FollowUpAt
	}
	return i
}
