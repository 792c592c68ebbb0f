package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"

	"github.com/rapport-crm/rapport/domain"
)

// The codes of problems that the API itself makes; docs/problems.md lists every code.
const (
	codeInvalid       = "invalid"
	codeMalformed     = "malformed-json"
	codeKeyMissing    = "idempotency-key-missing"
	codeKey           = "idempotency-key"
	codeKeyReused     = "idempotency-key-reused"
	codeForbidden     = "forbidden"
	codeNotFound      = "not-found"
	codeRouteNotFound = "route-not-found"
	codeMethod        = "method-not-allowed"
	codeNotAcceptable = "not-acceptable"
	codeDuplicate     = "duplicate"
	codePrecondition  = "precondition-failed"
	codeTooLarge      = "too-large"
	codeMediaType     = "unsupported-media-type"
	codeUnavailable   = "unavailable"
	codeOverloaded    = "overloaded"
	codeNotTried      = "not-tried"
	codeInternal      = "internal"
)

const (
	problemMediaType   = "application/problem+json"
	problemTypePrefix  = "/problems/"
	internalDetail     = "An unexpected error occurred. Report the correlation id."
	maxPointerLength   = 200 // bytes of a pointer echoed to the client
	maxMessageLength   = 500 // bytes of a message echoed to the client
	overloadedRetry    = time.Second
	headerCorrelation  = "X-Correlation-Id"
	headerRetryAfter   = "Retry-After"
	statusClientClosed = 499 // the de-facto status for a client that went away; nobody reads it
)

// Problem is an RFC 9457 problem document: the one form of every error answer.
type Problem struct {
	Type           string              `json:"type" doc:"URI reference that names the kind of problem; it ends in the code. about:blank for a fault of the server." example:"/problems/invalid"`
	Title          string              `json:"title" doc:"Short summary of the status." example:"Bad Request"`
	Status         int                 `json:"status" doc:"HTTP status." example:"400"`
	Detail         string              `json:"detail" doc:"What was wrong with this request." example:"/kind: is none of company, person, group"`
	Code           string              `json:"code" doc:"Stable name for programs; a rejection's is the rule that was broken." example:"invalid"`
	Instance       string              `json:"instance,omitempty" doc:"Path of the request." example:"/v1/customers"`
	CorrelationID  string              `json:"correlationId,omitempty" doc:"Finds the request in the server's log." example:"0197a3f0-5c1e-7d3a-9b7e-2f6a1c4d8e90"`
	Template       string              `json:"template,omitempty" doc:"The detail with the names of its values in braces; absent when it has none, or when errors say them." example:"the opportunity is {status}; reopen it first"`
	Params         map[string]any      `json:"params,omitempty" doc:"The values that the detail speaks of, by name."`
	Errors         []domain.FieldError `json:"errors,omitempty" doc:"Every fault found: a JSON pointer into the body, or the name of a parameter or header, and a message with its values."`
	ExistingID     domain.ID           `json:"existingId,omitempty" doc:"On a duplicate: the record that holds the value."`
	Duplicates     []Duplicate         `json:"duplicates,omitempty" doc:"On a duplicate: what matched."`
	ActualRevision *uint64             `json:"actualRevision,omitempty" doc:"On a conflict: the revision at which the record stands."`

	retryAfter time.Duration
	cause      error // for the log
}

// Duplicate says which value of a request belongs to another record.
type Duplicate struct {
	ID      domain.ID `json:"id" doc:"The record that holds the value."`
	Key     string    `json:"key" doc:"What must be unique: tax-id, email, phone, product-code; or duplicate, a customer that was merged."`
	Pointer string    `json:"pointer,omitempty" doc:"The field of the request."`
}

// Error implements error. It leaves the detail out, whose values may be personal.
func (p *Problem) Error() string { return p.Code + ": " + p.Title }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemMediaType }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		seconds := (p.retryAfter + time.Second - 1) / time.Second
		h.Set(headerRetryAfter, strconv.Itoa(int(seconds)))
	}
	return h
}

