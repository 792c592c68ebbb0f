package eventlog

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// The store is shared: other applications write to it too. All streams of an installation begin with its namespace and a
// dot, which this package puts before the names on their way out and takes off on their way in, so that nobody else knows of
// it. What does not carry the namespace is neither asked for nor delivered.
//
// A log that was begun before there were namespaces has none: its streams begin with the name of its one tenant.

// DefaultNamespace is the namespace of an installation that names none.
const DefaultNamespace = "rapport"

// The identity of an installation is the first event of a stream of its namespace, so that no right to the system's streams
// is needed. Logs of before have it in a system stream.
const (
	identityName = "identity"
	identityType = "log.identified"

	formerIdentityStream = "$rapport-log"
	formerIdentityType   = "$log-identity"
	formerTenant         = domain.DefaultTenant
)

// maxNamespaceBytes bounds a namespace.
const maxNamespaceBytes = 32

var namespacePattern = regexp.MustCompile(`^[a-z0-9_]+$`)

// ParseNamespace checks the name of an installation: one to 32 of a-z, 0-9 and underscore. The name of the tenant of logs of
// before is none, because the streams of both would begin alike. It returns an *domain.InvalidError.
func ParseNamespace(s string) (string, error) {
	switch {
	case !namespacePattern.MatchString(s) || len(s) > maxNamespaceBytes:
		return "", domain.Invalid("", "namespace \"{value}\" is not 1 to {limit} of a-z, 0-9 and _", s, maxNamespaceBytes)
	case s == string(formerTenant):
		return "", domain.Invalid("", "namespace \"{value}\" is kept for logs that were begun before there were namespaces", s)
	}
	return s, nil
}

// Identity is what an installation has written of itself into its log.
type Identity struct {
	ID        string `json:"id"`                  // UUID, made when the log was begun
	Namespace string `json:"namespace,omitempty"` // empty in logs that were begun before there were namespaces
	Origin    string `json:"origin,omitempty"`    // identity of the log that this one is a copy of; empty for one that was begun
	Secret    string `json:"secret,omitempty"`    // tells whether a secret is the one that reservations are named with; empty when it was not noted
}

// ErrOtherSecret says that the log was begun with another secret: with this one, values that are taken would look free.
var ErrOtherSecret = errors.New("the secret is not the one that the log was begun with")

// SecretCheck returns what tells a secret from another without telling anything else of it.
func SecretCheck(secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("rapport: which secret is it?"))
	return hex.EncodeToString(mac.Sum(nil)[:secretCheckBytes])
}

const secretCheckBytes = 8

// space is the part of the store that is ours.
type space struct {
	prefix   string // of the names of all streams, with what parts it from the rest
	identity string // the stream that holds it
	former   bool   // a log that was begun before there were namespaces
}

func spaceOf(namespace string) *space {
	return &space{prefix: namespace + ".", identity: namespace + "." + identityName}
}

var formerSpace = &space{prefix: string(formerTenant) + ".", identity: formerIdentityStream, former: true}

// filter chooses our streams on the node.
func (s *space) filter() *streams.ReadReq_Options_Filter { return prefixFilter(s.prefix) }

// stream returns the name under which the log knows a stream. A log of before refuses what is not of its tenant.
func (s *space) stream(name string) (string, error) {
	if !s.former {
		return s.prefix + name, nil
	}
	if !strings.HasPrefix(name, s.prefix) {
		return "", fmt.Errorf("stream %.80q: this log was begun before there were namespaces and holds the tenant %s alone; `rapport log copy` carries it into one that holds any number", name, formerTenant)
	}
	return name, nil
}

// own returns an event under the name that the product knows its stream by, and whether it is one of the product: not what
// others wrote, nor what the node or this package keep in our streams.
func (s *space) own(raw codec.Raw) (codec.Raw, bool) {
	name, ours := strings.CutPrefix(raw.Stream, s.prefix)
	if !ours || isSystem(raw.Type) || raw.Stream == s.identity {
		return raw, false
	}
	if !s.former {
		raw.Stream = name
		return raw, true
	}
	id, err := domain.ParseStreamID(raw.Stream)
	return raw, err == nil && id.Tenant == formerTenant
}

// space returns which part of the store is ours. Whoever asks first of a log that is new begins it.
func (l *ESDB) space(ctx context.Context) (*space, error) {
	if s := l.ours.Load(); s != nil {
		return s, nil
	}
	if _, err := l.Identity(ctx); err != nil {
		return nil, err
	}
	return l.ours.Load(), nil
}

// ID implements Log.
func (l *ESDB) ID(ctx context.Context) (string, error) {
	i, err := l.Identity(ctx)
	return i.ID, err
}

