package eventlog

import (
	"context"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// connection is one client of the library with those who use it.
//
// The library's client has one goroutine that answers requests for its connection. When discovery fails it stops, and
// whoever asks then waits for ever, until the client is closed and the question panics. So a fresh client has one user
// until it has worked once, which is when discovery happens; and a lost client is closed when its last user has left, or
// after closeGrace, whichever comes first.
type connection struct {
	client  *esdb.Client
	users   int
	lost    bool          // nobody borrows it any more
	proven  chan struct{} // closed when settled
	settled bool          // the client has worked once, or was lost before it did
}

// closeGrace is how long the users of a lost client have to leave it: longer than any of them should take.
const closeGrace = readDeadline + 5*time.Second

// start counts one more goroutine of the log.
func (l *ESDB) start() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.work.Add(1)
	return nil
}

// borrow returns the current connection, a new one when there is none. Every borrower gives it back.
func (l *ESDB) borrow(ctx context.Context) (*connection, error) {
	for {
		l.mu.Lock()
		switch {
		case l.closed:
			l.mu.Unlock()
			return nil, ErrClosed
		case l.current == nil:
			client, err := esdb.NewClient(&l.config)
			if err != nil {
				l.mu.Unlock()
				return nil, err
			}
			l.current = &connection{client: client, users: 1, proven: make(chan struct{})}
			l.open[l.current] = struct{}{}
			c := l.current
			l.mu.Unlock()
			return c, nil
		case l.current.settled: // and not lost, or it would not be current
			c := l.current
			c.users++
			l.mu.Unlock()
			return c, nil
		}
		proven := l.current.proven
		l.mu.Unlock()
		select {
		case <-proven:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.closing:
			return nil, ErrClosed
		}
	}
}

// prove says that the connection works, so that others may use it too.
func (l *ESDB) prove(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(c)
}

// settle ends the time in which a connection has one user; l.mu is held.
func (l *ESDB) settle(c *connection) {
	if !c.settled {
		c.settled = true
		close(c.proven)
	}
}

// giveBack ends the use of a connection. An error that says that the connection is lost ends it for everybody.
func (l *ESDB) giveBack(c *connection, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.users--
	if lostConnection(err) {
		l.lose(c)
		return
	}
	l.settle(c)
	if c.lost && c.users == 0 {
		l.closeClient(c)
	}
}

// lose gives a connection up; l.mu is held.
func (l *ESDB) lose(c *connection) {
	l.settle(c)
	first := !c.lost
	c.lost = true
	if l.current == c {
		l.current = nil
	}
	switch {
	case c.users == 0:
		l.closeClient(c)
	case first:
		time.AfterFunc(closeGrace, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.closeClient(c)
		})
	}
}

// closeClient closes the client once; l.mu is held.
func (l *ESDB) closeClient(c *connection) {
	if _, open := l.open[c]; !open {
		return
	}
	delete(l.open, c)
	if err := c.client.Close(); err != nil {
		l.logger.Debug("closing an event log client", "err", err)
	}
}
