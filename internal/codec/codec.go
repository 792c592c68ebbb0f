// Package codec translates between events and their stored form: JSON payloads, JSON metadata, permanent type names and
// integer schemas. It is the only caller of upcasters.
//
// Reading is strict where a mistake would change a meaning (duplicate names, bad UTF-8, wrong types, unknown event types,
// newer schemas) and lenient in one place: a member that this binary does not know is ignored. An optional field may be
// added to a released event without raising its schema, so during a rolling upgrade an older binary meets such members.
package codec

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"

	"github.com/rapport-crm/rapport/domain"
)

// Raw is an event as the log stores it, before decoding.
type Raw struct {
	ID       string // UUID
	Type     string // permanent event name
	Stream   string // name of the stream
	Revision uint64 // 0-based number in the stream
	Position domain.Position
	Data     []byte // JSON payload
	Metadata []byte // JSON metadata
}

// Registry knows every event type of an installation. It is immutable and safe for concurrent use.
type Registry struct {
	definitions []domain.Definition
	entries     map[string]*entry
}

// entry is one event type.
type entry struct {
	spec   domain.EventSpec
	goType reflect.Type
	newest int
	older  []domain.Upcaster // older[n-1] lifts schema n to n+1

	scratch sync.Pool // of pointers to zero values of goType, for encode and read
}

var (
	aggregateName = regexp.MustCompile(`^[a-z][a-z_]*$`)
	eventName     = regexp.MustCompile(`^[a-z][a-z_]*\.[a-z][a-z0-9_]*$`)
)

// New builds the registry of the given aggregates. A name that is empty, malformed, registered twice or outside its
// aggregate, an example that is not a struct value, and a schema without exactly one upcaster are errors.
func New(definitions ...domain.Definition) (*Registry, error) {
	r := &Registry{definitions: definitions, entries: map[string]*entry{}}
	aggregates := map[string]bool{}
	for _, d := range definitions {
		if !aggregateName.MatchString(d.Name) {
			return nil, fmt.Errorf("codec: %q is not the name of an aggregate: lower-case letters and underscore", d.Name)
		}
		if aggregates[d.Name] {
			return nil, fmt.Errorf("codec: aggregate %s is registered twice", d.Name)
		}
		aggregates[d.Name] = true
		for _, spec := range d.Events {
			if err := r.add(d.Name, spec); err != nil {
				return nil, fmt.Errorf("codec: %w", err)
			}
		}
	}
	return r, nil
}

func (r *Registry) add(aggregate string, spec domain.EventSpec) error {
	goType := reflect.TypeOf(spec.Example)
	if goType == nil || goType.Kind() != reflect.Struct {
		return fmt.Errorf("aggregate %s: the example of an event is %v, want a struct value", aggregate, goType)
	}
	name := spec.Type()
	if !eventName.MatchString(name) || !strings.HasPrefix(name, aggregate+".") {
		return fmt.Errorf("aggregate %s: event name %q is not of the form %s.past_tense", aggregate, name, aggregate)
	}
	if _, taken := r.entries[name]; taken {
		return fmt.Errorf("event %s is registered twice", name)
	}
	e := &entry{spec: spec, goType: goType, newest: spec.Version(), older: make([]domain.Upcaster, spec.Version()-1)}
	for _, u := range spec.Upcasts {
		if u.From < 1 || u.From >= e.newest {
			return fmt.Errorf("event %s: an upcaster lifts schema %d, but the newest is %d", name, u.From, e.newest)
		}
		if e.older[u.From-1].New != nil {
			return fmt.Errorf("event %s: two upcasters lift schema %d", name, u.From)
		}
		e.older[u.From-1] = u
	}
	for i, u := range e.older {
		if u.New == nil || u.Upcast == nil {
			return fmt.Errorf("event %s: no upcaster lifts schema %d", name, i+1)
		}
	}
	e.scratch.New = func() any { return reflect.New(goType).Interface() }
	r.entries[name] = e
	return nil
}

// Definitions returns the aggregates in the order of registration.
func (r *Registry) Definitions() []domain.Definition { return r.definitions }

// Encode renders an event and its metadata. The same event always gives the same bytes. It refuses what Decode would not
// read back: a log cannot be edited, so the moment before writing is the last one to find out.
func (r *Registry) Encode(p domain.Pending) (data, metadata []byte, err error) {
	if p.Event == nil {
		return nil, nil, fmt.Errorf("codec: encode: no event")
	}
	name := p.Event.EventType()
	e, known := r.entries[name]
	if !known {
		return nil, nil, &UnknownTypeError{Type: name}
	}
	if t := reflect.TypeOf(p.Event); t != e.goType {
		return nil, nil, fmt.Errorf("codec: encode %s: got a %v, registered is %v", name, t, e.goType)
	}
	if p.Schema != 0 && p.Schema != e.newest {
		return nil, nil, fmt.Errorf("codec: encode %s: schema %d asked for, only the newest, %d, is written", name, p.Schema, e.newest)
	}
	p.Schema = e.newest
	if data, err = e.encode(p.Event); err != nil {
		return nil, nil, fmt.Errorf("codec: encode %s: %w", name, err)
	}
	if metadata, err = encodeMetadata(p.Metadata); err != nil {
		return nil, nil, fmt.Errorf("codec: encode %s: metadata: %w", name, err)
	}
	return data, metadata, nil
}

