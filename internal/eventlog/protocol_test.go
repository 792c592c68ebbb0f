package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/rapport-crm/rapport/internal/nodetest"
)

// These tests state what clients of EventStoreDB may expect of streams, whichever node answers: they run against the
// embedded node, and against a real one when RAPPORT_TEST_EVENTSTORE names it. They go past the adapter.

const wholeStream = 1_000

// official returns the client for Go, closed at the end of the test.
func official(t testing.TB, at string) *esdb.Client {
	t.Helper()
	config, err := esdb.ParseConnectionString(at)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	config.DefaultDeadline = &patient.append // its own is 10 s
	client, err := esdb.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("close client: %v", err)
		}
	})
	return client
}

// wireNode is a bare connection, for what the client for Go does not send.
func wireNode(t testing.TB, at string) *grpc.ClientConn {
	t.Helper()
	target, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	if target.Scheme != "esdb" || target.Query().Get("tls") != "false" {
		t.Skip("the node under test speaks TLS or is a cluster: the bare protocol is not tried")
	}
	conn, err := grpc.NewClient(target.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close connection: %v", err)
		}
	})
	return conn
}

func happenings(n int) []esdb.EventData {
	list := make([]esdb.EventData, n)
	for i := range list {
		list[i] = esdb.EventData{
			EventID: uuid.New(), EventType: "test.happened", ContentType: esdb.ContentTypeJson,
			Data: fmt.Appendf(nil, `{"n":%d}`, i), Metadata: []byte(`{"m":1}`),
		}
	}
	return list
}

func write(t testing.TB, c *esdb.Client, stream string, expected esdb.ExpectedRevision, events ...esdb.EventData) *esdb.WriteResult {
	t.Helper()
	result, err := c.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, events...)
	if err != nil {
		t.Fatalf("append to %s: %v", stream, err)
	}
	return result
}

// revisions reads a stream and tells what came.
func revisions(t testing.TB, c *esdb.Client, stream string, options esdb.ReadStreamOptions) ([]uint64, error) {
	t.Helper()
	read, err := c.ReadStream(t.Context(), stream, options, wholeStream)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	got := []uint64{}
	for {
		e, err := read.Recv()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, e.OriginalEvent().EventNumber)
	}
}

func wantRevisions(t testing.TB, c *esdb.Client, stream string, options esdb.ReadStreamOptions, want ...uint64) {
	t.Helper()
	got, err := revisions(t, c, stream, options)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s %+v: revisions %v, error %v; want %v", stream, options, got, err, want)
	}
}

func wantCode(t testing.TB, err error, want esdb.ErrorCode) {
	t.Helper()
	if !is(err, want) {
		t.Errorf("error %v, want code %d", err, want)
	}
}

func TestProtocolStreamReads(t *testing.T) {
	c, stream := official(t, plain(t)), newStream()
	_, err := revisions(t, c, stream, esdb.ReadStreamOptions{})
	wantCode(t, err, esdb.ErrorCodeResourceNotFound)
	write(t, c, stream, esdb.NoStream{}, happenings(5)...)
	back := func(from esdb.StreamPosition) esdb.ReadStreamOptions {
		return esdb.ReadStreamOptions{Direction: esdb.Backwards, From: from}
	}
	wantRevisions(t, c, stream, esdb.ReadStreamOptions{From: esdb.Start{}}, 0, 1, 2, 3, 4)
	wantRevisions(t, c, stream, esdb.ReadStreamOptions{From: esdb.Revision(3)}, 3, 4)
	wantRevisions(t, c, stream, esdb.ReadStreamOptions{From: esdb.Revision(9)})
	wantRevisions(t, c, stream, back(esdb.End{}), 4, 3, 2, 1, 0)
	wantRevisions(t, c, stream, back(esdb.Revision(1)), 1, 0)
	wantRevisions(t, c, stream, back(esdb.Start{}), 0)
}

