package commands

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/domain"
)

// command is one command type of an aggregate: its declaration, its validator, and the rules that its area adds.
type command struct {
	domain.CommandSpec
	aggregate *domain.Definition
	plan      *plan
	prepare   prepareFunc // nil: nothing
	then      thenFunc    // nil: nothing
	alone     bool
	unclaimed *unclaimed // nil: nothing
}

// unclaimed is a key that must be nobody's, and what is said of it when it is somebody's.
type unclaimed struct {
	key    func(self domain.ID) domain.Key
	refuse func(holder domain.ID) error
}

// Rule is what the bus does for commands of one type beside deciding them, or for a tenant that begins.
type Rule struct {
	command string         // type
	add     func(*command) // nil for a founding
	founds  *founding
}

// of is the rule of commands of type C.
func of[C domain.Command](add func(*command)) Rule {
	var zero C
	return Rule{command: zero.CommandType(), add: add}
}

type prepareFunc func(ctx context.Context, l *Loader, req Request, c domain.Command) (domain.Command, error)

// Prepare has every command of type C completed before it is decided: foreign facts loaded into its json:"-" fields,
// values normalised. The function runs once more whenever the command is decided again; Request.Target is the id of the
// aggregate, for creating commands too. Only one function per command type.
func Prepare[C domain.Command](f func(ctx context.Context, l *Loader, req Request, c C) (C, error)) Rule {
	return of[C](func(to *command) {
		to.prepare = func(ctx context.Context, l *Loader, req Request, c domain.Command) (domain.Command, error) {
			return f(ctx, l, req, c.(C))
		}
	})
}

// thenFunc continues an executed command.
type thenFunc func(ctx context.Context, b *Bus, req Request, r Receipt) error

// Then has a second command follow every executed command of type C, replayed and unchanged ones included, before it is
// answered: a process over two streams, which a repetition of the first command completes when it was cut off between
// them. f submits with a key that follows from the first command's, so that repetitions are recognised.
func Then[C domain.Command](f func(ctx context.Context, b *Bus, req Request, c C, r Receipt) error) Rule {
	return of[C](func(to *command) {
		to.then = func(ctx context.Context, b *Bus, req Request, r Receipt) error {
			return f(ctx, b, req, req.Command.(C), r)
		}
	})
}

// Alone has commands of type C of one tenant executed one at a time by this process, for decisions on facts that a
// command of the same type on another aggregate may be about to change.
func Alone[C domain.Command]() Rule { return of[C](func(to *command) { to.alone = true }) }

// Unclaimed lets a command of type C go on only while no aggregate of its kind holds or claims the key that follows from the
// aggregate addressed; refuse says who does. It is looked at after the command has made its own claims and before it
// appends: of commands that each claim what another needs unclaimed at most one goes on, in whatever processes they run.
// Such a command makes its claims even when duplicates are allowed.
func Unclaimed[C domain.Command](key func(self domain.ID) domain.Key, refuse func(holder domain.ID) error) Rule {
	return of[C](func(to *command) { to.unclaimed = &unclaimed{key, refuse} })
}

// founding is a creating command that every tenant begins with.
type founding struct {
	key     string
	id      domain.ID
	command domain.Command
}

// Found has Prime create an aggregate with an id of its own, the same in every tenant. The key is that of the command.
func Found(id domain.ID, key string, c domain.Command) Rule {
	return Rule{command: c.CommandType(), founds: &founding{key, id, c}}
}

// System is who does what nobody asked for: the foundings of tenants, processes and deadlines.
var System = domain.Actor{ID: "rapport", Kind: domain.ActorAutomation}

// Prime writes what a tenant needs before its first command: see Found. Doing it again changes nothing.
func (b *Bus) Prime(ctx context.Context, tenant domain.Tenant) error {
	for _, f := range b.foundings {
		req := Request{Tenant: tenant, Actor: System, Key: f.key, Command: f.command, wanted: f.id}
		if _, err := b.Submit(ctx, req); err != nil {
			return err
		}
	}
	return nil
}

// Register adds aggregates to the bus, but for those without behaviour, and then rules for their commands. It panics when a
// declaration contradicts itself or another one, because that is a fault of the program. Not safe for use beside Submit.
func (b *Bus) Register(aggregates []domain.Definition, rules ...Rule) {
	for _, a := range aggregates {
		if a.Behaviour != nil {
			b.addAggregate(&a)
		}
	}
	for _, r := range rules {
		c := b.commands[r.command]
		switch {
		case c == nil:
			panic(fmt.Sprintf("commands: there is a rule for %q, which is not a command", r.command))
		case r.founds != nil:
			b.foundings = append(b.foundings, *r.founds)
		default:
			r.add(c)
		}
	}
}

func (b *Bus) addAggregate(a *domain.Definition) {
	if _, twice := b.aggregates[a.Name]; twice {
		panic(fmt.Sprintf("commands: aggregate %q is registered twice", a.Name))
	}
	b.aggregates[a.Name] = a
	b.order = append(b.order, a.Name)
	for _, e := range a.Events {
		if _, twice := b.schemas[e.Type()]; twice {
			panic(fmt.Sprintf("commands: event %q is declared twice", e.Type()))
		}
		b.schemas[e.Type()] = e.Version()
	}
	for _, spec := range a.Commands {
		name := spec.Type()
		if _, twice := b.commands[name]; twice {
			panic(fmt.Sprintf("commands: command %q is declared twice", name))
		}
		p, err := newPlan(spec.GoType())
		if err != nil {
			panic(fmt.Sprintf("commands: command %q: %v", name, err))
		}
		b.commands[name] = &command{CommandSpec: spec, aggregate: a, plan: p}
	}
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
	state, exists, err := l.load(ctx, agg.Name, id)
	if err != nil || !exists {
		var zero S
		return zero, false, err
	}
	return state.(S), true, nil
}

// load returns the state of an aggregate and whether it exists.
func (l *Loader) load(ctx context.Context, aggregate string, id domain.ID) (state any, exists bool, err error) {
	a := l.bus.aggregates[aggregate]
	if a == nil {
		return nil, false, fmt.Errorf("commands: aggregate %q is not registered", aggregate)
	}
	state = l.state
	if stream := (domain.StreamID{Tenant: l.self.Tenant, Aggregate: aggregate, ID: id}); stream != l.self {
		v, err := l.bus.load(ctx, stream, l.fresh)
		if err != nil {
			return nil, false, err
		}
		state = v.state
	}
	return state, a.Behaviour.Exists(state), nil
}

// Knows reports whether there is a kind of aggregate of this name.
func (l *Loader) Knows(aggregate string) bool { return l.bus.aggregates[aggregate] != nil }

// MustExist refuses the id at pointer when it names no aggregate of the kind, which the bus must know.
func (l *Loader) MustExist(ctx context.Context, aggregate string, id domain.ID, pointer string) error {
	_, exists, err := l.load(ctx, aggregate, id)
	if err == nil && !exists {
		err = domain.Reject(aggregate+"-unknown", "there is no {aggregate} {id}", aggregate, id).At(pointer)
	}
	return err
}
