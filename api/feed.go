package api

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
)

// Limits of the feed.
const (
	DefaultFeedLimit = 100
	MaxFeedLimit     = 1_000
	maxFeedScan      = 20_000    // events looked at for one page, so that a filter which nothing passes answers in time
	maxFeedTypes     = 100       // event types of one filter
	flushBytes       = 256 << 10 // of NDJSON between two writes
)

const (
	mediaJSON   = "application/json"
	mediaNDJSON = "application/x-ndjson"
	mediaSSE    = "text/event-stream"
	feedPath    = "/v1/events"
	headerAsOf  = "X-As-Of-Position"
	afterEnd    = "end" // after=end: only what is recorded from now on

	headerLastEvent = "Last-Event-ID"
)

// feedMedia are the forms of the feed, of which every other route has the first.
var feedMedia = []string{mediaJSON, mediaNDJSON, mediaSSE}

// FeedEvent is one event as the log holds it.
type FeedEvent struct {
	Position      domain.Position `json:"position" doc:"Place of the event in the log."`
	ID            string          `json:"id" doc:"The event."`
	Type          string          `json:"type" doc:"Its permanent name."`
	Schema        int             `json:"schema" doc:"Schema of data; see the event catalogue."`
	Tenant        domain.Tenant   `json:"tenant" doc:"Whose event it is."`
	Stream        string          `json:"stream" doc:"Stream that it stands in."`
	Revision      uint64          `json:"revision" doc:"Its number in the stream, from 0."`
	OccurredAt    time.Time       `json:"occurredAt" doc:"When it happened in the business."`
	RecordedAt    time.Time       `json:"recordedAt" doc:"When we learned it."`
	Actor         domain.Actor    `json:"actor" doc:"Who caused it."`
	CommandID     string          `json:"commandId" doc:"The command that made it."`
	CorrelationID string          `json:"correlationId" doc:"The conversation that it belongs to."`
	CausationID   string          `json:"causationId" doc:"What caused it: a command or an event."`
	Subjects      []domain.ID     `json:"subjects" doc:"The customers that it concerns."`
	Data          any             `json:"data" doc:"The event's own members."`
}

func feedEvent(e domain.Recorded) FeedEvent {
	return FeedEvent{
		Position: e.Position, ID: e.ID, Type: e.Type(), Schema: e.Schema, Tenant: e.Tenant, Stream: e.Stream.String(), Revision: e.Revision,
		OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt, Actor: e.Actor, CommandID: e.CommandID,
		CorrelationID: e.CorrelationID, CausationID: e.CausationID, Subjects: e.Subjects, Data: e.Event,
	}
}

// FeedPage is a part of the feed.
type FeedPage struct {
	Items []FeedEvent     `json:"items" doc:"Events in the order of the log."`
	Next  domain.Position `json:"next" doc:"Give it as after to go on. It moves on even when no event passed the filter."`
	End   bool            `json:"end" doc:"Whether the log ended here."`
}

// feedRequest is what a client asks of the feed.
type feedRequest struct {
	caller  domain.Caller
	after   domain.Position
	event   string // the id of an event that stands for after; empty for none
	from    string // the parameter or header that says after
	end     bool   // start at the end of the log
	limit   int    // 0 means none
	types   []string
	subject domain.ID
	stream  *domain.StreamID
}

func (s *Server) feedRoutes() error {
	op := s.readOperation("events", feedPath, "event", "Reads the log of events, the first one first.", reflect.TypeFor[FeedPage]())
	op.Description = "With Accept: application/x-ndjson it streams every event to the end of the log, one a line. " +
		"With Accept: text/event-stream it goes on for ever with what is recorded, each event with its position as id; " +
		"a client that reconnects with Last-Event-ID misses nothing and sees nothing twice."
	op.Parameters = []*huma.Param{
		textParameter("query", "after", "Position after which to begin, also one where no event stands, or the id of an event; the beginning of the log when left out, its end for end. One that the log has not reached is refused.", "0", false),
		{Name: "limit", In: "query", Description: "Events of a page, 100 when left out, 1,000 at most. A stream ends after so many, and otherwise with the log.", Example: 20, Schema: &huma.Schema{Type: huma.TypeInteger}},
		textParameter("query", "types", "Event types separated by commas; a type that ends in a dot stands for all that begin so. One that the server does not know, such as of a newer version, is refused.", "customer.,opportunity.won", false),
		textParameter("query", "subject", "Only events that concern this customer.", "", false),
		textParameter("query", "stream", "Only events of this stream.", "", false),
		textParameter("header", headerLastEvent, "Position, or id of an event, after which a live feed goes on; it wins over after.", "", false),
	}
	op.Responses["200"].Content[mediaNDJSON] = &huma.MediaType{Schema: s.schema(reflect.TypeFor[FeedEvent]())}
	op.Responses["200"].Content[mediaSSE] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	for _, def := range append(s.opts.Bus.Definitions(), domain.Reservation) {
		for _, spec := range def.Events {
			s.eventTypes = append(s.eventTypes, spec.Type())
		}
	}
	s.handle(op, s.feed)
	return nil
}

