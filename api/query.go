package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels"
)

// Consistency are the parameters of queries that say which state they see.
type Consistency struct {
	MinPosition string `query:"minPosition" doc:"Wait, up to 5 seconds, until the read models reflect this position of the log, as a receipt names it; 503 when they do not, 400 when the log itself has not reached it by then."`
	PastParameters
}

// ListParameters are the parameters of every list.
type ListParameters struct {
	Consistency
	Filter string `query:"filter" maxLength:"4000" doc:"CEL expression over the fields of an item. Known are == != < <= > >= in && || !, startsWith, contains, endsWith, lowerAscii, \"x\" in list, has(map.key), map.key, timestamp(\"2026-01-31T00:00:00Z\"), true, false and null."`
	Sort   string `query:"sort" maxLength:"500" doc:"Up to five fields, - in front for descending; not the bodies of dealings nor the texts of feedback."`
	Cursor string `query:"cursor" maxLength:"17000" doc:"The member next of the page before; for the same filter, sort, asOf and axis only. Pages as of the past show one state."`
	Limit  int    `query:"limit" minimum:"1" default:"50" doc:"Items of a page, 200 at most."`
	Count  string `query:"count" enum:"none,estimate,exact" default:"none" doc:"Whether and how to count all items that match."`
}

func (p ListParameters) query() readmodels.Query {
	return readmodels.Query{Filter: p.Filter, Sort: p.Sort, Cursor: p.Cursor, Limit: p.Limit, Count: readmodels.Count(p.Count)}
}

// IDParameter names a record in the path.
type IDParameter struct {
	ID string `path:"id" format:"uuid" doc:"The record." example:"01900000-0000-7000-8000-000000000001"`
}

// List is a page of a list.
type List[R any] struct {
	Items    []R             `json:"items" doc:"The items of the page."`
	Next     string          `json:"next,omitempty" doc:"Cursor of the next page; absent on the last."`
	Count    *int64          `json:"count,omitempty" doc:"Items that match over all pages, when asked for."`
	Position domain.Position `json:"position" doc:"Place in the log that the items reflect at least."`
}

// ListAnswer is a page with its headers.
type ListAnswer[R any] struct {
	Shown
	Told
	Link string `header:"Link" doc:"The next page, rel=\"next\"."`
	Body List[R]
}

// Record is one record with its headers.
type Record[R any] struct {
	Status int
	Shown
	ETag string `header:"ETag" doc:"Revision of the record, in quotes: for If-Match of a command, or If-None-Match. Absent on axis occurred."`
	Body R
}

// View is an answer that is not one record.
type View[R any] struct {
	Shown
	Told
	Body R
}

// route says where a query is served and how it is documented.
type route struct {
	id, path, tag, doc string
	examples           map[string]any // of parameters; lists have them
}

// query registers a typed query.
func query[I, O any](s *Server, r route, handler func(context.Context, *I) (*O, error)) {
	huma.Register(s.api, huma.Operation{
		OperationID: r.id, Method: http.MethodGet, Path: r.path, Tags: []string{r.tag}, Summary: r.doc,
	}, func(ctx context.Context, in *I) (*O, error) {
		out, err := bounded(s, ctx, in, handler)
		if err != nil {
			p := *problemOf(err)
			s.report(ctx, &p, r.path)
			p.locate(ctx)
			return nil, &p
		}
		return out, nil
	})
	for _, p := range s.api.OpenAPI().Paths[r.path].Get.Parameters {
		if e, ok := r.examples[p.Name]; ok {
			p.Example = e
		} else if len(p.Schema.Examples) > 0 { // of the field's tag
			p.Example = p.Schema.Examples[0]
		}
	}
	if body, ok := reflect.TypeFor[O]().FieldByName("Body"); ok && r.examples != nil {
		items, _ := body.Type.FieldByName("Items")
		s.readModels = append(s.readModels, ReadModelMetadata{Name: r.id, Path: r.path, Doc: r.doc, Fields: fieldsOf(items.Type.Elem())})
	}
}

const tooManyHeavy = "Too many answers are being made from the log."

// bounded runs the handler of a query, in a slot of its own when it is heavy.
func bounded[I, O any](s *Server, ctx context.Context, in *I, handler func(context.Context, *I) (*O, error)) (*O, error) {
	if q, ok := any(in).(interface{ heavy() bool }); ok && q.heavy() {
		if err := s.heavySlots.take(tooManyHeavy); err != nil {
			return nil, err
		}
		defer s.heavySlots.leave()
	}
	return handler(ctx, in)
}

