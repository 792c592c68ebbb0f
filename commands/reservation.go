package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// Unique values. Every value that an aggregate H comes to hold is claimed first in the value's own reservation stream R,
// then the events of H are appended. An attempt is one decision on the state of H at one revision and its append at that
// revision. The invariant kept is: while a state of H holds a value (and was not allowed a duplicate), the last event of
// R is a claim by H. It follows from these rules:
//
//  1. R is appended to at exact revisions only, so its events are claims and releases in one agreed order, and among
//     several claimants of a free value exactly one wins.
//  2. Every attempt that adds a value makes a claim event of its own in R, after it has loaded the state it decides on and
//     before it appends to H, even when R says already that H claims the value (a retry, another command of H). So an
//     append to H that adds a value at revision e has a claim that was made when H had been seen at e-1.
//  3. A release names the exact revision ρ of R at which the releaser knows the claim to be dead: no attempt whose claim
//     stands at or below ρ can still succeed. If anybody has claimed since, R has moved and the release fails.
//  4. The claim is known dead in two ways. (a) The releaser made the claim at ρ on a free value or over a dead claim of
//     its own, and never sent the append or saw it fail for good. (b) The releaser read R at ρ, then appended some event
//     to H at revision r, and the state at r does not hold the value: attempts with claims at or below ρ had loaded H
//     before r, so each has succeeded before r, and is seen in the state at r, or will meet a conflict at r.
//  5. The event of 4(b) is the one that gives the value up, for a release after a change; or reservation.lapsed, the
//     fence, for a takeover of a claim older than ClaimTimeout. An attempt that met the fence loads again, and by rule 2
//     claims again before it appends again: it finds the value gone.
//  6. A claim whose append has an unknown end is left alone: the command's retry goes over it by rule 2, or somebody who
//     wants the value takes it over by rule 5. The timeout decides only when to look, never who wins.
//
// Values are claimed in one order by everybody, so of several commands with the same values one gets all.

// reservation is the state of a reservation stream.
type reservation struct {
	next     uint64 // number of events; zero when the value was never claimed
	lastID   string // of the last event
	claimed  bool
	holder   domain.StreamID
	command  string    // that made the claim
	at       time.Time // when it was recorded
	revision uint64    // of the last event
}

func (r reservation) expected() domain.Expected {
	if r.next == 0 {
		return domain.NoStream
	}
	return domain.AtRevision(r.revision)
}

func (b *Bus) readReservation(ctx context.Context, id domain.StreamID) (reservation, error) {
	var res reservation
	events, err := b.read(ctx, id, 0)
	for _, r := range events {
		res.next, res.revision, res.lastID = r.Revision+1, r.Revision, r.ID
		switch e := r.Event.(type) {
		case domain.ReservationClaimed:
			res.claimed = true
			res.holder = domain.StreamID{Tenant: id.Tenant, Aggregate: e.Aggregate, ID: e.ID}
			res.command, res.at = e.CommandID, r.RecordedAt
		case domain.ReservationReleased:
			res.claimed = false
		}
	}
	return res, err
}

// claim is one claim event of one attempt.
type claim struct {
	stream   domain.StreamID
	revision uint64
	clean    bool // rule 4(a) as far as the claims below go: the value was free, or under a dead claim of this command
}

// claimSet are the claims of one command.
type claimSet struct {
	bus     *Bus
	call    *call
	made    map[domain.ID]claim // by id of the reservation
	inDoubt bool                // the append that they were made for may have happened
	tries   int                 // claim events attempted; part of their ids
}

// held is a value that the aggregate is about to give up, with its reservation as read before that (rule 4b).
type held struct {
	stream   domain.StreamID
	revision uint64
}

// keyed is a unique value and the stream of its reservation.
type keyed struct {
	domain.Key
	stream domain.StreamID
}

// difference returns the keys in a that are not in b, each once, in the order in which all claim.
func (b *Bus) difference(c *call, a, without []domain.Key) []keyed {
	var out []keyed
	for _, k := range a {
		if holds(without, k) {
			continue
		}
		id := b.reservationID(c.Tenant, c.command.aggregate.Name, k)
		out = append(out, keyed{k, domain.StreamID{Tenant: c.Tenant, Aggregate: domain.ReservationName, ID: id}})
	}
	slices.SortFunc(out, func(x, y keyed) int { return cmp.Compare(x.stream.ID, y.stream.ID) })
	return slices.CompactFunc(out, func(x, y keyed) bool { return x.stream == y.stream })
}

func holds(keys []domain.Key, key domain.Key) bool {
	return slices.ContainsFunc(keys, func(k domain.Key) bool { return k.Kind == key.Kind && k.Value == key.Value })
}

