package esnode

import "github.com/google/uuid"

// recentIDs remembers where the last events were written, by event id, in the order
// of their positions. It is not safe for concurrent use.
type recentIDs struct {
	places map[uuid.UUID]place
	order  []remembered // a ring once it is full
	oldest int
	limit  int
}

type place struct {
	streamID uint64
	revision int64
	position uint64
}

type remembered struct {
	id       uuid.UUID
	position uint64
}

func newRecentIDs(limit int) *recentIDs {
	return &recentIDs{places: make(map[uuid.UUID]place), limit: limit}
}

func (r *recentIDs) find(id uuid.UUID) (place, bool) {
	p, ok := r.places[id]
	return p, ok
}

// add remembers an event and forgets the oldest one when there are too many. An id
// written twice is found where it was written last.
func (r *recentIDs) add(id uuid.UUID, p place) {
	entry := remembered{id: id, position: p.position}
	if len(r.order) < r.limit {
		r.order = append(r.order, entry)
	} else {
		old := r.order[r.oldest]
		if r.places[old.id].position == old.position {
			delete(r.places, old.id)
		}
		r.order[r.oldest] = entry
		r.oldest = (r.oldest + 1) % r.limit
	}
	r.places[id] = p
}
