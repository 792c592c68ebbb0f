package esnode

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// Strict makes a node behave as a real engine does where an embedded one never would, so
// that tests meet on one machine what a cluster shows in production. Each field is a
// manner of its own, and its zero value is off. What a manner answers is what real
// engines were seen to answer; package engineanswers holds the records.
type Strict struct {
	// Seed decides all that is left to chance, but not how goroutines take turns.
	Seed uint64

	// Offsets makes positions byte offsets, some hundred apart. Without it they are
	// ordinals. The directory may hold events of both kinds.
	Offsets bool
	// InvalidPositions refuses to read or subscribe to $all from a number that is no
	// event's own position. From beyond the last event a read is empty, and a subscription
	// says that it has caught up and brings nothing until the log has grown past it.
	InvalidPositions bool
	// NoIdentity leaves out the stream $rapport-log, which no real engine has.
	NoIdentity bool

	// NotReady bounds the random time after each start in which every call of the
	// Streams service is answered with "Server Is Not Ready".
	NotReady time.Duration
	// Busy is the share of appends, reads, subscriptions and deletes that are answered
	// with "Server Is Busy", from 0 to 1. Nothing is written.
	Busy float64
	// Blank is the share of appends whose answer holds neither success nor error.
	// Nothing is written.
	Blank float64
	// Unknown is the share of appends that are answered with a timeout, although they are
	// written if their expected revision allows it.
	Unknown float64

	// Late bounds the random time by which a commit is shown to readers, and answered to
	// its writer, after it was decided. Who loses against it in between is refused at
	// once, and told as the actual revision the one that it expected.
	Late time.Duration

	// Foreign is how many events other applications write for each commit to the log, on
	// the average: in streams of their own, of any name, type and content. It must be
	// below 1; when nobody else writes any more they end soon.
	Foreign float64
	// Namespaces are prefixes of streams in which foreign applications never write. Nil
	// means "rapport." alone. Streams named main.<aggregate>-<uuid> are spared always.
	Namespaces []string

	// Deletion makes a read of a stream that is deleted meanwhile end with StreamNotFound.
	// A read then looks at the stream again after every few events.
	Deletion bool
	// SparseCheckpoints makes a filtered subscription, when it has caught up, tell the
	// position of the last event that passed the filter and not how far it has searched.
	SparseCheckpoints bool

	// Follower gives the node a second address, of a follower: it serves reads and
	// subscriptions with a lag, forwards writes, and ends every call that carries the
	// header requires-leader with the address of the leader. Gossip tells of both.
	Follower bool
	// FollowerListen is where the follower listens, as Options.Listen.
	FollowerListen string
	// FollowerLag bounds the random time by which the follower shows commits later.
	FollowerLag time.Duration

	// Certificate makes the node speak TLS, and TLS only. Orders such as backups are not
	// taken then.
	Certificate *tls.Certificate
	// Users are who may call the Streams service. Nil means that anybody may do
	// everything. A caller without a name is told that access is denied, one with a wrong
	// password that it is not authenticated.
	Users []User
}

// User is somebody who may read and write ordinary streams of a strict node.
type User struct {
	Name, Password string
	// Admin may do everything; others have no access to streams whose names begin with $.
	Admin bool
	// ReadAll is the right to read $all. The metadata of $all can give it, too: those whom
	// $r of its $acl names.
	ReadAll bool
	// NoWrite are prefixes of streams that the user must not write.
	NoWrite []string
}

const (
	textNotReady        = "Server Is Not Ready"
	textBusy            = "Server Is Busy"
	textInvalidPosition = "Unexpected ReadAllResult: InvalidPosition"
	textFromInvalid     = "Trying to read from an invalid position."
	textTimedOut        = "Operation timed out: the write may have been carried out"

	// strictPage is how many events a strict node reads of a stream at a time, as real
	// engines do.
	strictPage = 32
	// insideLast is the share of reads from a number inside the last event that are
	// refused; the others are empty. Real engines do the one or the other.
	insideLast = 0.5
)

// manners are the strict manners of a running node. A nil *manners is an ordinary node.
type manners struct {
	Strict
	answers *dice
	store   *store
	cluster *cluster
	member  int // of the cluster
	now     func() time.Time
	ready   time.Time // calls are answered from here on
}

