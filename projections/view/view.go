// Package view assembles the answers of the read models from rows in memory: the states of a replay, and the values that
// are explained. What the queries of package readmodels do in SQL it does over the rows of an evaluation of a few streams.
package view

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/asof"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Shape knows every kind of record that can be replayed. It is safe for concurrent use.
type Shape struct {
	compiled map[string]*projection.Compiled
}

// New compiles the projections that records are assembled from.
func New(declared []projection.Projection) (*Shape, error) {
	list, err := projection.Compile(declared...)
	if err != nil {
		return nil, err
	}
	s := &Shape{compiled: map[string]*projection.Compiled{}}
	for _, c := range list {
		s.compiled[c.Name] = c
	}
	for _, k := range kinds {
		for _, p := range k.parts() {
			for _, name := range p.Needs {
				if s.compiled[name] == nil {
					return nil, fmt.Errorf("view of %s: there is no projection %s", k.Aggregate(), name)
				}
			}
		}
	}
	return s, nil
}

// Fold is an evaluation of some projections in memory. It is not safe for concurrent use.
type Fold struct{ *asof.Evaluation }

// Fold returns an evaluation of no events by the projections named.
func (s *Shape) Fold(names ...string) Fold {
	list := make([]*projection.Compiled, len(names))
	for i, name := range names {
		list[i] = s.compiled[name]
	}
	return Fold{asof.NewEvaluation(list...)}
}

// all returns the rows of a projection in the order of the key; none of one that was not asked for.
func (f Fold) all(name string) []any {
	memory := f.Memory(name)
	if memory == nil {
		return nil
	}
	return memory.All()
}

// rows returns the rows of a projection for which keep holds, in the order of the key.
func rows[R any](f Fold, name string, keep func(R) bool) []R {
	list := []R{}
	for _, row := range f.all(name) {
		if r := row.(R); keep(r) {
			list = append(list, r)
		}
	}
	return list
}

// Part is a member of a view, or several that are made of the same rows.
type Part struct {
	Members []string // of the JSON object; none stands for all that no other part names
	Needs   []string // the projections whose rows it is made of
	Formula string   // how it is made, for readers
	Explain bool     // it is explained and not a part of states, because it follows from them
	Of      string   // the aggregate of whose records, by their ids, it is a list; empty for every other part
}

// Kind is a kind of record with its view.
type Kind interface {
	// Aggregate names the streams of such records.
	Aggregate() string
	// State assembles the record as a replay shows it, with now for what depends on the date.
	State(f Fold, id domain.ID, now time.Time) any
	// Needs returns the projections that State reads.
	Needs() []string
	// Part returns the part of the explained view to which a member belongs, and false when there is none.
	Part(member string) (Part, bool)
	// Explained assembles the part of the view that holds a member, as of an instant, as JSON.
	Explained(f Fold, id domain.ID, member string, now time.Time) ([]byte, error)
	// Figure reports whether a path leads to a number, be it an amount or a count.
	Figure(path []string) bool
	// Fields returns the JSON pointers of everything that can be explained; * stands for an element of a list.
	Fields() []string

	parts() []Part
	lists(keys map[string]string) error // adds the members that identify the elements of its lists
}

// kinds are all kinds of records that can be replayed: those that are declared, but that a customer is seen with everything
// that is known of it.
var kinds = func() []Kind {
	list := []Kind{customerKind}
	for _, r := range readmodels.Records() {
		if r != query.Single(party.CustomerRecord) {
			list = append(list, recordKind(r))
		}
	}
	return list
}()

// Of returns the kind of records whose streams an aggregate name stands for, and false when there is none.
func Of(aggregate string) (Kind, bool) {
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Aggregate() == aggregate })
	if i < 0 {
		return nil, false
	}
	return kinds[i], true
}

// subject is the record that a view is about.
type subject struct {
	id     domain.ID
	family []domain.ID // of a customer: the survivor, then all that were merged into it
	now    time.Time
}

// filler is a Part of a view of type V and how to fill it in.
type filler[V any] struct {
	Part
	fill func(*V, Fold, subject)
}

// kind is a Kind whose states are of type S and whose explained views, which begin with a state, are of type V.
type kind[S, V any] struct {
	aggregate string
	fillers   []filler[V]
	state     func(*V) *S
	family    bool // the record stands for a family of customers
}

func (k *kind[S, V]) Aggregate() string { return k.aggregate }

func (k *kind[S, V]) parts() []Part {
	list := make([]Part, len(k.fillers))
	for i, f := range k.fillers {
		list[i] = f.Part
	}
	return list
}

func (k *kind[S, V]) Needs() []string { return needs(k.parts()) }

func (k *kind[S, V]) lists(keys map[string]string) error {
	return elementKeys(reflect.TypeFor[V](), keys)
}

// needs returns the projections that the shown parts are made of.
func needs(parts []Part) []string {
	var names []string
	for _, p := range parts {
		if !p.Explain {
			names = append(names, p.Needs...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// partOf returns the part to which a member belongs: the one that names it, or the one that names none.
func partOf(parts []Part, member string) (Part, bool) {
	i := slices.IndexFunc(parts, func(p Part) bool { return slices.Contains(p.Members, member) })
	if i < 0 {
		i = slices.IndexFunc(parts, func(p Part) bool { return p.Members == nil })
	}
	if i < 0 {
		return Part{}, false
	}
	return parts[i], true
}

func (k *kind[S, V]) subject(f Fold, id domain.ID, now time.Time) subject {
	s := subject{id: id, now: now}
	if k.family {
		s.family = Family(f, id)
		s.id = s.family[0]
	}
	return s
}

func (k *kind[S, V]) State(f Fold, id domain.ID, now time.Time) any {
	var v V
	of := k.subject(f, id, now)
	for _, p := range k.fillers {
		if !p.Explain {
			p.fill(&v, f, of)
		}
	}
	return *k.state(&v)
}

func (k *kind[S, V]) Part(member string) (Part, bool) { return partOf(k.parts(), member) }

func (k *kind[S, V]) Explained(f Fold, id domain.ID, member string, now time.Time) ([]byte, error) {
	var v V
	for _, p := range k.fillers {
		if slices.Contains(p.Members, member) {
			p.fill(&v, f, k.subject(f, id, now))
		}
	}
	return Marshal(v)
}

// asAnswered are the options by which the API renders answers, and maps in order.
var asAnswered = json.JoinOptions(jsonv1.OmitEmptyWithLegacySemantics(true), jsontext.AllowInvalidUTF8(true), json.Deterministic(true))

// Marshal renders a view, or a part of one, as the API does: empty lists as [], zero members left out where their tag says
// omitempty. The same view always gives the same bytes.
func Marshal(v any) ([]byte, error) { return json.Marshal(v, asAnswered) }

// newestFirst orders optional times downwards, missing ones first, as descending columns do.
func newestFirst(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return b.Compare(*a)
}

// nullsLast orders optional values upwards, missing ones last, as ascending columns do.
func nullsLast[T cmp.Ordered](a, b *T) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*a, *b)
}

// first returns at most n elements.
func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }
