package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

// document is what the tests need of the OpenAPI document.
type document struct {
	Paths map[string]map[string]operation `json:"paths"`
}

type operation struct {
	OperationID string      `json:"operationId"`
	Summary     string      `json:"summary"`
	Parameters  []parameter `json:"parameters"`
	RequestBody *struct {
		Content map[string]struct {
			Examples map[string]struct {
				Value object `json:"value"`
			} `json:"examples"`
		} `json:"content"`
	} `json:"requestBody"`
}

type parameter struct {
	Name     string `json:"name"`
	In       string `json:"in"`
	Required bool   `json:"required"`
	Example  any    `json:"example"`
	Schema   object `json:"schema"`
}

// example returns the body of the operation's example.
func (o operation) example() object {
	return o.RequestBody.Content["application/json"].Examples["complete"].Value
}

func (s *stack) document() document {
	s.t.Helper()
	var d document
	s.do("GET", "/openapi.json", nil).into(s.t, &d)
	return d
}

// scene runs the examples of the OpenAPI document. Records that examples name by their invented ids are replaced by real
// ones, of which there is one of each aggregate.
type scene struct {
	*stack
	byID map[string]operation // operations by their id
	path map[string]string    // of operations
	real map[string]domain.ID // by the name of the member that holds an id
	keys int
}

// first names the commands that must have been executed on a fresh record before an example can succeed.
var first = map[string][]string{
	"contact.change_role":              {"contact.link_customer"},
	"contact.reactivate":               {"contact.deactivate"},
	"contact.unlink_customer":          {"contact.link_customer"},
	"contact.unrelate":                 {"contact.relate"},
	"customer.break_commitment":        {"customer.record_commitment"},
	"customer.drop_preference":         {"customer.set_preference"},
	"customer.clear_parent":            {"customer.set_parent"},
	"customer.keep_commitment":         {"customer.record_commitment"},
	"customer.mark_commitment_overdue": {"customer.record_commitment"},
	"customer.reactivate":              {"customer.deactivate"},
	"customer.remove_member":           {"customer.add_member"},
	"opportunity.change_line":          {"opportunity.add_line"},
	"opportunity.remove_line":          {"opportunity.add_line"},
	"opportunity.remove_stakeholder":   {"opportunity.add_stakeholder"},
	"opportunity.reopen":               {"opportunity.lose"},
	"order.accept":                     {"order.confirm", "order.ship", "order.deliver"},
	"order.deliver":                    {"order.confirm", "order.ship"},
	"order.refund_payment":             {"order.receive_payment"},
	"order.return_goods":               {"order.confirm", "order.ship", "order.deliver"},
	"order.schedule_delivery":          {"order.confirm"},
	"order.ship":                       {"order.confirm"},
	"order.start_production":           {"order.confirm"},
	"product.relist":                   {"product.discontinue"},
}

// earlier are members that what comes first has besides, where the example of a command speaks of a later day.
var earlier = map[string]object{"customer.mark_commitment_overdue": {"occurredAt": "2026-02-01T00:00:00Z", "due": "2026-03-01"}}

// kinds are the kinds of actor of commands that no human gives.
var kinds = map[string]string{"customer.mark_commitment_overdue": "automation", "interaction.mark_follow_up_due": "automation"}

// fresh names the commands whose examples need another record than the example of the creating command makes.
var fresh = map[string]object{
	"customer.add_member":    {"kind": "group", "name": "The Examples"},
	"customer.assign_owner":  {"kind": "company", "name": "Nobody's Ltd"},
	"customer.remove_member": {"kind": "group", "name": "The Examples"},
}

// other names the commands whose example must speak of another customer than the one that the record has already.
var other = map[string]bool{"contact.link_customer": true, "opportunity.link_customer": true}

