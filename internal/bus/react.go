package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/ThreeDotsLabs/watermill/components/metrics"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/rapport-crm/rapport/domain"
)

// Outgoing is one message for a broker.
type Outgoing struct {
	ID      string // the same whenever the message is repeated: receivers and brokers drop repetitions by it
	Topic   string
	Key     string // messages with the same key keep their order
	Headers map[string]string
	Body    []byte
}

// Publisher brings messages to a broker, one after the other. Publish returns nil only when the broker has taken the
// message for good.
type Publisher interface {
	Publish(*Outgoing) error
	Close() error
}

// Reaction makes of an event the message that goes out, or nil when there is none. An error means that it comes again.
type Reaction func(ctx context.Context, item *Item) (*Outgoing, error)

// ReactOptions says how events are handled.
type ReactOptions struct {
	Kind       string                      // of what handles them, such as "reactor": for logs, metrics and traces
	Registerer prometheus.Registerer       // of Watermill's handler metrics; nil means none
	Observe    func(item *Item, err error) // is told of every attempt; may be nil
}

// NewEventSubscriber makes a subscriber to everything behind an event that sends each event as a message of its own, the
// next when the one before was acknowledged; those that wanted refuses are passed over. After the last event of each batch
// of the log it calls settle with that event and the batch's end, and when ctx ends before with the last event that is done;
// an error of settle ends the subscription.
func NewEventSubscriber(source Source, after domain.Mark, decode Decoder, opts Options, wanted func(eventType string) bool,
	settle func(ctx context.Context, event domain.Mark, searched domain.Position) error,
) *Subscriber {
	last := after // event that is done
	s := NewSubscriber(source, after, decode, opts)
	s.deliver = func(ctx context.Context, topic string, batch *Batch, out chan<- *message.Message) bool {
		for i := range batch.Items {
			item := &batch.Items[i]
			if !wanted(item.Raw.Type) || s.insist(ctx, topic, func() bool { return s.offerEvent(ctx, item, out) }) {
				continue
			}
			if i > 0 { // ctx has ended in the middle of a batch: what it has done already is done
				done := batch.Items[i-1].Mark()
				if err := settle(ctx, done, done.Position); err != nil {
					s.fail(err)
				}
			}
			return false
		}
		if batch.End.IsZero() {
			return true
		}
		if len(batch.Items) > 0 {
			last = batch.Last()
		}
		if err := settle(ctx, last, batch.End); err != nil {
			s.fail(err)
			return false
		}
		return true
	}
	return s
}

type itemKey struct{}

// offerEvent sends an event once and reports whether it was acknowledged.
func (s *Subscriber) offerEvent(ctx context.Context, item *Item, out chan<- *message.Message) bool {
	msg := message.NewMessageWithContext(context.WithValue(ctx, itemKey{}, item), item.Raw.ID, item.Raw.Data)
	msg.Metadata.Set("type", item.Raw.Type)
	msg.Metadata.Set("stream", item.Raw.Stream)
	msg.Metadata.Set("position", item.Raw.Position.String())
	middleware.SetCorrelationID(item.Event.CorrelationID, msg)
	select {
	case out <- msg:
	case <-ctx.Done():
		return false
	}
	select { // the handler ends with ctx, by itself
	case <-msg.Acked():
		return true
	case <-msg.Nacked():
		return false
	}
}

