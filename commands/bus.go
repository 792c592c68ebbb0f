// Package commands turns requests into events. One loop serves every command of every aggregate: validate, look the
// command id up, load the stream, bring in facts, decide, claim unique values, append at the exact revision, answer with
// a receipt. What commands need beyond their deciders are the rules of their area, in the folders below this one.
package commands

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/rapport-crm/rapport/domain"
)

// EventStore is what the bus needs of the event log.
type EventStore interface {
	// Append writes all events or none, at the revision expected. Repeating an append whose outcome is domain.Unknown
	// with the same events and revision is safe.
	Append(ctx context.Context, stream domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome
	// Read yields the events of a stream from a revision on, and nothing for a stream that does not exist.
	Read(ctx context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error]
}

// Limits of the loop.
const (
	MaxKeyLength     = 255              // characters of an idempotency key
	MaxCommandBytes  = 512 << 10        // of a command as JSON; its events then fit into one append to the log
	MaxActorLength   = 200              // characters of an actor's name
	CommandDeadline  = 18 * time.Second // for one command in all; longer than a cluster takes to replace a leader that is frozen
	ReleaseTimeout   = 2 * time.Second  // for giving reservations back before the answer
	ClaimTimeout     = 2 * time.Minute  // after which the claim of a command that never completed may be taken over
	StreamCacheSize  = 16_384           // streams whose folded state is kept
	StreamCacheBytes = 64 << 20         // what they may hold together, roughly
	ReceiptCacheSize = 16_384           // receipts kept for replays that need no look at the log
)

// Options configures a Bus. Zero values mean the defaults named.
type Options struct {
	Clock            func() time.Time                    // time.Now
	Spread           func(n time.Duration) time.Duration // how much a pause of up to n is shortened; at random
	Authorise        func(Request) error                 // refuses, by a *domain.ForbiddenError, what the caller may not ask for, before the body or any record is looked at; nil allows everything
	Secret           []byte                              // key of the hashes that name reservations: random, per installation, the same for its whole life
	Process          string                              // names this process in the ids of events: no other over the same log may bear it; random
	Logger           *slog.Logger                        // discards
	Deadline         time.Duration                       // CommandDeadline
	StreamCacheSize  int                                 // StreamCacheSize
	StreamCacheBytes int64                               // StreamCacheBytes
	ReceiptCacheSize int                                 // ReceiptCacheSize
}

// Bus accepts commands. It is safe for concurrent use once every aggregate is registered.
type Bus struct {
	store      EventStore
	clock      func() time.Time
	spread     func(time.Duration) time.Duration
	authorise  func(Request) error // nil allows everything
	secret     []byte
	process    string // part of event ids
	logger     *slog.Logger
	deadline   time.Duration
	aggregates map[string]*domain.Definition // by name
	order      []string                      // names as registered
	commands   map[string]*command           // by command type
	foundings  []founding
	schemas    map[string]int // newest schema by event type
	streams    *lru.Cache[domain.StreamID, *stream]
	cached     atomic.Int64                 // bytes in streams, roughly
	maxCached  int64                        // bytes
	receipts   *lru.Cache[string, answered] // by command id
	flights    keyedLock                    // by command id
	crowds     keyedLock                    // by tenant and command type: see Alone
}

// answered is a receipt with the fingerprint of the command it answered.
type answered struct {
	fingerprint fingerprint
	receipt     Receipt
}

// NewBus makes a bus over store that knows no aggregates yet: see Register.
func NewBus(store EventStore, opts Options) *Bus {
	b := &Bus{
		store:      store,
		clock:      opts.Clock,
		spread:     opts.Spread,
		authorise:  opts.Authorise,
		secret:     opts.Secret,
		process:    cmp.Or(opts.Process, uuid.NewString()),
		logger:     opts.Logger,
		deadline:   cmp.Or(opts.Deadline, CommandDeadline),
		aggregates: map[string]*domain.Definition{},
		commands:   map[string]*command{},
		schemas:    map[string]int{},
	}
	if b.clock == nil {
		b.clock = time.Now
	}
	if b.spread == nil {
		b.spread = rand.N[time.Duration]
	}
	if b.logger == nil {
		b.logger = slog.New(slog.DiscardHandler)
	}
	if b.maxCached = opts.StreamCacheBytes; b.maxCached <= 0 {
		b.maxCached = StreamCacheBytes
	}
	b.streams = newCache(opts.StreamCacheSize, StreamCacheSize, b.drop)
	b.receipts = newCache[string, answered](opts.ReceiptCacheSize, ReceiptCacheSize, nil)
	for _, e := range domain.Reservation.Events {
		b.schemas[e.Type()] = e.Version()
	}
	return b
}

// newCache makes a cache of size entries, of fallback entries when size is not positive.
func newCache[K comparable, V any](size, fallback int, dropped func(K, V)) *lru.Cache[K, V] {
	if size <= 0 {
		size = fallback
	}
	c, err := lru.NewWithEvict(size, dropped)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return c
}

// Request is one command with everything that surrounds it.
type Request struct {
	Tenant  domain.Tenant
	Actor   domain.Actor
	Key     string         // idempotency key, scoped by tenant and actor; may be empty in a dry run only
	Target  domain.ID      // the aggregate addressed; empty for creating commands, whose id follows from the key
	Command domain.Command // a struct by value
	IfMatch *uint64        // the revision that the client decided on; nil means any

	DryRun          bool // decide and answer what would be written, write nothing
	AllowDuplicates bool // do not enforce unique values

	CorrelationID string // empty means the command id
	CausationID   string // empty means the command id
	TraceParent   string // W3C trace context; may be empty

	wanted domain.ID // the id that a creating command of this package's own gives; empty means derived from the key
}

// CommandID is the identity of the command: the same tenant, actor and key always mean the same command.
func (r Request) CommandID() string { return commandID(r.Tenant, r.Actor, r.Key) }

// Receipt says what became of an accepted command.
type Receipt struct {
	Stream        string          // name of the aggregate's stream in the log
	ID            domain.ID       // the aggregate
	Revision      uint64          // of the aggregate after the command; the ETag
	Position      domain.Position // of the command's last event; zero when there is none
	EventIDs      []string
	EventTypes    []string
	Events        []domain.Event // in a dry run only: what would be written
	CorrelationID string
	OccurredAt    time.Time // of the command's events; zero when there is none
	Unchanged     bool      // the command was accepted and changed nothing
	Replayed      bool      // the command had been executed before; this is its receipt
	DryRun        bool
}

// Submit executes a command at most once and answers its receipt, however often it is asked with the same key. It
// returns *domain.InvalidError, *domain.Rejection, *domain.NotFoundError, *domain.ConflictError (only with IfMatch),
// *domain.DuplicateError, *domain.IdempotencyError, *domain.ForbiddenError or *domain.UnavailableError; after the last the
// command may have been executed, and asking again with the same key tells. It returns the context's error when ctx is
// cancelled before the command has its turn, and any other error for a fault of the program or of the log.
//
// A log that does not answer and others who write to the same record are waited for: Submit tries until its deadline
// (Options.Deadline), which counts from the call, and returns *domain.UnavailableError then.
//
// Only successes are remembered: after an error the same key may be used again, corrected or not. A command that changed
// nothing leaves no trace in the log and is decided again once its receipt has left the cache.
//
// Commands are looked up in the stream they address. So a key used again with another body for the same record is always
// noticed, and one used again for another record only while the receipt of the first stands in the cache of this process:
// keys name one command, and clients make a new one for each.
func (b *Bus) Submit(ctx context.Context, req Request) (Receipt, error) {
	c, err := b.admit(&req)
	if err != nil {
		return Receipt{}, err
	}
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	if req.DryRun {
		return b.execute(ctx, c)
	}
	unlock, err := b.flights.lock(ctx, c.id)
	if err != nil {
		return Receipt{}, timely(err)
	}
	defer unlock()
	if a, ok := b.receipts.Get(c.id); ok {
		if a.fingerprint != c.fingerprint {
			return Receipt{}, &domain.IdempotencyError{CommandID: c.id}
		}
		a.receipt.Replayed = true
		return a.receipt, nil
	}
	r, err := b.execute(ctx, c)
	if err != nil {
		return Receipt{}, err
	}
	if c.command.then != nil {
		if err := c.command.then(ctx, b, c.Request, r); err != nil {
			return Receipt{}, err
		}
	}
	b.receipts.Add(c.id, answered{c.fingerprint, r})
	return r, nil
}

// call is one admitted request with what was derived from it.
type call struct {
	Request
	command     *command
	id          string // of the command
	fingerprint fingerprint
	stream      domain.StreamID
	deadline    time.Time
}

// admit checks the form of a request and derives its ids.
func (b *Bus) admit(req *Request) (*call, error) {
	if req.Command == nil {
		return nil, domain.Invalid("", "a command is required")
	}
	cmd, ok := b.commands[req.Command.CommandType()]
	if !ok {
		return nil, domain.Invalid("", "\"{command}\" is not a command", req.Command.CommandType())
	}
	if err := checkEnvelope(req, cmd.CommandSpec); err != nil {
		return nil, err
	}
	if b.authorise != nil {
		if err := b.authorise(*req); err != nil {
			return nil, err
		}
	}
	if err := cmd.plan.validate(req.Command, b.clock()); err != nil {
		return nil, err
	}
	c := &call{Request: *req, command: cmd, deadline: time.Now().Add(b.deadline)}
	c.id = req.CommandID()
	if req.Key == "" { // a dry run
		c.id = uuid.NewString()
	}
	if cmd.Creates {
		c.Target = cmp.Or(req.wanted, aggregateID(c.id, cmd.aggregate.Name))
	}
	var err error
	if c.fingerprint, err = b.fingerprintOf(req.Command, req.Target); err != nil {
		return nil, err
	}
	c.stream = domain.StreamID{Tenant: req.Tenant, Aggregate: cmd.aggregate.Name, ID: c.Target}
	return c, nil
}

func checkEnvelope(req *Request, spec domain.CommandSpec) error {
	if _, err := domain.ParseTenant(string(req.Tenant)); err != nil {
		return err
	}
	switch {
	case req.Actor.ID == "" || tooLong(req.Actor.ID, MaxActorLength) || !isText(req.Actor.ID):
		return domain.Invalid("", "the actor needs a name of 1 to {limit} characters", MaxActorLength)
	case req.Actor.Kind != domain.ActorHuman && req.Actor.Kind != domain.ActorAutomation && req.Actor.Kind != domain.ActorIntegration:
		return domain.Invalid("", "\"{kind}\" is not a kind of actor", req.Actor.Kind)
	case req.Key == "" && !req.DryRun:
		return invalidKey("an idempotency key is required")
	case tooLong(req.Key, MaxKeyLength) || !isText(req.Key):
		return invalidKey("an idempotency key has 1 to {limit} characters, none of them a control character", MaxKeyLength)
	case spec.Creates && req.Target != "":
		return domain.Invalid("", "{command} makes a new id; it takes none", spec.Type())
	case spec.Creates && req.IfMatch != nil:
		return domain.Invalid("If-Match", "{command} starts a new stream; it takes no revision", spec.Type())
	}
	if !spec.Creates {
		if id, err := domain.ParseID(string(req.Target)); err != nil || id != req.Target {
			return domain.Invalid("", "\"{value}\" is not an id", req.Target)
		}
	}
	return nil
}

func invalidKey(template string, values ...any) error {
	e := domain.Invalid("Idempotency-Key", template, values...)
	e.Code = "idempotency-key"
	return e
}

// Definitions returns the aggregates registered, in that order.
func (b *Bus) Definitions() []domain.Definition {
	defs := make([]domain.Definition, len(b.order))
	for i, name := range b.order {
		defs[i] = *b.aggregates[name]
	}
	return defs
}

// Spec returns the declaration of a command, and false when no aggregate has it.
func (b *Bus) Spec(commandType string) (domain.CommandSpec, bool) {
	c, ok := b.commands[commandType]
	if !ok {
		return domain.CommandSpec{}, false
	}
	return c.CommandSpec, true
}

// ID returns the id that a creating command of the aggregate gets when it is submitted with this key.
func (b *Bus) ID(tenant domain.Tenant, actor domain.Actor, key, aggregate string) domain.ID {
	return aggregateID(commandID(tenant, actor, key), aggregate)
}

// State returns the newest state of an aggregate, of the aggregate's own type, and its revision. It returns
// *domain.NotFoundError when it does not exist, and *domain.UnavailableError when the log has not answered within
// Options.Deadline.
func (b *Bus) State(ctx context.Context, tenant domain.Tenant, aggregate string, id domain.ID) (any, uint64, error) {
	agg, ok := b.aggregates[aggregate]
	if !ok {
		return nil, 0, fmt.Errorf("commands: no aggregate %q", aggregate)
	}
	ctx, cancel := context.WithTimeout(ctx, b.deadline)
	defer cancel()
	s, err := b.load(ctx, domain.StreamID{Tenant: tenant, Aggregate: aggregate, ID: id}, true)
	if err != nil {
		return nil, 0, timely(err)
	}
	if !agg.Behaviour.Exists(s.state) {
		return nil, 0, &domain.NotFoundError{Kind: aggregate, ID: string(id)}
	}
	return s.state, s.version, nil
}
