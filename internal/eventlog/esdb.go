package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
)

// Deadlines. The client's own are none for reads and subscriptions.
const (
	appendDeadline   = 5 * time.Second  // of one append: a command has time for others when a leader hangs
	readDeadline     = 30 * time.Second // of one page of a read
	searchFactor     = 4                // times readDeadline, for one page of $all whose events are searched for among others
	readPatience     = 3 * time.Second  // with a node that refuses a read for the moment
	watchdogInterval = 15 * time.Second // after which a silent subscription is compared with the head of the log
	firstBackoff     = 50 * time.Millisecond
	lastBackoff      = 5 * time.Second
)

// maxIdle is how many goroutines wait for the next request: as many as are at work in a busy server.
const maxIdle = 64

// Discovery is kept short: it cannot be cancelled, and a client whose discovery failed is replaced anyway.
const (
	maxDiscoverAttempts = 3
	maxGossipTimeout    = 5 // seconds
)

// timing is the set of durations, so that tests need not wait for them.
type timing struct {
	append, read, patience, watchdog, firstBackoff, lastBackoff time.Duration
}

// ESDB is a Log on an EventStoreDB node, a cluster or the embedded node.
//
// Invariants:
//  1. No request waits for the client alone: the client's connection machinery ignores contexts and can block for ever, so
//     each call runs in its own goroutine and the caller waits for the result or its context. So it is with appends that go
//     past the client (see appendCall).
//  2. A client that lost its connection is dropped as a whole (see connection). It would stay closed for ever after a
//     failed discovery, and leak its old connection after a successful one.
//  3. Every goroutine is counted in work and ends when the client is closed; Close waits for them.
type ESDB struct {
	config esdb.Configuration
	logger *slog.Logger
	timing timing

	namespace string   // see namespace.go
	secret    string   // what SecretCheck made of it; empty when this process has none
	landmark  Landmark // nil when there is none

	ours      atomic.Pointer[space] // nil until it is known
	newest    atomic.Uint64         // the newest commit position seen; see saw
	unbatched atomic.Bool           // appends are the client's
	marks     landmarks
	head      headProbe
	wire      wire

	closing chan struct{} // closed by Close
	work    sync.WaitGroup
	jobs    chan func()   // to idle goroutines
	idle    chan struct{} // holds a token for each of them

	mu      sync.Mutex
	current *connection              // nil until needed, and after a loss
	appends *appendCall              // nil until needed
	open    map[*connection]struct{} // those whose client is not closed
	closed  bool
}

var _ Log = (*ESDB)(nil)

// An Option adjusts Dial.
type Option func(*ESDB)

// WithLogger sends log lines to logger; the default is slog.Default. Lines of the client itself are at level Debug.
func WithLogger(logger *slog.Logger) Option { return func(l *ESDB) { l.logger = logger } }

// WithoutBatchAppend leaves all appends to the client, as they are with clusters, TLS and users.
func WithoutBatchAppend() Option { return func(l *ESDB) { l.unbatched.Store(true) } }

// WithNamespace chooses whose streams in the store are ours; see ParseNamespace. The default is DefaultNamespace.
func WithNamespace(namespace string) Option { return func(l *ESDB) { l.namespace = namespace } }

// WithSecret names the secret of reservations: a log that was begun with another one is refused with ErrOtherSecret, and
// one that is begun now notes which it was.
func WithSecret(secret []byte) Option { return func(l *ESDB) { l.secret = SecretCheck(secret) } }

// WithLandmark finds places in the log from which to read on to any number, where the default is the beginning of the log.
func WithLandmark(find Landmark) Option { return func(l *ESDB) { l.landmark = find } }

func withTiming(t timing) Option { return func(l *ESDB) { l.timing = t } }

// Dial prepares a log on the node or cluster of a connection string such as "esdb://127.0.0.1:2113?tls=false". It returns
// an error for a string that is malformed or has an unknown setting. It does not wait for the node: requests do, and say
// so when it does not answer. The caller calls Close.
func Dial(ctx context.Context, connectionString string, options ...Option) (*ESDB, error) {
	if err := checkSettings(connectionString); err != nil {
		return nil, err
	}
	config, err := esdb.ParseConnectionString(connectionString)
	var malformed *url.Error
	if errors.As(err, &malformed) {
		err = malformed.Err // without the string, which may hold a password
	}
	if err != nil {
		return nil, fmt.Errorf("event log connection string: %w", err)
	}
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("event log connection string: %w", err)
	}
	l := &ESDB{
		namespace: DefaultNamespace,

		config:  *config,
		logger:  slog.Default(),
		timing:  timing{appendDeadline, readDeadline, readPatience, watchdogInterval, firstBackoff, lastBackoff},
		closing: make(chan struct{}),
		jobs:    make(chan func()),
		idle:    make(chan struct{}, maxIdle),
		open:    map[*connection]struct{}{},
	}
	l.unbatched.Store(!beside(config))
	for _, o := range options {
		o(l)
	}
	if _, err := ParseNamespace(l.namespace); err != nil {
		return nil, err
	}
	l.config.MaxDiscoverAttempts = min(l.config.MaxDiscoverAttempts, maxDiscoverAttempts)
	l.config.GossipTimeout = min(l.config.GossipTimeout, maxGossipTimeout)
	l.config.Logger = func(level esdb.LogLevel, format string, args ...any) {
		if l.logger.Enabled(context.Background(), slog.LevelDebug) {
			l.logger.Debug("event log client", "level", level, "text", fmt.Sprintf(format, args...))
		}
	}
	l.logger.DebugContext(ctx, "event log dialled", "address", l.config.Address, "seeds", len(l.config.GossipSeeds))
	return l, nil
}

