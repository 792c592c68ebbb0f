package api_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/projections"
)

// concrete fills the parameters of a route with something.
func concrete(path string) string {
	return strings.NewReplacer("{id}", "01900000-0000-7000-8000-000000000001", "{name}", "customer", "{system}", "webshop", "{externalId}", "1").Replace(path)
}

// TestEveryReadModelHasAList compares the projections with the route table: what is kept can be asked for, page by page.
func TestEveryReadModelHasAList(t *testing.T) {
	named := map[string]string{ // where the path is not the plural of the view's name
		"customer_owner_history": "customer-owners", "customer_external_id": "external-ids", "customer_feedback": "feedback",
		"customer_timeline": "customers/{id}/timeline", "opportunity": "opportunities", "opportunity_stage_visit": "stage-visits",
		"sales_order": "orders", "sales_order_line": "order-lines", "customer_sales": "customer-sales", "product_sales": "product-sales",
	}
	paths := start(t).document().Paths
	for _, declared := range projections.All() {
		p, err := declared.Compile()
		if err != nil {
			t.Fatal(err)
		}
		path := named[p.Name]
		if path == "" {
			path = strings.ReplaceAll(p.Name, "_", "-") + "s"
		}
		paged := slices.ContainsFunc(paths["/v1/"+path]["get"].Parameters, func(p parameter) bool { return p.Name == "cursor" })
		if !paged {
			t.Errorf("%s: GET /v1/%s is no list", p.Name, path)
		}
	}
}

// TestEveryRouteAnswersProblems walks the route table: whatever goes wrong, the answer has the one form.
func TestEveryRouteAnswersProblems(t *testing.T) {
	s := start(t, func(o *api.Options) { o.MaxBodyBytes, o.MaxBatchBytes = 2000, 3000 })
	before := s.events()
	big := `{"x":"` + strings.Repeat("a", 4000) + `"}`
	for path, item := range s.document().Paths {
		at := concrete(path)
		if a := s.do("DELETE", at, nil); a.problem(t).Code != "method-not-allowed" || a.StatusCode != 405 || a.Header.Get("Allow") == "" {
			t.Errorf("DELETE %s: status %d, allow %q: %s", at, a.StatusCode, a.Header.Get("Allow"), a.body)
		}
		for _, asked := range []string{"DELETE", "OPTIONS"} {
			var want []string
			for method := range item {
				want = append(want, strings.ToUpper(method))
			}
			if slices.Contains(want, "GET") {
				want = append(want, "HEAD")
			}
			want = append(want, "OPTIONS")
			allow := strings.Split(s.do(asked, at, nil).Header.Get("Allow"), ", ")
			slices.Sort(want)
			slices.Sort(allow)
			if !slices.Equal(allow, want) {
				t.Errorf("%s %s: allowed are %v, not %v", asked, at, allow, want)
			}
		}
		if p := s.do("GET", at+"/no/such/route", nil).problem(t); p.Status != 404 || p.Code != "route-not-found" {
			t.Errorf("GET %s/no/such/route: %+v", at, p)
		}
		for method := range item {
			method = strings.ToUpper(method)
			if p := s.do(method, at+"?nobody=knows", map[bool]any{true: "{}", false: nil}[method == "POST"], "Idempotency-Key", "k").problem(t); p.Status != 400 || p.Errors[0].Pointer != "nobody" {
				t.Errorf("%s %s with an unknown parameter: %+v", method, at, p)
			}
			if p := s.do(method, at, nil, "Accept", "image/png").problem(t); p.Status != 406 {
				t.Errorf("%s %s for a picture: %+v", method, at, p)
			}
			if p := s.do(method, at, big, "Idempotency-Key", "k").problem(t); p.Status != 413 || p.Code != "too-large" {
				t.Errorf("%s %s with a big body: %+v", method, at, p)
			}
			if strings.Contains(path, "{id}") {
				bad := strings.ReplaceAll(path, "{id}", "x'%20or%201=1")
				if p := s.do(method, bad, map[bool]any{true: "{}", false: nil}[method == "POST"], "Idempotency-Key", "k").problem(t); p.Status != 400 || p.Errors[0].Pointer != "id" {
					t.Errorf("%s %s: %+v", method, bad, p)
				}
			}
			if method != "POST" {
				continue
			}
			chunked := strings.NewReader(big)
			req, err := http.NewRequestWithContext(t.Context(), method, s.url+at, struct{ *strings.Reader }{chunked})
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = -1
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Idempotency-Key", "k")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if takesBody := item["post"].RequestBody != nil && !strings.HasSuffix(path, "/commands"); takesBody && res.StatusCode != 413 {
				t.Errorf("%s %s with an endless body: status %d", method, at, res.StatusCode)
			}
		}
	}
	if n := s.events(); n != before {
		t.Errorf("%d events were written", n-before)
	}
}

