package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/importer"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// Invented rows of the shapes that the shipped mappings are for, with every oddity that they know of.
var (
	salesFiles  = []string{"testdata/shapes/accounts.csv", "testdata/shapes/products.csv", "testdata/shapes/sales_teams.csv", "testdata/shapes/sales_pipeline.csv"}
	retailFiles = []string{"testdata/shapes/online_retail.csv"}
	bankFiles   = []string{"testdata/shapes/bank-full.csv"}
)

// changesNothing imports again and checks that everything was known.
func (s *server) changesNothing(before importer.Result, mapping string, files ...string) {
	s.t.Helper()
	again, code := s.importFiles(mapping, files...)
	equal(s.t, "exit code of the second import", code, exitDone)
	for i, c := range before.Inputs {
		c.Unchanged, c.Accepted = c.Unchanged+c.Accepted, 0
		if diff := cmp.Diff(c, again.Inputs[i]); diff != "" {
			s.t.Errorf("the second import changed something: %s", diff)
		}
	}
	if diff := cmp.Diff(before.Reports, again.Reports); diff != "" {
		s.t.Errorf("the second import reports something else: %s", diff)
	}
}

func TestSalesPipelineMapping(t *testing.T) {
	t.Parallel()
	s := serve(t)
	result, code := s.importFiles("sales-pipeline", salesFiles...)
	equal(t, "exit code", code, exitDone)
	want := importer.Result{
		Source: "maven-sales-pipeline",
		Inputs: []importer.Counts{
			{File: "products.csv", Rows: 2, Units: 2, Commands: 2, Accepted: 2},
			{File: "accounts.csv", Rows: 3, Units: 3, Commands: 3, Accepted: 3},
			{File: "accounts.csv", Rows: 3, Units: 3, Commands: 1, Accepted: 1},
			{File: "sales_pipeline.csv", Rows: 7, Units: 7, Commands: 11, Accepted: 11},
		},
		Reports: []importer.Reported{
			{File: "accounts.csv", Message: "the sector is not one of the list; it is kept as it stands", Value: "retial", Units: 1},
			{File: "sales_pipeline.csv", Message: "the product is not in products.csv", Value: "GTXPro", Units: 2},
			{File: "sales_pipeline.csv", Message: "there is no account", Units: 2},
			{File: "sales_pipeline.csv", Message: "the agent is in no team", Value: "Cem Unknown", Units: 1},
		},
	}
	if diff := cmp.Diff(want, result); diff != "" {
		t.Error(diff)
	}
	s.changesNothing(result, "sales-pipeline", salesFiles...)
	s.catchUp()

	misspelt := first[sales.Opportunity](s, "/v1/opportunities", `externalId == "AAA1"`, "")
	lines := get[list[sales.OpportunityLine]](s, "/v1/opportunity-lines", "filter", `opportunityId == "`+string(misspelt.ID)+`"`).Items
	if len(lines) != 1 || lines[0].ProductCode != "GTX Pro" || lines[0].ProductID == nil || lines[0].UnitPrice.String() != "4800" {
		t.Errorf("the misspelt product became %+v", lines)
	}
	if misspelt.Status != "won" || misspelt.Amount.String() != "4700" || misspelt.Region != "West" || misspelt.Owner != "Ada Moss" {
		t.Errorf("AAA1 is %+v", misspelt)
	}
	if o := first[sales.Opportunity](s, "/v1/opportunities", `externalId == "AAA6"`, ""); o.CustomerID != nil || o.Stage != "prospecting" || o.Status != "open" {
		t.Errorf("AAA6 is %+v", o)
	}
	parent := first[party.Customer](s, "/v1/customers", `name == "Northwind Labs"`, "")
	child := first[party.Customer](s, "/v1/customers", `name == "Blue Harbour"`, "")
	if child.ParentID == nil || *child.ParentID != parent.ID || child.Industry != "retial" {
		t.Errorf("Blue Harbour is %+v", child)
	}
	f := get[sales.Funnel](s, "/v1/funnel", "pipelineId", string(pipeline.DefaultID), "mode", "reached", "groupBy", "region")
	equal(t, "won value", f.WinRate.Won.String(), "9710")
	equal(t, "won", f.WinRate.ByCount.Count, 3)
	equal(t, "closed", f.WinRate.ByCount.Of, 4)
	equal(t, "median of won cycles in days", *f.Cycle.Won.Median, 30)
	equal(t, "won in the west", f.Won[0].Groups[1].Key+" "+f.Won[0].Groups[1].Value.String(), "West 4760")
}

func TestOnlineRetailMapping(t *testing.T) {
	t.Parallel()
	s := serve(t)
	result, code := s.importFiles("online-retail", retailFiles...)
	equal(t, "exit code", code, exitDone)
	s.changesNothing(result, "online-retail", retailFiles...)
	s.checkRetail(result)
}

