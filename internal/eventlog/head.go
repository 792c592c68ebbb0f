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
	if searched == end {
		return newest, nil
	}
	there, err := l.eventAt(ctx, searched.Position)
	if err != nil {
		return domain.Mark{}, err
	}
	if searched.ID == "" || there.ID != searched.ID { // nothing is known of this log
		newest, err = l.searchBack(ctx, s)
		if err == nil {
			l.head.reset(newest, end)
		}
		return newest, err
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

// reset notes how far a log was searched of which nothing was known, or something else.
func (h *headProbe) reset(newest, searched domain.Mark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.newest, h.searched = newest, searched
}

// markOf names an event.
func markOf(raw codec.Raw) domain.Mark { return domain.Mark{Position: raw.Position, ID: raw.ID} }
