package bus_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/leaktest"
)

func TestMain(m *testing.M) {
	// Kafka's client leaves one goroutine behind for all its meters together, for the life of the process.
	leaktest.Main(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// event makes the message of the event at position n.
func event(n int) eventlog.Message {
	p := domain.Position{Commit: uint64(n), Prepare: uint64(n)}
	return eventlog.Message{Raw: &codec.Raw{Type: "test.happened", Position: p, Data: make([]byte, 10)}}
}

// script is a log that delivers messages and then either stays silent or fails.
func script(fail error, messages ...eventlog.Message) bus.Source {
	return func(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
		return func(yield func(eventlog.Message, error) bool) {
			for _, m := range messages {
				if m.Raw != nil && !after.Position.Before(m.Raw.Position) {
					continue
				}
				if !yield(m, nil) {
					return
				}
			}
			if fail == nil {
				<-ctx.Done()
				fail = ctx.Err()
			}
			yield(eventlog.Message{}, fail)
		}
	}
}

type decoder func(codec.Raw) (domain.Recorded, error)

func (d decoder) Decode(raw codec.Raw) (domain.Recorded, error) { return d(raw) }

var plain = decoder(func(raw codec.Raw) (domain.Recorded, error) {
	return domain.Recorded{Position: raw.Position}, nil
})

func options(maxEvents int) bus.Options {
	return bus.Options{MaxEvents: maxEvents, Logger: slog.New(slog.DiscardHandler)}
}

// run feeds a subscription to handle until it returns false.
func run(t *testing.T, s *bus.Subscriber, handle func(*bus.Batch) (more bool, err error)) error {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	return bus.Run(ctx, "test", s, func(_ context.Context, b *bus.Batch) error {
		more, err := handle(b)
		if !more {
			stop()
		}
		return err
	}, nil)
}

func TestEveryEventArrivesOnceInOrderInBoundedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 1000
		var messages []eventlog.Message
		for n := 1; n <= events; n++ {
			messages = append(messages, event(n))
		}
		messages = append(messages, eventlog.Message{CaughtUp: true})
		var inFlight atomic.Int32
		next := 101
		err := run(t, bus.NewSubscriber(script(nil, messages...), domain.Mark{Position: domain.Position{Commit: 100, Prepare: 100}}, plain, options(64)),
			func(b *bus.Batch) (bool, error) {
				if inFlight.Add(1) > 1 {
					t.Error("two batches in flight")
				}
				defer inFlight.Add(-1)
				if len(b.Items) > 64 {
					t.Errorf("%d events in a batch", len(b.Items))
				}
				for _, item := range b.Items {
					if item.Event.Position.Commit != uint64(next) {
						t.Fatalf("got %s, want %d", item.Event.Position, next)
					}
					next++
				}
				if b.CaughtUp && next != events+1 {
					t.Errorf("caught up before %d", next)
				}
				return !b.CaughtUp, nil
			})
		if err != nil || next != events+1 {
			t.Errorf("ended at %d with %v", next, err)
		}
	})
}

// P2 of docs/faults.md.
func TestRefusedBatchComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		start := time.Now()
		err := run(t, bus.NewSubscriber(script(nil, event(1), event(2), eventlog.Message{CaughtUp: true}, event(3)), domain.Mark{}, plain, options(2)),
			func(b *bus.Batch) (bool, error) {
				seen = append(seen, fmt.Sprint(len(b.Items), b.End))
				switch len(seen) {
				case 1:
					return true, errors.New("not now")
				case 2:
					panic("not now either")
				}
				return b.End.Commit < 3, nil
			})
		if err != nil {
			t.Error(err)
		}
		if got, want := fmt.Sprint(seen), "[2 2 2 2 2 2 1 3]"; got != want && got != "[2 2 2 2 2 2 0 0 1 3]" {
			t.Errorf("got %s, want %s", got, want)
		}
		if time.Since(start) < bus.DefaultMinBackoff {
			t.Error("sent again without a pause")
		}
	})
}

// P3 of docs/faults.md.
func TestLogOutOfOrderEndsTheSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got int
		err := run(t, bus.NewSubscriber(script(nil, event(2), event(1)), domain.Mark{}, plain, options(10)),
			func(b *bus.Batch) (bool, error) {
				got += len(b.Items)
				return true, nil
			})
		if !errors.Is(err, bus.ErrOrder) || got != 1 {
			t.Errorf("%d events, then %v", got, err)
		}
	})
}

func TestLogThatCannotGoOnTellsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		err := run(t, bus.NewSubscriber(script(gone, event(1)), domain.Mark{}, plain, options(10)),
			func(*bus.Batch) (bool, error) { return true, nil })
		if !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

