package projection

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rapport-crm/rapport/domain"
)

// Parameter is a figure of a rule that people set and that events pin when the rule was applied, such as the probability of
// a stage. Projections take it from the events. To ask what would be if it had been set otherwise is to read the events as
// though they had pinned another figure: With says how, and every projection of those events follows.
//
// The figures of a parameter stand below two names: whose they are, and which one. A rule that is added later, such as a
// scoring rule, is declared in its area and listed in package projections.
type Parameter struct {
	Name    string   // in the file of a what-if
	Doc     string   // what the two names and the figure mean
	Events  []string // types of the events that pin it
	Min     int
	Max     int
	Declare []string // types of the events that say which figures there are
	// Known returns the figures that an event declares.
	Known func(e domain.Recorded) (owner Owner, names []string)
	Given []domain.Recorded // what is declared before any event says so
	// With returns the event as though it had pinned other figures. It changes nothing in place.
	With func(e domain.Recorded, figures Figures) domain.Event
}

// Owner is whose figures they are: something that is called by its id or by its name.
type Owner struct {
	ID   domain.ID
	Name string
}

// Figures are the values of one parameter: by the id of their owner and by name.
type Figures map[domain.ID]map[string]int

// Or returns the figure of an owner's name, and another value when it is not set.
func (f Figures) Or(id domain.ID, name string, other int) int {
	if figure, ok := f[id][name]; ok {
		return figure
	}
	return other
}

// Catalogue is which figures of a parameter there are.
type Catalogue struct {
	owners map[domain.ID]Owner
	names  map[domain.ID][]string
}

// NewCatalogue returns the catalogue of the figures of a parameter that each installation has from the start.
func NewCatalogue(p Parameter) *Catalogue {
	c := &Catalogue{owners: map[domain.ID]Owner{}, names: map[domain.ID][]string{}}
	for _, e := range p.Given {
		c.Add(e, p)
	}
	return c
}

// Add takes in what an event declares.
func (c *Catalogue) Add(e domain.Recorded, p Parameter) {
	owner, names := p.Known(e)
	c.owners[owner.ID] = owner
	c.names[owner.ID] = append(c.names[owner.ID], names...)
}

// Owner finds an owner by id or name. The error names those that there are.
func (c *Catalogue) Owner(text string) (domain.ID, error) {
	var found []domain.ID
	for id, o := range c.owners {
		if string(id) == strings.ToLower(text) || o.Name == text {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		known := []string{}
		for id, o := range c.owners {
			known = append(known, fmt.Sprintf("%s (%s)", o.Name, id))
		}
		slices.Sort(known)
		return "", fmt.Errorf("%q is unknown; there are %s", text, strings.Join(known, ", "))
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%q are several: use the id", text)
}

// Check reports why an owner has no figure of a name.
func (c *Catalogue) Check(owner domain.ID, name string) error {
	if slices.Contains(c.names[owner], name) {
		return nil
	}
	known := map[string]bool{}
	for _, n := range c.names[owner] {
		known[n] = true
	}
	return fmt.Errorf("%q is unknown in %s; there are %s", name, c.owners[owner].Name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}
