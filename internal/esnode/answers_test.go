package esnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/rapport-crm/rapport/internal/engineanswers"
)

// answered is what a call brought, as a client sees it.
type answered struct {
	Responses []string // their form, see form
	Open      bool
	Code      string
	Message   string
	Trailer   map[string]string
}

// transient fields differ from one run of an engine to the next.
var transient = []protoreflect.Name{"commit_position", "prepare_position", "subscription_id"}

// form is a message as text, with # in the place of what differs from run to run and
// what only a person reads.
func form(m protoreflect.Message) string {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return fmt.Sprintf("%s(%v)", packed.GetTypeUrl(), err)
		}
		if _, ok := inner.(*shared.BadRequest); ok {
			return packed.GetTypeUrl() + "#"
		}
		return packed.GetTypeUrl() + form(inner.ProtoReflect())
	}
	fields := map[string]string{}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case slices.Contains(transient, field.Name()):
			fields[string(field.Name())] = "#"
		case field.IsMap():
			entries := map[string]string{}
			value.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				entries[key.String()] = value.String()
				if key.String() == metadataCreated {
					entries[metadataCreated] = "#"
				}
				return true
			})
			fields[string(field.Name())] = fmt.Sprint(entries)
		case field.IsList():
			var list []string
			for i := range value.List().Len() {
				list = append(list, form(value.List().Get(i).Message()))
			}
			fields[string(field.Name())] = fmt.Sprint(list)
		case field.Message() != nil:
			fields[string(field.Name())] = form(value.Message())
		default:
			fields[string(field.Name())] = fmt.Sprintf("%v", value.Interface())
			if text, ok := value.Interface().([]byte); ok {
				fields[string(field.Name())] = string(text)
			}
		}
		return true
	})
	text := "{"
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		text += name + ":" + fields[name] + " "
	}
	return strings.TrimSpace(text) + "}"
}

func forms(messages []proto.Message) (list []string) {
	for _, m := range messages {
		list = append(list, form(m.ProtoReflect()))
	}
	return list
}

// recordedAnswer is what the engine answered.
func recordedAnswer(c engineanswers.Case) answered {
	a := answered{Responses: forms(c.Responses), Open: c.Open, Trailer: map[string]string{}}
	if !c.Open {
		a.Code, a.Message = c.Code.String(), c.Message
	}
	maps.Copy(a.Trailer, c.Trailer)
	return a.generalised()
}

// generalised leaves out what differs from run to run.
func (a answered) generalised() answered {
	if _, ok := a.Trailer["leader-endpoint-port"]; ok {
		a.Trailer["leader-endpoint-port"] = "#"
	}
	a.Message, _, _ = strings.Cut(a.Message, " >> ") // since 26 what the storage has to say follows
	return a
}

// call makes a recorded call to a node. It ends the call after as many answers as the
// engine gave where the engine left it open.
func call(t *testing.T, conn *grpc.ClientConn, md metadata.MD, c engineanswers.Case, requests []proto.Message) answered {
	t.Helper()
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(testContext(t), md))
	defer cancel()
	client := streams.NewStreamsClient(conn)
	var trailer metadata.MD
	var got []proto.Message
	var err error
	switch c.Method {
	case "BatchAppend":
		var batch streams.Streams_BatchAppendClient
		if batch, err = client.BatchAppend(ctx); err != nil {
			t.Fatal(err)
		}
		for _, m := range requests {
			if sent := batch.Send(m.(*streams.BatchAppendReq)); sent != nil && !errors.Is(sent, io.EOF) {
				t.Fatal(sent)
			}
		}
		got, err = take(c, func() (proto.Message, error) { return batch.Recv() })
		if err != nil {
			trailer = batch.Trailer()
		}
	case "Append":
		var unary streams.Streams_AppendClient
		if unary, err = client.Append(ctx); err != nil {
			t.Fatal(err)
		}
		for _, m := range requests {
			if sent := unary.Send(m.(*streams.AppendReq)); sent != nil && !errors.Is(sent, io.EOF) {
				t.Fatal(sent)
			}
		}
		var resp *streams.AppendResp
		if resp, err = unary.CloseAndRecv(); err == nil {
			got = []proto.Message{resp}
		}
		trailer = unary.Trailer()
	case "Read":
		var read streams.Streams_ReadClient
		if read, err = client.Read(ctx, requests[0].(*streams.ReadReq)); err != nil {
			t.Fatal(err)
		}
		got, err = take(c, func() (proto.Message, error) { return read.Recv() })
		if err != nil || !c.Open {
			trailer = read.Trailer()
		}
	case "Delete":
		var resp *streams.DeleteResp
		if resp, err = client.Delete(ctx, requests[0].(*streams.DeleteReq), grpc.Trailer(&trailer)); err == nil {
			got = []proto.Message{resp}
		}
	case "Tombstone":
		var resp *streams.TombstoneResp
		if resp, err = client.Tombstone(ctx, requests[0].(*streams.TombstoneReq), grpc.Trailer(&trailer)); err == nil {
			got = []proto.Message{resp}
		}
	default:
		t.Fatalf("nobody calls %s", c.Method)
	}
	a := answered{Responses: forms(got), Open: c.Open && err == nil, Trailer: map[string]string{}}
	if !a.Open {
		a.Code, a.Message = status.Code(err).String(), status.Convert(err).Message()
	}
	for name, values := range trailer {
		if name != "content-type" {
			a.Trailer[name] = values[0]
		}
	}
	return a.generalised()
}

