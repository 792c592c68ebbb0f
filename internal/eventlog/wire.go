package eventlog

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/internal/retry"
)

// The client has no filter on reads of $all, and it puts requires-leader where it is never sent. Reads are therefore spoken
// here: over the messages that the client ships, with the settings of its connection string, to the leader alone, so that no
// decision rests on a follower that lags.

// requiresLeader is the header by which a member of a cluster that does not lead refuses a call and names the leader.
const requiresLeader = "requires-leader"

// Trailers by which a member names the leader.
const (
	trailerException  = "exception"
	exceptionLeader   = "not-leader"
	exceptionDeleted  = "stream-deleted"
	trailerLeaderHost = "leader-endpoint-host"
	trailerLeaderPort = "leader-endpoint-port"
)

const (
	// maxMessageBytes is what a node may send in one message, as in the client.
	maxMessageBytes = 17 << 20
	// longestReconnect is how long a connection that was lost waits before it is tried again; the default is two minutes.
	longestReconnect = time.Second
	// connectTimeout is how long one attempt to connect may take.
	connectTimeout = 5 * time.Second
	// reconnectWait is how long a request waits for a connection that is not there, before it fails.
	reconnectWait = 300 * time.Millisecond
	// maxLeaderChanges is how often one read follows the leader to another member.
	maxLeaderChanges = 3
)

// wire is the connection to the leader, shared by all reads.
type wire struct {
	mu      sync.Mutex
	conn    *grpc.ClientConn // nil until needed, and after a loss
	address string
	closed  bool
}

// leading asks for the leader: every call that a decision may rest on carries the header.
func leading(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, requiresLeader, "true")
}

// clustered reports whether a configuration names a cluster: then the leader is found by asking its members.
func clustered(config *esdb.Configuration) bool {
	return config.DnsDiscover || len(config.GossipSeeds) > 0
}

// leader returns the connection to the leader, a new one when there is none.
func (l *ESDB) leader(ctx context.Context) (*grpc.ClientConn, error) {
	l.wire.mu.Lock()
	conn, closed := l.wire.conn, l.wire.closed
	l.wire.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	if closed {
		return nil, ErrClosed
	}
	address := l.config.Address
	if clustered(&l.config) {
		var err error
		if address, err = l.findLeader(ctx); err != nil {
			return nil, err
		}
	}
	return l.connect(address)
}

// await gives a connection that was lost, or is being made, a moment to come back.
func await(ctx context.Context, conn *grpc.ClientConn) {
	if conn.GetState() == connectivity.Ready {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reconnectWait)
	defer cancel()
	conn.ResetConnectBackoff()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.Idle {
			conn.Connect()
		}
		if state == connectivity.Shutdown || !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// leaderAddress returns where the leader is.
func (l *ESDB) leaderAddress(ctx context.Context) (string, error) {
	if _, err := l.leader(ctx); err != nil {
		return "", err
	}
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	return l.wire.address, nil
}

// connect makes a connection to a member the one of all reads.
func (l *ESDB) connect(address string) (*grpc.ClientConn, error) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	switch {
	case l.wire.closed:
		return nil, ErrClosed
	case l.wire.conn != nil && l.wire.address == address:
		return l.wire.conn, nil
	}
	conn, err := l.dialMember(address)
	if err != nil {
		return nil, err
	}
	if l.wire.conn != nil {
		_ = l.wire.conn.Close() // what still uses it fails, and tries the new one: see replaced
	}
	l.wire.conn, l.wire.address = conn, address
	return conn, nil
}

// dropWire gives up a connection after a failure, where another member may lead by now. The connection to a node that stands
// alone is kept: it comes back by itself.
func (l *ESDB) dropWire(conn *grpc.ClientConn) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if l.wire.conn == conn && (clustered(&l.config) || l.wire.address != l.config.Address) {
		_ = conn.Close()
		l.wire.conn, l.wire.address = nil, ""
	}
}

// replaced reports whether another call has given a connection up meanwhile, as one does that has followed the leader: what
// still used it then fails through no fault of the leader.
func (l *ESDB) replaced(conn *grpc.ClientConn) bool {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	return l.wire.conn != conn
}

func (l *ESDB) isClosed() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// closeWire ends all reads.
func (l *ESDB) closeWire() {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.wire.closed = true
	if l.wire.conn != nil {
		_ = l.wire.conn.Close()
		l.wire.conn = nil
	}
}

// withLeader runs a call that changes nothing on the connection to the leader. It follows the leader to the member that a
// refusal names, and repeats a call that a node refuses for the moment.
func (l *ESDB) withLeader(ctx context.Context, call func(context.Context, *grpc.ClientConn) error) error {
	if err := l.start(); err != nil {
		return err
	}
	defer l.work.Done()
	patience := time.Now().Add(l.timing.patience)
	pause := l.timing.firstBackoff
	for changes := 0; ; {
		conn, err := l.leader(ctx)
		if err != nil {
			return err
		}
		await(ctx, conn)
		err = call(leading(ctx), conn)
		if err == nil {
			return nil
		}
		if l.isClosed() {
			return ErrClosed
		}
		var ended *endedCall
		errors.As(err, &ended)
		elsewhere := notLeader(trailerOf(ended))
		if address, named := leaderIn(trailerOf(ended)); named && changes < maxLeaderChanges {
			if _, err := l.connect(address); err != nil {
				return err
			}
			changes++
			continue
		}
		if status.Code(err) == codes.Canceled && ctx.Err() == nil && l.replaced(conn) && changes < maxLeaderChanges {
			changes++
			continue
		}
		if notNow(err) && time.Now().Before(patience) && l.pause(ctx, pause) {
			pause = min(2*pause, l.timing.lastBackoff)
			continue
		}
		if elsewhere || lostConnection(err) || status.Code(err) == codes.DeadlineExceeded {
			l.dropWire(conn)
		}
		if elsewhere {
			err = fmt.Errorf("%w: %w", ErrNoLeader, err)
		}
		return err
	}
}

