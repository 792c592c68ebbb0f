package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// table is a table of the report.
type table struct {
	head []string
	rows [][]string
}

// add adds a row of cells.
func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// row adds a row of a name and one formatted cell.
func (t *table) row(name, format string, args ...any) { t.add(name, fmt.Sprintf(format, args...)) }

func (t *table) print(w io.Writer) {
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	rule := make([]string, len(t.head))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	line(rule)
	for _, cells := range t.rows {
		line(cells)
	}
}

// verdict says whether a goal is met.
func verdict(ratio, goal float64) string {
	if ratio >= goal {
		return "met"
	}
	return "missed"
}

func rate(perSecond float64) string {
	if perSecond >= 100 {
		return grouped(int64(perSecond + 0.5))
	}
	return fmt.Sprintf("%.1f", perSecond)
}

// grouped writes an integer with its thousands separated.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

func millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms >= 100 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

func micros(d time.Duration) string {
	return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
}

func secs(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func megabytes(n int64) string { return fmt.Sprintf("%d MB", n>>20) }
