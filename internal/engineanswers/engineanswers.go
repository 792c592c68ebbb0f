// Package engineanswers holds what real engines answered to raw calls of the streams
// protocol, for the tests of what imitates an engine and of what talks to one. The
// records are in testdata; the README there says how they were made.
package engineanswers

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The engines that were asked.
const (
	EventStoreDB = "eventstoredb-24.2.0"
	KurrentDB    = "kurrentdb-26.1.0"
)

// maxLineBytes bounds one record.
const maxLineBytes = 1 << 20

//go:embed testdata/*.jsonl
var records embed.FS

// transportTrailers are recorded with the others and say nothing about the answer.
var transportTrailers = []string{"content-length", "grpc-encoding"}

// Case is one call and what the engine answered.
type Case struct {
	// Engine is EventStoreDB or KurrentDB.
	Engine string
	// Name says in words what was asked. An engine has each name once.
	Name string
	// Method is the name of the call within the Streams service: "BatchAppend".
	Method string
	// Metadata is what the caller sent beside the messages. What stands for a
	// password is described and not recorded.
	Metadata map[string]string
	// Requests are the messages sent, nil where they were too long to be recorded.
	Requests []proto.Message
	// Responses are the messages received, in order.
	Responses []proto.Message
	// Open says that the call had not ended when it was recorded.
	Open bool
	// Code and Message are the status of a call that ended.
	Code    codes.Code
	Message string
	// Trailer is what the engine sent with the status, but for the transport's own.
	Trailer map[string]string
}

// Err is what a client's call ends with: nil for a call that is open or ended well.
func (c Case) Err() error { return status.Error(c.Code, c.Message) }

// Load returns all cases, those of one engine after those of the other.
func Load(t testing.TB) []Case {
	t.Helper()
	files, err := records.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var cases []Case
	for _, file := range files {
		text, err := records.ReadFile(path.Join("testdata", file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, maxLineBytes)
		for lines.Scan() {
			c, err := decode(lines.Bytes())
			if err != nil {
				t.Fatalf("%s: %v", file.Name(), err)
			}
			c.Engine = strings.TrimSuffix(file.Name(), ".jsonl")
			cases = append(cases, c)
		}
		if err := lines.Err(); err != nil {
			t.Fatalf("%s: %v", file.Name(), err)
		}
	}
	return cases
}

// Find returns the case of an engine with a name. A missing one ends the test.
func Find(t testing.TB, engine, name string) Case {
	t.Helper()
	for _, c := range Load(t) {
		if c.Engine == engine && c.Name == name {
			return c
		}
	}
	t.Fatalf("%s was not asked %q", engine, name)
	return Case{}
}

// recorded is a line of the files.
type recorded struct {
	Case      string            `json:"case"`
	Method    string            `json:"method"`
	Request   []string          `json:"request"`
	Metadata  map[string]string `json:"metadata"`
	Responses []struct {
		Hex string `json:"hex"`
	} `json:"responses"`
	Status struct {
		Code     json.RawMessage   `json:"code"` // a number, or "open"
		Details  string            `json:"details"`
		Metadata map[string]string `json:"metadata"`
	} `json:"status"`
}

func decode(line []byte) (Case, error) {
	var r recorded
	if err := json.Unmarshal(line, &r); err != nil {
		return Case{}, err
	}
	c := Case{
		Name: r.Case, Method: path.Base(r.Method), Metadata: r.Metadata,
		Open: string(r.Status.Code) == `"open"`, Trailer: r.Status.Metadata,
	}
	if !c.Open {
		if err := json.Unmarshal(r.Status.Code, &c.Code); err != nil {
			return Case{}, fmt.Errorf("%s: status: %w", c.Name, err)
		}
		c.Message = r.Status.Details
	}
	for _, name := range transportTrailers {
		delete(c.Trailer, name)
	}
	request, response, ok := messageTypes(c.Method)
	if !ok {
		return Case{}, fmt.Errorf("%s: no messages are known of method %s", c.Name, r.Method)
	}
	for _, text := range r.Request {
		if strings.HasSuffix(text, " bytes") { // its size instead of the message
			break
		}
		m := proto.Clone(request)
		if err := unmarshalHex(text, m); err != nil {
			return Case{}, fmt.Errorf("%s: request: %w", c.Name, err)
		}
		c.Requests = append(c.Requests, m)
	}
	for _, text := range r.Responses {
		m := proto.Clone(response)
		if err := unmarshalHex(text.Hex, m); err != nil {
			return Case{}, fmt.Errorf("%s: response: %w", c.Name, err)
		}
		c.Responses = append(c.Responses, m)
	}
	return c, nil
}

func unmarshalHex(text string, m proto.Message) error {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return err
	}
	return proto.Unmarshal(raw, m)
}

// messageTypes returns an empty message of each type that a call of the Streams
// service exchanges.
func messageTypes(method string) (request, response proto.Message, ok bool) {
	switch method {
	case "BatchAppend":
		return &streams.BatchAppendReq{}, &streams.BatchAppendResp{}, true
	case "Append":
		return &streams.AppendReq{}, &streams.AppendResp{}, true
	case "Read":
		return &streams.ReadReq{}, &streams.ReadResp{}, true
	case "Delete":
		return &streams.DeleteReq{}, &streams.DeleteResp{}, true
	case "Tombstone":
		return &streams.TombstoneReq{}, &streams.TombstoneResp{}, true
	}
	return nil, nil, false
}
