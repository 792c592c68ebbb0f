package bus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// intake is the batch being filled: the reader adds to it, the sender takes it.
type intake struct {
	opts Options

	mu     sync.Mutex
	batch  Batch
	bytes  int
	since  time.Time                      // of the first addition; zero when there is none
	last   domain.Position                // of everything added ever
	seen   *simplelru.LRU[string, uint64] // the last revision of streams, those added to last
	live   bool                           // caught up once: whatever arrives is sent as soon as the sender is free, or has lingered
	linger time.Duration                  // what a live batch waits for more: more the more arrived while the last one was handled
	ended  bool
	err    error
	filled chan struct{} // holds a token when the sender should look
	taken  chan struct{} // holds a token when the reader should look
}

// knownStreams is of how many streams a subscription remembers the last revision: it notices when one of these lacks an event.
const knownStreams = 20_000

func newIntake(opts Options, after domain.Position) *intake {
	seen, _ := simplelru.NewLRU[string, uint64](knownStreams, nil) // fails for sizes below 1 only
	return &intake{
		opts: opts, batch: Batch{After: after}, last: after, seen: seen,
		filled: make(chan struct{}, 1), taken: make(chan struct{}, 1),
	}
}

// add takes one message, waiting while the batch is full.
func (in *intake) add(ctx context.Context, m eventlog.Message, decode func() Item) error {
	var item Item
	if m.Raw != nil {
		item = decode()
	}
	for {
		if in.tryAdd(m, item) {
			break
		}
		select {
		case <-in.taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

func (in *intake) tryAdd(m eventlog.Message, item Item) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.full() {
		return false
	}
	end := m.Checkpoint
	if m.Raw != nil {
		end = m.Raw.Position
		if !in.last.Before(end) {
			in.err = fmt.Errorf("%w: %s after %s", ErrOrder, end, in.last)
			return true
		}
		if in.err = in.follows(m.Raw); in.err != nil {
			return true
		}
		in.batch.Items = append(in.batch.Items, item)
		in.bytes += len(m.Raw.Data) + len(m.Raw.Metadata)
	}
	if in.last.Before(end) {
		in.last, in.batch.End = end, end
	}
	if m.CaughtUp {
		in.live, in.batch.CaughtUp = true, true
	}
	if in.since.IsZero() {
		in.since = time.Now()
	}
	signal(in.filled)
	return true
}

// follows notes an event's place in its stream, and returns an error when it is not behind the last that came of it. Revisions
// of streams of the product have no gaps; others may be truncated.
func (in *intake) follows(raw *codec.Raw) error {
	before, known := in.seen.Get(raw.Stream)
	in.seen.Add(raw.Stream, raw.Revision)
	if !known || raw.Revision == before+1 {
		return nil
	}
	if _, err := domain.ParseStreamID(raw.Stream); err != nil {
		return nil
	}
	return fmt.Errorf("%w: revision %d of %s after revision %d, at %s", ErrOrder, raw.Revision, raw.Stream, before, raw.Position)
}

func (in *intake) full() bool {
	return len(in.batch.Items) >= in.opts.MaxEvents || in.bytes >= in.opts.MaxBytes
}

// end says that nothing more will be added, and why.
func (in *intake) end(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = true
	if in.err == nil {
		in.err = err
	}
	signal(in.filled)
}

// take waits for a batch that is due. It returns nil when there will be none: the reader has ended or ctx has.
func (in *intake) take(ctx context.Context) *Batch {
	in.mu.Lock()
	in.linger = 0
	if queued := len(in.batch.Items); queued >= busyEvents {
		in.linger = min(time.Duration(queued)*in.opts.Linger/busyEvents, maxLinger*in.opts.Linger)
	}
	in.mu.Unlock()
	for {
		batch, wait, ended := in.due()
		if batch != nil || ended {
			return batch
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-in.filled:
		case <-timer:
		case <-ctx.Done():
			return nil
		}
	}
}

// due returns the batch if it is to be sent now, or else how long to wait for more; zero means until something is added.
func (in *intake) due() (batch *Batch, wait time.Duration, ended bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.since.IsZero():
		return nil, 0, in.ended
	case in.full(), in.batch.CaughtUp, in.ended, in.live && len(in.batch.Items) >= enoughEvents:
	default:
		linger := in.opts.Linger
		switch {
		case len(in.batch.Items) == 0:
			linger = checkpointLinger
		case in.live:
			linger = in.linger
		}
		if wait := linger - time.Since(in.since); wait > 0 {
			return nil, wait, false
		}
	}
	full := in.batch
	// Items are large, so that to grow costs much: the next batch is likely to be as long.
	in.batch, in.bytes, in.since = Batch{Items: make([]Item, 0, len(full.Items)), After: in.last}, 0, time.Time{}
	signal(in.taken)
	return &full, 0, false
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