// acquire claims the values that the decision adds and returns the reservations of those it gives up. It returns
// *domain.DuplicateError when another aggregate holds one.
func (cs *claimSet) acquire(ctx context.Context, d decision) ([]held, error) {
	b, c := cs.bus, cs.call
	before, after := c.command.aggregate.Behaviour.Keys(d.before.state), c.command.aggregate.Behaviour.Keys(d.after)
	if c.claims() {
		for _, k := range b.difference(c, after, before) {
			if err := cs.claim(ctx, d, k); err != nil {
				return nil, err
			}
		}
	}
	if needs := c.command.unclaimed; needs != nil {
		if err := cs.vacate(ctx, d, needs); err != nil {
			return nil, err
		}
	}
	var gone []held
	for _, k := range b.difference(c, before, after) {
		r, err := b.readReservation(ctx, k.stream)
		if err != nil {
			return nil, err
		}
		if r.claimed && r.holder == c.stream {
			gone = append(gone, held{k.stream, r.revision})
		}
	}
	return gone, nil
}

// claims reports whether the command claims what it adds, whatever its request allows.
func (c *call) claims() bool {
	excludes := c.command.unclaimed != nil
	return excludes || !c.AllowDuplicates
}

// claim makes this attempt's claim on one value.
func (cs *claimSet) claim(ctx context.Context, d decision, k keyed) error {
	b, c := cs.bus, cs.call
	own, again := cs.made[k.stream.ID]
	expected, clean := domain.NoStream, true
	if again { // the append of the attempt before has failed for good, so its claim is dead
		expected, clean = domain.AtRevision(own.revision), own.clean
	}
	for lost := 0; ; lost++ {
		cs.tries++
		event := b.kernelEvent(c, d.now, "claim", cs.tries, domain.ReservationClaimed{
			Aggregate: c.command.aggregate.Name, ID: c.Target, Kind: k.Kind, CommandID: c.id,
		})
		var r reservation
		outcome, err := b.settle(ctx, k.stream, expected, []domain.Pending{event}, lost, func() (moved bool, err error) {
			r, err = b.readReservation(ctx, k.stream)
			return expected.Before(r.expected()), err
		})
		if err != nil {
			return err
		}
		switch o := outcome.(type) {
		case domain.Committed:
			cs.keep(k, claim{k.stream, o.Revision, clean})
			return nil
		case domain.Refused:
			return fmt.Errorf("append to %s: %w", k.stream, o.Err)
		}
		switch {
		case r.lastID == event.ID: // an append that seemed lost had arrived
			cs.keep(k, claim{k.stream, r.revision, clean})
			return nil
		case !r.claimed:
			clean = true
		case r.holder == c.stream:
			clean = again && clean && r.revision == own.revision
		default:
			if err := b.contest(ctx, c, d.now, k.Key, r, true); err != nil {
				return err
			}
			released := b.kernelEvent(c, d.now, "take", cs.tries, domain.ReservationReleased{
				Aggregate: r.holder.Aggregate, ID: r.holder.ID, CommandID: c.id,
			})
			outcome, err := b.append(ctx, k.stream, r.expected(), []domain.Pending{released})
			if err != nil {
				return err
			}
			if o, ok := outcome.(domain.Committed); ok {
				r.next, r.revision = o.Revision+1, o.Revision
			}
			clean = true
		}
		expected = r.expected()
	}
}

func (cs *claimSet) keep(k keyed, made claim) {
	if cs.made == nil {
		cs.made = map[domain.ID]claim{}
	}
	cs.made[k.stream.ID] = made
}

// contest finds out whether the claimant of a reservation still has a right to the value: it returns
// *domain.DuplicateError when it holds the value or may be about to. Otherwise, when fence is set, it makes sure that no
// attempt behind the claim can ever complete (rule 5).
func (b *Bus) contest(ctx context.Context, c *call, now time.Time, key domain.Key, r reservation, fence bool) error {
	duplicate := &domain.DuplicateError{Key: key.Kind, Pointer: key.Pointer, Existing: r.holder.ID}
	agg, ok := b.aggregates[r.holder.Aggregate]
	if !ok {
		return fmt.Errorf("commands: a reservation is held by %s, whose kind is not registered", r.holder)
	}
	for lost := 0; ; lost++ {
		v, err := b.load(ctx, r.holder, true)
		if err != nil {
			return err
		}
		if holds(agg.Behaviour.Keys(v.state), key) || now.Sub(r.at) < ClaimTimeout {
			return duplicate
		}
		if !fence {
			return nil
		}
		lapsed := b.kernelEvent(c, now, "lapse "+r.lastID, int(v.next), domain.ReservationLapsed{CommandID: r.command})
		lapsed.CommandID = derive(commandSpace, "lapse", c.id) // the holder's stream is not the command's own
		outcome, err := b.settle(ctx, r.holder, v.expected(), []domain.Pending{lapsed}, lost, func() (bool, error) {
			newer, err := b.load(ctx, r.holder, true)
			return v.expected().Before(newer.expected()), err
		})
		if err != nil {
			return err
		}
		switch o := outcome.(type) {
		case domain.Committed:
			b.logger.InfoContext(ctx, "claim of a command that never completed taken over", "stream", r.holder, "command", r.command)
			return nil
		case domain.Refused:
			return fmt.Errorf("append to %s: %w", r.holder, o.Err)
		}
	}
}

