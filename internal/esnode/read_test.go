package esnode

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// numbers are the payloads events() gives the events from..to, in that order.
func numbers(from, to int) []string {
	list := []string{}
	step := 1
	if to < from {
		step = -1
	}
	for i := from; i != to+step; i += step {
		list = append(list, fmt.Sprintf(`{"n":%d}`, i))
	}
	return list
}

func TestReadStreamFromEverywhere(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(10)...)
	for _, tc := range []struct {
		name      string
		direction esdb.Direction
		from      esdb.StreamPosition
		count     uint64
		want      []string
	}{
		{"forwards from the start", esdb.Forwards, esdb.Start{}, everything, numbers(0, 9)},
		{"forwards, some", esdb.Forwards, esdb.Start{}, 3, numbers(0, 2)},
		{"forwards includes its start", esdb.Forwards, esdb.Revision(4), 2, numbers(4, 5)},
		{"forwards past the end", esdb.Forwards, esdb.Revision(10), 5, []string{}},
		{"none", esdb.Forwards, esdb.Start{}, 0, []string{}},
		{"backwards from the end", esdb.Backwards, esdb.End{}, everything, numbers(9, 0)},
		{"the last", esdb.Backwards, esdb.End{}, 1, numbers(9, 9)},
		{"backwards includes its start", esdb.Backwards, esdb.Revision(4), 2, numbers(4, 3)},
		{"backwards from past the end", esdb.Backwards, esdb.Revision(99), 1, numbers(9, 9)},
		{"backwards from the start", esdb.Backwards, esdb.Start{}, everything, numbers(0, 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list, err := readStream(t, c, "s", esdb.ReadStreamOptions{Direction: tc.direction, From: tc.from}, tc.count)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, data(list)); diff != "" {
				t.Errorf("events differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadOfAMissingStreamIsNotFound(t *testing.T) {
	_, c := fresh(t)
	for _, stream := range []string{"none", "$users", "$$none"} {
		_, err := readStream(t, c, stream, esdb.ReadStreamOptions{}, 1)
		wantCode(t, err, esdb.ErrorCodeResourceNotFound)
	}
	meta, err := c.GetStreamMetadata(testContext(t), "none", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}})
	wantCode(t, err, esdb.ErrorCodeResourceNotFound)
	if meta != nil {
		t.Errorf("metadata %+v", meta)
	}
}

// More than a page, in both directions, of large and small events.
func TestReadsLongerThanAPage(t *testing.T) {
	_, c := fresh(t)
	const total = 2*pageMessages + 7
	mustAppend(t, c, "s", esdb.NoStream{}, events(total)...)
	big := make([]esdb.EventData, 4)
	for i := range big {
		big[i] = esdb.EventData{EventType: "big", Data: []byte(strings.Repeat("x", pageBytes-i))}
	}
	mustAppend(t, c, "big", esdb.NoStream{}, big...)
	for _, direction := range []esdb.Direction{esdb.Forwards, esdb.Backwards} {
		var from esdb.StreamPosition = esdb.Start{}
		var fromAll esdb.AllPosition = esdb.Start{}
		want := numbers(0, total-1)
		if direction == esdb.Backwards {
			from, fromAll, want = esdb.End{}, esdb.End{}, numbers(total-1, 0)
		}
		list, err := readStream(t, c, "s", esdb.ReadStreamOptions{Direction: direction, From: from}, everything)
		if diff := cmp.Diff(want, data(list)); diff != "" || err != nil {
			t.Errorf("error %v, stream differs (-want +got):\n%s", err, diff)
		}
		if list, err = readStream(t, c, "big", esdb.ReadStreamOptions{Direction: direction, From: from}, everything); err != nil || len(list) != len(big) {
			t.Errorf("read %d big events, error %v", len(list), err)
		}
		all := readAll(t, c, esdb.ReadAllOptions{Direction: direction, From: fromAll}, everything)
		if len(all) != total+len(big)+1 {
			t.Errorf("$all has %d events", len(all))
		}
		for i, e := range all {
			want := uint64(i + 1)
			if direction == esdb.Backwards {
				want = uint64(len(all) - i)
			}
			if e.Event.Position.Commit != want {
				t.Fatalf("event %d of $all is at %+v, want %d", i, e.Event.Position, want)
			}
		}
	}
}

func TestReadAllFromAPosition(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(5)...)
	list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything)
	if err != nil {
		t.Fatal(err)
	}
	third := list[2].Event.Position
	for _, tc := range []struct {
		name      string
		direction esdb.Direction
		from      esdb.AllPosition
		count     uint64
		want      []string
	}{
		{"forwards includes its start", esdb.Forwards, third, everything, numbers(2, 4)},
		{"backwards excludes its start", esdb.Backwards, third, 2, numbers(1, 0)},
		{"forwards from the end", esdb.Forwards, esdb.End{}, everything, []string{}},
		{"backwards from the start", esdb.Backwards, esdb.Start{}, everything, []string{}},
		{"backwards from the end", esdb.Backwards, esdb.End{}, 2, numbers(4, 3)},
		{"forwards from beyond the end", esdb.Forwards, esdb.Position{Commit: 1 << 40, Prepare: 1 << 40}, 1, []string{}},
		{"backwards from beyond the end", esdb.Backwards, esdb.Position{Commit: 1 << 40, Prepare: 1 << 40}, 1, numbers(4, 4)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := data(readAll(t, c, esdb.ReadAllOptions{Direction: tc.direction, From: tc.from}, tc.count))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("events differ (-want +got):\n%s", diff)
			}
		})
	}
	s, err := c.ReadAll(testContext(t), esdb.ReadAllOptions{From: esdb.Position{Commit: 1, Prepare: 2}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = drain(s)
	wantCode(t, err, esdb.ErrorCodeUnknown)
}

func setMetadata(t *testing.T, c *esdb.Client, stream string, set func(*esdb.StreamMetadata)) {
	t.Helper()
	var meta esdb.StreamMetadata
	set(&meta)
	if _, err := c.SetStreamMetadata(testContext(t), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, meta); err != nil {
		t.Fatal(err)
	}
}

func TestStreamMetadataLimitsReads(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(10)...)
	read := func(opts esdb.ReadStreamOptions, count uint64) []string {
		t.Helper()
		list, err := readStream(t, c, "s", opts, count)
		if err != nil {
			t.Fatal(err)
		}
		return data(list)
	}
	check := func(what string, want, got []string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	setMetadata(t, c, "s", func(m *esdb.StreamMetadata) { m.SetMaxCount(3) })
	check("$maxCount forwards", numbers(7, 8), read(esdb.ReadStreamOptions{}, 2))
	check("$maxCount backwards", numbers(9, 7), read(esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, everything))

	setMetadata(t, c, "s", func(m *esdb.StreamMetadata) { m.SetTruncateBefore(6) })
	check("$tb", numbers(6, 9), read(esdb.ReadStreamOptions{}, everything))
	check("$tb below the start", numbers(8, 9), read(esdb.ReadStreamOptions{From: esdb.Revision(8)}, everything))

	setMetadata(t, c, "s", func(m *esdb.StreamMetadata) { m.SetTruncateBefore(10) })
	check("$tb above the end", []string{}, read(esdb.ReadStreamOptions{}, everything))
	mustAppend(t, c, "s", esdb.Revision(9), event("tested", `{"n":10}`))
	check("append after $tb", numbers(10, 10), read(esdb.ReadStreamOptions{}, everything))

	setMetadata(t, c, "s", func(*esdb.StreamMetadata) {})
	check("no limits", numbers(0, 10), read(esdb.ReadStreamOptions{}, everything))

	// A metadata stream shows its last event only.
	if list, err := readStream(t, c, "$$s", esdb.ReadStreamOptions{}, everything); err != nil || len(list) != 1 || list[0].Event.EventNumber != 3 {
		t.Errorf("$$s: %d events, error %v", len(list), err)
	}
	// Metadata that cannot be understood limits nothing.
	mustAppend(t, c, "$$s", esdb.Any{}, event("$metadata", `{"$maxCount":"three","$tb":-4,"$maxAge":1e400}`))
	check("nonsense", numbers(0, 10), read(esdb.ReadStreamOptions{}, everything))
	mustAppend(t, c, "$$s", esdb.Any{}, event("$metadata", `not JSON`))
	check("no JSON", numbers(0, 10), read(esdb.ReadStreamOptions{}, everything))
}

func TestMaxAgeHidesOldEvents(t *testing.T) {
	var clock atomic.Int64
	start := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	now := func() time.Time { return start.Add(time.Duration(clock.Load())) }
	n := openNodeAt(t, t.TempDir(), now)
	c := connect(t, n)
	list := events(4)
	for i := range list {
		mustAppend(t, c, "s", esdb.Any{}, list[i])
		clock.Add(int64(time.Hour))
	}
	setMetadata(t, c, "s", func(m *esdb.StreamMetadata) { m.SetMaxAge(2*time.Hour + time.Minute) })
	for _, opts := range []esdb.ReadStreamOptions{{}, {Direction: esdb.Backwards, From: esdb.End{}}} {
		want := numbers(2, 3)
		if opts.Direction == esdb.Backwards {
			want = numbers(3, 2)
		}
		got, err := readStream(t, c, "s", opts, everything)
		if diff := cmp.Diff(want, data(got)); diff != "" || err != nil {
			t.Errorf("error %v, events (-want +got):\n%s", err, diff)
		}
	}
	clock.Add(int64(24 * time.Hour))
	// Emptied by age is not the same as never written.
	if got, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything); err != nil || len(got) != 0 {
		t.Errorf("read %d events, error %v; want a plain end", len(got), err)
	}
	if all := readAll(t, c, esdb.ReadAllOptions{}, everything); len(all) != 6 {
		t.Errorf("$all has %d events, want 6", len(all))
	}
}

