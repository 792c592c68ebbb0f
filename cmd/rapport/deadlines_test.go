package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/work"
)

var looks = regexp.MustCompile(`rapport_due_jobs_total\{job="deadlines",outcome="done"\} ([0-9]+)`)

// looked waits until the timer has looked for what is due twice more: once that began after now, at least.
func (s *server) looked() {
	s.t.Helper()
	count := func() string {
		response, err := http.Get(s.url + "/metrics")
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			s.t.Fatal(err)
		}
		found := looks.FindStringSubmatch(string(text))
		if found == nil {
			s.t.Fatal("the metrics lack the job")
		}
		return found[1]
	}
	for range 2 {
		for before := count(); before == count() && s.t.Context().Err() == nil; {
		}
	}
}

// The first user of deadlines: a promise whose day is over is said to be overdue once, however late that is noticed, whatever is
// looked at again or built anew; one that was settled, or whose day is ahead, is not.
func TestServerTellsOnceThatACommitmentIsOverdue(t *testing.T) {
	s := &scene{server: serve(t), script: &script{name: t.Name()}, actor: "ann"}
	path := "/v1/customers/" + s.customer(object{"kind": "company", "name": "Acme"})
	promise := func(id, due string) {
		s.do(path+"/record-commitment", object{"occurredAt": "2020-01-01T09:00:00Z", "commitmentId": id, "text": "call", "due": due, "by": "ann"})
	}
	promise("late", "2020-01-02")
	promise("ahead", "2999-01-01")
	check := func() {
		t.Helper()
		overdue := s.items("/v1/commitments", "filter", `overdueAt != null`)
		if len(overdue) != 1 {
			t.Fatalf("overdue are %v", overdue)
		}
		s.want(overdue[0], "commitmentId", "late")
		s.want(overdue[0], "overdueAt", "2020-01-03T00:00:00Z")
		s.want(overdue[0], "status", party.CommitmentOpen)
		n := 0
		for _, e := range get[query.List[query.HistoryEntry]](s.server, path+"/history", "limit", "200").Items {
			if e.EventType == "customer.commitment_overdue" {
				n++
				if got := e.OccurredAt.Format("2006-01-02T15:04:05Z"); got != "2020-01-03T00:00:00Z" || !e.OccurredAt.Before(e.RecordedAt) {
					t.Errorf("it occurred at %s, was recorded at %s", got, e.RecordedAt)
				}
			}
		}
		if n != 1 {
			t.Errorf("it was said %d times", n)
		}
		states := map[string]string{}
		for _, d := range get[query.List[work.Deadline]](s.server, "/v1/deadlines").Items {
			states[d.Key] = d.State
		}
		if got := fmt.Sprint(states); got != fmt.Sprint(map[string]string{"late": work.DeadlineFired, "ahead": work.DeadlineWaiting}) {
			t.Errorf("the deadlines are %s", got)
		}
	}
	s.looked()
	s.catchUp()
	check()
	diagnostics := newBuffer()
	if code := run(t.Context(), []string{"projections", "rebuild", "deadline", "--wait", "--data", s.data}, newBuffer(), diagnostics); code != exitDone {
		t.Fatalf("rebuild ended with %d: %s", code, diagnostics)
	}
	s.looked()
	s.catchUp()
	check()
}

// The second user of deadlines: an interaction's follow-up is told once in each tenant, whichever of two timers does the work, and
// again when it was put off after that.
func TestServersRemindOfFollowUpsOnceInEachTenant(t *testing.T) {
	t.Parallel()
	of := stores{Data: t.TempDir(), Namespace: eventlog.DefaultNamespace, Postgres: pgtest.Database(t)}
	tenants := []tenantName{"main", "acme"}
	front := startProcess(t, serveCommand{stores: of, Roles: []string{roleAPI}, Tenants: tenants}, nil)
	timers := []*served{
		startProcess(t, serveCommand{stores: of, Roles: []string{roleProjector, roleTimer}, Tenants: tenants}, nil),
		startProcess(t, serveCommand{stores: of, Roles: []string{roleTimer}, Tenants: tenants[:1]}, nil), // it wakes what is due in all of them
	}
	send := func(tenant tenantName, path, key string, body object) (r api.Receipt) {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(front.post(path, string(text), "X-Tenant", string(tenant), "Idempotency-Key", key), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	// told waits until a tenant has a number of reminders, and holds that it has no more.
	told := func(tenant tenantName, want int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			text, status := front.text("/v1/events?types=interaction.follow_up_due", "X-Tenant", string(tenant))
			if n := strings.Count(text, `"type":"interaction.follow_up_due"`); n > want || ctx.Err() != nil {
				t.Fatalf("%s: %d reminders, want %d: %d %s", tenant, n, want, status, text)
			} else if n == want {
				return
			}
		}
	}
	interactions := map[tenantName]string{}
	for _, tenant := range tenants {
		customer := send(tenant, "/v1/customers", "customer", object{"kind": "person", "name": "王小明"})
		logged := send(tenant, "/v1/interactions", "interaction", object{
			"occurredAt": "2020-01-01T09:00:00Z", "customerId": customer.ID, "channel": "phone", "direction": "outbound", "followUpAt": "2020-01-08T09:00:00Z",
		})
		interactions[tenant] = "/v1/interactions/" + string(logged.ID)
	}
	for _, tenant := range tenants {
		told(tenant, 1)
	}
	if err := timers[0].stop(); err != nil { // with its projector
		t.Error(err)
	}
	startProcess(t, serveCommand{stores: of, Roles: []string{roleProjector}, Tenants: tenants}, nil)
	for _, at := range []string{"2020-01-07T09:00:00Z", "2020-01-09T09:00:00Z"} { // the earlier moment has been told already
		for _, tenant := range tenants {
			send(tenant, interactions[tenant]+"/correct", "put-off-"+at[:10], object{"followUpAt": at, "reason": "other day"})
		}
	}
	for _, tenant := range tenants {
		told(tenant, 2)
	}
}
