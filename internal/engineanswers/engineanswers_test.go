package engineanswers

import (
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestEveryRecordDecodes(t *testing.T) {
	type named struct{ engine, name string }
	seen := map[named]bool{}
	for _, c := range Load(t) {
		key := named{c.Engine, c.Name}
		if c.Engine != EventStoreDB && c.Engine != KurrentDB || c.Name == "" || seen[key] {
			t.Errorf("the case %+v has no name of its own", key)
		}
		seen[key] = true
		if len(c.Responses) == 0 && c.Open {
			t.Errorf("%s: %s: a call that goes on has brought nothing", c.Engine, c.Name)
		}
		for name := range c.Trailer {
			if name == "content-length" || name == "grpc-encoding" {
				t.Errorf("%s: %s: trailer %s is the transport's", c.Engine, c.Name, name)
			}
		}
	}
	if len(seen) < 100 {
		t.Errorf("there are only %d cases", len(seen))
	}
}

// The answer that was once taken for a success: an error whose code is 0.
func TestNotReadyHasNoCode(t *testing.T) {
	for engine, name := range map[string]string{
		EventStoreDB: "batch append 418 ms after the port opened",
		KurrentDB:    "batch append 1292 ms after the port opened",
	} {
		c := Find(t, engine, name)
		if !c.Open || c.Err() != nil || len(c.Responses) != 1 {
			t.Fatalf("%s: %+v", engine, c)
		}
		answer := c.Responses[0].(*streams.BatchAppendResp)
		if answer.GetSuccess() != nil || answer.GetError() == nil || answer.GetError().GetCode() != 0 ||
			answer.GetError().GetMessage() != "Server Is Not Ready" {
			t.Errorf("%s: %v", engine, answer)
		}
	}
}

func TestStatusAndTrailer(t *testing.T) {
	c := Find(t, EventStoreDB, "follower, requires-leader: read $all")
	if status.Code(c.Err()) != codes.NotFound || c.Trailer["exception"] != "not-leader" || c.Trailer["leader-endpoint-host"] == "" {
		t.Errorf("%+v", c)
	}
	if len(c.Requests) != 1 || c.Requests[0].(*streams.ReadReq).GetOptions().GetAll() == nil {
		t.Errorf("the request is %v", c.Requests)
	}
}
