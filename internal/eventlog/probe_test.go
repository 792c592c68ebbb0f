package eventlog

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/internal/porttest"
)

func TestProbeOfASoundNode(t *testing.T) {
	log := dial(t, address(t))
	if err := log.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if standing, err := log.Inspect(t.Context()); err != nil || os.Getenv(external) == "" && standing.Identity.ID != "" {
		t.Errorf("a probe has begun the log: %+v, %v", standing, err)
	}
	if _, err := log.ID(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := log.Probe(t.Context()); err != nil {
		t.Errorf("of a log that was begun: %v", err)
	}
}

func versioned(version string) func() (*serverfeatures.SupportedMethods, error) {
	return func() (*serverfeatures.SupportedMethods, error) {
		return &serverfeatures.SupportedMethods{EventStoreServerVersion: version}, nil
	}
}

// sound is how a node answers the probe of the end of $all.
func sound(_ *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
	return s.Send(happened(1))
}

func wrongRevision() *streams.AppendResp {
	return &streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: &streams.AppendResp_WrongExpectedVersion{}}}
}

func TestProbeNamesTheCause(t *testing.T) {
	refuse := func(code codes.Code, text string) func(*streams.ReadReq_Options, streams.Streams_ReadServer) error {
		return func(*streams.ReadReq_Options, streams.Streams_ReadServer) error { return status.Error(code, text) }
	}
	accept := func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
		return wrongRevision(), nil
	}
	deny := func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
		return nil, status.Error(codes.PermissionDenied, "Access Denied")
	}
	for name, c := range map[string]struct {
		node *script
		want error
	}{
		"sound":             {&script{features: versioned("24.10.0"), read: sound, append: accept}, nil},
		"oldest":            {&script{features: versioned("23.10.0"), read: sound, append: accept}, nil},
		"four parts":        {&script{features: versioned("26.1.0.3115-nightly"), read: sound, append: accept}, nil},
		"too old":           {&script{features: versioned("22.10.5"), read: sound, append: accept}, ErrTooOld},
		"too old to say":    {&script{read: sound, append: accept}, ErrTooOld},
		"not read":          {&script{features: versioned("25.0.0-rc.1"), read: sound, append: accept}, ErrUnreadable},
		"no version":        {&script{features: versioned(""), read: sound, append: accept}, ErrUnreadable},
		"may not read $all": {&script{features: versioned("24.2.0"), read: refuse(codes.PermissionDenied, "Access Denied"), append: accept}, ErrMayNotRead},
		"may not write":     {&script{features: versioned("24.2.0"), read: sound, append: deny}, ErrMayNotWrite},
		"may not begin":     {&script{features: versioned("24.2.0"), read: sound, append: deny, logID: func() string { return "" }}, ErrMayNotWrite},
		"wrong password":    {&script{features: versioned("24.2.0"), read: refuse(codes.Unauthenticated, "Unauthenticated"), append: accept}, ErrWrongPassword},
		"wrong password, all": {&script{features: func() (*serverfeatures.SupportedMethods, error) {
			return nil, status.Error(codes.Unauthenticated, "Unauthenticated")
		}}, ErrWrongPassword},
		"not ready": {&script{features: versioned("24.2.0"), read: refuse(codes.Unavailable, "Server Is Not Ready"), append: accept}, ErrNotReady},
		"no leader": {&script{features: versioned("24.2.0"), read: refuse(codes.NotFound, "No leader info available in response"), append: accept}, ErrNoLeader},
	} {
		t.Run(name, func(t *testing.T) {
			expectCause(t, c.node.start(t), c.want)
		})
	}
}

// expectCause probes and compares; the message names the address, says what to do, and holds no password.
func expectCause(t *testing.T, connectionString string, want error) {
	t.Helper()
	err := dial(t, connectionString, withTiming(timing{
		append: 5 * time.Second, read: 3 * time.Second, patience: 0, watchdog: time.Minute, firstBackoff: time.Millisecond, lastBackoff: 20 * time.Millisecond,
	})).Probe(t.Context())
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Fatalf("got %v, want %v", err, want)
	}
	var problem *ProbeError
	if err == nil {
		return
	}
	if !errors.As(err, &problem) || problem.Remedy == "" || problem.Address == "" || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %#v", err)
	}
}

