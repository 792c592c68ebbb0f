package nodetest

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"testing"

	"github.com/rapport-crm/rapport/internal/esnode"
)

// A node is strict when the variable says so, and a program that the test starts is told
// the same manner and seed.
func TestMannerIsChosenByTheEnvironment(t *testing.T) {
	for value, want := range map[string]bool{"": false, "ordinary": false, strict: true, "strict -busy": true} {
		t.Run("manner "+value, func(t *testing.T) {
			t.Setenv(Variable, value)
			if Strict() != want {
				t.Errorf("strict: %v", Strict())
			}
			n := Open(t, esnode.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
			if err := n.Close(); err != nil { // and again behind the test
				t.Fatal(err)
			}
			environ := []string{Variable + "=" + value, fmt.Sprintf("%s=%d", SeedVariable, seed())}
			if !want {
				environ = nil
			}
			if !slices.Equal(Environ(), environ) {
				t.Errorf("a program is told %v", Environ())
			}
		})
	}
}

// Each word leaves out something that is there without it.
func TestMannersCanBeLeftOut(t *testing.T) {
	t.Setenv(Variable, strict)
	all := Manners(1)
	for word := range without {
		t.Setenv(Variable, strict+" "+word)
		if reflect.DeepEqual(Manners(1), all) {
			t.Errorf("%s leaves nothing out", word)
		}
	}
}