// A read of $all includes its position when it goes forwards and excludes it when it goes backwards.
func TestProtocolAllReads(t *testing.T) {
	c, stream := official(t, plain(t)), newStream()
	middle := write(t, c, stream, esdb.NoStream{}, happenings(2)...)
	write(t, c, stream, esdb.Revision(1), happenings(1)...)
	at := esdb.Position{Commit: middle.CommitPosition, Prepare: middle.PreparePosition}
	for _, d := range []esdb.Direction{esdb.Forwards, esdb.Backwards} {
		read, err := c.ReadAll(t.Context(), esdb.ReadAllOptions{Direction: d, From: at}, 1)
		if err != nil {
			t.Fatal(err)
		}
		e, err := read.Recv()
		read.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := e.OriginalEvent(); d == esdb.Forwards && (got.StreamID != stream || got.EventNumber != 1 || got.Position != at) {
			t.Errorf("forwards from %+v: %s %d", at, got.StreamID, got.EventNumber)
		} else if d == esdb.Backwards && got.Position.Commit >= at.Commit {
			t.Errorf("backwards from %+v: %s %d at %+v", at, got.StreamID, got.EventNumber, got.Position)
		}
	}
}

// Limits in the metadata of a stream limit its reads, and whatever else stands there is kept as it was written.
func TestProtocolMetadata(t *testing.T) {
	c, stream := official(t, plain(t)), newStream()
	write(t, c, stream, esdb.NoStream{}, happenings(10)...)
	set := func(expected esdb.ExpectedRevision, change func(*esdb.StreamMetadata)) {
		t.Helper()
		meta := esdb.StreamMetadata{}
		acl := esdb.Acl{}
		acl.AddReadRoles("$all")
		meta.SetAcl(acl)
		meta.AddCustomProperty("owner", "sales")
		change(&meta)
		if _, err := c.SetStreamMetadata(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, meta); err != nil {
			t.Fatal(err)
		}
		got, err := c.GetStreamMetadata(t.Context(), stream, esdb.ReadStreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*got, meta) {
			t.Errorf("metadata came back as %+v, want %+v", *got, meta)
		}
	}
	set(esdb.NoStream{}, func(m *esdb.StreamMetadata) { m.SetMaxCount(2) })
	wantRevisions(t, c, stream, esdb.ReadStreamOptions{From: esdb.Start{}}, 8, 9)
	set(esdb.Revision(0), func(m *esdb.StreamMetadata) { m.SetTruncateBefore(7) })
	wantRevisions(t, c, stream, esdb.ReadStreamOptions{From: esdb.Start{}}, 7, 8, 9)
	set(esdb.Revision(1), func(m *esdb.StreamMetadata) { m.SetMaxAge(24 * time.Hour) })
	wantRevisions(t, c, stream, esdb.ReadStreamOptions{From: esdb.Revision(8)}, 8, 9)
	// A metadata stream is a stream, and keeps its last event.
	wantRevisions(t, c, "$$"+stream, esdb.ReadStreamOptions{From: esdb.Start{}}, 2)
}

// A deleted stream is not found, and goes on with its revisions when it is appended to again.
func TestProtocolSoftDelete(t *testing.T) {
	c, stream := official(t, plain(t)), newStream()
	write(t, c, stream, esdb.NoStream{}, happenings(3)...)
	remove := func(expected esdb.ExpectedRevision) error {
		_, err := c.DeleteStream(t.Context(), stream, esdb.DeleteStreamOptions{ExpectedRevision: expected})
		return err
	}
	if remove(esdb.Revision(1)) == nil || remove(esdb.NoStream{}) == nil {
		t.Error("deleted at a wrong revision")
	}
	if err := remove(esdb.Revision(2)); err != nil {
		t.Fatal(err)
	}
	_, err := revisions(t, c, stream, esdb.ReadStreamOptions{})
	wantCode(t, err, esdb.ErrorCodeResourceNotFound)
	if got := write(t, c, stream, esdb.NoStream{}, happenings(2)...); got.NextExpectedVersion != 4 {
		t.Errorf("re-appended up to revision %d", got.NextExpectedVersion)
	}
	wantRevisions(t, c, stream, esdb.ReadStreamOptions{From: esdb.Start{}}, 3, 4)
}

