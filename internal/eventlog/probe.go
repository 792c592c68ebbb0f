package eventlog

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
)

// OldestEngine is the oldest version of EventStoreDB that is supported: the first one that tells a subscription that it has
// caught up.
const OldestEngine = "23.10"

// Causes why a log cannot be worked with, found by Probe with errors.Is.
var (
	ErrNobodyListens   = errors.New("nobody listens there")
	ErrSpeaksTLS       = errors.New("the node speaks TLS")
	ErrSpeaksNoTLS     = errors.New("the node does not speak TLS")
	ErrNotTrusted      = errors.New("the node's certificate is not trusted")
	ErrWrongPassword   = errors.New("the user or the password is wrong")
	ErrMayNotRead      = errors.New("the user may not read $all")
	ErrMayNotWrite     = errors.New("the user may not write the streams of the namespace")
	ErrTooOld          = errors.New("the node's version is too old")
	ErrUnreadable      = errors.New("the node's version cannot be read by the client")
	ErrNoLeader        = errors.New("the cluster has no leader")
	ErrNotReady        = errors.New("the node is not ready")
	ErrNoAnswer        = errors.New("the node does not answer")
	ErrNotAnEventStore = errors.New("what listens there is no EventStoreDB")
)

// A ProbeError says why a log cannot be worked with, and what to do.
type ProbeError struct {
	Cause   error  // one of those above
	Address string // of the node, without user and password
	Remedy  string // what to do, a sentence
	Passing bool   // it may be otherwise in a moment, without anybody's doing
	Err     error  // what was seen
}

func (e *ProbeError) Error() string {
	return fmt.Sprintf("event log %s: %s: %s (%v)", e.Address, e.Cause, e.Remedy, e.Err)
}

// Unwrap returns the cause and what was seen.
func (e *ProbeError) Unwrap() []error { return []error{e.Cause, e.Err} }

// remedies are what to do about each cause.
var remedies = map[error]string{
	ErrNobodyListens:   "start the node, or correct host and port of --eventstore",
	ErrSpeaksTLS:       "take tls=false out of --eventstore, and name the certificate authority by tlsCaFile=FILE unless the system trusts it",
	ErrSpeaksNoTLS:     "add tls=false to --eventstore, for a node on this machine or a network that nobody else can listen to",
	ErrNotTrusted:      "name the certificate authority that signed it by tlsCaFile=FILE in --eventstore, and the host as the certificate does",
	ErrWrongPassword:   "correct USER:PASSWORD@ in --eventstore, or reset the password on the node",
	ErrMayNotRead:      "give the user $r in the $acl of $all's stream metadata; docs/eventstoredb.md shows the command",
	ErrMayNotWrite:     "give the user $w and $r for the streams of the namespace; docs/eventstoredb.md shows the command",
	ErrTooOld:          "run EventStoreDB " + OldestEngine + " or newer, or KurrentDB",
	ErrUnreadable:      "the client for Go reads versions whose first three parts are numbers: run a released version",
	ErrNoLeader:        "its members are choosing one: wait, and look at them when it takes longer than half a minute",
	ErrNotReady:        "it has just been started and reads its files: wait",
	ErrNoAnswer:        "look at the node: it accepts connections and says nothing, or a firewall swallows what it says",
	ErrNotAnEventStore: "correct host and port of --eventstore",
}

// Probe asks the log once for everything that the product needs of it. It returns a *ProbeError that names the one cause to
// mend, and writes nothing.
func (l *ESDB) Probe(ctx context.Context) error {
	return l.diagnosed(l.probe(ctx))
}

// diagnosed makes a *ProbeError of what keeps the log from being worked with. What the log itself says stays as it is.
func (l *ESDB) diagnosed(err error) error {
	var known *ProbeError
	if err == nil || errors.As(err, &known) || errors.Is(err, ErrOtherSecret) || errors.Is(err, ErrUnfinishedCopy) ||
		errors.Is(err, domain.ErrCorrupt) {
		return err
	}
	return l.diagnosis(causeOf(err), err)
}

func (l *ESDB) diagnosis(cause, err error) *ProbeError {
	where := l.config.Address
	for i, seed := range l.config.GossipSeeds {
		if i > 0 {
			where += ","
		}
		where += seed.String()
	}
	passing := cause == ErrNobodyListens || cause == ErrNoLeader || cause == ErrNotReady || cause == ErrNoAnswer
	return &ProbeError{Cause: cause, Address: where, Remedy: remedies[cause], Passing: passing, Err: err}
}

func (l *ESDB) probe(ctx context.Context) error {
	if err := l.probeReading(ctx); err != nil {
		return err
	}
	_, s, err := l.look(ctx)
	if err != nil {
		return l.missingRight(ErrMayNotWrite, err)
	}
	if s == nil { // an installation that is to be begun
		s = spaceOf(l.namespace)
	}
	return l.probeWriting(ctx, s)
}

func (l *ESDB) probeReading(ctx context.Context) error {
	if err := l.probeVersion(ctx); err != nil {
		return err
	}
	if _, err := l.readPage(ctx, allBackwards(domain.Position{}, nil), 1); err != nil {
		return l.missingRight(ErrMayNotRead, err)
	}
	return nil
}

