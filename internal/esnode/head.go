package esnode

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// head is the position up to which the log is synced, and who waits for it to move.
// Readers never pass it.
type head struct {
	position atomic.Uint64

	mu      sync.Mutex
	all     map[*signal]struct{}
	streams map[string]map[*signal]struct{}
}

// signal wakes one waiting reader. Any number of notices before it looks are one.
type signal struct {
	C      chan struct{}
	stream string // empty: every commit counts
}

func newHead(position uint64) *head {
	h := &head{all: map[*signal]struct{}{}, streams: map[string]map[*signal]struct{}{}}
	h.position.Store(position)
	return h
}

// watch returns a signal for every commit, or for those that touch the given stream.
// The caller must call unwatch.
func (h *head) watch(stream string) *signal {
	s := &signal{C: make(chan struct{}, 1), stream: stream}
	h.mu.Lock()
	defer h.mu.Unlock()
	if stream == "" {
		h.all[s] = struct{}{}
		return s
	}
	if h.streams[stream] == nil {
		h.streams[stream] = map[*signal]struct{}{}
	}
	h.streams[stream][s] = struct{}{}
	return s
}

func (h *head) unwatch(s *signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.stream == "" {
		delete(h.all, s)
		return
	}
	delete(h.streams[s.stream], s)
	if len(h.streams[s.stream]) == 0 {
		delete(h.streams, s.stream)
	}
}

// publish moves the head after a sync and wakes those whom the commit concerns: a
// subscription to one stream sleeps through the commits to all others.
func (h *head) publish(position uint64, touched []string) {
	h.position.Store(position)
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.all {
		s.notify()
	}
	if len(h.streams) == 0 {
		return
	}
	for _, stream := range touched {
		for s := range h.streams[stream] {
			s.notify()
		}
	}
}

func (s *signal) notify() {
	select {
	case s.C <- struct{}{}:
	default:
	}
}

// reach waits until the head is at the position or beyond.
func (h *head) reach(ctx context.Context, position uint64, stop <-chan struct{}) error {
	if h.position.Load() >= position {
		return nil
	}
	s := h.watch("")
	defer h.unwatch(s)
	for h.position.Load() < position {
		select {
		case <-s.C:
		case <-stop:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// watched are the streams for which somebody waits.
func (h *head) watched() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.streams))
}