// P9 of docs/faults.md.
func TestUndecodableEventTravelsWithItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		odd := decoder(func(raw codec.Raw) (domain.Recorded, error) {
			if raw.Position.Commit == 2 {
				return domain.Recorded{}, domain.ErrCorrupt
			}
			return plain(raw)
		})
		err := run(t, bus.NewSubscriber(script(nil, event(1), event(2), event(3)), domain.Mark{}, odd, options(3)),
			func(b *bus.Batch) (bool, error) {
				if len(b.Items) != 3 || b.Items[0].Err != nil || !errors.Is(b.Items[1].Err, domain.ErrCorrupt) || b.Items[2].Err != nil {
					t.Errorf("got %+v", b.Items)
				}
				return false, nil
			})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestNextBatchIsReadWhileOneIsHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var decoded atomic.Int32
		counting := decoder(func(raw codec.Raw) (domain.Recorded, error) {
			decoded.Add(1)
			return plain(raw)
		})
		var messages []eventlog.Message
		for n := 1; n <= 10; n++ {
			messages = append(messages, event(n))
		}
		err := run(t, bus.NewSubscriber(script(nil, messages...), domain.Mark{}, counting, options(2)),
			func(*bus.Batch) (bool, error) {
				synctest.Wait()
				if n := decoded.Load(); n != 5 { // the one handled, the one ready, and the event that finds no room
					t.Errorf("%d events decoded", n)
				}
				return false, nil
			})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestPositionsWithoutEventsArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := domain.Position{Commit: 7, Prepare: 7}
		err := run(t, bus.NewSubscriber(script(nil, eventlog.Message{Checkpoint: at}), domain.Mark{}, plain, options(2)),
			func(b *bus.Batch) (bool, error) {
				if len(b.Items) != 0 || b.End != at {
					t.Errorf("got %+v", b)
				}
				return false, nil
			})
		if err != nil {
			t.Error(err)
		}
	})
}

// P20 of docs/faults.md.
func TestBatchesAreBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := options(100)
		opts.MaxBytes = 15
		err := run(t, bus.NewSubscriber(script(nil, event(1), event(2), event(3)), domain.Mark{}, plain, opts),
			func(b *bus.Batch) (bool, error) {
				if len(b.Items) != 2 {
					t.Errorf("%d events", len(b.Items))
				}
				return false, nil
			})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestSubscriberServesOneSubscription(t *testing.T) {
	s := bus.NewSubscriber(script(nil), domain.Mark{}, plain, options(1))
	ctx, stop := context.WithCancel(t.Context())
	messages, err := s.Subscribe(ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Subscribe(ctx, "test"); err == nil {
		t.Error("subscribed twice")
	}
	stop()
	if _, open := <-messages; open {
		t.Error("a message from nothing")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Subscribe(ctx, "test"); err == nil {
		t.Error("subscribed after Close")
	}
}

func TestBusyLiveSubscriptionWaitsForMore(t *testing.T) {
	const soon, late = bus.DefaultLinger / 4, 2 * bus.DefaultLinger
	for _, c := range []struct {
		queued int
		later  time.Duration
		want   []int // caught up, the first event, what queued while it was handled, what came later
	}{
		{1, soon, []int{0, 1, 1, 1}},
		{8, soon, []int{0, 1, 9}},
		{8, late, []int{0, 1, 8, 1}},
		{32, late, []int{0, 1, 33}}, // the more, the longer
		{900, 19 * bus.DefaultLinger, []int{0, 1, 901}},
		{900, 21 * bus.DefaultLinger, []int{0, 1, 900, 1}}, // no longer than that
		{1000, soon, []int{0, 1, 1000, 1}},                 // these are enough
	} {
		queued := c.queued
		synctest.Test(t, func(t *testing.T) {
			live, handling, later := make(chan bool), make(chan bool), make(chan bool)
			source := func(ctx context.Context, _ domain.Mark) iter.Seq2[eventlog.Message, error] {
				return func(yield func(eventlog.Message, error) bool) {
					yield(eventlog.Message{CaughtUp: true}, nil)
					<-live
					yield(event(1), nil)
					<-handling
					for n := range queued {
						yield(event(2+n), nil)
					}
					<-later
					time.Sleep(c.later)
					yield(event(2+queued), nil)
					<-ctx.Done()
					yield(eventlog.Message{}, ctx.Err())
				}
			}
			var sizes []int
			seen := 0
			err := run(t, bus.NewSubscriber(source, domain.Mark{}, plain, options(2000)), func(b *bus.Batch) (bool, error) {
				sizes = append(sizes, len(b.Items))
				seen += len(b.Items)
				switch len(sizes) {
				case 1:
					close(live)
				case 2:
					close(handling)
					synctest.Wait() // until everything has queued
					close(later)
				}
				return seen < queued+2, nil
			})
			if diff := cmp.Diff(c.want, sizes); err != nil || diff != "" {
				t.Errorf("%d queued, one %s later: %v, %s", queued, c.later, err, diff)
			}
		})
	}
}
