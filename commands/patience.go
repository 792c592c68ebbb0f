package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

// Patience. What is nobody's fault is waited for until the deadline of the command:
//
//  1. An append whose end is not known is repeated, the same events at the same revision.
//  2. A read that the log does not answer is repeated.
//  3. A conflict is an answer once the log shows what came between. An engine may refuse a loser before the winner can be
//     read, and may tell the loser the very revision that it expected. So the loser pauses and reads until the stream has
//     moved. While it has not, nothing may stand there after all, because a winner can be lost with its leader: the same
//     append is repeated now and then, as one whose end is not known.
//  4. A command that a conflict has made to decide again pauses first, so that it does not lose to the same stream of
//     writers again at once.

// Pauses double from the first to the longest. Each is shortened by up to half at random, so that many commands do not come
// back at once.
const (
	firstPause   = 10 * time.Millisecond
	longestPause = time.Second            // while the log does not answer
	longestTurn  = 100 * time.Millisecond // while others write to the stream; short, because each of them is done at once
	maxDoublings = 10                     // of the first pause; more than enough for the longest
)

// MaxBlindReads is how many reads in a row may show nothing new after a conflict before the append is repeated.
const MaxBlindReads = 10

// pause waits before the repetition number try, and reports false when ctx ended first.
func (b *Bus) pause(ctx context.Context, try int, longest time.Duration) bool {
	d := min(firstPause<<min(try, maxDoublings), longest)
	t := time.NewTimer(d - b.spread(d/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// append appends and repeats while the outcome is unknown, always the same events at the same revision. It returns
// Committed, Conflict or Refused, or *domain.UnavailableError when ctx ended first.
func (b *Bus) append(ctx context.Context, id domain.StreamID, expected domain.Expected, events []domain.Pending) (domain.Outcome, error) {
	for try := 0; ; try++ {
		outcome := b.store.Append(ctx, id, expected, events)
		unknown, isUnknown := outcome.(domain.Unknown)
		if !isUnknown {
			return outcome, nil
		}
		if !b.pause(ctx, try, longestPause) {
			return nil, &domain.UnavailableError{What: "event log", Err: fmt.Errorf("append to %s: %w", id, unknown.Err)}
		}
	}
}

// settle is append that returns a Conflict only once moved has seen it: moved reads the stream and reports whether it has
// gone past the revision expected. lost is how often in a row the caller has met a conflict before; the pauses go on from
// there.
func (b *Bus) settle(ctx context.Context, id domain.StreamID, expected domain.Expected, events []domain.Pending, lost int, moved func() (bool, error)) (domain.Outcome, error) {
	for {
		outcome, err := b.append(ctx, id, expected, events)
		conflict, beaten := outcome.(domain.Conflict)
		if err != nil || !beaten {
			return outcome, err
		}
		for range MaxBlindReads {
			if !b.pause(ctx, lost, longestTurn) {
				return nil, &domain.UnavailableError{What: "event log", Err: fmt.Errorf("append to %s at %s: others write to it, the log said %s", id, expected, conflict.Actual)}
			}
			lost++
			if seen, err := moved(); err != nil || seen {
				return conflict, err
			}
		}
	}
}

// read returns the events of a stream from a revision on, and asks again while the log does not answer, until ctx ends.
func (b *Bus) read(ctx context.Context, id domain.StreamID, from uint64) ([]domain.Recorded, error) {
	for try := 0; ; try++ {
		events, err := b.readOnce(ctx, id, from)
		var away *domain.UnavailableError
		if !errors.As(err, &away) || !b.pause(ctx, try, longestPause) {
			return events, err
		}
	}
}

func (b *Bus) readOnce(ctx context.Context, id domain.StreamID, from uint64) ([]domain.Recorded, error) {
	var events []domain.Recorded
	for r, err := range b.store.Read(ctx, id, from) {
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", id, err)
		}
		events = append(events, r)
	}
	return events, nil
}

// timely makes *domain.UnavailableError of a deadline that passed.
func timely(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var away *domain.UnavailableError
	if errors.As(err, &away) {
		return err
	}
	return &domain.UnavailableError{What: "event log", Err: err}
}
