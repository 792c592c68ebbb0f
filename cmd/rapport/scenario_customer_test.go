package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestA01_CompaniesAsCustomers(t *testing.T) {
	s := scenario(t)
	parent := object{"kind": "company", "name": "云图控股有限公司", "region": "A01", "occurredAt": "2026-01-05T08:00:00Z"}
	holding := s.do("/v1/customers", parent, "Idempotency-Key", "A01-holding")
	child := s.customer(object{"kind": "company", "name": "云图科技", "parentId": holding.ID, "employees": 120, "revenue": money("1200000.50", "CNY")})

	s.clause("registering a company makes one customer with one history", func(s *scene) {
		again := s.do("/v1/customers", parent, "Idempotency-Key", "A01-holding")
		if again.ID != holding.ID || again.Revision != 0 {
			s.t.Errorf("the same registration again made %+v, at first %+v", again, holding)
		}
		history := where(s.history(holding.ID), "stream", "main.customer-"+holding.ID)
		equal(s.t, "history", column(history, "eventType"), "customer.registered")
		s.want(s.get("/v1/customers", "filter", `region == "A01"`, "count", "exact"), "count", 1)
	})
	s.clause("one view shows parent and child companies, contacts and opportunities", func(s *scene) {
		contact := s.do("/v1/contacts", object{"givenName": "静", "familyName": "陈", "links": []object{{"customerId": child, "role": "decider"}}}).ID
		deal := s.do("/v1/opportunities", object{"name": "渲染农场", "customerId": child, "owner": "ann"}).ID
		s.want(s.get("/v1/customers/"+holding.ID+"/360"), "children.0.id", child)
		view := s.get("/v1/customers/" + child + "/360")
		s.want(view, "parent.name", "云图控股有限公司")
		s.want(view, "contacts.0.contactId", contact)
		s.want(view, "contacts.0.role", "decider")
		s.want(view, "openOpportunities.0.id", deal)
	})
	s.notYet("the view shows the company's service cases", "there are no cases")
	s.clause("what only companies have is refused for a person, and nothing is written", func(s *scene) {
		person := s.do("/v1/customers", object{"kind": "person", "name": "A01 Person"})
		for field, value := range map[string]any{
			"employees": 3, "revenue": money("1", "EUR"), "foundedYear": 1999, "industry": "retail", "parentId": holding.ID,
		} {
			code := "field-not-of-kind"
			if field == "parentId" {
				code = "hierarchy-of-companies"
			}
			problem := s.refused("/v1/customers", code, object{"kind": "person", "name": "A01 " + field, field: value})
			s.want(problem, "status", http.StatusUnprocessableEntity)
			s.want(problem, "errors.0.pointer", "/"+field)
			command := map[string]string{"industry": "classify", "parentId": "set-parent"}[field]
			if command == "" {
				command = "update-profile"
			}
			s.refused("/v1/customers/"+person.ID+"/"+command, code, object{field: value})
		}
		s.do("/v1/customers/"+person.ID+"/tag", object{"tag": "A01"}, header("If-Match", person.Revision)...)
		equal(s.t, "customers", column(s.items("/v1/customers", "filter", `name.startsWith("A01 ")`), "name"), "A01 Person")
	})
}

func TestA02_PersonsAsCustomers(t *testing.T) {
	s := scenario(t)
	person := object{"kind": "person", "name": "王小明", "gender": "male", "occupation": "教师", "ageBand": "30-39", "region": "A02", "tags": []string{"会员"}}
	registered := s.do("/v1/customers", person)
	s.customer(object{"kind": "company", "name": "王小明食品", "region": "A02", "tags": []string{"会员"}})
	s.customer(object{"kind": "person", "name": "王大明", "occupation": "医生", "ageBand": "40-49", "region": "A02"})

	s.clause("the command that registers a company registers a person", func(s *scene) {
		equal(s.t, "events", strings.Join(registered.types(), " "), "customer.registered")
		s.want(s.get("/v1/customers/"+registered.ID), "kind", "person")
	})
	s.clause("a person without any company has opportunities and orders", func(s *scene) {
		deal := s.do("/v1/opportunities", object{"name": "家庭影院", "customerId": registered.ID, "owner": "ann"}).ID
		order := s.do("/v1/orders", object{
			"number": "A02-1", "customerId": registered.ID, "opportunityId": deal, "currency": "CNY",
			"lines": []object{{"productCode": "A02-TV", "quantity": "1", "unitPrice": "5999.00"}},
		}).ID
		view := s.get("/v1/customers/" + registered.ID + "/360")
		s.want(view, "openOpportunities.0.id", deal)
		s.want(view, "orders.0.id", order)
		s.want(view, "lifetimeValue.0.net", "5999")
		s.want(view, "parent", "")
	})
	s.notYet("a person has service cases and a membership", "there are no cases and no membership")
	s.clause("customers are selected among persons alone", func(s *scene) {
		for filter, names := range map[string]string{
			`true`:                    "王大明 王小明",
			`occupation == "教师"`:      "王小明",
			`ageBand in ["40-49"]`:    "王大明",
			`"会员" in tags`:            "王小明",
			`gender != "male"`:        "王大明",
			`occupation == "unknown"`: "",
		} {
			found := s.items("/v1/customers", "filter", `region == "A02" && kind == "person" && (`+filter+`)`, "sort", "name")
			got := strings.Fields(column(found, "name"))
			slices.Sort(got)
			want := strings.Fields(names)
			slices.Sort(want)
			if diff := cmp.Diff(want, got, equateEmpty); diff != "" {
				s.t.Errorf("%s: %s", filter, diff)
			}
		}
	})
}

