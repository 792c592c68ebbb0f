package eventlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// Store is a Log of typed events. It is safe for concurrent use.
type Store struct {
	log   Log
	codec *codec.Registry
}

// NewStore puts a codec before a log. Closing the log stays with its owner.
func NewStore(log Log, registry *codec.Registry) *Store { return &Store{log: log, codec: registry} }

// Append encodes events and appends them to a stream, all or none. An event that does not encode, or that belongs to
// another tenant than the stream, is Refused.
func (s *Store) Append(ctx context.Context, stream domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	batch := make([]NewEvent, len(events))
	for i, e := range events {
		if e.Tenant != stream.Tenant {
			return domain.Refused{Err: fmt.Errorf("append to %s: event %d is of tenant %q", stream, i, e.Tenant)}
		}
		data, metadata, err := s.codec.Encode(e)
		if err != nil {
			return domain.Refused{Err: fmt.Errorf("append to %s: event %d: %w", stream, i, err)}
		}
		batch[i] = NewEvent{ID: e.ID, Type: e.Event.EventType(), Data: data, Metadata: metadata}
	}
	ctx, span := traced(ctx, stream, len(batch))
	defer span.End()
	outcome := s.log.Append(ctx, stream.String(), expected, batch)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("rapport.outcome", strings.TrimPrefix(fmt.Sprintf("%T", outcome), "domain.")))
	}
	return outcome
}

// traced starts the span of an append within the one of ctx; without one there is none.
func traced(ctx context.Context, stream domain.StreamID, events int) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return parent.TracerProvider().Tracer("github.com/rapport-crm/rapport").Start(ctx, "append", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("rapport.stream", stream.String()), attribute.Int("rapport.events", events)))
}

// Read yields the events of a stream from the given revision on; nothing when there is no such stream. An error is the last
// thing yielded: the log's, the codec's, or one that wraps domain.ErrCorrupt when an event is missing, because a history
// with holes makes wrong decisions.
func (s *Store) Read(ctx context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		next := from
		for raw, err := range s.log.ReadStream(ctx, stream.String(), from) {
			var event domain.Recorded
			if err == nil {
				event, err = s.codec.Decode(raw)
			}
			if err == nil && raw.Revision != next {
				err = fmt.Errorf("read %s: revision %d follows %d: %w", stream, raw.Revision, int64(next)-1, domain.ErrCorrupt)
			}
			if err != nil {
				yield(domain.Recorded{}, err)
				return
			}
			next++
			if !yield(event, nil) {
				return
			}
		}
	}
}

// ReadAll yields the events of all streams after a position, up to the end of the log. An error is the last thing yielded.
func (s *Store) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for raw, err := range s.log.ReadAll(ctx, after) {
			var event domain.Recorded
			if err == nil {
				event, err = s.codec.Decode(raw)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// ReadTypes yields the events of all streams after a position whose types are wanted, up to the end of the log. The others
// are not decoded. An error is the last thing yielded.
func (s *Store) ReadTypes(ctx context.Context, after domain.Position, wanted func(eventType string) bool) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for raw, err := range s.log.ReadAll(ctx, after) {
			var event domain.Recorded
			switch {
			case err == nil && !wanted(raw.Type):
				continue
			case err == nil:
				event, err = s.codec.Decode(raw)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Subscribe yields the events of all streams after a position and then every new one, until ctx ends or it cannot go on.
// An error is the last thing yielded.
func (s *Store) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for message, err := range s.log.Subscribe(ctx, domain.Mark{Position: after}) {
			if err == nil && message.Raw == nil {
				continue
			}
			var event domain.Recorded
			if err == nil {
				event, err = s.codec.Decode(*message.Raw)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Head returns the last event of the log, zero when there is none. It asks the log anew.
func (s *Store) Head(ctx context.Context) (domain.Mark, error) { return s.log.Head(ctx) }

// Stands reports whether an event stands where it stood, as it does as long as the log was not replaced by an older copy.
func (s *Store) Stands(ctx context.Context, m domain.Mark) (bool, error) {
	err := s.log.Check(ctx, m)
	if errors.Is(err, ErrOtherLog) {
		return false, nil
	}
	return err == nil, err
}
