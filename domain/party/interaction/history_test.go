package interaction_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/domain/party/interaction"
)

func TestSpecs(t *testing.T) { domaintest.Specs(t, interaction.Aggregate.Definition()) }

// commands draws from small pools, so that histories repeat, contradict and complete themselves often.
func commands() *rapid.Generator[domain.Command] {
	return rapid.Custom(func(t *rapid.T) domain.Command {
		text := func(name string) string { return rapid.SampledFrom([]string{"", " ", "a", "b"}).Draw(t, name) }
		fact := func() interaction.CustomerFacts {
			return rapid.SampledFrom([]interaction.CustomerFacts{{}, alive, {Exists: true, MergedInto: globex}}).Draw(t, "customer")
		}
		id := func() domain.ID { return rapid.SampledFrom([]domain.ID{"", acme, globex}).Draw(t, "id") }
		began := func() time.Time {
			return domaintest.Now.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "hours")) * time.Hour)
		}
		switch rapid.IntRange(0, 5).Draw(t, "kind of command") {
		case 0, 1:
			d := call
			d.CustomerID, d.Subject, d.StartedAt = id(), text("subject"), began()
			return interaction.Log{Details: d, Customer: fact()}
		case 2, 3:
			return interaction.Correct{
				CustomerID: new(id()), Subject: new(text("subject")), DurationSeconds: new(rapid.IntRange(-1, 2).Draw(t, "duration")),
				StartedAt: new(began()), Reason: text("reason"), Customer: fact(),
				Clear: rapid.SliceOfN(rapid.SampledFrom([]string{"outcome", "channel", "hat"}), 0, 2).Draw(t, "clear"),
			}
		case 4:
			return interaction.AddNote{Text: text("text")}
		default:
			return interaction.Retract{Reason: text("reason")}
		}
	})
}

func TestRandomHistories(t *testing.T) {
	domaintest.Histories(t, interaction.Aggregate, commands(), func(before, i interaction.Interaction) error {
		switch {
		case before.Retracted:
			return errors.New("something happened to a retracted interaction")
		case i.CustomerID == "" || i.Channel == "" || i.Direction == "" || i.StartedAt.IsZero():
			return errors.New("a field without which nothing can be logged was lost")
		case i.DurationSeconds < 0:
			return errors.New("the duration is negative")
		}
		return nil
	})
}
