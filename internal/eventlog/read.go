package eventlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// A page is what one request reads; it bounds memory and keeps a slow consumer from running into a deadline. A page of
// $all holds at least two events, because it begins with the last one of the page before.
const (
	pageEvents = 512
	pageBytes  = 4 << 20 // the page ends after the event that exceeds it
)

// readWindow is how many events of others the node passes over in one step of a filtered read.
const readWindow = 4096

// page is the result of one request.
type page struct {
	events []codec.Raw
	end    bool // the log or stream had no more
}

var (
	// errDeletedMeanwhile ends the read of a stream that was there when the read began.
	errDeletedMeanwhile = errors.New("the stream was deleted while it was read")
	// errNotAPosition is the refusal to read $all from a number at which no event stands.
	errNotAPosition = errors.New("no event stands at this position")
)

// ReadStream implements Log.
func (l *ESDB) ReadStream(ctx context.Context, stream string, from uint64) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		name, err := l.physical(ctx, stream)
		if err != nil {
			yield(codec.Raw{}, failure(ctx, "read "+stream, err))
			return
		}
		for next, begun := from, false; ; begun = true {
			p, err := l.streamPage(ctx, name, forwardsFrom(next), pageEvents)
			if errors.Is(err, errNotThere) && !begun {
				return // a stream that does not exist
			}
			if errors.Is(err, errNotThere) {
				err = errDeletedMeanwhile
			}
			if err != nil {
				yield(codec.Raw{}, failure(ctx, "read "+stream, err))
				return
			}
			for _, raw := range p.events {
				raw.Stream = stream
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

// physical returns the name under which the log knows a stream.
func (l *ESDB) physical(ctx context.Context, stream string) (string, error) {
	s, err := l.space(ctx)
	if err != nil {
		return "", err
	}
	return s.stream(stream)
}

// errNotThere is the answer to reading a stream that does not exist, or was deleted.
var errNotThere = errors.New("no such stream")

// place is where in a stream a read begins, and its direction.
type place struct {
	revision uint64
	end      bool // backwards from the last event
}

func forwardsFrom(revision uint64) place { return place{revision: revision} }

// lastOf reads a stream backwards from its end.
var lastOf = place{end: true}

// streamPage reads one page of a stream, by its name in the log. It returns errNotThere for a stream that does not exist.
func (l *ESDB) streamPage(ctx context.Context, name string, at place, count int) (page, error) {
	options := &streams.ReadReq_Options_StreamOptions{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(name)}}
	request := &streams.ReadReq_Options{StreamOption: &streams.ReadReq_Options_Stream{Stream: options}}
	if at.end {
		options.RevisionOption = &streams.ReadReq_Options_StreamOptions_End{End: &shared.Empty{}}
		request.ReadDirection = streams.ReadReq_Options_Backwards
	} else {
		options.RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: at.revision}
	}
	return l.readPage(ctx, request, count)
}

// readPage asks the leader for one page.
func (l *ESDB) readPage(ctx context.Context, request *streams.ReadReq_Options, count int) (p page, err error) {
	request.CountOption = &streams.ReadReq_Options_Count{Count: uint64(count)}
	if request.FilterOption == nil {
		request.FilterOption = &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}}
	}
	request.UuidOption = &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: &shared.Empty{}}}
	limit := l.timing.read
	if _, filtered := request.FilterOption.(*streams.ReadReq_Options_Filter); filtered {
		limit *= searchFactor // before an event of ours there may be millions of others
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = l.withLeader(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // a page that is full ends the call
		call, err := streams.NewStreamsClient(conn).Read(ctx, &streams.ReadReq{Options: request})
		if err != nil {
			return err
		}
		p, err = collect(call, count)
		return err
	})
	return p, err
}

