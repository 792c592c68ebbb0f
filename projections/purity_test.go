package projections_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
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

// A row that an event begins is not looked for: the one that stood there would be overwritten.
func TestRowsThatAnEventBeginsWereNotThere(t *testing.T) {
	list := compiled(t)
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		for _, c := range list {
			all := c.NewEngine(10_000) // knows every row
			all.Reset(true)
			for _, e := range w.log.events {
				ignorant := c.NewEngine(1)
				ignorant.Reset(false)
				step, err := ignorant.Begin([]domain.Recorded{e})
				if err != nil {
					t.Fatal(err)
				}
				wanted := map[string]bool{}
				for _, k := range keysIn(c, step.Missing(), -1) {
					wanted[k] = true
				}
				there, err := changedBy(c, all, e)
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range there {
					if !wanted[k] {
						t.Fatalf("%s of %s begins the row %s, which is there", e.Type(), e.Stream, k)
					}
				}
			}
		}
	})
}

// changedBy applies an event and returns the keys of those rows that it changes or removes and that were there before.
func changedBy(c *projection.Compiled, engine projection.Engine, e domain.Recorded) ([]string, error) {
	step, err := engine.Begin([]domain.Recorded{e})
	if err != nil {
		return nil, err
	}
	w, err := step.Evaluate(0)
	step.Committed()
	return append(keysIn(c, w.Upsert, w.Upserts-w.Fresh), keysIn(c, w.Delete, w.Deletes)...), err
}

// keysIn returns the first n keys of columns given as arrays, all of them when n is negative.
func keysIn(c *projection.Compiled, columns []any, n int) (keys []string) {
	if len(columns) == 0 {
		return nil
	}
	columns = columns[:len(c.Table.Key())]
	if n < 0 {
		n = reflect.ValueOf(columns[0]).Len()
	}
	for i := range n {
		key := ""
		for _, column := range columns {
			key += fmt.Sprint(reflect.ValueOf(column).Index(i)) + " "
		}
		keys = append(keys, key)
	}
	return keys
}
