package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/domain/sales/product"
)

const nobody domain.ID = "0197a3f0-5c1e-7d3a-9b7e-2f6a1c4d8e90"

// crm is a bus with every aggregate.
func (w *world) crm() *commands.Bus {
	b := commands.NewBus(w.store, commands.Options{Clock: w.clock.Now, Secret: []byte("test")})
	areas.Register(b)
	return b
}

// desk submits commands with a key of their own.
type desk struct {
	testing.TB
	*world
	bus *commands.Bus
	n   int
}

func newDesk(t testing.TB) *desk {
	w := newWorld()
	return &desk{TB: t, world: w, bus: w.crm()}
}

func (d *desk) next(target domain.ID, c domain.Command) commands.Request {
	d.n++
	return request(fmt.Sprint("desk ", d.n), target, c)
}

func (d *desk) create(c domain.Command) domain.ID {
	d.Helper()
	return submit(d, d.bus, d.next("", c)).ID
}

func (d *desk) do(target domain.ID, c domain.Command) commands.Receipt {
	d.Helper()
	return submit(d, d.bus, d.next(target, c))
}

func (d *desk) company(name string) domain.ID {
	d.Helper()
	return d.create(customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: name}})
}

// rejected requires a rejection by a rule at a field.
func (d *desk) rejected(target domain.ID, c domain.Command, rule, pointer string) {
	d.Helper()
	_, err := d.bus.Submit(d.Context(), d.next(target, c))
	var no *domain.Rejection
	if !errors.As(err, &no) || no.Rule != rule || no.Pointer != pointer {
		d.Errorf("%s: got %v, want %s at %s", c.CommandType(), err, rule, pointer)
	}
}

func (d *desk) invalid(target domain.ID, c domain.Command, pointer string) {
	d.Helper()
	_, err := d.bus.Submit(d.Context(), d.next(target, c))
	var invalid *domain.InvalidError
	if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != pointer {
		d.Errorf("%s: got %v, want a fault at %s", c.CommandType(), err, pointer)
	}
}

func state[S any](d *desk, agg domain.Aggregate[S], id domain.ID) S {
	d.Helper()
	s, _, err := d.bus.State(d.Context(), domain.DefaultTenant, agg.Name, id)
	if err != nil {
		d.Fatal(err)
	}
	return s.(S)
}

func TestEveryExamplePassesValidation(t *testing.T) {
	d := newDesk(t)
	for _, def := range d.bus.Definitions() {
		for _, spec := range def.Commands {
			req := d.next(nobody, spec.Example)
			if spec.Creates {
				req.Target = ""
			}
			req.DryRun = true
			_, err := d.bus.Submit(t.Context(), req)
			var invalid *domain.InvalidError
			if errors.As(err, &invalid) {
				t.Errorf("%s: %v", spec.Type(), err)
			}
			if got, ok := d.bus.Spec(spec.Type()); !ok || got.Type() != spec.Type() {
				t.Errorf("%s: no spec", spec.Type())
			}
		}
	}
	if n, want := len(aggregates.All()), len(d.bus.Definitions())+1; n != want {
		t.Errorf("%d definitions, want those of the bus and reservations: %d", n, want)
	}
}

