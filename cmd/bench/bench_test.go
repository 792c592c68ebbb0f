package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rapport-crm/rapport/domain"
)

func TestInventedWorldIsTheSameForASeed(t *testing.T) {
	const events = 2_000
	first, err := invent(t.Context(), 7, events)
	if err != nil {
		t.Fatal(err)
	}
	again, err := invent(t.Context(), 7, events)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again, cmp.AllowUnexported(entry{}), cmpopts.EquateComparable(domain.Expected{})); diff != "" {
		t.Error(diff)
	}
	aggregates, total := map[string]int{}, 0
	for _, e := range first {
		aggregates[e.stream.Aggregate] += len(e.events)
		total += len(e.events)
	}
	if total < events {
		t.Errorf("%d events, want %d", total, events)
	}
	for _, name := range []string{"customer", "contact", "interaction", "product", "pipeline", "opportunity", "order"} {
		if aggregates[name] == 0 {
			t.Errorf("nothing happened to any %s: %v", name, aggregates)
		}
	}
}

func TestTablesReadAsMarkdown(t *testing.T) {
	tab := table{head: []string{"what", "rate"}}
	tab.row("appends", "%s", rate(1_234_567))
	var out strings.Builder
	tab.print(&out)
	if want := "| what | rate |\n| --- | ---: |\n| appends | 1,234,567 |\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestQuantilesOfALoad(t *testing.T) {
	var l load
	for n := range 100 {
		l.latencies = append(l.latencies, time.Duration(n+1))
	}
	l.took = time.Second
	if l.quantile(.5) != 51 || l.quantile(.99) != 100 || l.quantile(1) != 100 || l.rate() != 100 || (load{}).quantile(.5) != 0 {
		t.Errorf("got %d, %d, %d, %f", l.quantile(.5), l.quantile(.99), l.quantile(1), l.rate())
	}
}

func TestFlagsRefuseUnknownParts(t *testing.T) {
	if _, err := parseFlags([]string{"-only", "a,z"}); err == nil {
		t.Error("part z was accepted")
	}
	if c, err := parseFlags([]string{"-only", "a,c", "-gogc", ""}); err != nil || len(c.only) != 2 || c.gogc != nil {
		t.Errorf("got %+v, %v", c, err)
	}
}
