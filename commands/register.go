package commands

import (
	"context"
	"fmt"
	"maps"
	"slices"

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
	then     map[string]thenFunc    // by command type
	alone    map[string]bool        // by command type

	unclaimed map[string]unclaimed // by command type
}

// unclaimed is a key that must be nobody's, and what is said of it when it is somebody's.
type unclaimed struct {
	key    func(self domain.ID) domain.Key
	refuse func(holder domain.ID) error
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

// thenFunc continues an executed command.
type thenFunc func(ctx context.Context, b *Bus, req Request, r Receipt) error

// Then has a second command follow every executed command of type C, replayed and unchanged ones included, before it is
// answered: a process over two streams, which a repetition of the first command completes when it was cut off between
// them. f submits with a key that follows from the first command's, so that repetitions are recognised.
func Then[C domain.Command](f func(ctx context.Context, b *Bus, req Request, c C, r Receipt) error) Option {
	return func(a *aggregate) {
		var zero C
		a.then[zero.CommandType()] = func(ctx context.Context, b *Bus, req Request, r Receipt) error {
			return f(ctx, b, req, req.Command.(C), r)
		}
	}
}

// Alone has commands of type C of one tenant executed one at a time by this process, for decisions on facts that a
// command of the same type on another aggregate may be about to change.
func Alone[C domain.Command]() Option {
	return func(a *aggregate) {
		var zero C
		a.alone[zero.CommandType()] = true
	}
}

// Unclaimed lets a command of type C go on only while no aggregate of its kind holds or claims the key that follows from the
// aggregate addressed; refuse says who does. It is looked at after the command has made its own claims and before it
// appends: of commands that each claim what another needs unclaimed at most one goes on, in whatever processes they run.
// Such a command makes its claims even when duplicates are allowed.
func Unclaimed[C domain.Command](key func(self domain.ID) domain.Key, refuse func(holder domain.ID) error) Option {
	return func(a *aggregate) {
		var zero C
		a.unclaimed[zero.CommandType()] = unclaimed{key, refuse}
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
		then:     map[string]thenFunc{},
		alone:    map[string]bool{},

		unclaimed: map[string]unclaimed{},
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
	for _, name := range slices.Concat(slices.Collect(maps.Keys(a.prepare)), slices.Collect(maps.Keys(a.then)),
		slices.Collect(maps.Keys(a.alone)), slices.Collect(maps.Keys(a.unclaimed))) {
		if c := b.commands[name]; c == nil || c.aggregate != a {
			panic(fmt.Sprintf("commands: %q is not a command of aggregate %q", name, agg.Name))
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
	bus   *Bus
	self  domain.StreamID // the stream that the command addresses
	state any             // its state, on which the command is decided
	fresh bool
}

// Load returns the state of an aggregate and whether it exists. The error wraps *domain.UnavailableError when the log
// does not answer.
func Load[S any](ctx context.Context, l *Loader, agg domain.Aggregate[S], id domain.ID) (S, bool, error) {
	var zero S
	a, ok := l.bus.aggregates[agg.Name]
	if !ok {
		return zero, false, fmt.Errorf("commands: aggregate %q is not registered", agg.Name)
	}
	state := l.state
	if stream := (domain.StreamID{Tenant: l.self.Tenant, Aggregate: agg.Name, ID: id}); stream != l.self {
		v, err := l.bus.load(ctx, stream, l.fresh)
		if err != nil {
			return zero, false, err
		}
		state = v.state
	}
	if !a.exists(state) {
		return zero, false, nil
	}
	return state.(S), true, nil
}

// mustExist rejects a reference that names no kind of aggregate or no aggregate of the kind.
func (l *Loader) mustExist(ctx context.Context, aggregate string, id domain.ID, pointer string) error {
	a, ok := l.bus.aggregates[aggregate]
	if !ok {
		return domain.Invalid(pointer+"/aggregate", "%q is not a kind of aggregate", aggregate)
	}
	v, err := l.bus.load(ctx, domain.StreamID{Tenant: l.self.Tenant, Aggregate: aggregate, ID: id}, l.fresh)
	if err == nil && !a.exists(v.state) {
		return domain.Reject(aggregate+"-unknown", "there is no %s %s", aggregate, id).At(pointer + "/id")
	}
	return err
}
