// Package retry holds the pauses between attempts: how long they are, and the wait itself. Whoever tries something again
// decides what is worth another attempt.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits, and reports false when ctx ended before the time was over.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Spread draws a pause from the second half of d, so that those whom one fault has stopped do not all come back at once.
func Spread(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// Backoff is a row of pauses, each twice as long as the one before: with First 100 ms and Most 1 s they are 100, 200, 400 and
// 800 ms, and then 1 s each. It is not safe for concurrent use.
type Backoff struct {
	First, Most time.Duration

	last time.Duration
}

// Next returns the next pause of the row.
func (b *Backoff) Next() time.Duration {
	if b.last == 0 {
		b.last = b.First
	} else {
		b.last = min(2*b.last, b.Most)
	}
	return b.last
}

// Reset begins the row anew: what failed has worked.
func (b *Backoff) Reset() { b.last = 0 }
