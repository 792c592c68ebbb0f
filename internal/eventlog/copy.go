package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
)

// A log may be the copy of another one. Package logcopy writes such a copy, event by event, in one run or in several. The
// identity of the copy names its origin, and the stream of the identity tells how far the copy is: each run notes there that
// it has begun, and the run that came to the end notes that the copy is complete. Until then the log is the beginning of a
// history and not the history, so that everybody but the run is refused.

// Types of the events that follow the identity of a copy.
const (
	copyBegunType     = "log.copy-begun"
	copyCompletedType = "log.copy-completed"
)

var (
	// ErrUnfinishedCopy says that the log is a copy that is not complete.
	ErrUnfinishedCopy = errors.New("the log is a copy that is not complete: repeat the `rapport log copy` or `rapport log import` that began it, until it ends")
	// ErrOtherCopy says that another run writes the same copy.
	ErrOtherCopy = errors.New("another run has begun to write this copy")
	// ErrNotEmpty says that a namespace holds something already.
	ErrNotEmpty = errors.New("the namespace is not empty")
)

// Standing is what a store holds of a namespace.
type Standing struct {
	Identity   Identity // zero when no log was begun
	Unfinished bool     // the log is a copy that is not complete
	Used       bool     // there are events, or others' in streams that are named as ours
}

// Inspect looks at what the store holds of the namespace and begins nothing. It returns ErrOtherSecret like Identity does.
func (l *ESDB) Inspect(ctx context.Context) (Standing, error) {
	const doing = "look at the namespace"
	i, s, err := l.findIdentity(ctx)
	if err != nil {
		return Standing{}, failure(ctx, doing, err)
	}
	if err := l.checkSecret(i); err != nil {
		return Standing{}, fmt.Errorf("%s: %w", doing, err)
	}
	if s == nil {
		used, err := l.used(ctx, spaceOf(l.namespace))
		if err != nil {
			err = failure(ctx, doing, err)
		}
		return Standing{Used: used}, err
	}
	standing := Standing{Identity: i}
	if standing.Unfinished, err = l.unfinished(ctx, i, s); err == nil {
		standing.Used, err = l.used(ctx, s)
	}
	if err != nil {
		return Standing{}, failure(ctx, doing, err)
	}
	return standing, nil
}

// unfinished reports whether a log is a copy that is not complete.
func (l *ESDB) unfinished(ctx context.Context, i Identity, s *space) (bool, error) {
	if i.Origin == "" {
		return false, nil
	}
	p, err := l.streamPage(ctx, s.identity, lastOf, 1)
	if err != nil {
		return false, err
	}
	return len(p.events) == 0 || p.events[0].Type != copyCompletedType, nil
}

// CopyRun is one run that writes a copy. Its methods are not safe for concurrent use.
type CopyRun struct {
	log      *ESDB
	identity Identity
	space    *space
	revision uint64    // of the event that notes this run
	last     uuid.UUID // id of the event that notes the completion, the same at each try
}

// completion is what a copy notes of itself in the end.
type completion struct {
	Events uint64 `json:"events"`
	Hash   string `json:"hash"`
}

// BeginCopy begins a run that writes a copy of the log of an identity. It begins the copy in a namespace that is empty, and
// takes it up where another run has left it. From now on the run alone may use l, and the runs before it are told
// ErrOtherCopy. It returns ErrNotEmpty for a namespace that holds anything else, also a copy that is complete, and
// ErrOtherSecret when the origin was begun with another secret than this process has.
func (l *ESDB) BeginCopy(ctx context.Context, origin Identity) (*CopyRun, error) {
	if err := l.checkSecret(origin); err != nil {
		return nil, fmt.Errorf("begin a copy: %w", err)
	}
	standing, err := l.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case standing.Identity.ID == "" && standing.Used, standing.Identity.ID != "" && (standing.Identity.Origin != origin.ID || !standing.Unfinished):
		return nil, ErrNotEmpty
	case standing.Identity.ID == "":
		secret := origin.Secret
		if l.secret != "" {
			secret = l.secret
		}
		begun := Identity{ID: uuid.NewString(), Namespace: l.namespace, Origin: origin.ID, Secret: secret}
		if err := l.createIdentity(ctx, begun); err != nil {
			return nil, err
		}
		return l.BeginCopy(ctx, origin) // somebody else may have been faster
	}
	run := &CopyRun{log: l, identity: standing.Identity, space: spaceOf(l.namespace), last: uuid.New()}
	tail, err := l.tail(ctx, run.space.identity)
	if err != nil {
		return nil, failure(ctx, "read the identity of the copy", err)
	}
	if err := run.note(ctx, tail, uuid.New(), copyBegunType, []byte("{}")); err != nil {
		return nil, err
	}
	if revision, ok := tail.Revision(); ok {
		run.revision = revision + 1
	}
	l.ours.Store(run.space)
	return run, nil
}

// Identity returns the identity of the copy.
func (r *CopyRun) Identity() Identity { return r.identity }

// Hold returns ErrOtherCopy when another run has begun since.
func (r *CopyRun) Hold(ctx context.Context) error {
	tail, err := r.log.tail(ctx, r.space.identity)
	switch {
	case err != nil:
		return failure(ctx, "read the identity of the copy", err)
	case tail != domain.AtRevision(r.revision):
		return ErrOtherCopy
	}
	return nil
}

// Complete notes that the copy is complete, with the number of its events and their hash. From now on everybody may use the
// log. It returns ErrOtherCopy when another run has begun since. Repeating it is safe.
func (r *CopyRun) Complete(ctx context.Context, events uint64, hash string) error {
	data, err := json.Marshal(completion{Events: events, Hash: hash})
	if err != nil {
		return err
	}
	return r.note(ctx, domain.AtRevision(r.revision), r.last, copyCompletedType, data)
}

// note appends an event to the stream of the identity.
func (r *CopyRun) note(ctx context.Context, expected domain.Expected, id uuid.UUID, eventType string, data []byte) error {
	event := esdb.EventData{EventID: id, EventType: eventType, ContentType: esdb.ContentTypeJson, Data: data}
	switch o := r.log.append(ctx, r.space.identity, expected, []esdb.EventData{event}).(type) {
	case domain.Unknown:
		return o.Err
	case domain.Refused:
		return o.Err
	case domain.Conflict:
		if o.Actual != expected {
			return ErrOtherCopy
		}
		// A loser may be told the revision that it expected: the winner shows a little later.
		return fmt.Errorf("note the run of the copy: %w", &domain.UnavailableError{What: unavailable, Err: ErrOtherCopy})
	}
	return nil
}
