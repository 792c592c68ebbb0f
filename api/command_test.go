package api_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
)

type object = map[string]any

func person(name string) object { return object{"kind": "person", "name": name} }

func TestCommandsAnswerReceipts(t *testing.T) {
	s := start(t)
	created := s.do("POST", "/v1/customers", person("Ann Example"), "Idempotency-Key", "c1", "X-Actor", "bob", "X-Correlation-Id", "talk-1")
	if created.StatusCode != http.StatusCreated {
		t.Fatalf("status %d: %s", created.StatusCode, created.body)
	}
	var r api.Receipt
	created.into(t, &r)
	if created.Header.Get("ETag") != `"0"` || created.Header.Get("Location") != "/v1/customers/"+string(r.ID) ||
		created.Header.Get("X-Correlation-Id") != "talk-1" || r.CorrelationID != "talk-1" ||
		r.Stream != "main.customer-"+string(r.ID) || r.Position.IsZero() || len(r.EventIDs) != 1 || r.Events[0].Type != "customer.registered" {
		t.Errorf("headers %v, receipt %s", created.Header, created.body)
	}
	again := s.do("POST", "/v1/customers", person("Ann Example"), "Idempotency-Key", "c1", "X-Actor", "bob")
	if again.StatusCode != http.StatusCreated || again.Header.Get("Idempotency-Replayed") != "true" || string(again.body) != string(created.body) {
		t.Errorf("replay: status %d, headers %v, body %s", again.StatusCode, again.Header, again.body)
	}
	other := s.do("POST", "/v1/customers", person("Ben Example"), "Idempotency-Key", "c1", "X-Actor", "bob")
	if p := other.problem(t); p.Status != 422 || p.Code != "idempotency-key-reused" || p.Errors[0].Pointer != "Idempotency-Key" {
		t.Errorf("reused key: %+v", p)
	}

	path := "/v1/customers/" + string(r.ID)
	tagged := s.do("POST", path+"/tag", object{"tag": "VIP"}, "Idempotency-Key", "t1", "If-Match", `"0"`)
	if tagged.StatusCode != 200 || tagged.Header.Get("ETag") != `"1"` {
		t.Errorf("tag: %d %v %s", tagged.StatusCode, tagged.Header, tagged.body)
	}
	stale := s.do("POST", path+"/tag", object{"tag": "new"}, "Idempotency-Key", "t2", "If-Match", `"0"`).problem(t)
	if stale.Status != 412 || stale.ActualRevision == nil || *stale.ActualRevision != 1 || stale.Errors[0].Pointer != "If-Match" {
		t.Errorf("stale revision: %+v", stale)
	}
	before := s.events()
	dry := s.do("POST", path+"/tag?dryRun=true", object{"tag": "new"})
	var d api.Receipt
	dry.into(t, &d)
	if dry.StatusCode != 200 || !d.DryRun || len(d.Events) != 1 || d.Events[0].Data.(object)["tag"] != "new" || s.events() != before {
		t.Errorf("dry run: %d %s", dry.StatusCode, dry.body)
	}
	if tag := dry.Header.Get("ETag"); tag != "" {
		t.Errorf("a dry run names the revision %s, at which nothing stands", tag)
	}
	none := s.do("POST", "/v1/customers?dryRun=true", person("Dora Example"))
	if none.StatusCode != 200 || none.Header.Get("Location") != "" || none.Header.Get("ETag") != "" || s.events() != before {
		t.Errorf("dry run of a creation: %d %v %s", none.StatusCode, none.Header, none.body)
	}
	if u := s.command(path+"/tag", "t3", object{"tag": "vip"}); !u.Unchanged || u.Revision != 1 {
		t.Errorf("unchanged: %+v", u)
	}
	if p := s.do("POST", "/v1/customers/01900000-0000-7000-8000-00000000dead/tag", object{"tag": "x"}, "Idempotency-Key", "t4").problem(t); p.Status != 404 || p.Code != "not-found" {
		t.Errorf("unknown id: %+v", p)
	}
	owned := object{"kind": "company", "name": "Acme", "email": "info@acme.example"}
	first := s.command("/v1/customers", "d1", owned)
	dup := s.do("POST", "/v1/customers", owned, "Idempotency-Key", "d2").problem(t)
	if dup.Status != 409 || dup.Code != "duplicate" || dup.ExistingID != first.ID || len(dup.Duplicates) != 1 {
		t.Errorf("duplicate: %+v", dup)
	}
	s.command("/v1/customers", "d2", owned, "X-Duplicate-Policy", "allow")
}

