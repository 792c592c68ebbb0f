package eventlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/rapport-crm/rapport/domain"
)

const (
	// searchWindow is how many events the node looks at before it reports how far it came; one checkpoint per window.
	searchWindow       = 512
	checkpointInterval = 1
	// subscriptionBuffer is how many events are read ahead of the consumer.
	subscriptionBuffer = 64
	// landmarkEvery is how many events lie between two that are remembered as places to begin at.
	landmarkEvery = pageEvents
)

var (
	errStalled  = errors.New("the subscription is silent although the log has moved on")
	errConsumer = errors.New("the consumer stopped")
)

// Subscribe implements Log.
func (l *ESDB) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		f := follower{log: l, last: after.Position, yield: yield, backoff: l.timing.firstBackoff}
		if after.ID != "" {
			f.event = after
		}
		if err := f.run(ctx); !errors.Is(err, errConsumer) {
			yield(Message{}, err)
		}
	}
}

// follower is one subscription across all its interruptions.
type follower struct {
	log      *ESDB
	yield    func(Message, error) bool
	last     domain.Position // what the consumer has seen
	event    domain.Mark     // the last event among that; zero when none is known
	passed   int             // events so far
	identity string          // of the log; empty until it has been read
	backoff  time.Duration   // before the next attempt
}

// run returns the reason why it cannot go on.
func (f *follower) run(ctx context.Context) error {
	for {
		err := f.attempt(ctx)
		switch {
		case errors.Is(err, errConsumer):
			return err
		case refusesPosition(err):
			f.log.marks.forget() // it was known of another history; the next attempt finds out
		case ctx.Err() != nil, permanent(err):
			return failure(ctx, fmt.Sprintf("subscribe after %s", f.last), err)
		}
		wait := f.backoff
		f.backoff = min(2*f.backoff, f.log.timing.lastBackoff)
		f.log.logger.WarnContext(ctx, "event log subscription interrupted", "position", f.last.String(), "retry_in", wait.String(), "err", err)
		f.log.pause(ctx, wait)
	}
}

// received is what the reading goroutine hands over.
type received struct {
	event *esdb.SubscriptionEvent
	err   error // the subscription is over
}

// attempt follows one subscription of the client until it breaks.
func (f *follower) attempt(ctx context.Context) error {
	if err := f.checkIdentity(ctx); err != nil {
		return err
	}
	space, err := f.log.space(ctx)
	if err != nil {
		return err
	}
	// What the log has told of since the last event may be gone when it comes back as an older copy, so that the search
	// for what follows begins at the event.
	from := f.event.Position
	if from.IsZero() {
		if from, err = f.log.startOf(ctx, f.last); err != nil {
			return err
		}
	}
	if err := f.log.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages := make(chan received, subscriptionBuffer)
	go func() {
		defer f.log.work.Done()
		c, err := f.log.borrow(ctx)
		if err == nil {
			err = guard(func() error { return f.receive(ctx, c, space, from, messages) })
			f.log.giveBack(c, err)
		}
		select {
		case messages <- received{err: err}:
		case <-ctx.Done():
		}
	}()
	return f.deliver(ctx, space, messages)
}

// checkIdentity notices a node that came back with another log, or with an older copy of the same one: what was seen means
// nothing there.
func (f *follower) checkIdentity(ctx context.Context) error {
	id, err := f.log.ID(ctx)
	switch {
	case err != nil:
		return err
	case f.identity == "":
		f.identity = id
	case f.identity != id:
		return fmt.Errorf("%w: %s before, %s now", ErrOtherLog, f.identity, id)
	}
	return f.log.Check(ctx, f.event)
}

