package projections_test

import (
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/contact"
	"github.com/rapport-crm/rapport/domain/customer"
	"github.com/rapport-crm/rapport/domain/opportunity"
	"github.com/rapport-crm/rapport/domain/order"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels"
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

// TestRowsAreWhatAnIndependentReaderFinds compares the rows with what one reads off the states of the aggregates, and, for
// visits and sums, off the plain list of events.
func TestRowsAreWhatAnIndependentReaderFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		check := func(table string, want, got []string) {
			sort.Strings(want)
			sort.Strings(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s (-found +row):\n%s", table, diff)
			}
		}
		check("customer", w.customerFacts(), lines(t, projections.Customer, w, customerLine))
		check("commitment", w.commitmentFacts(), lines(t, projections.Commitment, w, func(r readmodels.Commitment) string {
			return fmt.Sprint(r.CustomerID, r.CommitmentID, r.Text, r.Due, r.By, r.Status)
		}))
		check("contact_link", w.linkFacts(), lines(t, projections.ContactLink, w, func(r readmodels.ContactLink) string {
			return fmt.Sprint(r.ContactID, r.CustomerID, r.Role, r.Primary, r.Since, text(r.Until), len(r.Parts) > 0)
		}))
		check("opportunity", w.opportunityFacts(), lines(t, projections.Opportunity, w, opportunityRow))
		check("opportunity_line", w.offeredFacts(), lines(t, projections.OpportunityLine, w, func(r readmodels.OpportunityLine) string {
			return fmt.Sprint(r.OpportunityID, r.Line, r.ProductCode, r.Quantity, r.Total, r.Currency)
		}))
		check("opportunity_stage_visit", w.visitFacts(), lines(t, projections.OpportunityStageVisit, w, visitRow))
		check("sales_order", w.orderFacts(), lines(t, projections.SalesOrder, w, func(r readmodels.Order) string {
			return fmt.Sprint(r.ID, r.Status, r.Kind, r.Currency, r.Total, r.Returned, r.Paid, r.Refunded, r.Outstanding)
		}))
		check("customer_sales", w.customerSalesFacts(), lines(t, projections.CustomerSales, w, func(r readmodels.CustomerSales) string {
			return fmt.Sprint(r.CustomerID, r.Currency, r.Orders, r.Credits, r.Adjustments, r.Cancelled, r.Net, r.Paid, r.Refunded)
		}))
		check("product_sales", w.productSalesFacts(), lines(t, projections.ProductSales, w, func(r readmodels.ProductSales) string {
			return fmt.Sprint(r.ProductCode, r.Currency, r.Quantity, r.Revenue)
		}))
		check("customer_timeline", w.timelineFacts(), lines(t, projections.CustomerTimeline, w, func(r readmodels.TimelineEntry) string {
			return fmt.Sprint(r.CustomerID, r.Position, r.EventType, r.Revision)
		}))
	})
}

func lines[R any](t *rapid.T, p projection.Projection, w *world, text func(R) string) []string {
	c, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	m := c.NewMemory()
	for _, e := range w.log.events {
		if err := m.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	var list []string
	for _, row := range m.All() {
		list = append(list, text(row.(R)))
	}
	return list
}

func text[T any](p *T) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}

func moneyText(m *domain.Money) string {
	if m == nil {
		return "-"
	}
	return m.Amount.String() + string(m.Currency)
}

func customerLine(r readmodels.Customer) string {
	var preferences, members []string
	for _, p := range r.Preferences {
		preferences = append(preferences, p.Name+"="+p.Value)
	}
	for _, m := range r.Members {
		members = append(members, string(m.ID))
	}
	return fmt.Sprint(r.ID, r.Kind, r.Name, r.LegalName, r.Website, r.Region, r.Tags, preferences, members, r.Owner, r.Status, text(r.MergedInto))
}

func (w *world) customerFacts() (facts []string) {
	for _, m := range w.customers {
		c := m.state
		if !c.Exists() {
			continue
		}
		var preferences, members []string
		for name, p := range c.Preferences {
			preferences = append(preferences, name+"="+p.Value)
		}
		for id, member := range c.Members {
			if member.Until == "" {
				members = append(members, string(id))
			}
		}
		slices.Sort(preferences)
		slices.Sort(members)
		status, survivor := "active", "-"
		if c.Inactive {
			status = "inactive"
		}
		if c.MergedInto != "" {
			status, survivor = "merged", string(c.MergedInto)
		}
		facts = append(facts, fmt.Sprint(m.id, c.Kind, c.Name, c.LegalName, c.Website, c.Classification.Region, c.Tags, preferences, members, c.Owner, status, survivor))
	}
	return facts
}

func (w *world) commitmentFacts() (facts []string) {
	for _, m := range w.customers {
		for id, p := range m.state.Commitments {
			status := string(p.Status)
			if p.Status == customer.Open {
				status = "open"
			}
			facts = append(facts, fmt.Sprint(m.id, id, p.Text, p.Due, p.By, status))
		}
	}
	return facts
}

func (w *world) linkFacts() (facts []string) {
	for _, m := range w.contacts {
		for id, l := range m.state.Links {
			until := "-"
			if l.Until != "" {
				until = string(l.Until)
			}
			facts = append(facts, fmt.Sprint(m.id, id, l.Role, l.Primary, l.RoleSince, until, true))
		}
	}
	return facts
}

func opportunityRow(r readmodels.Opportunity) string {
	var worth *domain.Money
	if r.Amount != nil {
		worth = &domain.Money{Amount: *r.Amount, Currency: domain.Currency(r.Currency)}
	}
	total := "0"
	if r.LinesTotal != nil {
		total = r.LinesTotal.String()
	}
	return fmt.Sprint(r.ID, r.Status, r.Stage, r.Visit, r.Owner, r.Region, text(r.CustomerID), moneyText(worth), total, text(r.ExpectedClose), text(r.Score), r.ClosedAt != nil)
}