// A tombstone ends a stream for ever.
func TestProtocolTombstone(t *testing.T) {
	c, stream := official(t, plain(t)), newStream()
	write(t, c, stream, esdb.NoStream{}, happenings(1)...)
	if _, err := c.TombstoneStream(t.Context(), stream, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(0)}); err != nil {
		t.Fatal(err)
	}
	_, err := revisions(t, c, stream, esdb.ReadStreamOptions{})
	wantCode(t, err, esdb.ErrorCodeStreamDeleted)
	for _, expected := range []esdb.ExpectedRevision{esdb.Any{}, esdb.NoStream{}, esdb.StreamExists{}, esdb.Revision(0)} {
		_, err := c.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, happenings(1)...)
		wantCode(t, err, esdb.ErrorCodeStreamDeleted)
	}
}

// S9: the same append again gives the same answer, whatever it expected, also when others have appended since.
func TestProtocolIdempotency(t *testing.T) {
	c := official(t, plain(t))
	for name, expected := range map[string]esdb.ExpectedRevision{
		"any": esdb.Any{}, "no stream": esdb.NoStream{}, "exists": esdb.StreamExists{}, "exact": esdb.Revision(0),
	} {
		t.Run(name, func(t *testing.T) {
			stream, before := newStream(), uint64(0)
			if name == "exists" || name == "exact" {
				write(t, c, stream, esdb.NoStream{}, happenings(1)...)
				before = 1
			}
			events := happenings(3)
			first := write(t, c, stream, expected, events...)
			write(t, c, stream, esdb.Any{}, happenings(2)...)
			again := write(t, c, stream, expected, events...)
			if again.NextExpectedVersion != first.NextExpectedVersion || first.NextExpectedVersion != before+2 {
				t.Errorf("first %+v, again %+v", first, again)
			}
			if again.CommitPosition != 0 && again.CommitPosition != first.CommitPosition { // a real node may tell none
				t.Errorf("first at %d, again at %d", first.CommitPosition, again.CommitPosition)
			}
			if got, err := revisions(t, c, stream, esdb.ReadStreamOptions{From: esdb.Start{}}); err != nil || uint64(len(got)) != before+5 {
				t.Errorf("%d events are stored, error %v", len(got), err)
			}
			// Known ids followed by new ones are neither a repetition nor new.
			_, err := c.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, append(events[:2:2], happenings(1)...)...)
			wantCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
		})
	}
}

