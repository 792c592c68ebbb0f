package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/api"
	"github.com/rapport-crm/rapport/domain"
)

// page is a part of the feed as JSON.
type page struct {
	Items []struct {
		Position domain.Position
		Type     string
		Stream   string
		Subjects []domain.ID
		Data     object
	}
	Next string
	End  bool
}

func (s *stack) page(query string) (p page) {
	s.t.Helper()
	a := s.do("GET", "/v1/events?"+query, nil)
	if a.StatusCode != 200 {
		s.t.Fatalf("%s: status %d: %s", query, a.StatusCode, a.body)
	}
	a.into(s.t, &p)
	return p
}

func TestFeedPages(t *testing.T) {
	s := start(t)
	var last api.Receipt
	for i := range 7 {
		last = s.command("/v1/customers", fmt.Sprint("c", i), person(fmt.Sprint("Person ", i)))
	}
	s.command("/v1/customers/"+string(last.ID)+"/tag", "t", object{"tag": "vip"})
	var names []string
	after, pages := "", 0
	for {
		p := s.page("types=customer.registered&limit=3&after=" + after)
		for _, e := range p.Items {
			names = append(names, e.Data["name"].(string))
		}
		pages++
		if after = p.Next; p.End {
			break
		}
	}
	if len(names) != 7 || names[0] != "Person 0" || names[6] != "Person 6" || pages < 3 {
		t.Errorf("%d pages with %v", pages, names)
	}
	if p := s.page("subject=" + string(last.ID) + "&types=customer."); len(p.Items) != 2 || p.Items[1].Type != "customer.tagged" {
		t.Errorf("of one subject: %+v", p)
	}
	if p := s.page("stream=" + last.Stream + "&after=" + last.Position.String()); len(p.Items) != 1 || p.Items[0].Stream != last.Stream {
		t.Errorf("of one stream: %+v", p)
	}
	if p := s.page("after=end"); len(p.Items) != 0 || !p.End {
		t.Errorf("after the end: %+v", p)
	}
	if p := s.page("stream=other.customer-" + string(last.ID)); len(p.Items) != 0 {
		t.Errorf("of another tenant: %+v", p)
	}
	for _, def := range append(s.bus.Definitions(), domain.Reservation) {
		for _, spec := range def.Events {
			s.page("limit=1&types=" + spec.Type())
		}
	}
	if p := s.page("types=reservation."); len(p.Items) != 0 || !p.End {
		t.Errorf("of claims, of which there is none: %+v", p)
	}
	for _, accept := range []string{"application/x-ndjson", "text/event-stream"} {
		if p := s.do("GET", "/v1/events?types=custmer.", nil, "Accept", accept).problem(t); p.Status != 400 || p.Code != "invalid" || p.Errors[0].Pointer != "types" {
			t.Errorf("%s of an unknown type: %+v", accept, p)
		}
	}
	lines := s.do("GET", "/v1/events?types=customer.", nil, "Accept", "application/x-ndjson")
	if n := strings.Count(string(lines.body), "\n"); n != 8 || lines.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d lines: %s", n, lines.body)
	}
	for query, pointer := range map[string]string{
		"after=x": "after", "after=-1": "after", "limit=0": "limit", "limit=1001": "limit", "limit=x": "limit", "types=": "", "types=a,,b": "types",
		"types=customer.registerd": "types", "types=customer.registered,custmer.": "types", "types=customer": "types", "types=.": "types", "types=customer.register": "types",
		"subject=x": "subject", "stream=x": "stream", "bogus=1": "bogus", "after=1%00": "after",
	} {
		a := s.do("GET", "/v1/events?"+query, nil)
		if pointer == "" {
			continue
		}
		if p := a.problem(t); p.Status != 400 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", query, p)
		}
	}
	if p := s.do("GET", "/v1/events", nil, "Last-Event-ID", "x").problem(t); p.Status != 400 || p.Errors[0].Pointer != "Last-Event-ID" {
		t.Errorf("last event id: %+v", p)
	}
	// A position of another log, or of a time before this one was restored.
	for _, accept := range []string{"application/json", "application/x-ndjson", "text/event-stream"} {
		for _, query := range []string{"after=9999999", "after=9999999&stream=" + last.Stream} {
			if p := s.do("GET", "/v1/events?"+query, nil, "Accept", accept).problem(t); p.Status != 400 || p.Errors[0].Pointer != "after" {
				t.Errorf("%s after what the log has not reached: %+v", accept, p)
			}
		}
		if p := s.do("GET", "/v1/events?after=end", nil, "Accept", accept, "Last-Event-ID", "9999999").problem(t); p.Status != 400 || p.Errors[0].Pointer != "Last-Event-ID" {
			t.Errorf("%s after an event that the log does not have: %+v", accept, p)
		}
	}
}

