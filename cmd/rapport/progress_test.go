package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProgressIntoAFileIsALineNowAndThen(t *testing.T) {
	for name, total := range map[string]int64{"known": 40, "unknown": 0, "too small": 20} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
			p := &progress{out: &out, now: func() time.Time { return now }}
			p.begin("fold")
			for i := range int64(40) {
				now = now.Add(progressEvery / 10)
				p.step(i+1, total, p.pace(i+1, "events", i+1, total))
			}
			p.end(40, total, p.pace(40, "events", 40, total))
			want := []string{
				"fold: 10 events, 2 a second", "fold: 20 events, 2 a second", "fold: 30 events, 2 a second", "fold: 40 events, 2 a second", "fold: 40 events, 2 a second",
			}
			switch name {
			case "known":
				for i, rest := range []string{", 15s left, 25 %", ", 10s left, 50 %", ", 5s left, 75 %", ", 100 %", ", 100 %"} {
					want[i] += rest
				}
			case "too small": // what is there grows meanwhile
				for i, rest := range []string{", 5s left, 50 %", ", 100 %", ", 100 %", ", 100 %", ", 100 %"} {
					want[i] += rest
				}
			}
			equal(t, "lines", out.String(), strings.Join(want, "\n")+"\n")
		})
	}
}

func TestProgressOnATerminalIsABar(t *testing.T) {
	for _, total := range []int64{0, 3} {
		var out bytes.Buffer
		p := &progress{out: &out, terminal: true, now: time.Now}
		for _, part := range []string{"first", "second"} {
			p.begin(part)
			for i := range int64(3) {
				p.step(i+1, total+i, fmt.Sprint(i+1, " rows")) // the total may grow
			}
			p.end(3, total, "3 rows")
		}
		if text := out.String(); !strings.Contains(text, "\rfirst: 3 rows") || !strings.Contains(text, "\rsecond: 3 rows") || strings.Count(text, "\n") != 2 {
			t.Errorf("%d: %q", total, text)
		}
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, out := range []io.Writer{file, &bytes.Buffer{}} {
		if (&console{err: out}).progress("fold").terminal {
			t.Errorf("%T is taken for a terminal", out)
		}
	}
}