// readOperation documents a query that is served by a handler of its own.
func (s *Server) readOperation(id, path, tag, summary string, answer reflect.Type) *huma.Operation {
	return &huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{tag}, Summary: summary,
		Responses: map[string]*huma.Response{
			"200":     {Description: "OK", Content: map[string]*huma.MediaType{mediaJSON: {Schema: s.schema(answer)}}},
			"default": s.problemResponse(),
		},
	}
}

func (s *Server) feed(c echo.Context) error {
	r := c.Request()
	req, err := parseFeed(r)
	if err != nil {
		return err
	}
	if err := s.checkTypes(req.types); err != nil {
		return err
	}
	if req.end {
		head, err := s.opts.Log.Head(r.Context())
		if err != nil {
			return err
		}
		req.after = head.Position
	}
	if req.event != "" {
		if req.after, err = s.searched(r.Context(), req); err != nil {
			return err
		}
	}
	media := accepted(r.Header.Get("Accept"), feedMedia...)
	if media == mediaJSON {
		return s.feedPage(c, req)
	}
	if err := s.checkAfter(r.Context(), req); err != nil {
		return err
	}
	if r.Method == http.MethodHead { // what follows the headers goes on to the end of the log, or for ever
		c.Response().Header().Set("Content-Type", media)
		return c.NoContent(http.StatusOK)
	}
	if err := s.streamSlots.take("Too many feeds are open."); err != nil {
		return err
	}
	defer s.streamSlots.leave()
	if media == mediaNDJSON {
		return s.feedLines(c, req)
	}
	return s.feedLive(c, req)
}

// searched finds the event after which a feed begins. The log may have to be read for it, which counts as a heavy query.
func (s *Server) searched(ctx context.Context, q feedRequest) (domain.Position, error) {
	if err := s.heavySlots.take(tooManyHeavy); err != nil {
		return domain.Position{}, err
	}
	defer s.heavySlots.leave()
	return s.place(ctx, q.from, q.event)
}

// checkAfter refuses to begin after a position that the log has not reached, such as one of another log or of a time before
// this one was restored: what is written up to there would be left out.
func (s *Server) checkAfter(ctx context.Context, q feedRequest) error {
	if q.end {
		return nil
	}
	return s.reached(ctx, q.from, q.after)
}

// parseFeed reads the parameters of the feed.
func parseFeed(r *http.Request) (feedRequest, error) {
	req := feedRequest{from: "after", caller: callOf(r.Context()).caller}
	for name, values := range r.URL.Query() {
		value := values[0]
		var err error
		switch name {
		case "after":
			if req.end = value == afterEnd; !req.end {
				err = req.begin(name, value)
			}
		case "limit":
			if req.limit, err = strconv.Atoi(value); err != nil || req.limit < 1 || req.limit > MaxFeedLimit {
				err = domain.Invalid(name, "is not between 1 and {limit}", MaxFeedLimit)
			}
		case "types":
			if req.types = splitList(value); len(req.types) > maxFeedTypes || slices.Contains(req.types, "") {
				err = domain.Invalid(name, "is not a list of 1 to {limit} event types", maxFeedTypes)
			}
		case "subject":
			if req.subject, err = domain.ParseID(value); err != nil {
				err = domain.Invalid(name, "is not a UUID")
			}
		case "stream":
			var stream domain.StreamID
			if stream, err = domain.ParseStreamID(value); err != nil {
				err = domain.Invalid(name, "is not the name of a stream")
			}
			req.stream = &stream
		default:
			err = domain.Invalid(name, "is not a parameter of the feed")
		}
		if err != nil {
			return req, err
		}
	}
	if last := r.Header.Get(headerLastEvent); last != "" {
		req.from, req.end = headerLastEvent, false
		if err := req.begin(req.from, last); err != nil {
			return req, err
		}
	}
	return req, nil
}