// React carries the events of a subscriber made by NewEventSubscriber through a Watermill router: each becomes a message
// by react, which is published to to; to may be nil when react makes none. What fails is tried again for ever, with growing
// pauses, and nothing overtakes it. React returns nil when ctx ends, or why the log or settle cannot go on.
func React(ctx context.Context, name string, s *Subscriber, to Publisher, react Reaction, o ReactOptions) error {
	log := s.opts.Logger
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 2 * stopGrace}, logger(log))
	if err != nil {
		return fmt.Errorf("bus %s: %w", name, err)
	}
	router.AddMiddleware(
		s.traceEvent(o.Kind, name, to != nil),
		middleware.Retry{
			MaxRetries: math.MaxInt32, InitialInterval: s.opts.MinBackoff, MaxInterval: s.opts.MaxBackoff, Multiplier: 2, RandomizationFactor: 0.5,
			ResetContextOnRetry: true,
		}.Middleware,
	)
	if o.Registerer != nil {
		router.AddMiddleware(metrics.NewPrometheusMetricsBuilder(o.Registerer, "rapport", o.Kind).NewRouterMiddleware().Middleware)
	}
	router.AddMiddleware(watchEvent(o.Kind, name, log, o.Observe), middleware.Recoverer, publish(to), middleware.CorrelationID)
	router.AddHandler(name, name, s, "", nobody{}, func(msg *message.Message) ([]*message.Message, error) {
		item := itemFrom(msg.Context())
		out, err := react(msg.Context(), item)
		if err != nil || out == nil {
			return nil, err
		}
		return []*message.Message{wrap(out)}, nil
	})
	if err := router.Run(ctx); err != nil {
		return fmt.Errorf("bus %s: %w", name, err)
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("bus %s: %w", name, err)
	}
	return s.Err()
}

func itemFrom(ctx context.Context) *Item {
	item, _ := ctx.Value(itemKey{}).(*Item)
	return item
}

// nobody is the publisher that Watermill's router is given: publishing is a middleware, so that it is retried, measured
// and recovered like the rest.
type nobody struct{}

var (
	errUnpublished = errors.New("a message was left unpublished")
	errNoPublisher = errors.New("there is no publisher for a message")
)

func (nobody) Publish(string, ...*message.Message) error { return errUnpublished }
func (nobody) Close() error                              { return nil }

type outgoingKey struct{}

// wrap makes a Watermill message of an outgoing one.
func wrap(out *Outgoing) *message.Message {
	msg := message.NewMessageWithContext(context.WithValue(context.Background(), outgoingKey{}, out), out.ID, out.Body)
	for name, value := range out.Headers {
		msg.Metadata.Set(name, value)
	}
	return msg
}

// publish brings what the handler has produced to the broker.
func publish(to Publisher) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			produced, err := next(msg)
			if err != nil {
				return nil, err
			}
			if to == nil && len(produced) > 0 {
				return nil, errNoPublisher
			}
			for _, p := range produced {
				out := *p.Context().Value(outgoingKey{}).(*Outgoing)
				out.Headers = p.Metadata
				if err := to.Publish(&out); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}
	}
}

// watchEvent logs and reports each attempt at an event.
func watchEvent(kind, name string, log *slog.Logger, observe func(*Item, error)) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			produced, err := next(msg)
			item := itemFrom(msg.Context())
			if err != nil && msg.Context().Err() == nil {
				log.WarnContext(msg.Context(), "event not handled", kind, name, "event_type", item.Raw.Type,
					"stream", item.Raw.Stream, "position", item.Raw.Position, "err", err)
			}
			if observe != nil {
				observe(item, err)
			}
			return produced, err
		}
	}
}

// traceEvent makes what becomes of an event part of the trace that its request began.
func (s *Subscriber) traceEvent(kind, name string, publishes bool) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		if s.opts.Tracer == nil {
			return next
		}
		what, spanKind := "handle ", trace.SpanKindConsumer
		if publishes {
			what, spanKind = "publish ", trace.SpanKindProducer
		}
		return func(msg *message.Message) ([]*message.Message, error) {
			item := itemFrom(msg.Context())
			ctx, span := s.opts.Tracer.Start(parent(msg.Context(), item.Event.TraceParent), what+item.Raw.Type,
				trace.WithSpanKind(spanKind),
				trace.WithAttributes(attribute.String("rapport."+kind, name), attribute.String("rapport.event_id", item.Raw.ID),
					attribute.String("rapport.stream", item.Raw.Stream), attribute.String("rapport.position", item.Raw.Position.String())))
			defer span.End()
			msg.SetContext(ctx)
			produced, err := next(msg)
			finish(span, err)
			return produced, err
		}
	}
}