// equateEmpty takes no elements and no list for the same.
var equateEmpty = cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })

func TestA03_GroupsOfCustomers(t *testing.T) {
	s := scenario(t)
	household := s.customer(object{"kind": "group", "name": "李家", "occurredAt": "2024-12-01T00:00:00Z"})
	wife := s.customer(object{"kind": "person", "name": "李娜", "occurredAt": "2024-12-01T00:00:00Z"})
	firm := s.customer(object{"kind": "company", "name": "李记茶庄", "occurredAt": "2024-12-01T00:00:00Z"})
	path := "/v1/customers/" + household
	members := func(s *scene, day string) string {
		s.t.Helper()
		return column(s.items("/v1/customer-relations", "sort", "since", "filter",
			fmt.Sprintf(`kind == "member" && otherId == %q && since <= %q && (until == null || until > %q)`, household, day, day)), "customerId")
	}

	s.clause("a household or an association is a customer that holds members", func(s *scene) {
		s.do(path+"/add-member", object{"memberId": firm, "since": "2025-03-01", "occurredAt": "2025-03-01T00:00:00Z"})
		s.do(path+"/add-member", object{"memberId": wife, "since": "2025-01-01", "occurredAt": "2025-01-01T00:00:00Z"})
		equal(s.t, "members", column(s.get(path + "/360")["members"], "name"), "李娜 李记茶庄")
		s.want(s.get("/v1/customers/"+wife+"/360"), "groups.0.id", household)
		other := s.do("/v1/customers", object{"kind": "group", "name": "A03 Association"})
		s.refused("/v1/customers/"+other.ID+"/add-member", "member-is-group", object{"memberId": household})
		s.do("/v1/customers/"+other.ID+"/tag", object{"tag": "a03"}, header("If-Match", other.Revision)...)
	})
	s.clause("members join and leave on a day, each by an event", func(s *scene) {
		left := s.do(path+"/remove-member", object{"memberId": wife, "until": "2025-06-01", "occurredAt": "2025-06-01T00:00:00Z"})
		equal(s.t, "events", strings.Join(left.types(), " "), "customer.member_removed")
		found := where(s.history(household), "eventType", "customer.member_added")
		equal(s.t, "first days", column(found, "data.since"), "2025-03-01 2025-01-01")
	})
	s.clause("the members of any day can be asked for", func(s *scene) {
		for day, want := range map[string]string{
			"2024-12-31": "", "2025-01-01": wife, "2025-03-01": wife + " " + firm, "2025-05-31": wife + " " + firm, "2025-06-01": firm,
		} {
			equal(s.t, "members on "+day, members(s, day), want)
		}
	})
	s.clause("an earlier membership stays known when a member comes back", func(s *scene) {
		s.do(path+"/add-member", object{"memberId": wife, "since": "2026-02-01", "occurredAt": "2026-02-01T00:00:00Z"})
		equal(s.t, "members now", members(s, "2026-02-01"), firm+" "+wife)
		first := s.items("/v1/customer-relations", "filter", fmt.Sprintf("otherId == %q && until == null", household), "asOf", "2025-02-01T00:00:00Z", "axis", "occurred")
		equal(s.t, "members in the first stay", column(first, "customerId"), wife)
		ended := where(s.history(household), "eventType", "customer.member_removed")
		equal(s.t, "end of the first stay", column(ended, "data.until"), "2025-06-01")
	})
}

