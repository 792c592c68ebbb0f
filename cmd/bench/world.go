package main

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/contact"
	"github.com/rapport-crm/rapport/domain/customer"
	"github.com/rapport-crm/rapport/domain/interaction"
	"github.com/rapport-crm/rapport/domain/opportunity"
	"github.com/rapport-crm/rapport/domain/order"
	"github.com/rapport-crm/rapport/domain/product"
)

// Proportions of the invented world.
const (
	worldProducts      = 200
	eventsPerCustomer  = 40  // on average; few customers have many, most have few
	activitySkew       = 2.5 // of who is dealt with: the larger, the fewer are busy
	meanSecondsBetween = 40  // between commands
)

// world invents a business: it submits commands to the real bus, so that every event is one that the product would write.
type world struct {
	random *rand.Rand
	bus    *commands.Bus
	ledger ledger
	now    time.Time
	keys   int

	products  []domain.ID
	customers []*account
}

// account is a customer with what is going on there.
type account struct {
	id       domain.ID
	contacts []domain.ID
	deals    []*deal
	orders   []*sale
}

type deal struct {
	id    domain.ID
	stage int
}

type sale struct {
	id   domain.ID
	step int
	paid domain.Money
}

// entry is one append of the ledger.
type entry struct {
	lane     int // entries of one lane keep their order; those of different lanes need not
	stream   domain.StreamID
	expected domain.Expected
	events   []domain.Pending
}

// ledger is an event store in memory that remembers every append.
type ledger struct {
	mu      sync.Mutex
	streams map[domain.StreamID][]domain.Recorded
	entries []entry
	events  int
	lane    int
}

// Append implements commands.EventStore.
func (l *ledger) Append(_ context.Context, stream domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.streams[stream]
	actual := domain.NoStream
	if len(have) > 0 {
		actual = domain.AtRevision(uint64(len(have) - 1))
	}
	if actual != expected {
		return domain.Conflict{Actual: actual}
	}
	var at domain.Position
	for _, e := range events {
		l.events++
		at = domain.Position{Commit: uint64(l.events), Prepare: uint64(l.events)}
		have = append(have, domain.Recorded{ID: e.ID, Stream: stream, Revision: uint64(len(have)), Position: at, Metadata: e.Metadata, Event: e.Event})
	}
	l.streams[stream] = have
	l.entries = append(l.entries, entry{l.lane, stream, expected, events})
	return domain.Committed{Revision: uint64(len(have) - 1), Position: at}
}

