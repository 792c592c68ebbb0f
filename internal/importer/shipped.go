package importer

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:embed mappings/*.yaml
var mappings embed.FS

// Shipped returns the mapping of this name that comes with the program.
func Shipped(name string) (*Mapping, error) {
	file, err := mappings.Open("mappings/" + path.Base(name) + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no mapping %q ships with the program: %w", name, err)
	}
	defer file.Close()
	return ParseMapping(file)
}

// ShippedNames lists the mappings that come with the program.
func ShippedNames() []string {
	entries, _ := mappings.ReadDir("mappings")
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	slices.Sort(names)
	return names
}