// take receives until the call ends, or until there are as many answers as recorded.
func take(c engineanswers.Case, receive func() (proto.Message, error)) (got []proto.Message, err error) {
	for !c.Open || len(got) < len(c.Responses) {
		m, err := receive()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, m)
	}
	return got, nil
}

// replay makes the recorded calls of an engine to a node, in their order.
type replay struct {
	t      *testing.T
	node   *Node
	conn   *grpc.ClientConn
	engine string
	marked uint64 // position of the event that the recorded reads of $all name
}

const (
	markedPrefix = "p-"       // the stream of that event begins so
	afterMarked  = 5          // events that were appended behind it
	oversized    = 1_400_000  // bytes of the events that were too long to be recorded
	farBeyond    = 1_000_000  // from the head to a position beyond it
	placeholder  = "recorded" // stream of requests that were not recorded
)

// A difference says why a node does not answer as an engine did.
type difference struct {
	name   string
	engine string // empty: every engine
	strict bool   // a strict node differs too
	why    string
}

// differences are all there are on purpose.
var differences = []difference{
	{name: "batch append, no events", strict: true, why: "an append of nothing has no position; the engines tell that of a record which nobody can read"},
	{name: "batch append, too large for one append", engine: engineanswers.KurrentDB, strict: true, why: "the limit is that of 24.2"},
	{name: "unary append, too large", engine: engineanswers.KurrentDB, strict: true, why: "the limit is that of 24.2"},
	{name: "read $all from a number that is no position of an event", why: "every number up to the head is a place in a log of ordinals"},
	{name: "read $all from 1", why: "1 is the position of an event"},
	{name: "subscribe to $all from a number that is no position of an event", why: "every number up to the head is a place in a log of ordinals"},
	{name: "subscribe to $all after the last event of ours, filter by stream prefix, window 32", why: "a checkpoint says how far was searched"},
	{name: "subscribe to $all from the start, filter by stream prefix, window 32", why: "a checkpoint says how far was searched"},
}

func differs(c engineanswers.Case, strict bool) bool {
	return slices.ContainsFunc(differences, func(d difference) bool {
		return d.name == c.Name && (d.engine == "" || d.engine == c.Engine) && (d.strict || !strict)
	})
}

// Cases that were asked in a situation of their own are replayed by tests of their own.
const (
	starting    = "right after the port opened"
	atFollower  = "at a follower"
	withUsers   = "with users"
	ordinarily  = "a node that is ready"
	whoNobody   = "nobody"
	whoStranger = "wrong password"
	whoLimited  = "user without rights"
)

// situation is the one in which a case was asked.
func situation(c engineanswers.Case) string {
	who, _, _ := strings.Cut(c.Name, ":")
	switch {
	case strings.HasPrefix(who, "follower"):
		return atFollower
	case who == whoNobody, who == whoStranger, who == whoLimited:
		return withUsers
	case strings.HasSuffix(c.Name, "after the port opened"), strings.HasSuffix(c.Name, "right after it"):
		return starting
	}
	return ordinarily
}