// vacate makes sure that nobody holds or claims what the command needs *unclaimed. A dead claim is fenced and released.
func (cs *claimSet) vacate(ctx context.Context, d decision, needs *unclaimed) error {
	b, c := cs.bus, cs.call
	r, id, err := b.claimant(ctx, c, d, needs, true)
	if err != nil || !r.claimed {
		return err
	}
	cs.tries++
	released := b.kernelEvent(c, d.now, "vacate", cs.tries, domain.ReservationReleased{
		Aggregate: r.holder.Aggregate, ID: r.holder.ID, CommandID: c.id,
	})
	_, err = b.append(ctx, id, r.expected(), []domain.Pending{released}) // a claim made since does no harm: it is later than this command's
	return err
}

// claimant reads the reservation of what the command needs *unclaimed, and returns the refusal when it is alive. A dead claim
// is fenced if asked.
func (b *Bus) claimant(ctx context.Context, c *call, d decision, needs *unclaimed, fence bool) (reservation, domain.StreamID, error) {
	key := needs.key(c.Target)
	id := domain.StreamID{Tenant: c.Tenant, Aggregate: domain.ReservationName, ID: b.reservationID(c.Tenant, c.command.aggregate.Name, key)}
	r, err := b.readReservation(ctx, id)
	if err != nil || !r.claimed {
		return r, id, err
	}
	err = b.contest(ctx, c, d.now, key, r, fence)
	var alive *domain.DuplicateError
	if errors.As(err, &alive) {
		err = needs.refuse(r.holder.ID)
	}
	return r, id, err
}

// checkFree is the part of acquire that a dry run can do: it reads.
func (b *Bus) checkFree(ctx context.Context, c *call, d decision) error {
	if needs := c.command.unclaimed; needs != nil {
		if _, _, err := b.claimant(ctx, c, d, needs, false); err != nil {
			return err
		}
	}
	added := b.difference(c, c.command.aggregate.Behaviour.Keys(d.after), c.command.aggregate.Behaviour.Keys(d.before.state))
	for _, k := range added {
		r, err := b.readReservation(ctx, k.stream)
		if err != nil {
			return err
		}
		if !r.claimed || r.holder == c.stream {
			continue
		}
		if err := b.contest(ctx, c, d.now, k.Key, r, false); err != nil {
			return err
		}
	}
	return nil
}

// abandon releases the claims of a command that failed for good, as far as rule 4(a) allows.
func (cs *claimSet) abandon(ctx context.Context, cause error) {
	if cs.inDoubt {
		return
	}
	var lost *domain.UnavailableError
	if errors.As(cause, &lost) {
		return // the log does not answer; takeover finds the claims dead
	}
	var gone []held
	for _, id := range slices.Sorted(maps.Keys(cs.made)) { // in one order, as everything that claims
		if c := cs.made[id]; c.clean {
			gone = append(gone, held{c.stream, c.revision})
		}
	}
	cs.bus.giveBack(ctx, cs.call, cs.bus.now(), gone)
}

// giveBack releases reservations at the revisions at which their claims are known dead. It does its best, and not for long,
// because the outcome of the command is known: what stays claimed is taken over by the next who asks for the value.
func (b *Bus) giveBack(ctx context.Context, c *call, now time.Time, gone []held) {
	ctx, cancel := context.WithTimeout(ctx, ReleaseTimeout)
	defer cancel()
	for i, h := range gone {
		event := b.kernelEvent(c, now, "release "+string(h.stream.ID), i, domain.ReservationReleased{
			Aggregate: c.command.aggregate.Name, ID: c.Target, CommandID: c.id,
		})
		outcome, err := b.append(ctx, h.stream, domain.AtRevision(h.revision), []domain.Pending{event})
		if _, ok := outcome.(domain.Committed); !ok {
			b.logger.WarnContext(ctx, "reservation not released", "stream", h.stream, "revision", h.revision, "err", err)
		}
	}
}

// kernelEvent wraps an event about a reservation in the envelope of the command that caused it.
func (b *Bus) kernelEvent(c *call, now time.Time, purpose string, index int, e domain.Event) domain.Pending {
	return domain.Pending{
		ID:       b.eventID(c, now, purpose, index),
		Metadata: c.metadata(b.schemas[e.EventType()], now, now, nil),
		Event:    e,
	}
}