func TestA04_OneCustomerOnce(t *testing.T) {
	s := scenario(t)
	const clients = 6
	// oneWins has clients register at once what is the same but for its spelling.
	oneWins := func(s *scene, pointer string, body func(client int) object) {
		s.t.Helper()
		var status [clients]int
		var answer [clients][]byte
		atOnce(clients, func(client int) {
			status[client], answer[client] = s.as(fmt.Sprint("client", client)).send("/v1/customers", body(client))
		})
		winner := ""
		for client := range clients {
			if status[client] == http.StatusCreated {
				if winner != "" {
					s.t.Errorf("two clients have won: %s, %s", winner, answer[client])
				}
				winner = s.keep(answer[client]).ID
			}
		}
		for client := range clients {
			if status[client] == http.StatusCreated {
				continue
			}
			var problem object
			if err := json.Unmarshal(answer[client], &problem); err != nil {
				s.t.Fatal(err)
			}
			s.want(problem, "status", http.StatusConflict)
			s.want(problem, "code", "duplicate")
			s.want(problem, "existingId", winner)
			s.want(problem, "errors.0.pointer", pointer)
		}
	}
	s.clause("of registrations at once with one tax number one wins", func(s *scene) {
		oneWins(s, "/taxId", func(client int) object {
			return object{"kind": "company", "name": fmt.Sprint("A04 Tax ", client), "taxId": []string{"91310000ma1fl04x1a", "9131 0000 MA1F L04X 1A"}[client%2]}
		})
	})
	s.clause("of registrations at once with one name in one region one wins", func(s *scene) {
		oneWins(s, "/name", func(client int) object {
			return object{"kind": "company", "name": []string{"北京 云图 Tech Co., Ltd.", "北京　云图 TECH CO LTD"}[client%2], "region": "A04 华北"}
		})
		s.customer(object{"kind": "company", "name": "北京 云图 Tech Co., Ltd.", "region": "A04 华南"})
	})
	s.clause("of registrations at once with one telephone number one wins", func(s *scene) {
		oneWins(s, "/phone", func(client int) object {
			return []object{
				{"kind": "person", "name": "A04 Phone", "phone": "+86 138 0013 8004"},
				{"kind": "person", "name": "A04 Telephone", "phone": "138-0013-8004", "address": object{"country": "CN"}},
			}[client%2]
		})
	})
	s.clause("of registrations at once with one e-mail address one wins", func(s *scene) {
		oneWins(s, "/email", func(client int) object {
			return object{"kind": "person", "name": fmt.Sprint("A04 Mail ", client), "email": []string{"wang@a04.example", "WANG@A04.example"}[client%2]}
		})
	})
	s.clause("the refusal names the customer that has the value", func(s *scene) {
		holder := s.customer(object{"kind": "company", "name": "A04 Holder", "email": "holder@a04.example", "taxId": "A04-1"})
		other := s.do("/v1/customers", object{"kind": "company", "name": "A04 Other"})
		for _, problem := range []object{
			s.refused("/v1/customers", "duplicate", object{"kind": "company", "name": "A04 New", "email": "Holder@A04.example", "taxId": "a04 1"}),
			s.refused("/v1/customers/"+other.ID+"/update-profile", "duplicate", object{"email": "HOLDER@a04.example"}),
		} {
			s.want(problem, "existingId", holder)
			s.want(s.get("/v1/customers/"+said(problem, "existingId")), "name", "A04 Holder")
		}
		s.do("/v1/customers/"+other.ID+"/tag", object{"tag": "a04"}, header("If-Match", other.Revision)...)
	})
}

func TestA05_ContactsOfCustomersAndOpportunities(t *testing.T) {
	s := scenario(t)
	customer := s.customer(object{"kind": "company", "name": "A05 Acme"})
	deal := s.do("/v1/opportunities", object{"name": "A05", "customerId": customer, "owner": "ann"}).ID
	roles := []string{"decider", "user", "influencer"}
	var contacts []string
	for i, role := range roles {
		contacts = append(contacts, s.do("/v1/contacts", object{
			"familyName": fmt.Sprint("A05 ", i), "links": []object{{"customerId": customer, "role": role, "since": "2025-01-01"}},
		}).ID)
	}

	s.clause("a customer has any number of contacts, each in a role", func(s *scene) {
		list := s.get("/v1/customers/" + customer + "/360")["contacts"]
		for i, contact := range contacts {
			s.want(only(list, "contactId", contact), "role", roles[i])
		}
		s.do("/v1/contacts/"+contacts[1]+"/change-role", object{"customerId": customer, "role": "buyer", "since": "2025-05-01"})
		link := s.items("/v1/contact-links", "filter", fmt.Sprintf("contactId == %q", contacts[1]))
		s.want(link, "0.role", "buyer")
		equal(s.t, "parts", column(dig(link, "0.parts"), "role"), "user buyer")
	})
	s.clause("an opportunity has any number of contacts, each in a role", func(s *scene) {
		for i, contact := range contacts {
			s.do("/v1/opportunities/"+deal+"/add-stakeholder", object{"contactId": contact, "role": roles[i]})
		}
		list := s.get("/v1/opportunities/" + deal)["stakeholders"]
		for i, contact := range contacts {
			s.want(only(list, "contactId", contact), "role", roles[i])
		}
	})
	s.clause("a contact that leaves a customer ends the link and keeps the history", func(s *scene) {
		before := s.do("/v1/customers/"+customer+"/tag", object{"tag": "a05"}).Position.String()
		s.do("/v1/contacts/"+contacts[0]+"/unlink-customer", object{"customerId": customer, "until": "2025-09-30", "reason": "离职"})
		view := "/v1/customers/" + customer + "/360"
		if only(s.get(view)["contacts"], "contactId", contacts[0]) != nil {
			s.t.Error("the contact is still there")
		}
		if only(s.get(view, "asOf", before)["contacts"], "contactId", contacts[0]) == nil {
			s.t.Error("the contact was not there before")
		}
		s.want(s.get("/v1/contacts/"+contacts[0]), "links.0.until", "2025-09-30")
		if len(where(s.history(customer), "eventType", "contact.customer_unlinked")) != 1 {
			s.t.Error("the history does not say that the contact left")
		}
	})
	s.clause("a contact that leaves an opportunity ends the part and keeps the history", func(s *scene) {
		s.do("/v1/opportunities/"+deal+"/remove-stakeholder", object{"contactId": contacts[2]})
		part := only(s.get("/v1/opportunities/" + deal)["stakeholders"], "contactId", contacts[2])
		s.want(part, "role", "influencer")
		if dig(part, "until") == nil {
			s.t.Errorf("the part has not ended: %v", part)
		}
		if len(where(s.history(customer), "eventType", "opportunity.stakeholder_added")) != len(contacts) {
			s.t.Error("the history does not say who had a part")
		}
	})
}