// receive opens a subscription and hands over what it brings, until it breaks or ctx ends.
func (f *follower) receive(ctx context.Context, c *connection, s *space, from domain.Position, messages chan<- received) error {
	subscription, err := c.client.SubscribeToAll(leading(ctx), esdb.SubscribeToAllOptions{
		From:               clientPosition(from),
		Filter:             &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{s.prefix}},
		MaxSearchWindow:    searchWindow,
		CheckpointInterval: checkpointInterval,
		RequiresLeader:     true,
	})
	if err != nil {
		return err
	}
	f.log.prove(c)
	defer subscription.Close()
	for {
		event := subscription.Recv()
		if event.SubscriptionDropped != nil {
			return event.SubscriptionDropped.Error
		}
		select {
		case messages <- received{event: event}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// clientPosition never makes the client's nil, which means the end for a subscription.
func clientPosition(p domain.Position) esdb.AllPosition {
	if p.IsZero() {
		return esdb.Start{}
	}
	return esdb.Position{Commit: p.Commit, Prepare: p.Prepare}
}

// deliver passes messages to the consumer and watches for silence.
func (f *follower) deliver(ctx context.Context, s *space, messages <-chan received) error {
	watchdog := time.NewTicker(f.log.timing.watchdog)
	defer watchdog.Stop()
	order := domain.Position{} // of the last event that this subscription brought
	quiet, suspect := false, false
	for {
		select {
		case m := <-messages:
			if m.err != nil {
				return m.err
			}
			quiet, suspect = false, false
			if err := f.handle(s, m.event, &order); err != nil {
				return err
			}
		case <-watchdog.C:
			if !quiet || len(messages) > 0 {
				quiet = true
				f.backoff = f.log.timing.firstBackoff // it has held for a while
				continue
			}
			behind, err := f.behind(ctx)
			if err != nil {
				return err
			}
			if behind && suspect && len(messages) == 0 {
				return errStalled
			}
			suspect = behind
		case <-ctx.Done():
			return ctx.Err()
		case <-f.log.closing:
			return ErrClosed
		}
	}
}

// behind compares the consumer's position with the head of the log, asked for over a request of its own.
func (f *follower) behind(ctx context.Context) (bool, error) {
	head, err := f.log.Head(ctx)
	return err == nil && f.last.Before(head.Position), err
}

// handle passes one message on. Order is the position of the last event of this subscription.
func (f *follower) handle(s *space, event *esdb.SubscriptionEvent, order *domain.Position) error {
	switch {
	case event.EventAppeared != nil:
		raw, err := rawOfClient(event.EventAppeared)
		if err != nil {
			return err
		}
		if !order.Before(raw.Position) {
			return fmt.Errorf("%w: position %s came after %s", domain.ErrCorrupt, raw.Position, *order)
		}
		*order = raw.Position
		raw, ours := s.own(raw)
		switch {
		case !ours:
			return nil
		case f.last.Before(raw.Position):
		case f.event.ID != "" && f.event.Position.Before(raw.Position):
			return fmt.Errorf("%w: event %s stands at %s, where the log had been searched up to %s", ErrOtherLog, raw.ID, raw.Position, f.last)
		default:
			return nil
		}
		f.advance(raw.Position)
		f.event = markOf(raw)
		if f.passed++; f.passed%landmarkEvery == 0 {
			f.log.marks.pass(raw.Position)
		}
		return f.pass(Message{Raw: &raw})
	case event.CheckPointReached != nil:
		position := positionOf(*event.CheckPointReached)
		if !f.last.Before(position) {
			return nil
		}
		f.advance(position)
		return f.pass(Message{Checkpoint: position})
	case event.CaughtUp != nil:
		return f.pass(Message{CaughtUp: true})
	}
	return nil // fell behind: nothing to do, the events come all the same
}

func (f *follower) advance(position domain.Position) {
	if f.log.newest.Load() > 0 { // history alone does not tell how far the log goes
		f.log.saw(position)
	}
	f.last, f.backoff = position, f.log.timing.firstBackoff
}

func (f *follower) pass(m Message) error {
	if !f.yield(m, nil) {
		return errConsumer
	}
	return nil
}
