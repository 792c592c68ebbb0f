package domain

import (
	"reflect"
	"strings"
	"time"
)

// Facts is what a decision may know beside the state and the command.
type Facts struct {
	ID         ID        // of the aggregate that the command addresses
	Now        time.Time // the server's clock, UTC
	OccurredAt time.Time // when the business says it happened, UTC; Now unless the command says otherwise
	Actor      Actor
}

// Decider is the pure heart of an aggregate. The zero S is the state of a stream without events.
type Decider[S any] struct {
	// Decide returns the events that the command causes, none when it changes nothing, or an error: *Rejection for a
	// rule of the business, *InvalidError for a value that can never be right.
	Decide func(S, Command, Facts) ([]Event, error)
	// Evolve folds one recorded event. Events are facts: it never refuses.
	Evolve func(S, Event) S
}

// Aggregate declares a consistency boundary: its name, its decider, its events and its commands. Routes, permissions,
// documentation, codec entries and schemas follow from the declaration.
type Aggregate[S any] struct {
	Name     string // singular, lower case, "_" between words; part of stream names
	Plural   string // kebab-case; part of routes
	Doc      string // one sentence
	Decider  Decider[S]
	Events   []EventSpec
	Commands []CommandSpec

	Deadlines []Deadline // moments at which it is woken

	// Exists reports whether the aggregate has come to exist; a command that does not create is answered 404 before.
	Exists func(S) bool
	// Keys returns the values of the state that no other aggregate of the tenant may hold; nil when there are none.
	Keys func(S) []Key
	// Subjects returns the customers that the aggregate concerns; nil when there are none. Every event is stored with
	// the subjects before and after it, so that timelines and histories need no look-ups.
	Subjects func(ID, S) []ID
}

// Key is a value that must be unique among the aggregates of a tenant.
type Key struct {
	Kind    string // "tax-id", "email", "phone": kebab-case
	Value   string // normalised
	Pointer string // the command's field it usually comes from, for the error; may be empty
}

// Command is a request to one aggregate, in the imperative: "opportunity.win". Its exported fields with a JSON name come
// from the client; fields tagged json:"-" are facts of other aggregates that the handler brings in.
type Command interface {
	CommandType() string
	Occurred() time.Time
}

// When is embedded in every command: the business time of what it reports.
type When struct {
	OccurredAt time.Time `json:"occurredAt,omitzero" doc:"When it happened in the business; the time of receipt when left out." required:"false"`
}

// Occurred returns the business time; zero means at the time of receipt.
func (w When) Occurred() time.Time { return w.OccurredAt }

// CommandSpec declares one command of an aggregate.
type CommandSpec struct {
	Example Command // a complete, invented instance that is accepted in the right state
	Creates bool    // the command starts a new stream; at most one command of an aggregate does
	Doc     string  // one sentence for the API reference
}

// Type returns the command's permanent name.
func (s CommandSpec) Type() string { return s.Example.CommandType() }

// Verb returns the part of the name after the aggregate, kebab-case: the last segment of the route.
func (s CommandSpec) Verb() string {
	_, verb, _ := strings.Cut(s.Type(), ".")
	return strings.ReplaceAll(verb, "_", "-")
}

// GoType returns the Go struct type of the command.
func (s CommandSpec) GoType() reflect.Type { return reflect.TypeOf(s.Example) }

// Definition is an Aggregate without its state type. Package domain/aggregates lists those of the product; the command bus,
// the codec, documentation and routes follow from the list.
type Definition struct {
	Name, Plural, Doc string
	Events            []EventSpec
	Commands          []CommandSpec
	Deadlines         []Deadline
	Concerns          bool       // its events concern customers: see Aggregate.Subjects
	Behaviour         *Behaviour // nil for streams that the command bus alone writes, which take no commands
}

// Behaviour is what an Aggregate does, over states of any type: Zero, and what Evolve made of it.
type Behaviour struct {
	Zero     any
	Decide   func(state any, c Command, f Facts) ([]Event, error)
	Evolve   func(state any, e Event) any
	Exists   func(state any) bool
	Keys     func(state any) []Key       // never nil
	Subjects func(id ID, state any) []ID // never nil
}

// Definition returns the declaration without the state type.
func (a Aggregate[S]) Definition() Definition {
	b := &Behaviour{
		Zero:     *new(S),
		Decide:   func(s any, c Command, f Facts) ([]Event, error) { return a.Decider.Decide(s.(S), c, f) },
		Evolve:   func(s any, e Event) any { return a.Decider.Evolve(s.(S), e) },
		Exists:   func(s any) bool { return a.Exists(s.(S)) },
		Keys:     func(any) []Key { return nil },
		Subjects: func(ID, any) []ID { return nil },
	}
	if a.Keys != nil {
		b.Keys = func(s any) []Key { return a.Keys(s.(S)) }
	}
	if a.Subjects != nil {
		b.Subjects = func(id ID, s any) []ID { return a.Subjects(id, s.(S)) }
	}
	return Definition{Name: a.Name, Plural: a.Plural, Doc: a.Doc, Events: a.Events, Commands: a.Commands, Deadlines: a.Deadlines, Concerns: a.Subjects != nil, Behaviour: b}
}

// Fold folds events over the zero state.
func (d Decider[S]) Fold(events ...Event) S {
	var s S
	for _, e := range events {
		s = d.Evolve(s, e)
	}
	return s
}
