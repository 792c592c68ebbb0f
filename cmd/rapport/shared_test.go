package main

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/internal/importer"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// sharedData is beside the project's folder; it is not part of the project.
const sharedData = "../../../shared/data"

// TestSharedData imports the three public data sets through the whole product and checks the totals that their
// descriptions state. It needs about three minutes of processor time, PostgreSQL's included; -short leaves it out.
func TestSharedData(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED, NOT TESTED: the shared data takes minutes")
	}
	if _, err := os.Stat(sharedData); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: the public data sets are not beside this project: %v", err)
	}
	s := serve(t)
	t.Run("sales pipeline", func(t *testing.T) { sharedSalesPipeline(t, s.in(t)) })
	t.Run("bank contacts", func(t *testing.T) { sharedBankContacts(t, s.in(t)) })
	t.Run("online retail", func(t *testing.T) { sharedOnlineRetail(t, s.in(t)) })
}

// in returns the server for a subtest.
func (s *server) in(t testing.TB) *server {
	of := *s
	of.t = t
	return &of
}

func shared(names ...string) []string {
	for i, name := range names {
		names[i] = filepath.Join(sharedData, name)
	}
	return names
}

func sharedSalesPipeline(t *testing.T, s *server) {
	files := shared("sales-pipeline-maven/accounts.csv", "sales-pipeline-maven/products.csv", "sales-pipeline-maven/sales_teams.csv", "sales-pipeline-maven/sales_pipeline.csv")
	result, code := s.importFiles("sales-pipeline", files...)
	equal(t, "exit code", code, exitDone)
	want := []importer.Counts{
		{File: "products.csv", Rows: 7, Units: 7, Commands: 7, Accepted: 7},
		{File: "accounts.csv", Rows: 85, Units: 85, Commands: 85, Accepted: 85},
		{File: "accounts.csv", Rows: 85, Units: 85, Commands: 15, Accepted: 15},
		{File: "sales_pipeline.csv", Rows: 8800, Units: 8800, Commands: 8800 + 6711, Accepted: 8800 + 6711},
	}
	if diff := cmp.Diff(want, result.Inputs); diff != "" {
		t.Error(diff)
	}
	reports := []importer.Reported{
		{File: "accounts.csv", Message: "the sector is not one of the list; it is kept as it stands", Value: "technolgy", Units: 12},
		{File: "sales_pipeline.csv", Message: "the product is not in products.csv", Value: "GTXPro", Units: 1480},
		{File: "sales_pipeline.csv", Message: "there is no account", Units: 1425},
	}
	if diff := cmp.Diff(reports, result.Reports); diff != "" {
		t.Error(diff)
	}
	again, code := s.importFiles("sales-pipeline", files...)
	equal(t, "exit code of the second import", code, exitDone)
	for i, c := range want {
		want[i].Accepted, want[i].Unchanged = 0, c.Accepted
	}
	if diff := cmp.Diff(want, again.Inputs); diff != "" {
		t.Errorf("the second import changed something: %s", diff)
	}
	s.catchUp()

	const opportunities = "/v1/opportunities"
	equal(t, "opportunities", s.count(opportunities, ""), 8800)
	equal(t, "won", s.count(opportunities, `status == "won"`), 4238)
	equal(t, "lost", s.count(opportunities, `status == "lost"`), 2473)
	equal(t, "engaging", s.count(opportunities, `status == "open" && stage == "engaging"`), 1589)
	equal(t, "prospecting", s.count(opportunities, `status == "open" && stage == "prospecting"`), 500)
	equal(t, "without account", s.count(opportunities, `customerId == null`), 1425)
	equal(t, "lines of GTX Pro", s.count("/v1/opportunity-lines", `productCode == "GTX Pro" && productId != null`), 1480)
	equal(t, "subsidiaries", s.count("/v1/customers", `parentId != null`), 15)

	f := get[sales.Funnel](s, "/v1/funnel", "pipelineId", string(pipeline.DefaultID), "mode", "reached", "groupBy", "month,owner,region")
	equal(t, "won of closed", f.WinRate.ByCount.Count, 4238)
	equal(t, "closed", f.WinRate.ByCount.Of, 6711)
	equal(t, "won value", f.WinRate.Won.String(), "10005534")
	regions, owners, quarters := map[string]string{}, map[string]string{}, map[string]won{}
	for _, by := range f.Won {
		for _, g := range by.Groups {
			switch by.By {
			case "region":
				regions[g.Key] = g.Value.String()
			case "owner":
				owners[g.Key] = strconv.FormatInt(g.Deals, 10) + " " + g.Value.String()
			case "month":
				month, _ := strconv.Atoi(g.Key[5:])
				key := g.Key[:4] + " Q" + strconv.Itoa((month+2)/3)
				q := quarters[key]
				quarters[key] = won{q.deals + g.Deals, q.value.Add(g.Value.Decimal)}
			}
		}
	}
	if diff := cmp.Diff(map[string]string{"West": "3568647", "Central": "3346293", "East": "3090594"}, regions); diff != "" {
		t.Errorf("won by region: %s", diff)
	}
	equal(t, "best agent", owners["Darcel Schlecht"], "349 1153214")
	equal(t, "closed by the best agent", s.count(opportunities, `owner == "Darcel Schlecht" && status != "open"`), 553)
	for key, want := range map[string]string{"2017 Q1": "531 1134672", "2017 Q2": "1254 3086111", "2017 Q3": "1257 2982255", "2017 Q4": "1196 2802496"} {
		q := quarters[key]
		equal(t, key, strconv.FormatInt(q.deals, 10)+" "+q.value.String(), want)
	}
	equal(t, "quarters", len(quarters), 4)
	equal(t, "median of won cycles in days", *f.Cycle.Won.Median, 57)
	equal(t, "mean of won cycles in days", math.Round(*f.Cycle.Won.Mean*100)/100, 51.78)
	equal(t, "median of lost cycles in days", *f.Cycle.Lost.Median, 14)
	equal(t, "mean of lost cycles in days", math.Round(*f.Cycle.Lost.Mean*100)/100, 41.48)
}

