package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/api"
)

func TestABatchAnswersEachItem(t *testing.T) {
	s := start(t)
	id := s.command("/v1/customers", "c", person("Ann")).ID
	tag := func(key, tag string) object {
		return object{"command": "customer.tag", "id": id, "idempotencyKey": key, "data": object{"tag": tag}}
	}
	items := []object{
		{"command": "customer.register", "idempotencyKey": "r1", "data": person("Ben")},
		tag("t1", "one"),
		{"command": "customer.register", "idempotencyKey": "r2", "data": object{"kind": "person", "name": "C", "nmae": "x"}},
		{"command": "customer.register", "idempotencyKey": "r3", "data": object{"kind": "robot", "name": "C"}},
		tag("t2", "two"),
		{"command": "customer.fly", "id": id, "idempotencyKey": "f", "data": object{}},
		{"command": "customer.register", "id": id, "idempotencyKey": "r4", "data": person("D")},
		{"command": "customer.tag", "idempotencyKey": "t3", "data": object{"tag": "x"}},
		{"command": "customer.tag", "id": id, "data": object{"tag": "x"}},
		{"command": "customer.tag", "id": id, "idempotencyKey": "t4", "ifMatch": 0, "data": object{"tag": "x"}},
		tag("t5", "one"),
		tag("t1", "one"),
		{"command": "customer.keep_commitment", "id": id, "idempotencyKey": "k", "data": object{"commitmentId": "9"}},
		tag("t1", "another"),
		{"command": "customer.tag", "id": "01900000-0000-7000-8000-0000000000ff", "idempotencyKey": "n", "data": object{"tag": "x"}},
		{"command": "customer.tag", "id": "y", "idempotencyKey": "i", "data": object{"tag": "x"}},
		{"comand": "customer.tag"},
		{"command": 7},
		{},
		{"command": "customer.tag", "id": id, "idempotencyKey": 7, "data": object{"tag": "x"}},
		{"command": "customer.tag", "id": id, "idempotencyKey": "two words", "data": object{"tag": "x"}},
		{"command": "customer.tag", "id": id, "idempotencyKey": "m", "ifMatch": -1, "data": object{"tag": "x"}},
		{"command": "customer.tag", "id": id, "idempotencyKey": "m", "ifMatch": "7", "data": object{"tag": "x"}},
		{"command": "customer.tag", "id": id, "idempotencyKey": "d"},
		{"command": "customer.tag", "id": id, "idempotencyKey": "d", "data": nil},
		{"command": "customer.tag", "id": id, "idempotencyKey": "d", "data": []int{1}},
		{"command": "customer.tag", "id": id, "idempotencyKey": "d", "data": object{"tag": 7}},
		{"command": "customer.tag", "id": id, "idempotencyKey": "d", "data": object{}},
		nil,
		tag("t6", "three"),
	}
	a := s.do("POST", "/v1/commands", object{"items": items})
	var r api.BatchResult
	a.into(t, &r)
	if a.StatusCode != 200 || r.Accepted != 6 || r.Unchanged != 1 || r.Failed != 24 || r.Position.IsZero() {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
	for i, want := range []struct {
		status  int
		pointer string
	}{
		{201, ""}, {200, ""}, {400, "/items/2/data/nmae"}, {400, "/items/3/data/kind"}, {200, ""}, {400, "/items/5/command"}, {400, "/items/6/id"},
		{400, "/items/7/id"}, {400, "/items/8/idempotencyKey"}, {412, "/items/9/ifMatch"}, {200, ""}, {200, ""}, {422, "/items/12/data/commitmentId"}, {422, "/items/13/idempotencyKey"},
		{404, "/items/14/id"}, {400, "/items/15/id"}, {400, "/items/16/comand"}, {400, "/items/17/command"}, {400, "/items/18/command"}, {400, "/items/19/idempotencyKey"},
		{400, "/items/20/idempotencyKey"}, {400, "/items/21/ifMatch"}, {400, "/items/22/ifMatch"}, {400, "/items/23/data"}, {400, "/items/24/data"}, {400, "/items/25/data"},
		{400, "/items/26/data/tag"}, {400, "/items/27/data/tag"}, {400, "/items/28"}, {200, ""},
	} {
		got := r.Items[i]
		if got.Status != want.status || (got.Receipt == nil) == (got.Problem == nil) {
			t.Errorf("item %d: %+v", i, got)
			continue
		}
		if want.pointer != "" && (len(got.Problem.Errors) == 0 || got.Problem.Errors[0].Pointer != want.pointer) {
			t.Errorf("item %d: %+v", i, got.Problem)
		}
	}
	if !r.Items[11].Replayed || r.Items[4].Receipt.Revision != r.Items[1].Receipt.Revision+1 {
		t.Errorf("order or replay: %s", a.body)
	}
}

func TestABatchStopsWhenAsked(t *testing.T) {
	s := start(t)
	items := []object{
		{"command": "customer.register", "idempotencyKey": "a", "data": person("A")},
		{"command": "customer.register", "idempotencyKey": "b", "data": object{}},
		{"command": "customer.register", "idempotencyKey": "c", "data": person("C")},
	}
	var r api.BatchResult
	s.do("POST", "/v1/commands", object{"stopOnError": true, "items": items}).into(t, &r)
	if r.Items[0].Status != 201 || r.Items[1].Status != 400 || r.Items[2].Status != 424 || r.Items[2].Problem.Code != "not-tried" || s.events() != 1 {
		t.Errorf("%+v", r)
	}
	before := s.events()
	s.do("POST", "/v1/commands?dryRun=true", object{"items": items}).into(t, &r)
	if r.Accepted != 2 || !r.Items[2].Receipt.DryRun || s.events() != before {
		t.Errorf("dry run: %+v", r)
	}
}

func TestABadBatchIsRefusedWhole(t *testing.T) {
	s := start(t)
	many := strings.TrimSuffix(strings.Repeat(`{"command":"x","data":{}},`, api.MaxBatchItems+1), ",")
	for body, pointer := range map[string]string{
		`{}`:                         "/items",
		`{"items":[]}`:               "/items",
		`{"items":[` + many + `]}`:   "/items",
		`{"items":{}}`:               "/items",
		`{"items":[{}],"stop":true}`: "/stop",
		`{"items":[{"command":"x"},{"command":"x"]}`: "/items/1",
		`{"items":[{"command":"x","command":"y"}]}`:  "/items/0/command",
		"{\"items\":[{\"command\":\"\xff\"}]}":       "/items/0/command",
		`[]`:                                         "",
	} {
		p := s.do("POST", "/v1/commands", body).problem(t)
		if p.Status != 400 || p.Errors[0].Pointer != pointer {
			t.Errorf("%.60s: %+v", body, p)
		}
	}
	if n := s.events(); n != 0 {
		t.Errorf("%d events were written", n)
	}
}

func TestABatchOfAThousand(t *testing.T) {
	s := start(t)
	items := make([]object, api.MaxBatchItems)
	for i := range items {
		items[i] = object{"command": "customer.register", "idempotencyKey": fmt.Sprint("k", i), "data": person(fmt.Sprint("Person ", i))}
	}
	var r api.BatchResult
	s.do("POST", "/v1/commands", object{"items": items}).into(t, &r)
	if r.Accepted != api.MaxBatchItems || s.events() != api.MaxBatchItems {
		t.Errorf("%d accepted, %d events", r.Accepted, s.events())
	}
	for i := range r.Items {
		if i > 0 && r.Items[i].Receipt.ID == r.Items[i-1].Receipt.ID {
			t.Fatalf("items %d and %d made the same customer", i-1, i)
		}
	}
}
