package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/domain/sales/product"
)

// Proportions of the generated business.
const (
	worldProducts     = 200
	eventsPerCustomer = 40 // on average
	worldYears        = 3  // from the first event to the last
	workingHours      = 14 // of a day, from six in the morning UTC

	// Who is dealt with follows Zipf's law with this exponent, flattened at the top: of 25,000 customers the busiest has
	// some 1 % of all that happens, and half of them hardly anything.
	skew    = 1.2
	flatTop = 20
)

// Shares of what is begun with customers; the rest are interactions, half of everything.
const (
	shareOrders        = .12
	shareOpportunities = .24
	shareLearned       = .12
	shareContacts      = .02
)

// Lifetimes: a record's life is written when it is over, as one that comes from a shop or another system is. Some are
// still open then, and a few are taken up again later, in appends of their own.
const (
	shareUnfinished = .15
	shareLate       = .10
	latest          = 400 // lives that are waiting to be taken up again
)

var (
	orderPause       = 2 * 24 * time.Hour // on average, between the steps of an order
	opportunityPause = 9 * 24 * time.Hour
)

// entry is one append of the generated log.
type entry struct {
	lane     int // entries of one lane keep their order, and those of lane 0 come before all others
	stream   domain.StreamID
	expected domain.Expected
	events   []domain.Pending
}

// world generates a business. Every event comes from the product's own deciders, so that it is one that a command would
// write; the commands' claims of unique values are left out.
type world struct {
	random *rand.Rand
	zipf   *rand.Zipf
	emit   func(entry) error
	span   time.Duration // from one begun record to the next
	now    time.Time
	lane   int
	events int
	serial int

	products  []domain.ID
	expected  int // customers that will have come at the end
	customers []*account
	late      []func() error
}

// account is a customer with what others refer to.
type account struct {
	record[customer.Customer]
	contacts []domain.ID
	deal     domain.ID // the newest opportunity; empty when there is none
}

// record is one stream while it grows.
type record[S any] struct {
	id       domain.ID
	state    S
	revision uint64 // of the next event
	user     string
	pending  []domain.Pending // decided, and not yet emitted
}

// generate makes a log of so many events, and a few more so as to end a life: in appends of some events each, always the
// same for a seed. emit is called for one entry after the other; its error ends it.
func generate(seed uint64, events int, emit func(entry) error) error {
	w := newWorld(seed, events, emit)
	for range worldProducts {
		if err := w.addProduct(); err != nil {
			return err
		}
	}
	for w.events < events {
		if err := w.begin(float64(w.events) / float64(events)); err != nil {
			return err
		}
	}
	return nil
}

func newWorld(seed uint64, events int, emit func(entry) error) *world {
	random := rand.New(rand.NewPCG(seed, seed))
	expected := max(events/eventsPerCustomer, 1)
	return &world{
		random:   random,
		zipf:     rand.NewZipf(random, skew, flatTop, uint64(expected-1)),
		emit:     emit,
		span:     worldYears * 365 * workingHours * time.Hour / time.Duration(max(events/2, 1)), // a life has two events or so
		now:      time.Date(2023, time.January, 2, 6, 0, 0, 0, time.UTC),
		expected: expected,
	}
}