func TestA06_BasicInformationOfAPerson(t *testing.T) {
	s := scenario(t)
	person := s.customer(object{
		"kind": "person", "name": "赵敏", "birthDate": "1984-02-29", "gender": "female", "phone": "+8613800138006", "email": "Zhao@a06.example",
		"occurredAt": "2020-01-01T00:00:00Z",
	})
	path := "/v1/customers/" + person

	s.clause("the day of birth is kept, and the age follows from the day asked about", func(s *scene) {
		s.want(s.get(path), "birthDate", "1984-02-29")
		for at, age := range map[string]int{"2021-02-28T23:59:59Z": 36, "2021-03-01T00:00:00Z": 37, "2024-02-28T12:00:00Z": 39, "2024-02-29T00:00:00Z": 40} {
			s.want(s.get(path+"/360", "asOf", at, "axis", "occurred"), "age", age)
		}
	})
	s.clause("each field that changes is one event, with the old and the new value in the history", func(s *scene) {
		changed := s.do(path+"/update-profile", object{
			"name": "赵敏儿", "gender": "undisclosed", "phone": "+86 138 0013 8806", "email": "MIN@a06.example", "birthDate": "1984-02-28",
		})
		equal(s.t, "events", len(changed.Events), 5)
		history := s.history(person)
		for field, values := range map[string][2]string{
			"name": {"赵敏", "赵敏儿"}, "gender": {"female", "undisclosed"}, "phone": {"+8613800138006", "+8613800138806"},
			"email": {"zhao@a06.example", "min@a06.example"}, "birthDate": {"1984-02-29", "1984-02-28"},
		} {
			found := 0
			for _, entry := range history {
				change := only(dig(entry, "changes"), "field", field)
				if !slices.Contains(changed.EventIDs, said(entry, "eventId")) || change == nil {
					continue
				}
				found++
				s.want(change, "from", values[0])
				s.want(change, "to", values[1])
				s.want(entry, "actor.id", "ann")
			}
			equal(s.t, "events that changed "+field, found, 1)
		}
	})
	s.clause("name, gender, telephone number and e-mail address are read and changed at any time", func(s *scene) {
		for i, name := range []string{"赵小敏", "赵敏"} {
			phone, email := fmt.Sprint("+861380013870", i), fmt.Sprint("zhao", i, "@a06.example")
			s.do(path+"/update-profile", object{"name": name, "gender": "other", "phone": phone, "email": email})
			now := s.get(path)
			s.want(now, "name", name)
			s.want(now, "gender", "other")
			s.want(now, "phone", phone)
			s.want(now, "email", email)
		}
		s.do(path+"/update-profile", object{"clear": []string{"email", "gender"}})
		s.want(s.get(path), "email", "")
		s.want(s.get(path), "gender", "")
	})
}

func TestA07_ACustomersProfileInFull(t *testing.T) {
	s := scenario(t)
	customer := s.customer(object{"kind": "person", "name": "孙丽"})
	path := "/v1/customers/" + customer
	order := s.do("/v1/orders", object{
		"number": "A07-1", "customerId": customer, "currency": "CNY",
		"lines": []object{{"productCode": "A07-TEA", "description": "绿茶", "quantity": "2", "unitPrice": "88.00"}},
	})
	preference := s.do(path+"/set-preference", object{"name": "茶", "value": "绿茶", "evidence": order.EventIDs})
	s.do(path+"/record-feedback", object{"polarity": "praise", "topic": "包装", "text": "包装很漂亮"})

	s.clause("one view shows orders, preferences and feedback", func(s *scene) {
		view := s.get(path + "/360")
		s.want(view, "orders.0.number", "A07-1")
		s.want(view, "profile.preferences.0.value", "绿茶")
		s.want(view, "feedback.0.text", "包装很漂亮")
		s.want(view, "feedback.0.polarity", "praise")
	})
	s.clause("a preference names the events that show it, and they are in the history", func(s *scene) {
		shown := dig(s.get(path+"/360"), "profile.preferences.0")
		s.want(shown, "eventId", preference.EventIDs[0])
		history := s.history(customer)
		s.want(only(history, "eventId", said(shown, "evidence.0")), "eventType", "order.placed")
		s.want(only(history, "eventId", said(shown, "eventId")), "eventType", "customer.preference_set")
	})
}

