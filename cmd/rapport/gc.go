package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how far the heap of a server may grow beyond what lives in it before it is collected, in percent. With Go's own
// 100 a command takes 12 to 18 % more CPU under load, with 1,000 no less: see docs/benchmarks.md. The price is memory, up to
// --memory.
const gcPercent = 400

// tuneGC sets gcPercent and the memory, in bytes, from which on the heap is collected more often instead of growing on. What
// GOGC or GOMEMLIMIT says, which Go reads itself, stays. No memory means no limit.
func tuneGC(memory int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" && memory > 0 {
		debug.SetMemoryLimit(memory)
	}
}
