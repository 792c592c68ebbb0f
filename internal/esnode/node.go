// Package esnode is a single-node server of the EventStoreDB protocol over an embedded
// store, for development, tests and installations on one machine.
//
// An append is acknowledged after it has been synced to disk, nobody reads what is not
// synced, and a failed sync stops the process. It serves streams: reads, appends,
// alone and in batches, deletes, catch-up subscriptions and stream metadata; persistent
// subscriptions, projections and users are answered with UNIMPLEMENTED. There is no
// authentication, so it listens on loopback only.
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
	store    *store
	streams  *streamsService
	server   *grpc.Server
	listener net.Listener
	serving  sync.WaitGroup
	logger   *slog.Logger
	control  *controller

	closeOnce sync.Once
	closeErr  error
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
	listener, err := listen(ctx, opts.Listen)
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
		return nil, errors.Join(fmt.Errorf("event node: %w", err), listener.Close())
	}
	manners := newManners(opts.Strict, s, now)
	n := &Node{store: s, streams: &streamsService{store: s, manners: manners}, listener: listener, logger: opts.Logger, control: newController(s)}
	n.server = newServer(n.streams, listener.Addr().(*net.TCPAddr))
	n.control.register(n.server)
	if manners != nil {
		n.serving.Go(manners.foreignApplications)
	}
	n.serving.Go(func() {
		if err := n.server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			n.logger.Error("event node stopped serving", "err", err)
		}
	})
	return n, nil
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

func newServer(service *streamsService, address *net.TCPAddr) *grpc.Server {
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(newWireCodec()),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.UnaryInterceptor(unaryErrors),
		grpc.StreamInterceptor(streamErrors),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
	)
	streams.RegisterStreamsServer(server, service)
	serverfeatures.RegisterServerFeaturesServer(server, featuresService{})
	gossip.RegisterGossipServer(server, &gossipService{
		instance: service.store.logID, host: address.IP.String(), port: uint32(address.Port), now: service.store.now,
	})
	return server
}

// Addr is the host:port the node listens on.
func (n *Node) Addr() string { return n.listener.Addr().String() }

// ConnectionString is what clients connect with.
func (n *Node) ConnectionString() string { return "esdb://" + n.Addr() + "?tls=false" }

// LogID is the log's identity, a UUID made when it was first opened. Clients read it
// from the one event of the stream $rapport-log.
func (n *Node) LogID() string { return n.store.logID.String() }

// Close ends subscriptions, lets appends that have begun finish, and closes the store.
// Calling it again waits for the first call and returns the same error.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.store.stopReaders()
		impatient := time.AfterFunc(stopGrace, n.server.Stop)
		n.server.GracefulStop()
		impatient.Stop()
		n.serving.Wait()
		n.streams.receivers.Wait()
		n.closeErr = errors.Join(n.control.retract(), n.store.close())
	})
	return n.closeErr
}
