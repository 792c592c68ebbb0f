package commands

import (
	"context"
	"iter"

	"github.com/rapport-crm/rapport/domain"
)

// secretSamples is how many claims of values that are held now are tried against a secret.
const secretSamples = 1000

// SecretProof is what a log tells of the secret that its reservations are named with.
type SecretProof int

// Proofs.
const (
	SecretUntold  SecretProof = iota // nothing in the log depends on the secret
	SecretProved                     // a value that is held is reserved under the name that the secret gives it
	SecretRefuted                    // values are held, and none that was tried is reserved under the name that the secret gives it
)

// ProveSecret finds out from the log whether the bus has the secret that reservations are named with, for logs that were
// begun before they noted it. It looks for the claim of a value that its holder still has: the name of the claim's stream
// follows from the value and the secret. Claims are the events domain.ReservationClaimed of the log, in any order.
func (b *Bus) ProveSecret(ctx context.Context, claims iter.Seq2[domain.Recorded, error]) (SecretProof, error) {
	proof, tried := SecretUntold, 0
	for r, err := range claims {
		if err != nil {
			return proof, err
		}
		claim, ok := r.Event.(domain.ReservationClaimed)
		holder := b.aggregates[claim.Aggregate]
		if !ok || holder == nil {
			continue
		}
		v, err := b.load(ctx, domain.StreamID{Tenant: r.Stream.Tenant, Aggregate: claim.Aggregate, ID: claim.ID}, true)
		if err != nil {
			return proof, err
		}
		if v.next == 0 {
			continue // its command never completed
		}
		for _, k := range holder.Behaviour.Keys(v.state) {
			if k.Kind != claim.Kind {
				continue
			}
			if b.reservationID(r.Stream.Tenant, claim.Aggregate, k) == r.Stream.ID {
				return SecretProved, nil
			}
			proof = SecretRefuted
			tried++
		}
		if tried >= secretSamples {
			break
		}
	}
	return proof, nil
}
