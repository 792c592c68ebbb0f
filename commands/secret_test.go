package commands_test

import (
	"fmt"
	"iter"
	"testing"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// claims yields the claims of a store, in no order.
func claims(w *world) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, events := range w.store.of("reservation") {
			for _, e := range events {
				if _, ok := e.Event.(domain.ReservationClaimed); ok && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// The secret of a log is told from others by the values that are held, whatever became of others meanwhile.
func TestSecretIsProvedByTheLog(t *testing.T) {
	w := newWorld()
	right := w.bus()
	wrong := commands.NewBus(w.store, commands.Options{Clock: w.clock.Now, Secret: []byte("another")})
	wrong.Register([]domain.Definition{members.Definition()})
	proofs := func(when string, ofRight, ofWrong commands.SecretProof) {
		t.Helper()
		for name, c := range map[string]struct {
			bus  *commands.Bus
			want commands.SecretProof
		}{"right": {right, ofRight}, "wrong": {wrong, ofWrong}} {
			if got, err := c.bus.ProveSecret(t.Context(), claims(w)); err != nil || got != c.want {
				t.Errorf("%s, the %s secret: %v, %v, want %v", when, name, got, err, c.want)
			}
		}
	}
	proofs("an empty log", commands.SecretUntold, commands.SecretUntold)

	// A claim whose command never completed names a record that is not there.
	id := domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: domain.ReservationName, ID: domain.ID(uuid.NewString())}
	orphan := domain.ReservationClaimed{Aggregate: "member", ID: domain.ID(uuid.NewString()), Kind: "handle", CommandID: uuid.NewString()}
	w.store.Append(t.Context(), id, domain.NoStream, []domain.Pending{{ID: uuid.NewString(), Event: orphan}})
	proofs("a claim of nobody", commands.SecretUntold, commands.SecretUntold)

	first := submit(t, right, request("k", "", join{Handle: "Ann"})).ID
	proofs("one value", commands.SecretProved, commands.SecretRefuted)
	for i := range 5 {
		submit(t, right, request(fmt.Sprint("r", i), first, rename{Handle: fmt.Sprint("Ann", i)}))
	}
	proofs("a value that was changed", commands.SecretProved, commands.SecretRefuted)
}
