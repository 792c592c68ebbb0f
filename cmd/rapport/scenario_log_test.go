package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestA10_AllCustomerInformationInOnePlace(t *testing.T) {
	s := scenario(t)
	s.clause("every way to write is a command", func(s *scene) {
		commands := map[string]bool{"/v1/commands": true} // a list of commands
		for _, aggregate := range get[object](s.server, "/v1/metadata")["aggregates"].([]any) {
			for _, command := range dig(aggregate, "commands").([]any) {
				commands[said(command, "path")] = true
			}
		}
		written := 0
		for path, item := range get[object](s.server, "/openapi.json")["paths"].(object) {
			for method := range item.(object) {
				if method == "get" || method == "head" || strings.HasPrefix(path, "/v1/admin/") {
					continue
				}
				written++
				if method != "post" || !commands[path] {
					s.t.Errorf("%s %s writes and is no command", method, path)
				}
			}
		}
		equal(s.t, "routes that write", written, len(commands))
	})
	s.clause("read models built anew from the log have the same rows", func(s *scene) {
		customer := s.everything()
		before := s.rows(customer)
		for path, rows := range before {
			if len(rows) == 0 {
				s.t.Errorf("%s has no rows to compare", path)
			}
		}
		s.rebuild()
		if diff := cmp.Diff(before, s.rows(customer)); diff != "" {
			s.t.Errorf("rows before and after: %s", diff)
		}
	})
}

// everything makes something of every kind, so that no read model is empty, and returns a customer that it belongs to.
func (s *scene) everything() string {
	s.t.Helper()
	parent := s.customer(object{"kind": "company", "name": "A10 控股", "occurredAt": "2026-01-01T00:00:00Z"})
	customer := s.customer(object{
		"kind": "company", "name": "A10 科技", "parentId": parent, "owner": "ann", "tags": []string{"重点"}, "employees": 12,
		"revenue": money("1.10", "CNY"), "externalId": object{"system": "shop", "id": "a10"}, "phone": "+8613800138910",
	})
	person := s.customer(object{"kind": "person", "name": "A10 王", "birthDate": "1990-01-01"})
	group := s.customer(object{"kind": "group", "name": "A10 商会"})
	double := s.customer(object{"kind": "company", "name": "A10 科枝"})
	s.do("/v1/customers/"+group+"/add-member", object{"memberId": person, "since": "2026-01-01"})
	path := "/v1/customers/" + customer
	s.do(path+"/update-profile", object{"name": "A10 科技公司", "clear": []string{"employees"}})
	s.do(path+"/classify", object{"industry": "软件", "region": "A10"})
	s.do(path+"/set-preference", object{"name": "颜色", "value": "蓝"})
	s.do(path+"/record-feedback", object{"polarity": "suggestion", "topic": "界面"})
	s.do(path+"/record-commitment", object{"commitmentId": "1", "text": "报价", "due": "2999-12-31", "by": "ann"})
	s.do(path+"/keep-commitment", object{"commitmentId": "1"})
	s.do(path+"/transfer-ownership", object{"to": "bob"})
	s.do(path+"/merge", object{"duplicateId": double})
	contact := s.do("/v1/contacts", object{"familyName": "A10 李", "links": []object{{"customerId": customer, "role": "buyer"}}}).ID
	other := s.do("/v1/contacts", object{"familyName": "A10 张", "links": []object{{"customerId": customer, "role": "user"}}}).ID
	s.do("/v1/contacts/"+contact+"/change-role", object{"customerId": customer, "role": "decider"})
	s.do("/v1/contacts/"+contact+"/relate", object{"contactId": other, "kind": "knows"})
	call := s.do("/v1/interactions", object{"customerId": customer, "channel": "phone", "direction": "inbound", "subject": "询价"}).ID
	s.do("/v1/interactions/"+call+"/correct", object{"outcome": "成交", "reason": "补录"})
	product := s.do("/v1/products", object{"code": "A10", "name": "A10 产品", "listPrice": money("10", "CNY")}).ID
	pipeline := s.do("/v1/pipelines", object{"name": "A10", "stages": []object{{"key": "a", "name": "A", "probability": 10}, {"key": "b", "name": "B", "probability": 50}}}).ID
	s.do("/v1/pipelines/"+pipeline+"/revise", object{"stages": []object{{"key": "a", "name": "甲", "probability": 20}, {"key": "b", "name": "乙", "probability": 60}}})
	deal := s.do("/v1/opportunities", object{
		"name": "A10", "customerId": customer, "owner": "ann", "pipelineId": pipeline, "amount": money("20", "CNY"),
		"lines": []object{{"productCode": "A10", "productId": product, "quantity": "2", "unitPrice": money("10", "CNY")}},
	}).ID
	s.do("/v1/opportunities/"+deal+"/add-stakeholder", object{"contactId": contact, "role": "decider"})
	s.do("/v1/opportunities/"+deal+"/move-stage", object{"stage": "b"})
	s.do("/v1/opportunities/"+deal+"/win", object{"amount": money("19.99", "CNY")})
	order := s.do("/v1/orders", object{
		"number": "A10-1", "customerId": customer, "opportunityId": deal, "currency": "CNY",
		"lines": []object{{"productCode": "A10", "productId": product, "quantity": "2", "unitPrice": "9.995"}},
	}).ID
	s.do("/v1/orders/"+order+"/confirm", object{})
	s.do("/v1/orders/"+order+"/receive-payment", object{"paymentId": "1", "amount": money("19.99", "CNY")})
	s.do("/v1/orders/"+order+"/refund-payment", object{"refundId": "1", "paymentId": "1", "amount": money("0.01", "CNY"), "reason": "零头"})
	return customer
}

