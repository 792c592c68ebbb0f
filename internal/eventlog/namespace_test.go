package eventlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/esnode"
)

func TestNamespaces(t *testing.T) {
	for given, ok := range map[string]bool{
		"rapport": true, "crm_2": true, "a": true, strings.Repeat("n", 32): true,
		"": false, "main": false, "Rapport": false, "a.b": false, "a-b": false, "$a": false, "ü": false, "a\n": false, strings.Repeat("n", 33): false,
	} {
		got, err := ParseNamespace(given)
		var invalid *domain.InvalidError
		if ok != (err == nil) || ok && got != given || !ok && !errors.As(err, &invalid) {
			t.Errorf("%q: %q, %v", given, got, err)
		}
	}
	if _, err := Dial(t.Context(), "esdb://127.0.0.1:1?tls=false", WithNamespace("a.b")); err == nil {
		t.Error("dialled with a namespace that is none")
	}
}

// Two installations share a store: each has its own identity, and sees nothing of the other.
func TestInstallationsInOneStoreSeeNothingOfEachOther(t *testing.T) {
	at := address(t)
	names := []string{"one", "two", "on"} // the last begins like the first
	logs := map[string]*ESDB{}
	ids := map[string]string{}
	stream := newStream() // the same name in all
	for i, name := range names {
		log := dial(t, at, WithNamespace(name))
		logs[name] = log
		id, err := log.ID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for other, known := range ids {
			if known == id {
				t.Errorf("%s and %s have one identity", name, other)
			}
		}
		ids[name] = id
		commit(t, log, stream, domain.NoStream, newEvents(i+1)...)
	}
	for i, name := range names {
		log := logs[name]
		for what, got := range map[string]int{
			"stream": len(all(t, log.ReadStream(t.Context(), stream, 0))),
			"all":    len(all(t, log.ReadAll(t.Context(), domain.Position{}))),
		} {
			if got != i+1 {
				t.Errorf("%s: %d events of %s, want %d", name, got, what, i+1)
			}
		}
		newest := all(t, log.ReadAll(t.Context(), domain.Position{}))[i]
		if h := head(t, log); h != markOf(newest) {
			t.Errorf("%s: head %+v, want %+v", name, h, markOf(newest))
		}
	}
}

// strangers are names of streams of other applications.
var strangers = []string{
	"order-1", "rapport", "rapport-" + uuid.NewString(), "rapports.main.customer-" + uuid.NewString(), "Rapport.main.customer-1",
	"main.customer-" + uuid.NewString(), "other.main.customer-" + uuid.NewString(), ".main.customer-1", "客户-1", "a b\tc", "xrapport.main.test-1",
}

// What others write is never delivered, whatever it is called and whatever it holds.
func TestStrangersAreNotDelivered(t *testing.T) {
	at := address(t)
	log := dial(t, at)
	var want []string
	stream, expected := newStream(), domain.NoStream
	for i, name := range strangers {
		for j, e := range []esdb.EventData{
			{EventType: "customer.registered", ContentType: esdb.ContentTypeJson, Data: []byte(`{}`)},
			{EventType: "x", ContentType: esdb.ContentTypeBinary, Data: []byte{0xff, 0}, Metadata: []byte("no json")},
		} {
			e.EventID = uuid.New()
			other(t, at, name+fmt.Sprint(i, j), e)
		}
		events := newEvents(1)
		expected = domain.AtRevision(commit(t, log, stream, expected, events...).Revision)
		want = append(want, events[0].ID)
		if h := head(t, log); h.ID != events[0].ID {
			t.Errorf("head %+v, want %s", h, events[0].ID)
		}
	}
	other(t, at, "last-1", happenings(3)...)
	if h := head(t, log); h.ID != want[len(want)-1] {
		t.Errorf("head %+v, want the last of ours", h)
	}
	ids := func(what string, got []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	var read, followed []string
	for _, raw := range all(t, log.ReadAll(t.Context(), domain.Position{})) {
		read = append(read, raw.ID)
	}
	for m, err := range log.Subscribe(t.Context(), domain.Mark{}) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Raw != nil {
			followed = append(followed, m.Raw.ID)
		}
		if m.CaughtUp {
			break
		}
	}
	ids("read", read)
	ids("followed", followed)
}

// former makes a log as it was before there were namespaces, with one event of the tenant main, and returns its node.
func former(t *testing.T) (*esnode.Node, string) {
	t.Helper()
	node, err := esnode.Open(t.Context(), esnode.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	stream := "main.customer-" + uuid.NewString()
	write(t, official(t, node.ConnectionString()), stream, esdb.NoStream{}, happenings(1)...)
	return node, stream
}

func TestLogOfBeforeThereWereNamespacesGoesOn(t *testing.T) {
	node, stream := former(t)
	client := official(t, node.ConnectionString())
	write(t, client, "main.report", esdb.NoStream{}, happenings(2)...) // a stranger's name begins like ours
	log := dial(t, node.ConnectionString())
	if id, err := log.ID(t.Context()); err != nil || id != node.LogID() {
		t.Errorf("identity %s, %v, want %s", id, err, node.LogID())
	}
	commit(t, log, stream, domain.AtRevision(0), newEvents(1)...)
	if got := all(t, log.ReadAll(t.Context(), domain.Position{})); len(got) != 2 || got[0].Stream != stream || got[1].Stream != stream {
		t.Errorf("read %+v", got)
	}
	refused, ok := log.Append(t.Context(), "acme.customer-"+uuid.NewString(), domain.NoStream, newEvents(1)).(domain.Refused)
	if !ok || !strings.Contains(fmt.Sprint(refused.Err), "rapport log copy") {
		t.Errorf("a second tenant: %+v", refused)
	}
	// Another installation begins a log of its own beside it.
	other := dial(t, node.ConnectionString(), WithNamespace("other"))
	if id, err := other.ID(t.Context()); err != nil || id == node.LogID() {
		t.Errorf("the other's identity is %s, %v", id, err)
	}
	if got := all(t, other.ReadAll(t.Context(), domain.Position{})); len(got) != 0 {
		t.Errorf("the other reads %+v", got)
	}
}

// A log of before to which nothing was written gets a namespace, and keeps its identity: read models may know it by that.
func TestEmptyLogOfBeforeKeepsItsIdentity(t *testing.T) {
	node, err := esnode.Open(t.Context(), esnode.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	log := dial(t, node.ConnectionString())
	i, err := log.Identity(t.Context())
	if err != nil || i.ID != node.LogID() || i.Namespace != DefaultNamespace {
		t.Errorf("identity %+v, %v, want %s", i, err, node.LogID())
	}
}

func TestOtherSecretIsRefused(t *testing.T) {
	at := address(t)
	name := "n" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20] // an external node keeps what earlier runs wrote
	if _, err := dial(t, at, WithNamespace(name), WithSecret([]byte("a"))).ID(t.Context()); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]error{"a": nil, "": nil, "b": ErrOtherSecret} {
		options := []Option{WithNamespace(name)}
		if given != "" {
			options = append(options, WithSecret([]byte(given)))
		}
		if _, err := dial(t, at, options...).ID(t.Context()); !errors.Is(err, want) {
			t.Errorf("secret %q: %v, want %v", given, err, want)
		}
	}
}