func TestCustomersAreReachedInOneForm(t *testing.T) {
	d := newDesk(t)
	berlin := customer.Profile{Name: "Acme", Email: " Info@Acme.Example", Phone: "030 1234-5678", Address: customer.Address{Country: "DE"}}
	acme := d.create(customer.Register{Kind: customer.Company, Profile: berlin})
	if c := state(d, customer.Aggregate, acme); c.Phone != "+493012345678" || c.Email != "info@acme.example" {
		t.Errorf("stored as %q and %q", c.Phone, c.Email)
	}
	for key, p := range map[string]customer.Profile{
		"phone": {Name: "Other", Phone: "0049 30 12345678", Address: customer.Address{Country: "AT"}},
		"email": {Name: "Other", Email: "INFO@ACME.EXAMPLE"},
	} {
		_, err := d.bus.Submit(t.Context(), d.next("", customer.Register{Kind: customer.Company, Profile: p}))
		duplicateOf(t, err, key, acme)
	}
	for _, spelt := range []string{"+493012345678", "+4903012345678", "+49 (0)30 12345678", "+49 30/1234 56-78"} {
		_, err := d.bus.Submit(t.Context(), d.next("", customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Other", Phone: spelt}}))
		duplicateOf(t, err, "phone", acme)
	}
	d.invalid("", customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Other", Phone: "+999123456"}}, "/phone")
	d.do(acme, customer.UpdateProfile{Phone: new("040-98 76 54 32")})
	if c := state(d, customer.Aggregate, acme); c.Phone != "+494098765432" {
		t.Errorf("the customer's own country was not used: %q", c.Phone)
	}
	d.do(acme, customer.UpdateProfile{Phone: new("")})
	d.invalid(acme, customer.UpdateProfile{Phone: new("call me")}, "/phone")
	d.invalid(acme, customer.UpdateProfile{Email: new("not an address")}, "/email")
	d.invalid("", customer.Register{Kind: customer.Person, Profile: customer.Profile{Name: "Ann", Phone: "030 123456"}}, "/phone")
}

// A04: of companies of one name in one region that are registered at once, through several processes, one is let in.
func TestOfNamesakesInOneRegionOneIsLetIn(t *testing.T) {
	d := newDesk(t)
	spelt := []string{"Acme Ltd", "ACME Ltd.", "acme  ltd", "Acme, Ltd"}
	namesake := func(name, region string) customer.Register {
		return customer.Register{
			Kind: customer.Company, Profile: customer.Profile{Name: name}, Classification: customer.Classification{Region: region},
		}
	}
	ids, errs := make([]domain.ID, len(spelt)), make([]error, len(spelt))
	var group sync.WaitGroup
	for i, name := range spelt {
		bus, req := d.crm(), d.next("", namesake(name, "West"))
		group.Go(func() {
			r, err := bus.Submit(t.Context(), req)
			ids[i], errs[i] = r.ID, err
		})
	}
	group.Wait()
	won := slices.Index(errs, nil)
	if won < 0 {
		t.Fatal("nobody was let in: ", errs)
	}
	for i, err := range errs {
		if i != won {
			duplicateAt(t, err, "name-and-region", "/name", ids[won])
		}
	}
	east := d.create(namesake("Acme Ltd", "East"))
	_, err := d.bus.Submit(t.Context(), d.next(east, customer.Classify{Region: new("west")}))
	duplicateAt(t, err, "name-and-region", "/name", ids[won])
	d.do(ids[won], customer.Classify{Region: new("North")}) // now the name is free in the West
	d.do(east, customer.Classify{Region: new("west")})
	twin := d.next("", namesake("Acme Ltd", "West"))
	twin.AllowDuplicates = true
	submit(t, d.bus, twin)
}

func TestContactsAreReachedInOneForm(t *testing.T) {
	d := newDesk(t)
	acme := d.create(customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Acme", Address: customer.Address{Country: "CH"}}})
	mara := d.create(contact.Create{
		Details: contact.Details{FamilyName: "Keller", Phone: "044 668 18 00", Email: "Mara@Acme.Example"},
		Links:   []contact.NewLink{{CustomerID: acme, Role: contact.Buyer}},
	})
	if c := state(d, contact.Aggregate, mara); c.Phone != "+41446681800" || c.Email != "mara@acme.example" {
		t.Errorf("stored as %q and %q", c.Phone, c.Email)
	}
	d.do(mara, contact.Update{Phone: new("079 123 45 67")})
	if c := state(d, contact.Aggregate, mara); c.Phone != "+41791234567" {
		t.Errorf("stored as %q", c.Phone)
	}
	d.do(mara, contact.Update{Phone: new("+410446681801")})
	if c := state(d, contact.Aggregate, mara); c.Phone != "+41446681801" {
		t.Errorf("stored as %q", c.Phone)
	}
}

func TestReferencesToNothingAreRejected(t *testing.T) {
	d := newDesk(t)
	acme := d.company("Acme")
	ann := d.create(contact.Create{Details: contact.Details{FamilyName: "Ann"}})
	call := interaction.Details{CustomerID: acme, Channel: "phone", Direction: interaction.Outbound}
	with := func(change func(*interaction.Details)) interaction.Log {
		c := call
		change(&c)
		return interaction.Log{Details: c}
	}
	logged := d.create(with(func(c *interaction.Details) {
		c.Participants = []interaction.Participant{{Kind: interaction.ByContact, ID: string(ann)}, {Kind: interaction.ByUser, ID: "bob"}}
		c.RelatesTo = &interaction.Reference{Aggregate: "contact", ID: ann}
	}))
	deal := d.create(opportunity.Open{Name: "Deal", Owner: "bob", CustomerID: acme})
	line := opportunity.NewLine{ProductCode: "x", ProductID: nobody, Quantity: domain.MustMoney("1", "EUR").Amount, UnitPrice: domain.MustMoney("1", "EUR")}
	orderLine := order.NewLine{ProductCode: "x", Quantity: domain.MustMoney("1", "EUR").Amount, UnitPrice: domain.MustMoney("1", "EUR").Amount}
	unknownLine := orderLine
	unknownLine.ProductID = nobody

	d.rejected("", with(func(c *interaction.Details) { c.CustomerID = nobody }), "customer-unknown", "/customerId")
	d.rejected("", with(func(c *interaction.Details) {
		c.Participants = []interaction.Participant{{Kind: interaction.ByContact, ID: string(nobody)}}
	}), "contact-unknown", "/participants/0/id")
	d.invalid("", with(func(c *interaction.Details) {
		c.Participants = []interaction.Participant{{Kind: interaction.ByCustomer, ID: "Acme"}}
	}), "/participants/0/id")
	d.rejected("", with(func(c *interaction.Details) {
		c.RelatesTo = &interaction.Reference{Aggregate: "order", ID: nobody}
	}), "order-unknown", "/relatesTo/id")
	d.invalid("", with(func(c *interaction.Details) {
		c.RelatesTo = &interaction.Reference{Aggregate: "dragon", ID: nobody}
	}), "/relatesTo/aggregate")
	d.rejected(logged, interaction.Correct{CustomerID: new(nobody), Reason: "wrong"}, "customer-unknown", "/customerId")
	d.rejected("", customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Sub"}, ParentID: nobody}, "customer-unknown", "/parentId")
	d.rejected(acme, customer.SetParent{ParentID: nobody}, "customer-unknown", "/parentId")
	d.rejected(ann, contact.LinkCustomer{CustomerID: nobody, Role: contact.Buyer}, "customer-unknown", "/customerId")
	d.rejected(ann, contact.Relate{ContactID: nobody, Kind: contact.Knows}, "contact-unknown", "/contactId")
	d.rejected("", contact.Create{
		Details: contact.Details{FamilyName: "Bob"}, Links: []contact.NewLink{{CustomerID: nobody, Role: contact.Buyer}},
	}, "customer-unknown", "/links/0/customerId")
	d.rejected("", opportunity.Open{Name: "Deal", Owner: "bob", CustomerID: nobody}, "customer-unknown", "/customerId")
	d.rejected("", opportunity.Open{Name: "Deal", Owner: "bob", PipelineID: nobody}, "pipeline-unknown", "/pipelineId")
	d.rejected("", opportunity.Open{Name: "Deal", Owner: "bob", Lines: []opportunity.NewLine{line}}, "product-unknown", "/lines/0/productId")
	d.rejected(deal, opportunity.LinkCustomer{CustomerID: nobody}, "customer-unknown", "/customerId")
	d.rejected(deal, opportunity.AddStakeholder{ContactID: nobody, Role: "buyer"}, "contact-unknown", "/contactId")
	d.rejected(deal, opportunity.AddLine{NewLine: line}, "product-unknown", "/productId")
	place := order.Place{Number: "1", Currency: "EUR", Lines: []order.NewLine{orderLine}}
	d.create(place)
	place.CustomerID = nobody
	d.rejected("", place, "customer-unknown", "/customerId")
	place.CustomerID, place.OpportunityID = acme, nobody
	d.rejected("", place, "opportunity-unknown", "/opportunityId")
	place.OpportunityID, place.Lines = deal, []order.NewLine{orderLine, unknownLine}
	d.rejected("", place, "product-unknown", "/lines/1/productId")
}

func TestCommandsThatNoAppendCouldHoldAreInvalid(t *testing.T) {
	d := newDesk(t)
	place := order.Place{Number: "1", Currency: "EUR"}
	one := domain.MustMoney("1", "EUR").Amount
	for range order.MaxLines {
		place.Lines = append(place.Lines, order.NewLine{ProductCode: "x", Quantity: one, UnitPrice: one})
	}
	d.create(place)
	for i := range place.Lines {
		place.Lines[i].Description = strings.Repeat("long ", 20)
	}
	_, err := d.bus.Submit(t.Context(), d.next("", place))
	var invalid *domain.InvalidError
	if !errors.As(err, &invalid) || invalid.Code != "too-large" {
		t.Errorf("got %v", err)
	}
}

func TestProductCodesAreUnique(t *testing.T) {
	d := newDesk(t)
	d.create(product.Add{Code: "GTX", Name: "Card"})
	_, err := d.bus.Submit(t.Context(), d.next("", product.Add{Code: "GTX", Name: "Other"}))
	var duplicate *domain.DuplicateError
	if !errors.As(err, &duplicate) || duplicate.Pointer != "/code" {
		t.Errorf("got %v", err)
	}
}

func TestOpportunitiesPinTheNewestVersionOfTheirPipeline(t *testing.T) {
	d := newDesk(t)
	early := d.create(opportunity.Open{Name: "Early", Owner: "bob"}) // before the tenant was primed
	for range 2 {
		if err := d.bus.Prime(t.Context(), domain.DefaultTenant); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.store.of("pipeline")); n != 1 {
		t.Fatalf("%d pipelines", n)
	}
	other := d.crm() // another process revises
	revise := pipeline.Revise{Stages: []pipeline.Stage{{Key: "prospecting", Name: "P", Probability: 5}, {Key: "pilot", Name: "Pilot", Probability: 60}}}
	submit(t, other, request("revise", pipeline.DefaultID, revise))
	d.do(early, opportunity.MoveStage{Stage: "pilot"}) // refused on the cached version, allowed by the newest
	if o := state(d, opportunity.Aggregate, early); o.Standing.PipelineID != pipeline.DefaultID || o.Standing.PipelineVersion != 2 || o.Stage != "pilot" {
		t.Errorf("%+v", o)
	}
	d.do(early, opportunity.Lose{Reason: "price"})
	d.do(early, opportunity.Reopen{})
}

// Read models keep microseconds; an event that said more would give other rows when it is folded in memory.
func TestEventsCarryTimesInUTCToTheMicrosecond(t *testing.T) {
	d := newDesk(t)
	said := time.Date(2026, time.March, 2, 10, 0, 0, 123_456_789, time.FixedZone("CET", 3600))
	acme := d.create(customer.Register{When: domain.When{OccurredAt: said}, Kind: customer.Company, Profile: customer.Profile{Name: "Acme"}})
	e := d.store.stream(domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: "customer", ID: acme})[0]
	if want := time.Date(2026, time.March, 2, 9, 0, 0, 123_456_000, time.UTC); e.OccurredAt != want {
		t.Errorf("occurred at %s, want %s", e.OccurredAt, want)
	}
	if e.RecordedAt != e.RecordedAt.UTC().Truncate(time.Microsecond) {
		t.Errorf("recorded at %s", e.RecordedAt)
	}
}

// A10 of docs/faults.md: a client that goes away stops nothing half-way, neither between a claim and its event nor while the
// end of an append is not known.
func TestAClientThatIsGoneStopsNoCommandThatHasItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		ctx, leave := context.WithCancel(t.Context())
		lost := false
		d.store.before = func(id domain.StreamID, _ []domain.Pending) domain.Outcome {
			leave()
			if id.Aggregate == "customer" && !lost {
				lost = true
				return domain.Unknown{Err: errLost}
			}
			return nil
		}
		c := customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Acme", Email: "info@acme.example"}}
		r, err := d.bus.Submit(ctx, d.next("", c))
		if err != nil || !lost {
			t.Fatalf("lost %t: %v", lost, err)
		}
		if got := state(d, customer.Aggregate, r.ID); got.Email != c.Email {
			t.Errorf("%+v", got)
		}
	})
}

// D11 of docs/faults.md.
func TestHierarchyStaysATreeUnderConcurrency(t *testing.T) {
	d := newDesk(t)
	for i := range 20 {
		a, b := d.company(fmt.Sprint("A", i)), d.company(fmt.Sprint("B", i))
		var wg sync.WaitGroup
		var errs [2]error
		for j, req := range []commands.Request{d.next(a, customer.SetParent{ParentID: b}), d.next(b, customer.SetParent{ParentID: a})} {
			wg.Go(func() { _, errs[j] = d.bus.Submit(t.Context(), req) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("got %v and %v, want one of them refused", errs[0], errs[1])
		}
	}
}

// D3 of docs/faults.md.
func TestMergeCutOffBetweenItsTwoStreamsIsCompletedByItsRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		profile := customer.Profile{Name: "Acme", Email: "info@acme.example"}
		survivor := d.company("Acme")
		duplicate := d.create(customer.Register{Kind: customer.Company, Profile: profile})
		merge := request("merge", survivor, customer.Merge{DuplicateID: duplicate, Reason: "same"})
		d.store.before = func(id domain.StreamID, _ []domain.Pending) domain.Outcome {
			if id.ID == duplicate {
				return domain.Unknown{Err: errLost}
			}
			return nil
		}
		var away *domain.UnavailableError
		if _, err := d.bus.Submit(t.Context(), merge); !errors.As(err, &away) {
			t.Fatalf("got %v", err)
		}
		d.store.before = nil
		for i, b := range []*commands.Bus{d.crm(), d.bus} {
			if r := submit(t, b, merge); !r.Replayed || r.ID != survivor {
				t.Errorf("retry %d: %+v", i, r)
			}
		}
		c := state(d, customer.Aggregate, duplicate)
		if c.MergedInto != survivor {
			t.Errorf("the duplicate is not closed: %+v", c)
		}
		stream := domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: "customer", ID: duplicate}
		events := d.store.stream(stream)
		first := d.store.stream(domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: "customer", ID: survivor})[1]
		if len(events) != 2 || events[1].CausationID != first.CommandID || events[1].CorrelationID != first.CorrelationID {
			t.Errorf("%d events, the last %+v", len(events), events[len(events)-1].Metadata)
		}
		d.do(survivor, customer.UpdateProfile{Email: new(profile.Email)}) // what the duplicate held is free
	})
}