// valuesStandBeside checks that each text of a problem is its template with its values.
func valuesStandBeside(t testing.TB, p api.Problem) {
	t.Helper()
	texts := []domain.Text{{Message: p.Detail, Template: p.Template, Params: p.Params}}
	for _, e := range p.Errors {
		texts = append(texts, e.Text)
	}
	for _, text := range texts {
		if (text.Template == "") != (len(text.Params) == 0) {
			t.Errorf("the template %q has the values %v", text.Template, text.Params)
		}
		if same := text.Mask(func(_ string, v any) any {
			if n, ok := v.(float64); ok {
				return int64(n) // as JSON reads every number
			}
			return v
		}); len(text.Params) > 0 && !strings.Contains(text.Template, "{allowed}") && same.Message != text.Message {
			t.Errorf("%q with %v is %q, not %q", text.Template, text.Params, same.Message, text.Message)
		}
	}
}

func TestValuesOfRefusalsStandBesideTheirTexts(t *testing.T) {
	const absent = "01900000-0000-7000-8000-00000000dead"
	s := start(t)
	id := string(s.command("/v1/customers", "c1", person("Ann Example")).ID)
	for _, c := range []struct {
		path, body, template string
		params               map[string]any
	}{
		{"/v1/customers/" + id + "/keep-commitment", `{"commitmentId":"c1"}`, `there is no commitment "{commitmentId}" to this customer`, map[string]any{"commitmentId": "c1"}},
		{"/v1/customers/" + absent + "/tag", `{"tag":"a"}`, "There is no {kind} {id}.", map[string]any{"kind": "customer", "id": absent}},
	} {
		p := s.do("POST", c.path, c.body, "Idempotency-Key", c.path).problem(t)
		if p.Template != c.template || !reflect.DeepEqual(p.Params, c.params) {
			t.Errorf("%s: %q, %v", c.path, p.Template, p.Params)
		}
		valuesStandBeside(t, p)
	}
	p := s.do("POST", "/v1/customers", `{"kind":"person","name":"`+strings.Repeat("a", 201)+`"}`, "Idempotency-Key", "long").problem(t)
	if e := p.Errors[0]; e.Template != "is longer than {limit} characters" || e.Params["limit"] != 200.0 || e.Message != "is longer than 200 characters" {
		t.Errorf("%+v", e)
	}
}

