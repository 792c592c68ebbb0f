package eventlog

import (
	"context"
	"sync"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// headProbe remembers how far the log was searched for the newest event of ours, so that the next look reads on from there
// however many events of others follow. It rests on requests of its own, never on a subscription, which may be frozen.
type headProbe struct {
	mu       sync.Mutex
	newest   domain.Mark // of ours
	searched domain.Mark // the last event of anybody up to which newest is the newest
	search   *search     // that is under way from the end of the log; nil when none is
}

// search is a look from the end of the log for the newest event of ours. It is made where nothing is known of the log, and may
// pass millions of events of others: it goes on when those that wait for it give up, so that who asks again finds it further.
type search struct {
	done chan struct{} // closed at its end
	err  error
}

// Head implements Log.
func (l *ESDB) Head(ctx context.Context) (domain.Mark, error) {
	m, err := l.probeHead(ctx)
	if err != nil {
		return domain.Mark{}, failure(ctx, "read the head of the log", err)
	}
	l.saw(m.Position)
	return m, nil
}

func (l *ESDB) probeHead(ctx context.Context) (domain.Mark, error) {
	s, err := l.space(ctx)
	if err != nil {
		return domain.Mark{}, err
	}
	last, err := l.readPage(ctx, allBackwards(domain.Position{}, nil), 1)
	if err != nil || len(last.events) == 0 {
		return domain.Mark{}, err
	}
	end := markOf(last.events[0])
	if _, ours := s.own(last.events[0]); ours { // nearly always the last event is one of ours
		l.head.found(end, end)
		return end, nil
	}
	newest, searched := l.head.known()
	for {
		if searched == end {
			return newest, nil
		}
		if searched.ID != "" {
			there, err := l.eventAt(ctx, searched.Position)
			if err != nil {
				return domain.Mark{}, err
			}
			if there.ID == searched.ID {
				break
			}
		}
		// Nothing is known of this log. What was written since a search began is found by reading on from its end.
		if err := l.searched(ctx, s, end); err != nil {
			return domain.Mark{}, err
		}
		newest, searched = l.head.known()
	}
	for from := searched.Position; ; {
		p, err := l.allPage(ctx, s, from)
		if err != nil {
			return domain.Mark{}, err
		}
		for _, raw := range p.events {
			if _, ours := s.own(raw); ours && newest.Position.Before(raw.Position) {
				newest = markOf(raw)
			}
		}
		if p.end {
			break
		}
		from = p.events[len(p.events)-1].Position
	}
	l.head.found(newest, end)
	return newest, nil
}

// searched waits for the search of the log, and begins it, up to an event at the end, when none is under way.
func (l *ESDB) searched(ctx context.Context, s *space, end domain.Mark) error {
	l.head.mu.Lock()
	under := l.head.search
	if under == nil {
		if err := l.start(); err != nil {
			l.head.mu.Unlock()
			return err
		}
		under = &search{done: make(chan struct{})}
		l.head.search = under
		l.do(func() {
			defer l.work.Done()
			searching, cancel := context.WithCancel(context.WithoutCancel(ctx))
			defer cancel()
			l.work.Go(func() {
				select {
				case <-l.closing:
					cancel()
				case <-searching.Done():
				}
			})
			newest, err := l.searchBack(searching, s)
			l.head.ended(under, newest, end, err)
		})
	}
	l.head.mu.Unlock()
	select {
	case <-under.done:
		return under.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// searchBack looks for the newest event of ours from the end of the log.
func (l *ESDB) searchBack(ctx context.Context, s *space) (domain.Mark, error) {
	before := domain.Position{}
	for count := 1; ; count = pageEvents { // nearly always the last of our streams is one of the product
		p, err := l.readPage(ctx, allBackwards(before, s.filter()), count)
		if err != nil {
			return domain.Mark{}, err
		}
		for _, raw := range p.events {
			if _, ours := s.own(raw); ours {
				return markOf(raw), nil
			}
			before = raw.Position
		}
		if p.end {
			return domain.Mark{}, nil
		}
	}
}

func (h *headProbe) known() (newest, searched domain.Mark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.newest, h.searched
}

// found notes how far the log was searched. Of two that look at the same time the one that came farther is kept.
func (h *headProbe) found(newest, searched domain.Mark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !searched.Position.Before(h.searched.Position) {
		h.newest, h.searched = newest, searched
	}
}

// ended notes what a search has found in a log of which nothing was known, or something else.
func (h *headProbe) ended(s *search, newest, searched domain.Mark, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.newest, h.searched = newest, searched
	}
	s.err, h.search = err, nil
	close(s.done)
}

// markOf names an event.
func markOf(raw codec.Raw) domain.Mark { return domain.Mark{Position: raw.Position, ID: raw.ID} }
