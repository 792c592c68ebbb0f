package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the environment asks for; `make sim`, `make sim-long` set it.
const (
	seedVariable  = "RAPPORT_SIM_SEED"  // repeat this seed, verbosely
	seedsVariable = "RAPPORT_SIM_SEEDS" // how many seeds
	longVariable  = "RAPPORT_SIM_LONG"  // 1: new seeds until the time is over
	forVariable   = "RAPPORT_SIM_FOR"   // how long that is
)

const (
	defaultSeeds = 12 // the same ones in every run of the tests, and a fresh one beside them
	defaultLong  = 10 * time.Minute
)

// wanted reads a number from the environment.
func wanted(t *testing.T, name string) (n uint64, given bool) {
	text := os.Getenv(name)
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

// simulate runs one seed to the end and checks everything. It reports whether all was well.
func simulate(t *testing.T, seed uint64) (s *simulation, ok bool) {
	ok = t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("to repeat it: make sim SEED=%d", seed)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			s = newSimulation(t, seed)
			s.run()
			s.remember()
			s.check()
		})
	})
	return s, ok
}

// TestSimulation runs command buses, their log and the delivery of events under faults: seeds that are always the same, and
// a fresh one. With RAPPORT_SIM_SEED it repeats one seed and prints every step.
func TestSimulation(t *testing.T) {
	if seed, given := wanted(t, seedVariable); given {
		s, _ := simulate(t, seed)
		if s != nil && testing.Verbose() {
			fmt.Print(s.trace.String())
		}
		return
	}
	seeds, given := wanted(t, seedsVariable)
	if !given {
		seeds = defaultSeeds
	}
	if testing.Short() {
		seeds = min(seeds, 2)
	}
	fresh := rand.Uint64N(1 << 40)
	t.Logf("seeds 1 to %d and %d", seeds, fresh)
	total := map[string]int{}
	for n := range seeds + 1 {
		seed := n + 1
		if n == seeds {
			seed = fresh
		}
		s, _ := simulate(t, seed)
		for kind, count := range s.counts {
			total[kind] += count
		}
	}
	// A harness in which nothing breaks proves nothing.
	for _, kind := range []string{
		"lost", "unsent", "delayed", "arrives", "crash", "clock", "outage", "disconnect", "delivered again",
		"busy", "not ready", "late", "timed out", "loser", "blind read", "vanished", "foreign", // of a strict log
	} {
		if total[kind] == 0 {
			t.Errorf("no run had this fault: %s", kind)
		}
	}
}

// TestTheSameSeedIsTheSameRun holds that a run can be repeated: every decision, everything that clients were told, and the
// log are the same, byte for byte.
func TestTheSameSeedIsTheSameRun(t *testing.T) {
	for _, seed := range []uint64{7, 8, rand.Uint64N(1 << 40)} {
		first, second := everything(t, seed), everything(t, seed)
		if first != second {
			t.Errorf("seed %d: %s", seed, cmp.Diff(strings.Split(first, "\n"), strings.Split(second, "\n")))
		}
	}
}

// everything renders one run.
func everything(t *testing.T, seed uint64) string {
	s, _ := simulate(t, seed)
	var b strings.Builder
	b.WriteString(s.trace.String())
	for _, r := range s.history {
		fmt.Fprintf(&b, "%d-%d %s: %s\n", r.begun, r.ended, r, r.outcome())
	}
	for _, raw := range s.log.events {
		fmt.Fprintf(&b, "%s %s %s@%d %s %s %s\n", raw.Position, raw.ID, raw.Stream, raw.Revision, raw.Type, raw.Data, raw.Metadata)
	}
	return b.String()
}

// TestSimulationLong runs new seeds until the time is over or somebody stops it. It is skipped unless asked for.
func TestSimulationLong(t *testing.T) {
	if os.Getenv(longVariable) == "" {
		t.Skip("make sim-long runs it")
	}
	length := defaultLong
	if text := os.Getenv(forVariable); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", forVariable, err)
		}
	}
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < length {
		t.Fatalf("the tests end in %s; give -timeout 0", time.Until(deadline).Round(time.Second))
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	seed := rand.Uint64N(1 << 40)
	begun, said := time.Now(), time.Time{}
	runs, steps, events, failed := 0, 0, 0, 0
	report := func() {
		took := time.Since(begun)
		fmt.Printf("%s left, %.1f seeds/s, %d seeds, %d steps, %d events, %d failed, at seed %d\n",
			max(0, length-took).Round(time.Second), float64(runs)/took.Seconds(), runs, steps, events, failed, seed)
	}
	for ctx.Err() == nil {
		s, ok := simulate(t, seed)
		if !ok {
			failed++
		}
		runs, steps, events = runs+1, steps+s.step, events+len(s.log.events)
		if time.Since(said) > 5*time.Second {
			report()
			said = time.Now()
		}
		seed++
	}
	report()
	if errors.Is(context.Cause(ctx), context.Canceled) {
		fmt.Println("stopped")
	}
}
