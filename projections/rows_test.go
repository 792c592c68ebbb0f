package projections_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/product"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/sales"
	readmodel "github.com/rapport-crm/rapport/readmodels/sales"
)

const rowFolder = "testdata/rows"

// TestRowsChangeWithTheVersionAlone compares the definition of each projection, and the rows that it makes of the lives, with
// a file that is named for its version. Tables that were filled before keep their rows until the version is raised. -update
// writes the file of a raised version, removes the one before, and adds events that lives have got since; the flag never
// changes what a file has.
func TestRowsChangeWithTheVersionAlone(t *testing.T) {
	list := compiled(t)
	for _, c := range list {
		if err := checkRows(c, rowFolder, *update); err != nil {
			t.Error(err)
		}
	}
	files, err := filepath.Glob(rowFolder + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.ContainsFunc(list, func(c *projection.Compiled) bool { return file == rowFile(c, rowFolder) }) {
			t.Errorf("%s is of no projection: remove it", file)
		}
	}
}

func rowFile(c *projection.Compiled, folder string) string {
	return fmt.Sprintf("%s/%s.v%d.golden", folder, c.Name, c.Version)
}

// checkRows compares a projection with its file in a folder. write allows to add.
func checkRows(c *projection.Compiled, folder string, write bool) error {
	file := rowFile(c, folder)
	whole, err := rowText(c, lives())
	if err != nil {
		return err
	}
	stored, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && write:
		before, err := filepath.Glob(folder + "/" + c.Name + ".v*.golden")
		if err != nil {
			return err
		}
		for _, old := range before {
			if err := os.Remove(old); err != nil {
				return err
			}
		}
		return os.WriteFile(file, []byte(whole), 0o644)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s has no file: write %s with go test ./projections -run TestRowsChange -update", c, file)
	case err != nil:
		return err
	}
	known := shortened(lives(), string(stored))
	now, err := rowText(c, known)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(string(stored), now); diff != "" {
		return fmt.Errorf("%s makes other rows, or defines another table, than %s tells: raise the version, then write its file with -update\n%s", c, file, diff)
	}
	if now == whole {
		return nil
	}
	if write {
		return os.WriteFile(file, []byte(whole), 0o644)
	}
	return fmt.Errorf("%s does not tell of the newest events: add them with go test ./projections -run TestRowsChange -update", file)
}

// shortened returns the lives as long as they were when a file was written.
func shortened(all []life, file string) (known []life) {
	lengths := map[string]int{}
	for line := range strings.Lines(file) {
		name, length, is := strings.Cut(strings.TrimSuffix(line, " events\n"), ": ")
		if n := 0; is && strings.HasPrefix(name, "life ") {
			if _, err := fmt.Sscan(length, &n); err == nil {
				lengths[strings.TrimPrefix(name, "life ")] = n
			}
		}
	}
	for _, l := range all {
		if n, told := lengths[l.name]; told && n <= len(l.steps) {
			known = append(known, life{l.name, l.steps[:n]})
		}
	}
	return known
}

// rowText renders the definition of a projection and, event by event, what changes in its rows over lives.
func rowText(c *projection.Compiled, run []life) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", c)
	for i, column := range c.Table.Columns {
		typ := column.Type
		if i < len(c.Table.Key()) {
			typ += ", key"
		}
		if column.Nullable {
			typ += ", may be null"
		}
		fmt.Fprintf(&b, "column %s %s\n", column.Name, typ)
	}
	b.WriteString("\n")
	for _, l := range run {
		fmt.Fprintf(&b, "life %s: %d events\n", l.name, len(l.steps))
	}
	m := c.NewMemory()
	before := map[string][]string{}
	for _, e := range runOf(run) {
		if err := m.Apply(e.Recorded); err != nil {
			return "", err
		}
		if !c.Matches(e.Type()) {
			continue
		}
		fmt.Fprintf(&b, "\n%s of %s\n", e.Type(), e.life)
		after := map[string][]string{}
		for _, row := range m.All() {
			key, values, err := columnsOf(c, row)
			if err != nil {
				return "", err
			}
			if after[key] = values; slices.Equal(before[key], values) {
				continue
			}
			fmt.Fprintf(&b, "\t[%s]\n", key)
			for i, column := range c.Table.Columns[len(c.Table.Key()):] {
				if before[key] == nil || before[key][i] != values[i] {
					fmt.Fprintf(&b, "\t\t%s %s\n", column.Name, values[i])
				}
			}
		}
		for _, key := range sortedNames(before) {
			if after[key] == nil {
				fmt.Fprintf(&b, "\t[%s] is gone\n", key)
			}
		}
		before = after
	}
	return b.String(), nil
}