func TestProbeNamesTheCauseOfNoConnection(t *testing.T) {
	expectCause(t, "esdb://"+porttest.Address(t)+"?tls=false", ErrNobodyListens)
	expectCause(t, "esdb://user:hidden@"+porttest.Address(t), ErrNobodyListens)

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	expectCause(t, "esdb://"+silent.Addr().String()+"?tls=false", ErrNoAnswer)

	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	if err := dial(t, "esdb://"+web.Listener.Addr().String()+"?tls=false").Probe(t.Context()); err == nil {
		t.Error("a web server passes for a node")
	}
}

// secured serves a script over TLS and returns its address and the file of the authority that signed its certificate.
func secured(t *testing.T, node *script, host string) (string, string) {
	t.Helper()
	certificate, file := nodetest.Certificate(t, host)
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(certificate)))
	streams.RegisterStreamsServer(server, node)
	serverfeatures.RegisterServerFeaturesServer(server, node)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return listener.Addr().String(), file
}

func TestProbeOverTLS(t *testing.T) {
	node := &script{features: versioned("24.2.0"), append: func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
		return wrongRevision(), nil
	}, read: sound}
	at, authority := secured(t, node, "127.0.0.1")
	expectCause(t, "esdb://"+at+"?tlsCaFile="+authority, nil)
	expectCause(t, "esdb://"+at+"?tlsVerifyCert=false", nil)
	expectCause(t, "esdb://"+at, ErrNotTrusted)
	expectCause(t, "esdb://"+at+"?tls=false", ErrSpeaksTLS)
	elsewhere, authority := secured(t, node, "node.example")
	expectCause(t, "esdb://"+elsewhere+"?tlsCaFile="+authority, ErrNotTrusted)
	plain, _ := strings.CutSuffix(node.start(t), "?tls=false")
	expectCause(t, plain, ErrSpeaksNoTLS)
}

// members is a cluster's gossip.
type members struct {
	gossip.UnimplementedGossipServer
	list []*gossip.MemberInfo
}

func (m *members) Read(context.Context, *shared.Empty) (*gossip.ClusterInfo, error) {
	return &gossip.ClusterInfo{Members: m.list}, nil
}

func TestProbeOfAClusterWithoutALeader(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	gossip.RegisterGossipServer(server, &members{list: []*gossip.MemberInfo{{State: gossip.MemberInfo_Follower, IsAlive: true}}})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	at := listener.Addr().String()
	expectCause(t, "esdb://"+at+","+at+"?tls=false", ErrNoLeader)
	expectCause(t, "esdb://"+porttest.Address(t)+","+porttest.Address(t)+"?tls=false", ErrNobodyListens)
}

// What passes by itself is waited for, and told once; what does not is told at once.
func TestAwaitWaitsForWhatPasses(t *testing.T) {
	asked := 0
	node := &script{
		features: versioned("24.2.0"),
		read: func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
			if asked++; asked < 4 {
				return status.Error(codes.Unavailable, "Server Is Not Ready")
			}
			return sound(o, s)
		},
		append: func(*streams.AppendReq_Options, []*streams.AppendReq_ProposedMessage) (*streams.AppendResp, error) {
			return wrongRevision(), nil
		},
	}
	hasty := patient
	hasty.patience = 0 // so that it is Await that waits
	var told []error
	err := dial(t, node.start(t), withTiming(hasty)).Await(t.Context(), time.Minute, func(p *ProbeError) { told = append(told, p.Cause) })
	if err != nil || len(told) != 1 || told[0] != ErrNotReady {
		t.Errorf("got %v, told %v", err, told)
	}
	old := &script{features: versioned("20.10.0")}
	if err := dial(t, old.start(t)).Await(t.Context(), time.Minute, nil); !errors.Is(err, ErrTooOld) {
		t.Errorf("got %v", err)
	}
	if err := dial(t, "esdb://"+porttest.Address(t)+"?tls=false").Await(t.Context(), time.Millisecond, nil); !errors.Is(err, ErrNobodyListens) {
		t.Errorf("got %v", err)
	}
}