func TestLinksAreResolvedOnRequest(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "target", esdb.NoStream{}, events(2)...)
	link := func(to string) esdb.EventData { return esdb.EventData{EventType: "$>", Data: []byte(to)} }
	mustAppend(t, c, "links", esdb.NoStream{}, link("1@target"), link("7@target"), link("0@none"), link("nonsense"), event("plain", "{}"))

	plain, err := readStream(t, c, "links", esdb.ReadStreamOptions{}, everything)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range plain {
		if e.Link != nil || e.Event.StreamID != "links" {
			t.Errorf("unresolved read gave %+v", e)
		}
	}
	resolved, err := readStream(t, c, "links", esdb.ReadStreamOptions{ResolveLinkTos: true}, everything)
	if err != nil || len(resolved) != 5 {
		t.Fatalf("read %d events, error %v", len(resolved), err)
	}
	if e := resolved[0]; e.Link == nil || e.Link.EventNumber != 0 || e.Event == nil || e.Event.StreamID != "target" || e.Event.EventNumber != 1 {
		t.Errorf("resolved %+v", e)
	}
	if *resolved[0].Commit != resolved[0].Link.Position.Commit {
		t.Errorf("commit position %d, want the link's, %d", *resolved[0].Commit, resolved[0].Link.Position.Commit)
	}
	for _, e := range resolved[1:4] {
		if e.Event != nil || e.Link == nil {
			t.Errorf("a link to nowhere gave %+v", e)
		}
	}
	if e := resolved[4]; e.Link != nil || e.Event.EventType != "plain" {
		t.Errorf("a plain event became %+v", e)
	}
}