func TestA08_DepartmentsShareWhatTheyKnow(t *testing.T) {
	s := scenario(t)
	customer := s.customer(object{"kind": "company", "name": "A08 Acme"})
	s.notYet("one view has what marketing, sales and service know", "marketing and service have no records of their own")
	s.notYet("the view shows what the caller may see", "callers have no rights")
	s.clause("a complaint that service records is seen by sales as soon as its receipt is", func(s *scene) {
		service, sales := s.as("service"), s.as("sales")
		complaint := service.do("/v1/customers/"+customer+"/record-feedback", object{"polarity": "complaint", "topic": "交货", "text": "晚了两天"})
		view := sales.get("/v1/customers/" + customer + "/360")
		s.want(view, "feedback.0.topic", "交货")
		s.want(view, "feedback.0.actor", "service")
		s.want(view, "feedback.0.eventId", complaint.EventIDs[0])
		s.want(sales.get("/v1/customers/"+customer+"/timeline"), "items.0.eventType", "customer.feedback_recorded")
	})
}

func TestA09_WhoCalls(t *testing.T) {
	s := scenario(t)
	s.clause("a caller's number in E.164 finds the customer, however it was written when it was recorded", func(s *scene) {
		for i, written := range []string{"138 0013 8019", "+86 138 0013 8029", "+86-138-0013-8039", "0086 13800138049", "+86 (138) 0013.8059"} {
			customer := s.customer(object{"kind": "person", "name": fmt.Sprint("A09 caller ", i), "phone": written, "address": object{"country": "CN"}})
			caller := fmt.Sprintf("+86138001380%d9", i+1)
			equal(s.t, "customers with "+caller, column(s.items("/v1/customers", "phone", caller), "id"), customer)
			equal(s.t, "who calls from "+caller, column(s.items("/v1/customers/by-phone", "phone", caller), "customerId"), customer)
		}
		equal(s.t, "customers with another number", column(s.items("/v1/customers", "phone", "+8613800138099"), "id"), "")
	})
	s.clause("a number of several returns them all, the one dealt with last first", func(s *scene) {
		var customers []string
		for i, at := range []string{"2026-02-01T10:00:00Z", "2026-03-01T10:00:00Z", "2026-01-01T10:00:00Z"} {
			customer := s.customer(object{"kind": "company", "name": fmt.Sprint("A09 ", i)})
			s.do("/v1/contacts", object{"familyName": fmt.Sprint("A09 ", i), "phone": "+493012345609", "links": []object{{"customerId": customer, "role": "user"}}})
			s.do("/v1/interactions", object{"customerId": customer, "channel": "phone", "direction": "inbound", "startedAt": at})
			customers = append(customers, customer)
		}
		never := s.customer(object{"kind": "company", "name": "A09 never", "phone": "+49 30 12345609"})
		found := s.get("/v1/customers/by-phone", "phone", "+493012345609")["items"]
		equal(s.t, "callers", column(found, "customerId"), strings.Join([]string{customers[1], customers[0], customers[2], never}, " "))
	})
	s.clause("the customer is found through an index", func(s *scene) {
		r, err := (stores{Data: s.data}).running()
		if err != nil {
			s.t.Fatal(err)
		}
		conn, err := pgx.Connect(s.t.Context(), r.Postgres)
		if err != nil {
			s.t.Fatal(err)
		}
		defer conn.Close(s.t.Context())
		// Few rows are read faster without an index: what is shown is that there is one.
		if _, err := conn.Exec(s.t.Context(), "set enable_seqscan = off"); err != nil {
			s.t.Fatal(err)
		}
		rows, err := conn.Query(s.t.Context(), "explain select id from rapport.customer where tenant = 'main' and phone = '+8613800138009'")
		if err != nil {
			s.t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			s.t.Fatal(err)
		}
		if plan := strings.Join(lines, "\n"); !strings.Contains(plan, "phone") || strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Index Cond") {
			s.t.Errorf("plan:\n%s", plan)
		}
	})
}