// TestHeadAnswersAsGetDoes holds that nothing but the body is left out, and that a feed which never ends has headers that do.
func TestHeadAnswersAsGetDoes(t *testing.T) {
	s := start(t)
	id := string(s.command("/v1/customers", "c", person("Ann Example")).ID)
	for path, accept := range map[string]string{
		"/v1/customers": "*/*", "/v1/customers/" + id: "*/*", "/v1/customers/x": "*/*", "/v1/metadata": "*/*", "/v1/events": "*/*", "/v1/events?limit=1": "application/x-ndjson",
		"/healthz": "*/*", "/docs": "*/*", "/docs/rapidoc-min.js": "*/*", "/openapi.json": "*/*", "/nope": "*/*",
	} {
		get, head := s.answered(path, "Accept", accept), s.do("HEAD", path, nil, "Accept", accept)
		if head.StatusCode != get.StatusCode || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") || len(head.body) != 0 {
			t.Errorf("%s: GET %d %s, HEAD %d %s: %s", path, get.StatusCode, get.Header.Get("Content-Type"), head.StatusCode, head.Header.Get("Content-Type"), head.body)
		}
	}
	live := s.do("HEAD", "/v1/events", nil, "Accept", "text/event-stream")
	if live.StatusCode != 200 || live.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD of a live feed: %d %v", live.StatusCode, live.Header)
	}
	if a := s.do("HEAD", "/v1/commands", nil); a.StatusCode != 405 {
		t.Errorf("HEAD of a route that has no GET: %d", a.StatusCode)
	}
}

func TestEveryAnswerHasSecurityHeaders(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/v1/customers", "/nope", "/docs", "/openapi.json", "/healthz", "/livez"} {
		a := s.do("GET", path, nil, "Origin", "https://evil.example")
		for _, name := range []string{"X-Content-Type-Options", "Content-Security-Policy", "X-Correlation-Id"} {
			if a.Header.Get(name) == "" {
				t.Errorf("%s lacks %s", path, name)
			}
		}
		if !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s may be framed", path)
		}
		shown := path == "/docs" || path == "/openapi.json"
		for _, name := range []string{"X-Frame-Options", "Referrer-Policy"} { // which say nothing of data that the policy does not
			if (a.Header.Get(name) != "") != shown {
				t.Errorf("%s: %s is %q", path, name, a.Header.Get(name))
			}
		}
		if a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s is open to other origins", path)
		}
	}
}

func TestTheReferenceIsComplete(t *testing.T) {
	s := start(t)
	page := s.do("GET", "/docs", nil)
	if !strings.Contains(string(page.body), `src="/docs/rapidoc-min.js"`) || strings.Contains(string(page.body), "https://") {
		t.Errorf("page: %s", page.body)
	}
	if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self';") || strings.Contains(csp, "unsafe-eval") {
		t.Errorf("policy: %s", csp)
	}
	for path, media := range map[string]string{
		"/docs/rapidoc-min.js": "text/javascript; charset=utf-8", "/docs/rapidoc.LICENSE": "text/plain; charset=utf-8",
		"/openapi.yaml": "application/openapi+yaml", "/openapi.json": "application/openapi+json",
	} {
		if a := s.do("GET", path, nil); a.StatusCode != 200 || a.Header.Get("Content-Type") != media || len(a.body) == 0 {
			t.Errorf("%s: status %d, %s", path, a.StatusCode, a.Header.Get("Content-Type"))
		}
	}
}

func TestMetadataDescribesEverything(t *testing.T) {
	s := start(t)
	var m api.Metadata
	s.do("GET", "/v1/metadata", nil).into(t, &m)
	if len(m.Aggregates) != len(s.bus.Definitions()) || len(m.ReadModels) < 15 {
		t.Fatalf("%d aggregates, %d read models", len(m.Aggregates), len(m.ReadModels))
	}
	for _, a := range m.Aggregates {
		for _, c := range a.Commands {
			if c.Doc == "" || c.Path == "" || c.Example == nil || len(c.Fields) == 0 {
				t.Errorf("%s: %+v", c.Type, c)
			}
			for _, f := range c.Fields {
				if f.Doc == "" || f.Type == "" {
					t.Errorf("%s: member %s lacks words", c.Type, f.Name)
				}
			}
		}
	}
	register := m.Aggregates[0].Commands[0]
	for _, f := range register.Fields {
		switch f.Name {
		case "kind":
			if !f.Required || len(f.Enum) != 3 {
				t.Errorf("kind: %+v", f)
			}
		case "name":
			if !f.Required || !f.Personal || f.Limits["maxLength"] != "200" {
				t.Errorf("name: %+v", f)
			}
		case "address":
			if f.Type != "object" || len(f.Fields) == 0 || f.Required {
				t.Errorf("address: %+v", f)
			}
		}
	}
}

func TestCheckListen(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:8080": true, "localhost:0": true, "[::1]:80": true, "127.8.8.8:1": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:80": false, "192.168.0.7:80": false, "example.com:80": false, "nonsense": false,
	} {
		if err := api.CheckListen(address, false); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := api.CheckListen("0.0.0.0:8080", true); err != nil {
		t.Error(err)
	}
}

// TestAHeaderStandsOnce holds that of two keys or actors none is chosen silently.
func TestAHeaderStandsOnce(t *testing.T) {
	s := start(t)
	for _, name := range []string{"Idempotency-Key", "X-Actor", "X-Actor-Kind", "X-Duplicate-Policy", "X-Correlation-Id", "Last-Event-ID", "Content-Type"} {
		r := httptest.NewRequest("POST", "/v1/customers", strings.NewReader(`{"kind":"person","name":"Ann"}`))
		r.Header.Set("Idempotency-Key", "k")
		r.Header.Set("Content-Type", "application/json")
		for range 2 {
			r.Header.Add(name, "application/json")
		}
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		if w.Code != 400 || !strings.Contains(w.Body.String(), `"pointer":"`+name+`"`) {
			t.Errorf("%s several times: %d %s", name, w.Code, w.Body)
		}
	}
	if n := s.events(); n != 0 {
		t.Errorf("%d events were written", n)
	}
}