// columnsOf returns the key of a row, and the columns behind the key as JSON.
func columnsOf(c *projection.Compiled, row any) (key string, values []string, err error) {
	byName := map[string]string{}
	v := reflect.ValueOf(row)
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("db"), ",")
		if name == "" || name == "-" {
			continue
		}
		text, err := json.Marshal(v.FieldByIndex(f.Index).Interface(), json.Deterministic(true))
		if err != nil {
			return "", nil, fmt.Errorf("%s.%s: %w", c.Name, name, err)
		}
		byName[name] = string(text)
	}
	for i, column := range c.Table.Columns {
		switch {
		case i >= len(c.Table.Key()):
			values = append(values, byName[column.Name])
		case column.Name != "tenant":
			key = strings.TrimPrefix(key+" "+byName[column.Name], " ")
		}
	}
	return key, values, nil
}

// lived is an event of a life.
type lived struct {
	domain.Recorded
	life string
}

// runOf records lives one after the other. An event has the same id, place and times whatever becomes of the lives before.
func runOf(run []life) (events []lived) {
	const room = 1000 // events that a life may grow to
	examples := map[string]domain.Event{}
	for _, d := range definitions() {
		for _, spec := range d.Events {
			examples[spec.Type()] = spec.Example
		}
	}
	for i, l := range run {
		aggregate, _, _ := strings.Cut(l.name, " ")
		log := newLog()
		for n, step := range l.steps {
			event, own := step.(domain.Event)
			if !own {
				event = examples[step.(string)]
			}
			place := i*room + n + 1
			at := day("01-01").Add(time.Duration(place) * time.Hour)
			e := log.add(aggregate, number(i+1, 0xa), at, event, number(2, 0xb))
			e.ID, e.Position = string(number(place, 0xe)), domain.Position{Commit: uint64(place) * 200, Prepare: uint64(place) * 100}
			e.RecordedAt = at.Add(time.Minute)
			e.Actor.OnBehalfOf, e.CorrelationID = "bob", fmt.Sprintf("correlation %d", place)
			events = append(events, lived{e, l.name})
		}
	}
	return events
}

// TestEveryChangeOfAFoldIsSeen spoils every projection in every column behind the key: a fold that leaves the column empty
// makes other rows than the file tells. So no column is empty in all lives.
func TestEveryChangeOfAFoldIsSeen(t *testing.T) {
	for _, p := range projections.All() {
		c, err := p.Compile()
		if err != nil {
			t.Fatal(err)
		}
		for _, column := range c.Table.Columns[len(c.Table.Key()):] {
			spoiled, err := spoil(p, column.Name).Compile()
			if err != nil {
				t.Fatal(err)
			}
			expectRaise(t, spoiled, rowFolder, column.Name+" stays empty")
		}
	}
}

// spoil returns a projection whose rows have nothing in a column.
func spoil(p projection.Projection, column string) projection.Projection {
	v := reflect.New(reflect.TypeOf(p)).Elem()
	v.Set(reflect.ValueOf(p))
	empty := func(row reflect.Value) {
		for _, f := range reflect.VisibleFields(row.Type()) {
			if name, _, _ := strings.Cut(f.Tag.Get("db"), ","); name == column {
				row.FieldByIndex(f.Index).SetZero()
			}
		}
	}
	name := "Evolve"
	if _, folds := v.Type().FieldByName(name); !folds {
		name = "Rows"
	}
	field := v.FieldByName(name)
	honest := reflect.ValueOf(field.Interface())
	field.Set(reflect.MakeFunc(field.Type(), func(args []reflect.Value) []reflect.Value {
		out := honest.Call(args)[0]
		if out.Kind() == reflect.Slice {
			for i := range out.Len() {
				empty(out.Index(i))
			}
			return []reflect.Value{out}
		}
		row := reflect.New(out.Type()).Elem()
		row.Set(out)
		empty(row)
		return []reflect.Value{row}
	}))
	return v.Interface().(projection.Projection)
}

func expectRaise(t *testing.T, c *projection.Compiled, folder, what string) {
	t.Helper()
	for _, write := range []bool{false, true} {
		if err := checkRows(c, folder, write); err == nil || !strings.Contains(err.Error(), "raise the version") {
			t.Errorf("%s: %s, -update %t: %v", c, what, write, err)
		}
	}
}