func TestA11_HandoverToAColleague(t *testing.T) {
	s := scenario(t)
	var customers []string
	for i := range 3 {
		customers = append(customers, s.customer(object{"kind": "company", "name": fmt.Sprint("A11 ", i), "owner": "a11-leaver"}))
	}
	deal := s.do("/v1/opportunities", object{"name": "A11", "customerId": customers[0], "owner": "a11-leaver"}).ID
	s.do("/v1/customers/"+customers[1]+"/record-commitment", object{"text": "寄样品", "due": "2027-01-31", "by": "a11-leaver"})
	for day := range 12 {
		s.do("/v1/interactions", object{
			"customerId": customers[day%3], "channel": "phone", "direction": "outbound",
			"subject": fmt.Sprint(day), "startedAt": fmt.Sprintf("2026-03-%02dT10:00:00Z", day+1),
		})
	}

	s.clause("the customers of a colleague are handed over in one request", func(s *scene) {
		var items []object
		for _, c := range s.items("/v1/customers", "filter", `owner == "a11-leaver"`) {
			items = append(items, object{
				"command": "customer.transfer_ownership", "id": dig(c, "id"), "idempotencyKey": "A11-" + said(c, "id"),
				"data": object{"from": "a11-leaver", "to": "a11-successor", "reason": "离职交接"},
			})
		}
		status, text := s.send("/v1/commands", object{"items": items}, "Idempotency-Key", "") // each item has its own
		var result object
		if err := json.Unmarshal(text, &result); err != nil || status != http.StatusOK {
			s.t.Fatalf("status %d: %s", status, text)
		}
		s.want(result, "accepted", len(customers))
		s.keep(text)
		equal(s.t, "customers of the successor", len(s.items("/v1/customers", "filter", `owner == "a11-successor"`)), len(customers))
		equal(s.t, "customers of the leaver", len(s.items("/v1/customers", "filter", `owner == "a11-leaver"`)), 0)
		owners := s.items("/v1/customer-owners", "filter", fmt.Sprintf("customerId == %q", customers[0]), "sort", "revision")
		equal(s.t, "owners", column(owners, "owner"), "a11-leaver a11-successor")
	})
	s.clause("the new owner sees the whole timeline of each customer", func(s *scene) {
		s = s.as("a11-successor")
		for i, customer := range customers {
			line := s.items("/v1/customers/"+customer+"/timeline", "sort", "position")
			s.want(line, "0.eventType", "customer.registered")
			s.want(line[len(line)-1], "eventType", "customer.ownership_transferred")
			equal(s.t, fmt.Sprint("dealings with customer ", i), len(where(line, "eventType", "interaction.logged")), 4)
		}
	})
	s.clause("a digest lists open deals, open promises and the last ten contacts", func(s *scene) {
		digest := s.get("/v1/handover", "owner", "a11-successor")
		s.want(digest, "customers", len(customers))
		equal(s.t, "open deals", column(digest["openOpportunities"], "id"), deal)
		equal(s.t, "open promises", column(digest["openCommitments"], "text"), "寄样品")
		equal(s.t, "last contacts", column(digest["lastContacts"], "subject"), "11 10 9 8 7 6 5 4 3 2")
	})
	s.notYet("the digest lists open cases", "there are no cases")
}

func TestA12_WhatWasPromised(t *testing.T) {
	s := scenario(t)
	path := func(customer string) string { return "/v1/customers/" + customer }
	acme, other := s.customer(object{"kind": "company", "name": "A12 Acme"}), s.customer(object{"kind": "company", "name": "A12 Other"})
	promise := func(s *scene, customer, text, due, by string) string {
		s.t.Helper()
		s.do(path(customer)+"/record-commitment", object{"commitmentId": text, "text": text, "due": due, "by": by, "occurredAt": "2026-01-10T09:00:00Z"})
		return text
	}
	open := func(s *scene, filter string) string {
		s.t.Helper()
		return column(s.items("/v1/commitments", "filter", `status == "open" && `+filter, "sort", "due"), "text")
	}
	promise(s, acme, "kept", "2026-01-31", "a12-ann")
	promise(s, acme, "broken", "2026-01-31", "a12-ann")
	promise(s, acme, "late", "2026-02-01", "a12-ann")
	promise(s, acme, "ahead", "2999-01-01", "a12-bob")
	promise(s, other, "other", "2026-02-02", "a12-bob")

	s.clause("a promise has a text, a day and who gave it, and is later kept or broken", func(s *scene) {
		kept := s.do(path(acme)+"/keep-commitment", object{"commitmentId": "kept", "note": "已寄出"})
		broken := s.do(path(acme)+"/break-commitment", object{"commitmentId": "broken", "reason": "供应商延误"})
		equal(s.t, "events", strings.Join(append(kept.types(), broken.types()...), " "), "customer.commitment_kept customer.commitment_broken")
		s.refused(path(acme)+"/keep-commitment", "commitment-closed", object{"commitmentId": "broken"})
		s.do(path(acme)+"/tag", object{"tag": "a12"}, header("If-Match", broken.Revision)...)
		list := s.items("/v1/commitments", "filter", fmt.Sprintf("customerId == %q", acme))
		s.want(only(list, "text", "kept"), "status", "kept")
		s.want(only(list, "text", "kept"), "note", "已寄出")
		s.want(only(list, "text", "broken"), "status", "broken")
		s.want(only(list, "text", "late"), "due", "2026-02-01")
		s.want(only(list, "text", "late"), "by", "a12-ann")
	})
	s.clause("open promises are listed by customer and by colleague", func(s *scene) {
		equal(s.t, "to the customer", open(s, fmt.Sprintf("customerId == %q", acme)), "late ahead")
		equal(s.t, "by the colleague", open(s, `by == "a12-bob"`), "other ahead")
		equal(s.t, "in the view", column(s.get(path(acme) + "/360")["openCommitments"], "text"), "late ahead")
	})
	s.clause("overdue promises are listed by customer and by colleague", func(s *scene) {
		overdue := fmt.Sprintf("due < %q && ", today())
		equal(s.t, "to the customer", open(s, overdue+fmt.Sprintf("customerId == %q", acme)), "late")
		equal(s.t, "by the colleague", open(s, overdue+`by == "a12-bob"`), "other")
		s.want(s.get(path(acme)+"/360"), "overdueCommitments", 1)
	})
}

