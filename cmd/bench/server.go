package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/rapport-crm/rapport/domain"
)

const (
	startPatience = time.Minute           // for a server to become ready, its first start included
	stopPatience  = 30 * time.Second      // for a server to stop
	drainPatience = 2 * time.Minute       // for read models to reflect what was written
	pollInterval  = 20 * time.Millisecond // between looks at something awaited
	answerTimeout = 30 * time.Second      // of one request
)

// quiet keeps the log lines of parts that run in this process out of the way.
var quiet = slog.New(slog.DiscardHandler)

// server is the real binary, serving a data folder on a port of its own.
type server struct {
	dir     string
	address string // host:port of the API
	process *exec.Cmd
	errors  bytes.Buffer // what it says on stderr; read it after exited is closed
	exited  chan struct{}
}

// serve starts a server on a folder of its own, with additions to its environment, and waits until it is ready.
func (b *bench) serve(ctx context.Context, name string, environment ...string) (*server, error) {
	s, err := b.start(ctx, name, environment...)
	if err != nil {
		return nil, err
	}
	if err := s.await(ctx, s.healthy, startPatience); err != nil {
		return nil, errors.Join(fmt.Errorf("the server did not become ready: %w", err), s.stop())
	}
	return s, nil
}

// start starts a server, and waits until it answers.
func (b *bench) start(ctx context.Context, name string, environment ...string) (*server, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, exited: make(chan struct{})}
	s.process = exec.CommandContext(ctx, b.binary, "serve", "--data", dir, "--listen", "127.0.0.1:0")
	s.process.Cancel = func() error { return s.process.Process.Signal(syscall.SIGTERM) }
	s.process.WaitDelay = stopPatience
	s.process.Env = append(os.Environ(), environment...)
	s.process.Stderr = &s.errors
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.exited)
		_ = s.process.Wait() // stop tells what it said
	}()
	if err := s.await(ctx, s.listening, startPatience); err != nil {
		return nil, errors.Join(fmt.Errorf("the server did not start: %w", err), s.stop())
	}
	return s, nil
}

// await looks again and again until something is so.
func (s *server) await(ctx context.Context, so func(context.Context) bool, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !so(ctx) {
		select {
		case <-s.exited:
			return errors.New("it has ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// running is what a server says of itself in its folder.
type running struct {
	API        string `json:"api"`
	EventStore string `json:"eventstore"`
	Postgres   string `json:"postgres"`
}

func (s *server) running() (r running, err error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "running.json"))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

func (s *server) listening(context.Context) bool {
	r, err := s.running()
	s.address = strings.TrimPrefix(r.API, "http://")
	return err == nil && s.address != ""
}

func (s *server) healthy(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/readyz", nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err == nil && answer.StatusCode == http.StatusOK
}

// end ends the server, and returns what went wrong, with what the server said. Its folder stays.
func (s *server) end() error {
	_ = s.process.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.exited:
	case <-time.After(stopPatience):
		_ = s.process.Process.Kill()
		<-s.exited
	}
	if !s.process.ProcessState.Success() {
		return fmt.Errorf("rapport serve: %s\n%s", s.process.ProcessState, lastLines(s.errors.String(), 20))
	}
	return nil
}

// stop ends the server and removes its folder.
func (s *server) stop() error { return errors.Join(s.end(), discard(s.dir)) }

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// client is one connection to a server. It does little besides reading and writing, because it runs on the cores that are
// measured. It is not safe for concurrent use.
type client struct {
	conn     net.Conn
	in       *bufio.Reader
	out      []byte
	location string // of the last answer that had one
	answer   bytes.Buffer
}

func (s *server) dial() (*client, error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}, nil
}

// dialAll opens connections; closeAll closes them.
func (s *server) dialAll(n int) ([]*client, error) {
	var list []*client
	for range n {
		c, err := s.dial()
		if err != nil {
			closeAll(list)
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

func closeAll(list []*client) {
	for _, c := range list {
		c.conn.Close()
	}
}

// get returns the body of an answer, valid until the next request. Any status but 200 is an error.
func (c *client) get(path string) ([]byte, error) {
	c.out = fmt.Appendf(c.out[:0], "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", path)
	return c.exchange("GET " + path)
}

// post submits a command; a status that does not tell success is an error.
func (c *client) post(path, key string, body []byte) ([]byte, error) {
	c.out = fmt.Appendf(c.out[:0], "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, key, len(body), body)
	return c.exchange("POST " + path)
}

func (c *client) exchange(doing string) ([]byte, error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return nil, err
	}
	status, err := c.receive()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if status/100 != 2 {
		return nil, &statusError{doing, status, c.answer.String()}
	}
	return c.answer.Bytes(), nil
}

// receive reads one answer. http.ReadResponse costs several times as much, on the cores that are measured.
func (c *client) receive() (status int, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(line, []byte(" "))
	if status, err = strconv.Atoi(string(rest[:min(len(rest), 3)])); err != nil {
		return 0, fmt.Errorf("answer %q: %w", line, err)
	}
	length, chunked := int64(0), false
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return 0, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("Location")):
			c.location = string(value)
		}
	}
	c.answer.Reset()
	if !chunked {
		_, err = io.CopyN(&c.answer, c.in, length)
		return status, err
	}
	if _, err := c.answer.ReadFrom(httputil.NewChunkedReader(c.in)); err != nil {
		return 0, err
	}
	_, err = c.in.Discard(len("\r\n")) // where trailers would be
	return status, err
}

// statusError is an answer that does not tell success.
type statusError struct {
	doing  string
	status int
	body   string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.doing, e.status, e.body)
}

// receipt is what the measurements need of a command's receipt.
type receipt struct {
	ID       domain.ID       `json:"id"`
	Position domain.Position `json:"position"`
}

// drained waits until the read models of the server reflect a position, and returns how long that took.
func (s *server) drained(ctx context.Context, p domain.Position) (time.Duration, error) {
	c, err := s.dial()
	if err != nil {
		return 0, err
	}
	defer c.conn.Close()
	start := time.Now()
	for {
		_, err := c.get("/v1/customers?limit=1&minPosition=" + p.String())
		var status *statusError
		switch {
		case err == nil:
			return time.Since(start), nil
		case !errors.As(err, &status) || status.status != http.StatusServiceUnavailable:
			return 0, err
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case time.Since(start) > drainPatience:
			return 0, fmt.Errorf("the read models do not catch up: %w", err)
		}
	}
}
