package history

import (
	"context"
	"errors"

	"github.com/rapport-crm/rapport/domain"
)

// Place returns the position of an event of a tenant. An id names an event for good, while its position is another one in a
// log that was restored or copied. The timelines tell where an event stands that concerns a customer; the log is searched for
// every other, from its beginning. Place returns *domain.NotFoundError when the log does not hold the event.
func (r *Reader) Place(ctx context.Context, caller domain.Caller, event domain.ID) (domain.Position, error) {
	r = r.through(caller)
	stream, revision, err := r.timeline.TimelineEvent(ctx, event)
	var none *domain.NotFoundError
	switch {
	case errors.As(err, &none):
		return Place(ctx, r.log, caller, event)
	case err != nil:
		return domain.Position{}, err
	}
	for e, err := range r.log.Read(ctx, stream, revision) {
		if err != nil || e.ID == string(event) {
			return e.Position, err
		}
		break // the rows are those of another history
	}
	return Place(ctx, r.log, caller, event)
}

// Place finds an event in the log alone, which it reads from its beginning up to there.
func Place(ctx context.Context, log Log, caller domain.Caller, event domain.ID) (domain.Position, error) {
	for e, err := range log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return domain.Position{}, err
		}
		if _, sees := caller.Redact(e); sees && e.ID == string(event) {
			return e.Position, nil
		}
	}
	return domain.Position{}, &domain.NotFoundError{Kind: "event", ID: string(event)}
}
