package view

import (
	"slices"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// record is the kind of a record that is declared as a query.Record: all follows from the declaration.
type record struct {
	query.Single
	declared query.RecordDeclaration
}

func recordKind(s query.Single) Kind { return record{s, s.DeclaredRecord()} }

func (r record) Aggregate() string { return r.declared.Aggregate }

func (r record) State(f Fold, id domain.ID, _ time.Time) any { return r.Assemble(f.all, id) }

func (r record) parts() []Part {
	list := make([]Part, len(r.declared.Parts))
	for i, p := range r.declared.Parts {
		list[i] = Part{Needs: []string{p.View}, Formula: p.Formula, Explain: p.Derived}
		if p.Member != "" {
			list[i].Members = []string{p.Member}
		}
	}
	return list
}

func (r record) Needs() []string { return needs(r.parts()) }

func (r record) Part(member string) (Part, bool) { return partOf(r.parts(), member) }

// Explained assembles nothing of a record that the events folded do not begin.
func (r record) Explained(f Fold, id domain.ID, member string, _ time.Time) ([]byte, error) {
	if part, _ := r.Part(member); slices.Contains(part.Needs, r.declared.Parts[0].View) && len(f.all(r.declared.Parts[0].View)) == 0 {
		return Marshal(map[string]any{})
	}
	state := r.Assemble(f.all, id)
	if value, derived := r.Derive(state, member); derived {
		return Marshal(map[string]any{member: value})
	}
	return Marshal(state)
}

func (r record) Figure(path []string) bool {
	for _, p := range r.declared.Parts {
		if p.Derived && p.Member == path[0] {
			return figure(p.Type, path[1:])
		}
	}
	return figure(r.declared.Type, path)
}

func (r record) Fields() []string {
	var list []string
	collect("", r.declared.Type, &list)
	for _, p := range r.declared.Parts {
		if p.Derived {
			list = append(list, "/"+p.Member)
		}
	}
	slices.Sort(list)
	return list
}

func (r record) lists(keys map[string]string) error { return elementKeys(r.declared.Type, keys) }
