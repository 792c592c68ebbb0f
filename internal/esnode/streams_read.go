package esnode

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/protobuf/proto"
)

// Read implements the Streams service: reads and subscriptions, of one stream and of $all.
func (s *streamsService) Read(req *streams.ReadReq, stream streams.Streams_ReadServer) error {
	options := req.GetOptions()
	if options == nil {
		return invalid("a read needs options")
	}
	if err := s.manners.enter(stream.Context()); err != nil {
		return err
	}
	r := &reader{store: s.store, manners: s.manners, head: s.manners.head(s.store), stream: stream, ctx: stream.Context()}
	r.resolve = options.GetResolveLinks()
	r.stringIDs = options.GetUuidOption().GetString_() != nil
	r.positions = options.GetControlOption().GetCompatibility() >= 1
	if options.GetReadDirection() == streams.ReadReq_Options_Backwards {
		r.direction = backwards
	}
	_, subscribe := options.GetCountOption().(*streams.ReadReq_Options_Subscription)
	if subscribe && r.direction == backwards {
		return invalid("a subscription reads forwards")
	}
	count := options.GetCount()
	switch of := options.GetStreamOption().(type) {
	case *streams.ReadReq_Options_Stream:
		name, err := streamName(of.Stream.GetStreamIdentifier())
		if err != nil {
			return err
		}
		if options.GetFilter() != nil {
			return invalid("only $all can be filtered")
		}
		if err := s.manners.admit(r.ctx, toRead, name); err != nil {
			return err
		}
		if subscribe {
			return r.subscribeStream(name, of.Stream)
		}
		return r.readStream(name, of.Stream, count)
	case *streams.ReadReq_Options_All:
		f, err := newFilter(options.GetFilter())
		if err != nil {
			return err
		}
		if err := s.manners.admit(r.ctx, toRead, allStream); err != nil {
			return err
		}
		if subscribe {
			return r.subscribeAll(of.All, f)
		}
		return r.readAll(of.All, f, count)
	}
	return invalid("a read needs a stream or $all")
}

// reader serves one call of Read.
type reader struct {
	store     *store
	manners   *manners
	head      *head // how far it sees the log
	stream    streams.Streams_ReadServer
	ctx       context.Context
	direction direction
	resolve   bool // links to the events they name
	stringIDs bool // event ids as text
	positions bool // tell the stream's first and last revision: only who asks can take it

	page page
}

// page is what has been read and not been sent.
type page struct {
	messages []encoded
	bytes    int
	records  int // visited, whether or not they became messages
	limit    int // of messages; 0: pageMessages
	arena    arena
}

func (p *page) full() bool {
	return len(p.messages) >= cmp.Or(p.limit, pageMessages) || p.bytes >= pageBytes || p.records >= pageRecords
}

func (p *page) add(m encoded) {
	p.messages, p.bytes = append(p.messages, m), p.bytes+len(m)
}

// flush sends the page. It may block for as long as the client does not read.
func (r *reader) flush() error {
	for _, m := range r.page.messages {
		if err := r.stream.SendMsg(m); err != nil {
			return err
		}
	}
	clear(r.page.messages)
	r.page.messages, r.page.bytes, r.page.records = r.page.messages[:0], 0, 0
	select {
	case <-r.store.stop:
		return errClosed
	default:
		return nil
	}
}

// readStream sends up to count events of one stream.
func (r *reader) readStream(name string, options *streams.ReadReq_Options_StreamOptions, count uint64) error {
	st, there, err := r.readable(name)
	if err != nil || !there {
		return err
	}
	r.page.limit = r.manners.pageSize()
	low, high := st.first(), st.last
	from := startRevision(options, st)
	if r.direction == backwards {
		high = min(high, from)
	} else {
		if r.positions && from < low {
			if err := r.stream.Send(&streams.ReadResp{Content: &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: uint64(low)}}); err != nil {
				return err
			}
		}
		low = max(low, from)
	}
	for more := count > 0; more; {
		more = false // unless the page is full before the range ends
		err := r.store.scanStream(st, low, high, r.direction, func(rec record) (bool, error) {
			r.page.records++
			if r.direction == backwards {
				high = rec.revision - 1
			} else {
				low = rec.revision + 1
			}
			if r.store.expired(st.limits, rec) {
				if r.direction == backwards {
					return false, nil // whatever is before it is older
				}
				more = r.page.full()
				return !more, nil
			}
			if err := r.take(rec); err != nil {
				return false, err
			}
			count--
			more = count > 0 && r.page.full()
			return count > 0 && !more, nil
		})
		if err != nil {
			return err
		}
		if err := r.flush(); err != nil {
			return err
		}
		if more && r.manners != nil && r.manners.Deletion {
			if _, there, err := r.readable(name); err != nil || !there {
				return err
			}
		}
	}
	if r.positions {
		return r.stream.Send(&streams.ReadResp{Content: &streams.ReadResp_LastStreamPosition{LastStreamPosition: uint64(st.last)}})
	}
	return nil
}