// settings are the names that the client knows, in lower case. It ignores others with a line on its default logger.
var settings = map[string]bool{
	"discoveryinterval": true, "gossiptimeout": true, "maxdiscoverattempts": true, "nodepreference": true, "keepaliveinterval": true,
	"keepalivetimeout": true, "tls": true, "tlscafile": true, "usercertfile": true, "userkeyfile": true, "tlsverifycert": true,
	"defaultdeadline": true,
}

func checkSettings(connectionString string) error {
	_, query, _ := strings.Cut(connectionString, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("event log connection string: %w", err)
	}
	for name := range values {
		if !settings[strings.ToLower(name)] {
			return fmt.Errorf("event log connection string: unknown setting %q", name)
		}
	}
	return nil
}

// Close implements Log. A discovery that is under way cannot be cancelled: with a node that accepts connections and says
// nothing, Close takes as long as its attempts, a few seconds each.
func (l *ESDB) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.closing)
	for c := range l.open {
		l.lose(c)
	}
	l.closeWire()
	if l.appends != nil {
		l.appends.end(ErrClosed)
	}
	l.mu.Unlock()
	l.work.Wait()
	return nil
}

// begin runs fn in a goroutine under a deadline and returns the function that waits for its result. Whoever never waits
// must cancel ctx.
func begin[T any](ctx context.Context, l *ESDB, limit time.Duration, fn func(context.Context, *esdb.Client) (T, error)) func() (T, error) {
	var zero T
	if err := l.start(); err != nil {
		return func() (T, error) { return zero, err }
	}
	type result struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	done := make(chan result, 1)
	l.do(func() {
		defer l.work.Done()
		var r result
		var c *connection
		if c, r.err = l.borrow(ctx); r.err == nil {
			r.err = guard(func() (err error) {
				r.value, err = fn(ctx, c.client)
				return err
			})
			l.giveBack(c, r.err)
		}
		done <- r
	})
	return func() (T, error) {
		defer cancel()
		select {
		case r := <-done: // a result that is there counts, whatever happened since
			return r.value, r.err
		default:
		}
		select {
		case r := <-done:
			return r.value, r.err
		case <-ctx.Done():
			return zero, ctx.Err()
		case <-l.closing:
			return zero, ErrClosed
		}
	}
}

// do runs a job, which is counted in work, in a goroutine that has run others if one is idle. Requests go deep, and a
// fresh goroutine spends a twentieth of an append on growing its stack.
func (l *ESDB) do(job func()) {
	select {
	case l.jobs <- job:
	default:
		l.work.Go(func() { l.run(job) })
	}
}

// run runs a job and then those that come while it is among the idle.
func (l *ESDB) run(job func()) {
	for {
		job()
		select {
		case l.idle <- struct{}{}:
		default:
			return
		}
		select {
		case job = <-l.jobs:
			<-l.idle
		case <-l.closing:
			return
		}
	}
}

// call runs fn under a deadline and waits for it.
func call[T any](ctx context.Context, l *ESDB, limit time.Duration, fn func(context.Context, *esdb.Client) (T, error)) (T, error) {
	return begin(ctx, l, limit, fn)()
}

// errPanic is what guard makes of a panic.
var errPanic = errors.New("the event log client panicked")

// guard turns a panic of the client into an error: it panics on messages that it does not know, and when it reports a
// lost connection while being closed.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return fn()
}

// code returns the client's code of err, found through any wrapping, and false when there is none.
func code(err error) (esdb.ErrorCode, bool) {
	var e *esdb.Error
	if !errors.As(err, &e) {
		return esdb.ErrorCodeUnknown, false
	}
	return e.Code(), true
}

// is reports whether err carries one of the client's codes.
func is(err error, wanted ...esdb.ErrorCode) bool {
	c, ok := code(err)
	for _, w := range wanted {
		if ok && c == w {
			return true
		}
	}
	return false
}

// lostConnection reports whether the client's connection is of no more use. Subscriptions return bare gRPC errors.
func lostConnection(err error) bool {
	return err != nil && (is(err, esdb.ErrorUnavailable, esdb.ErrorCodeConnectionClosed) || status.Code(err) == codes.Unavailable)
}

// permanent reports whether the same request will fail again until somebody changes something.
func permanent(err error) bool {
	if is(err, esdb.ErrorCodeUnauthenticated, esdb.ErrorCodeAccessDenied, esdb.ErrorCodeUnsupportedFeature, esdb.ErrorCodeStreamDeleted) {
		return true
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.ResourceExhausted, codes.OutOfRange, codes.DataLoss,
		codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return errors.Is(err, ErrClosed) || errors.Is(err, ErrStreamDeleted) || errors.Is(err, ErrOtherLog) || errors.Is(err, ErrOtherSecret) ||
		errors.Is(err, ErrUnfinishedCopy) || errors.Is(err, domain.ErrCorrupt)
}

// failure makes the error that callers see: the context's own when it ended, *domain.UnavailableError for what may pass,
// the cause itself for what will not.
func failure(ctx context.Context, doing string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case is(err, esdb.ErrorCodeStreamDeleted):
		return fmt.Errorf("%s: %w", doing, ErrStreamDeleted)
	case permanent(err) && !errors.Is(err, ErrClosed):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, &domain.UnavailableError{What: unavailable, Err: err})
}
