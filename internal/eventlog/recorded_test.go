package eventlog

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/rapport-crm/rapport/internal/engineanswers"
)

// What real engines answered to an append is understood as it was meant: a success only where it names its revision, a
// refusal only where its meaning is known, and everything else as an outcome that nobody knows.
func TestRecordedAnswersToAppends(t *testing.T) {
	meanings := []struct{ words, want string }{ // the first whose words stand in the case's name
		{"not ready", "unknown"},
		{"right after the port opens", "unknown"},
		{"partial repetition", "wrong revision"},
		{"wrong:", "wrong revision"},
		{"deadline", "unknown"},
		{"stream name empty", "refused"},
		{"without type", "refused"},
		{"tombstoned", "refused"},
	}
	seen := map[string]int{}
	for _, c := range engineanswers.Load(t) {
		for _, message := range c.Responses {
			answer, ok := message.(*streams.BatchAppendResp)
			if !ok {
				continue
			}
			committed, err := committedBy(answer)
			got := meaning(err)
			if got == "committed" && answer.GetSuccess().GetCurrentRevision() != committed.Revision {
				t.Errorf("%s, %s: revision %d", c.Engine, c.Name, committed.Revision)
			}
			want := "committed"
			for _, m := range meanings {
				if strings.Contains(c.Name, m.words) {
					want = m.want
					break
				}
			}
			if answer.GetError() != nil && want == "committed" { // names do not tell all refusals
				want = map[bool]string{true: "unknown", false: "refused"}[answer.GetError().GetCode() == 0]
			}
			if got != want {
				t.Errorf("%s, %q: %s (%v), want %s", c.Engine, c.Name, got, err, want)
			}
			seen[got]++
		}
	}
	for _, kind := range []string{"committed", "wrong revision", "refused", "unknown"} {
		if seen[kind] == 0 {
			t.Errorf("no recorded answer is %s: the records lack it", kind)
		}
	}
}

func meaning(err error) string {
	var wrong *wrongRevisionError
	switch {
	case err == nil:
		return "committed"
	case errors.As(err, &wrong):
		return "wrong revision"
	case permanent(err):
		return "refused"
	}
	return "unknown"
}

// recordedRead plays a recorded answer to a read.
type recordedRead struct {
	grpc.ClientStream
	messages []proto.Message
	end      error
	trailer  metadata.MD
}

func (r *recordedRead) Recv() (*streams.ReadResp, error) {
	if len(r.messages) == 0 {
		return nil, r.end
	}
	m := r.messages[0].(*streams.ReadResp)
	r.messages = r.messages[1:]
	return m, nil
}

func (r *recordedRead) Trailer() metadata.MD { return r.trailer }

// What real engines answered to a read is read whole, or ends with an error that says what is wrong with it.
func TestRecordedAnswersToReads(t *testing.T) {
	reads := 0
	for _, c := range engineanswers.Load(t) {
		if c.Method != "Read" || c.Open || strings.Contains(c.Name, "subscribe") {
			continue
		}
		reads++
		read := &recordedRead{messages: c.Responses, end: c.Err(), trailer: metadata.New(c.Trailer)}
		if read.end == nil {
			read.end = io.EOF
		}
		p, err := collect(read, len(c.Responses)+1)
		got := fmt.Sprintf("%d events", len(p.events))
		switch {
		case errors.Is(err, errNotAPosition):
			got = "no position"
		case errors.Is(err, errNotThere):
			got = "no stream"
		case errors.Is(err, ErrStreamDeleted):
			got = "deleted"
		case err != nil && permanent(err):
			got = "refused"
		case notLeader(read.trailer):
			got = "elsewhere"
			if address, named := leaderIn(read.trailer); !named || !strings.Contains(address, ":") {
				t.Errorf("%s, %q: the leader is at %q", c.Engine, c.Name, address)
			}
		case err != nil:
			got = "unavailable"
		}
		want := fmt.Sprintf("%d events", len(c.Responses))
		switch {
		case strings.Contains(c.Name, "no position") || strings.Contains(c.Name, "from 1"):
			want = "no position"
		case strings.Contains(c.Name, "requires-leader"):
			want = "elsewhere"
		case strings.Contains(c.Name, "tombstoned"):
			want = "deleted"
		case strings.Contains(c.Name, "missing stream"), strings.Contains(c.Name, "deleted stream"):
			want = "no stream"
		case c.Code == 7 || c.Code == 16:
			want = "refused"
		case c.Code == 14:
			want = "unavailable"
		}
		if got != want {
			t.Errorf("%s, %q: %s (%v), want %s", c.Engine, c.Name, got, err, want)
		}
	}
	if reads == 0 {
		t.Error("no reads are recorded")
	}
}