// Identity returns what the installation has written of itself, and writes it into a log that is new. It asks the log anew,
// because another log may stand behind the same address after a restore.
func (l *ESDB) Identity(ctx context.Context) (Identity, error) {
	const doing = "read the identity of the log"
	patience, pause := time.Now().Add(l.timing.patience), l.timing.firstBackoff
	for {
		i, s, err := l.look(ctx)
		if err != nil {
			return Identity{}, failure(ctx, doing, err)
		}
		if s != nil {
			l.ours.Store(s)
			return i, nil
		}
		err = l.createIdentity(ctx, i)
		var away *domain.UnavailableError
		if errors.As(err, &away) && time.Now().Before(patience) && l.pause(ctx, pause) {
			pause = min(2*pause, l.timing.lastBackoff)
			continue // nobody knows whether it stands there now
		}
		if err != nil {
			return Identity{}, err
		}
	}
}

// look is findIdentity for whoever works with the log: it refuses one of another secret, and a copy that is not complete.
func (l *ESDB) look(ctx context.Context) (Identity, *space, error) {
	i, s, err := l.findIdentity(ctx)
	if err == nil {
		err = l.checkSecret(i)
	}
	if err != nil || s == nil {
		return i, s, err
	}
	unfinished, err := l.unfinished(ctx, i, s)
	if err == nil && unfinished {
		err = ErrUnfinishedCopy
	}
	return i, s, err
}

// checkSecret returns ErrOtherSecret when the log was begun with another secret than this process has.
func (l *ESDB) checkSecret(i Identity) error {
	if i.Secret != "" && l.secret != "" && i.Secret != l.secret {
		return ErrOtherSecret
	}
	return nil
}

// findIdentity looks for the identity of the namespace, then for that of a log of before. It returns no space when the log
// is to be begun, and then with which id: that of a log of before in which nothing was ever written, or a new one.
func (l *ESDB) findIdentity(ctx context.Context) (Identity, *space, error) {
	s := spaceOf(l.namespace)
	i, err := l.readIdentity(ctx, s.identity, identityType)
	if err == nil || !errors.Is(err, errNotThere) {
		return i, s, err
	}
	fresh := Identity{ID: uuid.NewString(), Namespace: l.namespace, Secret: l.secret}
	if l.namespace != DefaultNamespace {
		return fresh, nil, nil
	}
	former, err := l.readIdentity(ctx, formerIdentityStream, formerIdentityType)
	hidden := status.Code(err) == codes.PermissionDenied
	switch {
	case errors.Is(err, errNotThere):
		return fresh, nil, nil
	case err != nil && !hidden:
		return Identity{}, nil, err
	}
	used, err := l.used(ctx, formerSpace)
	switch {
	case err != nil:
		return Identity{}, nil, err
	case used && hidden:
		return Identity{}, nil, fmt.Errorf("the store holds an installation of before there were namespaces, and the user may not read its identity: allow reading %s, or choose another --namespace", formerIdentityStream)
	case used:
		return former, formerSpace, nil
	case !hidden:
		fresh.ID = former.ID // read models may know the log by it
	}
	return fresh, nil, nil
}

// used reports whether there are events in a part of the store.
func (l *ESDB) used(ctx context.Context, s *space) (bool, error) {
	for from := (domain.Position{}); ; {
		p, err := l.readPage(ctx, allFrom(from, s.filter()), pageEvents)
		if err != nil {
			return false, err
		}
		for _, raw := range p.events {
			if _, ours := s.own(raw); ours {
				return true, nil
			}
		}
		if p.end {
			return false, nil
		}
		from = p.events[len(p.events)-1].Position
	}
}

func (l *ESDB) readIdentity(ctx context.Context, stream, eventType string) (Identity, error) {
	p, err := l.streamPage(ctx, stream, forwardsFrom(0), 1)
	if err == nil && len(p.events) == 0 {
		err = errNotThere
	}
	if err != nil {
		return Identity{}, err
	}
	var i Identity
	if err := json.Unmarshal(p.events[0].Data, &i); err != nil || p.events[0].Type != eventType {
		return i, fmt.Errorf("stream %s holds no identity: %w", stream, domain.ErrCorrupt)
	}
	if _, err := uuid.Parse(i.ID); err != nil {
		return i, fmt.Errorf("stream %s: identity %q is not a UUID: %w", stream, i.ID, domain.ErrCorrupt)
	}
	return i, nil
}

// createIdentity begins a log; whoever comes second finds the identity of the first.
func (l *ESDB) createIdentity(ctx context.Context, i Identity) error {
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	event := esdb.EventData{EventID: uuid.New(), EventType: identityType, ContentType: esdb.ContentTypeJson, Data: data}
	switch o := l.append(ctx, spaceOf(i.Namespace).identity, domain.NoStream, []esdb.EventData{event}).(type) {
	case domain.Unknown:
		return o.Err
	case domain.Refused:
		return o.Err
	}
	return nil
}