func TestEveryExampleIsAnswered(t *testing.T) {
	s := start(t)
	doc := s.document()
	sc := &scene{stack: s, byID: map[string]operation{}, path: map[string]string{}, real: map[string]domain.ID{}}
	for path, item := range doc.Paths {
		for method, op := range item {
			sc.byID[op.OperationID], sc.path[op.OperationID] = op, path
			if op.Summary == "" {
				t.Errorf("%s %s has no summary", method, path)
			}
		}
	}
	sc.prepare()
	for _, id := range slices.Sorted(maps.Keys(sc.byID)) {
		aggregate, _, isCommand := strings.Cut(id, ".")
		switch {
		case id == "command.batch":
			t.Run(id, sc.batch)
		case isCommand:
			t.Run(id, func(t *testing.T) { sc.command(t, aggregate, id) })
		}
	}
	position := sc.create("product").Position
	s.built() // until then the first builds could be switched to
	// The last: what it builds could be switched to, sooner or later.
	const rebuild = "/v1/admin/projections/{name}/rebuild"
	paths := slices.Sorted(maps.Keys(doc.Paths))
	paths = append(slices.DeleteFunc(paths, func(path string) bool { return path == rebuild }), rebuild)
	for _, path := range paths {
		for method, op := range doc.Paths[path] {
			switch {
			case method == "get":
				t.Run(op.OperationID, func(t *testing.T) { sc.query(t, path, op, position) })
			case strings.HasPrefix(path, "/v1/admin/"):
				t.Run(op.OperationID, func(t *testing.T) {
					path := strings.ReplaceAll(path, "{name}", "payment")
					var body any
					if op.RequestBody != nil {
						body = op.example()
						delete(body.(object), "stream")
					}
					want := 200
					switch verb := path[strings.LastIndex(path, "/"):]; verb {
					case "/switch", "/rollback", "/abandon":
						want = 422 // there is no other build
					}
					if a := s.do("POST", path, body); a.StatusCode != want {
						t.Errorf("status %d: %s", a.StatusCode, a.body)
					}
				})
			}
		}
	}
}

// prepare makes one record of each aggregate.
func (sc *scene) prepare() {
	company := object{"kind": "company", "name": "Parent Ltd"}
	sc.real["parentId"] = sc.stack.command("/v1/customers", "parent", company).ID
	sc.real["customerId"] = sc.real["parentId"]
	sc.real["memberId"] = sc.stack.command("/v1/customers", "member", person("Mem Ber")).ID
	sc.real["duplicateId"] = sc.stack.command("/v1/customers", "duplicate", company).ID
	sc.real["survivorId"] = sc.real["parentId"]
	sc.real["contactId"] = sc.create("contact").ID
	sc.real["productId"] = sc.create("product").ID
	sc.real["pipelineId"] = sc.create("pipeline").ID
	sc.real["opportunityId"] = sc.create("opportunity").ID
	sc.real["orderId"] = sc.create("order").ID
	sc.real["interactionId"] = sc.create("interaction").ID
}

func (sc *scene) key() string {
	sc.keys++
	return fmt.Sprint("example-", sc.keys)
}

// example returns the body of an operation's example with real ids in it.
func (sc *scene) example(id string) object {
	return sc.replace(sc.byID[id].example()).(object)
}

