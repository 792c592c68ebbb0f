package api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// TestAsOfTheHeadEveryAnswerIsTheLiveOne asks every query of the API on both axes, which are one when everything is recorded
// when it happens.
func TestAsOfTheHeadEveryAnswerIsTheLiveOne(t *testing.T) {
	clock := newHands()
	w := newWriter(t, startAt(t, clock.time), clock)
	w.prompt = true
	for range 80 {
		w.step()
	}
	w.last = w.caughtUp()
	for _, q := range w.queries() {
		status, live := w.ask(q)
		for _, moment := range []string{"asOf=" + w.last.String(), "asOf=" + clock.time().Format(time.RFC3339Nano), "axis=recorded&asOf=" + w.last.String()} {
			if again, body := w.ask(q + moment); again != status || !bytes.Equal(body, live) {
				t.Errorf("GET %s%s: %d, live %d: %s", q, moment, again, status, difference(live, body))
			}
		}
		again, restated := w.ask(q + "axis=occurred&asOf=" + clock.time().Format(time.RFC3339Nano))
		restated = bytes.ReplaceAll(restated, []byte(`"axis":"occurred"`), []byte(`"axis":"recorded"`)) // of a funnel's definition
		if again != status || !bytes.Equal(restated, live) {
			t.Errorf("GET %s restated: %d, live %d: %s", q, again, status, difference(live, restated))
		}
	}
}

// TestABackDatedEntryChangesWhatIsRestatedAndNotWhatWasKnown holds both axes of time apart.
func TestABackDatedEntryChangesWhatIsRestatedAndNotWhatWasKnown(t *testing.T) {
	clock := newHands()
	s := startAt(t, clock.time)
	if err := s.bus.Prime(t.Context(), domain.DefaultTenant); err != nil {
		t.Fatal(err)
	}
	acme := s.command("/v1/customers", "c", object{"kind": "company", "name": "Acme", "owner": "ann"}).ID
	deal := s.command("/v1/opportunities", "o", object{"name": "Deal", "customerId": acme, "owner": "ann", "amount": object{"amount": "100", "currency": "EUR"}}).ID
	clock.move(24 * time.Hour)
	yesterday := clock.time()
	clock.move(24 * time.Hour)
	s.caughtUp()
	reports := []string{
		"/v1/customers/" + string(acme) + "/360?", "/v1/customers/" + string(acme) + "/timeline?", "/v1/customers/" + string(acme) + "/history?",
		"/v1/interactions?", "/v1/opportunities?", "/v1/opportunities/" + string(deal) + "?", "/v1/opportunities/board?",
		"/v1/funnel?mode=any&", "/v1/stage-visits?", "/v1/handover?owner=ann&",
	}
	asKnown, restated := "asOf="+yesterday.Format(time.RFC3339), "axis=occurred&asOf="+yesterday.Format(time.RFC3339)
	ask := func(moment string) map[string][]byte {
		answers := map[string][]byte{}
		for _, r := range reports {
			a := s.answered(r + moment)
			if a.StatusCode != http.StatusOK {
				t.Fatalf("%s%s: %d %s", r, moment, a.StatusCode, a.body)
			}
			answers[r] = positions.ReplaceAll(a.body, nil)
		}
		return answers
	}
	before := ask(asKnown)
	ask(restated)
	dated := yesterday.Add(-time.Hour).Format(time.RFC3339)
	s.command("/v1/interactions", "i", object{"customerId": acme, "channel": "phone", "direction": "inbound", "subject": "Back-dated", "startedAt": dated, "occurredAt": dated})
	late := s.command("/v1/opportunities/"+string(deal)+"/win", "w", object{"amount": object{"amount": "90", "currency": "EUR"}, "occurredAt": dated})
	s.get("/v1/opportunities/"+string(deal)+"?"+at(late.Position), &object{})
	known, now := ask(asKnown), ask(restated)
	for _, r := range reports {
		if !bytes.Equal(before[r], known[r]) {
			t.Errorf("%s as known yesterday has changed: %s", r, difference(before[r], known[r]))
		}
		if bytes.Equal(before[r], now[r]) {
			t.Errorf("%s restated for yesterday does not know the entry: %s", r, now[r])
		}
	}
	history := "/v1/customers/" + string(acme) + "/history?"
	for _, id := range late.EventIDs {
		if bytes.Contains(known[history], []byte(id)) || !bytes.Contains(now[history], []byte(id)) {
			t.Errorf("the entry %s is not what tells the two histories apart:\n%s\n%s", id, known[history], now[history])
		}
	}
	// Restated with what was known yesterday is what was known yesterday: nothing was dated back by then.
	both := ask(restated + "&knownAt=" + yesterday.Format(time.RFC3339))
	for _, r := range reports {
		if want := bytes.ReplaceAll(before[r], []byte(`"axis":"recorded"`), []byte(`"axis":"occurred"`)); !bytes.Equal(want, both[r]) {
			t.Errorf("%s restated by what was known: %s", r, difference(want, both[r]))
		}
	}
}