// won is a number of deals and their value.
type won struct {
	deals int64
	value domain.Decimal
}

func sharedBankContacts(t *testing.T, s *server) {
	result, code := s.importFiles("bank-contacts", shared("campaign-bank-marketing/bank-full.csv.gz")...)
	equal(t, "exit code", code, exitDone)
	if diff := cmp.Diff([]importer.Counts{{File: "bank-full.csv.gz", Rows: 45211, Units: 45211, Commands: 90422, Accepted: 90422}}, result.Inputs); diff != "" {
		t.Error(diff)
	}
	s.catchUp()

	equal(t, "persons", s.count("/v1/customers", `kind == "person"`), 45211)
	equal(t, "persons without a job", s.count("/v1/customers", `kind == "person" && occupation == ""`), 288)
	const interactions = "/v1/interactions"
	equal(t, "yes", s.count(interactions, `outcome == "yes"`), 5289)
	equal(t, "no", s.count(interactions, `outcome == "no"`), 39922)
	for year, want := range map[string][2]int64{"2008": {27729, 1401}, "2009": {14862, 2536}, "2010": {2620, 1352}} {
		of := `campaign == "term deposit ` + year + `"`
		equal(t, year, s.count(interactions, of), want[0])
		equal(t, "yes of "+year, s.count(interactions, of+` && outcome == "yes"`), want[1])
		next := map[string]string{"2008": "2009", "2009": "2010", "2010": "2011"}[year]
		equal(t, "started in "+year, s.count(interactions, `startedAt >= timestamp("`+year+`-01-01T00:00:00Z") && startedAt < timestamp("`+next+`-01-01T00:00:00Z")`), want[0])
	}
}

func sharedOnlineRetail(t *testing.T, s *server) {
	result, code := s.importFiles("online-retail", shared("orders-online-retail/online_retail.csv.gz")...)
	equal(t, "exit code", code, exitDone)
	want := []importer.Counts{
		{File: "online_retail.csv.gz", Rows: 541909, Units: 541909, Commands: 4372 + 4070, Accepted: 4372 + 4070},
		{File: "online_retail.csv.gz", Rows: 541909, Units: 25900, Commands: 25900, Accepted: 25900},
	}
	if diff := cmp.Diff(want, result.Inputs); diff != "" {
		t.Error(diff)
	}
	s.catchUp()

	totals := get[list[sales.OrderTotal]](s, "/v1/orders/totals").Items
	invoices, sum, withCustomer := sums(totals, "")
	equal(t, "invoices", invoices, 25900)
	equal(t, "sum", sum.String(), "9747747.934")
	equal(t, "sum with a customer", withCustomer.String(), "8300065.814")
	credits, credited, _ := sums(totals, "credit")
	equal(t, "credits", credits, 3836)
	equal(t, "sum of credits", credited.String(), "-896812.49")
	for month, want := range map[string]string{
		`placedAt >= timestamp("2010-12-01T00:00:00Z") && placedAt < timestamp("2011-01-01T00:00:00Z")`: "748957.02",
		`placedAt >= timestamp("2011-11-01T00:00:00Z") && placedAt < timestamp("2011-12-01T00:00:00Z")`: "1461756.25",
	} {
		_, sum, _ := sums(get[list[sales.OrderTotal]](s, "/v1/orders/totals", "filter", month).Items, "")
		equal(t, month, sum.String(), want)
	}
	equal(t, "order lines", s.count("/v1/order-lines", ""), 541909)
	equal(t, "sales with a customer", s.count("/v1/orders", `kind == "sale" && customerId != null`), 18536)
	equal(t, "adjustments of bad debt", s.count("/v1/orders", `kind == "adjustment" && number.startsWith("A")`), 3)
	equal(t, "customers", s.count("/v1/customers", `source == "web shop"`), 4372)
	equal(t, "customers with sales", s.count("/v1/customer-sales", `currency == "GBP" && orders > 0`), 4339)
	equal(t, "customers with several sales", s.count("/v1/customer-sales", `currency == "GBP" && orders > 1`), 2845)
	equal(t, "most sales of a customer", first[sales.CustomerSales](s, "/v1/customer-sales", "", "-orders").Orders, 210)
	equal(t, "products", s.count("/v1/product-sales", `currency == "GBP"`), 4070)
}
