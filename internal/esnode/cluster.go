package esnode

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

const (
	headerRequiresLeader = "requires-leader"
	exceptionNotLeader   = "not-leader"
	textLeaderElsewhere  = "Leader info available"
)

// cluster is the addresses at which a node serves its store. An ordinary node has one;
// a strict one may have a follower beside it, and the two may change their roles.
type cluster struct {
	store     *store
	addresses []*net.TCPAddr
	leader    atomic.Int64 // index of the leader's address
	behind    *head        // how far the follower shows the log
}

func newCluster(s *store, listeners []net.Listener) *cluster {
	c := &cluster{store: s, behind: newHead(s.synced())}
	for _, l := range listeners {
		c.addresses = append(c.addresses, l.Addr().(*net.TCPAddr)) // listen has seen to it
	}
	return c
}

func (c *cluster) leads(member int) bool { return c.leader.Load() == int64(member) }

// instance is the identity of a member: of the first one it is that of the log.
func (c *cluster) instance(member int) uuid.UUID {
	if member == 0 {
		return c.store.logID
	}
	return uuid.NewSHA1(c.store.logID, []byte{byte(member)})
}

// FollowerAddr is the host:port of a strict node's follower, as it was opened; empty
// where there is none.
func (n *Node) FollowerAddr() string {
	if len(n.members) < 2 {
		return ""
	}
	return n.members[1].listener.Addr().String()
}

// ChangeLeader makes the follower of a strict node its leader and the leader its follower.
// Calls that are open go on, but for appends that require a leader. A node without a
// follower stays as it is.
func (n *Node) ChangeLeader() {
	n.cluster.leader.Store((n.cluster.leader.Load() + 1) % int64(len(n.members)))
}

// follows says whether the member is a follower.
func (m *manners) follows() bool { return m != nil && !m.cluster.leads(m.member) }

// head is how far the member shows the log.
func (m *manners) head(s *store) *head {
	if m.follows() {
		return m.cluster.behind
	}
	return s.head
}

// showsLate says whether readers up to this head must be kept from what is behind it.
func (m *manners) showsLate(shown *head) bool {
	return m != nil && (m.Late > 0 || shown == m.cluster.behind)
}

// enter refuses a call before anything of it is looked at: of somebody who is not who it
// says, or that has come to the wrong member.
func (m *manners) enter(ctx context.Context) error {
	if m == nil {
		return nil
	}
	if err := m.authenticate(ctx); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	required := md.Get(headerRequiresLeader)
	if !m.follows() || len(required) == 0 || !strings.EqualFold(required[0], "true") {
		return nil
	}
	leader := m.cluster.addresses[m.cluster.leader.Load()]
	return &requestError{
		code: codes.NotFound, message: textLeaderElsewhere, exception: exceptionNotLeader,
		trailer: []string{"leader-endpoint-host", leader.IP.String(), "leader-endpoint-port", strconv.Itoa(leader.Port)},
	}
}

// followLeader moves what the follower shows, until the node stops.
func (m *manners) followLeader() {
	if !m.Follower {
		return
	}
	late := lateness{m.FollowerLag, newDice(m.Seed, diceFollower)}
	moved := m.store.head.watch("")
	defer m.store.head.unwatch(moved)
	for {
		late.wait(m.store.stop)
		m.cluster.behind.publish(m.store.synced(), m.cluster.behind.watched())
		select {
		case <-moved.C:
		case <-m.store.stop:
			return
		}
	}
}