// TestAnEventNamesItsPlaceEverywhere holds that the id of an event, which every log keeps, leads to the answers of its
// position, which is another one in a log that was restored or copied.
func TestAnEventNamesItsPlaceEverywhere(t *testing.T) {
	s := start(t)
	ann := s.command("/v1/customers", "c1", person("Ann"))
	s.command("/v1/products", "p", object{"code": "X", "name": "Anvil"}) // in no timeline
	path := "/v1/customers/" + string(ann.ID)
	s.command(path+"/tag", "t", object{"tag": "new"})
	last := s.command("/v1/customers", "c2", person("Ben"))
	s.answered("/v1/customers?" + at(last.Position))
	var events []domain.Recorded
	for e, err := range s.store.ReadAll(t.Context(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	for _, e := range events {
		for _, query := range []string{
			path + "?asOf=", path + "/360?asOf=", path + "/explain?field=tags&asOf=", "/v1/customers?sort=name&limit=1&asOf=",
			"/v1/customers?axis=occurred&asOf=" + url.QueryEscape(time.Now().UTC().Format(time.RFC3339Nano)) + "&knownAt=",
			path + "/history?after=", path + "/replay?after=", "/v1/events?after=", "/v1/events?limit=1&after=",
			"/v1/events?stream=" + events[0].Stream.String() + "&after=",
		} {
			byPosition, byID := s.do("GET", query+e.Position.String(), nil), s.do("GET", query+e.ID, nil)
			if byID.StatusCode != byPosition.StatusCode || !bytes.Equal(anonymous(byID.body), anonymous(byPosition.body)) {
				t.Errorf("%s: event %s at %s: %d %s, by its position %d %s", query, e.ID, e.Position, byID.StatusCode, byID.body, byPosition.StatusCode, byPosition.body)
			}
		}
		lines := func(after string) []byte {
			return s.do("GET", "/v1/events", nil, "Accept", "application/x-ndjson", "Last-Event-ID", after).body
		}
		if byPosition, byID := lines(e.Position.String()), lines(e.ID); !bytes.Equal(byPosition, byID) {
			t.Errorf("after %s: %s, by its position %s", e.ID, byID, byPosition)
		}
	}
	for _, query := range []string{path + "?asOf=", path + "/history?after=", path + "/replay?after=", "/v1/events?after="} {
		if p := s.do("GET", query+string(ann.ID), nil).problem(t); p.Status != 400 || !strings.Contains(p.Detail, "names no event") {
			t.Errorf("%s of what is no event: %+v", query, p)
		}
	}
	if p := s.do("GET", path+"?axis=occurred&asOf="+events[0].ID, nil).problem(t); p.Status != 400 {
		t.Errorf("an event on the axis of time: %+v", p)
	}
}

// correlations stand in problems, one for each request.
var correlations = regexp.MustCompile(`"correlationId":"[^"]*"`)

func anonymous(body []byte) []byte { return correlations.ReplaceAll(body, nil) }

// TestAPagedListAsOfThePastShowsOneState pages while commands go on, by time and restated, where everything written later
// would otherwise be seen.
func TestAPagedListAsOfThePastShowsOneState(t *testing.T) {
	clock := newHands()
	s := startAt(t, clock.time)
	for i := range 9 {
		s.command("/v1/customers", fmt.Sprint("c", i), person(fmt.Sprint("Person ", i)))
	}
	moment := clock.time().Format(time.RFC3339)
	s.caughtUp()
	for _, axis := range []string{"recorded", "occurred"} {
		var names []string
		next := "/v1/customers?sort=name&limit=4&axis=" + axis + "&asOf=" + moment
		for page := 0; next != ""; page++ {
			var part listed
			a := s.get(next, &part)
			for _, item := range part.Items {
				names = append(names, item["name"].(string))
			}
			if part.Next != "" && page == 0 {
				for _, other := range []string{"", "&axis=occurred&asOf=2026-02-01T00:00:00Z", "&asOf=1"} {
					p := s.do("GET", "/v1/customers?sort=name&cursor="+url.QueryEscape(part.Next)+other, nil).problem(t)
					if p.Status != 400 || p.Code != "cursor-invalid" {
						t.Errorf("a cursor of axis %s asOf %s with %q: %+v", axis, moment, other, p)
					}
				}
				var live listed
				s.get("/v1/customers?sort=name&limit=4", &live)
				if p := s.do("GET", "/v1/customers?sort=name&asOf="+moment+"&cursor="+url.QueryEscape(live.Next), nil).problem(t); p.Code != "cursor-invalid" {
					t.Errorf("a live cursor: %+v", p)
				}
			}
			r := s.command("/v1/customers", fmt.Sprint(axis, page), person(fmt.Sprint("Person 5", axis, page)))
			s.get("/v1/customers/"+string(r.ID)+"?"+at(r.Position), &object{})
			next, _, _ = strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
		}
		own := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return len(n) > len("Person 0") && !strings.Contains(n, "recorded") })
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) || len(own) != len(names) {
			t.Errorf("axis %s: %v", axis, names)
		}
	}
}

