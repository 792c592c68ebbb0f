package api

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/domain"
)

// call is what the middleware knows of a request.
type call struct {
	correlation string
	url         *url.URL // of the request; nil outside of one
	caller      domain.Caller
}

type callKey struct{}

// callOf returns what the middleware put into the context of a request; the zero call outside of one.
func callOf(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	return c
}

var correlationPattern = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,100}$`)

// observe gives every request its correlation id, measures it and writes it to the log, by its route and never by its path
// or query, which may hold personal data.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		correlation := c.Request().Header.Get(headerCorrelation)
		valid := correlation == "" || correlationPattern.MatchString(correlation)
		if correlation == "" || !valid {
			correlation = newCorrelation()
		}
		route := c.Path()
		if route == "" {
			route = "none"
		}
		ctx, span := s.begin(c.Request().Context(), c.Request(), route)
		caller, refused := s.callerOf(c.Request().Header)
		ctx = context.WithValue(ctx, callKey{}, call{correlation, c.Request().URL, caller})
		c.SetRequest(c.Request().WithContext(ctx))
		c.Response().Header().Set(headerCorrelation, correlation)
		var err error
		switch {
		case !valid:
			err = domain.Invalid(headerCorrelation, "is not 1 to 100 letters, digits and . _ : -")
		case refused != nil:
			err = refused
		default:
			err = s.guarded(next, c)
		}
		if err != nil {
			s.fail(err, c)
		}
		finish(span, c.Response().Status, correlation)
		took := time.Since(start)
		s.metrics.observe(c.Request().Method, route, c.Response().Status, took)
		if s.logger.Enabled(ctx, slog.LevelDebug) { // what is not written is not put together
			s.logger.DebugContext(ctx, "request answered", "method", c.Request().Method, "route", route, "status", c.Response().Status,
				"duration", took, "bytes", c.Response().Size, "correlation_id", correlation)
		}
		return nil
	}
}

// callerOf reads for whom a request asks: one of the tenants of this installation, and who it says that it is. Sign-in will take
// its place.
func (s *Server) callerOf(h http.Header) (domain.Caller, error) {
	caller := domain.Caller{Tenant: s.opts.Tenants[0]}
	if name := h.Get(headerTenant); name != "" {
		caller.Tenant = domain.Tenant(name)
	}
	var err error
	if caller.Actor, err = actorOf(h); err != nil {
		return domain.Caller{}, err
	}
	if caller.Admit(s.opts.Tenants) != nil { // a name it has, if only anonymous
		return domain.Caller{}, domain.Invalid(headerTenant, "names no tenant of this installation")
	}
	return caller, nil
}

func newCorrelation() string {
	id, err := uuid.NewV7()
	if err != nil {
		panic(fmt.Sprintf("api: no random numbers: %v", err)) // crypto/rand never fails on supported systems
	}
	return id.String()
}

// guarded runs a handler behind the guard, and turns a panic of either into an error with its stack for the log.
func (s *Server) guarded(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			err = panicError(p)
		}
	}()
	if err := s.guard(c); err != nil {
		return err
	}
	return next(c)
}

func panicError(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }

// answerHeaders are the headers that every answer has, unless a route sets them otherwise. They are few: an answer to a
// command has at most eight with its own, which a map holds without growing.
var answerHeaders = http.Header{
	"X-Content-Type-Options":  {"nosniff"},
	"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
	"Cache-Control":           {"no-store"},
}

// singleHeaders say what they say once: of two, one would silently win. The keys are in canonical form.
var singleHeaders = map[string]string{
	headerKey: headerKey, headerActor: headerActor, headerActorKind: headerActorKind, headerDuplicates: headerDuplicates,
	headerCorrelation: headerCorrelation, http.CanonicalHeaderKey(headerLastEvent): headerLastEvent, "Content-Type": "Content-Type",
}

// guard refuses what no route accepts, sets the headers that every answer has, and bounds the body.
func (s *Server) guard(c echo.Context) error {
	maps.Copy(c.Response().Header(), answerHeaders)
	r := c.Request()
	for canonical, values := range r.Header {
		if len(values) > 1 && singleHeaders[canonical] != "" {
			return domain.Invalid(singleHeaders[canonical], "stands there {count} times", len(values))
		}
	}
	limit := s.opts.MaxBodyBytes
	if special, ok := s.limits[c.Path()]; ok {
		limit = special
	}
	if r.ContentLength > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return newProblem(http.StatusUnsupportedMediaType, codeMediaType, "The body must not be compressed.")
	}
	if err := checkAccept(r.Header.Get("Accept"), c.Path()); err != nil {
		return err
	}
	r.Body = http.MaxBytesReader(c.Response(), r.Body, limit)
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return err
	}
	return checkParameters(c)
}

// checkAccept refuses a request to the API whose client takes none of the forms in which the route answers.
func checkAccept(header, route string) error {
	if header == "" || !strings.HasPrefix(route, "/v1/") {
		return nil
	}
	offers := feedMedia
	if route != feedPath {
		offers = feedMedia[:1]
	}
	if accepted(header, offers...) == "" && accepted(header, problemMediaType) == "" {
		return newProblem(http.StatusNotAcceptable, codeNotAcceptable, "The answer is "+strings.Join(offers, ", ")+", which the Accept header does not name.")
	}
	return nil
}

// checkQuery refuses a query string that does not parse, names a parameter twice or holds text that is none.
func checkQuery(raw string) error {
	if raw == "" {
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return domain.Invalid("query", "is not a well-formed query string")
	}
	for name, list := range values {
		switch {
		case !isText(name):
			return domain.Invalid("query", "holds a name that is not text")
		case len(list) > 1:
			return domain.Invalid(name, "stands there {count} times", len(list))
		case !isText(list[0]):
			return domain.Invalid(name, "is not valid UTF-8 text, or holds a control character")
		}
	}
	return nil
}

// checkParameters decodes the parameters of the path, which the router hands over as they stand in an escaped path.
func checkParameters(c echo.Context) error {
	values := c.ParamValues()
	for i, name := range c.ParamNames() {
		value := values[i]
		if strings.Contains(value, "/") { // the router gives the last parameter all that is left
			return echo.ErrNotFound
		}
		if c.Request().URL.RawPath != "" {
			var err error
			if value, err = url.PathUnescape(value); err != nil {
				return domain.Invalid(name, "is not well-formed in the path")
			}
			values[i] = value
		}
		if !isText(value) {
			return domain.Invalid(name, "is not valid UTF-8 text, or holds a control character")
		}
	}
	return nil
}

// isText reports whether s is UTF-8 without control characters other than tab and line breaks.
func isText(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f
	}) < 0
}

// fail writes the problem for an error, and the error itself into the log when it is the server's fault.
func (s *Server) fail(err error, c echo.Context) {
	p := *problemOf(err)
	ctx := c.Request().Context()
	s.report(ctx, &p, c.Path())
	if c.Response().Committed {
		return
	}
	p.locate(ctx)
	body, marshalErr := marshal(&p)
	if marshalErr != nil {
		s.logger.ErrorContext(ctx, "problem not written", "err", marshalErr)
		return
	}
	h := c.Response().Header()
	for name, values := range p.GetHeaders() {
		h[name] = values
	}
	h.Set("Content-Type", problemMediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.Response().WriteHeader(p.Status)
	if c.Request().Method != http.MethodHead {
		c.Response().Write(body) // a client that has gone away is told nothing
	}
}

// report logs what is the server's own fault, once.
func (s *Server) report(ctx context.Context, p *Problem, route string) {
	switch {
	case p.Status == http.StatusInternalServerError:
		s.logger.ErrorContext(ctx, "request failed", "route", route, "correlation_id", callOf(ctx).correlation, "err", p.cause)
	case p.cause != nil:
		s.logger.WarnContext(ctx, "request not served", "route", route, "correlation_id", callOf(ctx).correlation, "err", p.cause)
	}
}

// requestMetrics measures requests by route.
type requestMetrics struct{ seconds *prometheus.HistogramVec }

func newRequestMetrics(registry *prometheus.Registry) (*requestMetrics, error) {
	m := &requestMetrics{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "rapport", Subsystem: "http", Name: "request_seconds",
		Help:    "Time to answer a request, by route template.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"method", "route", "status"})}
	return m, registry.Register(m.seconds)
}

// knownMethods keeps what clients invent out of the labels.
var knownMethods = map[string]bool{
	http.MethodGet: true, http.MethodHead: true, http.MethodPost: true, http.MethodPut: true, http.MethodPatch: true,
	http.MethodDelete: true, http.MethodOptions: true,
}

func (m *requestMetrics) observe(method, route string, status int, took time.Duration) {
	if !knownMethods[method] {
		method = "other"
	}
	m.seconds.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}
