package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

const (
	canary    = "Canary"
	neighbour = domain.Tenant("neighbour")
)

// neighbours is a stack with two tenants: main, and one whose every text says canary.
type neighbours struct {
	*stack
	records []api.Receipt // of the neighbour
	ids     []domain.ID
	events  []string // ids of the neighbour's events
}

// plant makes a record in the neighbour's tenant.
func (n *neighbours) plant(path, body string) domain.ID {
	n.t.Helper()
	r := n.command(path, fmt.Sprint("canary-", len(n.records)), body, "X-Tenant", string(neighbour), "X-Actor", canary+"-actor")
	n.records = append(n.records, r)
	if !slices.Contains(n.ids, r.ID) {
		n.ids = append(n.ids, r.ID)
	}
	n.events = append(n.events, r.EventIDs...)
	return r.ID
}

func startNeighbours(t *testing.T) *neighbours {
	t.Helper()
	n := &neighbours{stack: start(t, func(o *api.Options) { o.Tenants = []domain.Tenant{domain.DefaultTenant, neighbour} })}
	for _, tenant := range []domain.Tenant{domain.DefaultTenant, neighbour} {
		if err := n.bus.Prime(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
	}
	c := n.plant("/v1/customers", `{"kind":"company","name":"Canary Ltd","email":"canary@canary.example","phone":"+493012345678","taxId":"CANARY1","externalId":{"system":"canary","id":"Canary1"}}`)
	twin := n.plant("/v1/customers", `{"kind":"company","name":"Canary Twin","email":"twin@canary.example"}`)
	of := "/v1/customers/" + string(c)
	n.plant(of+"/tag", `{"tag":"canary"}`)
	n.plant(of+"/record-commitment", `{"commitmentId":"Canary","text":"Canary promise","due":"2036-01-01","by":"Canary"}`)
	n.plant(of+"/record-feedback", `{"topic":"Canary","text":"Canary complaint","polarity":"complaint"}`)
	n.plant(of+"/merge", `{"duplicateId":"`+string(twin)+`"}`)
	contact := n.plant("/v1/contacts", `{"givenName":"Canary","familyName":"Canary","phone":"+493087654321","links":[{"customerId":"`+string(c)+`","role":"buyer"}]}`)
	n.plant("/v1/interactions", `{"customerId":"`+string(c)+`","channel":"phone","direction":"inbound","subject":"Canary","body":"Canary body","participants":[{"kind":"contact","id":"`+string(contact)+`","name":"Canary"}]}`)
	product := n.plant("/v1/products", `{"code":"CANARY","name":"Canary product"}`)
	n.plant("/v1/opportunities", `{"name":"Canary deal","customerId":"`+string(c)+`","owner":"Canary","amount":{"amount":"10","currency":"EUR"}}`)
	order := n.plant("/v1/orders", `{"number":"CANARY-1","kind":"sale","customerId":"`+string(c)+`","currency":"EUR","lines":[{"productCode":"CANARY","productId":"`+string(product)+`","description":"Canary","quantity":"1","unitPrice":"10"}]}`)
	n.plant("/v1/orders/"+string(order)+"/confirm", `{}`)
	n.plant("/v1/orders/"+string(order)+"/receive-payment", `{"paymentId":"Canary","amount":{"amount":"10","currency":"EUR"}}`)
	return n
}

// betrays reports what of the neighbour stands in an answer: a text, or an id that the request did not name.
func (n *neighbours) betrays(asked string, body []byte) string {
	text := strings.Replace(string(body), `"owner":"Canary","customers":0`, "", 1) // a digest says for whom it was asked
	for _, part := range strings.FieldsFunc(asked, func(r rune) bool { return strings.ContainsRune("/?&=", r) }) {
		if len(part) >= 32 { // an id that was asked for is told again in errors
			text = strings.ReplaceAll(text, part, "")
		}
	}
	if strings.Contains(strings.ToLower(text), "canary") {
		return text
	}
	for _, id := range n.ids {
		if strings.Contains(text, string(id)) {
			return text
		}
	}
	return ""
}

// Whoever asks for one tenant sees nothing of another, by no route and with no parameter, and changes nothing there.
func TestTenantsAreApart(t *testing.T) {
	n := startNeighbours(t)
	last := n.records[len(n.records)-1].Position.String()
	asNeighbour := []string{"X-Tenant", string(neighbour)}

	// What was planted is there for the neighbour: else nothing below shows anything.
	if a := n.answered("/v1/customers/"+string(n.ids[0])+"/360?minPosition="+last, asNeighbour...); a.StatusCode != http.StatusOK || !strings.Contains(string(a.body), "Canary deal") {
		t.Fatalf("the neighbour's own 360° view: %d %s", a.StatusCode, a.body)
	}
	var document struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name, In string
				Required bool
				Example  any
			}
		}
	}
	n.do(http.MethodGet, "/openapi.json", nil).into(t, &document)
	visited, posted := 0, 0
	for path, operations := range document.Paths {
		get, ok := operations["get"]
		if !ok {
			continue
		}
		var queries []string // each the whole behind the question mark
		required := ""
		for _, p := range get.Parameters {
			if p.In == "query" && p.Required {
				for _, value := range []string{"Canary", "+493012345678", "/profile/name"} {
					queries = append(queries, p.Name+"="+strings.ReplaceAll(value, "+", "%2B"))
				}
				required = queries[len(queries)-1] + "&"
			}
		}
		if queries == nil {
			queries = []string{""}
		}
		for _, p := range get.Parameters {
			switch p.Name {
			case "asOf":
				queries = append(queries, required+"asOf="+last, required+"asOf=2030-01-01T00:00:00Z", required+"asOf=2030-01-01T00:00:00Z&axis=occurred", required+"asOf="+n.events[0])
			case "after":
				queries = append(queries, required+"after="+n.events[0], required+"after=1")
			case "subject":
				queries = append(queries, "subject="+string(n.ids[0]))
			case "stream":
				queries = append(queries, "stream="+n.records[0].Stream)
			case "phone":
				queries = append(queries, "phone=%2B493012345678")
			case "count":
				queries = append(queries, required+"count=exact")
			}
		}
		targets := []string{path}
		if strings.Contains(path, "{") {
			targets = nil
			for _, id := range n.ids {
				targets = append(targets, strings.NewReplacer("{id}", string(id), "{system}", "canary", "{externalId}", "Canary1", "{name}", "customer").Replace(path))
			}
		}
		for _, target := range targets {
			for _, q := range queries {
				asked := strings.TrimSuffix(target+"?"+q, "?")
				a := n.answered(asked)
				if told := n.betrays(asked, a.body); told != "" && !strings.Contains(asked, "canary/Canary1") {
					t.Errorf("GET %s tells: %s", asked, told)
				}
				if strings.Contains(target, string(n.ids[0])) && a.StatusCode == http.StatusOK && !strings.HasSuffix(target, "/timeline") {
					t.Errorf("GET %s: status 200: %s", asked, a.body)
				}
				visited++
			}
		}
	}
	if told := n.betrays("", n.do(http.MethodGet, "/v1/events", nil, "Accept", "application/x-ndjson").body); told != "" {
		t.Errorf("the feed in lines tells: %s", told)
	}
	// Every command to every record of the neighbour is refused like one to a record that there is not.
	before := n.stack.events()
	for _, def := range n.bus.Definitions() {
		for _, spec := range def.Commands {
			if spec.Creates {
				continue
			}
			body, err := json.Marshal(spec.Example)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range n.ids {
				path := "/v1/" + def.Plural + "/" + string(id) + "/" + spec.Verb()
				a := n.do(http.MethodPost, path, body, "Idempotency-Key", fmt.Sprint("intruder-", posted))
				if a.StatusCode != http.StatusNotFound {
					t.Errorf("POST %s: status %d: %s", path, a.StatusCode, a.body)
				}
				if told := n.betrays(path, a.body); told != "" {
					t.Errorf("POST %s tells: %s", path, told)
				}
				posted++
			}
		}
	}
	var items []object
	for i, id := range n.ids {
		items = append(items, object{"command": "customer.tag", "id": id, "idempotencyKey": fmt.Sprint("batch-", i), "data": object{"tag": "seen"}})
	}
	a := n.do(http.MethodPost, "/v1/commands", object{"items": items})
	var batch api.BatchResult
	a.into(t, &batch)
	for i, item := range batch.Items {
		if item.Status != http.StatusNotFound {
			t.Errorf("item %d of a batch: %+v", i, item)
		}
	}
	if len(batch.Items) != len(n.ids) {
		t.Errorf("%d items, want %d", len(batch.Items), len(n.ids))
	}
	if n.stack.events() != before {
		t.Error("commands of main have written")
	}
	// The live feed, read up to an event of main's own, which stands behind all that was planted.
	mine := n.command("/v1/customers", "live", `{"kind":"company","name":"Live Ltd"}`)
	n.live("", "after=0", func(_ string, event object) bool {
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		if told := n.betrays("", text); told != "" {
			t.Errorf("the live feed tells: %s", told)
		}
		if event == nil {
			t.Error("the live feed ended before main's own event")
		}
		return event == nil || strings.Contains(string(text), mine.EventIDs[0])
	})
	// What one tenant has, another may have too, under the same key, and references across are unknown.
	own := n.command("/v1/customers", "canary-0", `{"kind":"company","name":"Canary Ltd","email":"canary@canary.example","taxId":"CANARY1"}`)
	if own.ID == n.ids[0] {
		t.Errorf("a key of the neighbour's stands for main: %+v", own)
	}
	a = n.do(http.MethodPost, "/v1/opportunities", `{"name":"Deal","owner":"ann","customerId":"`+string(n.ids[0])+`"}`, "Idempotency-Key", "across")
	if p := a.problem(t); p.Code != "customer-unknown" {
		t.Errorf("a reference across tenants: %s", a.body)
	}
	if visited < 200 || posted < 100 {
		t.Errorf("only %d visits and %d commands", visited, posted)
	}
}

