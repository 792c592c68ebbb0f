package main

import (
	"math"
	"runtime/debug"
	"testing"
)

// It changes what holds for the whole process, so it does not run beside others.
func TestMemoryLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	limit := func(memory int64) int64 {
		debug.SetMemoryLimit(math.MaxInt64)
		tuneGC(memory)
		return debug.SetMemoryLimit(-1)
	}
	const asked = 64 << 30
	t.Setenv("GOMEMLIMIT", "")
	equal(t, "the limit asked for", limit(asked), asked)
	equal(t, "no limit", limit(0), math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "1TiB")
	equal(t, "the limit of the environment, which Go has set already", limit(asked), math.MaxInt64)
}