// begin reads where a feed begins: a position, or the id of an event.
func (q *feedRequest) begin(name, text string) (err error) {
	if _, err := domain.ParseID(text); err == nil {
		q.event = text
		return nil
	}
	q.event = ""
	q.after, err = parsePosition(name, text)
	return err
}

// checkTypes refuses a type that no event of this program has: a feed of it would be empty for ever, and nobody would
// notice. Types of newer programs are among them. This one cannot read their events either, and says so by failing.
func (s *Server) checkTypes(types []string) error {
	for _, t := range types {
		if !slices.ContainsFunc(s.eventTypes, func(known string) bool { return chooses(t, known) }) {
			return domain.Invalid("types", "\"{type}\" is no type of event known here, and none begins so; customer. with its dot stands for all of customers", t)
		}
	}
	return nil
}

// chooses reports whether a type of the filter stands for a type of event.
func chooses(t, event string) bool {
	return t == event || strings.HasSuffix(t, ".") && strings.HasPrefix(event, t)
}

// shown returns an event as the feed shows it, and false for one that does not pass the filter or that the caller may not see.
func (q feedRequest) shown(e domain.Recorded) (FeedEvent, bool) {
	e, sees := q.caller.Redact(e)
	if !sees || !q.wants(e) {
		return FeedEvent{}, false
	}
	return feedEvent(e), true
}

// wants reports whether an event passes the filter.
func (q feedRequest) wants(e domain.Recorded) bool {
	if q.subject != "" && !slices.Contains(e.Subjects, q.subject) || q.stream != nil && e.Stream != *q.stream {
		return false
	}
	return len(q.types) == 0 || slices.ContainsFunc(q.types, func(t string) bool { return chooses(t, e.Type()) })
}

