package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// listed is a page of any list.
type listed struct {
	Items    []object
	Next     string
	Count    *int64
	Position string
}

// get asks a query that must succeed.
func (s *stack) get(path string, v any) answer {
	s.t.Helper()
	a := s.answered(path)
	if a.StatusCode != 200 {
		s.t.Fatalf("GET %s: status %d: %s", path, a.StatusCode, a.body)
	}
	a.into(s.t, v)
	return a
}

func at(p domain.Position) string { return "minPosition=" + p.String() }

func TestListsPageWithoutGapOrRepetition(t *testing.T) {
	s := start(t)
	var last api.Receipt
	for i := range 25 {
		last = s.command("/v1/customers", fmt.Sprint("c", i), person(fmt.Sprintf("Person %02d", i)))
	}
	var names []string
	next := "/v1/customers?sort=name&limit=10&count=exact&filter=" + url.QueryEscape(`name.startsWith("Person")`) + "&" + at(last.Position)
	for next != "" {
		var p listed
		a := s.get(next, &p)
		if p.Count == nil || *p.Count != 25 || p.Position == "" || a.Header.Get("X-As-Of-Position") != p.Position {
			t.Errorf("page: %s, headers %v", a.body, a.Header)
		}
		for _, item := range p.Items {
			names = append(names, item["name"].(string))
		}
		link := a.Header.Get("Link")
		if (link == "") != (p.Next == "") {
			t.Errorf("link %q beside next %q", link, p.Next)
		}
		next, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
	}
	for i, name := range names {
		if len(names) != 25 || name != fmt.Sprintf("Person %02d", i) {
			t.Fatalf("names: %v", names)
		}
	}
	var first listed
	s.get("/v1/customers?sort=name&limit=1", &first)
	for _, query := range []string{"sort=-name&limit=1", "sort=name&limit=1&filter=true", "sort=name", "sort=name&x="} {
		p := s.do("GET", "/v1/customers?"+query+"&cursor="+first.Next[:len(first.Next)-1]+"x", nil)
		if p.StatusCode != 400 {
			t.Errorf("%s with a foreign cursor: %d %s", query, p.StatusCode, p.body)
		}
	}
	if p := s.do("GET", "/v1/contacts?cursor="+first.Next, nil).problem(t); p.Code != "cursor-invalid" || p.Errors[0].Pointer != "cursor" {
		t.Errorf("cursor of another list: %+v", p)
	}
}