// What the Go client never asks for: text ids, the stream's ends, filtered reads.
func TestReadOptionsOfOtherClients(t *testing.T) {
	n, c := fresh(t)
	written := events(6)
	mustAppend(t, c, "s", esdb.NoStream{}, written...)
	setMetadata(t, c, "s", func(m *esdb.StreamMetadata) { m.SetTruncateBefore(2) })
	raw := streams.NewStreamsClient(dial(t, n))
	read := func(options *streams.ReadReq_Options) ([]*streams.ReadResp, error) {
		call, err := raw.Read(testContext(t), &streams.ReadReq{Options: options})
		if err != nil {
			t.Fatal(err)
		}
		var list []*streams.ReadResp
		for {
			resp, err := call.Recv()
			if errors.Is(err, io.EOF) {
				return list, nil
			}
			if err != nil {
				return list, err
			}
			list = append(list, resp)
		}
	}
	byName := &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("s")},
		RevisionOption:   &streams.ReadReq_Options_StreamOptions_Start{Start: &shared.Empty{}},
	}}
	list, err := read(&streams.ReadReq_Options{
		StreamOption: byName, CountOption: &streams.ReadReq_Options_Count{Count: everything},
		UuidOption:    &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_String_{String_: &shared.Empty{}}},
		ControlOption: &streams.ReadReq_Options_ControlOption{Compatibility: 1},
	})
	if err != nil || len(list) != 6 {
		t.Fatalf("read %d messages, error %v", len(list), err)
	}
	if list[0].GetFirstStreamPosition() != 2 || list[5].GetLastStreamPosition() != 5 {
		t.Errorf("first and last position: %v, %v", list[0], list[5])
	}
	if got := list[1].GetEvent().GetEvent().GetId().GetString_(); got != written[2].EventID.String() {
		t.Errorf("id %q, want %s", got, written[2].EventID)
	}

	// The end of the stream is told however little of it is read, as EventStoreDB does.
	for _, direction := range []streams.ReadReq_Options_ReadDirection{streams.ReadReq_Options_Forwards, streams.ReadReq_Options_Backwards} {
		list, err := read(&streams.ReadReq_Options{
			StreamOption: &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
				StreamIdentifier: byName.Stream.StreamIdentifier,
				RevisionOption:   &streams.ReadReq_Options_StreamOptions_Revision{Revision: 3},
			}},
			ReadDirection: direction, CountOption: &streams.ReadReq_Options_Count{Count: 1},
			ControlOption: &streams.ReadReq_Options_ControlOption{Compatibility: 1},
		})
		if err != nil || len(list) != 2 || list[0].GetEvent().GetEvent().GetStreamRevision() != 3 || list[1].GetLastStreamPosition() != 5 {
			t.Errorf("one event %v: %v, error %v", direction, list, err)
		}
	}

	all := &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}},
	}}
	filter := func(f *streams.ReadReq_Options_FilterOptions) *streams.ReadReq_Options {
		return &streams.ReadReq_Options{
			StreamOption: all, ReadDirection: streams.ReadReq_Options_Backwards,
			CountOption:  &streams.ReadReq_Options_Count{Count: 3},
			FilterOption: &streams.ReadReq_Options_Filter{Filter: f},
		}
	}
	byPrefix := func(prefix ...string) *streams.ReadReq_Options_FilterOptions {
		return &streams.ReadReq_Options_FilterOptions{Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: prefix},
		}}
	}
	list, err = read(filter(byPrefix("s")))
	if err != nil || len(list) != 3 || string(list[0].GetEvent().GetEvent().GetData()) != `{"n":5}` {
		t.Errorf("filtered read: %v, error %v", list, err)
	}
	badRegex := &streams.ReadReq_Options_FilterOptions{Filter: &streams.ReadReq_Options_FilterOptions_EventType{
		EventType: &streams.ReadReq_Options_FilterOptions_Expression{Regex: "("},
	}}
	onStream := filter(byPrefix("s"))
	onStream.StreamOption = byName
	for name, options := range map[string]*streams.ReadReq_Options{
		"bad regex":            filter(badRegex),
		"no expression":        filter(&streams.ReadReq_Options_FilterOptions{}),
		"empty expression":     filter(byPrefix()),
		"too long":             filter(byPrefix(strings.Repeat("x", MaxFilterBytes+1))),
		"filter on a stream":   onStream,
		"neither of them":      {},
		"no options":           nil,
		"backwards subscribed": {StreamOption: all, ReadDirection: streams.ReadReq_Options_Backwards, CountOption: &streams.ReadReq_Options_Subscription{}},
	} {
		if _, err := read(options); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: error %v, want InvalidArgument", name, err)
		}
	}
}
