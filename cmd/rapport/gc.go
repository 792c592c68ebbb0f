package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how far the heap of a server may grow beyond what lives in it before it is collected, in percent. Most runs
// of docs/benchmarks.md took a tenth to a half more commands so than with Go's own 100. The price is memory: some hundred MB.
const gcPercent = 400

// tuneGC sets gcPercent unless GOGC, which Go reads itself, says otherwise.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