// encode renders one payload and reads it back.
func (e *entry) encode(event domain.Event) ([]byte, error) {
	scratch := e.scratch.Get()
	v := reflect.ValueOf(scratch).Elem()
	defer func() {
		v.SetZero()
		e.scratch.Put(scratch)
	}()
	v.Set(reflect.ValueOf(event))
	data, err := json.Marshal(scratch, encoding)
	if err != nil {
		return nil, err
	}
	v.SetZero()
	if err := json.Unmarshal(data, scratch); err != nil {
		return nil, fmt.Errorf("would not read back: %w", err)
	}
	return data, nil
}

// Decode reads an event back, lifted to its newest schema. It returns an *UnknownTypeError, a *NewerSchemaError, or an
// *UndecodableError, which wraps domain.ErrCorrupt. Of an event that cannot be opened it returns the envelope, without the event,
// beside a *SealedError.
func (r *Registry) Decode(raw Raw) (domain.Recorded, error) {
	e, known := r.entries[raw.Type]
	if !known {
		return domain.Recorded{}, &UnknownTypeError{Type: raw.Type, Stream: raw.Stream, Revision: raw.Revision, Position: raw.Position}
	}
	stream, err := domain.ParseStreamID(raw.Stream)
	if err != nil {
		return domain.Recorded{}, undecodable(raw, err)
	}
	meta, err := decodeMetadata(raw.Metadata)
	sealed := errors.Is(err, ErrSealed)
	if err != nil && !sealed {
		return domain.Recorded{}, undecodable(raw, fmt.Errorf("metadata: %w", err))
	}
	if meta.Tenant != stream.Tenant {
		return domain.Recorded{}, undecodable(raw, fmt.Errorf("metadata: tenant %q is not the stream's", meta.Tenant))
	}
	if meta.Schema > e.newest {
		return domain.Recorded{}, &NewerSchemaError{Type: raw.Type, Schema: meta.Schema, Known: e.newest, Stream: raw.Stream, Revision: raw.Revision, Position: raw.Position}
	}
	if sealed {
		return domain.Recorded{ID: raw.ID, Stream: stream, Revision: raw.Revision, Position: raw.Position, Metadata: meta},
			&SealedError{Type: raw.Type, Stream: raw.Stream, Revision: raw.Revision, Position: raw.Position}
	}
	event, err := e.decode(raw.Data, meta.Schema)
	if err != nil {
		return domain.Recorded{}, undecodable(raw, err)
	}
	return domain.Recorded{ID: raw.ID, Stream: stream, Revision: raw.Revision, Position: raw.Position, Metadata: meta, Event: event}, nil
}

// DecodePayload reads the payload of one event of the given schema, lifted to the newest. Decode is for whole events.
func (r *Registry) DecodePayload(name string, schema int, data []byte) (domain.Event, error) {
	e, known := r.entries[name]
	if !known {
		return nil, &UnknownTypeError{Type: name}
	}
	if schema > e.newest {
		return nil, &NewerSchemaError{Type: name, Schema: schema, Known: e.newest}
	}
	event, err := e.decode(data, schema)
	if err != nil {
		return nil, undecodable(Raw{Type: name}, err)
	}
	return event, nil
}

// decode reads one payload of a schema that this binary knows.
func (e *entry) decode(data []byte, schema int) (domain.Event, error) {
	if schema < 1 {
		return nil, fmt.Errorf("schema %d is not a schema", schema)
	}
	if schema == e.newest {
		return e.read(data)
	}
	value := e.older[schema-1].New()
	if err := json.Unmarshal(data, value); err != nil {
		return nil, fmt.Errorf("schema %d: %w", schema, err)
	}
	return e.lift(value, schema)
}

// read reads one payload of the newest schema.
func (e *entry) read(data []byte) (domain.Event, error) {
	scratch := e.scratch.Get()
	v := reflect.ValueOf(scratch).Elem()
	defer func() {
		v.SetZero()
		e.scratch.Put(scratch)
	}()
	if err := json.Unmarshal(data, scratch); err != nil {
		return nil, err
	}
	return v.Interface().(domain.Event), nil // a copy
}

// lift runs the chain of upcasters from a pointer to the struct of an older schema.
func (e *entry) lift(value any, schema int) (domain.Event, error) {
	for {
		next := e.older[schema-1].Upcast(value)
		schema++
		if schema == e.newest {
			if reflect.TypeOf(next) != e.goType {
				return nil, fmt.Errorf("the upcaster of schema %d makes a %T, want %v", schema-1, next, e.goType)
			}
			return next.(domain.Event), nil
		}
		want := reflect.TypeOf(e.older[schema-1].New())
		if pointer := reflect.PointerTo(reflect.TypeOf(next)); pointer != want {
			return nil, fmt.Errorf("the upcaster of schema %d makes a %T, the next one takes %v", schema-1, next, want)
		}
		p := reflect.New(reflect.TypeOf(next))
		p.Elem().Set(reflect.ValueOf(next))
		value = p.Interface()
	}
}
