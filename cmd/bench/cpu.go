package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc, on every Linux architecture that Go knows.
const clockTick = 10 * time.Millisecond

// cpuOf returns the CPU time that a process, and its children that have ended, have used; 0 where /proc does not tell.
func cpuOf(pid int) time.Duration {
	stat := statOf(strconv.Itoa(pid))
	if stat == nil {
		return 0
	}
	var ticks time.Duration
	for _, text := range stat[11:15] { // utime, stime, cutime, cstime: fields 14 to 17 of proc(5)
		n, err := strconv.Atoi(text)
		if err == nil {
			ticks += time.Duration(n)
		}
	}
	return ticks * clockTick
}

// statOf returns the fields of a process from its state, the third of proc(5), on; nil when there is no such process.
func statOf(pid string) []string {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may have blanks
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return nil
	}
	return fields
}

// postgresCPU returns the CPU time of the PostgreSQL server and of its sessions.
func (r *replica) postgresCPU() time.Duration {
	server := firstLine(filepath.Join(r.postgres.DataDir(), "postmaster.pid"))
	pid, err := strconv.Atoi(server)
	if err != nil {
		return 0
	}
	sum := cpuOf(pid)
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, p := range processes {
		if stat := statOf(p.Name()); stat != nil && stat[1] == server {
			child, _ := strconv.Atoi(p.Name()) // a folder with a stat has a number for a name
			sum += cpuOf(child)
		}
	}
	return sum
}
