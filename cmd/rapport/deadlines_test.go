package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"

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