func TestProtocolLinks(t *testing.T) {
	c, target, links := official(t, plain(t)), newStream(), newStream()
	write(t, c, target, esdb.NoStream{}, happenings(2)...)
	for _, to := range []string{"1@" + target, "7@" + target} {
		write(t, c, links, esdb.Any{}, esdb.EventData{EventID: uuid.New(), EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte(to)})
	}
	check := func(what string, got []*esdb.ResolvedEvent) {
		t.Helper()
		if len(got) != 2 || got[0].Link == nil || got[1].Link == nil || got[1].Event != nil {
			t.Fatalf("%s: %+v", what, got)
		}
		if e := got[0].Event; e == nil || e.StreamID != target || e.EventNumber != 1 || got[0].Link.StreamID != links {
			t.Errorf("%s: resolved to %+v", what, got[0])
		}
	}
	read, err := c.ReadStream(t.Context(), links, esdb.ReadStreamOptions{From: esdb.Start{}, ResolveLinkTos: true}, wholeStream)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	var got []*esdb.ResolvedEvent
	for {
		e, err := read.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	check("read", got)
	sub, err := c.SubscribeToStream(t.Context(), links, esdb.SubscribeToStreamOptions{From: esdb.Start{}, ResolveLinkTos: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	got = nil
	for len(got) < 2 {
		message := sub.Recv()
		if message.SubscriptionDropped != nil {
			t.Fatal(message.SubscriptionDropped.Error)
		}
		if message.EventAppeared != nil {
			got = append(got, message.EventAppeared)
		}
	}
	check("subscription", got)
}

// A subscription to a stream brings what comes after its revision, says when it has caught up, and goes on.
func TestProtocolStreamSubscription(t *testing.T) {
	c, stream := official(t, plain(t)), newStream()
	write(t, c, stream, esdb.NoStream{}, happenings(4)...)
	sub, err := c.SubscribeToStream(t.Context(), stream, esdb.SubscribeToStreamOptions{From: esdb.Revision(1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	var got []string
	for len(got) < 5 {
		switch message := sub.Recv(); {
		case message.SubscriptionDropped != nil:
			t.Fatal(message.SubscriptionDropped.Error)
		case message.CaughtUp != nil:
			got = append(got, "caught up")
			write(t, c, stream, esdb.Revision(3), happenings(2)...)
		case message.EventAppeared != nil:
			got = append(got, fmt.Sprint(message.EventAppeared.OriginalEvent().EventNumber))
		}
	}
	if want := []string{"2", "3", "caught up", "4", "5"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// Filters go by prefix or regular expression, of the stream or the type. A filter that lets nothing pass still tells how
// far it has come.
func TestProtocolFilters(t *testing.T) {
	at := plain(t)
	c, stream := official(t, at), newStream()
	tail := strings.TrimPrefix(stream, "main.")
	eventType := "type-" + tail
	before := write(t, c, newStream(), esdb.NoStream{}, happenings(1)...)
	start := esdb.Position{Commit: before.CommitPosition, Prepare: before.PreparePosition}
	events := happenings(200)
	for i := range events {
		events[i].EventType = eventType
	}
	write(t, c, stream, esdb.NoStream{}, events...)
	for name, filter := range map[string]*esdb.SubscriptionFilter{
		"stream prefix": {Type: esdb.StreamFilterType, Prefixes: []string{"none-", stream}},
		"stream regex":  {Type: esdb.StreamFilterType, Regex: "^main\\." + tail + "$"},
		"type prefix":   {Type: esdb.EventFilterType, Prefixes: []string{eventType}},
		"type regex":    {Type: esdb.EventFilterType, Regex: "^type-.*" + tail[len(tail)-8:]},
		"nothing":       {Type: esdb.EventFilterType, Prefixes: []string{"none-" + tail}},
	} {
		t.Run(name, func(t *testing.T) {
			sub, err := official(t, at).SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{
				From: start, Filter: filter, MaxSearchWindow: 32, CheckpointInterval: 2,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			for next, checkpoints := uint64(0), 0; next < 200; {
				message := sub.Recv()
				switch {
				case message.SubscriptionDropped != nil:
					t.Fatal(message.SubscriptionDropped.Error)
				case message.CheckPointReached != nil && message.CheckPointReached.Commit > start.Commit:
					if checkpoints++; name == "nothing" && checkpoints == 2 {
						return
					}
				case message.EventAppeared != nil:
					if e := message.EventAppeared.OriginalEvent(); e.StreamID != stream || e.EventNumber != next {
						t.Fatalf("%s %d came where %d was due", e.StreamID, e.EventNumber, next)
					}
					next++
				}
			}
		})
	}
}

// S15: a stream that is truncated while it is being read gives its events in order up to some point, each once, and never
// gives a revision again.
func TestProtocolTruncationDuringRead(t *testing.T) {
	at := plain(t)
	c, stream := official(t, at), newStream()
	const total = 900
	write(t, c, stream, esdb.NoStream{}, happenings(total)...)
	read, err := official(t, at).ReadStream(t.Context(), stream, esdb.ReadStreamOptions{From: esdb.Start{}}, wholeStream)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	next := uint64(0)
	for {
		e, err := read.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		var failed *esdb.Error
		if nodetest.Strict() && next > 0 && errors.As(err, &failed) && failed.Code() == esdb.ErrorCodeResourceNotFound {
			break // so says a real engine at the end
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := e.OriginalEvent().EventNumber; got < next {
			t.Fatalf("revision %d after %d", got, next)
		}
		if next = e.OriginalEvent().EventNumber + 1; next == 1 {
			if _, err := c.DeleteStream(t.Context(), stream, esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := write(t, c, stream, esdb.Any{}, happenings(1)...); got.NextExpectedVersion != total {
		t.Errorf("the next event has revision %d, want %d", got.NextExpectedVersion, total)
	}
}

// Clients for other languages append over BatchAppend when the node announces it.
func TestProtocolBatchAppend(t *testing.T) {
	at := plain(t)
	conn, c := wireNode(t, at), official(t, at)
	methods, err := serverfeatures.NewServerFeaturesClient(conn).GetSupportedMethods(t.Context(), &shared.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	announced := slices.ContainsFunc(methods.GetMethods(), func(m *serverfeatures.SupportedMethod) bool {
		return m.GetServiceName() == "event_store.client.streams.streams" && m.GetMethodName() == "batchappend" &&
			slices.Contains(m.GetFeatures(), "deadline_duration")
	})
	if !announced {
		t.Fatalf("batchappend is not announced: %v", methods)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	call, err := streams.NewStreamsClient(conn).BatchAppend(ctx)
	if err != nil {
		t.Fatal(err)
	}
	name := func(id uuid.UUID) *shared.UUID {
		return &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}}
	}
	options := func(stream string, set func(*streams.BatchAppendReq_Options)) *streams.BatchAppendReq_Options {
		o := &streams.BatchAppendReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte(stream)},
			ExpectedStreamPosition: &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}},
			DeadlineOption:         &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(10 * time.Second)},
		}
		if set != nil {
			set(o)
		}
		return o
	}
	send := func(id uuid.UUID, o *streams.BatchAppendReq_Options, final bool, events int) {
		t.Helper()
		req := &streams.BatchAppendReq{CorrelationId: name(id), Options: o, IsFinal: final}
		for range events {
			req.ProposedMessages = append(req.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{
				Id: name(uuid.New()), Metadata: map[string]string{"type": "test.happened", "content-type": "application/json"}, Data: []byte(`{}`),
			})
		}
		if err := call.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	answer := func() (uuid.UUID, *streams.BatchAppendResp) {
		t.Helper()
		resp, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return correlation(t, resp.GetCorrelationId()), resp
	}
	refused := func(id uuid.UUID, want proto.Message) {
		t.Helper()
		got, resp := answer()
		details := resp.GetError().GetDetails()
		if got != id || len(details) != 1 || !details[0].MessageIs(want) {
			t.Fatalf("answer %v, want %T for %s", resp, want, id)
		}
		if err := details[0].UnmarshalTo(want); err != nil {
			t.Fatal(err)
		}
	}

	one, two, streamOne, streamTwo := uuid.New(), uuid.New(), newStream(), newStream()
	send(one, options(streamOne, nil), false, 2)
	send(two, options(streamTwo, nil), true, 1)
	send(one, nil, true, 3)
	answers := map[uuid.UUID]uint64{}
	for range 2 {
		id, resp := answer()
		if resp.GetSuccess().GetPosition().GetCommitPosition() == 0 {
			t.Errorf("answer %v has no position", resp)
		}
		answers[id] = resp.GetSuccess().GetCurrentRevision()
	}
	if len(answers) != 2 || answers[one] != 4 || answers[two] != 0 {
		t.Errorf("answers %v", answers)
	}
	wantRevisions(t, c, streamOne, esdb.ReadStreamOptions{From: esdb.Start{}}, 0, 1, 2, 3, 4)

	send(one, options(streamOne, nil), true, 1)
	wrong := &shared.WrongExpectedVersion{}
	refused(one, wrong)
	if wrong.GetCurrentStreamRevision() != 4 || wrong.GetExpectedNoStream() == nil {
		t.Errorf("wrong version %v", wrong)
	}
	send(two, options(newStream(), func(o *streams.BatchAppendReq_Options) {
		o.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(0)}
	}), true, 1)
	refused(two, &shared.Timeout{})
	send(two, options("", func(o *streams.BatchAppendReq_Options) { o.StreamIdentifier = nil }), true, 1)
	refused(two, &shared.BadRequest{})
	if _, err := c.TombstoneStream(t.Context(), streamTwo, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}}); err != nil {
		t.Fatal(err)
	}
	send(two, options(streamTwo, func(o *streams.BatchAppendReq_Options) {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}}
	}), true, 1)
	refused(two, &shared.StreamDeleted{})
}

// correlation reads an id in either of its forms.
func correlation(t testing.TB, id *shared.UUID) uuid.UUID {
	t.Helper()
	if text := id.GetString_(); text != "" {
		return uuid.MustParse(text)
	}
	var u uuid.UUID
	for i := range 8 {
		u[i] = byte(uint64(id.GetStructured().GetMostSignificantBits()) >> (56 - 8*i))
		u[8+i] = byte(uint64(id.GetStructured().GetLeastSignificantBits()) >> (56 - 8*i))
	}
	return u
}