// Every use of chance has dice of its own, so that one does not disturb another.
const (
	diceReady uint64 = iota
	diceAnswers
	diceLate
	diceForeign
	diceFollower
)

func newManners(strict *Strict, s *store, c *cluster, now func() time.Time) *manners {
	if strict == nil {
		return nil
	}
	m := &manners{Strict: *strict, answers: newDice(strict.Seed, diceAnswers), store: s, cluster: c, now: now}
	m.ready = now().Add(newDice(strict.Seed, diceReady).duration(strict.NotReady))
	return m
}

// of returns the manners of one member of the cluster.
func (m *manners) of(member int) *manners {
	if m == nil {
		return nil
	}
	its := *m
	its.member = member
	return &its
}

// dice is chance with a seed. It is safe for concurrent use.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func newDice(seed, use uint64) *dice { return &dice{rng: rand.New(rand.NewPCG(seed, use))} }

// chance is true in the given share of calls.
func (d *dice) chance(share float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64() < share
}

// duration is between 0 and limit.
func (d *dice) duration(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rng.Int64N(int64(limit) + 1))
}

// below is a number from 0 to n-1.
func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// bits are 64 random bits.
func (d *dice) bits() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Uint64()
}

// refusedNow is a request that the node does not take at the moment, whatever it is.
// Nothing of it is carried out.
type refusedNow struct{ message string }

func (e *refusedNow) Error() string { return e.message }

// timedOut is a write whose outcome is not told.
type timedOut struct{}

func (timedOut) Error() string { return textTimedOut }

// blankAnswer stands for an answer that holds neither success nor error.
type blankAnswer struct{}

func (blankAnswer) Error() string { return "an answer without a result" }

// Ready waits until a strict node takes calls after its start; an ordinary one does so as
// soon as it is open. The error is that of ctx.
func (n *Node) Ready(ctx context.Context) error {
	m := n.members[0].streams.manners
	if m == nil {
		return nil
	}
	timer := time.NewTimer(m.ready.Sub(m.now()))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admit refuses a call that its caller has no right to, or for no fault of its own.
func (m *manners) admit(ctx context.Context, a access, stream string) error {
	if m == nil {
		return nil
	}
	if err := m.permit(ctx, a, stream); err != nil {
		return err
	}
	switch {
	case m.now().Before(m.ready):
		return &refusedNow{textNotReady}
	case m.answers.chance(m.Busy):
		return &refusedNow{textBusy}
	}
	return nil
}

// admitAppend is admit for an append, which may also get a blank answer.
func (m *manners) admitAppend(ctx context.Context, stream string) error {
	if err := m.admit(ctx, toWrite, stream); err != nil || m == nil {
		return err
	}
	if m.answers.chance(m.Blank) {
		return blankAnswer{}
	}
	return nil
}

// told is what the writer of an append is told of what became of it.
func (m *manners) told(err error) error {
	if m != nil && err == nil && m.answers.chance(m.Unknown) {
		return timedOut{}
	}
	return err
}

// pageSize is how many events a read of a stream takes at a time, 0 for the usual.
func (m *manners) pageSize() int {
	if m != nil && m.Deletion {
		return strictPage
	}
	return 0
}

// checkPosition refuses a read of $all from a number that is no position of an event.
func (m *manners) checkPosition(position, head uint64) error {
	if m == nil || !m.InvalidPositions || position == 0 {
		return nil
	}
	refusal := &requestError{code: codes.Unknown, message: textInvalidPosition}
	if position > head {
		if head == 0 {
			return nil
		}
		rec, err := m.store.eventAt(head)
		if err == nil && rec.position < position && position < rec.next && m.answers.chance(insideLast) {
			return refusal
		}
		return err
	}
	there, err := m.store.hasEvent(position)
	if err != nil || there {
		return err
	}
	return refusal
}

// lateness makes a store show its commits late.
type lateness struct {
	limit time.Duration
	dice  *dice
}

// wait passes the time between a commit and its being shown. It ends at once when the
// node stops.
func (l lateness) wait(stop <-chan struct{}) {
	if l.limit <= 0 {
		return
	}
	timer := time.NewTimer(l.dice.duration(l.limit))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop:
	}
}
