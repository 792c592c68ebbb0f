package main

import (
	"testing"

	"github.com/rapport-crm/rapport/projections/oracle"
)

// TestMutationsApply holds that every guard that `make sim-guards` breaks is still where it was: a mutation that changes
// nothing would pass for one that was noticed.
func TestMutationsApply(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range mutations {
		if seen[m.guard] || len(m.test) == 0 || m.old == m.new {
			t.Errorf("%s: the mutation is there twice, changes nothing or has no test", m.guard)
		}
		seen[m.guard] = true
		if _, _, _, err := m.apply("../.."); err != nil {
			t.Errorf("%s: %v", m.guard, err)
		}
	}
}

// TestTheOracleNotices holds that the oracle is not satisfied with anything.
func TestTheOracleNotices(t *testing.T) {
	s, ok := simulate(t, 3)
	if !ok {
		return
	}
	events := s.decoded()
	whole, err := oracle.Fold(events)
	if err != nil {
		t.Fatal(err)
	}
	rows := whole.Len("customer_timeline")
	if part, err := oracle.Fold(events[:len(events)/2]); err != nil || part.Len("customer_timeline") >= rows {
		t.Errorf("half of the events make as many rows as all: %v", err)
	}
	if whole.Diff("customer_timeline", nil) == "" {
		t.Error("no rows at all are as good as those of the log")
	}
}
