package domain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// FieldError is one fault of one field of a request.
type FieldError struct {
	Pointer string `json:"pointer"` // RFC 6901 JSON pointer into the request body, or the name of a parameter
	Text
}

// InvalidError says that a request is malformed: fix the request. Status 400.
type InvalidError struct {
	Code   string       // stable, kebab-case; empty means "invalid"
	Fields []FieldError // at least one
}

// Fault makes a FieldError of a template and its values, as Say does.
func Fault(pointer, template string, values ...any) FieldError {
	return FieldError{Pointer: pointer, Text: Say(template, values...)}
}

// Invalid makes an InvalidError with one field, of a template and its values as Say does.
func Invalid(pointer, template string, values ...any) *InvalidError {
	return &InvalidError{Fields: []FieldError{Fault(pointer, template, values...)}}
}

// Error says what is wrong without the values, so that it may stand in a log; Detail says it with them.
func (e *InvalidError) Error() string { return e.say(Text.words) }

// Detail says what is wrong, for whoever sent the request.
func (e *InvalidError) Detail() string { return e.say(func(t Text) string { return t.Message }) }

func (e *InvalidError) say(as func(Text) string) string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = strings.TrimPrefix(f.Pointer+": "+as(f.Text), ": ")
	}
	return strings.Join(slices.Compact(parts), "; ") // without their values, faults of one kind are the same
}

// Rejection is a decision's no: the request is well-formed, and a rule of the business forbids it now. Status 422.
type Rejection struct {
	Rule string // stable, kebab-case: "opportunity-not-open"
	Text
	Pointer string // the field that the rule is about; empty when it is about none
}

// Reject makes a Rejection, of a template and its values as Say does.
func Reject(rule, template string, values ...any) *Rejection {
	return &Rejection{Rule: rule, Text: Say(template, values...)}
}

// At names the field of the command that the rule is about, as a JSON pointer.
func (r *Rejection) At(pointer string) *Rejection {
	r.Pointer = pointer
	return r
}

// Error names the rule, and says it without the values, so that it may stand in a log; Detail says it with them.
func (r *Rejection) Error() string { return r.Rule + ": " + r.words() }

// Detail names the rule and says it with its values, for whoever sent the request.
func (r *Rejection) Detail() string { return r.Rule + ": " + r.Message }

// NotFoundError says that what a request names does not exist for this caller. Status 404.
type NotFoundError struct {
	Kind string // "customer"
	ID   string
}

// Error names what is not there by its id; a name of another form may be personal and is left to Detail.
func (e *NotFoundError) Error() string {
	if _, err := ParseID(e.ID); err != nil {
		return "no " + e.Kind + " of the name that was given"
	}
	return e.Detail()
}

// Detail names what is not there as it was asked for.
func (e *NotFoundError) Detail() string { return fmt.Sprintf("no %s %s", e.Kind, e.ID) }

// ForbiddenError says that the caller may not do what it asks for, whatever there is. Status 403.
type ForbiddenError struct {
	What string // "customer.register"
}

func (e *ForbiddenError) Error() string { return "not allowed: " + e.What }

// ConflictError says that the stream is not at the revision that the request named (If-Match). Status 412. A request that
// names none is decided again until its deadline.
type ConflictError struct {
	Stream StreamID
	Actual Expected // where the stream stands
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("stream %s stands at %s", e.Stream, e.Actual)
}

// DuplicateError says that another aggregate holds a value that must be unique. Status 409.
type DuplicateError struct {
	Key      string // what must be unique: "tax-id", "email", "phone"
	Pointer  string // the field of the command; may be empty
	Existing ID     // the aggregate that holds it
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("this %s already belongs to %s", e.Key, e.Existing)
}

// IdempotencyError says that a command id was used before for another command. Status 422.
type IdempotencyError struct{ CommandID string }

func (e *IdempotencyError) Error() string {
	return "the idempotency key was used before with another request"
}

// UnavailableError says that something that is needed does not answer; the same request may succeed later. Status 503.
type UnavailableError struct {
	What       string        // "event log", "read models"
	RetryAfter time.Duration // a hint for the caller; zero means DefaultRetryAfter
	Err        error         // for the log; never shown to clients
}

// DefaultRetryAfter is the wait that an UnavailableError suggests when it names none.
const DefaultRetryAfter = 2 * time.Second

func (e *UnavailableError) Error() string {
	if e.Err == nil {
		return e.What + " unavailable"
	}
	return e.What + " unavailable: " + e.Err.Error()
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// ErrCorrupt says that stored data does not read back as what was written: a bug or a damaged store, never a bad request.
var ErrCorrupt = errors.New("stored data is corrupt")
