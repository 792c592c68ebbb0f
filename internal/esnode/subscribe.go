package esnode

import (
	"errors"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
)

// cursor is where a subscription stands in what it reads.
type cursor interface {
	// watched is the stream whose commits concern the subscription; empty: all.
	watched() string
	// fill reads on into the reader's page, no further than the log is synced, and
	// reports whether it then knows of events that are still ahead.
	fill(r *reader) (ahead bool, err error)
	// farBehind says whether more than fellBehindEvents events are ahead.
	farBehind(r *reader) (bool, error)
	// caughtUp is what is sent before the notice that the subscription has caught up; nil:
	// nothing.
	caughtUp(r *reader) encoded
	// place is where the cursor stands, as fields of a notice.
	place(r *reader) []byte
}

// subscribeAll sends the events of $all after a position, and then those to come.
func (r *reader) subscribeAll(options *streams.ReadReq_Options_AllOptions, f *filter) error {
	c := &allCursor{filter: f}
	switch from := options.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		position, err := allPosition(from.Position)
		if err != nil {
			return err
		}
		if err := r.manners.checkPosition(position, r.synced()); err != nil {
			return r.confirmInvalid(err)
		}
		c.last, c.told = position, position
	case *streams.ReadReq_Options_AllOptions_End:
		c.last = r.synced()
	}
	return r.subscribe(c)
}

// confirmInvalid ends a subscription from a position that is none: as real engines do it
// is confirmed before.
func (r *reader) confirmInvalid(refusal error) error {
	if err := r.confirm(); err != nil {
		return err
	}
	var invalid *requestError
	if errors.As(refusal, &invalid) {
		return &requestError{code: codes.InvalidArgument, message: textFromInvalid}
	}
	return refusal
}

// subscribeStream sends the events of a stream after a revision, and then those to
// come. The stream need not exist yet.
func (r *reader) subscribeStream(name string, options *streams.ReadReq_Options_StreamOptions) error {
	c := &streamCursor{name: name, last: noRevision}
	switch from := options.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Revision:
		c.last = clampRevision(from.Revision)
	case *streams.ReadReq_Options_StreamOptions_End:
		st, err := r.state(name)
		if err != nil {
			return err
		}
		c.last = st.last
	}
	return r.subscribe(c)
}

// subscribe confirms, catches up, says so, and goes on with what is committed, until
// the client or the node ends it. A client that has fallen far behind since it was
// caught up is told, and told again when it has caught up.
func (r *reader) subscribe(c cursor) error {
	if err := r.confirm(); err != nil {
		return err
	}
	// Watching begins before reading: a commit between the two is not missed.
	wake := r.head.watch(c.watched())
	defer r.head.unwatch(wake)
	live := false
	for {
		sent := c.place(r) // who resumes from a notice misses nothing of what is read now
		ahead, err := c.fill(r)
		if err != nil {
			return err
		}
		if live && ahead {
			behind, err := c.farBehind(r)
			if err != nil {
				return err
			}
			if live = !behind; behind {
				if err := r.stream.SendMsg(encodeNotice(fieldRespFellBehind, r.store.now(), sent)); err != nil {
					return err
				}
			}
		}
		if err := r.flush(); err != nil {
			return err
		}
		if ahead {
			continue
		}
		if !live {
			live = true
			if checkpoint := c.caughtUp(r); checkpoint != nil {
				if err := r.stream.SendMsg(checkpoint); err != nil {
					return err
				}
			}
			if err := r.stream.SendMsg(encodeNotice(fieldRespCaughtUp, r.store.now(), c.place(r))); err != nil {
				return err
			}
		}
		select {
		case <-wake.C:
		case <-r.store.stop:
			return errClosed
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
}

func (r *reader) confirm() error {
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	return r.stream.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{
		Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: id.String()},
	}})
}

// allCursor is a place in $all.
type allCursor struct {
	filter     *filter
	last       uint64 // position of the last event considered
	considered uint64 // events since the last checkpoint
	told       uint64 // where it began, or the last event that passed the filter; 0: neither is known
}

func (c *allCursor) watched() string { return "" }

func (c *allCursor) fill(r *reader) (bool, error) {
	synced := r.synced()
	if c.last >= synced {
		return false, nil
	}
	err := r.store.scan(c.last+1, synced, forwards, func(rec record) (bool, error) {
		r.page.records++
		c.last = rec.position
		if c.filter.match(rec) {
			if err := r.take(rec); err != nil {
				return false, err
			}
			c.told = rec.position
		}
		c.count(r)
		return !r.page.full(), nil
	})
	return c.last < synced, err
}

func (c *allCursor) farBehind(r *reader) (bool, error) {
	return r.store.moreEvents(fellBehindEvents, c.last, r.synced())
}

func (c *allCursor) caughtUp(r *reader) encoded {
	if c.filter == nil || c.told == 0 || r.manners == nil || !r.manners.SparseCheckpoints {
		return nil
	}
	return encodeCheckpoint(c.told, r.store.now())
}

func (c *allCursor) place(*reader) []byte { return positionPlace(c.last) }

// count adds a checkpoint after every interval of events a filter has considered. The
// events before it that passed the filter stand before it in the page.
func (c *allCursor) count(r *reader) {
	if c.filter == nil {
		return
	}
	c.considered++
	if c.considered >= c.filter.interval {
		c.considered = 0
		r.page.add(encodeCheckpoint(c.last, r.store.now()))
	}
}

// streamCursor is a place in one stream.
type streamCursor struct {
	name string
	last int64 // revision of the last event considered
	end  int64 // revision of the stream's last event, when it was filled last
}

func (c *streamCursor) watched() string { return c.name }

func (c *streamCursor) fill(r *reader) (bool, error) {
	st, err := r.state(c.name)
	if err != nil {
		return false, err
	}
	c.end = st.last
	if first := st.first(); !st.softDeleted() && c.last < first-1 {
		c.last = first - 1
	}
	if c.last < st.last && !st.softDeleted() {
		err := r.store.scanStream(st, c.last+1, st.last, forwards, func(rec record) (bool, error) {
			r.page.records++
			c.last = rec.revision
			if !r.store.expired(st.limits, rec) {
				if err := r.take(rec); err != nil {
					return false, err
				}
			}
			return !r.page.full(), nil
		})
		if err != nil {
			return false, err
		}
		if c.last < st.last {
			return true, nil
		}
	}
	if st.tombstoned {
		if err := r.flush(); err != nil {
			return false, err
		}
		return false, &streamDeletedError{stream: c.name}
	}
	return false, nil
}

func (c *streamCursor) caughtUp(*reader) encoded { return nil }

func (c *streamCursor) farBehind(*reader) (bool, error) { return c.end-c.last > fellBehindEvents, nil }

// place of a stream that has no event yet is one in the log: the protocol wants none
// then, but the client for Go since 1.0 dereferences it.
func (c *streamCursor) place(r *reader) []byte {
	if c.last < 0 {
		return positionPlace(r.synced())
	}
	return revisionPlace(c.last)
}