// requests are those of a case, with this node's positions.
func (r *replay) requests(c engineanswers.Case) []proto.Message {
	list := make([]proto.Message, len(c.Requests))
	for i, m := range c.Requests {
		list[i] = proto.Clone(m)
	}
	if len(list) == 0 {
		return unrecorded(c)
	}
	if strings.HasPrefix(c.Name, "unary append, too large") {
		return append(list, unrecorded(c)[1]) // only its options were recorded
	}
	read, ok := list[0].(*streams.ReadReq)
	if !ok || read.GetOptions().GetAll().GetPosition() == nil {
		return list
	}
	position := read.GetOptions().GetAll().GetPosition()
	switch {
	case strings.HasSuffix(c.Name, "from 1"):
	case strings.HasSuffix(c.Name, "beyond the end"):
		position.CommitPosition = r.node.store.synced() + farBeyond
	case strings.Contains(c.Name, "a number that is no position"):
		position.CommitPosition = r.marked + 1
	default:
		position.CommitPosition = r.marked
	}
	position.PreparePosition = position.CommitPosition
	return list
}

// unrecorded are requests as they must have been where they were not recorded.
func unrecorded(c engineanswers.Case) []proto.Message {
	id := &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewString()}}
	fields := map[string]string{metadataType: "test.happened", metadataContentType: contentTypeJSON}
	var data []byte
	if strings.Contains(c.Name, "too large") {
		data = make([]byte, oversized)
	}
	switch c.Method {
	case "BatchAppend":
		batch := c.Responses[0].(*streams.BatchAppendResp)
		return []proto.Message{&streams.BatchAppendReq{
			CorrelationId: batch.GetCorrelationId(), IsFinal: true,
			Options: &streams.BatchAppendReq_Options{
				StreamIdentifier:       batch.GetStreamIdentifier(),
				ExpectedStreamPosition: &streams.BatchAppendReq_Options_Any{},
			},
			ProposedMessages: []*streams.BatchAppendReq_ProposedMessage{{Id: id, Metadata: fields, Data: data}},
		}}
	case "Append":
		return []proto.Message{
			&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
				StreamIdentifier:       identifierOf(placeholder),
				ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
			}}},
			&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
				Id: id, Metadata: fields, Data: data,
			}}},
		}
	}
	return []proto.Message{&streams.ReadReq{Options: readOptions(fromAll(), 1)}}
}

func readOptions(options *streams.ReadReq_Options, count uint64) *streams.ReadReq_Options {
	options.CountOption = &streams.ReadReq_Options_Count{Count: count}
	return options
}

// mark appends what was appended beside the recorded calls, before the first that names
// a position.
func (r *replay) mark() {
	c := engineanswers.Find(r.t, r.engine, "read $all from the position of an event, two events")
	read := c.Responses[0].(*streams.ReadResp).GetEvent().GetEvent()
	name := string(read.GetStreamIdentifier().GetStreamName())
	suffix := strings.TrimPrefix(name, markedPrefix)
	r.marked = r.append(name, read)
	behind := map[string]*streams.ReadResp_ReadEvent_RecordedEvent{}
	for _, c := range engineanswers.Load(r.t) {
		for _, m := range c.Responses {
			if resp, ok := m.(*streams.ReadResp); ok && c.Engine == r.engine {
				behind[string(resp.GetEvent().GetEvent().GetStreamIdentifier().GetStreamName())] = resp.GetEvent().GetEvent()
			}
		}
	}
	for i := range afterMarked {
		name := fmt.Sprintf("after-%d%s", i, suffix)
		event := behind[name]
		if event == nil { // nobody read it
			event = proto.Clone(read).(*streams.ReadResp_ReadEvent_RecordedEvent)
			event.Id = &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewString()}}
		}
		r.append(name, event)
	}
}

func (r *replay) append(stream string, e *streams.ReadResp_ReadEvent_RecordedEvent) uint64 {
	id, err := uuidFromProto(e.GetId())
	if err != nil {
		r.t.Fatal(err)
	}
	event := newProposed(stream, id, e.GetMetadata()[metadataType], true, e.GetData(), e.GetCustomMetadata())
	done, err := r.node.store.append(testContext(r.t), stream, expectNoStream, []proposed{event})
	if err != nil {
		r.t.Fatal(err)
	}
	return done.position
}

func engines(t *testing.T, f func(t *testing.T, engine string, cases []engineanswers.Case)) {
	cases := map[string][]engineanswers.Case{}
	for _, c := range engineanswers.Load(t) {
		cases[c.Engine] = append(cases[c.Engine], c)
	}
	for engine, list := range cases {
		t.Run(engine, func(t *testing.T) { f(t, engine, list) })
	}
}