// list registers a list of a whole read model.
func list[R any](s *Server, r route, read func(*readmodels.Store, context.Context, domain.Tenant, readmodels.Query) (readmodels.Page[R], error)) {
	query(s, r, func(ctx context.Context, in *ListParameters) (*ListAnswer[R], error) {
		reads, err := s.reads(ctx, in.Consistency, in.Cursor)
		if err != nil {
			return nil, err
		}
		page, err := read(reads, ctx, tenant, in.query())
		return listAnswer(ctx, reads, page, err)
	})
}

func listAnswer[R any](ctx context.Context, reads *readmodels.Store, page readmodels.Page[R], err error) (*ListAnswer[R], error) {
	if err != nil {
		return nil, err
	}
	return &ListAnswer[R]{
		Shown: shown(reads, page.Position),
		Link:  nextLink(ctx, "cursor", page.Next),
		Body:  List[R]{Items: page.Items, Next: page.Next, Count: page.Total, Position: page.Position},
	}, nil
}

// nextLink renders the Link header of a page: the same request with another cursor.
func nextLink(ctx context.Context, parameter, cursor string) string {
	u := callOf(ctx).url
	if cursor == "" || u == nil {
		return ""
	}
	values := u.Query()
	values.Set(parameter, cursor)
	return fmt.Sprintf("<%s?%s>; rel=\"next\"", u.EscapedPath(), values.Encode())
}

// RecordParameters name one record that the client may know already.
type RecordParameters struct {
	IDParameter
	Consistency
	IfNoneMatch string `header:"If-None-Match" doc:"ETag of the record that the client has: the answer is 304 without a body when it is still the same."`
}

// record registers one record of a read model by its id. revision is that of the record's stream; own says that nothing
// but this stream makes the record, so that an unchanged revision means an unchanged record.
func record[R any](s *Server, r route, own bool, read func(*readmodels.Store, context.Context, domain.Tenant, domain.ID) (R, domain.Position, error), revision func(R) int64) {
	query(s, r, func(ctx context.Context, in *RecordParameters) (*Record[R], error) {
		id, err := parseID(in.ID)
		if err != nil {
			return nil, err
		}
		reads, err := s.reads(ctx, in.Consistency, "")
		if err != nil {
			return nil, err
		}
		row, at, err := read(reads, ctx, tenant, id)
		if err != nil {
			return nil, err
		}
		known := in.IfNoneMatch
		if !own {
			known = ""
		}
		return recordAnswer(row, revision(row), shown(reads, at), known), nil
	})
}

func recordAnswer[R any](row R, revision int64, basis Shown, ifNoneMatch string) *Record[R] {
	answer := &Record[R]{Status: http.StatusOK, Shown: basis, Body: row}
	if basis.Axis == readmodels.AxisOccurred {
		return answer // one revision has many restatements
	}
	answer.ETag = etag(uint64(revision))
	for known := range strings.SplitSeq(ifNoneMatch, ",") {
		if known = strings.TrimPrefix(strings.TrimSpace(known), "W/"); known == answer.ETag || known == "*" {
			answer.Status = http.StatusNotModified
		}
	}
	return answer
}

// await waits, within the read models' own bound, until they reflect the position that the client asks for. One that the log
// has not reached by then is no position of the log.
func (s *Server) await(ctx context.Context, minPosition string) error {
	if minPosition == "" {
		return nil
	}
	p, err := parsePosition("minPosition", minPosition)
	if err != nil {
		return err
	}
	late := s.opts.Reads.WaitFor(ctx, p)
	if late == nil || s.opts.Log == nil {
		return late
	}
	var beyond *domain.InvalidError
	if err := s.reached(ctx, "minPosition", p); errors.As(err, &beyond) {
		return err
	}
	return late
}

// reached refuses a position that the log has not reached. Name is where it was given.
func (s *Server) reached(ctx context.Context, name string, p domain.Position) error {
	if p.IsZero() {
		return nil
	}
	head, err := s.opts.Log.Head(ctx)
	if err == nil && head.Position.Before(p) {
		err = domain.Invalid(name, "the log ends at position %s", head.Position)
	}
	return err
}

func parsePosition(name, text string) (domain.Position, error) {
	if text == "" {
		return domain.Position{}, nil
	}
	p, err := domain.ParsePosition(text)
	if err != nil {
		return p, domain.Invalid(name, "is not a position of the log")
	}
	return p, nil
}
