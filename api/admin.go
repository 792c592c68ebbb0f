package api

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// ParkedRequest chooses parked streams.
type ParkedRequest struct {
	Stream string `json:"stream,omitempty" doc:"The stream; every parked stream of the projection when left out." example:"main.customer-01900000-0000-7000-8000-000000000001"`
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why the events are discarded; required for that, and kept." example:"test data"`
}

// ParkedResult says how many events were dealt with.
type ParkedResult struct {
	Events int `json:"events" doc:"Events applied or discarded."`
}

// AbandonResult says which builds were dropped.
type AbandonResult struct {
	Builds []AbandonedBuild `json:"builds" doc:"Those that had never served, one at least."`
}

// NameParameter names a projection in the path.
type NameParameter struct {
	Name string `path:"name" maxLength:"100" doc:"The projection." example:"customer"`
}

// adminRoutes offers what an operator does with projections.
func (s *Server) adminRoutes() error {
	admin := s.opts.Projections
	if admin == nil {
		return nil
	}
	resource.Query(s, resource.Route{ID: "projections", Path: "/v1/admin/projections", Tag: "admin", Doc: "Says how the projections stand."},
		func(ctx context.Context, _ *struct{}) (*resource.View[query.List[ProjectionStatus]], error) {
			all, err := admin.Status(ctx)
			if err != nil {
				return nil, err
			}
			at, err := s.opts.Reads.Position(ctx)
			return resource.Viewed(s.opts.Reads, query.List[ProjectionStatus]{Items: all, Position: at}, at, err)
		})
	resource.Query(s, resource.Route{ID: "parkedStreams", Path: "/v1/admin/projections/{name}/parked", Tag: "admin", Doc: "Lists the streams that a projection could not digest."},
		func(ctx context.Context, in *NameParameter) (*resource.ListAnswer[ParkedStream], error) {
			parked, err := parkedOf(ctx, admin, in.Name)
			if err != nil {
				return nil, err
			}
			at, err := s.opts.Reads.Position(ctx)
			return resource.Paged(ctx, s, s.opts.Reads, query.List[ParkedStream]{Items: parked, Position: at}, err)
		})
	s.adminAction("rebuildProjection", "rebuild", "Builds a projection's table anew from the log, beside the one that serves, and switches to it when it is verified; the list of projections shows how it goes.", RebuildRequest{}, nil,
		func(c echo.Context, name, actor string) (any, error) {
			var req RebuildRequest
			if c.Request().ContentLength != 0 { // without a body it is as usual
				body, err := readBody(c.Request())
				if err != nil {
					return nil, err
				}
				if err := decodeObject(body, &req, ""); err != nil {
					return nil, err
				}
			}
			return struct{}{}, admin.Rebuild(c.Request().Context(), name, actor, req)
		})
	s.adminAction("switchProjection", "switch", "Switches readers to a build that is ready and was held.", nil, nil,
		func(c echo.Context, name, actor string) (any, error) {
			return struct{}{}, admin.Switch(c.Request().Context(), name, actor)
		})
	s.adminAction("rollbackProjection", "rollback", "Switches readers back to the build that served before; it was kept up to date.", nil, nil,
		func(c echo.Context, name, actor string) (any, error) {
			return struct{}{}, admin.Rollback(c.Request().Context(), name, actor)
		})
	s.adminAction("abandonProjection", "abandon", "Drops builds that have never served: under way, held, or unable to go on. What serves and what is kept for the way back stay.", nil, AbandonResult{},
		func(c echo.Context, name, actor string) (any, error) {
			builds, err := admin.Abandon(c.Request().Context(), name, actor)
			return AbandonResult{builds}, err
		})
	s.adminAction("retryParked", "parked/retry", "Applies parked events again.", ParkedRequest{}, ParkedResult{},
		func(c echo.Context, name, actor string) (any, error) {
			req, err := parkedRequest(c)
			if err != nil {
				return nil, err
			}
			return eachParked(c.Request().Context(), admin, name, req.Stream, func(ctx context.Context, stream string) (int, error) {
				return admin.Retry(ctx, name, stream, actor)
			})
		})
	s.adminAction("discardParked", "parked/discard", "Forgets parked events; who did it and why is kept.", ParkedRequest{Reason: "test data"}, ParkedResult{},
		func(c echo.Context, name, actor string) (any, error) {
			req, err := parkedRequest(c)
			if err != nil {
				return nil, err
			}
			if strings.TrimSpace(req.Reason) == "" {
				return nil, domain.Invalid("/reason", "is required")
			}
			return eachParked(c.Request().Context(), admin, name, req.Stream, func(ctx context.Context, stream string) (int, error) {
				return admin.Discard(ctx, name, stream, actor, req.Reason)
			})
		})
	return nil
}