// A tenant that is not served is refused, whatever the route.
func TestUnknownTenantsAreRefused(t *testing.T) {
	s := start(t)
	for _, name := range []string{"other", "MAIN", "../main", "客户"} {
		for _, path := range []string{"/v1/customers", "/v1/events"} {
			a := s.do(http.MethodGet, path, nil, "X-Tenant", name)
			if p := a.problem(t); p.Status != http.StatusBadRequest || p.Errors[0].Pointer != "X-Tenant" {
				t.Errorf("%q %s: %s", name, path, a.body)
			}
		}
	}
}

// counting is a log that counts what is asked of it.
type counting struct {
	commands.EventStore
	asked atomic.Int64
}

func (c *counting) Append(ctx context.Context, stream domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	c.asked.Add(1)
	return c.EventStore.Append(ctx, stream, expected, events)
}

func (c *counting) Read(ctx context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	c.asked.Add(1)
	return c.EventStore.Read(ctx, stream, from)
}

// A caller who may not ask is told so before anything else: not whether the record exists, nor whether the body is right, nor what was
// answered under the key before; and the log is not asked.
func TestAuthorisationComesFirst(t *testing.T) {
	s := start(t)
	log := &counting{EventStore: s.store}
	served := []domain.Tenant{domain.DefaultTenant}
	bus := commands.NewBus(log, commands.Options{Secret: []byte("secret of the tests"), Authorise: func(r commands.Request) error {
		return domain.Caller{Tenant: r.Tenant, Actor: r.Actor}.Admit(served)
	}})
	bus.Register(s.bus.Definitions())
	eve := domain.Actor{ID: "eve", Kind: domain.ActorHuman}
	known := commands.Request{Tenant: domain.DefaultTenant, Actor: eve, Key: "known", Command: customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Known"}}}
	receipt, err := bus.Submit(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	served = []domain.Tenant{"other"} // from here on the receipt is in the cache of a bus that may not show it
	before, tried := log.asked.Load(), 0
	if before == 0 {
		t.Fatal("a command has asked nothing of the log")
	}
	refused := map[string]bool{}
	try := func(req commands.Request) {
		t.Helper()
		for _, dry := range []bool{false, true} {
			req.DryRun = dry
			_, err := bus.Submit(t.Context(), req)
			var forbidden *domain.ForbiddenError
			if !errors.As(err, &forbidden) {
				t.Errorf("%s: %v", req.Command.CommandType(), err)
				continue
			}
			refused[forbidden.Error()] = true
			tried++
		}
	}
	try(known)
	for _, def := range s.bus.Definitions() {
		for _, spec := range def.Commands {
			for _, target := range []domain.ID{receipt.ID, "01900000-0000-7000-8000-00000000abcd"} {
				for _, command := range []domain.Command{spec.Example, reflect.Zero(reflect.TypeOf(spec.Example)).Interface().(domain.Command)} {
					req := commands.Request{Tenant: domain.DefaultTenant, Actor: eve, Key: "known", Target: target, Command: command, IfMatch: new(uint64(7))}
					if spec.Creates {
						req.Target, req.IfMatch = "", nil
					}
					try(req)
				}
			}
		}
	}
	if len(refused) != 1 || tried < 200 {
		t.Errorf("%d refusals of %d kinds: %v", tried, len(refused), refused)
	}
	if n := log.asked.Load() - before; n != 0 {
		t.Errorf("the log was asked %d times", n)
	}
}

// Nobody is admitted but whoever is named and asks for a tenant that is served.
func TestAdmittedAreTheNamedOfServedTenants(t *testing.T) {
	ann := domain.Actor{ID: "ann", Kind: domain.ActorHuman}
	served := []domain.Tenant{"main", "shop"}
	for _, tenant := range []domain.Tenant{"main", "shop", "other", "", "MAIN", "main."} {
		for _, actor := range []domain.Actor{ann, {}, {ID: "ann"}, {Kind: domain.ActorHuman}} {
			err := domain.Caller{Tenant: tenant, Actor: actor}.Admit(served)
			if want := slices.Contains(served, tenant) && actor == ann; (err == nil) != want {
				t.Errorf("%q as %+v: %v", tenant, actor, err)
			}
		}
	}
}
