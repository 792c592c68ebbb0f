package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/readmodels/party"
)

// A server whose user lacks a right says which, and works as soon as an administrator has granted it.
func TestServerOfAUserWorksOnceGranted(t *testing.T) {
	t.Parallel()
	certificate, authority := nodetest.Certificate(t, "127.0.0.1")
	manners := nodetest.Manners(1)
	manners.Busy = 0 // an administrator who is told that the node is busy grants again
	manners.Certificate = certificate
	manners.Users = []esnode.User{{Name: "admin", Password: "changeit", Admin: true}, {Name: "crm", Password: "hidden"}}
	node, err := esnode.Open(t.Context(), esnode.Options{Dir: t.TempDir(), Strict: manners, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	as := func(user string) string { return "esdb://" + user + "@" + node.Addr() + "?tlsCaFile=" + authority }
	secret := strings.Repeat("5a", secretBytes)
	serving := []string{"serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--postgres", pgtest.Database(t), "--secret", secret, "--eventstore"}
	for user, want := range map[string]string{"crm:hidden": "the user may not read $all", "crm:wrong": "the user or the password is wrong"} {
		if code, _, said := verb(t, append(serving, as(user))...); code == exitDone || !strings.Contains(said, want) || strings.Contains(said, "hidden") {
			t.Errorf("serve as %s ended with %d: %s", user, code, said)
		}
	}
	if code, said, _ := verb(t, "log", "grant", "crm", "--eventstore", as("crm:hidden")); code == exitDone {
		t.Errorf("a user has granted a right to itself: %s", said)
	}
	for _, want := range []string{"crm may read $all now", "crm may read $all already"} {
		if code, said, _ := verb(t, "log", "grant", "crm", "--eventstore", as("admin:changeit")); code != exitDone || !strings.Contains(said, want) {
			t.Errorf("log grant ended with %d and said %q, want %q", code, said, want)
		}
	}

	s := serve(t, "--eventstore", as("crm:hidden"), "--secret", secret)
	registered, err := command(t.Context(), s.url, "/v1/customers", "1", `{"kind":"company","name":"Anvil Works"}`)
	if err != nil {
		t.Fatal(err)
	}
	got := get[party.Customer](s, "/v1/customers/"+string(registered.ID), "minPosition", registered.Position.String())
	equal(t, "name", got.Name, "Anvil Works")
}