func TestA13_WhoIsWhoAtTheCustomer(t *testing.T) {
	s := scenario(t)
	customer := s.customer(object{"kind": "company", "name": "A13 Acme"})
	contact := func(name string) string {
		return s.do("/v1/contacts", object{
			"familyName": name, "links": []object{{"customerId": customer, "role": "user", "since": "2024-01-01"}}, "occurredAt": "2024-01-01T00:00:00Z",
		}).ID
	}
	boss, clerk, rival := contact("吴总"), contact("小吴"), contact("A13 Rival")
	path := "/v1/contacts/" + clerk
	graph := func(s *scene, day string) string {
		s.t.Helper()
		return column(s.items("/v1/contact-relations", "sort", "kind", "filter",
			fmt.Sprintf(`contactId == %q && since <= %q && (until == null || until > %q)`, clerk, day, day)), "kind")
	}

	s.clause("contacts report to, influence and block each other", func(s *scene) {
		for kind, other := range map[string]string{"reports-to": boss, "influences": rival, "blocks": rival} {
			s.do(path+"/relate", object{"contactId": other, "kind": kind, "since": "2025-01-01", "occurredAt": "2025-01-01T00:00:00Z"})
		}
		relations := s.get("/v1/contacts/" + clerk)["relations"]
		s.want(only(relations, "kind", "reports-to"), "otherId", boss)
		s.want(only(relations, "kind", "influences"), "otherId", rival)
		s.want(only(relations, "kind", "blocks"), "otherId", rival)
		s.want(s.get("/v1/contacts/"+boss), "relations.0.contactId", clerk)
	})
	s.clause("each relation begins and ends on a day", func(s *scene) {
		s.do(path+"/unrelate", object{"contactId": boss, "kind": "reports-to", "until": "2025-07-01", "occurredAt": "2025-07-01T00:00:00Z"})
		s.do(path+"/relate", object{"contactId": boss, "kind": "reports-to", "since": "2026-01-01", "occurredAt": "2026-01-01T00:00:00Z"})
		found := s.items("/v1/contact-relations", "sort", "since", "filter", fmt.Sprintf(`contactId == %q && kind == "reports-to"`, clerk))
		equal(s.t, "first days", column(found, "since"), "2025-01-01 2026-01-01")
		s.want(found, "0.until", "2025-07-01")
	})
	s.clause("the relations of any day can be asked for", func(s *scene) {
		for day, want := range map[string]string{
			"2024-12-31": "", "2025-06-30": "blocks influences reports-to", "2025-07-01": "blocks influences", "2026-01-01": "blocks influences reports-to",
		} {
			equal(s.t, "relations on "+day, graph(s, day), want)
			seen := s.items("/v1/contact-relations", "sort", "kind", "asOf", day+"T12:00:00Z", "axis", "occurred",
				"filter", fmt.Sprintf("contactId == %q && until == null", clerk))
			equal(s.t, "relations as of "+day, column(seen, "kind"), want)
		}
	})
}

