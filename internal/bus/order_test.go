package bus_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// of puts an event into a stream.
func of(m eventlog.Message, stream string, revision uint64) eventlog.Message {
	m.Raw.Stream, m.Raw.Revision = stream, revision
	return m
}

// P3: an event that a stream lacks ends the subscription before anything behind it is delivered.
func TestLogThatLeavesAnEventOutEndsTheSubscription(t *testing.T) {
	const one, two, foreign = "main.note-00000000-0000-7000-8000-000000000001", "main.note-00000000-0000-7000-8000-000000000002", "elsewhere"
	for name, test := range map[string]struct {
		last eventlog.Message
		want error
	}{
		"left out":  {of(event(6), one, 3), bus.ErrOrder},
		"repeated":  {of(event(6), one, 1), bus.ErrOrder},
		"complete":  {of(event(6), one, 2), nil},
		"truncated": {of(event(6), foreign, 100), nil}, // what others keep in the log may be
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := domain.Position{}
				// The subscription begins in the middle of the second stream.
				log := script(nil, of(event(1), one, 0), of(event(2), two, 7), of(event(3), one, 1), of(event(4), two, 8), of(event(5), foreign, 0),
					test.last, eventlog.Message{CaughtUp: true})
				err := run(t, bus.NewSubscriber(log, domain.Mark{}, plain, options(10)), func(b *bus.Batch) (bool, error) {
					end = b.End
					return !b.CaughtUp, nil
				})
				want := uint64(6)
				if test.want != nil {
					want = 5
				}
				if !errors.Is(err, test.want) || end.Commit != want {
					t.Errorf("ended at %s with %v", end, err)
				}
			})
		})
	}
}

func TestBatchesSayBehindWhatTheyBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		log := script(nil, event(4), event(5), event(6), eventlog.Message{CaughtUp: true})
		err := run(t, bus.NewSubscriber(log, domain.Mark{Position: domain.Position{Commit: 3, Prepare: 3}}, plain, options(1)), func(b *bus.Batch) (bool, error) {
			got = append(got, b.After.Commit)
			return !b.CaughtUp, nil
		})
		if s := fmt.Sprint(got); err != nil || s != "[3 4 5]" && s != "[3 4 5 6]" {
			t.Errorf("got %s, %v", s, err)
		}
	})
}

// counted counts the events that a log delivers.
func counted(log bus.Source, n *atomic.Int64) bus.Source {
	return func(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
		return func(yield func(eventlog.Message, error) bool) {
			for m, err := range log(ctx, after) {
				if m.Raw != nil {
					n.Add(1)
				}
				if !yield(m, err) {
					return
				}
			}
		}
	}
}

// P20: events of the greatest size that there are do not make a batch greater than its bound and one of them, and no more
// than two batches and an event are held.
func TestLargeEventsMakeSmallBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events, size = 500, 1 << 20
		payload := make([]byte, size) // of all of them
		var messages []eventlog.Message
		for n := 1; n <= events; n++ {
			m := event(n)
			m.Raw.Data = payload
			messages = append(messages, m)
		}
		var read atomic.Int64
		counting := script(nil, append(messages, eventlog.Message{CaughtUp: true})...)
		handled := 0
		err := run(t, bus.NewSubscriber(counted(counting, &read), domain.Mark{}, plain, options(0)), func(b *bus.Batch) (bool, error) {
			synctest.Wait() // until as much is read as finds room
			if n := len(b.Items) * size; n > bus.DefaultMaxBytes+size {
				t.Errorf("a batch of %d bytes", n)
			}
			if ahead := (int(read.Load()) - handled) * size; ahead > 2*(bus.DefaultMaxBytes+size)+size {
				t.Errorf("%d bytes are held", ahead)
			}
			handled += len(b.Items)
			return !b.CaughtUp, nil
		})
		if err != nil || handled != events {
			t.Errorf("%d events, %v", handled, err)
		}
	})
}
