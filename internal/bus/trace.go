package bus

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// maxLinks bounds the traces that the span of one batch names.
const maxLinks = 64

// parent continues the trace that a W3C trace parent names; ctx as it is when there is none.
func parent(ctx context.Context, traceParent string) context.Context {
	if traceParent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceParent})
}

// traceBatch gives each attempt at a batch a span. When the sampled events of the batch come from one trace, the span
// belongs to it; when they come from several, it begins a trace of its own with a link to each.
func (s *Subscriber) traceBatch(name string) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		if s.opts.Tracer == nil {
			return next
		}
		return func(msg *message.Message) ([]*message.Message, error) {
			batch := BatchFrom(msg.Context())
			origins := batch.origins()
			if len(origins) == 0 {
				return next(msg)
			}
			ctx, options := msg.Context(), []trace.SpanStartOption{trace.WithAttributes(
				attribute.String("rapport.projections", name), attribute.Int("rapport.events", len(batch.Items)),
				attribute.String("rapport.position", batch.End.String()))}
			if len(origins) == 1 {
				ctx = trace.ContextWithRemoteSpanContext(ctx, origins[0])
			} else {
				options = append(options, trace.WithNewRoot())
				for _, o := range origins {
					options = append(options, trace.WithLinks(trace.Link{SpanContext: o}))
				}
			}
			ctx, span := s.opts.Tracer.Start(ctx, "apply", options...)
			defer span.End()
			msg.SetContext(ctx)
			produced, err := next(msg)
			finish(span, err)
			return produced, err
		}
	}
}

// origins returns the spans that the sampled events of a batch come from, one for each trace, up to maxLinks.
func (b *Batch) origins() []trace.SpanContext {
	var list []trace.SpanContext
	seen := map[trace.TraceID]bool{}
	for i := range b.Items {
		t := b.Items[i].Event.TraceParent
		if t == "" {
			continue
		}
		origin := trace.SpanContextFromContext(parent(context.Background(), t))
		if !origin.IsSampled() || seen[origin.TraceID()] {
			continue
		}
		seen[origin.TraceID()] = true
		if list = append(list, origin); len(list) == maxLinks {
			break
		}
	}
	return list
}

// finish says in a span how it ended.
func finish(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "failed") // the error's text may quote what somebody wrote
	}
}
