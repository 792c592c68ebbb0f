package bus

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// Handler handles one batch. An error means that nothing was done: the batch comes again.
type Handler func(ctx context.Context, batch *Batch) error

// Observe is told of every attempt at a batch; it must be safe for concurrent use.
type Observe func(name string, batch *Batch, took time.Duration, err error)

// Run carries a subscription to a handler through a Watermill router until ctx ends, and then returns nil, or until the log
// cannot go on, and then returns why. There is no poison queue: a handler that cannot handle an event must say what it
// does instead. observe may be nil.
func Run(ctx context.Context, name string, s *Subscriber, handle Handler, observe Observe) error {
	log := s.opts.Logger
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 2 * stopGrace}, logger(log))
	if err != nil {
		return fmt.Errorf("bus %s: %w", name, err)
	}
	router.AddMiddleware(s.traceBatch(name), watch(name, log, observe), middleware.Recoverer)
	router.AddConsumerHandler(name, name, s, func(msg *message.Message) error {
		return handle(msg.Context(), BatchFrom(msg.Context()))
	})
	if err := router.Run(ctx); err != nil {
		return fmt.Errorf("bus %s: %w", name, err)
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("bus %s: %w", name, err)
	}
	return s.Err()
}

// watch logs and measures each attempt at a batch.
func watch(name string, log *slog.Logger, observe Observe) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			start := time.Now()
			produced, err := next(msg)
			if observe != nil {
				observe(name, BatchFrom(msg.Context()), time.Since(start), err)
			}
			if err != nil && msg.Context().Err() == nil {
				log.WarnContext(msg.Context(), "batch failed", "subscription", name, "batch", string(msg.Payload), "err", err)
			}
			return produced, err
		}
	}
}

// logger gives Watermill a voice for debugging only: what matters of its messages is logged once by watch.
func logger(log *slog.Logger) watermill.LoggerAdapter {
	return watermill.NewSlogLoggerWithLevelMapping(log, map[slog.Level]slog.Level{
		slog.LevelInfo:  slog.LevelDebug,
		slog.LevelError: slog.LevelDebug,
	})
}