func TestMomentsThatCannotBeAnsweredAreRefused(t *testing.T) {
	clock := newHands()
	s := startAt(t, clock.time)
	r := s.command("/v1/customers", "c", person("Ann"))
	s.caughtUp()
	later := url.QueryEscape(clock.time().Add(time.Second).Format(time.RFC3339))
	for query, pointer := range map[string]string{
		"asOf=yesterday": "asOf", "asOf=2026-02-01": "asOf", "asOf=-1": "asOf", "asOf=" + later: "asOf", "asOf=9999999": "asOf",
		"asOf=12026-01-01T00:00:00Z": "asOf", "axis=occurred": "asOf", "axis=occurred&asOf=1": "asOf", "axis=both": "axis", "knownAt=1": "knownAt",
		"asOf=1&knownAt=1": "knownAt", "axis=occurred&asOf=2026-02-01T00:00:00Z&knownAt=x": "knownAt",
		"asOf=0001-01-01T00:00:00Z": "asOf", "axis=occurred&asOf=0001-01-01T00:00:00Z": "asOf", // which Go takes for no time
		"axis=occurred&asOf=2026-02-01T00:00:00Z&knownAt=0001-01-01T00:00:00Z": "knownAt",
		"axis=occurred&asOf=2026-02-01T00:00:00Z&knownAt=9999999":              "knownAt", "axis=occurred&asOf=2026-02-01T00:00:00Z&knownAt=" + later: "knownAt",
	} {
		for _, route := range []string{"/v1/customers?", "/v1/customers/" + string(r.ID) + "?", "/v1/funnel?"} {
			p := s.do("GET", route+query, nil).problem(t)
			if p.Status != 400 || p.Errors[0].Pointer != pointer {
				t.Errorf("%s%s: %+v", route, query, p)
			}
		}
	}
	if a := s.do("GET", "/v1/customers/"+string(r.ID)+"?asOf=0", nil); a.problem(t).Code != "not-found" {
		t.Errorf("before everything: %s", a.body)
	}
}