// read yields what stands in the log after the position asked for, the stream alone when one is named.
func (s *Server) read(ctx context.Context, q feedRequest) iter.Seq2[domain.Recorded, error] {
	if q.stream == nil {
		return s.opts.Log.ReadAll(ctx, q.after)
	}
	return func(yield func(domain.Recorded, error) bool) {
		if q.stream.Tenant != q.caller.Tenant {
			return
		}
		for e, err := range s.opts.Log.Read(ctx, *q.stream, 0) {
			if err == nil && !q.after.Before(e.Position) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (s *Server) feedPage(c echo.Context, q feedRequest) error {
	if q.limit == 0 {
		q.limit = DefaultFeedLimit
	}
	page := FeedPage{Items: []FeedEvent{}, Next: q.after, End: true}
	scanned := 0
	for e, err := range s.read(c.Request().Context(), q) {
		if err != nil {
			return err
		}
		if len(page.Items) == q.limit || scanned == maxFeedScan {
			page.End = false
			break
		}
		scanned++
		page.Next = e.Position
		if item, ok := q.shown(e); ok {
			page.Items = append(page.Items, item)
		}
	}
	if scanned == 0 {
		if err := s.checkAfter(c.Request().Context(), q); err != nil {
			return err
		}
	}
	c.Response().Header().Set(headerAsOf, page.Next.String())
	if !page.End {
		c.Response().Header().Set("Link", resource.NextLink(c.Request().Context(), s, "after", page.Next.String()))
	}
	return writeJSON(c, http.StatusOK, page)
}

// feedLines streams events as lines of JSON. Once it has begun, an error can only break the connection off, so that no
// client takes what it has for everything.
func (s *Server) feedLines(c echo.Context, q feedRequest) error {
	out := newStream(c, mediaNDJSON)
	var lines bytes.Buffer
	sent := 0
	for e, err := range s.read(c.Request().Context(), q) {
		if err == nil && s.draining.Load() {
			err = &domain.UnavailableError{What: "server", Err: errors.New("stopping")}
		}
		if err != nil {
			return out.abort(s, err)
		}
		item, ok := q.shown(e)
		if !ok {
			continue
		}
		body, err := marshal(item)
		if err != nil {
			return out.abort(s, err)
		}
		lines.Write(body)
		lines.WriteByte('\n')
		if lines.Len() >= flushBytes {
			if !out.write(lines.Bytes()) {
				return nil
			}
			lines.Reset()
		}
		if sent++; sent == q.limit {
			break
		}
	}
	out.write(lines.Bytes())
	return nil
}

// feedLive sends events as they are recorded, until the client goes away, does not read, or the server stops.
func (s *Server) feedLive(c echo.Context, q feedRequest) error {
	ctx, cancel := context.WithCancel(c.Request().Context())
	type next struct {
		event domain.Recorded
		err   error
	}
	events := make(chan next)
	var producer sync.WaitGroup
	producer.Go(func() {
		defer close(events)
		for e, err := range s.opts.Log.Subscribe(ctx, q.after) {
			select {
			case events <- next{e, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	defer producer.Wait()
	defer cancel()

	out := newStream(c, mediaSSE)
	if !out.write([]byte(": live\n\n")) {
		return nil
	}
	heartbeat := time.NewTicker(Heartbeat)
	defer heartbeat.Stop()
	var passed domain.Position // what no event of the client's told of
	sent := 0
	for {
		var message []byte
		select {
		case n, ok := <-events:
			if !ok {
				return nil
			}
			if n.err != nil {
				return out.abort(s, n.err)
			}
			item, ok := q.shown(n.event)
			if !ok {
				passed = n.event.Position
				continue
			}
			body, err := marshal(item)
			if err != nil {
				return out.abort(s, err)
			}
			passed = domain.Position{}
			message = []byte("id: " + n.event.Position.String() + "\nevent: " + n.event.Type() + "\ndata: " + string(body) + "\n\n")
			sent++
		case <-heartbeat.C:
			message = []byte(": \n\n")
			if !passed.IsZero() { // an id without data moves the client's Last-Event-ID on
				message = []byte("id: " + passed.String() + "\n\n")
				passed = domain.Position{}
			}
		case <-s.stopping:
			return nil
		case <-ctx.Done():
			return nil
		}
		if !out.write(message) || sent == q.limit && q.limit > 0 {
			return nil
		}
	}
}

// stream is an answer that is written piece by piece. Each piece must be taken within StreamWriteTimeout.
type stream struct {
	c       echo.Context
	control *http.ResponseController
	media   string
	begun   bool
}

func newStream(c echo.Context, media string) *stream {
	return &stream{c: c, control: http.NewResponseController(c.Response()), media: media}
}

// write sends a piece and reports whether the client took it.
func (s *stream) write(piece []byte) bool {
	if err := s.control.SetWriteDeadline(time.Now().Add(StreamWriteTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return false
	}
	if !s.begun {
		s.begun = true
		s.c.Response().Header().Set("Content-Type", s.media)
		s.c.Response().WriteHeader(http.StatusOK)
	}
	if _, err := s.c.Response().Write(piece); err != nil {
		return false
	}
	return s.control.Flush() == nil
}

// abort answers a problem when nothing has been sent, and breaks the connection off otherwise.
func (s *stream) abort(server *Server, err error) error {
	if !s.begun {
		return err
	}
	ctx := s.c.Request().Context()
	if ctx.Err() == nil {
		server.report(ctx, problemOf(err), feedPath)
	}
	panic(http.ErrAbortHandler)
}

// accepted returns the first of the media types on offer that an Accept header names, the first of all for a header that
// accepts anything; empty when it accepts none.
func accepted(header string, offers ...string) string {
	if header == "" {
		return offers[0]
	}
	for part := range strings.SplitSeq(header, ",") {
		media, parameters, _ := strings.Cut(part, ";")
		media = strings.ToLower(strings.TrimSpace(media))
		if q := strings.ReplaceAll(parameters, " ", ""); q == "q=0" || q == "q=0.0" {
			continue
		}
		for _, offer := range offers {
			kind, _, _ := strings.Cut(offer, "/")
			if media == offer || media == "*/*" || media == kind+"/*" {
				return offer
			}
		}
	}
	return ""
}
