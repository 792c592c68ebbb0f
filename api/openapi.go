package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rapport-crm/rapport/domain"
)

// exampleID stands for any record in the examples of the OpenAPI document.
const exampleID = "01900000-0000-7000-8000-000000000001"

// exampleName is the name of the one example that every request body has.
const exampleName = "complete"

const apiDescription = `Commands are requests to one record; each is answered by a receipt with the record's revision and the position in the event log. ` +
	`Queries answer from read models, which follow the log; give a receipt's position as minPosition to read your own write. ` +
	`Every error is an RFC 9457 problem with a stable code.`

// config is how Huma documents the API. It serves neither documents nor schemas itself: documentRoutes does.
func (s *Server) config() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	registry.RegisterTypeAlias(reflect.TypeFor[jsontext.Value](), reflect.TypeFor[map[string]any]())
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Rapport", Version: s.opts.Version, Description: apiDescription},
			Components: &huma.Components{Schemas: registry},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
}

// schemaName names the schema of a type: those of an aggregate carry its name in front, because every aggregate may have a
// Deactivate.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if dir, aggregate := path.Split(t.PkgPath()); strings.Contains(dir, "/domain/") {
		return aggregate + "." + name
	}
	return name
}

// commandOperation documents a command from its declaration.
func (s *Server) commandOperation(route commandRoute) (*huma.Operation, error) {
	example, err := exampleOf(route.spec.Example)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if route.spec.Creates {
		status = http.StatusCreated
	}
	op := s.postOperation(route.spec.Type(), route.path, route.aggregate.Name, route.spec.Doc, status)
	if !route.spec.Creates {
		op.Parameters = append(op.Parameters, idParameter("The "+strings.ReplaceAll(route.aggregate.Name, "_", " ")+"."))
	}
	op.Parameters = append(op.Parameters, keyParameter)
	if !route.spec.Creates {
		op.Parameters = append(op.Parameters, matchParameter)
	}
	op.Parameters = append(op.Parameters, envelopeParameters...)
	op.RequestBody = s.jsonBody(route.spec.GoType(), example)
	return op, nil
}

func (s *Server) batchOperation() (*huma.Operation, error) {
	id := domain.ID(exampleID)
	example, err := exampleOf(map[string]any{"items": []any{
		map[string]any{"command": "customer.tag", "id": id, "idempotencyKey": "tag-1", "data": map[string]any{"tag": "newsletter"}},
		map[string]any{"command": "customer.untag", "id": id, "idempotencyKey": "untag-1", "data": map[string]any{"tag": "newsletter"}},
	}})
	if err != nil {
		return nil, err
	}
	op := s.postOperation("command.batch", batchPath, "command", "Executes up to 1,000 commands, each accepted or refused on its own.", http.StatusOK)
	op.Description = "A batch is no transaction: only what one command does to one record is atomic. Every item gets the answer that its own route would have given, whatever is wrong with it; the whole is refused only when it is not JSON, or has no items or too many."
	op.Parameters = append(op.Parameters, envelopeParameters...)
	op.RequestBody = s.jsonBody(reflect.TypeFor[BatchRequest](), example)
	op.Responses["200"].Content[mediaJSON].Schema = s.schema(reflect.TypeFor[BatchResult]())
	op.Responses["200"].Headers = nil
	return op, nil
}

// postOperation is what all operations with commands have in common.
func (s *Server) postOperation(id, path, tag, summary string, status int) *huma.Operation {
	text := &huma.Schema{Type: huma.TypeString}
	receipt := s.schema(reflect.TypeFor[Receipt]())
	op := &huma.Operation{
		OperationID: id, Method: http.MethodPost, Path: path, Tags: []string{tag}, Summary: summary,
		Responses: map[string]*huma.Response{
			strconv.Itoa(status): {
				Description: "Accepted.",
				Content:     map[string]*huma.MediaType{mediaJSON: {Schema: receipt}},
				Headers: map[string]*huma.Header{
					"ETag":            {Schema: text, Description: "Revision of the record after the command, in quotes; absent from a dry run."},
					headerReplayed:    {Schema: text, Description: "true when the command had been executed before and this is its receipt."},
					headerCorrelation: {Schema: text, Description: "Finds the request in the server's log."},
				},
			},
			"default": s.problemResponse(),
		},
	}
	if status == http.StatusCreated {
		op.Responses["201"].Headers["Location"] = &huma.Header{Schema: text, Description: "The new record."}
		op.Responses["200"] = &huma.Response{
			Description: "What a dry run would write.", Content: map[string]*huma.MediaType{mediaJSON: {Schema: receipt}},
		}
	}
	return op
}

func (s *Server) schema(t reflect.Type) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(t, true, "")
}

func (s *Server) problemResponse() *huma.Response {
	return &huma.Response{
		Description: "A problem; its code says which.",
		Content:     map[string]*huma.MediaType{problemMediaType: {Schema: s.schema(reflect.TypeFor[Problem]())}},
	}
}

func (s *Server) jsonBody(t reflect.Type, example any) *huma.RequestBody {
	return &huma.RequestBody{
		Required: true,
		Content: map[string]*huma.MediaType{mediaJSON: {
			Schema: s.schema(t), Examples: map[string]*huma.Example{exampleName: {Value: example}},
		}},
	}
}

// exampleOf renders a value as the API would read it.
func exampleOf(v any) (any, error) {
	body, err := marshal(v)
	if err != nil {
		return nil, fmt.Errorf("example of %T: %w", v, err)
	}
	return json.RawMessage(body), nil
}

func textParameter(in, name, doc, example string, required bool) *huma.Param {
	p := &huma.Param{Name: name, In: in, Description: doc, Required: required, Schema: &huma.Schema{Type: huma.TypeString}}
	if example != "" {
		p.Example = example
	}
	return p
}

func enumParameter(in, name, doc string, values ...any) *huma.Param {
	return &huma.Param{Name: name, In: in, Description: doc, Schema: &huma.Schema{Type: huma.TypeString, Enum: values}}
}

func idParameter(doc string) *huma.Param {
	return &huma.Param{
		Name: "id", In: "path", Description: doc, Required: true, Example: exampleID,
		Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"},
	}
}

// The parameters of commands. They are the same for all, and nothing changes them.
var (
	keyParameter = textParameter("header", headerKey,
		"New for each command and the same for its retries, 1 to 255 visible ASCII characters: a repetition is answered with the first receipt. Required unless dryRun is true.",
		"5f0c9d3e-6b1a-5c2f-8e47-1a2b3c4d5e6f", false)
	matchParameter = textParameter("header", headerIfMatch,
		"The revision that the command was decided on, in quotes: the command is answered 412 when the record stands elsewhere.", "", false)
	envelopeParameters = []*huma.Param{
		{Name: "dryRun", In: "query", Description: "Answer the events that would be written, and write nothing.", Schema: &huma.Schema{Type: huma.TypeBoolean}},
		textParameter("header", headerActor, "User name of the person or program that asks; anonymous when left out.", "ann", false),
		enumParameter("header", headerActorKind, "What kind of party asks; human when left out.", "human", "automation", "integration"),
		enumParameter("header", headerDuplicates, "Whether a value that belongs to another record is refused (reject, the default) or allowed.", "reject", "allow"),
		textParameter("header", headerCorrelation, "The conversation that the events will belong to; a new one when left out.", "", false),
		textParameter("header", "traceparent", "W3C trace context.", "", false),
	}
)