func TestA14_PastTransactions(t *testing.T) {
	s := scenario(t)
	customer := s.customer(object{"kind": "company", "name": "A14 Acme", "occurredAt": "2026-01-01T00:00:00Z"})
	deal := s.do("/v1/opportunities", object{"name": "机房改造", "customerId": customer, "owner": "ann", "amount": money("900", "CNY"), "occurredAt": "2026-01-02T00:00:00Z"}).ID
	for _, step := range []struct {
		command string
		body    object
	}{
		{"move-stage", object{"stage": "proposal"}}, {"re-estimate", object{"amount": money("1000.10", "CNY")}},
		{"lose", object{"reason": "price"}}, {"reopen", object{"stage": "negotiation"}}, {"win", object{}},
	} {
		s.do("/v1/opportunities/"+deal+"/"+step.command, step.body)
	}
	order := s.do("/v1/orders", object{
		"number": "A14-1", "customerId": customer, "opportunityId": deal, "currency": "CNY",
		"lines": []object{{"productCode": "A14", "quantity": "4", "unitPrice": "250.025"}},
	}).ID
	for _, step := range []struct {
		command string
		body    object
	}{
		{"confirm", object{}}, {"receive-payment", object{"paymentId": "1", "amount": money("600.10", "CNY")}}, {"ship", object{}}, {"deliver", object{}},
		{"return-goods", object{"reason": "损坏", "lines": []object{{"line": 1, "quantity": "1"}}}},
		{"receive-payment", object{"paymentId": "2", "amount": money("200", "CNY")}},
		{"refund-payment", object{"refundId": "1", "paymentId": "2", "amount": money("50", "CNY"), "reason": "多付"}},
	} {
		s.do("/v1/orders/"+order+"/"+step.command, step.body)
	}

	s.clause("the history of an order replays step by step", func(s *scene) {
		steps := s.items("/v1/orders/" + order + "/replay")
		equal(s.t, "states", column(steps, "state.status"), "placed confirmed confirmed shipped delivered delivered delivered delivered")
		equal(s.t, "outstanding", column(steps, "state.outstanding"), "1000.1 1000.1 400 400 400 149.975 -50.025 -0.025")
	})
	s.clause("the history of an opportunity replays step by step", func(s *scene) {
		steps := s.items("/v1/opportunities/" + deal + "/replay")
		equal(s.t, "states", column(steps, "state.status"), "open open open lost open won")
		equal(s.t, "stages", column(steps, "state.stage"), "prospecting proposal proposal proposal negotiation negotiation")
		equal(s.t, "amounts", column(steps, "state.amount"), "900 900 1000.1 1000.1 1000.1 1000.1")
	})
	s.clause("the events together give the state of now", func(s *scene) {
		for _, record := range []string{"/v1/orders/" + order, "/v1/opportunities/" + deal, "/v1/customers/" + customer} {
			now := record
			if strings.HasPrefix(record, "/v1/customers/") {
				now += "/360"
			}
			steps := s.items(record + "/replay")
			last := dig(steps[len(steps)-1], "state")
			for member, value := range s.get(now) {
				if diff := cmp.Diff(value, dig(last, member)); diff != "" {
					s.t.Errorf("%s, %s of now against that after the last event: %s", record, member, diff)
				}
			}
		}
	})
}

func TestA16_HierarchiesInRules(t *testing.T) {
	s := scenario(t)
	s.notYet("rules of assignment and sums use companies above and groups of products", "there are no rules of assignment")
	s.clause("a company that would belong to itself is refused", func(s *scene) {
		var companies []made
		for i := range 3 {
			companies = append(companies, s.do("/v1/customers", object{"kind": "company", "name": fmt.Sprint("A16 ", i)}))
		}
		under := func(child, parent int) string { return "/v1/customers/" + companies[child].ID + "/set-parent" }
		s.do(under(1, 0), object{"parentId": companies[0].ID})
		s.do(under(2, 1), object{"parentId": companies[1].ID})
		for _, parent := range companies {
			s.refused(under(0, 0), "hierarchy-cycle", object{"parentId": parent.ID})
		}
		s.do("/v1/customers/"+companies[0].ID+"/tag", object{"tag": "a16"}, header("If-Match", companies[0].Revision)...)

		left, right := s.customer(object{"kind": "company", "name": "A16 left"}), s.customer(object{"kind": "company", "name": "A16 right"})
		var status [2]int
		atOnce(2, func(client int) {
			pair := []string{left, right}
			status[client], _ = s.send("/v1/customers/"+pair[client]+"/set-parent", object{"parentId": pair[1-client]})
		})
		slices.Sort(status[:])
		equal(s.t, "answers to both at once", fmt.Sprint(status), fmt.Sprint([]int{http.StatusOK, http.StatusUnprocessableEntity}))
	})
}

func TestA90_Feedback(t *testing.T) {
	s := scenario(t)
	customer := s.customer(object{"kind": "person", "name": "A90 Person"})
	s.clause("praise, complaints and suggestions are events with a topic", func(s *scene) {
		for _, polarity := range []string{"praise", "complaint", "suggestion"} {
			said := s.do("/v1/customers/"+customer+"/record-feedback", object{"polarity": polarity, "topic": "A90 " + polarity, "text": "服务"})
			equal(s.t, "events", strings.Join(said.types(), " "), "customer.feedback_recorded")
		}
		found := s.items("/v1/feedback", "filter", fmt.Sprintf("customerId == %q", customer), "sort", "position")
		equal(s.t, "feedback", column(found, "polarity"), "praise complaint suggestion")
		s.want(found, "1.topic", "A90 complaint")
	})
	s.notYet("the trend is shown by product and step", "feedback belongs to no product and no step")
}

func TestA98_EveryChannel(t *testing.T) {
	s := scenario(t)
	customer := s.customer(object{"kind": "person", "name": "A98 Person"})
	s.clause("telephone, fax, e-mail, web, internet telephony and video conference are channels", func(s *scene) {
		channels := []string{"phone", "fax", "e-mail", "web", "voip", "video"}
		for i, channel := range channels {
			s.do("/v1/interactions", object{
				"customerId": customer, "channel": channel, "direction": "inbound", "startedAt": fmt.Sprintf("2026-01-%02dT10:00:00Z", i+1),
			})
		}
		found := s.items("/v1/interactions", "filter", fmt.Sprintf("customerId == %q", customer), "sort", "startedAt")
		equal(s.t, "channels", column(found, "channel"), strings.Join(channels, " "))
	})
	s.notYet("a conversation that changes channels stays one thread", "there are no threads")
}