func TestAnswersAreThoseOfEngines(t *testing.T) {
	strict := &Strict{Offsets: true, InvalidPositions: true, NoIdentity: true, Deletion: true, SparseCheckpoints: true}
	for name, manners := range map[string]*Strict{"ordinary": nil, "strict": strict} {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, engine string, cases []engineanswers.Case) {
				n := openStrict(t, t.TempDir(), manners, time.Now)
				r := &replay{t: t, node: n, conn: dial(t, n), engine: engine}
				for _, c := range cases {
					if r.marked == 0 && strings.Contains(c.Name, "$all") {
						r.mark()
					}
					if situation(c) != ordinarily || differs(c, manners != nil) {
						continue
					}
					if diff := cmp.Diff(recordedAnswer(c), call(t, r.conn, nil, c, r.requests(c))); diff != "" {
						t.Errorf("%s: %s\n(-engine +node):\n%s", engine, c.Name, diff)
					}
				}
			})
		})
	}
}

// A node that has just started answers as engines did then, and when the time is over it
// answers what was asked.
func TestStartingNodeAnswersAsEnginesDo(t *testing.T) {
	engines(t, func(t *testing.T, engine string, cases []engineanswers.Case) {
		var clock stoppedClock
		n := openStrict(t, t.TempDir(), &Strict{NotReady: time.Hour, NoIdentity: true}, clock.now)
		r := &replay{t: t, node: n, conn: dial(t, n), engine: engine}
		replayed := 0
		for _, c := range cases {
			if situation(c) != starting {
				continue
			}
			replayed++
			if diff := cmp.Diff(recordedAnswer(c), call(t, r.conn, nil, c, r.requests(c))); diff != "" {
				t.Errorf("%s\n(-engine +node):\n%s", c.Name, diff)
			}
		}
		if replayed == 0 || n.store.synced() != 0 {
			t.Errorf("%d cases were replayed, the log ends at %d", replayed, n.store.synced())
		}
		impatient, cancel := context.WithCancel(testContext(t))
		cancel()
		if err := n.Ready(impatient); !errors.Is(err, context.Canceled) {
			t.Errorf("the node is ready: %v", err)
		}
		clock.add(time.Hour)
		if err := n.Ready(testContext(t)); err != nil {
			t.Error(err)
		}
		mustAppend(t, connect(t, n), "s", esdb.NoStream{}, events(1)...)
	})
}

// replayAll replays the cases of a situation.
func (r *replay) replayAll(cases []engineanswers.Case, asked string, md func(engineanswers.Case) metadata.MD) {
	r.t.Helper()
	replayed := 0
	for _, c := range cases {
		if situation(c) != asked {
			continue
		}
		replayed++
		if diff := cmp.Diff(recordedAnswer(c), call(r.t, r.conn, md(c), c, r.requests(c))); diff != "" {
			r.t.Errorf("%s\n(-engine +node):\n%s", c.Name, diff)
		}
	}
	if replayed == 0 {
		r.t.Errorf("no case is %s", asked)
	}
}

// ofEventStoreDB are the cases that only this engine was asked in a cluster and with users.
func ofEventStoreDB(t *testing.T) []engineanswers.Case {
	return slices.DeleteFunc(engineanswers.Load(t), func(c engineanswers.Case) bool { return c.Engine != engineanswers.EventStoreDB })
}

func TestFollowerAnswersAsEnginesDo(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{Follower: true, NoIdentity: true}, time.Now)
	r := &replay{t: t, node: n, conn: dialTo(t, n.FollowerAddr(), insecure.NewCredentials()), engine: engineanswers.EventStoreDB}
	// The log that was read began with an event of the engine's own.
	c := engineanswers.Find(t, engineanswers.EventStoreDB, "follower, no preference: read $all")
	first := c.Responses[0].(*streams.ReadResp).GetEvent().GetEvent()
	position := r.append(string(first.GetStreamIdentifier().GetStreamName()), first)
	if err := n.cluster.behind.reach(testContext(t), position, n.store.stop); err != nil {
		t.Fatal(err)
	}
	r.replayAll(ofEventStoreDB(t), atFollower, func(c engineanswers.Case) metadata.MD { return metadata.New(c.Metadata) })
}

func TestUsersAreAnsweredAsEnginesDo(t *testing.T) {
	n := openStrict(t, t.TempDir(), &Strict{NoIdentity: true, Users: []User{{Name: "limited", Password: "right"}}}, time.Now)
	r := &replay{t: t, node: n, conn: dial(t, n), engine: engineanswers.EventStoreDB}
	r.replayAll(ofEventStoreDB(t), withUsers, func(c engineanswers.Case) metadata.MD {
		who, _, _ := strings.Cut(c.Name, ":")
		return map[string]metadata.MD{whoNobody: nil, whoStranger: basic("limited", "wrong"), whoLimited: basic("limited", "right")}[who]
	})
}
