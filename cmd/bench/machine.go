package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/rapport-crm/rapport/internal/localpg"
)

// describeMachine heads the report.
func (b *bench) describeMachine() {
	fmt.Fprintf(b.out, "# Benchmarks\n\n")
	t := table{head: []string{"machine", ""}}
	t.row("processor", "%s", orUnknown(field("/proc/cpuinfo", "model name")))
	t.row("cores", "%d", runtime.NumCPU())
	t.row("memory", "%s", orUnknown(field("/proc/meminfo", "MemTotal")))
	t.row("system", "%s/%s, kernel %s", runtime.GOOS, runtime.GOARCH, orUnknown(firstLine("/proc/sys/kernel/osrelease")))
	t.row("load at the start", "%s", orUnknown(firstLine("/proc/loadavg")))
	t.row("Go", "%s", runtime.Version())
	if _, version, err := localpg.Find(); err == nil {
		t.row("PostgreSQL", "%s", version)
	}
	t.row("commit", "%s", commit())
	t.row("date", "%s", time.Now().UTC().Format("2006-01-02 15:04 MST"))
	t.print(b.out)
	fmt.Fprintf(b.out, "\nClients, server, event node and PostgreSQL share these cores. Compare the ratios, not the figures.\n")
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// field returns the first value of a "name: value" file.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func commit() string {
	text, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