// TestAnotherDeclarationNeedsAnotherVersion changes one projection in every way that its rows depend on, in a folder of
// its own, and raises the version then.
func TestAnotherDeclarationNeedsAnotherVersion(t *testing.T) {
	type wider struct {
		readmodel.Product
		More string `db:"more"`
	}
	type narrower struct {
		Tenant domain.Tenant `db:"tenant,key"`
		ID     domain.ID     `db:"id,key"`
		Name   string        `db:"name"`
	}
	for what, change := range map[string]func(version int) projection.Projection{
		"another fold": func(version int) projection.Projection {
			p := sales.Product
			p.Version = version
			p.Evolve = func(r readmodel.Product, k projection.StreamKey, e domain.Recorded) readmodel.Product {
				if _, discontinued := e.Event.(product.Discontinued); discontinued {
					return r
				}
				return sales.Product.Evolve(r, k, e)
			}
			return p
		},
		"other keys": func(version int) projection.Projection {
			p := sales.Product
			p.Version = version
			p.Keys = func(e domain.Recorded) []projection.StreamKey {
				return []projection.StreamKey{{Tenant: e.Tenant, ID: domain.ID(e.ID)}}
			}
			return p
		},
		"rows that go": func(version int) projection.Projection {
			p := sales.Product
			p.Version = version
			p.Gone = func(r readmodel.Product) bool { return r.Status == "discontinued" }
			return p
		},
		"fewer events": func(version int) projection.Projection {
			p := sales.Product
			p.Version, p.Events = version, []string{"product.added", "product.updated"}
			return p
		},
		"one more column": func(version int) projection.Projection {
			return projection.Fold[projection.StreamKey, wider]{
				Name: sales.Product.Name, Version: version, Doc: sales.Product.Doc, Events: sales.Product.Events, Keys: sales.Product.Keys,
				Evolve: func(r wider, k projection.StreamKey, e domain.Recorded) wider {
					r.Product = sales.Product.Evolve(r.Product, k, e)
					return r
				},
			}
		},
		"fewer columns": func(version int) projection.Projection {
			return projection.Fold[projection.StreamKey, narrower]{
				Name: sales.Product.Name, Version: version, Doc: sales.Product.Doc, Events: sales.Product.Events, Keys: sales.Product.Keys,
				Evolve: func(r narrower, _ projection.StreamKey, _ domain.Recorded) narrower { return r },
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			folder := t.TempDir()
			compile := func(p projection.Projection) *projection.Compiled {
				c, err := p.Compile()
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			first := compile(sales.Product)
			if err := checkRows(first, folder, true); err != nil {
				t.Fatal(err)
			}
			expectRaise(t, compile(change(first.Version)), folder, what)
			if err := checkRows(first, folder, false); err != nil {
				t.Errorf("the file was changed: %v", err)
			}
			raised := compile(change(first.Version + 1))
			if err := checkRows(raised, folder, false); err == nil || !strings.Contains(err.Error(), "-update") {
				t.Errorf("a version without a file: %v", err)
			}
			if err := checkRows(raised, folder, true); err != nil {
				t.Error(err)
			}
			left, err := filepath.Glob(folder + "/*")
			if want := []string{rowFile(raised, folder)}; err != nil || !slices.Equal(left, want) {
				t.Errorf("the folder has %v, want %v; %v", left, want, err)
			}
			if err := checkRows(raised, folder, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNewEventsAreAddedToTheFiles: a file of shorter lives is right as far as it goes, and -update adds the rest.
func TestNewEventsAreAddedToTheFiles(t *testing.T) {
	for _, c := range compiled(t) {
		folder := t.TempDir()
		var shorter []life
		for _, l := range lives()[1:] {
			shorter = append(shorter, life{l.name, l.steps[:len(l.steps)-1]})
		}
		shorter = append([]life{lives()[0]}, shorter[:len(shorter)-1]...)
		text, err := rowText(c, shorter)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(rowFile(c, folder), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := checkRows(c, folder, false); err == nil || strings.Contains(err.Error(), "raise the version") || !strings.Contains(err.Error(), "-update") {
			t.Errorf("%s: a file of shorter lives: %v", c, err)
		}
		if err := checkRows(c, folder, true); err != nil {
			t.Error(err)
		}
		if err := checkRows(c, folder, false); err != nil {
			t.Error(err)
		}
	}
}
