package codec

import (
	"errors"
	"fmt"

	"github.com/rapport-crm/rapport/domain"
)

// UnknownTypeError says that no registered event has this name: the log was written by a newer or a different binary.
type UnknownTypeError struct {
	Type     string
	Stream   string // empty when the event was not read from a log
	Revision uint64
	Position domain.Position
}

func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("event type %q is not known%s", e.Type, place(e.Stream, e.Revision))
}

// NewerSchemaError says that the event's schema is newer than this binary knows: upgrade the binary. The event is sound.
type NewerSchemaError struct {
	Type     string
	Schema   int // stored
	Known    int // newest that this binary reads
	Stream   string
	Revision uint64
	Position domain.Position
}

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("event %s has schema %d, this version knows %d%s", e.Type, e.Schema, e.Known, place(e.Stream, e.Revision))
}

// ErrSealed says that an event's payload cannot be opened: it is encrypted, and this process has not got the key. The event is
// sound, and may be opened later.
var ErrSealed = errors.New("the payload is sealed, and there is no key to open it")

// SealedError says which event cannot be opened. It wraps ErrSealed.
type SealedError struct {
	Type     string
	Stream   string
	Revision uint64
	Position domain.Position
}

func (e *SealedError) Error() string {
	return fmt.Sprintf("event %s%s: %v", e.Type, place(e.Stream, e.Revision), ErrSealed)
}

func (e *SealedError) Unwrap() error { return ErrSealed }

// UndecodableError says that an event of a known type and schema does not decode. It wraps domain.ErrCorrupt and Err.
type UndecodableError struct {
	Type     string
	Stream   string
	Revision uint64
	Position domain.Position
	Err      error
}

func (e *UndecodableError) Error() string {
	return fmt.Sprintf("event %s does not decode%s: %v", e.Type, place(e.Stream, e.Revision), e.Err)
}

func (e *UndecodableError) Unwrap() []error { return []error{domain.ErrCorrupt, e.Err} }

func undecodable(raw Raw, err error) error {
	return &UndecodableError{Type: raw.Type, Stream: raw.Stream, Revision: raw.Revision, Position: raw.Position, Err: err}
}

// place names where in the log an event stands, when it stands in one.
func place(stream string, revision uint64) string {
	if stream == "" {
		return ""
	}
	return fmt.Sprintf(" (%s@%d)", stream, revision)
}