// parkedOf returns the parked streams of a projection that are of the caller's tenant.
func parkedOf(ctx context.Context, admin Projections, name string) ([]ParkedStream, error) {
	parked, err := admin.Parked(ctx, name)
	tenant := callOf(ctx).caller.Tenant
	return slices.DeleteFunc(parked, func(p ParkedStream) bool {
		id, err := domain.ParseStreamID(p.Stream)
		return err != nil || id.Tenant != tenant
	}), err
}

// eachParked deals with a parked stream of the caller's tenant, or with each of them when none is named.
func eachParked(ctx context.Context, admin Projections, name, stream string, deal func(ctx context.Context, stream string) (int, error)) (ParkedResult, error) {
	parked, err := parkedOf(ctx, admin, name)
	if err != nil {
		return ParkedResult{}, err
	}
	var result ParkedResult
	for _, p := range parked {
		if stream != "" && stream != p.Stream {
			continue
		}
		n, err := deal(ctx, p.Stream)
		if result.Events += n; err != nil {
			return result, err
		}
	}
	return result, nil
}

func parkedRequest(c echo.Context) (ParkedRequest, error) {
	var req ParkedRequest
	body, err := readBody(c.Request())
	if err != nil {
		return req, err
	}
	if err := decodeObject(body, &req, ""); err != nil {
		return req, err
	}
	for pointer, text := range map[string]string{"/stream": req.Stream, "/reason": req.Reason} {
		if !isText(text) || len(text) > 1000 {
			return req, domain.Invalid(pointer, "is not a text of up to 1000 bytes without control characters")
		}
	}
	return req, nil
}

// adminAction registers something that is done to one projection. A nil example means that it takes no body, a nil result that
// its answer has no members.
func (s *Server) adminAction(id, verb, summary string, example, result any, act func(c echo.Context, name, actor string) (any, error)) {
	op := &huma.Operation{
		OperationID: id, Method: http.MethodPost, Path: "/v1/admin/projections/{name}/" + verb, Tags: []string{"admin"}, Summary: summary,
		Parameters: []*huma.Param{
			textParameter("path", "name", "The projection.", "customer", true),
			textParameter("header", headerActor, "User name of the operator; anonymous when left out.", "ann", false),
		},
		Responses: map[string]*huma.Response{"200": {Description: "Done."}, "default": s.problemResponse()},
	}
	if example != nil {
		op.RequestBody = s.jsonBody(reflect.TypeOf(example), example)
		if _, ok := example.(RebuildRequest); ok {
			op.RequestBody.Required = false
		}
	}
	if result != nil {
		op.Responses["200"].Content = map[string]*huma.MediaType{mediaJSON: {Schema: s.schema(reflect.TypeOf(result))}}
	}
	s.handle(op, func(c echo.Context) error {
		for name := range c.Request().URL.Query() {
			return domain.Invalid(name, "is not a parameter of this route")
		}
		actor, err := actorOf(c.Request().Header)
		if err != nil {
			return err
		}
		result, err := act(c, c.Param("name"), actor.ID)
		if err != nil {
			return err
		}
		return writeJSON(c, http.StatusOK, result)
	})
}