func newProblem(status int, code, detail string) *Problem {
	title := http.StatusText(status)
	if status == statusClientClosed {
		title = "Client Closed Request"
	}
	return &Problem{Type: problemTypePrefix + code, Title: title, Status: status, Code: code, Detail: clip(detail, maxMessageLength)}
}

// parameterOf returns the name of the parameter that names nothing.
func parameterOf(e *domain.NotFoundError) string {
	_, err := domain.ParseID(e.ID)
	switch {
	case err == nil:
		return "id"
	case e.Kind == "projection":
		return "name"
	case e.Kind == "parked stream":
		return "stream"
	}
	return "externalId"
}

func (p *Problem) withErrors(fields []domain.FieldError) *Problem {
	p.Errors = make([]domain.FieldError, len(fields))
	for i, f := range fields {
		p.Errors[i] = domain.FieldError{Pointer: clip(f.Pointer, maxPointerLength), Text: clipText(f.Text)}
	}
	return p
}

// saying makes a problem whose detail is a text with values.
func saying(status int, code string, text domain.Text) *Problem {
	text = clipText(text)
	p := newProblem(status, code, text.Message)
	p.Template, p.Params = text.Template, text.Params
	return p
}

// clipText shortens a text and each of its values.
func clipText(t domain.Text) domain.Text {
	message := clip(t.Message, maxMessageLength)
	t = t.Mask(func(_ string, value any) any {
		if s, ok := value.(string); ok {
			return clip(s, maxMessageLength)
		}
		return value
	})
	t.Message = message
	return t
}

// locate says which request the problem is about.
func (p *Problem) locate(ctx context.Context) {
	c := callOf(ctx)
	p.CorrelationID = c.correlation
	if c.url != nil {
		p.Instance = clip(c.url.Path, maxPointerLength)
	}
}

// clip shortens what came from the client before it goes back, at a character's border.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// problemOf maps every error to its problem, by kind and never by text. What it does not know is the server's fault: it is
// answered 500 without detail.
func problemOf(err error) *Problem {
	var (
		problem     *Problem
		invalid     *domain.InvalidError
		rejection   *domain.Rejection
		forbidden   *domain.ForbiddenError
		notFound    *domain.NotFoundError
		conflict    *domain.ConflictError
		duplicate   *domain.DuplicateError
		key         *domain.IdempotencyError
		unavailable *domain.UnavailableError
		tooLarge    *http.MaxBytesError
		route       *echo.HTTPError
	)
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &unavailable):
		p := saying(http.StatusServiceUnavailable, codeUnavailable, domain.Say("The {part} cannot answer now; the same request may succeed later.", unavailable.What))
		p.retryAfter, p.cause = unavailable.RetryAfter, err
		if p.retryAfter <= 0 {
			p.retryAfter = domain.DefaultRetryAfter
		}
		return p
	case errors.As(err, &invalid):
		code := invalid.Code
		if code == "" {
			code = codeInvalid
		}
		return newProblem(http.StatusBadRequest, code, invalid.Detail()).withErrors(invalid.Fields)
	case errors.As(err, &rejection):
		p := saying(http.StatusUnprocessableEntity, rejection.Rule, rejection.Text)
		if rejection.Pointer != "" {
			p.withErrors([]domain.FieldError{{Pointer: rejection.Pointer, Text: rejection.Text}})
		}
		return p
	case errors.As(err, &notFound):
		return saying(http.StatusNotFound, codeNotFound, domain.Say("There is no {kind} {id}.", notFound.Kind, notFound.ID)).
			withErrors([]domain.FieldError{domain.Fault(parameterOf(notFound), "names no {kind}", notFound.Kind)})
	case errors.As(err, &conflict):
		p := newProblem(http.StatusPreconditionFailed, codePrecondition, "The record is not at the revision that If-Match names.").
			withErrors([]domain.FieldError{domain.Fault(headerIfMatch, "is not the revision at which the record stands")})
		if r, ok := conflict.Actual.Revision(); ok {
			p.ActualRevision = &r
		}
		return p
	case errors.As(err, &forbidden):
		return saying(http.StatusForbidden, codeForbidden, domain.Say("The caller may not do this: {what}.", forbidden.What))
	case errors.As(err, &duplicate):
		p := saying(http.StatusConflict, codeDuplicate, domain.Say("Another record has this {key}.", duplicate.Key))
		p.ExistingID = duplicate.Existing
		p.Duplicates = []Duplicate{{ID: duplicate.Existing, Key: duplicate.Key, Pointer: duplicate.Pointer}}
		if duplicate.Pointer != "" {
			p.withErrors([]domain.FieldError{domain.Fault(duplicate.Pointer, "belongs to another record")})
		}
		return p
	case errors.As(err, &key):
		return newProblem(http.StatusUnprocessableEntity, codeKeyReused, "This idempotency key was used before with another request.").
			withErrors([]domain.FieldError{domain.Fault(headerKey, "was used before with another request")})
	case errors.As(err, &tooLarge):
		return saying(http.StatusRequestEntityTooLarge, codeTooLarge, domain.Say("The body has more than {limit} bytes.", tooLarge.Limit))
	case errors.As(err, &route):
		return routeProblem(route)
	case errors.Is(err, context.Canceled):
		return newProblem(statusClientClosed, codeUnavailable, "The request was given up.")
	case errors.Is(err, context.DeadlineExceeded):
		p := newProblem(http.StatusServiceUnavailable, codeUnavailable, "The answer took too long; the same request may succeed later.")
		p.retryAfter, p.cause = domain.DefaultRetryAfter, err
		return p
	}
	return internalProblem(err)
}

