package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// A page is what one request reads; it bounds memory and keeps a slow consumer from running into a deadline. A page of
// $all holds at least two events, because it begins with the last one of the page before.
const (
	pageEvents = 512
	pageBytes  = 4 << 20 // the page ends after the event that exceeds it
)

// page is the result of one request.
type page struct {
	events []codec.Raw
	end    bool // the log or stream had no more
}

// ReadStream implements Log.
func (l *ESDB) ReadStream(ctx context.Context, stream string, from uint64) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		for next := from; ; {
			p, err := call(ctx, l, l.timing.read, func(ctx context.Context, c *esdb.Client) (page, error) {
				return l.streamPage(ctx, c, stream, esdb.ReadStreamOptions{From: esdb.Revision(next)}, pageEvents)
			})
			if err != nil {
				yield(codec.Raw{}, failure(ctx, "read "+stream, err))
				return
			}
			for _, raw := range p.events {
				if !yield(raw, nil) {
					return
				}
				next = raw.Revision + 1
			}
			if p.end {
				return
			}
		}
	}
}

// streamPage reads one page of a stream. A stream that does not exist is an empty page; the client says so on the first
// Recv, not when it opens the read.
func (l *ESDB) streamPage(ctx context.Context, c *esdb.Client, stream string, options esdb.ReadStreamOptions, count int) (page, error) {
	options.Deadline, options.RequiresLeader = &l.timing.read, true
	read, err := c.ReadStream(ctx, stream, options, uint64(count))
	if err != nil {
		return page{}, err
	}
	defer read.Close()
	p, err := collect(read, count)
	if is(err, esdb.ErrorCodeResourceNotFound) {
		return page{end: true}, nil
	}
	return p, err
}

// ReadAll implements Log. While the consumer works on one page, the next is already being read.
func (l *ESDB) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		fetch := func(after domain.Position) func() (page, error) {
			return begin(ctx, l, l.timing.read, func(ctx context.Context, c *esdb.Client) (page, error) {
				return l.allPage(ctx, c, esdb.ReadAllOptions{Direction: esdb.Forwards, From: allPosition(after)}, pageEvents)
			})
		}
		last := after
		for next := fetch(last); ; {
			p, err := next()
			if err != nil {
				yield(codec.Raw{}, failure(ctx, fmt.Sprintf("read the log after %s", last), err))
				return
			}
			if !p.end {
				next = fetch(p.events[len(p.events)-1].Position)
			}
			for _, raw := range p.events {
				if !last.Before(raw.Position) {
					continue // reads include the position that they start at
				}
				last = raw.Position
				if !isSystem(raw.Type) && !yield(raw, nil) {
					return
				}
			}
			if p.end {
				return
			}
		}
	}
}

// allPage reads one page of all streams.
func (l *ESDB) allPage(ctx context.Context, c *esdb.Client, options esdb.ReadAllOptions, count int) (page, error) {
	options.Deadline, options.RequiresLeader = &l.timing.read, true
	read, err := c.ReadAll(ctx, options, uint64(count))
	if err != nil {
		return page{}, err
	}
	defer read.Close()
	return collect(read, count)
}

// collect drains a read of at most count events. Only io.EOF ends it: a history cut short makes a wrong decision.
func collect(read *esdb.ReadStream, count int) (page, error) {
	p, size := page{}, 0
	for len(p.events) < count && (len(p.events) < 2 || size < pageBytes) {
		resolved, err := read.Recv()
		if errors.Is(err, io.EOF) {
			p.end = true
			return p, nil
		}
		if err != nil {
			return page{}, err
		}
		raw, err := rawOf(resolved)
		if err != nil {
			return page{}, err
		}
		p.events = append(p.events, raw)
		size += len(raw.Data) + len(raw.Metadata)
	}
	return p, nil
}

