package domain

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// FieldError is one fault of one field of a request.
type FieldError struct {
	Pointer string `json:"pointer"` // RFC 6901 JSON pointer into the request body, or the name of a parameter
	Message string `json:"message"`
}

// InvalidError says that a request is malformed: fix the request. Status 400.
type InvalidError struct {
	Code   string       // stable, kebab-case; empty means "invalid"
	Fields []FieldError // at least one
}

// Invalid makes an InvalidError with one field.
func Invalid(pointer, format string, args ...any) *InvalidError {
	return &InvalidError{Fields: []FieldError{{Pointer: pointer, Message: fmt.Sprintf(format, args...)}}}
}

func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = strings.TrimPrefix(f.Pointer+": "+f.Message, ": ")
	}
	return strings.Join(parts, "; ")
}

// Rejection is a decision's no: the request is well-formed, and a rule of the business forbids it now. Status 422.
type Rejection struct {
	Rule    string // stable, kebab-case: "opportunity-not-open"
	Message string
	Pointer string // the field that the rule is about; empty when it is about none
}

// Reject makes a Rejection.
func Reject(rule, format string, args ...any) *Rejection {
	return &Rejection{Rule: rule, Message: fmt.Sprintf(format, args...)}
}

// At names the field of the command that the rule is about, as a JSON pointer.
func (r *Rejection) At(pointer string) *Rejection {
	r.Pointer = pointer
	return r
}

func (r *Rejection) Error() string { return r.Rule + ": " + r.Message }

// NotFoundError says that what a request names does not exist for this caller. Status 404.
type NotFoundError struct {
	Kind string // "customer"
	ID   string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("no %s %s", e.Kind, e.ID) }

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
