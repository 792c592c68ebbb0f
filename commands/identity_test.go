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
	b := &Bus{secret: []byte("secret")}
	got, err := b.fingerprintOf(customer.UpdateProfile{Name: new("Ann")}, "01900000-0000-7000-8000-00000000abcd")
	want := fingerprint{keyed: "e2663cd5c83c6abd79d0bf62a50899f2", plain: "127730089b93795622df7c91860f5107"}
	if err != nil || got != want {
		t.Errorf("fingerprint %+v, %v, want %+v", got, err, want)
	}
	if !got.is(want.plain) || !got.is(want.keyed) || got.is("") {
		t.Error("what the log holds of the same command is not recognised")
	}
}
