package commands

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain/customer"
)

// What the log holds was named so: it must be named so for ever.
func TestDerivedIDsAreUUIDv5(t *testing.T) {
	for _, parts := range [][]string{{""}, {"main", "ada", "k1"}, {"a", "bc"}, {"ab", "c"}, {strings.Repeat("ä", 300), "", "x"}} {
		if got, want := derive(commandSpace, parts...), uuid.NewSHA1(commandSpace, []byte(strings.Join(parts, "\x00"))).String(); got != want {
			t.Errorf("%q: got %s, want %s", parts, got, want)
		}
	}
}

func TestFingerprintsStay(t *testing.T) {
	got, err := fingerprint(customer.UpdateProfile{Name: new("Ann")}, "01900000-0000-7000-8000-00000000abcd")
	if want := "127730089b93795622df7c91860f5107"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
