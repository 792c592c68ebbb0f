package apply

import "testing"

func TestTablesAreCountedWhileTheyMultiply(t *testing.T) {
	t.Parallel()
	var s size
	counts := 0
	for range countUntil * countGrowth * countGrowth {
		count := s.outgrown(1)
		s.grow(1, count)
		if count {
			counts++
		}
	}
	if counts != 6 || s.counted != 51_200 { // 50, 200, 800, 3200, 12800, 51200
		t.Errorf("counted %d times, at last with %d rows", counts, s.counted)
	}
	if s.outgrown(0) {
		t.Error("outgrown by nothing")
	}
}