// collect drains a read of at most count events. Only io.EOF ends it: a history cut short makes a wrong decision.
func collect(call streams.Streams_ReadClient, count int) (page, error) {
	p, size := page{}, 0
	for len(p.events) < count && (len(p.events) < 2 || size < pageBytes) {
		message, err := call.Recv()
		switch {
		case errors.Is(err, io.EOF):
			p.end = true
			return p, nil
		case refusesPosition(err):
			return page{}, fmt.Errorf("%w: %w", errNotAPosition, err)
		case err != nil:
			return page{}, deletedStream(&endedCall{err, call.Trailer()})
		}
		switch content := message.GetContent().(type) {
		case *streams.ReadResp_Event:
			raw, err := rawOf(content.Event)
			if err != nil {
				return page{}, err
			}
			p.events = append(p.events, raw)
			size += len(raw.Data) + len(raw.Metadata)
		case *streams.ReadResp_StreamNotFound_:
			if len(p.events) > 0 {
				return page{}, errDeletedMeanwhile
			}
			return page{}, errNotThere
		}
	}
	return p, nil
}

// refusesPosition reports whether a node refuses to read from a number at which no event stands. It has no code of its own
// for that: reads end with UNKNOWN, subscriptions with INVALID_ARGUMENT.
func refusesPosition(err error) bool {
	s, _ := status.FromError(err)
	return s.Code() == codes.Unknown && strings.Contains(s.Message(), "InvalidPosition") ||
		s.Code() == codes.InvalidArgument && strings.Contains(s.Message(), "invalid position")
}

// deletedStream makes ErrStreamDeleted of the refusal to read a stream that was deleted for ever.
func deletedStream(ended *endedCall) error {
	if slices.Contains(ended.trailer.Get(trailerException), exceptionDeleted) {
		return fmt.Errorf("%w: %w", ErrStreamDeleted, ended)
	}
	return ended
}

// ReadAll implements Log. While the consumer works on one page, the next is already being read.
func (l *ESDB) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		fail := func(err error) { yield(codec.Raw{}, failure(ctx, fmt.Sprintf("read the log after %s", after), err)) }
		s, err := l.space(ctx)
		if err != nil {
			fail(err)
			return
		}
		from, err := l.startOf(ctx, after)
		if err != nil {
			fail(err)
			return
		}
		type result struct {
			page page
			err  error
		}
		fetch := func(from domain.Position) <-chan result {
			done := make(chan result, 1)
			go func() {
				p, err := l.allPage(ctx, s, from)
				done <- result{p, err}
			}()
			return done
		}
		last := after
		for next, begun := fetch(from), false; ; begun = true {
			r := <-next
			if errors.Is(r.err, errNotAPosition) && !begun && !from.IsZero() {
				// The place to begin at was known of another history, before an older copy took this one's place.
				l.marks.forget()
				if from, r.err = l.startOf(ctx, after); r.err == nil {
					r = <-fetch(from)
				}
			}
			if r.err != nil {
				fail(r.err)
				return
			}
			if !r.page.end {
				next = fetch(r.page.events[len(r.page.events)-1].Position)
			}
			for _, raw := range r.page.events {
				if !last.Before(raw.Position) {
					continue // reads include the position that they start at
				}
				last = raw.Position
				if raw, ours := s.own(raw); ours && !yield(raw, nil) {
					return
				}
			}
			if r.page.end {
				return
			}
		}
	}
}

// allPage reads one page of the events of our namespace from a position on, which is that of an event or zero.
func (l *ESDB) allPage(ctx context.Context, s *space, from domain.Position) (page, error) {
	p, err := l.readPage(ctx, allFrom(from, s.filter()), pageEvents)
	if err == nil && len(p.events) > 0 {
		l.marks.pass(p.events[len(p.events)-1].Position)
	}
	return p, err
}

// allFrom asks for $all forwards, from a position on; a nil filter asks for everything.
func allFrom(from domain.Position, filter *streams.ReadReq_Options_Filter) *streams.ReadReq_Options {
	options := &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}}
	if !from.IsZero() {
		options.AllOption = &streams.ReadReq_Options_AllOptions_Position{
			Position: &streams.ReadReq_Options_Position{CommitPosition: from.Commit, PreparePosition: from.Prepare},
		}
	}
	request := &streams.ReadReq_Options{StreamOption: &streams.ReadReq_Options_All{All: options}}
	if filter != nil {
		request.FilterOption = filter
	}
	return request
}

