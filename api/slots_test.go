package api_test

import (
	"context"
	"testing"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// TestHeavyQueriesAreBounded keeps one answer in the making for as long as the test wants: meanwhile what else must be made
// from the log is told to come again, and everything else is answered.
func TestHeavyQueriesAreBounded(t *testing.T) {
	past := &slowPast{entered: make(chan struct{}), leave: make(chan struct{})}
	s := start(t, func(o *api.Options) {
		past.Past = o.Past
		o.Past, o.MaxHeavyReads = past, 1
	})
	r := s.command("/v1/customers", "c", person("Ann Example"))
	at := "asOf=" + r.Position.String()
	if a := s.answered("/v1/customers?minPosition=" + r.Position.String()); a.StatusCode != 200 {
		t.Fatalf("of now: %d %s", a.StatusCode, a.body)
	}
	first := make(chan answer, 1)
	go func() { first <- s.do("GET", "/v1/customers?"+at, nil) }()
	<-past.entered
	record := "/v1/customers/" + string(r.ID)
	for _, path := range []string{
		"/v1/customers?" + at, record + "?" + at, record + "/360?" + at, "/v1/funnel?" + at, record + "/history", record + "/replay", record + "/explain?field=name",
	} {
		a := s.do("GET", path, nil)
		if p := a.problem(t); p.Status != 503 || p.Code != "overloaded" || a.Header.Get("Retry-After") != "1" {
			t.Errorf("%s while there is no room: %d %s", path, a.StatusCode, a.body)
		}
	}
	for _, path := range []string{"/v1/customers", record, record + "/timeline", "/v1/events"} {
		if a := s.answered(path); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}
	s.command(record+"/tag", "t", object{"tag": "vip"})
	close(past.leave)
	if a := <-first; a.StatusCode != 200 {
		t.Errorf("the first: %d %s", a.StatusCode, a.body)
	}
	for _, path := range []string{record + "/history", record + "/replay", "/v1/customers?" + at} { // the slot is free again
		if a := s.answered(path); a.StatusCode != 200 {
			t.Errorf("%s afterwards: %d %s", path, a.StatusCode, a.body)
		}
	}
}

// slowPast holds the first who asks for a moment until it is told to let go.
type slowPast struct {
	api.Past
	entered, leave chan struct{}
}

func (p *slowPast) Resolve(ctx context.Context, tenant domain.Tenant, q query.PastQuery) (query.AsOf, error) {
	select {
	case <-p.leave:
	default:
		close(p.entered)
		<-p.leave
	}
	return p.Past.Resolve(ctx, tenant, q)
}
