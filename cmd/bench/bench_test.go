package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/codec"
)

func TestGeneratedLogIsTheSameForASeed(t *testing.T) {
	const events = 5_000
	run := func() (list []entry) {
		if err := generate(7, events, func(e entry) error { list = append(list, e); return nil }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	first := run()
	if diff := cmp.Diff(first, run(), cmp.AllowUnexported(entry{}), cmpopts.EquateComparable(domain.Expected{})); diff != "" {
		t.Error(diff)
	}
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		t.Fatal(err)
	}
	aggregates, lanes, total := map[string]int{}, map[int]int{}, 0
	next := map[domain.StreamID]domain.Expected{}
	var last time.Time
	for _, e := range first {
		expected, grown := next[e.stream]
		if !grown {
			expected = domain.NoStream
		}
		if e.expected != expected {
			t.Fatalf("%s is expected at %s, and is at %s", e.stream, e.expected, expected)
		}
		revision, _ := expected.Revision() // one less than 0 for no stream
		next[e.stream] = domain.AtRevision(revision + uint64(len(e.events)))
		aggregates[e.stream.Aggregate] += len(e.events)
		lanes[e.lane] += len(e.events)
		total += len(e.events)
		for _, p := range e.events {
			if _, _, err := registry.Encode(p); err != nil {
				t.Fatal(err)
			}
			if p.RecordedAt.Before(last) || p.RecordedAt.Before(p.OccurredAt) {
				t.Fatalf("recorded at %s, after %s, and occurred at %s", p.RecordedAt, last, p.OccurredAt)
			}
			last = p.RecordedAt
		}
	}
	if total < events || total > events+10 || float64(total)/float64(len(first)) < 1.8 {
		t.Errorf("%d events in %d appends", total, len(first))
	}
	for _, name := range []string{"customer", "contact", "interaction", "product", "opportunity", "order"} {
		if aggregates[name] < total/100 {
			t.Errorf("hardly anything happened to any %s: %v", name, aggregates)
		}
	}
	shares := slices.Sorted(maps.Values(lanes))
	if most, middle := shares[len(shares)-1], shares[len(shares)/2]; most < 5*middle {
		t.Errorf("the busiest customer has %d events, the median %d", most, middle)
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