// missingRight says which right is missing, where one is.
func (l *ESDB) missingRight(cause, err error) error {
	if status.Code(err) == codes.PermissionDenied {
		return l.diagnosis(cause, err)
	}
	return err
}

// probeVersion asks the leader which version it is.
func (l *ESDB) probeVersion(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.timing.read)
	defer cancel()
	return l.withLeader(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		features, err := serverfeatures.NewServerFeaturesClient(conn).GetSupportedMethods(ctx, &shared.Empty{})
		if status.Code(err) == codes.Unimplemented || status.Code(err) == codes.NotFound {
			return l.diagnosis(ErrTooOld, err)
		}
		if err != nil {
			return err
		}
		version := features.GetEventStoreServerVersion()
		number, err := versionNumber(version)
		if err != nil {
			return l.diagnosis(ErrUnreadable, fmt.Errorf("version %q: %w", version, err))
		}
		if oldest, _ := versionNumber(OldestEngine); number < oldest {
			return l.diagnosis(ErrTooOld, fmt.Errorf("version %s", version))
		}
		return nil
	})
}

// versionNumber makes a comparable number of the first three parts of a version, all of which the client reads as numbers.
func versionNumber(version string) (number uint64, err error) {
	parts := strings.SplitN(version, ".", 4)
	for i := range 3 {
		part := uint64(0)
		if i < len(parts) {
			if part, err = strconv.ParseUint(parts[i], 10, 16); err != nil {
				return 0, err
			}
		}
		number = number<<16 | part
	}
	return number, nil
}

// probeWriting appends where nothing can stand: who may not write is told so, and who may is told that it stands elsewhere.
func (l *ESDB) probeWriting(ctx context.Context, s *space) error {
	if s.former {
		return nil // its one stream that may be touched is the system's
	}
	ctx, cancel := context.WithTimeout(ctx, l.timing.append)
	defer cancel()
	return l.withLeader(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		call, err := streams.NewStreamsClient(conn).Append(ctx)
		if err != nil {
			return err
		}
		_ = call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte(s.identity)},
			ExpectedStreamRevision: &streams.AppendReq_Options_Revision{Revision: math.MaxInt64 - 1},
		}}}) // an error is told by CloseAndRecv
		_, err = call.CloseAndRecv()
		if status.Code(err) == codes.PermissionDenied {
			return l.diagnosis(ErrMayNotWrite, err)
		}
		return err
	})
}

// causeOf finds the cause behind an error of a call. Where gRPC has no code for it the text of the transport tells.
func causeOf(err error) error {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	text := err.Error()
	says := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid), says("x509:", "tls: failed to verify certificate", "bad certificate"):
		return ErrNotTrusted
	case says("first record does not look like a TLS handshake"):
		return ErrSpeaksNoTLS
	case status.Code(err) == codes.Unauthenticated:
		return ErrWrongPassword
	case errors.Is(err, ErrNoLeader), says("No leader info available"):
		return ErrNoLeader
	case says("Server Is Not Ready", "Server Is Busy"):
		return ErrNotReady
	case says("connection refused", "no such host", "no route to host", "network is unreachable"):
		return ErrNobodyListens
	case says("error reading server preface", "frame header looked like an HTTP/1.1 header", "http2: frame too large", "connection reset by peer"):
		return ErrSpeaksTLS
	case says("malformed header", "unexpected HTTP status code", "unexpected content-type"):
		return ErrNotAnEventStore
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return ErrNoAnswer
	case status.Code(err) == codes.PermissionDenied:
		return ErrMayNotRead
	}
	return ErrNoAnswer
}

// Await probes until the log can be worked with, a cause is found that does not pass by itself, or patience is over; a probe
// that has begun is finished. Each new cause is told to waiting, which may be nil.
func (l *ESDB) Await(ctx context.Context, patience time.Duration, waiting func(*ProbeError)) error {
	return l.await(ctx, patience, waiting, l.Probe)
}

// AwaitStanding is Await for a log that may not have been begun, and is not begun by looking: it returns what Inspect does.
func (l *ESDB) AwaitStanding(ctx context.Context, patience time.Duration, waiting func(*ProbeError)) (standing Standing, err error) {
	err = l.await(ctx, patience, waiting, func(ctx context.Context) (err error) {
		if err = l.probeReading(ctx); err == nil {
			standing, err = l.Inspect(ctx)
		}
		return l.diagnosed(err)
	})
	return standing, err
}

func (l *ESDB) await(ctx context.Context, patience time.Duration, waiting func(*ProbeError), probe func(context.Context) error) error {
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	told := error(nil)
	for pause := l.timing.firstBackoff; ; pause = min(2*pause, longestReconnect) {
		err := probe(ctx)
		if err != nil && ctx.Err() != nil {
			return ctx.Err() // nobody waits any more
		}
		var problem *ProbeError
		if !errors.As(err, &problem) || !problem.Passing {
			return err
		}
		if waiting != nil && told != problem.Cause {
			waiting(problem)
			told = problem.Cause
		}
		if !l.pause(patient, pause) {
			return err
		}
	}
}