// rawOf translates an event of the client. The byte slices belong to the message, which the client does not use again.
func rawOf(resolved *esdb.ResolvedEvent) (codec.Raw, error) {
	e := resolved.OriginalEvent()
	if e == nil {
		return codec.Raw{}, errors.New("a message without an event")
	}
	return codec.Raw{
		ID: e.EventID.String(), Type: e.EventType, Stream: e.StreamID, Revision: e.EventNumber, Position: positionOf(e.Position),
		Data: e.Data, Metadata: e.UserMetadata,
	}, nil
}

// positionOf translates a position of the client; one that is missing, which the client renders as 0 or the largest
// number, becomes zero.
func positionOf(p esdb.Position) domain.Position {
	if p.Commit > math.MaxInt64 || p.Prepare > math.MaxInt64 {
		return domain.Position{}
	}
	return domain.Position{Commit: p.Commit, Prepare: p.Prepare}
}

// allPosition never makes the client's nil, which means the end for a subscription.
func allPosition(p domain.Position) esdb.AllPosition {
	if p.IsZero() {
		return esdb.Start{}
	}
	return esdb.Position{Commit: p.Commit, Prepare: p.Prepare}
}

// isSystem reports whether an event type belongs to the node and not to us.
func isSystem(eventType string) bool { return strings.HasPrefix(eventType, "$") }

// Head implements Log.
func (l *ESDB) Head(ctx context.Context) (domain.Position, error) {
	// Nearly always the last event is one of ours; the pages grow in case the node has written many of its own.
	var from esdb.AllPosition = esdb.End{}
	for count := 8; ; count = min(4*count, pageEvents) {
		p, err := call(ctx, l, l.timing.read, func(ctx context.Context, c *esdb.Client) (page, error) {
			return l.allPage(ctx, c, esdb.ReadAllOptions{Direction: esdb.Backwards, From: from}, count)
		})
		if err != nil {
			return domain.Position{}, failure(ctx, "read the head of the log", err)
		}
		for _, raw := range p.events {
			if !isSystem(raw.Type) {
				l.saw(raw.Position)
				return raw.Position, nil
			}
		}
		if p.end {
			return domain.Position{}, nil
		}
		last := p.events[len(p.events)-1].Position
		from = esdb.Position{Commit: last.Commit, Prepare: last.Prepare}
	}
}

// End implements Log.
func (l *ESDB) End(ctx context.Context) (domain.Position, error) {
	p, err := call(ctx, l, l.timing.read, func(ctx context.Context, c *esdb.Client) (page, error) {
		return l.allPage(ctx, c, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
	})
	if err != nil {
		return domain.Position{}, failure(ctx, "read the end of the log", err)
	}
	if len(p.events) == 0 {
		return domain.Position{}, nil
	}
	return p.events[0].Position, nil
}

// tail reads where a stream stands.
func (l *ESDB) tail(ctx context.Context, stream string) (domain.Expected, error) {
	p, err := call(ctx, l, l.timing.read, func(ctx context.Context, c *esdb.Client) (page, error) {
		return l.streamPage(ctx, c, stream, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
	})
	if err != nil || len(p.events) == 0 {
		return domain.NoStream, err
	}
	return domain.AtRevision(p.events[0].Revision), nil
}

// storedAt reads the events of a stream from a revision on, up to count of them. Fewer come when the stream was truncated.
func (l *ESDB) storedAt(ctx context.Context, stream string, from uint64, count int) ([]codec.Raw, error) {
	var events []codec.Raw
	for len(events) < count {
		p, err := call(ctx, l, l.timing.read, func(ctx context.Context, c *esdb.Client) (page, error) {
			return l.streamPage(ctx, c, stream, esdb.ReadStreamOptions{Direction: esdb.Forwards, From: esdb.Revision(from)}, count-len(events))
		})
		if err != nil {
			return nil, err
		}
		events = append(events, p.events...)
		if p.end {
			break
		}
		from = p.events[len(p.events)-1].Revision + 1
	}
	return events, nil
}
