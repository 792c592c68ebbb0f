package projections_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/projections/oracle"
	"github.com/rapport-crm/rapport/projections/projection"
)

// machine is one aggregate that takes commands and writes what it decides to a log.
type machine[S any] struct {
	aggregate domain.Aggregate[S]
	id        domain.ID
	state     S
}

func (m *machine[S]) do(log *eventLog, at time.Time, cmd domain.Command) {
	spec := slices.IndexFunc(m.aggregate.Commands, func(s domain.CommandSpec) bool { return s.Type() == cmd.CommandType() })
	if !m.aggregate.Commands[spec].Creates && !m.aggregate.Exists(m.state) {
		return // the command bus answers that nothing is there
	}
	events, err := m.aggregate.Decider.Decide(m.state, cmd, domain.Facts{ID: m.id, Now: at, OccurredAt: at})
	if err != nil {
		return // a refusal changes nothing
	}
	for _, e := range events {
		m.state = m.aggregate.Decider.Evolve(m.state, e)
		log.add(m.aggregate.Name, m.id, at, e, m.aggregate.Subjects(m.id, m.state)...)
	}
}

// world is a few aggregates of each kind.
type world struct {
	log           *eventLog
	customers     []*machine[customer.Customer]
	contacts      []*machine[contact.Contact]
	opportunities []*machine[opportunity.Opportunity]
	orders        []*machine[order.Order]
}

// randomWorld lets the deciders answer random commands.
func randomWorld(t *rapid.T) *world {
	w := &world{log: newLog()}
	for n := range 3 {
		w.customers = append(w.customers, &machine[customer.Customer]{aggregate: customer.Aggregate, id: number(n, 0xc)})
		w.contacts = append(w.contacts, &machine[contact.Contact]{aggregate: contact.Aggregate, id: number(n, 0xb)})
		w.opportunities = append(w.opportunities, &machine[opportunity.Opportunity]{aggregate: opportunity.Aggregate, id: number(n, 0xd)})
		w.orders = append(w.orders, &machine[order.Order]{aggregate: order.Aggregate, id: number(n, 0xf)})
	}
	at := day("01-01")
	for range rapid.IntRange(0, 120).Draw(t, "commands") {
		at = at.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "hours")) * time.Hour)
		n := rapid.IntRange(0, 2).Draw(t, "of")
		switch rapid.IntRange(0, 3).Draw(t, "aggregate") {
		case 0:
			w.customers[n].do(w.log, at, w.customerCommand(t))
		case 1:
			w.contacts[n].do(w.log, at, contactCommand(t))
		case 2:
			w.opportunities[n].do(w.log, at, opportunityCommand(t))
		default:
			w.orders[n].do(w.log, at, orderCommand(t))
		}
	}
	return w
}

func pick[T any](t *rapid.T, name string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, name)
}

func customerID(t *rapid.T) domain.ID { return number(rapid.IntRange(0, 2).Draw(t, "customer"), 0xc) }

func euros(t *rapid.T) domain.Money {
	return domain.MustMoney(pick(t, "amount", "1", "0.005", "99.99", "1000"), pick(t, "currency", "EUR", "USD"))
}

func (w *world) customerCommand(t *rapid.T) domain.Command {
	name := pick(t, "name", "Acme", "Globex", "Initech")
	other := w.customers[rapid.IntRange(0, 2).Draw(t, "other")]
	switch rapid.IntRange(0, 15).Draw(t, "command") {
	case 0, 1, 2:
		return customer.Register{
			Kind: pick(t, "kind", customer.Company, customer.Person, customer.Group), Profile: customer.Profile{Name: name},
			Tags: []string{"new"}, Owner: pick(t, "owner", "", "ann"),
		}
	case 3:
		return customer.UpdateProfile{Name: &name, LegalName: new(pick(t, "legal", "", "Legal")), Website: new("https://x.example")}
	case 4:
		return customer.Classify{Region: new(pick(t, "region", "", "West", "East"))}
	case 5:
		return customer.Tag{Tag: pick(t, "tag", "vip", "new", "a")}
	case 6:
		return customer.Untag{Tag: pick(t, "tag", "vip", "new", "a")}
	case 7:
		return customer.SetPreference{Name: pick(t, "about", "colour", "time"), Value: pick(t, "value", "red", "blue")}
	case 8:
		return customer.DropPreference{Name: pick(t, "about", "colour", "time")}
	case 9:
		return customer.AssignOwner{Owner: pick(t, "owner", "ann", "bob")}
	case 10:
		return customer.TransferOwnership{To: pick(t, "owner", "ann", "bob")}
	case 11:
		return customer.RecordCommitment{CommitmentID: pick(t, "promise", "1", "2"), Text: "call", Due: "2030-01-01", By: "ann"}
	case 12:
		return customer.KeepCommitment{CommitmentID: pick(t, "promise", "1", "2")}
	case 13:
		return customer.BreakCommitment{CommitmentID: pick(t, "promise", "1", "2"), Reason: "late"}
	case 14:
		return customer.AddMember{MemberID: other.id, Member: other.state}
	}
	return pick[domain.Command](t, "rest",
		customer.RemoveMember{MemberID: other.id}, customer.Deactivate{Reason: "closed"}, customer.Reactivate{},
		customer.Merge{DuplicateID: other.id, Duplicate: other.state}, customer.MergeInto{SurvivorID: other.id, Survivor: other.state})
}

