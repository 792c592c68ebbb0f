package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/readmodels"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

var (
	acme, twin, branch = number(1, 0xc), number(2, 0xc), number(3, 0xc)
	mara, household    = number(4, 0xc), number(5, 0xc)
	keller             = number(1, 0xb)
	bigDeal            = number(1, 0xd)
	firstOrder         = number(1, 0xf)
)

func amount(s string) domain.Amount { return domain.MustMoney(s, "EUR").Amount }

// story holds a small history in which every part of a 360° view has something to show. Twin is merged into acme.
func story() *eventLog {
	log := newLog()
	of := func(id domain.ID, at string, events ...domain.Event) {
		for _, e := range events {
			log.add("customer", id, day(at), e, id)
		}
	}
	of(acme, "01-01", customer.Registered{
		Kind: customer.Company, Profile: customer.Profile{Name: "Acme Ltd", TaxID: "DE 1", Phone: "+4930111"},
		Classification: customer.Classification{Region: "West"}, Tags: []string{"vip"}, Owner: "ann",
		ExternalID: &customer.ExternalID{System: "erp", ID: "4711"},
	})
	of(twin, "01-02", customer.Registered{
		Kind: customer.Company, Profile: customer.Profile{Name: "ACME Limited", Phone: "+4930333"}, Owner: "bob",
		ExternalID: &customer.ExternalID{System: "erp", ID: "4711"},
	})
	of(branch, "01-03", customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Acme Branch"}, ParentID: twin})
	of(mara, "01-04", customer.Registered{
		Kind: customer.Person, Profile: customer.Profile{Name: "Mara Keller", BirthDate: "1984-05-17", Phone: "+4930111"}, Owner: "ann",
	})
	of(household, "01-05", customer.Registered{Kind: customer.Group, Profile: customer.Profile{Name: "Keller household"}},
		customer.MemberAdded{MemberID: mara, Since: "2026-01-05"})
	of(acme, "01-06",
		customer.PreferenceSet{Name: "delivery", To: "mornings", Evidence: []domain.ID{number(1, 0xe)}},
		customer.CommitmentRecorded{CommitmentID: "call", Text: "Call back", Due: "2026-01-10", By: "ann"},
		customer.CommitmentRecorded{CommitmentID: "visit", Text: "Visit", Due: "2026-12-10", By: "ann"},
		customer.CommitmentRecorded{CommitmentID: "mail", Text: "Mail", Due: "2026-01-10", By: "ann"},
		customer.CommitmentKept{CommitmentID: "mail", Due: "2026-01-10", By: "ann"},
		customer.OwnershipTransferred{From: "ann", To: "eve", Reason: "leave"},
		customer.FeedbackRecorded{Polarity: "praise", Topic: "speed"})
	log.add("contact", keller, day("01-07"), contact.Created{Details: contact.Details{GivenName: "Max", FamilyName: "Keller", Phone: "+4930222"}})
	log.add("contact", keller, day("01-07"), contact.CustomerLinked{CustomerID: twin, Role: contact.Buyer, Since: "2026-01-07"}, twin)
	log.add("contact", keller, day("01-08"), contact.RoleChanged{
		CustomerID: twin, From: contact.Buyer, To: contact.Decider, ToPrimary: true, Since: "2026-01-08",
	}, twin)
	for i, channel := range []interaction.Channel{"phone", "e-mail"} {
		log.add("interaction", number(i+1, 0xa), day("01-09").Add(time.Duration(i)*time.Hour), interaction.Logged{Details: interaction.Details{
			CustomerID: acme, Channel: channel, Direction: interaction.Outbound, Subject: "Offer",
		}}, acme)
	}
	log.add("interaction", number(2, 0xa), day("01-09"), interaction.Retracted{Details: interaction.Details{CustomerID: acme, Channel: "e-mail"}, Reason: "twice"}, acme)
	log.add("pipeline", goldenPipeline, day("01-01"), pipeline.Defined{Name: "Sales", Version: 1, Stages: []pipeline.Stage{{Key: "q", Name: "Q", Probability: 10}, {Key: "p", Name: "P", Probability: 50}}})
	standing := opportunity.Standing{CustomerID: twin, Owner: "bob", PipelineID: goldenPipeline, PipelineVersion: 1}
	log.add("opportunity", bigDeal, day("01-10"), opportunity.Opened{
		Name: "Render farm", Standing: standing, Stage: "q", Visit: 1, Probability: 10, Amount: new(domain.MustMoney("1000", "EUR")),
		Lines: []opportunity.Line{{Number: 1, ProductCode: "GTX", Quantity: amount("2"), UnitPrice: domain.MustMoney("500", "EUR"), Total: amount("1000")}},
	}, twin)
	log.add("opportunity", bigDeal, day("01-11"), opportunity.StageMoved{
		From: "q", To: "p", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: standing, Amount: new(domain.MustMoney("1000", "EUR")),
	}, twin)
	line := func(n int, code, quantity, price, total string) order.Line {
		return order.Line{Number: n, ProductCode: code, Quantity: amount(quantity), UnitPrice: amount(price), Total: amount(total)}
	}
	place := func(n int, of domain.ID, at, total string, kind order.Kind, lines ...order.Line) order.Subject {
		s := order.Subject{Number: fmt.Sprint("SO-", n), Kind: kind, CustomerID: of}
		log.add("order", number(n, 0xf), day(at), order.Placed{Subject: s, Currency: "EUR", Lines: lines, Total: amount(total)}, of)
		return s
	}
	s := place(1, acme, "01-12", "30.005", order.KindSale, line(1, "A", "1", "10", "10"), line(2, "B", "2", "10.0025", "20.005"))
	log.add("order", firstOrder, day("01-13"), order.PaymentReceived{Subject: s, PaymentID: "P1", Amount: domain.MustMoney("30", "EUR"), Outstanding: amount("0.005")}, acme)
	place(2, twin, "01-14", "-5", order.KindCredit, line(1, "A", "-1", "5", "-5"))
	place(3, acme, "01-15", "100", order.KindSale, line(1, "A", "10", "10", "100"))
	log.add("order", number(3, 0xf), day("01-15"), order.Cancelled{
		Subject: order.Subject{Number: "SO-3", Kind: order.KindSale, CustomerID: acme}, From: "placed", Reason: "twice", Currency: "EUR",
		Lines: []order.Line{line(1, "A", "10", "10", "100")}, Total: amount("100"),
	}, acme)
	of(acme, "01-20", customer.Merged{DuplicateID: twin})
	log.add("customer", twin, day("01-20"), customer.MergedInto{SurvivorID: acme}, twin, acme)
	return log
}

func TestThe360ViewCoversWhatWasMerged(t *testing.T) {
	s := store(t, story().events)
	for _, id := range []domain.ID{acme, twin} { // the absorbed customer's view is the survivor's
		v, at, err := party.Read360(t.Context(), s, id, day("02-01"))
		if err != nil {
			t.Fatal(err)
		}
		if v.Profile.ID != acme || v.Profile.Owner != "eve" || at.IsZero() || !slices.Equal(v.Absorbed, []domain.ID{twin}) {
			t.Errorf("profile %+v absorbed %v at %s", v.Profile, v.Absorbed, at)
		}
		if len(v.Owners) != 3 || v.Owners[0].Owner != "ann" || v.Owners[0].Until == nil || v.Owners[1].Owner != "bob" || v.Owners[2].Until != nil {
			t.Errorf("owners %+v", v.Owners)
		}
		if len(v.Contacts) != 1 || v.Contacts[0].Name != "Max Keller" || v.Contacts[0].Role != "decider" || !v.Contacts[0].Primary {
			t.Errorf("contacts %+v", v.Contacts)
		}
		if len(v.OpenCommitments) != 2 || v.OverdueCommitments != 1 || v.OpenCommitments[0].CommitmentID != "call" {
			t.Errorf("commitments %+v", v.OpenCommitments)
		}
		if len(v.OpenOpportunities) != 1 || v.OpenOpportunities[0].Stage != "p" || len(v.WonOpportunities) != 0 || v.LostOpportunities != 0 {
			t.Errorf("opportunities %+v", v.OpenOpportunities)
		}
		if len(v.Orders) != 3 || len(v.LifetimeValue) != 1 {
			t.Fatalf("orders %+v, lifetime value %+v", v.Orders, v.LifetimeValue)
		}
		if l := v.LifetimeValue[0]; l.Net.String() != "25.005" || l.Orders != 2 || l.Cancelled != 1 || l.Credits != 1 || l.Paid.String() != "30" || !l.FirstOrderAt.Equal(day("01-12")) {
			t.Errorf("lifetime value %+v", l)
		}
		if len(v.Interactions) != 1 || v.InteractionCount != 1 || !v.LastContact.Equal(day("01-09")) {
			t.Errorf("interactions %+v, last %v", v.Interactions, v.LastContact)
		}
		if len(v.Children) != 1 || v.Children[0].Name != "Acme Branch" || len(v.Feedback) != 1 {
			t.Errorf("children %+v, feedback %+v", v.Children, v.Feedback)
		}
		if p := v.Profile.Preferences; len(p) != 1 || p[0].Value != "mornings" || len(p[0].Evidence) != 1 || p[0].EventID == "" {
			t.Errorf("preferences %+v", p)
		}
	}
	person, _, err := party.Read360(t.Context(), s, mara, day("05-16"))
	if err != nil || *person.Age != 41 || len(person.Groups) != 1 || person.Groups[0].ID != household {
		t.Errorf("%v: age %v, groups %+v", err, person.Age, person.Groups)
	}
	group, _, err := party.Read360(t.Context(), s, household, day("05-17"))
	if err != nil || len(group.Members) != 1 || group.Members[0].ID != mara || group.Age != nil {
		t.Errorf("%v: members %+v", err, group.Members)
	}
	child, _, err := party.Read360(t.Context(), s, branch, day("05-17"))
	if err != nil || child.Parent == nil || child.Parent.ID != twin {
		t.Errorf("%v: parent %+v", err, child.Parent)
	}
	var missing *domain.NotFoundError
	if _, _, err := party.Read360(t.Context(), s, number(99, 0xc), day("01-01")); !errors.As(err, &missing) {
		t.Errorf("an unknown customer: %v", err)
	}
	if _, _, err := party.Read360(t.Context(), s.For(domain.Caller{Tenant: "other"}), acme, day("01-01")); !errors.As(err, &missing) {
		t.Errorf("another tenant: %v", err)
	}
}

func TestAHandoverCoversWhatWasMerged(t *testing.T) {
	log := story()
	log.add("customer", twin, day("01-03"), customer.CommitmentRecorded{CommitmentID: "sample", Text: "Send a sample", Due: "2026-01-09", By: "bob"}, twin)
	log.add("interaction", number(7, 0xa), day("01-10"), interaction.Logged{Details: interaction.Details{CustomerID: twin, Channel: "phone"}}, twin)
	digest, _, err := party.ReadHandover(t.Context(), store(t, log.events), "eve") // looks after acme, which absorbed twin
	if err != nil || digest.Customers != 1 || len(digest.OpenCommitments) != 3 || digest.OpenCommitments[0].CommitmentID != "sample" || len(digest.LastContacts) != 2 ||
		len(digest.OpenOpportunities) != 1 || digest.OpenOpportunities[0].Owner != "bob" { // a deal of who left
		t.Errorf("%v: %+v", err, digest)
	}
}

func TestTheTimelinePagesNewestFirstAndShowsEachEventOnce(t *testing.T) {
	log := story()
	s := store(t, log.events)
	words := phrasebook(t)
	var got []int64
	q := query.Query{Limit: 4}
	for {
		page, err := party.Timelines{Store: s}.CustomerTimeline(t.Context(), acme, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Items {
			got = append(got, e.Position)
			if e.Tell(words, domain.Reader{}); e.Summary == "" || e.Actor != "ann" {
				t.Errorf("%+v", e)
			}
		}
		if q.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	var want []domain.Recorded
	for _, e := range log.events {
		if slices.Contains(e.Subjects, acme) || slices.Contains(e.Subjects, twin) {
			want = append(want, e)
		}
	}
	slices.SortStableFunc(want, func(a, b domain.Recorded) int {
		if order := b.OccurredAt.Compare(a.OccurredAt); order != 0 {
			return order
		}
		return b.Position.Compare(a.Position)
	})
	positions := make([]int64, len(want))
	for i, e := range want {
		positions[i] = e.Position.Order()
	}
	if diff := cmp.Diff(positions, got); diff != "" {
		t.Error(diff)
	}
	page, err := party.Timelines{Store: s}.CustomerTimeline(t.Context(), acme, query.Query{Filter: `eventType.startsWith("order.")`, Sort: "position", Limit: 1})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%v: %+v", err, page.Items)
	}
	placed := page.Items[0]
	for language, want := range map[domain.Language]string{
		domain.English: "Order SO-1 placed: 2 lines, 30.005 EUR", domain.Chinese: "订单SO-1已下达：共2行，30.005 EUR",
	} {
		if placed.Tell(words, domain.Reader{Language: language}); placed.Summary != want {
			t.Errorf("in %s: %s", language, placed.Summary)
		}
	}
}

func TestACallerIsFoundByNumberTheLastContactFirst(t *testing.T) {
	s := store(t, story().events)
	own, _, err := party.FindByPhone(t.Context(), s, "+4930111")
	if err != nil || len(own) != 2 || own[0].CustomerID != acme || own[0].LastContact == nil || own[1].CustomerID != mara || own[1].LastContact != nil {
		t.Errorf("%v: %+v", err, own)
	}
	contacts, _, err := party.FindByPhone(t.Context(), s, "+4930222") // a contact of the absorbed twin
	if err != nil || len(contacts) != 1 || contacts[0].CustomerID != acme || *contacts[0].ContactID != keller || contacts[0].ContactName != "Max Keller" {
		t.Errorf("%v: %+v", err, contacts)
	}
	absorbed, _, err := party.FindByPhone(t.Context(), s, "+4930333") // of the absorbed twin itself: the survivor answers
	if err != nil || len(absorbed) != 1 || absorbed[0].CustomerID != acme || absorbed[0].LastContact == nil {
		t.Errorf("%v: %+v", err, absorbed)
	}
	if none, _, err := party.FindByPhone(t.Context(), s, "+49"); err != nil || len(none) != 0 || none == nil {
		t.Errorf("%v: %+v", err, none)
	}
}

func TestRecordsAreReadWithWhatBelongsToThem(t *testing.T) {
	s := store(t, story().events)
	ctx := t.Context()
	c, _, err := party.CustomerByExternal(ctx, s, "erp", "4711")
	if err != nil || c.ID != acme || c.ExternalIDs["erp"] != "4711" || c.Tags[0] != "vip" {
		t.Errorf("by external id: %v %+v", err, c)
	}
	if c, _, err = party.CustomerRecord.Read(ctx, s, twin); err != nil || c.Status != party.CustomerMerged || *c.MergedInto != acme {
		t.Errorf("customer: %v %+v", err, c)
	}
	found, _, err := party.SearchCustomers(ctx, s, "ACME", 0)
	if err != nil || len(found) != 2 || found[0].Name != "Acme Branch" {
		t.Errorf("search: %v %+v", err, found)
	}
	k, _, err := party.ContactRecord.Read(ctx, s, keller)
	if err != nil || k.FamilyName != "Keller" || len(k.Links) != 1 || len(k.Links[0].Parts) != 2 || k.Links[0].Parts[0].Until != "2026-01-08" {
		t.Errorf("contact: %v %+v", err, k)
	}
	o, _, err := sales.OpportunityRecord.Read(ctx, s, bigDeal)
	if err != nil || len(o.Visits) != 2 || o.Visits[0].LeftBy != "moved" || len(o.Lines) != 1 || o.LinesTotal.String() != "1000" {
		t.Errorf("opportunity: %v %+v", err, o)
	}
	so, _, err := sales.OrderRecord.Read(ctx, s, firstOrder)
	if err != nil || len(so.Lines) != 2 || len(so.Payments) != 1 || so.Outstanding.String() != "0.005" {
		t.Errorf("order: %v %+v", err, so)
	}
	p, _, err := sales.PipelineRecord.Read(ctx, s, goldenPipeline)
	if err != nil || len(p.Versions) != 1 || p.Stages[1].Key != "p" {
		t.Errorf("pipeline: %v %+v", err, p)
	}
	i, _, err := party.InteractionRecord.Read(ctx, s, number(2, 0xa))
	if err != nil || i.Status != party.InteractionRetracted {
		t.Errorf("interaction: %v %+v", err, i)
	}
	board, _, err := sales.ReadBoard(ctx, s, goldenPipeline, `amount > 10`)
	if err != nil || len(board.Columns) != 2 || board.Columns[1].Count != 1 || board.Columns[1].Totals[0].Weighted.String() != "500" || board.Columns[1].Cards[0].ID != bigDeal {
		t.Errorf("board: %v %+v", err, board)
	}
	totals, _, err := sales.OrderTotals(ctx, s, "")
	if err != nil || len(totals) != 3 || totals[0].Kind != "credit" || totals[2].Status != "placed" || totals[2].Total.String() != "30.005" {
		t.Errorf("totals: %v %+v", err, totals)
	}
	digest, _, err := party.ReadHandover(ctx, s, "ann")
	if err != nil || digest.Customers != 1 || len(digest.OpenCommitments) != 2 {
		t.Errorf("handover of ann: %v %+v", err, digest)
	}
	if digest, _, err = party.ReadHandover(ctx, s, "eve"); err != nil || digest.Customers != 1 || len(digest.LastContacts) != 1 || len(digest.OpenCommitments) != 2 {
		t.Errorf("handover of eve: %v %+v", err, digest)
	}
	for name, read := range map[string]func() error{
		"customer":    func() error { _, _, err := party.CustomerRecord.Read(ctx, s, number(99, 1)); return err },
		"external":    func() error { _, _, err := party.CustomerByExternal(ctx, s, "erp", "none"); return err },
		"contact":     func() error { _, _, err := party.ContactRecord.Read(ctx, s, number(99, 1)); return err },
		"opportunity": func() error { _, _, err := sales.OpportunityRecord.Read(ctx, s, number(99, 1)); return err },
		"order":       func() error { _, _, err := sales.OrderRecord.Read(ctx, s, number(99, 1)); return err },
		"pipeline":    func() error { _, _, err := sales.PipelineRecord.Read(ctx, s, number(99, 1)); return err },
		"board":       func() error { _, _, err := sales.ReadBoard(ctx, s, number(99, 1), ""); return err },
		"product":     func() error { _, _, err := sales.ProductRecord.Read(ctx, s, number(99, 1)); return err },
		"interaction": func() error { _, _, err := party.InteractionRecord.Read(ctx, s, number(99, 1)); return err },
		"timeline": func() error {
			_, err := party.Timelines{Store: s}.CustomerTimeline(ctx, number(99, 1), query.Query{})
			return err
		},
		"funnel": func() error {
			_, err := sales.ReadFunnel(ctx, s, sales.FunnelQuery{PipelineID: number(99, 1)}, day("01-01"))
			return err
		},
	} {
		var missing *domain.NotFoundError
		if err := read(); !errors.As(err, &missing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lists returns every list with a way to read a page of it as text.
func lists(s *query.Store) map[string]func(context.Context, query.Query) ([]string, string, *int64, error) {
	all := map[string]func(context.Context, query.Query) ([]string, string, *int64, error){}
	for _, r := range readmodels.Resources() {
		all[r.Declared().Name] = func(ctx context.Context, q query.Query) ([]string, string, *int64, error) {
			body, err := r.Rows(ctx, s, q)
			if err != nil {
				return nil, "", nil, err
			}
			text, err := json.Marshal(body.List)
			if err != nil {
				return nil, "", nil, err
			}
			var page struct {
				Items []json.RawMessage `json:"items"`
				Count *int64            `json:"count"`
			}
			err = json.Unmarshal(text, &page)
			var rows []string
			for _, row := range page.Items {
				rows = append(rows, string(row))
			}
			return rows, body.Next, page.Count, err
		}
	}
	return all
}

// TestListsPageByEveryField walks each list by each field in both directions, two rows at a time, and must meet every row
// once and in the order of one big page.
func TestListsPageByEveryField(t *testing.T) {
	log := story()
	for n := range 7 { // opportunities with and without values, some equal
		o := opportunity.Opened{
			Name: fmt.Sprint("Deal ", n%3), Stage: "q", Visit: 1, Probability: 10,
			Standing: opportunity.Standing{Owner: "bob", PipelineID: goldenPipeline, PipelineVersion: 1},
		}
		if n%2 == 0 {
			o.Amount, o.ExpectedClose = new(domain.MustMoney(fmt.Sprint(100*(n%4)+1, ".005"), "EUR")), domain.Date("2026-03-0"+fmt.Sprint(1+n%3))
		}
		log.add("opportunity", number(10+n, 0xd), day("01-10").Add(time.Duration(n%2)*time.Microsecond), o)
	}
	s := store(t, log.events)
	fields := map[string][]string{
		"customers":     {"name", "birthDate", "parentId", "ownerSince", "employees", "revenue", "changedAt", "id", "region,name"},
		"opportunities": {"amount", "expectedClose", "customerId", "name", "openedAt", "score", "amount,-expectedClose,name", "-closedAt,openedAt"},
		"stage visits":  {"leftAt", "reopening", "amount", "enteredAt"},
		"order lines":   {"quantity", "total", "productCode"},
		"contact links": {"primary", "until"},
	}
	for name, list := range lists(s) {
		sorts := append([]string{""}, fields[name]...)
		for _, f := range fields[name] {
			sorts = append(sorts, "-"+strings.TrimPrefix(f, "-"))
		}
		for _, sort := range sorts {
			all, _, total, err := list(t.Context(), query.Query{Sort: sort, Limit: query.MaxLimit, Count: query.CountExact})
			if err != nil || *total != int64(len(all)) {
				t.Fatalf("%s by %q: %v, %d rows", name, sort, err, len(all))
			}
			var paged []string
			for q := (query.Query{Sort: sort, Limit: 2}); ; {
				rows, next, _, err := list(t.Context(), q)
				if err != nil {
					t.Fatalf("%s by %q: %v", name, sort, err)
				}
				paged = append(paged, rows...)
				if q.Cursor = next; next == "" {
					break
				}
			}
			if diff := cmp.Diff(all, paged); diff != "" {
				t.Errorf("%s by %q: %s", name, sort, diff)
			}
		}
	}
}

func TestFiltersSelectRowsInTheDatabase(t *testing.T) {
	s := store(t, story().events)
	all := lists(s)
	for _, c := range []struct {
		list, filter string
		want         int
	}{
		{"customers", `"vip" in tags`, 1},
		{"customers", `!("vip" in tags)`, 4},
		{"customers", `has(externalIds.erp) && externalIds.erp == "4711"`, 2},
		{"customers", `externalIds.erp != "4711"`, 3},
		{"customers", `"erp" in externalIds`, 2},
		{"customers", `birthDate < "1990-01-01"`, 1},
		{"customers", `!(birthDate < "1990-01-01")`, 4},
		{"customers", `birthDate != "1984-05-17"`, 4},
		{"customers", `mergedInto == null && name.lowerAscii().startsWith("acme")`, 2},
		{"customers", `mergedInto == "` + string(acme) + `"`, 1},
		{"customers", `parentId in ["` + string(twin) + `"]`, 1},
		{"customers", `name.endsWith("Ltd") || kind == "group"`, 2},
		{"customers", `name.contains("%")`, 0},
		{"customers", `registeredAt >= timestamp("2026-01-03T00:00:00Z") && registeredAt < timestamp("2026-01-05T00:00:00Z")`, 2},
		{"customers", `revision >= 0 && revision < 1.5`, 4},
		{"customers", `changedAt > registeredAt`, 2},
		{"customers", `revenue > employees`, 0},
		{"opportunities", `amount == 1000`, 1},
		{"opportunities", `amount > 1000.0001`, 0},
		{"opportunities", `probability in [50]`, 1},
		{"orders", `total < 0 || outstanding == 0.005`, 2},
		{"orderLines", `quantity == 2 && unitPrice == 10.0025`, 1},
		{"orderLines", `cancelled`, 1},
		{"orderLines", `!cancelled && true`, 3},
		{"contactLinks", `primary == true`, 1},
		{"commitments", `status == "open" && due < "2026-02-01"`, 1},
		{"interactions", `relatesToId == null`, 2},
		{"customerSales", `net > 20`, 1},
		{"productSales", `revenue == 5`, 1},
		{"stageVisits", `leftAt == null`, 1},
	} {
		rows, _, _, err := all[c.list](t.Context(), query.Query{Filter: c.filter})
		if err != nil || len(rows) != c.want {
			t.Errorf("%s where %s: %v, %d rows, want %d", c.list, c.filter, err, len(rows), c.want)
		}
	}
	_, next, total, err := all["customers"](t.Context(), query.Query{Limit: 2, Count: query.CountEstimate, Filter: `kind == "company"`})
	if err != nil || total == nil || *total < 0 {
		t.Errorf("estimate: %v %v", err, total)
	}
	for name, q := range map[string]query.Query{
		"other filter": {Cursor: next, Filter: `kind == "person"`},
		"other sort":   {Cursor: next, Filter: `kind == "company"`, Sort: "name"},
		"too many":     {Limit: query.MaxLimit + 1},
		"below zero":   {Limit: -1},
		"bad count":    {Count: "some"},
	} {
		var invalid *domain.InvalidError
		if _, _, _, err := all["customers"](t.Context(), q); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A15 of docs/faults.md.
func TestReadsWaitForAPositionAndSayWhenItDoesNotCome(t *testing.T) {
	s, conn := storeAt(t, story().events)
	at, err := s.Position(t.Context())
	if err != nil || at.IsZero() {
		t.Fatal(at, err)
	}
	if err := s.WaitFor(t.Context(), at); err != nil {
		t.Error(err)
	}
	next := domain.Position{Commit: at.Commit + 100, Prepare: at.Prepare + 100}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var unavailable *domain.UnavailableError
	if err := s.WaitFor(ended, next); !errors.As(err, &unavailable) {
		t.Errorf("a position that never comes: %v", err)
	}
	waited := make(chan error)
	go func() { waited <- s.WaitFor(t.Context(), next) }()
	exec(t, conn, "update projection.checkpoint set commit_position = $1, prepare_position = $1 where name <> 'customer'", int64(next.Commit))
	exec(t, conn, "notify "+query.CheckpointChannel)
	exec(t, conn, "update projection.checkpoint set commit_position = $1, prepare_position = $1", int64(next.Commit))
	exec(t, conn, "notify "+query.CheckpointChannel)
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// A projection that is far behind, halted perhaps, holds up the readers of its own rows and nobody else: of every list and record.
func TestReadsWaitForTheRowsThatTheyRead(t *testing.T) {
	s, conn := storeAt(t, story().events)
	at, err := s.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := domain.Position{Commit: at.Commit + 100, Prepare: at.Prepare + 100}
	const move = `update projection.checkpoint set commit_position = p, prepare_position = p, event_commit = p, event_prepare = p
from (select name n, case when name = any($1) then $2::bigint else $3::bigint end p from projection.checkpoint) moved where n = name`
	asked := errors.New("the log has not come so far")
	ended, cancel := context.WithCancel(t.Context()) // of who does not wait
	cancel()
	var unavailable *domain.UnavailableError
	read := func(name string, views []string, get func(context.Context, *query.Store) (domain.Position, error)) {
		t.Helper()
		exec(t, conn, move, views, int64(next.Commit), int64(1))
		if got, err := get(t.Context(), s.AtLeast(next, nil)); err != nil || got != next {
			t.Errorf("%s: others are behind: %s, %v", name, got, err)
		}
		for i := range views {
			exec(t, conn, move, views[i:i+1], int64(1), int64(next.Commit))
			if _, err := get(ended, s.AtLeast(next, nil)); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "not reached") {
				t.Errorf("%s: %s is behind: %v", name, views[i], err)
			}
		}
	}
	for _, r := range readmodels.Resources() {
		d := r.Declared()
		read(d.Name, []string{d.View}, func(ctx context.Context, s *query.Store) (domain.Position, error) {
			body, err := r.Rows(ctx, s, query.Query{})
			return body.Position, err
		})
	}
	for _, r := range readmodels.Records() {
		var views []string
		for _, p := range r.DeclaredRecord().Parts {
			views = append(views, p.View)
		}
		read(r.DeclaredRecord().Name, views, func(ctx context.Context, s *query.Store) (domain.Position, error) {
			_, _, at, err := r.Get(ctx, s, number(1, 0xf))
			var none *domain.NotFoundError
			if errors.As(err, &none) {
				err = nil
			}
			return at, err
		})
	}
	// Whoever waits in vain may be told why.
	exec(t, conn, move, []string{"customer"}, int64(1), int64(1))
	if _, err := party.Customers.List(ended, s.AtLeast(next, func(context.Context) error { return asked }), query.Query{}); !errors.Is(err, asked) {
		t.Errorf("told %v", err)
	}
	if _, err := party.Customers.List(ended, s.AtLeast(next, nil), query.Query{}); !errors.As(err, &unavailable) {
		t.Errorf("told %v", err)
	}
	// A view that is not there reflects nothing.
	exec(t, conn, move, []string{}, int64(next.Commit), int64(next.Commit))
	if at, err := s.Position(t.Context(), "customer", "unbuilt"); err != nil || !at.IsZero() {
		t.Errorf("a view that is not there is at %s, %v", at, err)
	}
	if at, err := s.Position(t.Context()); err != nil || at != next {
		t.Errorf("all that are there are at %s, %v", at, err)
	}
}

func TestALostDatabaseIsUnavailable(t *testing.T) {
	var unavailable *domain.UnavailableError
	if _, err := query.Open(t.Context(), "postgres://127.0.0.1:1/none?connect_timeout=1"); !errors.As(err, &unavailable) {
		t.Errorf("nobody listens: %v", err)
	}
	s, conn := storeAt(t, nil)
	exec(t, conn, "drop schema rapport cascade")
	if _, err := party.Customers.List(t.Context(), s, query.Query{}); !errors.As(err, &unavailable) {
		t.Errorf("no views yet: %v", err)
	}
	exec(t, conn, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	if _, err := s.Position(t.Context()); err != nil && !errors.As(err, &unavailable) {
		t.Errorf("ended connections: %v", err)
	}
	if _, err := s.Position(t.Context()); err != nil {
		t.Errorf("it does not recover: %v", err)
	}
}

// TestTheListsOfA360ViewHaveOneOrder holds that rows which only the customer tells apart do not come as they happen to lie.
func TestTheListsOfA360ViewHaveOneOrder(t *testing.T) {
	log := newLog()
	ids := []domain.ID{number(3, 0xc), number(1, 0xc), number(2, 0xc)}
	for _, id := range ids {
		log.add("customer", id, day("01-01"), customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Acme"}}, id)
		log.add("customer", id, day("01-02"), customer.CommitmentRecorded{CommitmentID: "1", Text: "Call", Due: "2026-02-01", By: "ann"}, id)
		log.add("customer", id, day("01-02"), customer.FeedbackRecorded{Polarity: "praise", Topic: "speed"}, id)
	}
	log.add("contact", keller, day("01-03"), contact.Created{Details: contact.Details{FamilyName: "Keller"}})
	for _, id := range ids {
		log.add("contact", keller, day("01-03"), contact.CustomerLinked{CustomerID: id, Role: contact.Buyer, Since: "2026-01-03"}, id)
	}
	for _, id := range ids[1:] {
		log.add("customer", id, day("01-04"), customer.MergedInto{SurvivorID: ids[0]}, id, ids[0])
	}
	v, _, err := party.Read360(t.Context(), store(t, log.events), ids[0], day("02-01"))
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Contacts) != 3 || len(v.OpenCommitments) != 3 || len(v.Feedback) != 3 {
		t.Fatalf("%+v", v)
	}
	for i := range ids {
		if want := number(i+1, 0xc); v.Contacts[i].CustomerID != want || v.OpenCommitments[i].CustomerID != want || v.Feedback[i].CustomerID != want {
			t.Errorf("%d: contact of %s, commitment of %s, feedback of %s", i, v.Contacts[i].CustomerID, v.OpenCommitments[i].CustomerID, v.Feedback[i].CustomerID)
		}
	}
}