func (w *world) opportunityFacts() (facts []string) {
	for _, m := range w.opportunities {
		o := m.state
		if o.Status == "" {
			continue
		}
		total := domain.Amount{}
		for _, line := range o.Lines {
			total = domain.NewAmount(total.Add(line.Total.Decimal))
		}
		of, due := "-", "-"
		if o.Standing.CustomerID != "" {
			of = string(o.Standing.CustomerID)
		}
		if o.ExpectedClose != "" {
			due = string(o.ExpectedClose)
		}
		facts = append(facts, fmt.Sprint(m.id, o.Status, o.Stage, o.Visit, o.Standing.Owner, o.Standing.Region, of, moneyText(o.Amount), total.String(), due, text(o.Score), o.Status != opportunity.StatusOpen))
	}
	return facts
}

func (w *world) offeredFacts() (facts []string) {
	for _, m := range w.opportunities {
		for _, l := range m.state.Lines {
			facts = append(facts, fmt.Sprint(m.id, l.Number, l.ProductCode, l.Quantity, l.Total, l.UnitPrice.Currency))
		}
	}
	return facts
}

func visitRow(r readmodels.StageVisit) string {
	left := "-"
	if r.LeftAt != nil {
		left = r.LeftAt.Format(time.RFC3339)
	}
	return fmt.Sprint(r.OpportunityID, r.Visit, r.Stage, r.EnteredAt.Format(time.RFC3339), left, r.LeftBy, r.NextStage)
}

// visitFacts reads visits off the list of events the way a person would: write a line when a stage is entered, complete it
// when it is left.
func (w *world) visitFacts() (facts []string) {
	for _, m := range w.opportunities {
		var stages, from, left []string
		enter := func(stage string, at time.Time) {
			stages, from, left = append(stages, stage), append(from, at.Format(time.RFC3339)), append(left, "-")
		}
		leave := func(how, next string, at time.Time) {
			left[len(left)-1] = at.Format(time.RFC3339) + how + next
		}
		for _, e := range w.log.events {
			if e.Stream.ID != m.id {
				continue
			}
			switch ev := e.Event.(type) {
			case opportunity.Opened:
				enter(ev.Stage, e.OccurredAt)
			case opportunity.StageMoved:
				leave("moved", ev.To, e.OccurredAt)
				enter(ev.To, e.OccurredAt)
			case opportunity.Won:
				leave("won", "", e.OccurredAt)
			case opportunity.Lost:
				leave("lost", "", e.OccurredAt)
			case opportunity.Reopened:
				enter(ev.Stage, e.OccurredAt)
			}
		}
		for i := range stages {
			facts = append(facts, fmt.Sprint(m.id, i+1, stages[i], from[i], left[i]))
		}
	}
	return facts
}

func (w *world) orderFacts() (facts []string) {
	for _, m := range w.orders {
		o := m.state
		if o.Status == "" {
			continue
		}
		facts = append(facts, fmt.Sprint(m.id, o.Status, o.Subject.Kind, o.Currency, o.Total, o.ReturnedValue, o.Paid, o.Refunded, o.Outstanding()))
	}
	return facts
}

func (w *world) customerSalesFacts() (facts []string) {
	type key struct {
		customer domain.ID
		currency domain.Currency
	}
	type sums struct {
		orders, credits, adjustments, cancelled int
		net, paid, refunded                     domain.Decimal
	}
	all := map[key]*sums{}
	for _, m := range w.orders {
		o := m.state
		if o.Status == "" || o.Subject.CustomerID == "" {
			continue
		}
		k := key{o.Subject.CustomerID, o.Currency}
		if all[k] == nil {
			all[k] = &sums{}
		}
		s := all[k]
		switch o.Subject.Kind {
		case order.KindSale:
			s.orders++
		case order.KindCredit:
			s.credits++
		default:
			s.adjustments++
		}
		if o.Status == order.StatusCancelled {
			s.cancelled++
		} else {
			s.net = s.net.Add(o.Total.Decimal).Sub(o.ReturnedValue.Decimal)
		}
		s.paid, s.refunded = s.paid.Add(o.Paid.Decimal), s.refunded.Add(o.Refunded.Decimal)
	}
	for k, s := range all {
		facts = append(facts, fmt.Sprint(k.customer, string(k.currency), s.orders, s.credits, s.adjustments, s.cancelled, s.net, s.paid, s.refunded))
	}
	return facts
}

func (w *world) productSalesFacts() (facts []string) {
	type sums struct{ quantity, revenue domain.Decimal }
	all := map[[2]string]*sums{}
	for _, m := range w.orders {
		o := m.state
		for _, line := range o.Lines {
			k := [2]string{line.ProductCode, string(o.Currency)}
			if all[k] == nil {
				all[k] = &sums{}
			}
			if o.Status == order.StatusCancelled {
				continue
			}
			kept := line.Quantity.Sub(o.Returned[line.Number].Decimal)
			all[k].quantity = all[k].quantity.Add(kept)
			all[k].revenue = all[k].revenue.Add(kept.Mul(line.UnitPrice.Decimal))
		}
	}
	for k, s := range all {
		facts = append(facts, fmt.Sprint(k[0], k[1], s.quantity, s.revenue))
	}
	return facts
}

func (w *world) timelineFacts() (facts []string) {
	for _, e := range w.log.events {
		for _, id := range e.Subjects {
			facts = append(facts, fmt.Sprint(id, e.Position.Order(), e.Type(), e.Revision))
		}
	}
	return facts
}
