// Package codectest holds the test that every aggregate runs over its events: each released schema of each event reads
// back for ever.
package codectest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

var update = flag.Bool("update", false, "add golden files that are missing; existing ones are never edited")

// fileName matches "<type>.<schema>.json" and, for a payload with optional fields added later, "<type>.<schema>.<n>.json".
var fileName = regexp.MustCompile(`^(.+?\..+?)\.(\d+)(?:\.(\d+))?\.json$`)

// Golden checks the events of one aggregate against the files of dir, usually "testdata/events". Every file must decode
// and lift to the newest schema; a file of the newest schema must also encode again to the same bytes. Every example must
// stand in a file of its newest schema, and every older schema must have a file. A file that belongs to no event fails:
// events that were ever released stay readable.
//
// With -update, files that are missing are added, existing ones are not touched. Adding an optional field to a released
// event therefore adds a file beside the old one. To change an event that was never released, delete its file first.
func Golden(t *testing.T, def domain.Definition, dir string) {
	t.Helper()
	registry, err := codec.New(def)
	if err != nil {
		t.Fatal(err)
	}
	stored := readAll(t, dir)
	specs := map[string]domain.EventSpec{}
	for _, spec := range def.Events {
		specs[spec.Type()] = spec
		t.Run(spec.Type(), func(t *testing.T) {
			namedFields(t, reflect.TypeOf(spec.Example), spec.Type())
			golden(t, registry, spec, dir, stored[spec.Type()])
		})
	}
	for name, files := range stored {
		if _, known := specs[name]; !known {
			t.Errorf("%s: event %s is no longer declared, but it was recorded once and must stay readable", files[0].path, name)
		}
	}
}

// file is one golden payload, without the newline at its end.
type file struct {
	path   string
	schema int
	data   []byte
}

func readAll(t *testing.T, dir string) map[string][]file {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]file{}
	for _, path := range paths {
		m := fileName.FindStringSubmatch(filepath.Base(path))
		if m == nil {
			t.Errorf("%s: not named <event type>.<schema>.json", path)
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		schema, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		files[m[1]] = append(files[m[1]], file{path, schema, bytes.TrimSuffix(data, []byte("\n"))})
	}
	return files
}

func golden(t *testing.T, registry *codec.Registry, spec domain.EventSpec, dir string, files []file) {
	newest := spec.Version()
	example := encode(t, registry, spec.Example)
	if back, err := registry.DecodePayload(spec.Type(), newest, example); err != nil {
		t.Fatalf("the example does not read back: %v", err)
	} else if diff := cmp.Diff(spec.Example, back, unexported); diff != "" {
		t.Errorf("the example does not read back as it was written (-written +read):\n%s", diff)
	}

	covered, found := make([]bool, newest+1), false
	for _, f := range files {
		event, err := registry.DecodePayload(spec.Type(), f.schema, f.data)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
			continue
		}
		covered[f.schema] = true
		if f.schema != newest {
			continue
		}
		again := encode(t, registry, event)
		if !bytes.Equal(again, f.data) {
			t.Errorf("%s: encodes again as\n%s\nwant\n%s", f.path, again, f.data)
		}
		found = found || bytes.Equal(f.data, example)
	}
	for schema := 1; schema < newest; schema++ {
		if !covered[schema] {
			t.Errorf("no golden file %s.%d.json: the file of an older schema is the one that was kept when it was the newest", spec.Type(), schema)
		}
	}
	switch {
	case found:
	case *update:
		add(t, dir, spec.Type(), newest, example)
	default:
		t.Errorf("no golden file of schema %d holds the example; run go test with -update to add one (and delete the old one only if it was never released):\n%s", newest, example)
	}
}

// add writes a payload under the first free name.
func add(t *testing.T, dir, name string, schema int, data []byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%s.%d.json", name, schema))
	for n := 2; ; n++ {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if os.IsExist(err) {
			path = filepath.Join(dir, fmt.Sprintf("%s.%d.%d.json", name, schema, n))
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(append(data, '\n')); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("added %s", path)
		return
	}
}

func encode(t *testing.T, registry *codec.Registry, event domain.Event) []byte {
	t.Helper()
	data, _, err := registry.Encode(domain.Pending{Event: event, Metadata: domain.Metadata{
		Tenant:     domain.DefaultTenant,
		Actor:      domain.Actor{ID: "golden", Kind: domain.ActorHuman},
		OccurredAt: time.Unix(0, 0),
		RecordedAt: time.Unix(0, 0),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// unexported lets decimals compare by value; every field of an event itself is exported.
var unexported = cmp.Comparer(func(a, b domain.Amount) bool { return a.Equal(b) })

// namedFields fails for an exported field without a JSON name of its own: renaming the Go field would orphan history.
func namedFields(t *testing.T, typ reflect.Type, path string) {
	t.Helper()
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		namedFields(t, typ.Elem(), path)
		return
	case reflect.Struct:
	default:
		return
	}
	if !strings.HasPrefix(typ.PkgPath(), "github.com/rapport-crm/") || typ == reflect.TypeFor[domain.Amount]() {
		return
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported():
			t.Errorf("%s: field %s is not exported and would be lost", path, f.Name)
		case f.Anonymous && name == "":
			namedFields(t, f.Type, path)
		case name == "" || name == "-":
			t.Errorf("%s: field %s has no JSON name of its own", path, f.Name)
		default:
			namedFields(t, f.Type, path+"/"+name)
		}
	}
}