// rows returns what every list has of the records of this scenario, and the view of a customer, by path. Other scenarios
// write meanwhile. The times of the log belong to no record.
func (s *scene) rows(customer string) map[string][]string {
	s.t.Helper()
	found := map[string][]string{}
	for _, model := range get[object](s.server, "/v1/metadata")["readModels"].([]any) {
		path := strings.ReplaceAll(said(model, "path"), "{id}", customer)
		if path == "/v1/log-times" {
			continue
		}
		found[path] = nil
		for page, cursor := (object)(nil), ""; page == nil || cursor != ""; cursor = said(page, "next") {
			page = s.get(path, "limit", "200", "cursor", cursor)
			for _, row := range page["items"].([]any) {
				if text := s.text(row); s.mine(text) {
					found[path] = append(found[path], text)
				}
			}
		}
	}
	found["view"] = []string{s.text(s.get("/v1/customers/" + customer + "/360"))}
	return found
}

// text returns a JSON value as text.
func (s *scene) text(value any) string {
	s.t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// mine reports whether a row speaks of a record of this scenario, or of its product.
func (s *scene) mine(row string) bool {
	return strings.Contains(row, `"productCode":"A10"`) || slices.ContainsFunc(s.ids, func(id string) bool { return strings.Contains(row, id) })
}

// rebuild builds every read model anew in one scan of the log, and waits until the new tables serve.
func (s *scene) rebuild() {
	s.t.Helper()
	before := s.builds()
	names := slices.Sorted(maps.Keys(before))
	content, err := json.Marshal(object{"with": names[1:]})
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.Post(s.url+"/v1/admin/projections/"+names[0]+"/rebuild", "application/json", bytes.NewReader(content))
	if err != nil {
		s.t.Fatal(err)
	}
	equal(s.t, "closing the answer", response.Body.Close(), nil)
	equal(s.t, "status of the rebuild", response.StatusCode, http.StatusOK)
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	err = until(ctx, func() bool {
		now := s.builds()
		return !slices.ContainsFunc(names, func(name string) bool { return now[name] == before[name] })
	})
	if err != nil {
		s.t.Fatalf("%v: %v before, %v now", err, before, s.builds())
	}
}

// builds returns which table of each projection serves.
func (s *scene) builds() map[string]string {
	s.t.Helper()
	serving := map[string]string{}
	for _, projection := range get[object](s.server, "/v1/admin/projections")["items"].([]any) {
		build := only(dig(projection, "builds"), "stage", "serving")
		serving[said(projection, "name")] = fmt.Sprint(said(build, "version"), " ", said(build, "build"))
	}
	return serving
}

func TestA136_DescriptionOfTheFields(t *testing.T) {
	s := scenario(t)
	described := get[object](s.server, "/v1/metadata")
	s.clause("one route lists records with their fields, types and meanings", func(s *scene) {
		customer := only(described["aggregates"], "name", "customer")
		register := only(dig(customer, "commands"), "type", "customer.register")
		s.want(only(dig(register, "fields"), "name", "birthDate"), "type", "date")
		s.want(only(dig(register, "fields"), "name", "birthDate"), "personal", true)
		for _, list := range []string{"aggregates", "readModels"} {
			for _, record := range described[list].([]any) {
				if said(record, "doc") == "" {
					s.t.Errorf("%s is not described", said(record, "name"))
				}
				fields, _ := dig(record, "fields").([]any)
				for _, field := range fields {
					if said(field, "doc") == "" || said(field, "type") == "" {
						s.t.Errorf("%s of %s is not described", said(field, "name"), said(record, "name"))
					}
				}
			}
		}
	})
	s.notYet("it lists rights and sources", "there are no rights, and sources are not described")
}
