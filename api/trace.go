package api

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rapport-crm/rapport/commands"
)

// begin starts the span of a request, within the trace that its caller names. Without a tracer it does nothing.
func (s *Server) begin(ctx context.Context, r *http.Request, route string) (context.Context, trace.Span) {
	if s.opts.Tracer == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	method := r.Method
	if !knownMethods[method] {
		method = "_OTHER" // as the semantic conventions have it
	}
	return s.opts.Tracer.Start(ctx, method+" "+route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route)))
}

// finish ends the span of a request.
func finish(span trace.Span, status int, correlation string) {
	if span.IsRecording() {
		span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.String("rapport.correlation_id", correlation))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}

// execute lets the bus execute a command. Its span is what the events name as their origin.
func (s *Server) execute(ctx context.Context, req commands.Request) (commands.Receipt, error) {
	if s.opts.Tracer == nil {
		return s.opts.Bus.Submit(ctx, req)
	}
	ctx, span := s.opts.Tracer.Start(ctx, "command "+req.Command.CommandType())
	defer span.End()
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	req.TraceParent = carrier["traceparent"]
	receipt, err := s.opts.Bus.Submit(ctx, req)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("rapport.stream", receipt.Stream), attribute.String("rapport.position", receipt.Position.String()),
			attribute.Bool("rapport.replayed", receipt.Replayed))
		if err != nil {
			span.SetAttributes(attribute.String("rapport.problem", problemOf(err).Code))
		}
	}
	return receipt, err
}
