package commands

import (
	"context"
	"sync"
)

// keyedLock is a mutex per key. The zero value is ready.
type keyedLock struct {
	mu    sync.Mutex
	locks map[string]*waiters
}

type waiters struct {
	turn  chan struct{} // capacity 1: holds a token while the key is locked
	count int           // who holds or waits
}

// lock waits for the key, or for ctx to end. The caller calls unlock once.
func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	if l.locks == nil {
		l.locks = map[string]*waiters{}
	}
	w := l.locks[key]
	if w == nil {
		w = &waiters{turn: make(chan struct{}, 1)}
		l.locks[key] = w
	}
	w.count++
	l.mu.Unlock()

	select {
	case w.turn <- struct{}{}:
		return func() { <-w.turn; l.leave(key, w) }, nil
	case <-ctx.Done():
		l.leave(key, w)
		return nil, ctx.Err()
	}
}

func (l *keyedLock) leave(key string, w *waiters) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.count--; w.count == 0 {
		delete(l.locks, key)
	}
}
