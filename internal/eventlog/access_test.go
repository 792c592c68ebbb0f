package eventlog

import (
	"context"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/nodetest"
)

// works does everything with a log that a server does.
func works(t *testing.T, at string) {
	t.Helper()
	log := dial(t, at)
	if err := log.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	if _, err := log.ID(t.Context()); err != nil {
		t.Errorf("identity: %v", err)
	}
	stream, events := newStream(), newEvents(3)
	done, err := persist(t.Context(), log, stream, domain.NoStream, events...)
	if err != nil {
		t.Fatal(err)
	}
	if got := all(t, log.ReadStream(t.Context(), stream, 0)); len(got) != len(events) {
		t.Errorf("the stream has %d events, want %d", len(got), len(events))
	}
	last := domain.Mark{Position: done.Position, ID: events[2].ID}
	if h := head(t, log); h != last {
		t.Errorf("the head is %v, want %v", h, last)
	}
	if got := all(t, log.ReadAll(t.Context(), domain.Position{})); len(got) < len(events) || got[len(got)-1].ID != last.ID {
		t.Errorf("%d events in all, the last of which is not the one appended", len(got))
	}
	if err := log.Check(t.Context(), last); err != nil {
		t.Errorf("check: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for m, err := range log.Subscribe(ctx, domain.Mark{}) {
		if err != nil {
			t.Fatalf("subscribe: %v", err)
		}
		if m.Raw != nil && m.Raw.ID == last.ID {
			break
		}
	}
}

// A node and a cluster with TLS are used by whoever trusts them; every other way is told what is wrong.
func TestLogOverTLS(t *testing.T) {
	certificate, authority := nodetest.Certificate(t, "127.0.0.1")
	_, another := nodetest.Certificate(t, "127.0.0.1")
	n := openStrict(t, &esnode.Strict{Offsets: true, NoIdentity: true, Certificate: certificate, Follower: true, FollowerLag: 24 * time.Hour})
	for name, addresses := range map[string]string{
		"leader": n.Addr(), "follower": n.FollowerAddr(), "cluster": n.Addr() + "," + n.FollowerAddr(),
	} {
		t.Run(name, func(t *testing.T) {
			works(t, "esdb://"+addresses+"?tlsCaFile="+authority)
			works(t, "esdb://"+addresses+"?tlsVerifyCert=false")
			expectCause(t, "esdb://"+addresses+"?tlsCaFile="+another, ErrNotTrusted)
			expectCause(t, "esdb://"+addresses, ErrNotTrusted)
			expectCause(t, "esdb://"+addresses+"?tls=false", ErrSpeaksTLS)
		})
	}
}

// What is missing to a user is named; the administrator grants it, and everything works.
func TestLogOfAUser(t *testing.T) {
	certificate, authority := nodetest.Certificate(t, "127.0.0.1")
	n := openStrict(t, &esnode.Strict{Offsets: true, NoIdentity: true, Certificate: certificate, Follower: true, Users: []esnode.User{
		{Name: "admin", Password: "changeit", Admin: true},
		{Name: "crm", Password: "secret"},
		{Name: "auditor", Password: "secret", ReadAll: true, NoWrite: []string{DefaultNamespace + "."}},
		{Name: "other", Password: "secret"},
	}})
	as := func(user string) string { return "esdb://" + user + "@" + n.Addr() + "?tlsCaFile=" + authority }
	expectCause(t, as("crm:wrong"), ErrWrongPassword)
	expectCause(t, as("nobody:secret"), ErrWrongPassword)
	expectCause(t, as("crm:secret"), ErrMayNotRead)
	expectCause(t, as("auditor:secret"), ErrMayNotWrite)
	expectCause(t, "esdb://"+n.Addr()+"?tlsCaFile="+authority, ErrMayNotRead)

	if _, err := dial(t, as("crm:secret")).GrantReading(t.Context(), "crm"); err == nil {
		t.Error("a user has granted a right to itself")
	}
	if changed, err := dial(t, as("admin:changeit")).GrantReading(t.Context(), "crm"); err != nil || !changed {
		t.Fatalf("changed %t, %v", changed, err)
	}
	works(t, as("crm:secret"))
	n.ChangeLeader()
	works(t, as("crm:secret"))
	works(t, as("admin:changeit"))
	expectCause(t, as("other:secret"), ErrMayNotRead)
}
