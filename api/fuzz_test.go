package api

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
)

// checkRefusal fails unless an error is a bad request that can be written as a problem.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	p := problemOf(err)
	if p.Status != http.StatusBadRequest || len(p.Errors) == 0 {
		t.Fatalf("not a bad request: %+v", p)
	}
	body, err := marshal(p)
	if err != nil || !utf8.Valid(body) || len(body) > 10_000 {
		t.Fatalf("a problem of %d bytes: %v", len(body), err)
	}
}

func FuzzDecodeCommand(f *testing.F) {
	var specs []domain.CommandSpec
	for _, def := range []domain.Definition{customer.Aggregate.Definition(), opportunity.Aggregate.Definition(), order.Aggregate.Definition()} {
		specs = append(specs, def.Commands...)
	}
	for i, spec := range specs {
		body, err := marshal(spec.Example)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint(i), body)
		f.Add(uint(i), []byte(`{}`)) // what is missing is the bus's to refuse
	}
	for _, body := range []string{
		``, `{`, `[]`, `null`, `{"a":1,"a":2}`, "{\"name\":\"\xff\"}", `{"amount":{"amount":1e9}}`, strings.Repeat(`{"x":`, 200), `{"tags":[[[]]]}`, `{} {}`,
		`{"occurredAt":"0000-00-00T00:00:00Z"}`, `{"lines":[{"quantity":"1e999999999"}]}`, `{"employees":99999999999999999999}`,
	} {
		f.Add(uint(0), []byte(body))
	}
	f.Fuzz(func(t *testing.T, which uint, body []byte) {
		spec := specs[which%uint(len(specs))]
		route := commandRoute{spec: spec, given: domain.GivenOf(spec.GoType())}
		command, err := decodeCommand(route, body, "")
		checkRefusal(t, err)
		if err != nil {
			return
		}
		again, err := marshal(command)
		if err != nil {
			t.Fatalf("%s does not encode: %v", spec.Type(), err)
		}
		_, err = decodeCommand(route, again, "")
		var invalid *domain.InvalidError
		if errors.As(err, &invalid) && !stands(body, invalid.Fields[0].Pointer) {
			return // an id or a day that was left out is written as an empty text
		}
		if err != nil {
			t.Fatalf("%s does not read back from %s: %v", spec.Type(), again, err)
		}
	})
}

// stands reports whether a JSON text has a value, and not null, where the pointer points.
func stands(text []byte, pointer string) bool {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return false
	}
	for token := range jsontext.Pointer(pointer).Tokens() {
		switch parent := value.(type) {
		case map[string]any:
			value = parent[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i >= len(parent) {
				return false
			}
			value = parent[i]
		default:
			return false
		}
	}
	return value != nil
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte(`{"items":[{"command":"customer.tag","id":"01900000-0000-7000-8000-000000000001","idempotencyKey":"k","ifMatch":7,"data":{"tag":"a"}}]}`))
	f.Add([]byte(`{"items":[{"data":[[[[`))
	f.Add([]byte(`{"stopOnError":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var batch BatchRequest
		checkRefusal(t, decodeObject(body, &batch, ""))
	})
}

// FuzzParameters tries everything that is read from a query string or a header.
func FuzzParameters(f *testing.F) {
	for _, text := range []string{
		"", "0", "-1", "12-7", "18446744073709551616", `"7"`, `W/"7"`, `"`, `""`, "*", "true", "a,b,,c", "2026-01-31", "2026-02-30", "2026-01-01T00:00:00+25:00",
		"main.customer-01900000-0000-7000-8000-000000000001", "+49 30", "\x00", "\xff", "text/html;q=0.1, */*;q=0", "Europe/Berlin", "../../etc/passwd", "end",
		"application/x-ndjson", strings.Repeat("a", 300), "%zz", "a=1&a=2", "a=%00",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkRefusal(t, checkQuery(text))
		_, err := ifMatch([]string{text})
		checkRefusal(t, err)
		_, err = parsePosition("after", text)
		checkRefusal(t, err)
		_, err = parseInstant("from", text, time.UTC)
		checkRefusal(t, err)
		_, err = parseBool("dryRun", text)
		checkRefusal(t, err)
		_, err = resource.ParseID(text)
		checkRefusal(t, err)
		checkRefusal(t, checkKey(text, false, "key"))
		if phone, err := parsePhone(text); err == nil && !domain.IsE164(phone) {
			t.Errorf("%q is no telephone number", phone)
		}
		accepted(text, mediaJSON, mediaSSE)
		h := http.Header{headerActor: {text}, headerActorKind: {text}}
		_, err = actorOf(h)
		checkRefusal(t, err)
		for _, name := range []string{"after", "limit", "types", "subject", "stream", text} {
			r := &http.Request{URL: &url.URL{RawQuery: url.Values{name: {text}}.Encode()}, Header: http.Header{"Last-Event-Id": {text}}}
			_, err := parseFeed(r)
			checkRefusal(t, err)
		}
		_, err = FunnelParameters{PipelineID: "01900000-0000-7000-8000-000000000001", From: text, Zone: text, Stages: text}.query()
		checkRefusal(t, err)
	})
}

func TestProblemsNeverTellWhatWentWrongInside(t *testing.T) {
	for _, err := range []error{
		errors.New("dial tcp 10.0.0.7: password=secret"),
		&domain.UnavailableError{What: "event log", Err: errors.New("password=secret")},
		errors.Join(domain.ErrCorrupt, errors.New("secret")),
	} {
		p := problemOf(err)
		body, marshalErr := marshal(p)
		if marshalErr != nil || p.Status < 500 || strings.Contains(string(body), "secret") {
			t.Errorf("%v becomes %s", err, body)
		}
	}
}

func TestTheDefaultPipelineIsTheProducts(t *testing.T) {
	for _, parameters := range []reflect.Type{reflect.TypeFor[FunnelParameters](), reflect.TypeFor[BoardParameters]()} {
		field, _ := parameters.FieldByName("PipelineID")
		if got := field.Tag.Get("default"); got != string(pipeline.DefaultID) {
			t.Errorf("%s: %s, want %s", parameters, got, pipeline.DefaultID)
		}
	}
}
