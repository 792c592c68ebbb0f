package retry_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rapport-crm/rapport/internal/retry"
)

// P5: pauses are spread, and never shorter than half.
func TestPausesAreSpread(t *testing.T) {
	t.Parallel()
	different := map[time.Duration]bool{}
	for range 100 {
		d := retry.Spread(time.Second)
		if d < time.Second/2 || d > time.Second {
			t.Errorf("a pause of %s", d)
		}
		different[d] = true
	}
	if len(different) < 10 {
		t.Errorf("%d pauses in 100", len(different))
	}
	for _, d := range []time.Duration{0, 1} {
		if got := retry.Spread(d); got > d {
			t.Errorf("of %d came %d", d, got)
		}
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if !retry.Sleep(ctx, time.Second/2) {
			t.Error("the time was over, and the context not")
		}
		if retry.Sleep(ctx, time.Hour) {
			t.Error("the context was over, and the time not")
		}
	})
}

func ExampleBackoff() {
	b := retry.Backoff{First: 100 * time.Millisecond, Most: time.Second}
	for range 6 {
		fmt.Print(b.Next(), " ")
	}
	b.Reset()
	fmt.Println(b.Next())
	// Output: 100ms 200ms 400ms 800ms 1s 1s 100ms
}