// id makes a UUID of version 7.
func (w *world) id() domain.ID {
	var u uuid.UUID
	ms := w.now.UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	a, b := w.random.Uint64(), w.random.Uint64()
	for i := range 5 {
		u[6+i], u[11+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	u[6], u[8] = u[6]&0x0f|0x70, u[8]&0x3f|0x80
	return domain.ID(u.String())
}

// decide has a record decide a command that happened some time ago.
func decide[S any](w *world, agg domain.Aggregate[S], r *record[S], c domain.Command, ago time.Duration) error {
	if r.id == "" {
		r.id, r.user = w.id(), w.user()
	}
	when := w.now.Add(-ago).Truncate(time.Microsecond)
	actor := domain.Actor{ID: r.user, Kind: domain.ActorHuman}
	events, err := agg.Decider.Decide(r.state, c, domain.Facts{ID: r.id, Now: w.now, OccurredAt: when, Actor: actor})
	if err != nil {
		return fmt.Errorf("generate %s: %w", c.CommandType(), err)
	}
	command := string(w.id())
	for _, e := range events {
		r.state = agg.Decider.Evolve(r.state, e)
		var subjects []domain.ID // whom a record concerns does not change here
		if agg.Subjects != nil {
			subjects = agg.Subjects(r.id, r.state)
		}
		r.pending = append(r.pending, domain.Pending{ID: string(w.id()), Event: e, Metadata: domain.Metadata{
			Tenant: domain.DefaultTenant, Actor: actor, CorrelationID: command, CausationID: command, CommandID: command,
			Fingerprint: fmt.Sprintf("%032x", w.serial), OccurredAt: when, RecordedAt: w.now.Truncate(time.Microsecond), Subjects: subjects,
		}})
	}
	w.serial++
	return nil
}

// write emits what a record has decided since the last time, as one append.
func write[S any](w *world, agg domain.Aggregate[S], r *record[S]) error {
	if len(r.pending) == 0 {
		return nil
	}
	e := entry{lane: w.lane, stream: domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: agg.Name, ID: r.id}, expected: domain.NoStream, events: r.pending}
	if r.revision > 0 {
		e.expected = domain.AtRevision(r.revision - 1)
	}
	r.revision += uint64(len(r.pending))
	w.events += len(r.pending)
	r.pending = nil
	return w.emit(e)
}

// short decides commands of a record of which nothing more will be heard, and writes them.
func short[S any](w *world, agg domain.Aggregate[S], list ...domain.Command) (domain.ID, error) {
	var r record[S]
	for _, c := range list {
		if err := decide(w, agg, &r, c, w.some(time.Hour)); err != nil {
			return "", err
		}
	}
	return r.id, write(w, agg, &r)
}

// step is something that happens to a record some time after what happened before.
type step struct {
	command domain.Command
	after   time.Duration
}

// live has a record go through its steps up to now, and leaves some of them for later.
func live[S any](w *world, agg domain.Aggregate[S], r *record[S], steps []step) error {
	var rest []step
	switch {
	case w.likely(shareUnfinished):
		steps = steps[:1+w.random.IntN(len(steps))]
	case len(steps) > 1 && w.likely(shareLate) && len(w.late) < latest:
		n := 1 + w.random.IntN(len(steps)-1)
		steps, rest = steps[:n], steps[n:]
	}
	var ago time.Duration
	for _, s := range steps[1:] {
		ago += s.after
	}
	for i, s := range steps {
		if i > 0 {
			ago -= s.after
		}
		if err := decide(w, agg, r, s.command, ago); err != nil {
			return err
		}
	}
	if rest != nil {
		lane := w.lane
		w.late = append(w.late, func() error {
			w.lane = lane
			for _, s := range rest {
				if err := decide(w, agg, r, s.command, 0); err != nil {
					return err
				}
			}
			return write(w, agg, r)
		})
	}
	return write(w, agg, r)
}

func (w *world) user() string          { return fmt.Sprintf("user%02d", w.random.IntN(25)) }
func (w *world) likely(p float64) bool { return w.random.Float64() < p }

// some is a random time around an average.
func (w *world) some(average time.Duration) time.Duration {
	return time.Duration(w.random.ExpFloat64() * float64(average))
}

func (w *world) day(ahead int) domain.Date {
	return domain.Date(w.now.AddDate(0, 0, ahead).Format(time.DateOnly))
}

func pick[T any](w *world, list ...T) T { return list[w.random.IntN(len(list))] }

func (w *world) money(from, to int) domain.Money {
	return domain.MustMoney(fmt.Sprintf("%d.%02d", from+w.random.IntN(to-from), w.random.IntN(100)), "EUR")
}

// begin moves the clock on and lets one thing begin. Customers come throughout; share tells how much is over.
func (w *world) begin(share float64) error {
	w.now = w.now.Add(w.some(w.span))
	if hour := 6 + workingHours; w.now.Hour() >= hour || w.now.Hour() < 6 {
		w.now = w.now.Truncate(24 * time.Hour).Add(30 * time.Hour) // the next morning
	}
	if len(w.customers) == 0 || float64(len(w.customers)) < share*float64(w.expected) {
		w.lane = 1 + len(w.customers)
		return w.register()
	}
	if len(w.late) > 0 && w.likely(float64(len(w.late))/latest) {
		n := w.random.IntN(len(w.late))
		work := w.late[n]
		w.late = slices.Delete(w.late, n, n+1)
		return work()
	}
	n := int(w.zipf.Uint64())
	if n >= len(w.customers) { // not come yet
		n = w.random.IntN(len(w.customers))
	}
	w.lane = 1 + n
	a := w.customers[n]
	p := w.random.Float64()
	for _, kind := range []struct {
		share float64
		do    func(*account) error
	}{{shareOrders, w.order}, {shareOpportunities, w.pursue}, {shareLearned, w.learn}, {shareContacts, w.meet}, {1, w.dealWith}} {
		if p -= kind.share; p < 0 {
			return kind.do(a)
		}
	}
	return nil
}

func (w *world) addProduct() error {
	n := len(w.products)
	price := w.money(5, 2_000)
	id, err := short(w, product.Aggregate, product.Add{
		Code: productCode(n), Name: fmt.Sprint("Product ", n), Series: pick(w, "GTX", "MG", "GTK"), Category: pick(w, "Graphics", "Office"), Unit: "piece", ListPrice: &price,
	})
	w.products = append(w.products, id)
	return err
}

func productCode(n int) string { return fmt.Sprintf("P-%04d", n) }

// registration is the command that begins the next customer.
func (w *world) registration() customer.Register {
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
	return c
}

func (w *world) register() error {
	a := &account{}
	if err := decide(w, customer.Aggregate, &a.record, w.registration(), 0); err != nil {
		return err
	}
	w.customers = append(w.customers, a)
	if err := write(w, customer.Aggregate, &a.record); err != nil {
		return err
	}
	for range w.random.IntN(3) {
		if err := w.meet(a); err != nil {
			return err
		}
	}
	return nil
}

// meet adds a contact.
func (w *world) meet(a *account) error {
	id, err := short(w, contact.Aggregate, contact.Create{
		Details:   contact.Details{GivenName: pick(w, "Mara", "Ines", "Tom"), FamilyName: pick(w, "Keller", "Okafor", "Lind"), Email: fmt.Sprintf("c%d.%d@company.example", w.lane, len(a.contacts)), JobTitle: "Buyer"},
		Links:     []contact.NewLink{{CustomerID: a.id, Role: pick(w, contact.Buyer, contact.Decider, contact.User), Primary: len(a.contacts) == 0}},
		Customers: map[domain.ID]contact.CustomerFacts{a.id: {Exists: true}},
	})
	a.contacts = append(a.contacts, id)
	return err
}

func (w *world) dealWith(a *account) error {
	d := interaction.Details{
		CustomerID: a.id, Channel: pick[interaction.Channel](w, "phone", "e-mail", "visit", "web"), Direction: pick(w, interaction.Inbound, interaction.Outbound),
		Participants: []interaction.Participant{{Kind: interaction.ByUser, ID: w.user()}},
		Subject:      pick(w, "Offer", "Delivery date", "Complaint", "Catching up"), Body: "We spoke about the order and what comes next; they will call back.",
		Outcome: pick(w, "reached", "no answer", "call back"), DurationSeconds: 30 + w.random.IntN(900),
	}
	if len(a.contacts) > 0 {
		d.Participants = append(d.Participants, interaction.Participant{Kind: interaction.ByContact, ID: string(pick(w, a.contacts...)), Name: "Mara Keller"})
	}
	if a.deal != "" && w.likely(.3) {
		d.RelatesTo = &interaction.Reference{Aggregate: "opportunity", ID: a.deal}
	}
	list := []domain.Command{interaction.Log{Details: d, Customer: interaction.CustomerFacts{Exists: true}}}
	if w.likely(.1) {
		list = append(list, interaction.AddNote{Text: "Call again on Friday."})
	}
	_, err := short(w, interaction.Aggregate, list...)
	return err
}

// order is placed, made, delivered and paid.
func (w *world) order(a *account) error {
	c := order.Place{Number: fmt.Sprint("SO-", w.serial), CustomerID: a.id, Currency: "EUR", Country: "Germany", DeliveryDate: w.day(7)}
	for range 1 + int(w.random.ExpFloat64()*3) {
		n := w.random.IntN(len(w.products))
		c.Lines = append(c.Lines, order.NewLine{
			ProductCode: productCode(n), ProductID: w.products[n], Description: fmt.Sprint("Product ", n),
			Quantity: domain.MustMoney(fmt.Sprint(1+w.random.IntN(12)), "EUR").Amount, UnitPrice: w.money(1, 400).Amount,
		})
	}
	pause := func() time.Duration { return w.some(orderPause) }
	return live(w, order.Aggregate, new(record[order.Order]), []step{
		{c, 0}, {order.Confirm{}, pause()}, {order.Ship{Carrier: "DHL", Tracking: fmt.Sprint("JD", w.serial)}, pause()}, {order.Deliver{}, pause()},
		{order.ReceivePayment{PaymentID: "1", Amount: w.money(10, 900), Method: "bank-transfer"}, pause()},
	})
}

// pursue opens an opportunity and leads it through the default pipeline, to be won or lost.
func (w *world) pursue(a *account) error {
	d := pipeline.Default()
	facts := opportunity.PipelineFacts{ID: pipeline.DefaultID, Version: 1}
	for _, s := range d.Stages {
		facts.Stages = append(facts.Stages, opportunity.StageFacts{Key: s.Key, Probability: s.Probability})
	}
	pause := func() time.Duration { return w.some(opportunityPause) }
	amount := w.money(500, 50_000)
	steps := []step{{opportunity.Open{
		Name: fmt.Sprint("Deal ", w.serial), CustomerID: a.id, PipelineID: pipeline.DefaultID, Pipeline: facts, Owner: w.user(),
		Region: pick(w, "West", "East", "Central"), Source: "web", Amount: &amount, ExpectedClose: w.day(60),
	}, 0}}
	for _, stage := range d.Stages[1:] {
		if w.likely(.2) {
			steps = append(steps, step{opportunity.Lose{Reason: opportunity.LossReason(pick(w, "price", "timing", "competitor"))}, pause()})
			break
		}
		steps = append(steps, step{opportunity.MoveStage{Stage: stage.Key, Pipeline: facts}, pause()})
		if w.likely(.15) {
			steps = append(steps, step{opportunity.ReEstimate{Amount: w.money(500, 50_000), Reason: "Scope"}, pause()})
		}
	}
	if len(steps) > len(d.Stages)-1 && w.likely(.7) {
		if _, lost := steps[len(steps)-1].command.(opportunity.Lose); !lost {
			steps = append(steps, step{opportunity.Win{}, pause()})
		}
	}
	var r record[opportunity.Opportunity]
	err := live(w, opportunity.Aggregate, &r, steps)
	a.deal = r.id
	return err
}

// learn changes what is known of a customer.
func (w *world) learn(a *account) error {
	var c domain.Command
	switch w.random.IntN(5) {
	case 0:
		c = customer.Tag{Tag: fmt.Sprint("tag ", w.random.IntN(30))}
	case 1:
		c = customer.UpdateProfile{Website: new(fmt.Sprintf("https://example.org/%d", w.random.IntN(1_000)))}
	case 2:
		c = customer.SetPreference{Name: pick(w, "colour", "delivery", "contact time"), Value: pick(w, "blue", "Friday", "morning")}
	case 3:
		c = customer.RecordFeedback{Polarity: pick(w, customer.Praise, customer.Complaint), Topic: "delivery", Text: "It came on time."}
	default:
		c = customer.RecordCommitment{Text: "Send the offer", Due: w.day(7), By: w.user()}
	}
	if err := decide(w, customer.Aggregate, &a.record, c, w.some(time.Hour)); err != nil {
		return err
	}
	return write(w, customer.Aggregate, &a.record)
}