func (sc *scene) replace(v any) any {
	switch v := v.(type) {
	case object:
		out := object{}
		for name, member := range v {
			if real, ok := sc.real[name]; ok {
				out[name] = real
				continue
			}
			out[name] = sc.replace(member)
		}
		for _, kind := range []string{"kind", "aggregate"} { // members that say what their id names
			if of, ok := v[kind].(string); ok && sc.real[of+"Id"] != "" && v["id"] != nil {
				out["id"] = sc.real[of+"Id"]
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = sc.replace(v[i])
		}
		return out
	}
	return v
}

// receipt is what the scene needs of one.
type receipt struct {
	ID       domain.ID       `json:"id"`
	Position domain.Position `json:"position"`
}

var creating = map[string]string{
	"customer": "register", "contact": "create", "interaction": "log", "product": "add", "pipeline": "define", "opportunity": "open", "order": "place",
}

// create makes a record by the example of its creating command, or by a body of its own.
func (sc *scene) create(aggregate string, body ...object) receipt {
	sc.t.Helper()
	id := aggregate + "." + creating[aggregate]
	content := sc.example(id)
	if len(body) > 0 && body[0] != nil {
		content = body[0]
	}
	a := sc.do("POST", sc.path[id], content, "Idempotency-Key", sc.key(), "X-Duplicate-Policy", "allow")
	if a.StatusCode != 201 {
		sc.t.Fatalf("%s: status %d: %s", id, a.StatusCode, a.body)
	}
	var r receipt
	a.into(sc.t, &r)
	return r
}

// command executes the example of a command on a fresh record.
func (sc *scene) command(t *testing.T, aggregate, id string) {
	path := sc.path[id]
	if strings.Contains(path, "{id}") {
		fresh := sc.create(aggregate, fresh[id])
		if id == "customer.merge_into" {
			sc.stack.command("/v1/customers/"+string(sc.real["survivorId"])+"/merge", sc.key(), object{"duplicateId": fresh.ID})
		}
		for _, before := range first[id] {
			at := strings.ReplaceAll(sc.path[before], "{id}", string(fresh.ID))
			body := sc.example(before)
			maps.Copy(body, earlier[id])
			if a := sc.do("POST", at, body, "Idempotency-Key", sc.key(), "X-Duplicate-Policy", "allow"); a.StatusCode != 200 {
				t.Fatalf("%s before: status %d: %s", before, a.StatusCode, a.body)
			}
		}
		path = strings.ReplaceAll(path, "{id}", string(fresh.ID))
	}
	body := sc.example(id)
	if other[id] {
		body["customerId"] = sc.real["memberId"]
	}
	headers := []string{"Idempotency-Key", sc.key(), "X-Duplicate-Policy", "allow"}
	if kind := kinds[id]; kind != "" {
		headers = append(headers, "X-Actor-Kind", kind)
	}
	a := sc.do("POST", path, body, headers...)
	switch {
	case a.StatusCode/100 != 2:
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	case strings.Contains(string(a.body), `"unchanged":true`) && id != "customer.merge_into": // which customer.merge has done already
		t.Errorf("the example changes nothing: %s", a.body)
	}
}

func (sc *scene) batch(t *testing.T) {
	text, err := json.Marshal(sc.byID["command.batch"].example())
	if err != nil {
		t.Fatal(err)
	}
	body := strings.ReplaceAll(string(text), "01900000-0000-7000-8000-000000000001", string(sc.real["customerId"]))
	a := sc.do("POST", "/v1/commands", body)
	var r struct{ Accepted, Unchanged int }
	a.into(t, &r)
	if a.StatusCode != 200 || r.Accepted != 2 || r.Unchanged != 0 {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
}

// query asks with the examples of all parameters that have one.
func (sc *scene) query(t *testing.T, path string, op operation, position domain.Position) {
	values := url.Values{}
	for _, p := range op.Parameters {
		switch {
		case p.Name == "id":
			aggregate := strings.TrimSuffix(strings.Split(path, "/")[2], "s")
			record := sc.real[aggregate+"Id"]
			switch aggregate {
			case "opportunitie":
				record = sc.real["opportunityId"]
			case "interaction":
				record = sc.real["interactionId"]
			}
			path = strings.ReplaceAll(path, "{id}", string(record))
		case p.Name == "name" && p.In == "path":
			path = strings.ReplaceAll(path, "{name}", "customer")
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", fmt.Sprint(p.Example))
		case p.Name == "pipelineId":
			values.Set(p.Name, string(sc.real["pipelineId"]))
		case p.Name == "minPosition":
			values.Set(p.Name, position.String())
		case p.In == "query" && p.Example != nil:
			values.Set(p.Name, fmt.Sprint(p.Example))
		case p.Required:
			t.Errorf("required parameter %s has no example", p.Name)
		}
	}
	if a := sc.answered(path + "?" + values.Encode()); a.StatusCode != 200 {
		t.Errorf("GET %s?%s: status %d: %s", path, values.Encode(), a.StatusCode, a.body)
	}
}
