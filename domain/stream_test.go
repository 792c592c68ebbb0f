package domain_test

import (
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

const someID = "01900000-0000-7000-8000-00000000abcd"

func TestStreamsAreNamedTenantAggregateAndID(t *testing.T) {
	s := domain.StreamID{Tenant: "main", Aggregate: "stock_item", ID: someID}
	if got := s.String(); got != "main.stock_item-"+someID {
		t.Errorf("got %s", got)
	}
	for _, name := range []string{s.String(), "a_1.order-" + someID, strings.Repeat("t", 32) + ".a-" + someID} {
		if got, err := domain.ParseStreamID(name); err != nil || got.String() != name {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
	for _, name := range []string{
		"", "main", "main.customer", ".customer-" + someID, "main.-" + someID, "main.customer-", "Main.customer-" + someID,
		"main.Customer-" + someID, "main.1customer-" + someID, "main.cust.omer-" + someID, "$ce-customer", "main.customer-" + someID + "0",
		"main.customer-" + strings.ReplaceAll(someID, "-", ""), strings.Repeat("t", 33) + ".a-" + someID,
		"main." + strings.Repeat("a", 33) + "-" + someID, "main.customer-01900000-0000-7000-8000-00000000abcg", "main.customer\n-" + someID,
	} {
		if got, err := domain.ParseStreamID(name); !invalid(err) {
			t.Errorf("%q: want it invalid, got %v, %v", name, got, err)
		}
	}
}

func FuzzParseStreamID(f *testing.F) {
	f.Add("main.customer-" + someID)
	f.Add("a.b.c-d-e")
	f.Fuzz(func(t *testing.T, name string) {
		s, err := domain.ParseStreamID(name)
		switch {
		case err != nil && !invalid(err):
			t.Fatalf("%q: %v", name, err)
		case err == nil && s.String() != name:
			t.Fatalf("%q reads as %q", name, s)
		}
	})
}

func TestIDsAreCanonicalUUIDs(t *testing.T) {
	if id, err := domain.ParseID(strings.ToUpper(someID)); err != nil || id != someID {
		t.Errorf("got %s, %v", id, err)
	}
	for _, s := range []string{
		"", "1", someID[1:], someID + "0", "{" + someID[:34] + "}", "urn:uuid:" + someID, strings.ReplaceAll(someID, "-", "_"),
		strings.Replace(someID, "0", "g", 1), strings.Replace(someID, "0", "\x00", 1),
	} {
		if _, err := domain.ParseID(s); !invalid(err) {
			t.Errorf("%q: want it invalid, got %v", s, err)
		}
		var id domain.ID
		if err := id.UnmarshalText([]byte(s)); !invalid(err) {
			t.Errorf("%q: want it invalid as text, got %v", s, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(someID)
	f.Add(strings.ToUpper(someID))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := domain.ParseID(s)
		if err != nil {
			return
		}
		if again, err := domain.ParseID(string(id)); err != nil || again != id || !strings.EqualFold(s, string(id)) {
			t.Fatalf("%q reads as %q", s, id)
		}
	})
}

func TestTenants(t *testing.T) {
	for s, ok := range map[string]bool{
		"main": true, "a": true, "acme_2": true, strings.Repeat("a", 32): true,
		"": false, "Main": false, "a-b": false, "a.b": false, "ä": false, "a\n": false, strings.Repeat("a", 33): false,
	} {
		if got, err := domain.ParseTenant(s); (err == nil) != ok || !ok && !invalid(err) || ok && string(got) != s {
			t.Errorf("%q: got %q, %v", s, got, err)
		}
	}
}