func internalProblem(cause error) *Problem {
	p := newProblem(http.StatusInternalServerError, codeInternal, internalDetail)
	p.Type = "about:blank"
	p.cause = cause
	return p
}

// routeProblem turns what the router itself answers into a problem.
func routeProblem(err *echo.HTTPError) *Problem {
	switch err.Code {
	case http.StatusNotFound:
		return newProblem(err.Code, codeRouteNotFound, "There is no such route.")
	case http.StatusMethodNotAllowed:
		return newProblem(err.Code, codeMethod, "The route does not know this method; the Allow header names those it knows.")
	case http.StatusRequestEntityTooLarge:
		return newProblem(err.Code, codeTooLarge, "The body is too large.")
	}
	return internalProblem(err)
}

// overloaded is answered at once when too much is in flight.
func overloaded(detail string) *Problem {
	p := newProblem(http.StatusServiceUnavailable, codeOverloaded, detail)
	p.retryAfter = overloadedRetry
	return p
}

// configureHuma makes Huma's own errors problems too, and lists what they are here: never null. The library knows no other
// place for either than its package variables.
var configureHuma = sync.OnceFunc(func() {
	huma.DefaultArrayNullable = false
	huma.NewError = func(status int, message string, causes ...error) huma.StatusError {
		return validationProblem(status, message, causes)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, causes ...error) huma.StatusError {
		p := validationProblem(status, message, causes)
		p.locate(ctx.Context())
		return p
	}
})

// validationProblem translates Huma's errors: parameters that do not parse or that nobody knows, an Accept header that
// cannot be served, and errors that no handler mapped.
func validationProblem(status int, message string, causes []error) *Problem {
	switch status {
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		var fields []domain.FieldError
		for _, c := range causes {
			var detail *huma.ErrorDetail
			if !errors.As(c, &detail) {
				detail = &huma.ErrorDetail{Message: c.Error()}
			}
			pointer := detail.Location
			for _, prefix := range []string{"path.", "query.", "header."} {
				pointer = strings.TrimPrefix(pointer, prefix)
			}
			fields = append(fields, domain.Fault(pointer, "{reason}", detail.Message))
		}
		if len(fields) == 0 {
			fields = []domain.FieldError{domain.Fault("", "{reason}", message)}
		}
		return problemOf(&domain.InvalidError{Fields: fields})
	case http.StatusNotAcceptable:
		return newProblem(status, codeNotAcceptable, "The answer cannot be given in a form that the Accept header names.")
	}
	p := internalProblem(errors.Join(causes...))
	if status != 0 && status != http.StatusInternalServerError {
		p.Status, p.Title = status, http.StatusText(status)
	}
	return p
}