// allBackwards asks for $all backwards: from its end when before is zero, else from the event before that at a position.
func allBackwards(before domain.Position, filter *streams.ReadReq_Options_Filter) *streams.ReadReq_Options {
	request := allFrom(before, filter)
	request.ReadDirection = streams.ReadReq_Options_Backwards
	if before.IsZero() {
		request.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}}
	}
	return request
}

// prefixFilter asks for the streams whose names begin so.
func prefixFilter(prefix string) *streams.ReadReq_Options_Filter {
	return &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: []string{prefix}},
		},
		Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: readWindow},
		CheckpointIntervalMultiplier: 1,
	}}
}

// rawOf translates an event of the protocol. The byte slices belong to the message, which nobody uses again.
func rawOf(read *streams.ReadResp_ReadEvent) (codec.Raw, error) {
	e := read.GetLink() // what stands at the position, not what it points at
	if e == nil {
		e = read.GetEvent()
	}
	if e == nil {
		return codec.Raw{}, errors.New("a message without an event")
	}
	id, err := uuidOf(e.GetId())
	if err != nil {
		return codec.Raw{}, err
	}
	return codec.Raw{
		ID: id.String(), Type: e.GetMetadata()["type"], Stream: string(e.GetStreamIdentifier().GetStreamName()),
		Revision: e.GetStreamRevision(), Position: positionOf(esdb.Position{Commit: e.GetCommitPosition(), Prepare: e.GetPreparePosition()}),
		Data: e.GetData(), Metadata: e.GetCustomMetadata(),
	}, nil
}

// rawOfClient translates an event of the client, which only subscriptions bring.
func rawOfClient(resolved *esdb.ResolvedEvent) (codec.Raw, error) {
	e := resolved.OriginalEvent()
	if e == nil {
		return codec.Raw{}, errors.New("a message without an event")
	}
	return codec.Raw{
		ID: e.EventID.String(), Type: e.EventType, Stream: e.StreamID, Revision: e.EventNumber, Position: positionOf(e.Position),
		Data: e.Data, Metadata: e.UserMetadata,
	}, nil
}

// uuidOf reads an id in either of its forms.
func uuidOf(id *shared.UUID) (u uuid.UUID, err error) {
	s := id.GetStructured()
	if s == nil {
		return uuid.Parse(id.GetString_())
	}
	binary.BigEndian.PutUint64(u[:8], uint64(s.GetMostSignificantBits()))
	binary.BigEndian.PutUint64(u[8:], uint64(s.GetLeastSignificantBits()))
	return u, nil
}

// positionOf translates a position of the protocol; one that is missing, which is rendered as 0 or the largest number,
// becomes zero.
func positionOf(p esdb.Position) domain.Position {
	if p.Commit > math.MaxInt64 || p.Prepare > math.MaxInt64 {
		return domain.Position{}
	}
	return domain.Position{Commit: p.Commit, Prepare: p.Prepare}
}

// isSystem reports whether an event type belongs to the node and not to us.
func isSystem(eventType string) bool { return strings.HasPrefix(eventType, "$") }

// tail reads where a stream stands, by its name in the log.
func (l *ESDB) tail(ctx context.Context, name string) (domain.Expected, error) {
	p, err := l.streamPage(ctx, name, lastOf, 1)
	if errors.Is(err, errNotThere) || err == nil && len(p.events) == 0 {
		return domain.NoStream, nil
	}
	if err != nil {
		return domain.NoStream, err
	}
	return domain.AtRevision(p.events[0].Revision), nil
}

// storedAt reads the events of a stream from a revision on, up to count of them. Fewer come when the stream was truncated.
func (l *ESDB) storedAt(ctx context.Context, name string, from uint64, count int) ([]codec.Raw, error) {
	var events []codec.Raw
	for len(events) < count {
		p, err := l.streamPage(ctx, name, forwardsFrom(from), count-len(events))
		if errors.Is(err, errNotThere) {
			break
		}
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
