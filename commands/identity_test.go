package commands

import (
	"testing"

	"github.com/rapport-crm/rapport/domain/party/customer"
)

// What the log holds was named so: it must be named so for ever.
func TestNamesStay(t *testing.T) {
	if got, want := derive(commandSpace, "main", "ada", "k1"), "fee62d64-0e8c-5757-b807-cb14ac9547e1"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
	got, err := fingerprint(customer.UpdateProfile{Name: new("Ann")}, "01900000-0000-7000-8000-00000000abcd")
	if want := "127730089b93795622df7c91860f5107"; err != nil || got != want {
		t.Errorf("fingerprint %s, %v, want %s", got, err, want)
	}
}
