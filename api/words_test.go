package api_test

import (
	"testing"
)

// TestEventsAreToldInTheLanguageAskedFor: every answer that tells events follows Accept-Language, and says which language it
// chose.
func TestEventsAreToldInTheLanguageAskedFor(t *testing.T) {
	s := start(t)
	id := s.command("/v1/customers", "c", object{"kind": "company", "name": "Acme", "owner": "ann"}).ID
	path := "/v1/customers/" + string(id)
	last := s.command(path+"/transfer-ownership", "t", object{"from": "ann", "to": "bob"})
	const english, chinese = "Handed over from ann to bob", "由ann移交给bob"
	answers := []string{
		path + "/timeline?sort=position&" + at(last.Position), path + "/history", path + "/replay", path + "/explain?field=/profile/owner",
	}
	for header, want := range map[string][2]string{
		"":                        {"en", english},
		"en":                      {"en", english},
		"de, fr;q=0.5":            {"en", english},
		"zh":                      {"zh", chinese},
		"zh-CN,zh;q=0.9,en;q=0.8": {"zh", chinese},
		"zh-Hant-TW":              {"zh", chinese},
		"en;q=0.2, zh;q=0.8":      {"zh", chinese},
		"de, en;q=0.9, zh;q=0.1":  {"en", english},
		"; ,q=nonsense":           {"en", english},
	} {
		for _, path := range answers {
			a := s.do("GET", path, nil, "Accept-Language", header)
			var body struct{ Items, Events []object }
			a.into(t, &body)
			events := append(body.Items, body.Events...)
			if len(events) == 0 {
				t.Fatalf("%s: %d %s", path, a.StatusCode, a.body)
			}
			if got := a.Header.Get("Content-Language"); got != want[0] || events[len(events)-1]["summary"] != want[1] {
				t.Errorf("%s for %q: in %q, %v", path, header, got, events[len(events)-1]["summary"])
			}
		}
	}
	if a := s.get("/v1/customers", &listed{}); a.Header.Get("Content-Language") != "" {
		t.Error("a list without words names a language")
	}
	var timeline listed
	s.get(path+`/timeline?filter=members.to==%22bob%22`, &timeline)
	if len(timeline.Items) != 1 || timeline.Items[0]["members"].(object)["from"] != "ann" {
		t.Errorf("members are facts that are filtered by: %v", timeline.Items)
	}
}
