package projections_test

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// Rows share slices, maps and pointers with the rows before them, which the runner keeps for when a transaction fails: an
// event makes a new row and leaves the one before as it was.
func TestEventsLeaveTheRowsBeforeThemAlone(t *testing.T) {
	list := compiled(t)
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		for _, c := range list {
			m := c.NewMemory()
			for _, e := range w.log.events {
				before := m.All()
				text, err := json.Marshal(before)
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Apply(e); err != nil {
					t.Fatal(err)
				}
				if after, err := json.Marshal(before); err != nil || string(after) != string(text) {
					t.Fatalf("%s changes in the rows before it: %v\n%s\n%s", e.Type(), err, text, after)
				}
			}
		}
	})
}
