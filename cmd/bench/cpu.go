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

// below returns the processes that a process has started, and those that they have.
func below(pid int) (list []int) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, p := range processes {
		child, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		if stat := statOf(p.Name()); stat != nil {
			parent, _ := strconv.Atoi(stat[1]) // the kernel writes a number
			children[parent] = append(children[parent], child)
		}
	}
	for next := children[pid]; len(next) > 0; next = next[1:] {
		list = append(list, next[0])
		next = append(next, children[next[0]]...)
	}
	return list
}

// cpuBelow returns the CPU time of these.
func cpuBelow(pid int) (sum time.Duration) {
	for _, child := range below(pid) {
		sum += cpuOf(child)
	}
	return sum
}

// postgresCPU returns the CPU time of the PostgreSQL server and of its sessions.
func (r *replica) postgresCPU() time.Duration {
	pid, err := strconv.Atoi(firstLine(filepath.Join(r.postgres.DataDir(), "postmaster.pid")))
	if err != nil {
		return 0
	}
	return cpuOf(pid) + cpuBelow(pid)
}

// usage is CPU time by who used it.
type usage struct{ client, server, postgres time.Duration }

// usage returns what this process, which has the clients, the server and its PostgreSQL have used.
func (s *server) usage() usage {
	pid := s.process.Process.Pid
	return usage{client: cpuOf(os.Getpid()), server: cpuOf(pid), postgres: cpuBelow(pid)}
}

func (u usage) plus(v usage) usage {
	return usage{u.client + v.client, u.server + v.server, u.postgres + v.postgres}
}

func (u usage) minus(v usage) usage {
	return usage{u.client - v.client, u.server - v.server, u.postgres - v.postgres}
}

func (u usage) sum() time.Duration { return u.client + u.server + u.postgres }
