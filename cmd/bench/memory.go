package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// memoryInterval is how often memory is looked at; a peak that lasts shorter may be missed.
const memoryInterval = 200 * time.Millisecond

// memory is what a server and its PostgreSQL hold, in bytes; 0 where /proc does not tell. Of PostgreSQL it is the
// proportional share, because its sessions share the buffers.
type memory struct{ server, postgres int64 }

// effort is what a server and its PostgreSQL needed for something.
type effort struct {
	cpu  usage
	peak memory
}

// watch watches a server until the function returned is called.
func (s *server) watch() (stop func() effort) {
	before, peak := s.usage(), s.watchMemory()
	return func() effort { return effort{s.usage().minus(before), peak()} }
}

// watchMemory looks at memory until the function returned is called, which returns the peaks.
func (s *server) watchMemory() (stop func() memory) {
	var peak memory
	look := func() {
		pid := s.process.Process.Pid
		peak.server = max(peak.server, memoryOf(pid, "status", "VmRSS"))
		var sum int64
		for _, child := range below(pid) {
			sum += memoryOf(child, "smaps_rollup", "Pss")
		}
		peak.postgres = max(peak.postgres, sum)
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(memoryInterval)
		defer tick.Stop()
		for {
			look()
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() memory {
		close(done)
		watch.Wait()
		return peak
	}
}

// memoryOf returns a value of a file of a process in /proc: a line such as "VmRSS:	  1234 kB".
func memoryOf(pid int, file, name string) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if key != name {
			continue
		}
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64) // the kernel writes a number
		return n << 10
	}
	return 0
}