// TestARecordAsOfThePastHasItsRevision holds what a conditional request may rest on.
func TestARecordAsOfThePastHasItsRevision(t *testing.T) {
	clock := newHands()
	s := startAt(t, clock.time)
	first := s.command("/v1/customers", "c", person("Ann"))
	clock.move(time.Hour)
	second := s.command("/v1/customers/"+string(first.ID)+"/update-profile", "u", object{"name": "Anna"})
	path := "/v1/customers/" + string(first.ID) + "?" + at(second.Position)
	then := s.answered(path+"&asOf="+first.Position.String(), "If-None-Match", `"1"`)
	if then.StatusCode != 200 || then.Header.Get("ETag") != `"0"` || then.Header.Get("X-As-Of-Position") != first.Position.String() ||
		then.Header.Get("X-As-Of-Time") != "2026-03-01T08:00:00Z" || !bytes.Contains(then.body, []byte(`"name":"Ann"`)) {
		t.Errorf("then: %d %v %s", then.StatusCode, then.Header, then.body)
	}
	if a := s.answered(path+"&asOf="+first.Position.String(), "If-None-Match", `"0"`); a.StatusCode != 304 {
		t.Errorf("the revision of then is known: %d", a.StatusCode)
	}
	restated := s.answered(path+"&axis=occurred&asOf=2026-03-01T08:00:00Z", "If-None-Match", "*")
	if restated.StatusCode != 200 || restated.Header.Get("ETag") != "" || restated.Header.Get("X-As-Of-Axis") != "occurred" {
		t.Errorf("restated: %d %v", restated.StatusCode, restated.Header)
	}
	now := s.answered(path)
	if now.Header.Get("X-As-Of-Axis") != "recorded" || now.Header.Get("X-As-Of-Time") != "" || now.Header.Get("ETag") != `"1"` {
		t.Errorf("now: %v", now.Header)
	}
}

// TestTheLabelsOfThenAreShown holds that what queries join is of the same moment: the names of a pipeline's stages.
func TestTheLabelsOfThenAreShown(t *testing.T) {
	clock := newHands()
	s := startAt(t, clock.time)
	stages := func(name string) []object {
		return []object{{"key": "q", "name": name, "probability": 10}}
	}
	p := s.command("/v1/pipelines", "p", object{"name": "Sales", "stages": stages("Question")})
	clock.move(time.Hour)
	revised := s.command("/v1/pipelines/"+string(p.ID)+"/revise", "r", object{"name": "Verkauf", "stages": stages("Frage"), "mapping": []object{{"from": "q", "to": "q"}}})
	s.caughtUp()
	for query, want := range map[string]string{"asOf=" + p.Position.String(): "Question", at(revised.Position): "Frage"} {
		for _, route := range []string{"/v1/opportunities/board", "/v1/funnel"} {
			a := s.answered(route + "?pipelineId=" + string(p.ID) + "&" + query)
			if a.StatusCode != 200 || !bytes.Contains(a.body, []byte(`"name":"`+want+`"`)) {
				t.Errorf("%s?%s: %d %s", route, query, a.StatusCode, a.body)
			}
		}
	}
	if a := s.do("GET", "/v1/funnel?asOf="+domain.Position{}.String(), nil); a.StatusCode != 404 {
		t.Errorf("the pipeline %s before it was: %d", pipeline.DefaultID, a.StatusCode)
	}
}

// TestAPipelineIsOlderThanItsDeals restates deals that happened before the system was there, as an import brings them.
func TestAPipelineIsOlderThanItsDeals(t *testing.T) {
	clock := newHands()
	s := startAt(t, clock.time)
	if err := s.bus.Prime(t.Context(), domain.DefaultTenant); err != nil {
		t.Fatal(err)
	}
	deal := s.command("/v1/opportunities", "o", object{"name": "Deal", "owner": "ann", "occurredAt": "2016-10-20T00:00:00Z"}).ID
	s.command("/v1/opportunities/"+string(deal)+"/win", "w", object{"amount": object{"amount": "90", "currency": "EUR"}, "occurredAt": "2016-12-20T00:00:00Z"})
	s.caughtUp()
	for moment, want := range map[string][]int64{"2016-10-01": {0, 0}, "2016-11-01": {1, 0}, "2017-01-01": {1, 1}} {
		var f sales.Funnel
		a := s.get("/v1/funnel?mode=reached&axis=occurred&asOf="+moment+"T00:00:00Z", &f)
		if len(f.Stages) < 2 || f.Stages[0].Count != want[0] || f.Stages[len(f.Stages)-1].Count != want[1] {
			t.Errorf("funnel of %s: %d %s", moment, a.StatusCode, a.body)
		}
	}
	var board sales.Board
	s.get("/v1/opportunities/board?axis=occurred&asOf=2016-11-01T00:00:00Z", &board)
	if board.Columns[0].Count != 1 {
		t.Errorf("board: %+v", board)
	}
	if a := s.do("GET", "/v1/funnel?asOf=2016-11-01T00:00:00Z", nil); a.problem(t).Status != 404 {
		t.Errorf("as known then there was no pipeline: %s", a.body)
	}
}
