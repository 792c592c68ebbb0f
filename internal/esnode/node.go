// Package esnode is a single-node server of the EventStoreDB protocol over an embedded
// store, for development, tests and installations on one machine.
//
// An append is acknowledged after it has been synced to disk, nobody reads what is not
// synced, and a failed sync stops the process. It serves streams: reads, appends,
// alone and in batches, deletes, catch-up subscriptions and stream metadata; persistent
// subscriptions, projections and users are answered with UNIMPLEMENTED. There is no
// authentication, so it listens on loopback only. For tests Options.Strict makes a node
// behave as a real engine does: see there.
package esnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	defaultListen = "127.0.0.1:0"
	// exitSyncFailed is the exit status of a process whose log could not be synced.
	exitSyncFailed = 70
	// keepaliveMinTime allows for the clients' ping every 10 s; the default policy
	// would close their idle subscriptions after the third one.
	keepaliveMinTime = 5 * time.Second
	// stopGrace is how long Close waits for clients that do not take their answers.
	stopGrace = 3 * time.Second
)

// Options say where a node keeps its log and where it listens.
type Options struct {
	// Dir holds the log. It is created if it does not exist. Required.
	Dir string
	// Listen is a loopback host:port. Empty means 127.0.0.1 and any free port.
	Listen string
	// Logger gets what an operator acts on. Nil means slog.Default.
	Logger *slog.Logger
	// Fatal is called once when a write could not be made durable; the log must not
	// be used any further. Nil logs the error and exits the process with status 70.
	Fatal func(error)
	// FreeSpace returns how many bytes are free for the log. It is for tests. Nil means
	// what the file system of Dir says.
	FreeSpace func() (uint64, error)
	// Strict makes the node behave as a real engine does, for tests. Nil means that it
	// does not.
	Strict *Strict
}

// measured is a file system of which somebody else says how full it is.
type measured struct {
	vfs.FS
	free func() (uint64, error)
}

func (m measured) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free, err := m.free()
	return vfs.DiskUsage{AvailBytes: free}, err
}

// Node is a running server. It is safe for concurrent use; Close must be called.
type Node struct {
	store   *store
	members []*member // the node itself, and the follower that a strict one may have
	cluster *cluster
	secured bool
	serving sync.WaitGroup
	logger  *slog.Logger
	control *controller

	closeOnce sync.Once
	closeErr  error
}

// member is one address at which a node serves its store.
type member struct {
	listener net.Listener
	streams  *streamsService
	server   *grpc.Server
}

// Open opens or creates the log in opts.Dir and serves it. It returns an error that is
// ErrLocked when another node uses the directory. The context bounds the opening only.
func Open(ctx context.Context, opts Options) (*Node, error) {
	fs := vfs.Default
	if opts.FreeSpace != nil {
		fs = measured{fs, opts.FreeSpace}
	}
	n, err := open(ctx, opts, fs, time.Now)
	if err != nil {
		return nil, err
	}
	if n.secured {
		return n, nil // orders are taken over plain connections only
	}
	if err := n.control.announce(opts.Dir, n.Addr()); err != nil {
		return nil, errors.Join(fmt.Errorf("event node: %w", err), n.Close())
	}
	return n, nil
}

func open(ctx context.Context, opts Options, fs vfs.FS, now func() time.Time) (*Node, error) {
	if opts.Dir == "" {
		return nil, errors.New("event node: no directory given")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Fatal == nil {
		opts.Fatal = func(err error) {
			opts.Logger.Error("the event log cannot be written, stopping", "err", err)
			os.Exit(exitSyncFailed)
		}
	}
	listeners, err := listenAll(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("event node: %w", err)
	}
	storing := storeOptions{dir: opts.Dir, fs: fs, now: now, logger: opts.Logger, fatal: opts.Fatal}
	if strict := opts.Strict; strict != nil {
		storing.offsets, storing.unnamed = strict.Offsets, strict.NoIdentity
		storing.late = lateness{strict.Late, newDice(strict.Seed, diceLate)}
	}
	s, err := openStore(ctx, storing)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("event node: %w", err), closeAll(listeners))
	}
	n := &Node{store: s, cluster: newCluster(s, listeners), logger: opts.Logger, control: newController(s)}
	manners := newManners(opts.Strict, s, n.cluster, now)
	var secured []grpc.ServerOption
	if manners != nil {
		n.serving.Go(manners.foreignApplications)
		n.serving.Go(manners.followLeader)
		if certificate := manners.Certificate; certificate != nil {
			n.secured, secured = true, []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(certificate))}
		}
	}
	for i, listener := range listeners {
		service := &streamsService{store: s, manners: manners.of(i)}
		m := &member{listener: listener, streams: service, server: newServer(service, n.cluster, secured...)}
		n.control.register(m.server)
		n.members = append(n.members, m)
		n.serving.Go(func() {
			if err := m.server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				n.logger.Error("event node stopped serving", "err", err)
			}
		})
	}
	return n, nil
}

// listenAll returns the listeners of a node: its own, and one of the follower that it may
// have.
func listenAll(ctx context.Context, opts Options) ([]net.Listener, error) {
	addresses := []string{opts.Listen}
	if opts.Strict != nil && opts.Strict.Follower {
		addresses = append(addresses, opts.Strict.FollowerListen)
	}
	var listeners []net.Listener
	for _, address := range addresses {
		l, err := listen(ctx, address)
		if err != nil {
			return nil, errors.Join(err, closeAll(listeners))
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) (err error) {
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	return err
}

// listen refuses every address but loopback: the node has no authentication.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		address = defaultListen
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen address: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && !ip.IsLoopback() {
		return nil, fmt.Errorf("listen address %s: the embedded node listens on loopback only", address)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("listen address %s is not loopback", address), listener.Close())
	}
	return listener, nil
}

// streamWorkers is how many goroutines serve calls one after the other; further calls get one of their own. A fresh one
// spends some time of an append on growing its stack.
const streamWorkers = 64

func newServer(service *streamsService, members *cluster, secured ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append(secured,
		grpc.ForceServerCodecV2(newWireCodec()),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.UnaryInterceptor(unaryErrors),
		grpc.StreamInterceptor(streamErrors),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
	)...)
	streams.RegisterStreamsServer(server, service)
	serverfeatures.RegisterServerFeaturesServer(server, featuresService{})
	gossip.RegisterGossipServer(server, gossipService{cluster: members})
	return server
}

// Addr is the host:port the node listens on.
func (n *Node) Addr() string { return n.members[0].listener.Addr().String() }

// ConnectionString is what clients connect with. Where the node has users or a certificate
// of its own clients add theirs.
func (n *Node) ConnectionString() string {
	return fmt.Sprintf("esdb://%s?tls=%t", n.Addr(), n.secured)
}

// LogID is the log's identity, a UUID made when it was first opened. Clients read it
// from the one event of the stream $rapport-log.
func (n *Node) LogID() string { return n.store.logID.String() }

// Close ends subscriptions, lets appends that have begun finish, and closes the store.
// Calling it again waits for the first call and returns the same error.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.store.stopReaders()
		var stopping sync.WaitGroup
		for _, m := range n.members {
			stopping.Go(func() {
				impatient := time.AfterFunc(stopGrace, m.server.Stop)
				m.server.GracefulStop()
				impatient.Stop()
			})
		}
		stopping.Wait()
		n.serving.Wait()
		for _, m := range n.members {
			m.streams.receivers.Wait()
		}
		n.closeErr = errors.Join(n.control.retract(), n.store.close())
	})
	return n.closeErr
}
