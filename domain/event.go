package domain

import (
	"fmt"
	"time"
)

// Event is a fact about one aggregate, in the past tense. Its type name is permanent ("opportunity.won"): it is stored
// with every event and is never derived from the Go type.
type Event interface{ EventType() string }

// FromTheStart is an event that begins a stream of configuration: once it is known, it holds from the beginning of time.
// Restated answers see it before everything that happened. Example: deals are often older than the day on which somebody
// told the system by which stages they go.
type FromTheStart interface {
	Event
	HoldsFromTheStart()
}

// EventSpec declares one event type of an aggregate. The codec entry, the JSON Schema, the catalogue page, the golden file and
// what timelines and histories say of it follow from it.
type EventSpec struct {
	Example Event      // a complete, invented instance; its Go type is what the newest schema decodes into
	Doc     string     // one sentence for the catalogue: what has happened when this event is recorded
	Words   Words      // a template over the members that tells one such event, in every language
	Schema  int        // the newest schema; zero means 1
	Upcasts []Upcaster // one for each older schema still in the log, in any order
}

// Type returns the permanent name of the event.
func (s EventSpec) Type() string { return s.Example.EventType() }

// Version returns the newest schema of the event, 1 or more.
func (s EventSpec) Version() int { return max(s.Schema, 1) }

// Upcaster lifts one older schema of an event to the next. Only the codec calls it.
type Upcaster struct {
	From   int           // the schema that New decodes
	New    func() any    // a pointer to a fresh value of the old struct
	Upcast func(any) any // from the pointer that New made to the next schema's struct, by value
}

// Upcast builds an Upcaster from a typed function: the struct of schema from in, the struct of the next schema out.
func Upcast[Old, New any](from int, lift func(Old) New) Upcaster {
	return Upcaster{
		From:   from,
		New:    func() any { return new(Old) },
		Upcast: func(old any) any { return lift(*old.(*Old)) },
	}
}

// ActorKind says what kind of party caused an event.
type ActorKind string

// The kinds of actor. The zero value is not a valid kind.
const (
	ActorHuman       ActorKind = "human"
	ActorAutomation  ActorKind = "automation"
	ActorIntegration ActorKind = "integration"
)

// Actor is who caused an event.
type Actor struct {
	ID         string    `json:"id"`
	Kind       ActorKind `json:"kind"`
	OnBehalfOf string    `json:"onBehalfOf,omitempty"` // who delegated to the actor; empty when nobody did
}

// Metadata is the part of the envelope that is stored beside the payload. The server sets all of it except OccurredAt.
type Metadata struct {
	Schema        int       // schema of the payload, 1 or more
	Tenant        Tenant    // also the first part of the stream's name
	Actor         Actor     //
	CorrelationID string    // the conversation that the event belongs to; "$correlationId" in the log
	CausationID   string    // the command or event that caused this event; "$causationId" in the log
	CommandID     string    // the command that made the event; the key of idempotency
	Fingerprint   string    // digest of the command's content: the same command id with another content is an error
	OccurredAt    time.Time // when it happened in the business, UTC
	RecordedAt    time.Time // when we learned it, UTC; set by the server
	Subjects      []ID      // the customers that the event concerns, the aggregate itself included when it is one
	TraceParent   string    // W3C trace context of the request; empty when it had none
}

// Recorded is an event as it stands in the log: the envelope and its payload.
type Recorded struct {
	ID       string   // UUID of the event
	Stream   StreamID //
	Revision uint64   // 0-based number in the stream
	Position Position // place in the log of all streams
	Metadata
	Event Event
}

// Type returns the permanent name of the recorded event.
func (r Recorded) Type() string { return r.Event.EventType() }

// Pending is an event on its way into the log.
type Pending struct {
	ID string // UUID, derived from the command so that a repeated append is recognised
	Metadata
	Event Event
}

// Expected says at which revision an append expects the stream. The zero value expects a stream that does not exist:
// there is no "any", because an append that does not know what it follows has decided nothing.
type Expected struct{ next uint64 }

// NoStream expects that the stream does not exist yet.
var NoStream = Expected{}

// AtRevision expects the last event of the stream to have revision r.
func AtRevision(r uint64) Expected { return Expected{next: r + 1} }

// Revision returns the expected last revision, and false when no stream is expected.
func (e Expected) Revision() (uint64, bool) { return e.next - 1, e.next > 0 }

// Before reports whether o expects more events in the stream than e.
func (e Expected) Before(o Expected) bool { return e.next < o.next }

// String renders the expectation for messages: "no stream" or "revision 7".
func (e Expected) String() string {
	if r, ok := e.Revision(); ok {
		return fmt.Sprintf("revision %d", r)
	}
	return "no stream"
}

// Outcome is what became of an append: Committed, Conflict or Unknown. A commit whose outcome is not known is a value,
// not an error text.
type Outcome interface{ outcome() }

// Committed says that the events are durable.
type Committed struct {
	Revision uint64   // of the last event appended
	Position Position // of the last event appended; zero when the log does not tell (an idempotent retry may not)
}

// Conflict says that the stream was not where the append expected it; nothing was written.
type Conflict struct {
	Actual   Expected
	Mismatch bool // where the append expected to write stand events with its ids and other content
}

// Unknown says that the append may or may not have happened. Repeating it with the same revision and ids is safe.
type Unknown struct{ Err error }

// Refused says that nothing was written and repeating the append cannot help (too large, stream deleted).
type Refused struct{ Err error }

func (Committed) outcome() {}
func (Conflict) outcome()  {}
func (Unknown) outcome()   {}
func (Refused) outcome()   {}