// live opens a live feed and calls see for each event, with its id and data, until see says that it has enough.
func (s *stack) live(lastEventID, query string, see func(id string, data object) bool) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.url+"/v1/events?"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("status %d, %v", res.StatusCode, res.Header)
	}
	id := ""
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var data object
			if err := json.Unmarshal([]byte(v), &data); err != nil {
				s.t.Fatal(err)
			}
			if see(id, data) {
				return
			}
		}
	}
	see("", nil) // the server has ended it
}

func TestLiveFeedResumesWithoutLossOrRepetition(t *testing.T) {
	s := start(t)
	const total = 40
	for i := range total / 2 {
		s.command("/v1/customers", fmt.Sprint("c", i), person(fmt.Sprint(i)))
	}
	var got []string
	last := ""
	for len(got) < total {
		s.live(last, "types=customer.", func(id string, data object) bool {
			if id == "" {
				t.Fatal("the feed ended")
			}
			if data["position"] != id {
				t.Fatalf("event at %v has id %s", data["position"], id)
			}
			last = id
			got = append(got, data["data"].(object)["name"].(string))
			if n := len(got) + total/2 - 1; len(got) <= total/2 && n < total { // one more while it is read
				s.command("/v1/customers", fmt.Sprint("c", n), person(fmt.Sprint(n)))
			}
			return len(got)%7 == 0 || len(got) == total
		})
	}
	for i, name := range got {
		if name != fmt.Sprint(i) {
			t.Fatalf("event %d is %s in %v", i, name, got)
		}
	}
}

// A14 of docs/faults.md.
func TestLiveFeedEndsWhenTheServerStops(t *testing.T) {
	s := start(t)
	s.command("/v1/customers", "c", person("Ann"))
	stopped := make(chan error, 1)
	seen := 0
	s.live("", "types=customer.", func(id string, _ object) bool {
		if id == "" {
			return true
		}
		seen++
		go func() { stopped <- s.stop() }()
		return false
	})
	if err := <-stopped; err != nil || seen != 1 {
		t.Errorf("stop: %v after %d events", err, seen)
	}
}

// TestLiveFeedOutlivesTheDeadlinesOfTheServer serves with next to no time for whole requests and answers. What of that time still
// bounds the connection when a feed has begun passes at once: the feed must not end by it.
func TestLiveFeedOutlivesTheDeadlinesOfTheServer(t *testing.T) {
	s := start(t)
	front := httptest.NewUnstartedServer(s.server)
	slow := &slowListener{Listener: front.Listener}
	front.Listener = slow
	front.Config.ReadTimeout, front.Config.WriteTimeout = time.Nanosecond, time.Nanosecond
	front.Start()
	defer front.Close()
	s.command("/v1/customers", "first", person("Ann"))
	back := s.url
	n := 0
	s.url = front.URL
	s.live("", "types=customer.", func(id string, _ object) bool {
		if id == "" {
			t.Fatal("the feed ended")
		}
		if n == 0 {
			slow.expire(t)
		}
		s.url = back // commands take the other way
		n++
		s.command("/v1/customers", fmt.Sprint("c", n), person("Ben"))
		return n == 5
	})
}

// slowListener lets no deadline of its connections pass before expire: a machine may take any time to read a request.
type slowListener struct {
	net.Listener

	mu      sync.Mutex
	conns   []*slowConn
	expired bool
}

// slowConn is a connection with its deadlines, zero for none.
type slowConn struct {
	net.Conn
	of          *slowListener
	read, write time.Time
}

func (l *slowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &slowConn{Conn: conn, of: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

// expire makes the deadlines count.
func (l *slowListener) expire(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expired = true
	for _, c := range l.conns {
		if err := errors.Join(c.Conn.SetReadDeadline(c.read), c.Conn.SetWriteDeadline(c.write)); err != nil {
			t.Error(err)
		}
	}
}

func (c *slowConn) SetReadDeadline(at time.Time) error {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.read = at; !c.of.expired {
		return nil
	}
	return c.Conn.SetReadDeadline(at)
}

func (c *slowConn) SetWriteDeadline(at time.Time) error {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.write = at; !c.of.expired {
		return nil
	}
	return c.Conn.SetWriteDeadline(at)
}