func TestBadCommandsAreRefusedWithoutAnEvent(t *testing.T) {
	s := start(t)
	id := string(s.command("/v1/customers", "c1", person("Ann Example")).ID)
	before := s.events()
	const json = "application/json"
	for name, c := range map[string]struct {
		path, body, key, contentType string
		status                       int
		code, pointer                string
	}{
		"unknown field":     {"/v1/customers", `{"kind":"person","name":"A","nmae":"B"}`, "k", json, 400, "invalid", "/nmae"},
		"duplicate name":    {"/v1/customers", `{"kind":"person","name":"A","name":"B"}`, "k", json, 400, "malformed-json", "/name"},
		"wrong type":        {"/v1/customers", `{"kind":"person","name":7}`, "k", json, 400, "invalid", "/name"},
		"number for money":  {"/v1/customers", `{"kind":"company","name":"A","revenue":{"amount":1.5,"currency":"EUR"}}`, "k", json, 400, "invalid", "/revenue/amount"},
		"huge number":       {"/v1/customers", `{"kind":"company","name":"A","employees":1e999}`, "k", json, 400, "invalid", "/employees"},
		"fraction":          {"/v1/customers", `{"kind":"company","name":"A","employees":1.5}`, "k", json, 400, "invalid", "/employees"},
		"negative":          {"/v1/customers", `{"kind":"company","name":"A","employees":-1}`, "k", json, 400, "invalid", "/employees"},
		"missing field":     {"/v1/customers", `{"kind":"person"}`, "k", json, 400, "invalid", "/name"},
		"null":              {"/v1/customers", `{"kind":null,"name":"A"}`, "k", json, 400, "invalid", "/kind"},
		"enum":              {"/v1/customers", `{"kind":"robot","name":"A"}`, "k", json, 400, "invalid", "/kind"},
		"NUL":               {"/v1/customers", `{"kind":"person","name":"A\u0000B"}`, "k", json, 400, "invalid", "/name"},
		"invalid UTF-8":     {"/v1/customers", "{\"kind\":\"person\",\"name\":\"\xff\"}", "k", json, 400, "malformed-json", "/name"},
		"lone surrogate":    {"/v1/customers", `{"kind":"person","name":"\ud800"}`, "k", json, 400, "malformed-json", "/name"},
		"impossible date":   {"/v1/customers", `{"kind":"person","name":"A","birthDate":"2026-02-30"}`, "k", json, 400, "invalid", "/birthDate"},
		"impossible time":   {"/v1/customers", `{"kind":"person","name":"A","occurredAt":"2026-13-01T00:00:00Z"}`, "k", json, 400, "invalid", "/occurredAt"},
		"far future":        {"/v1/customers", `{"kind":"person","name":"A","occurredAt":"9000-01-01T00:00:00Z"}`, "k", json, 400, "invalid", "/occurredAt"},
		"trailing data":     {"/v1/customers", `{"kind":"person","name":"A"} {}`, "k", json, 400, "malformed-json", ""},
		"cut off":           {"/v1/customers", `{"kind":"person","name":"A`, "k", json, 400, "malformed-json", "/name"},
		"empty":             {"/v1/customers", ``, "k", json, 400, "malformed-json", ""},
		"list":              {"/v1/customers", `[]`, "k", json, 400, "invalid", ""},
		"null body":         {"/v1/customers", `null`, "k", json, 400, "invalid", ""},
		"deep":              {"/v1/customers", `{"tags":` + strings.Repeat("[", 20_000), "k", json, 400, "malformed-json", ""},
		"deep and unknown":  {"/v1/customers", `{"x":` + strings.Repeat("[", 100_000), "k", json, 400, "invalid", "/x"},
		"many keys":         {"/v1/customers", `{` + strings.Repeat(`"x":1,`, 100_000) + `"y":1}`, "k", json, 400, "invalid", "/x"},
		"server's field":    {"/v1/customers", `{"kind":"person","name":"A","tenant":"other"}`, "k", json, 400, "invalid", "/tenant"},
		"foreign fact":      {"/v1/customers", `{"kind":"company","name":"A","Parent":{}}`, "k", json, 400, "invalid", "/Parent"},
		"oversized":         {"/v1/customers", `{"name":"` + strings.Repeat("a", api.MaxBodyBytes) + `"}`, "k", json, 413, "too-large", ""},
		"long text":         {"/v1/customers", `{"kind":"person","name":"` + strings.Repeat("a", 201) + `"}`, "k", json, 400, "invalid", "/name"},
		"no key":            {"/v1/customers", `{"kind":"person","name":"A"}`, "", json, 400, "idempotency-key-missing", "Idempotency-Key"},
		"long key":          {"/v1/customers", `{"kind":"person","name":"A"}`, strings.Repeat("k", 256), json, 400, "idempotency-key", "Idempotency-Key"},
		"key with a blank":  {"/v1/customers", `{"kind":"person","name":"A"}`, "a b", json, 400, "idempotency-key", "Idempotency-Key"},
		"media type":        {"/v1/customers", `kind=person`, "k", "application/x-www-form-urlencoded", 415, "unsupported-media-type", ""},
		"charset":           {"/v1/customers", `{}`, "k", "application/json; charset=latin1", 415, "unsupported-media-type", ""},
		"bad id":            {"/v1/customers/7/tag", `{"tag":"a"}`, "k", json, 400, "invalid", "id"},
		"bad id in path":    {"/v1/customers/%00/tag", `{"tag":"a"}`, "k", json, 400, "invalid", "id"},
		"bad query":         {"/v1/customers?dryRun=maybe", `{}`, "k", json, 400, "invalid", "dryRun"},
		"unknown parameter": {"/v1/customers?dryrun=true", `{}`, "k", json, 400, "invalid", "dryrun"},
		"repeated":          {"/v1/customers?dryRun=true&dryRun=false", `{}`, "k", json, 400, "invalid", "dryRun"},
		"broken query":      {"/v1/customers?a=%zz", `{}`, "k", json, 400, "invalid", "query"},
		"the year 1":        {"/v1/customers", `{"kind":"person","name":"a","occurredAt":"0001-01-01T00:00:00Z"}`, "k", json, 400, "invalid", "/occurredAt"},
		"an impossible day": {"/v1/opportunities", `{"name":"a","owner":"ann","expectedClose":"0001-01-01"}`, "k", json, 400, "invalid", "/expectedClose"},
		"no price":          {"/v1/orders", `{"number":"1","currency":"EUR","lines":[{"productCode":"x","quantity":"1"}]}`, "k", json, 400, "invalid", "/lines/0/unitPrice"},
		"no amount":         {"/v1/products", `{"code":"x","name":"X","listPrice":{"currency":"EUR"}}`, "k", json, 400, "invalid", "/listPrice/amount"},
		"no score":          {"/v1/opportunities/" + id + "/qualify", `{"reason":"x"}`, "k", json, 400, "invalid", "/score"},
		"null score":        {"/v1/opportunities/" + id + "/qualify", `{"reason":"x","score":null}`, "k", json, 400, "invalid", "/score"},
		"no probability":    {"/v1/pipelines", `{"name":"P","stages":[{"key":"a","name":"A","probability":0},{"key":"b","name":"B"}]}`, "k", json, 400, "invalid", "/stages/1/probability"},
		"blank":             {"/v1/products", `{"code":"x","name":" \t"}`, "k", json, 400, "invalid", "/name"},
		"rejected":          {"/v1/customers/" + id + "/keep-commitment", `{"commitmentId":"1"}`, "k", json, 422, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.do("POST", c.path, c.body, "Idempotency-Key", c.key, "Content-Type", c.contentType)
			p := a.problem(t)
			if p.Status != c.status || c.code != "" && p.Code != c.code {
				t.Fatalf("status %d, code %s: %s", p.Status, p.Code, a.body)
			}
			if c.pointer != "" && (len(p.Errors) == 0 || p.Errors[0].Pointer != c.pointer) {
				t.Errorf("errors %+v, want pointer %s", p.Errors, c.pointer)
			}
			valuesStandBeside(t, p)
		})
	}
	for name, headers := range map[string][]string{
		"If-Match":           {"If-Match", "7"},
		"X-Actor-Kind":       {"X-Actor-Kind", "robot"},
		"X-Actor":            {"X-Actor", strings.Repeat("a", 201)},
		"X-Duplicate-Policy": {"X-Duplicate-Policy", "maybe"},
		"X-Correlation-Id":   {"X-Correlation-Id", "a b"},
	} {
		p := s.do("POST", "/v1/customers/"+id+"/tag", object{"tag": "a"}, append(headers, "Idempotency-Key", "k")...).problem(t)
		if p.Status != 400 || p.Errors[0].Pointer != name {
			t.Errorf("header %s: %+v", name, p)
		}
	}
	if p := s.do("POST", "/v1/customers", "x", "Content-Encoding", "gzip", "Idempotency-Key", "k").problem(t); p.Status != 415 {
		t.Errorf("compressed body: %+v", p)
	}
	if n := s.events(); n != before {
		t.Errorf("%d events were written", n-before)
	}
}