// Read implements commands.EventStore.
func (l *ledger) Read(_ context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	l.mu.Lock()
	have := l.streams[stream]
	l.mu.Unlock()
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range have[min(from, uint64(len(have))):] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// invent makes a world of at least so many events, always the same for a seed.
func invent(ctx context.Context, seed uint64, events int) ([]entry, error) {
	w := &world{
		random: rand.New(rand.NewPCG(seed, seed)),
		ledger: ledger{streams: map[domain.StreamID][]domain.Recorded{}},
		now:    time.Date(2024, time.January, 2, 8, 0, 0, 0, time.UTC),
	}
	w.bus = commands.NewBus(&w.ledger, commands.Options{Clock: func() time.Time { return w.now }, Secret: []byte("an invented world has no secrets")})
	commands.All(w.bus)
	if err := w.bus.Prime(ctx, domain.DefaultTenant); err != nil {
		return nil, err
	}
	for range worldProducts {
		if err := w.addProduct(ctx); err != nil {
			return nil, err
		}
	}
	for w.ledger.events < events {
		if err := w.step(ctx, events/eventsPerCustomer); err != nil {
			return nil, err
		}
	}
	return w.ledger.entries, nil
}

// submit sends one command a little later than the last.
func (w *world) submit(ctx context.Context, target domain.ID, c domain.Command) (domain.ID, error) {
	w.now = w.now.Add(time.Duration(w.random.ExpFloat64() * meanSecondsBetween * float64(time.Second)))
	w.keys++
	r, err := w.bus.Submit(ctx, commands.Request{
		Tenant: domain.DefaultTenant, Actor: domain.Actor{ID: w.user(), Kind: domain.ActorHuman}, Key: fmt.Sprint("bench-", w.keys), Target: target, Command: c,
	})
	if err != nil {
		return "", fmt.Errorf("invent %s: %w", c.CommandType(), err)
	}
	return r.ID, nil
}

// change is submit for what is there already.
func (w *world) change(ctx context.Context, target domain.ID, c domain.Command) error {
	_, err := w.submit(ctx, target, c)
	return err
}

func (w *world) user() string          { return fmt.Sprintf("user%02d", w.random.IntN(25)) }
func (w *world) likely(p float64) bool { return w.random.Float64() < p }
func (w *world) day(ahead int) domain.Date {
	return domain.Date(w.now.AddDate(0, 0, ahead).Format(time.DateOnly))
}

func pick[T any](w *world, list ...T) T { return list[w.random.IntN(len(list))] }

func (w *world) money(from, to int) domain.Money {
	return domain.MustMoney(fmt.Sprintf("%d.%02d", from+w.random.IntN(to-from), w.random.IntN(100)), "EUR")
}

func (w *world) addProduct(ctx context.Context) error {
	n := len(w.products)
	price := w.money(5, 2_000)
	id, err := w.submit(ctx, "", product.Add{
		Code: productCode(n), Name: fmt.Sprint("Product ", n), Series: pick(w, "GTX", "MG", "GTK"), Category: pick(w, "Graphics", "Office"), Unit: "piece", ListPrice: &price,
	})
	w.products = append(w.products, id)
	return err
}

func productCode(n int) string { return fmt.Sprintf("P-%04d", n) }

// step lets one thing happen. Customers come throughout; most of what happens are dealings with those who are there.
func (w *world) step(ctx context.Context, customers int) error {
	share := float64(w.ledger.events) / float64(customers*eventsPerCustomer)
	if len(w.customers) < 10 || float64(len(w.customers)) < share*float64(customers) {
		w.ledger.lane = 1 + len(w.customers)
		return w.register(ctx)
	}
	n := int(math.Pow(w.random.Float64(), activitySkew) * float64(len(w.customers)))
	a := w.customers[n]
	w.ledger.lane = 1 + n
	switch p := w.random.Float64(); {
	case p < .45:
		return w.dealWith(ctx, a)
	case p < .55:
		return w.place(ctx, a)
	case p < .75:
		return w.fulfil(ctx, a)
	case p < .80:
		return w.open(ctx, a)
	case p < .92:
		return w.pursue(ctx, a)
	default:
		return w.learn(ctx, a)
	}
}

func (w *world) register(ctx context.Context) error {
	n := len(w.customers)
	c := customer.Register{
		Kind:           customer.Company,
		Profile:        customer.Profile{Name: fmt.Sprint("Company ", n), Email: fmt.Sprintf("office@company%d.example", n), Address: customer.Address{City: pick(w, "Berlin", "Lyon", "Oslo"), Country: pick(w, "DE", "FR", "NO")}},
		Classification: customer.Classification{Industry: pick(w, "retail", "medical", "software", "finance"), Region: pick(w, "West", "East", "Central")},
		Owner:          w.user(), Source: pick(w, "web", "fair", "partner"),
	}
	if w.likely(.3) {
		c.Kind = customer.Person
		c.Industry, c.Occupation, c.AgeBand = "", pick(w, "teacher", "engineer"), pick(w, "18-29", "30-39", "60-69")
	}
	id, err := w.submit(ctx, "", c)
	if err != nil {
		return err
	}
	a := &account{id: id}
	w.customers = append(w.customers, a)
	for range w.random.IntN(3) {
		id, err := w.submit(ctx, "", contact.Create{
			Details: contact.Details{GivenName: pick(w, "Mara", "Ines", "Tom"), FamilyName: pick(w, "Keller", "Okafor", "Lind"), Email: fmt.Sprintf("c%d.%d@company.example", n, len(a.contacts)), JobTitle: "Buyer"},
			Links:   []contact.NewLink{{CustomerID: a.id, Role: pick(w, contact.Buyer, contact.Decider, contact.User), Primary: len(a.contacts) == 0}},
		})
		if err != nil {
			return err
		}
		a.contacts = append(a.contacts, id)
	}
	return nil
}

func (w *world) dealWith(ctx context.Context, a *account) error {
	d := interaction.Details{
		CustomerID: a.id, Channel: pick[interaction.Channel](w, "phone", "e-mail", "visit", "web"), Direction: pick(w, interaction.Inbound, interaction.Outbound),
		Participants: []interaction.Participant{{Kind: interaction.ByUser, ID: w.user()}},
		Subject:      pick(w, "Offer", "Delivery date", "Complaint", "Catching up"), Body: "We spoke about the order and what comes next; they will call back.",
		Outcome: pick(w, "reached", "no answer", "call back"), DurationSeconds: 30 + w.random.IntN(900),
	}
	if len(a.contacts) > 0 {
		d.Participants = append(d.Participants, interaction.Participant{Kind: interaction.ByContact, ID: string(pick(w, a.contacts...)), Name: "Mara Keller"})
	}
	if len(a.deals) > 0 && w.likely(.3) {
		d.RelatesTo = &interaction.Reference{Aggregate: "opportunity", ID: pick(w, a.deals...).id}
	}
	id, err := w.submit(ctx, "", interaction.Log{Details: d})
	if err == nil && w.likely(.1) {
		err = w.change(ctx, id, interaction.AddNote{Text: "Call again on Friday."})
	}
	return err
}

func (w *world) place(ctx context.Context, a *account) error {
	c := order.Place{Number: fmt.Sprint("SO-", w.keys), CustomerID: a.id, Currency: "EUR", Country: "Germany", DeliveryDate: w.day(7)}
	for range 1 + int(w.random.ExpFloat64()*3) {
		n := w.random.IntN(len(w.products))
		c.Lines = append(c.Lines, order.NewLine{
			ProductCode: productCode(n), ProductID: w.products[n], Description: fmt.Sprint("Product ", n),
			Quantity: domain.MustMoney(fmt.Sprint(1+w.random.IntN(12)), "EUR").Amount, UnitPrice: w.money(1, 400).Amount,
		})
	}
	id, err := w.submit(ctx, "", c)
	a.orders = append(a.orders, &sale{id: id, paid: w.money(10, 900)})
	return err
}

// fulfil takes the oldest order one step further; when it is done it is forgotten.
func (w *world) fulfil(ctx context.Context, a *account) error {
	if len(a.orders) == 0 {
		return w.dealWith(ctx, a)
	}
	s := a.orders[0]
	s.step++
	switch s.step {
	case 1:
		return w.change(ctx, s.id, order.Confirm{})
	case 2:
		return w.change(ctx, s.id, order.Ship{Carrier: "DHL", Tracking: fmt.Sprint("JD", w.keys)})
	case 3:
		return w.change(ctx, s.id, order.Deliver{})
	}
	a.orders = a.orders[1:]
	return w.change(ctx, s.id, order.ReceivePayment{PaymentID: "1", Amount: s.paid, Method: "bank-transfer"})
}

func (w *world) open(ctx context.Context, a *account) error {
	amount := w.money(500, 50_000)
	id, err := w.submit(ctx, "", opportunity.Open{
		Name: fmt.Sprint("Deal ", w.keys), CustomerID: a.id, Owner: w.user(), Region: pick(w, "West", "East", "Central"), Source: "web", Amount: &amount, ExpectedClose: w.day(60),
	})
	a.deals = append(a.deals, &deal{id: id})
	return err
}

// dealStages are those of the default pipeline behind the first.
var dealStages = []string{"engaging", "proposal", "negotiation"}

// pursue takes the oldest deal one step further; when it is won or lost it is forgotten.
func (w *world) pursue(ctx context.Context, a *account) error {
	if len(a.deals) == 0 {
		return w.open(ctx, a)
	}
	d := a.deals[0]
	switch p := w.random.Float64(); {
	case p < .1:
		return w.change(ctx, d.id, opportunity.ReEstimate{Amount: w.money(500, 50_000), Reason: "Scope"})
	case p < .15:
		return w.change(ctx, d.id, opportunity.Reschedule{ExpectedClose: w.day(30 + w.random.IntN(60))})
	case p < .3:
		a.deals = a.deals[1:]
		return w.change(ctx, d.id, opportunity.Lose{Reason: pick(w, "price", "timing", "competitor")})
	case d.stage == len(dealStages):
		a.deals = a.deals[1:]
		return w.change(ctx, d.id, opportunity.Win{})
	}
	d.stage++
	return w.change(ctx, d.id, opportunity.MoveStage{Stage: dealStages[d.stage-1]})
}

// learn changes what is known of a customer.
func (w *world) learn(ctx context.Context, a *account) error {
	switch w.random.IntN(5) {
	case 0:
		return w.change(ctx, a.id, customer.Tag{Tag: fmt.Sprint("tag ", w.random.IntN(30))})
	case 1:
		return w.change(ctx, a.id, customer.UpdateProfile{Website: new(fmt.Sprintf("https://example.org/%d", w.random.IntN(1_000)))})
	case 2:
		return w.change(ctx, a.id, customer.SetPreference{Name: pick(w, "colour", "delivery", "contact time"), Value: pick(w, "blue", "Friday", "morning")})
	case 3:
		return w.change(ctx, a.id, customer.RecordFeedback{Polarity: pick(w, customer.Praise, customer.Complaint), Topic: "delivery", Text: "It came on time."})
	default:
		return w.change(ctx, a.id, customer.RecordCommitment{Text: "Send the offer", Due: w.day(7), By: w.user()})
	}
}