// readable returns the state of a stream that can be read. It tells the client when
// there is none.
func (r *reader) readable(name string) (st streamState, there bool, err error) {
	if st, err = r.state(name); err != nil {
		return st, false, err
	}
	if st.tombstoned {
		return st, false, &streamDeletedError{stream: name}
	}
	if st.last >= 0 && !st.softDeleted() {
		return st, true, nil
	}
	return st, false, r.stream.Send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{
		StreamNotFound: &streams.ReadResp_StreamNotFound{StreamIdentifier: identifierOf(name)},
	}})
}

// state is what the reader sees of a stream.
func (r *reader) state(name string) (streamState, error) {
	if r.manners.showsLate(r.head) {
		return r.store.shownState(r.ctx, name, r.head)
	}
	return r.store.syncedState(r.ctx, name)
}

// synced is the position up to which the reader sees the log.
func (r *reader) synced() uint64 { return r.head.position.Load() }

// startRevision is where a read of a stream begins, inclusively.
func startRevision(options *streams.ReadReq_Options_StreamOptions, st streamState) int64 {
	switch from := options.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Revision:
		return clampRevision(from.Revision)
	case *streams.ReadReq_Options_StreamOptions_End:
		return st.last
	}
	return 0
}

func clampRevision(revision uint64) int64 {
	return int64(min(revision, uint64(deletedRevision)))
}

// readAll sends up to count events of the log that pass the filter.
func (r *reader) readAll(options *streams.ReadReq_Options_AllOptions, f *filter, count uint64) error {
	low, high, err := r.allRange(options)
	if err != nil || count == 0 {
		return err
	}
	for more := true; more; {
		more = false // unless the page is full before the range ends
		err := r.store.scan(low, high, r.direction, func(rec record) (bool, error) {
			r.page.records++
			if r.direction == backwards {
				high = rec.position - 1
			} else {
				low = rec.position + 1
			}
			if f.match(rec) {
				if err := r.take(rec); err != nil {
					return false, err
				}
				count--
			}
			more = count > 0 && r.page.full()
			return count > 0 && !more, nil
		})
		if err != nil {
			return err
		}
		if err := r.flush(); err != nil {
			return err
		}
	}
	return nil
}

// allRange is the range of positions a read of $all covers: it includes its start when
// it reads forwards and excludes it backwards.
func (r *reader) allRange(options *streams.ReadReq_Options_AllOptions) (low, high uint64, err error) {
	low, high = firstOrdinal, r.synced()
	switch from := options.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		position, err := allPosition(from.Position)
		if err != nil {
			return 0, 0, err
		}
		if err := r.manners.checkPosition(position, high); err != nil {
			return 0, 0, err
		}
		if r.direction == backwards {
			return low, min(high, max(position, 1)-1), nil
		}
		return max(low, position), high, nil
	case *streams.ReadReq_Options_AllOptions_End:
		if r.direction == forwards {
			low = high + 1
		}
	default:
		if r.direction == backwards {
			high = 0
		}
	}
	return low, high, nil
}

func allPosition(p *streams.ReadReq_Options_Position) (uint64, error) {
	if p.GetPreparePosition() > p.GetCommitPosition() {
		return 0, invalid("the prepare position %d is after the commit position %d", p.GetPreparePosition(), p.GetCommitPosition())
	}
	return p.GetCommitPosition(), nil
}

// take puts an event into the page, in the form the client asked for.
func (r *reader) take(rec record) error {
	isLink := r.resolve && string(rec.eventType) == eventTypeLink
	if !isLink && !r.stringIDs {
		r.page.add(r.page.arena.clone(rec.body))
		return nil
	}
	event, err := decodeEvent(rec.body)
	if err != nil {
		return err
	}
	if isLink {
		if err := r.follow(event); err != nil {
			return err
		}
	}
	if r.stringIDs {
		if err := useStringIDs(event); err != nil {
			return err
		}
	}
	message, err := proto.Marshal(&streams.ReadResp{Content: &streams.ReadResp_Event{Event: event}})
	if err != nil {
		return err
	}
	r.page.add(message)
	return nil
}

// follow resolves a link event, whose data is "revision@stream". A link that leads
// nowhere is sent without its event.
func (r *reader) follow(event *streams.ReadResp_ReadEvent) error {
	event.Link, event.Event = event.Event, nil
	revisionText, name, ok := bytes.Cut(event.Link.GetData(), []byte("@"))
	if !ok {
		return nil
	}
	revision, err := strconv.ParseInt(string(revisionText), 10, 64)
	if err != nil || revision < 0 {
		return nil
	}
	st, err := r.state(string(name))
	if err != nil {
		return err
	}
	if st.tombstoned || revision < st.first() {
		return nil
	}
	return r.store.scanStream(st, revision, revision, forwards, func(rec record) (bool, error) {
		if r.store.expired(st.limits, rec) {
			return false, nil
		}
		target, err := decodeEvent(rec.body)
		if err != nil {
			return false, fmt.Errorf("resolve link: %w", err)
		}
		event.Event = target.GetEvent()
		return false, nil
	})
}

func useStringIDs(event *streams.ReadResp_ReadEvent) error {
	for _, recorded := range []*streams.ReadResp_ReadEvent_RecordedEvent{event.Event, event.Link} {
		if recorded == nil {
			continue
		}
		id, err := stringUUID(recorded.GetId())
		if err != nil {
			return err
		}
		recorded.Id = id
	}
	return nil
}
