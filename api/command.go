package api

import (
	"context"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/labstack/echo/v4"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// Headers of commands.
const (
	headerKey        = "Idempotency-Key"
	headerIfMatch    = "If-Match"
	headerTenant     = "X-Tenant"
	headerActor      = "X-Actor"
	headerActorKind  = "X-Actor-Kind"
	headerDuplicates = "X-Duplicate-Policy"
	headerTrace      = "Traceparent"
	headerReplayed   = "Idempotency-Replayed"
	headerETag       = "Etag" // in the form in which net/http keeps it

	anonymous = "anonymous" // the actor of requests that name none

	tooManyCommands = "Too many commands are in execution."
)

// commandRoute is one command as the API offers it.
type commandRoute struct {
	spec      domain.CommandSpec
	aggregate domain.Definition
	path      string
	given     domain.Given // of spec
}

// Receipt says what became of an accepted command.
type Receipt struct {
	Stream        string          `json:"stream" doc:"Stream of the record in the event log." example:"main.customer-01900000-0000-7000-8000-000000000001"`
	ID            domain.ID       `json:"id" doc:"The record." example:"01900000-0000-7000-8000-000000000001"`
	Revision      uint64          `json:"revision" doc:"Revision of the record after the command; the ETag." example:"7"`
	Position      domain.Position `json:"position,omitzero" doc:"Place in the log of the command's last event: give it to a query as minPosition to read your own write. Absent when nothing was written." example:"81724"`
	EventIDs      []string        `json:"eventIds" doc:"The events written."`
	Events        []ReceiptEvent  `json:"events" doc:"Their types; in a dry run the whole events that would be written."`
	CorrelationID string          `json:"correlationId" doc:"The conversation that the events belong to."`
	Unchanged     bool            `json:"unchanged" doc:"The command was accepted and changed nothing."`
	DryRun        bool            `json:"dryRun" doc:"Nothing was written; this is what would be."`
}

// ReceiptEvent is one event that a command caused.
type ReceiptEvent struct {
	Type string `json:"type" doc:"Permanent name of the event." example:"customer.registered"`
	Data any    `json:"data,omitempty" doc:"The event's members, in a dry run only."`
}

func receiptOf(r commands.Receipt) Receipt {
	out := Receipt{
		Stream: r.Stream, ID: r.ID, Revision: r.Revision, Position: r.Position, EventIDs: r.EventIDs,
		Events: make([]ReceiptEvent, len(r.EventTypes)), CorrelationID: r.CorrelationID, Unchanged: r.Unchanged, DryRun: r.DryRun,
	}
	for i, t := range r.EventTypes {
		out.Events[i].Type = t
		if i < len(r.Events) {
			out.Events[i].Data = r.Events[i]
		}
	}
	return out
}

// commandRoutes offers every command of every aggregate: POST /v1/<plural> for the one that creates, and
// POST /v1/<plural>/{id}/<verb> for the others.
func (s *Server) commandRoutes() error {
	for _, def := range s.opts.Bus.Definitions() {
		for _, spec := range def.Commands {
			route := commandRoute{spec: spec, aggregate: def, path: "/v1/" + def.Plural, given: domain.GivenOf(spec.GoType())}
			if !spec.Creates {
				route.path += "/{id}/" + spec.Verb()
			}
			s.specs[spec.Type()] = route
			op, err := s.commandOperation(route)
			if err != nil {
				return err
			}
			s.handle(op, func(c echo.Context) error { return s.command(c, route) })
		}
	}
	return nil
}

// handle documents an operation and serves it by a handler of its own, whose error becomes a problem.
func (s *Server) handle(op *huma.Operation, handler func(echo.Context) error) {
	s.api.OpenAPI().AddOperation(op)
	s.echo.Add(op.Method, strings.NewReplacer("{", ":", "}", "").Replace(op.Path), handler)
}

func (s *Server) command(c echo.Context, route commandRoute) error {
	r := c.Request()
	req, err := envelopeOf(r)
	if err != nil {
		return err
	}
	if !route.spec.Creates {
		if req.Target, err = resource.ParseID(c.Param("id")); err != nil {
			return err
		}
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if req.Command, err = decodeCommand(route, body, ""); err != nil {
		return err
	}
	receipt, err := s.submit(r.Context(), req)
	if err != nil {
		return err
	}
	h := c.Response().Header()
	if receipt.Replayed {
		h.Set(headerReplayed, "true")
	}
	status := http.StatusOK
	if !receipt.DryRun { // of which there is neither the record nor the revision
		h.Set(headerETag, resource.ETag(receipt.Revision))
		if route.spec.Creates {
			h.Set("Location", route.path+"/"+string(receipt.ID))
			status = http.StatusCreated
		}
	}
	answer := receiptOf(receipt)
	return writeJSON(c, status, &answer)
}

// submit executes a command in a slot of its own.
func (s *Server) submit(ctx context.Context, req commands.Request) (commands.Receipt, error) {
	if err := s.commandSlots.take(tooManyCommands); err != nil {
		return commands.Receipt{}, err
	}
	defer s.commandSlots.leave()
	return s.execute(ctx, req)
}

// decodeCommand reads the body into the command's own type. The bus checks the limits of its fields.
func decodeCommand(route commandRoute, body []byte, at string) (domain.Command, error) {
	into := reflect.New(route.spec.GoType())
	if err := decodeObject(body, into.Interface(), at); err != nil {
		return nil, err
	}
	if len(route.given) > 0 {
		var members any
		if err := json.Unmarshal(body, &members); err != nil {
			return nil, decodeError(err, at)
		}
		if faults := route.given.Missing(members, at); len(faults) > 0 {
			return nil, &domain.InvalidError{Fields: faults}
		}
	}
	return into.Elem().Interface().(domain.Command), nil
}

// writeJSON answers v, better a pointer, which the JSON package need not copy.
func writeJSON(c echo.Context, status int, v any) error {
	body, err := marshal(v)
	if err != nil {
		return err
	}
	return c.JSONBlob(status, body)
}

var tracePattern = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// envelopeOf reads what surrounds a command from the headers and the query of its request.
func envelopeOf(r *http.Request) (commands.Request, error) {
	req, err := sharedEnvelope(r)
	if err != nil {
		return req, err
	}
	req.Key = r.Header.Get(headerKey)
	if err := checkKey(req.Key, req.DryRun, headerKey); err != nil {
		return req, err
	}
	req.IfMatch, err = ifMatch(r.Header.Values(headerIfMatch))
	return req, err
}

// sharedEnvelope reads what a single command and a batch have in common.
func sharedEnvelope(r *http.Request) (commands.Request, error) {
	call := callOf(r.Context())
	req := commands.Request{Tenant: call.caller.Tenant, Actor: call.caller.Actor, CorrelationID: call.correlation}
	var err error
	if r.URL.RawQuery != "" {
		for name, values := range r.URL.Query() {
			if name != "dryRun" {
				return req, domain.Invalid(name, "is not a parameter of commands")
			}
			if req.DryRun, err = parseBool(name, values[0]); err != nil {
				return req, err
			}
		}
	}
	switch policy := r.Header.Get(headerDuplicates); policy {
	case "", "reject":
	case "allow":
		req.AllowDuplicates = true
	default:
		return req, domain.Invalid(headerDuplicates, "is none of reject, allow")
	}
	// A trace parent that does not parse is ignored, as W3C Trace Context §3.2 asks.
	if t := r.Header.Get(headerTrace); tracePattern.MatchString(t) {
		req.TraceParent = t
	}
	return req, nil
}

func parseBool(name, value string) (bool, error) {
	switch value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, domain.Invalid(name, "is neither true nor false")
}

// checkKey checks an idempotency key before anything else is looked at: visible ASCII, as headers carry it.
func checkKey(key string, dryRun bool, pointer string) error {
	switch {
	case key == "" && !dryRun:
		e := domain.Invalid(pointer, "is required: choose a value that is new for each command and the same for its retries")
		e.Code = codeKeyMissing
		return e
	case len(key) > commands.MaxKeyLength || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		e := domain.Invalid(pointer, "is not 1 to {limit} visible ASCII characters", commands.MaxKeyLength)
		e.Code = codeKey
		return e
	}
	return nil
}

// actorOf reads who asks.
func actorOf(h http.Header) (domain.Actor, error) {
	actor := domain.Actor{ID: h.Get(headerActor), Kind: domain.ActorKind(h.Get(headerActorKind))}
	if actor.ID == "" {
		actor.ID = anonymous
	}
	if !isText(actor.ID) || len([]rune(actor.ID)) > commands.MaxActorLength {
		return actor, domain.Invalid(headerActor, "is not a text of 1 to {limit} characters", commands.MaxActorLength)
	}
	switch actor.Kind {
	case "":
		actor.Kind = domain.ActorHuman
	case domain.ActorHuman, domain.ActorAutomation, domain.ActorIntegration:
	default:
		return actor, domain.Invalid(headerActorKind, "is none of human, automation, integration")
	}
	return actor, nil
}

// ifMatch reads the revision that the client decided on: "7" in quotes; * and nothing mean any.
func ifMatch(values []string) (*uint64, error) {
	if len(values) == 0 || len(values) == 1 && values[0] == "*" {
		return nil, nil
	}
	if text, ok := strings.CutPrefix(values[0], `"`); ok && len(values) == 1 {
		if text, ok = strings.CutSuffix(text, `"`); ok && isDigits(text) {
			if r, err := strconv.ParseUint(text, 10, 63); err == nil {
				return &r, nil
			}
		}
	}
	return nil, domain.Invalid(headerIfMatch, `is not one revision in quotes, such as "7", or *`)
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