func contactCommand(t *rapid.T) domain.Command {
	alive := contact.CustomerFacts{Exists: true}
	role := pick(t, "role", contact.Decider, contact.User)
	switch rapid.IntRange(0, 7).Draw(t, "command") {
	case 0, 1:
		return contact.Create{Details: contact.Details{FamilyName: "Keller"}}
	case 2:
		return contact.Update{GivenName: new(pick(t, "name", "", "Mara"))}
	case 3:
		return contact.LinkCustomer{CustomerID: customerID(t), Role: role, Customer: alive}
	case 4:
		return contact.ChangeRole{CustomerID: customerID(t), Role: &role, Primary: new(rapid.Bool().Draw(t, "primary"))}
	case 5:
		return contact.UnlinkCustomer{CustomerID: customerID(t)}
	}
	other := number(rapid.IntRange(0, 2).Draw(t, "contact"), 0xb)
	return pick[domain.Command](t, "relation",
		contact.Relate{ContactID: other, Kind: contact.ReportsTo, OtherExists: true}, contact.Unrelate{ContactID: other, Kind: contact.ReportsTo})
}

func opportunityCommand(t *rapid.T) domain.Command {
	facts := opportunity.PipelineFacts{ID: goldenPipeline, Version: 1, Stages: []opportunity.StageFacts{{Key: "q", Probability: 10}, {Key: "p", Probability: 50}, {Key: "n", Probability: 75}}}
	stage := pick(t, "stage", "q", "p", "n")
	line := rapid.IntRange(1, 4).Draw(t, "line")
	fresh := opportunity.NewLine{ProductCode: pick(t, "code", "A", "B"), Quantity: amount("2"), UnitPrice: euros(t)}
	var worth *domain.Money
	if rapid.Bool().Draw(t, "valued") {
		worth = new(euros(t))
	}
	switch rapid.IntRange(0, 11).Draw(t, "command") {
	case 0, 1:
		return opportunity.Open{Name: "Deal", CustomerID: pick(t, "of", "", number(0, 0xc)), Stage: stage, Owner: "ann", Amount: worth, Lines: []opportunity.NewLine{fresh}, Pipeline: facts}
	case 2, 3:
		return opportunity.MoveStage{Stage: stage, Pipeline: facts}
	case 4:
		return opportunity.ReEstimate{Amount: euros(t)}
	case 5:
		return opportunity.AddLine{NewLine: fresh}
	case 6:
		return opportunity.ChangeLine{Line: line, Quantity: new(amount("3"))}
	case 7:
		return opportunity.RemoveLine{Line: line}
	case 8:
		return opportunity.Win{Amount: worth}
	case 9:
		return opportunity.Lose{Reason: "price"}
	case 10:
		return opportunity.Reopen{Stage: stage, Pipeline: facts}
	}
	return pick[domain.Command](t, "rest", opportunity.Assign{Owner: "bob"}, opportunity.LinkCustomer{CustomerID: customerID(t)},
		opportunity.Update{Region: new("West")}, opportunity.Reschedule{ExpectedClose: "2026-05-01"}, opportunity.Qualify{Score: 50, Reason: "?"})
}

func orderCommand(t *rapid.T) domain.Command {
	switch rapid.IntRange(0, 10).Draw(t, "command") {
	case 0, 1, 2:
		p := order.Place{Number: "SO", Kind: pick(t, "kind", order.KindSale, order.KindSale, order.KindCredit, order.KindAdjustment), Currency: pick[domain.Currency](t, "currency", "EUR", "USD")}
		if rapid.Bool().Draw(t, "known") {
			p.CustomerID = customerID(t)
		}
		for range rapid.IntRange(1, 4).Draw(t, "lines") {
			quantity := pick(t, "quantity", "1", "2.5")
			if p.Kind == order.KindCredit {
				quantity = "-" + quantity
			}
			p.Lines = append(p.Lines, order.NewLine{ProductCode: pick(t, "code", "A", "B"), Quantity: amount(quantity), UnitPrice: amount(pick(t, "price", "10", "0.333"))})
		}
		return p
	case 3:
		return order.Cancel{Reason: "twice"}
	case 4:
		return order.ReceivePayment{PaymentID: pick(t, "payment", "1", "2", "3"), Amount: domain.MustMoney("4.5", string(pick[domain.Currency](t, "currency", "EUR", "USD")))}
	case 5:
		return order.RefundPayment{RefundID: pick(t, "refund", "1", "2"), PaymentID: pick(t, "payment", "1", "2"), Amount: domain.MustMoney("1", string(pick[domain.Currency](t, "currency", "EUR", "USD"))), Reason: "late"}
	case 6:
		return order.ReturnGoods{Lines: []order.ReturnLine{{Line: rapid.IntRange(1, 3).Draw(t, "line"), Quantity: amount("1")}}, Reason: "broken"}
	}
	return pick[domain.Command](t, "step", order.Confirm{}, order.Ship{}, order.Deliver{}, order.Accept{}, order.StartProduction{})
}

// D4: TestRowsAreWhatTheOracleFinds compares every row of every projection with what the oracle reads off the events.
func TestRowsAreWhatTheOracleFinds(t *testing.T) {
	list := compiled(t)
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		found, err := oracle.Fold(w.log.events)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if !slices.Contains(oracle.Tables, c.Name) {
				continue
			}
			m := c.NewMemory()
			for _, e := range w.log.events {
				if err := m.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
			if diff := found.Diff(c.Name, m.All()); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// D4: TestTheOracleKnowsProjectionsAlone holds that no table of the oracle is one that nobody compares.
func TestTheOracleKnowsProjectionsAlone(t *testing.T) {
	list := compiled(t)
	for _, table := range oracle.Tables {
		if !slices.ContainsFunc(list, func(c *projection.Compiled) bool { return c.Name == table }) {
			t.Errorf("the oracle knows %s, which is no projection", table)
		}
	}
}
