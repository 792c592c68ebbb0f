package bus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/trace"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/retry"
)

// Defaults of Options.
const (
	DefaultMaxEvents  = 2_000
	DefaultMaxBytes   = 8 << 20
	DefaultLinger     = 20 * time.Millisecond
	DefaultMinBackoff = 100 * time.Millisecond
	DefaultMaxBackoff = 30 * time.Second
)

const (
	checkpointLinger = time.Second     // how long a position without events may wait to be handled
	busyEvents       = 8               // that arrive while a live batch is handled make the next one wait: batches of few cost more
	maxLinger        = 20              // times Linger is the longest that a live batch waits
	enoughEvents     = 1_000           // of a live batch: more would hardly make each cheaper, and only come later
	stopGrace        = 5 * time.Second // for the handler to finish the batch in flight when the subscription ends
)

var (
	errClosed     = errors.New("the subscriber is closed")
	errSubscribed = errors.New("a subscriber serves one subscription")
)

// Options says how a log is cut into batches. Zero values mean the defaults.
type Options struct {
	MaxEvents  int           // of a batch
	MaxBytes   int           // of the payloads and metadata of a batch; one event may exceed it
	Linger     time.Duration // how long, far from the end of the log or when much arrives, a batch waits for more; longer the more arrives
	MinBackoff time.Duration // before a refused batch is sent again; it doubles up to MaxBackoff, with jitter
	MaxBackoff time.Duration
	Logger     *slog.Logger // nil means slog.Default
	Tracer     trace.Tracer // of the spans around batches and events; nil means none
}

func (o Options) withDefaults() Options {
	o.MaxEvents = orDefault(o.MaxEvents, DefaultMaxEvents)
	o.MaxBytes = orDefault(o.MaxBytes, DefaultMaxBytes)
	o.Linger = orDefault(o.Linger, DefaultLinger)
	o.MinBackoff = orDefault(o.MinBackoff, DefaultMinBackoff)
	o.MaxBackoff = max(orDefault(o.MaxBackoff, DefaultMaxBackoff), o.MinBackoff)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func orDefault[T int | time.Duration](v, standard T) T {
	if v > 0 {
		return v
	}
	return standard
}

// Subscriber is a Watermill message.Subscriber over one subscription to the log. It serves one Subscribe.
type Subscriber struct {
	source Source
	decode Decoder
	after  domain.Mark
	opts   Options

	// deliver hands a batch over until it is acknowledged, and reports whether it was.
	deliver func(ctx context.Context, topic string, batch *Batch, out chan<- *message.Message) bool

	mu     sync.Mutex
	used   bool
	closed bool
	stop   context.CancelFunc
	err    error
	done   sync.WaitGroup
}

// NewSubscriber makes a subscriber to everything behind an event.
func NewSubscriber(source Source, after domain.Mark, decode Decoder, opts Options) *Subscriber {
	s := &Subscriber{source: source, decode: decode, after: after, opts: opts.withDefaults(), stop: func() {}}
	s.deliver = func(ctx context.Context, topic string, batch *Batch, out chan<- *message.Message) bool {
		return s.insist(ctx, topic, func() bool { return s.offer(ctx, batch, out) })
	}
	return s
}

// Subscribe implements message.Subscriber. The topic is for log lines only. The channel is closed when ctx ends, Close is
// called, or the log cannot go on; Err tells which.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errClosed
	case s.used:
		return nil, errSubscribed
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.used = true
	in := newIntake(s.opts, s.after.Position)
	out := make(chan *message.Message)
	s.done.Go(func() { in.end(s.read(ctx, in)) })
	s.done.Go(func() {
		defer close(out)
		defer s.stop()
		s.send(ctx, topic, in, out)
	})
	return out, nil
}

// Close implements message.Subscriber: it ends the subscription and waits for that.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	stop := s.stop
	s.mu.Unlock()
	stop()
	s.done.Wait()
	return nil
}

// Err returns why the log could not go on, once the channel has been closed; nil when the subscription was ended.
func (s *Subscriber) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// read fills batches until the log or ctx ends.
func (s *Subscriber) read(ctx context.Context, in *intake) error {
	for m, err := range s.source(ctx, s.after) {
		if err == nil {
			err = in.add(ctx, m, func() Item { return s.item(*m.Raw) })
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *Subscriber) item(raw codec.Raw) Item {
	event, err := s.decode.Decode(raw)
	return Item{Raw: raw, Event: event, Err: err}
}

// send delivers batches one after the other until there are no more or ctx ends.
func (s *Subscriber) send(ctx context.Context, topic string, in *intake, out chan<- *message.Message) {
	for ctx.Err() == nil {
		batch := in.take(ctx)
		if batch == nil || !s.deliver(ctx, topic, batch, out) {
			break
		}
	}
	if ctx.Err() == nil && s.Err() == nil {
		s.fail(in.err) // the reader has ended, nobody writes it any more
	}
}

// fail says why the subscription ends.
func (s *Subscriber) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// insist offers something, with growing pauses, until it is acknowledged, and reports whether it was.
func (s *Subscriber) insist(ctx context.Context, topic string, offer func() bool) bool {
	pauses := retry.Backoff{First: s.opts.MinBackoff, Most: s.opts.MaxBackoff}
	for attempt := 1; ; attempt++ {
		if offer() {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		wait := retry.Spread(pauses.Next())
		s.opts.Logger.DebugContext(ctx, "message will be sent again", "subscription", topic, "attempt", attempt, "wait", wait)
		if !retry.Sleep(ctx, wait) {
			return false
		}
	}
}

// offer sends a batch once, as a new message, and reports whether it was acknowledged. When ctx ends the handler gets a
// little time to finish, then its context ends as well.
func (s *Subscriber) offer(ctx context.Context, batch *Batch, out chan<- *message.Message) bool {
	handling, cancel := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), batchKey{}, batch))
	defer cancel()
	msg := message.NewMessageWithContext(handling, watermill.NewUUID(), batch.payload())
	select {
	case out <- msg:
	case <-ctx.Done():
		return false
	}
	select {
	case <-msg.Acked():
		return true
	case <-msg.Nacked():
		return false
	case <-ctx.Done():
	}
	select {
	case <-msg.Acked():
		return true
	case <-msg.Nacked():
	case <-time.After(stopGrace):
	}
	return false
}
