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

// Shipped returns the mapping of this name that comes with the program. The error names those that do.
func Shipped(name string) (*Mapping, error) {
	file, err := mappings.Open("mappings/" + path.Base(name) + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("%q is not one of the mappings that ship: %s", name, strings.Join(ShippedNames(), ", "))
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
