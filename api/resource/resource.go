// Package resource serves what the read models declare: each query.Resource is a list and each query.Record a record, with
// route, parameters, documentation and description, without a line of its own here. Queries of another form are registered
// with the same pieces.
package resource

import (
	"context"
	"net/http"
	"net/url"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rapport-crm/rapport/readmodels/query"
)

// Host is the server that queries are registered with.
type Host interface {
	API() huma.API
	// Reads returns the read models that a query sees, bound to its caller: those of now, once they reflect the position
	// asked for, or those as of the moment asked for. cursor is that of a list.
	Reads(ctx context.Context, c Consistency, cursor string) (*query.Store, error)
	// Bounded runs a query within the bounds of the server, narrower ones when it is heavy, and returns its error as the
	// problem that the client is told.
	Bounded(ctx context.Context, path string, heavy bool, run func() error) error
	// URL returns that of a request; nil outside of one.
	URL(ctx context.Context) *url.URL
	// Describe adds a list to the description of the server.
	Describe(m ReadModelMetadata)
}

// Route says where a query is served and how it is documented.
type Route struct {
	ID, Path, Tag, Doc string

	Body reflect.Type // of the answer, where the handler's type does not say it
}

// Query registers a typed query.
func Query[I, O any](h Host, r Route, handler func(context.Context, *I) (*O, error)) {
	op := huma.Operation{OperationID: r.ID, Method: http.MethodGet, Path: r.Path, Tags: []string{r.Tag}, Summary: r.Doc}
	if r.Body != nil {
		schema := h.API().OpenAPI().Components.Schemas.Schema(r.Body, true, "")
		op.Responses = map[string]*huma.Response{"200": {Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}}
	}
	huma.Register(h.API(), op, func(ctx context.Context, in *I) (out *O, err error) {
		asked, ok := any(in).(interface{ Heavy() bool })
		err = h.Bounded(ctx, r.Path, ok && asked.Heavy(), func() error {
			out, err = handler(ctx, in)
			return err
		})
		if err != nil {
			return nil, err
		}
		return out, nil
	})
	for _, p := range h.API().OpenAPI().Paths[r.Path].Get.Parameters {
		if len(p.Schema.Examples) > 0 { // of the field's tag
			p.Example = p.Schema.Examples[0]
		}
	}
}

// Example shows parameters of a query in the reference.
func Example(h Host, path string, examples map[string]any) {
	for _, p := range h.API().OpenAPI().Paths[path].Get.Parameters {
		if e, ok := examples[p.Name]; ok {
			p.Example = e
		}
	}
}

// listed is a page of any resource with its headers.
type listed struct {
	Shown
	Told
	Link string `header:"Link" doc:"The next page, rel=\"next\"."`
	Body any
}

// Register serves resources and records.
func Register(h Host, resources []query.Listed, records []query.Single) {
	for _, r := range resources {
		d := r.Declared()
		list(h, d, func(ctx context.Context, in *ListParameters) (*listed, error) {
			reads, err := h.Reads(ctx, in.Consistency, in.Cursor)
			if err != nil {
				return nil, err
			}
			body, err := r.Rows(ctx, reads, in.Query())
			if err != nil {
				return nil, err
			}
			return &listed{Shown: Basis(reads, body.Position), Link: NextLink(ctx, h, "cursor", body.Next), Body: body.List}, nil
		})
	}
	for _, r := range records {
		d := r.DeclaredRecord()
		Query(h, Route{d.Name, d.Path, d.Aggregate, d.Doc, d.Type}, func(ctx context.Context, in *RecordParameters) (*Record[any], error) {
			id, err := in.Of()
			if err != nil {
				return nil, err
			}
			reads, err := h.Reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			record, revision, at, err := r.Get(ctx, reads, id)
			if err != nil {
				return nil, err
			}
			known := in.IfNoneMatch
			if !d.Own {
				known = ""
			}
			return Recorded(record, revision, Basis(reads, at), known), nil
		})
	}
}

// List serves a resource by a handler of its own, whose parameters begin with ListParameters.
func List[I, R any](h Host, r *query.Resource[R], handler func(context.Context, *I) (*ListAnswer[R], error)) {
	list(h, r.Declared(), handler)
}

func list[I, O any](h Host, d query.Declaration, handler func(context.Context, *I) (*O, error)) {
	Query(h, Route{d.Name, d.Path, d.About, d.Doc, d.Body}, handler)
	Example(h, d.Path, map[string]any{"filter": d.Example.Filter, "sort": d.Example.Sort, "limit": 20, "count": "exact"})
	h.Describe(ReadModelMetadata{Name: d.Name, Path: d.Path, Doc: d.Doc, Sorts: d.Sorts, Fields: Fields(d.Row)})
}
