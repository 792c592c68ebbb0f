package commands

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/domain"
)

// aggregate is a domain.Aggregate with its state type erased.
type aggregate struct {
	def      domain.Definition
	zero     any
	decide   func(state any, c domain.Command, f domain.Facts) ([]domain.Event, error)
	evolve   func(state any, e domain.Event) any
	exists   func(state any) bool
	keys     func(state any) []domain.Key
	subjects func(id domain.ID, state any) []domain.ID
	prepare  map[string]prepareFunc // by command type
}

// command is one command type of an aggregate with its validator.
type command struct {
	aggregate *aggregate
	spec      domain.CommandSpec
	plan      *plan
}

type prepareFunc func(ctx context.Context, l *Loader, req Request, c domain.Command) (domain.Command, error)

// Option adds to the registration of an aggregate.
type Option func(*aggregate)

// Prepare has every command of type C completed before it is decided: foreign facts loaded into its json:"-" fields,
// values normalised. The function runs once more whenever the command is decided again; Request.Target is the id of the
// aggregate, for creating commands too. Only one function per command type.
func Prepare[C domain.Command](f func(ctx context.Context, l *Loader, req Request, c C) (C, error)) Option {
	return func(a *aggregate) {
		var zero C
		a.prepare[zero.CommandType()] = func(ctx context.Context, l *Loader, req Request, c domain.Command) (domain.Command, error) {
			return f(ctx, l, req, c.(C))
		}
	}
}

// Register adds an aggregate to the bus. It panics when the declaration contradicts itself or another aggregate, because
// that is a fault of the program. Not safe for use beside Submit.
func Register[S any](b *Bus, agg domain.Aggregate[S], opts ...Option) {
	a := &aggregate{
		def:  agg.Definition(),
		zero: *new(S),
		decide: func(s any, c domain.Command, f domain.Facts) ([]domain.Event, error) {
			return agg.Decider.Decide(s.(S), c, f)
		},
		evolve:   func(s any, e domain.Event) any { return agg.Decider.Evolve(s.(S), e) },
		exists:   func(s any) bool { return agg.Exists(s.(S)) },
		keys:     func(any) []domain.Key { return nil },
		subjects: func(domain.ID, any) []domain.ID { return nil },
		prepare:  map[string]prepareFunc{},
	}
	if agg.Keys != nil {
		a.keys = func(s any) []domain.Key { return agg.Keys(s.(S)) }
	}
	if agg.Subjects != nil {
		a.subjects = func(id domain.ID, s any) []domain.ID { return agg.Subjects(id, s.(S)) }
	}
	if _, twice := b.aggregates[agg.Name]; twice {
		panic(fmt.Sprintf("commands: aggregate %q is registered twice", agg.Name))
	}
	for _, o := range opts {
		o(a)
	}
	b.aggregates[agg.Name] = a
	b.order = append(b.order, agg.Name)
	for _, e := range agg.Events {
		if _, twice := b.schemas[e.Type()]; twice {
			panic(fmt.Sprintf("commands: event %q is declared twice", e.Type()))
		}
		b.schemas[e.Type()] = e.Version()
	}
	for _, spec := range agg.Commands {
		b.addCommand(a, spec)
	}
	for name := range a.prepare {
		if c := b.commands[name]; c == nil || c.aggregate != a {
			panic(fmt.Sprintf("commands: aggregate %q prepares %q, which is not its command", agg.Name, name))
		}
	}
}

func (b *Bus) addCommand(a *aggregate, spec domain.CommandSpec) {
	name := spec.Type()
	if _, twice := b.commands[name]; twice {
		panic(fmt.Sprintf("commands: command %q is declared twice", name))
	}
	p, err := newPlan(spec.GoType())
	if err != nil {
		panic(fmt.Sprintf("commands: command %q: %v", name, err))
	}
	b.commands[name] = &command{aggregate: a, spec: spec, plan: p}
}

// Loader gives a preparation the states of other aggregates of the same tenant, from the log through the bus's cache.
// What it answers may lag behind other processes, except when a first decision was a refusal: then everything is read
// again before the refusal is believed.
type Loader struct {
	bus    *Bus
	tenant domain.Tenant
	fresh  bool
}

// Load returns the state of an aggregate and whether it exists. The error wraps *domain.UnavailableError when the log
// does not answer.
func Load[S any](ctx context.Context, l *Loader, agg domain.Aggregate[S], id domain.ID) (S, bool, error) {
	var zero S
	a, ok := l.bus.aggregates[agg.Name]
	if !ok {
		return zero, false, fmt.Errorf("commands: aggregate %q is not registered", agg.Name)
	}
	v, err := l.bus.load(ctx, domain.StreamID{Tenant: l.tenant, Aggregate: agg.Name, ID: id}, l.fresh)
	if err != nil {
		return zero, false, err
	}
	if !a.exists(v.state) {
		return zero, false, nil
	}
	return v.state.(S), true, nil
}