// checkRetail compares what the invented retailer's file became.
func (s *server) checkRetail(result importer.Result) {
	t := s.t
	t.Helper()
	reports := []importer.Reported{
		{File: "online_retail.csv", Message: "the invoice has no customer", Units: 3},
		{File: "online_retail.csv", Message: "the invoice's lines have two time stamps; the first counts", Units: 1},
	}
	if diff := cmp.Diff(reports, result.Reports); diff != "" {
		t.Error(diff)
	}
	s.catchUp()
	type order struct {
		Number, Kind, Total string
		Lines               int64
		Customer            bool
	}
	var got []order
	for _, o := range get[list[sales.Order]](s, "/v1/orders", "sort", "number").Items {
		got = append(got, order{o.Number, string(o.Kind), o.Total.String(), o.LineCount, o.CustomerID != nil})
	}
	want := []order{
		{"900001", "sale", "16.25", 3, true}, // its lines stand apart, and one is repeated
		{"900002", "sale", "1.25", 1, false},
		{"900005", "adjustment", "0", 1, false},
		{"900006", "sale", "7.998", 1, true},
		{"A900004", "adjustment", "-200.75", 1, false},
		{"C900003", "credit", "-0.5", 1, true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	invoices, sum, withCustomer := sums(get[list[sales.OrderTotal]](s, "/v1/orders/totals").Items, "")
	equal(t, "invoices", invoices, 6)
	equal(t, "sum", sum.String(), "-175.752")
	equal(t, "sum with a customer", withCustomer.String(), "23.748")
	equal(t, "lines", s.count("/v1/order-lines", ""), 8)
	equal(t, "customers", s.count("/v1/customers", ""), 2)
	equal(t, "products", s.count("/v1/products", ""), 4)
	summer := first[sales.Order](s, "/v1/orders", `number == "900006"`, "")
	equal(t, "time of an invoice in summer", summer.PlacedAt.UTC().Format("2006-01-02T15:04"), "2025-07-02T11:00")
	sales := first[sales.CustomerSales](s, "/v1/customer-sales", "", "-net")
	equal(t, "net of the best customer", sales.Net.String(), "15.75")
}

func TestBankContactsMapping(t *testing.T) {
	t.Parallel()
	s := serve(t)
	result, code := s.importFiles("bank-contacts", bankFiles...)
	equal(t, "exit code", code, exitDone)
	reports := []importer.Reported{
		{File: "bank-full.csv", Message: "the channel of the call is unknown", Units: 1},
		{File: "bank-full.csv", Message: "the call lasted 0 seconds", Units: 1},
		{File: "bank-full.csv", Message: "an earlier contact has no outcome", Units: 1},
	}
	if diff := cmp.Diff(reports, result.Reports); diff != "" {
		t.Error(diff)
	}
	s.changesNothing(result, "bank-contacts", bankFiles...)
	s.catchUp()

	type call struct {
		Day, Outcome, Campaign string
		Seconds                int64
	}
	var got []call
	for _, i := range get[list[party.Interaction]](s, "/v1/interactions", "sort", "startedAt").Items {
		got = append(got, call{i.StartedAt.Format("2006-01-02"), i.Outcome, i.Campaign, i.DurationSeconds})
	}
	want := []call{ // December is followed by the January of another year
		{"2008-12-30", "no", "term deposit 2008", 261},
		{"2009-01-02", "yes", "term deposit 2009", 0},
		{"2009-02-28", "yes", "term deposit 2009", 95},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	person := first[party.Customer](s, "/v1/customers", `name == "Client 3"`, "")
	if person.Kind != "person" || person.Occupation != "" || person.AgeBand != "70+" {
		t.Errorf("the third client is %+v", person)
	}
	view := get[party.Customer360](s, "/v1/customers/"+string(person.ID)+"/360")
	equal(t, "calls in the view", view.InteractionCount, 1)
}

func TestInterruptedImportIsResumed(t *testing.T) {
	t.Parallel()
	s := serve(t)
	counted := s.interrupted(retailFiles, 5)
	result, code := s.importFiles("online-retail", retailFiles...)
	equal(t, "exit code", code, exitDone)
	var accepted, unchanged, commands int64
	for _, c := range result.Inputs {
		accepted, unchanged, commands = accepted+c.Accepted, unchanged+c.Unchanged, commands+c.Commands
	}
	if unchanged < 5 || accepted == 0 || accepted+unchanged != commands || unchanged < counted {
		t.Errorf("after an interruption that counted %d commands: %+v", counted, result.Inputs)
	}
	s.checkRetail(result)
}

// interrupted cancels an import once so many commands were accepted, and returns how many it counted as accepted.
func (s *server) interrupted(files []string, after int) (accepted int64) {
	t := s.t
	t.Helper()
	var closing closers
	defer func() { equal(t, "closing", closing.Close(), nil) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st, logger := stores{Data: s.data, Namespace: eventlog.DefaultNamespace}, slog.New(slog.DiscardHandler)
	l, err := st.openLog(ctx, logger, &closing)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := st.secret("")
	if err != nil {
		t.Fatal(err)
	}
	bus := newBus(l, secret, commands.Options{Logger: logger})
	mapping, err := importer.Shipped("online-retail")
	if err != nil {
		t.Fatal(err)
	}
	actor := domain.Actor{ID: "import:" + mapping.Source, Kind: domain.ActorIntegration}
	plan, err := importer.Compile(mapping, files, bus.Definitions(), func(key, aggregate string) domain.ID {
		return bus.ID(domain.DefaultTenant, actor, key, aggregate)
	})
	if err != nil {
		t.Fatal(err)
	}
	submit, calls := submitTo(bus, domain.Caller{Tenant: domain.DefaultTenant, Actor: actor}), 0
	result, err := plan.Run(ctx, importer.Options{Writers: 1, Submit: func(ctx context.Context, c importer.Submission) (bool, error) {
		changed, err := submit(ctx, c)
		if calls++; calls == after {
			cancel()
		}
		return changed, err
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted import ended with %v", err)
	}
	for _, c := range result.Inputs {
		accepted += c.Accepted
	}
	return accepted
}