// S13 of docs/faults.md: the database and the address are the same, the log is another.
func TestCursorsOfAnotherLogAreRefused(t *testing.T) {
	s := start(t)
	var last api.Receipt
	for i := range 3 {
		last = s.command("/v1/customers", fmt.Sprint("c", i), person(fmt.Sprint("Person ", i)))
	}
	s.answered("/v1/customers?" + at(last.Position))
	other, err := query.Open(t.Context(), s.database, query.OfLog("another"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	server, err := api.New(api.Options{Bus: s.bus, Reads: other, Past: s.past, Log: s.store})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"/v1/customers?sort=name&limit=1", "/v1/customers?sort=name&limit=1&asOf=" + last.Position.String()} {
		var first, again listed
		s.get(list, &first)
		s.of(t, server, func(s *stack) {
			p := s.do("GET", list+"&cursor="+url.QueryEscape(first.Next), nil).problem(t)
			if p.Status != 400 || p.Code != "cursor-invalid" || !strings.Contains(p.Detail, "another event log") {
				t.Errorf("%s: %+v", list, p)
			}
		})
		s.get(list+"&cursor="+url.QueryEscape(first.Next), &again)
		if len(again.Items) != 1 {
			t.Errorf("%s: the log that made the cursor refuses it", list)
		}
	}
}

func TestRecordsHaveRevisions(t *testing.T) {
	s := start(t)
	created := s.command("/v1/customers", "c", object{"kind": "company", "name": "Acme", "phone": "+49 30 12345678", "externalId": object{"system": "shop", "id": "a/1"}})
	path := "/v1/customers/" + string(created.ID)
	var c object
	a := s.get(path+"?"+at(created.Position), &c)
	if a.Header.Get("ETag") != `"0"` || a.Header.Get("X-As-Of-Position") == "" || c["name"] != "Acme" || c["revision"] != 0.0 {
		t.Errorf("headers %v, body %s", a.Header, a.body)
	}
	for _, known := range []string{`"0"`, `W/"0"`, `"7", "0"`, "*"} {
		if a := s.do("GET", path, nil, "If-None-Match", known); a.StatusCode != http.StatusNotModified || len(a.body) != 0 || a.Header.Get("ETag") != `"0"` {
			t.Errorf("If-None-Match %s: %d %s", known, a.StatusCode, a.body)
		}
	}
	if h := s.do("HEAD", path, nil); h.StatusCode != 200 || len(h.body) != 0 || h.Header.Get("ETag") != a.Header.Get("ETag") {
		t.Errorf("HEAD: %d %v %s", h.StatusCode, h.Header, h.body)
	}
	for unknown, pointer := range map[string]string{
		"/v1/customers/00000000-0000-7000-8000-00000000dead": "id", "/v1/customers/by/shop/b": "externalId", "/v1/admin/projections/zz/parked": "name",
	} {
		if a := s.do("GET", unknown, nil); a.StatusCode != 404 || !strings.Contains(string(a.body), `"pointer":"`+pointer+`"`) {
			t.Errorf("%s: %d %s", unknown, a.StatusCode, a.body)
		}
	}
	if a := s.do("GET", path, nil, "If-None-Match", `"1"`); a.StatusCode != 200 {
		t.Errorf("another revision: %d", a.StatusCode)
	}
	if a := s.do("GET", "/v1/customers/by/shop/a%2F1", nil); a.StatusCode != 200 || !strings.Contains(string(a.body), string(created.ID)) {
		t.Errorf("by external id: %d %s", a.StatusCode, a.body)
	}
	var found listed
	for _, phone := range []string{"%2B493012345678", "+493012345678", "493012345678"} {
		if s.get("/v1/customers/by-phone?phone="+phone, &found); len(found.Items) != 1 {
			t.Errorf("calls from %s: %v", phone, found)
		}
		if s.get("/v1/customers?phone="+phone+"&filter="+url.QueryEscape(`kind == "company" || true`), &found); len(found.Items) != 1 {
			t.Errorf("customers with %s: %v", phone, found)
		}
	}
	if p := s.do("GET", "/v1/customers?phone=%2B4930999&filter="+url.QueryEscape(`true) || (true`), nil).problem(t); p.Status != 400 || p.Errors[0].Pointer != "filter" {
		t.Errorf("a filter that is none but within brackets: %+v", p)
	}
	if s.get("/v1/customers?phone=%2B4930999", &found); len(found.Items) != 0 {
		t.Errorf("customers with another number: %v", found)
	}
	for _, unknown := range []string{"/v1/customers/", "/v1/contacts/", "/v1/orders/", "/v1/opportunities/", "/v1/products/", "/v1/pipelines/", "/v1/interactions/"} {
		for _, below := range []string{"", "/360", "/timeline", "/history"} {
			if below != "" && unknown != "/v1/customers/" {
				continue
			}
			if p := s.do("GET", unknown+"01900000-0000-7000-8000-00000000dead"+below, nil).problem(t); p.Status != 404 || p.Code != "not-found" {
				t.Errorf("%s%s: %+v", unknown, below, p)
			}
		}
	}
	if p := s.do("GET", path+"?minPosition=9999999999", nil).problem(t); p.Status != 400 || p.Code != "invalid" {
		t.Errorf("a position that the log never reaches: %+v", p)
	}
}

func TestWhatHappenedToACustomer(t *testing.T) {
	s := start(t)
	id := s.command("/v1/customers", "c", person("Ann")).ID
	path := "/v1/customers/" + string(id)
	s.command(path+"/update-profile", "u", object{"name": "Anna", "occurredAt": "2026-01-02T03:04:05Z"}, "X-Actor", "bob")
	call := s.command("/v1/interactions", "i", object{
		"customerId": id, "channel": "phone", "direction": "inbound", "subject": "Hello", "startedAt": "2026-01-03T10:00:00Z",
		"participants": []object{{"kind": "customer", "id": id, "name": "Anna"}},
	})
	var view object
	s.get(path+"/360?"+at(call.Position), &view)
	if view["profile"].(object)["name"] != "Anna" || view["interactionCount"] != 1.0 || view["lastContact"] == nil {
		t.Errorf("360: %v", view)
	}
	var timeline listed
	s.get(path+"/timeline?sort=-position", &timeline)
	if len(timeline.Items) != 3 || timeline.Items[0]["eventType"] != "interaction.logged" || timeline.Items[0]["summary"] == "" {
		t.Errorf("timeline: %v", timeline)
	}
	var history []object
	next := path + "/history?limit=2"
	for next != "" {
		var part listed
		a := s.get(next, &part)
		history = append(history, part.Items...)
		next, _, _ = strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
	}
	if len(history) != 3 {
		t.Fatalf("history: %v", history)
	}
	changed := history[1]
	if changed["actor"].(object)["id"] != "bob" || changed["occurredAt"] != "2026-01-02T03:04:05Z" || changed["recordedAt"] == "" {
		t.Errorf("who and when: %v", changed)
	}
	found := false
	for _, c := range changed["changes"].([]any) {
		if c := c.(object); c["field"] == "name" {
			found = c["from"] == "Ann" && c["to"] == "Anna"
		}
	}
	if !found {
		t.Errorf("changes: %v", changed["changes"])
	}
	if log := s.logged.String(); strings.Contains(log, "Anna") || !strings.Contains(log, "request answered") {
		t.Error("the log holds personal data, or no requests")
	}
}

func TestFunnelAndBoard(t *testing.T) {
	s := start(t)
	pipeline := s.command("/v1/pipelines", "p", object{"name": "Sales", "stages": []object{
		{"key": "prospecting", "name": "Prospecting", "probability": 10}, {"key": "engaging", "name": "Engaging", "probability": 50},
	}}).ID
	customer := s.command("/v1/customers", "c", object{"kind": "company", "name": "Acme"}).ID
	var last api.Receipt
	for i, end := range []string{"win", "lose", ""} {
		opened := s.command("/v1/opportunities", fmt.Sprint("o", i), object{
			"name": fmt.Sprint("Deal ", i), "customerId": customer, "pipelineId": pipeline, "owner": "ann",
			"amount": object{"amount": "100.50", "currency": "EUR"}, "occurredAt": "2026-01-01T00:00:00Z",
		})
		last = opened
		path := "/v1/opportunities/" + string(opened.ID) + "/"
		switch end {
		case "win":
			last = s.command(path+"win", fmt.Sprint("w", i), object{"amount": object{"amount": "99.95", "currency": "EUR"}, "occurredAt": "2026-02-01T00:00:00Z"})
		case "lose":
			last = s.command(path+"lose", fmt.Sprint("l", i), object{"reason": "price", "occurredAt": "2026-02-01T00:00:00Z"})
		}
	}
	var funnel struct {
		Stages []struct {
			Stage string
			Count int64
		}
		Won []struct {
			By     string
			Groups []struct {
				Key   string
				Value string
			}
		}
	}
	query := "/v1/funnel?pipelineId=" + string(pipeline)
	s.get(query+"&mode=reached&from=2026-01-01&to=2027-01-01&groupBy=month,owner&zone=Europe/Berlin&"+at(last.Position), &funnel)
	counts := map[string]int64{}
	for _, stage := range funnel.Stages {
		counts[stage.Stage] = stage.Count
	}
	if diff := cmp.Diff(map[string]int64{"prospecting": 3, "engaging": 1, "won": 1}, counts); diff != "" {
		t.Errorf("stages: %s", diff)
	}
	if len(funnel.Won) != 2 || len(funnel.Won[0].Groups) != 1 || funnel.Won[0].Groups[0].Value != "99.95" || funnel.Won[0].Groups[0].Key != "2026-02" {
		t.Errorf("won: %+v", funnel.Won)
	}
	var board struct{ Columns []struct{ Count int64 } }
	s.get("/v1/opportunities/board?pipelineId="+string(pipeline), &board)
	if len(board.Columns) != 2 || board.Columns[0].Count != 1 {
		t.Errorf("board: %+v", board)
	}
	var digest object
	if s.get("/v1/handover?owner=ann", &digest); len(digest["openOpportunities"].([]any)) != 1 {
		t.Errorf("handover: %v", digest)
	}
	for query, pointer := range map[string]string{
		"from=x": "from", "to=2026-13-01": "to", "to=0001-01-01": "to", "asOf=now": "asOf", "knownAt=1": "knownAt", "zone=Mars/Base": "zone", "zone=../../etc/passwd": "zone",
		"mode=best": "mode", "groupBy=shoe": "groupBy", "basis=entered:nowhere": "basis", "currency=EURO": "currency", "stages=nowhere": "stages",
		"filter=amount": "filter", "minPosition=x": "minPosition",
	} {
		p := s.do("GET", "/v1/funnel?pipelineId="+string(pipeline)+"&"+query, nil).problem(t)
		if p.Status != 400 || !strings.HasPrefix(p.Errors[0].Pointer, pointer) {
			t.Errorf("%s: %+v", query, p)
		}
	}
	if p := s.do("GET", "/v1/funnel?pipelineId=x", nil).problem(t); p.Status != 400 || p.Errors[0].Pointer != "pipelineId" {
		t.Errorf("no id: %+v", p)
	}
}

func TestOperatorsSeeProjectionsAndMetrics(t *testing.T) {
	s := start(t)
	r := s.command("/v1/customers", "c", person("Ann"))
	s.get("/v1/customers/"+string(r.ID)+"?"+at(r.Position), &object{})
	var all listed
	s.get("/v1/admin/projections", &all)
	if len(all.Items) < 20 || all.Items[0]["state"] != "running" {
		t.Errorf("projections: %v", all.Items)
	}
	if p := s.do("POST", "/v1/admin/projections/nonsense/rebuild", nil).problem(t); p.Status != 404 {
		t.Errorf("rebuild of nothing: %+v", p)
	}
	if p := s.do("POST", "/v1/admin/projections/customer/rebuild", object{"with": []string{"contact", "nonsense"}}).problem(t); p.Status != 404 {
		t.Errorf("rebuild of something and nothing: %+v", p)
	}
	if a := s.do("POST", "/v1/admin/projections/customer/rebuild", object{"with": []string{"contact"}, "hold": true}); a.StatusCode != 200 {
		t.Errorf("rebuild of two: %d %s", a.StatusCode, a.body)
	}
	s.get("/v1/admin/projections", &all)
	for _, p := range all.Items {
		want := 1
		if p["name"] == "customer" || p["name"] == "contact" {
			want = 2
		}
		if builds := p["builds"].([]any); len(builds) != want {
			t.Errorf("%s has the tables %v", p["name"], builds)
		}
	}
	var abandoned api.AbandonResult
	a := s.do("POST", "/v1/admin/projections/customer/abandon", nil)
	if err := json.Unmarshal(a.body, &abandoned); a.StatusCode != 200 || err != nil || len(abandoned.Builds) != 1 || abandoned.Builds[0].Build != 2 {
		t.Errorf("abandon: %d %s, %v", a.StatusCode, a.body, err)
	}
	if p := s.do("POST", "/v1/admin/projections/customer/abandon", nil).problem(t); p.Status != 422 || p.Code != "projection-without-build" {
		t.Errorf("abandon nothing: %+v", p)
	}
	if p := s.do("POST", "/v1/admin/projections/customer/parked/discard", object{}).problem(t); p.Status != 400 || p.Errors[0].Pointer != "/reason" {
		t.Errorf("discard without a reason: %+v", p)
	}
	metrics := string(s.do("GET", "/metrics", nil).body)
	if !strings.Contains(metrics, `rapport_http_request_seconds_count{method="POST",route="/v1/customers",status="201"} 1`) || strings.Contains(metrics, string(r.ID)) {
		t.Errorf("metrics: %s", metrics)
	}
}
