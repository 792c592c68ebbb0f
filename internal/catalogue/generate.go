package catalogue

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/rapport-crm/rapport/domain"
)

const (
	schemaFolder = "schemas"
	indexFile    = "README.md"
)

// Generate writes the catalogue into the folder dir. When an event that was released before changed incompatibly or is
// gone, it writes nothing and returns an error that says what to do.
func Generate(dir string, definitions []domain.Definition) error {
	files, err := render(definitions)
	if err != nil {
		return err
	}
	if err := checkReleased(dir, files); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, schemaFolder), 0o755); err != nil {
		return err
	}
	for _, name := range sortedKeys(files) {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return err
		}
	}
	return removePages(dir, files)
}

// Stale lists what Generate would write differently, or the reason why it would refuse.
func Stale(dir string, definitions []domain.Definition) ([]string, error) {
	files, err := render(definitions)
	if err != nil {
		return nil, err
	}
	if err := checkReleased(dir, files); err != nil {
		return nil, err
	}
	var stale []string
	for _, name := range sortedKeys(files) {
		if have, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(have, files[name]) {
			stale = append(stale, name)
		}
	}
	return stale, nil
}

// render returns the content of every file of the catalogue by its path in it.
func render(definitions []domain.Definition) (map[string][]byte, error) {
	files := map[string][]byte{indexFile: indexPage(definitions)}
	for _, d := range definitions {
		page, err := aggregatePage(d)
		if err != nil {
			return nil, err
		}
		files[d.Name+".md"] = page
		for _, spec := range d.Events {
			for schema, t := range schemasOf(spec) {
				if files[schemaFile(spec.Type(), schema)], err = schemaOf(spec.Type(), schema, t); err != nil {
					return nil, fmt.Errorf("%s: %w", spec.Type(), err)
				}
			}
		}
	}
	return files, nil
}

// schemasOf returns the Go type of every schema of an event.
func schemasOf(spec domain.EventSpec) map[int]reflect.Type {
	types := map[int]reflect.Type{spec.Version(): reflect.TypeOf(spec.Example)}
	for _, u := range spec.Upcasts {
		types[u.From] = reflect.TypeOf(u.New()).Elem()
	}
	return types
}

func schemaFile(name string, schema int) string {
	return fmt.Sprintf("%s/%s.%d.json", schemaFolder, name, schema)
}

// checkReleased compares the schemas that stand in dir with those that would be written.
func checkReleased(dir string, files map[string][]byte) error {
	var broken []error
	released, err := filepath.Glob(filepath.Join(dir, schemaFolder, "*.json"))
	if err != nil {
		return err
	}
	for _, path := range released {
		name := schemaFolder + "/" + filepath.Base(path)
		now, ok := files[name]
		if !ok {
			broken = append(broken, fmt.Errorf("%s: this schema of the event is no longer declared, but events of it are stored: keep it, with an upcaster if it is old", path))
			continue
		}
		before, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		changes, err := incompatible(before, now)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if len(changes) > 0 {
			broken = append(broken, fmt.Errorf("%s: released events have this schema, it may gain optional fields only; raise the event's schema and write an upcaster (or delete the file if it was never released):\n\t%s",
				path, strings.Join(changes, "\n\t")))
		}
	}
	return errors.Join(broken...)
}

// removePages deletes pages of aggregates that there are no more. Schemas are never deleted.
func removePages(dir string, files map[string][]byte) error {
	pages, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		if _, wanted := files[filepath.Base(page)]; !wanted {
			if err := os.Remove(page); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