// notNow reports whether a node that is there refuses a call for the moment: it has just been started, or has too much to do.
func notNow(err error) bool {
	text := status.Convert(err).Message()
	return status.Code(err) == codes.Unavailable && (strings.Contains(text, "Server Is Not Ready") || strings.Contains(text, "Server Is Busy"))
}

// pause waits for about d, and reports false when ctx or the log ended first.
func (l *ESDB) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(retry.Spread(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-l.closing:
	}
	return false
}

// endedCall is how a node ended a call, with what it said beside the error.
type endedCall struct {
	err     error
	trailer metadata.MD
}

// trailerOf returns what a node said beside the error; nothing when there is none.
func trailerOf(e *endedCall) metadata.MD {
	if e == nil {
		return nil
	}
	return e.trailer
}

func (e *endedCall) Error() string { return e.err.Error() }
func (e *endedCall) Unwrap() error { return e.err }

func notLeader(trailer metadata.MD) bool {
	return slices.Contains(trailer.Get(trailerException), exceptionLeader)
}

// leaderIn returns the address of the leader that a refusal names.
func leaderIn(trailer metadata.MD) (string, bool) {
	host, port := trailer.Get(trailerLeaderHost), trailer.Get(trailerLeaderPort)
	if !notLeader(trailer) || len(host) == 0 || len(port) == 0 {
		return "", false
	}
	if _, err := strconv.ParseUint(port[0], 10, 16); err != nil {
		return "", false
	}
	return net.JoinHostPort(host[0], port[0]), true
}

// findLeader asks the members of a cluster who leads.
func (l *ESDB) findLeader(ctx context.Context) (string, error) {
	candidates := []string{l.config.Address}
	if len(l.config.GossipSeeds) > 0 {
		candidates = nil
		for _, seed := range l.config.GossipSeeds {
			candidates = append(candidates, seed.String())
		}
	}
	rand.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	var errs []error
	for _, candidate := range candidates {
		address, err := l.askForLeader(ctx, candidate)
		if err == nil {
			return address, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", candidate, err))
	}
	return "", errors.Join(errs...)
}

func (l *ESDB) askForLeader(ctx context.Context, candidate string) (string, error) {
	conn, err := l.dialMember(candidate)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // nothing is on its way any more
	ctx, cancel := context.WithTimeout(ctx, time.Duration(l.config.GossipTimeout)*time.Second)
	defer cancel()
	info, err := gossip.NewGossipClient(conn).Read(ctx, &shared.Empty{})
	if err != nil {
		return "", err
	}
	for _, m := range info.GetMembers() {
		if m.GetIsAlive() && m.GetState() == gossip.MemberInfo_Leader {
			return net.JoinHostPort(m.GetHttpEndPoint().GetAddress(), strconv.Itoa(int(m.GetHttpEndPoint().GetPort()))), nil
		}
	}
	return "", ErrNoLeader
}

// dialMember prepares a connection with the settings of the connection string. It does not wait for the member.
func (l *ESDB) dialMember(address string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnecting(), MinConnectTimeout: connectTimeout}),
	}
	if l.config.KeepAliveInterval >= 0 {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: l.config.KeepAliveInterval, Timeout: l.config.KeepAliveTimeout, PermitWithoutStream: true,
		}))
	}
	if l.config.DisableTLS {
		return grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	}
	security := &tls.Config{InsecureSkipVerify: l.config.SkipCertificateVerification, RootCAs: l.config.RootCAs}
	if l.config.UserCertFile != "" {
		certificate, err := tls.LoadX509KeyPair(l.config.UserCertFile, l.config.UserKeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate of the user: %w", err)
		}
		security.Certificates = []tls.Certificate{certificate}
	}
	options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(security)))
	if l.config.Username != "" {
		options = append(options, grpc.WithPerRPCCredentials(basicAuth{l.config.Username, l.config.Password}))
	}
	return grpc.NewClient(address, options...)
}

// reconnecting is how a connection that was lost comes back: it is tried again soon, and then every longestReconnect.
func reconnecting() backoff.Config {
	c := backoff.DefaultConfig
	c.BaseDelay, c.MaxDelay = firstBackoff, longestReconnect
	return c
}

// basicAuth names the user in every call. Passwords travel over TLS only.
type basicAuth struct{ user, password string }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b basicAuth) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(b.user+":"+b.password))}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (basicAuth) RequireTransportSecurity() bool { return true }
